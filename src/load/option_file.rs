//! `--profile FILE.toml`: options of `confdctl bench` from a file.
//!
//! A key is the long name of an option without its hyphens in front: `rate = "20k"`,
//! `quiet = true`, `cpus = [2, 3]`. An option on the command line replaces that of the file, and
//! those of the file that it excludes.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, FromArgMatches as _};
use toml::Value;

use super::options::Options;

/// The options of the command line, `matches`, with those of the file that it names.
///
/// # Errors
///
/// The file cannot be read or is not TOML, or an option in it is unknown or has a wrong value.
pub(super) fn with_file(file: &Path, matches: &ArgMatches) -> Result<Options, clap::Error> {
    // The positional arguments of the commands do not matter here.
    let mut command = Options::augment_args(Command::new("confdctl bench").no_binary_name(true));
    command.build();
    let failed = |kind, why: &dyn std::fmt::Display| {
        clap::Error::raw(kind, format!("{}: {why}\n", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| failed(ErrorKind::Io, &error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| failed(ErrorKind::InvalidValue, &error))?;
    let given: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| is_given(matches, arg))
        .collect();
    let mut words = Vec::new();
    for (name, value) in &table {
        let known = command
            .get_opts()
            .chain(command.get_arguments())
            .find(|arg| arg.get_long() == Some(name) && name != "profile" && name != "help");
        let Some(arg) = known else {
            let why = format!("unknown option '{name}'; see confdctl bench --help");
            return Err(failed(ErrorKind::UnknownArgument, &why));
        };
        if !given.iter().any(|other| replaces(&command, other, arg)) {
            let of_file = from_file(arg, value).ok_or_else(|| {
                let why = format!("the value of '{name}' must be text, a number, true or a list");
                failed(ErrorKind::InvalidValue, &why)
            })?;
            words.extend(of_file);
        }
    }
    for arg in given {
        words.extend(from_command_line(arg, matches));
    }
    let parsed = command.try_get_matches_from_mut(words);
    let options = parsed.and_then(|parsed| Options::from_arg_matches(&parsed));
    options.map_err(|error| {
        failed(
            error.kind(),
            &error.to_string().trim_start_matches("error: "),
        )
    })
}

fn is_given(matches: &ArgMatches, arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    matches.try_contains_id(id).unwrap_or_default()
        && matches.value_source(id) == Some(ValueSource::CommandLine)
}

/// Whether an option on the command line replaces one of the file.
fn replaces(command: &Command, given: &Arg, of_file: &Arg) -> bool {
    let excludes = |one, two: &Arg| {
        let conflicts = command.get_arg_conflicts_with(one);
        conflicts.iter().any(|other| other.get_id() == two.get_id())
    };
    given.get_id() == of_file.get_id() || excludes(given, of_file) || excludes(of_file, given)
}

/// The words of an option with this value; none for `false`.
fn from_file(arg: &Arg, value: &Value) -> Option<Vec<OsString>> {
    let long = arg.get_long()?;
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    };
    match (value, arg.get_action().takes_values()) {
        (Value::Boolean(true), false) => Some(vec![format!("--{long}").into()]),
        (Value::Boolean(false), false) => Some(Vec::new()),
        (Value::Boolean(yes), true) => {
            let yes = if *yes { "yes" } else { "no" };
            Some(vec![format!("--{long}={yes}").into()])
        }
        (Value::Array(values), true) => {
            let texts: Option<Vec<String>> = values.iter().map(text).collect();
            Some(vec![format!("--{long}={}", texts?.join(",")).into()])
        }
        (value, true) => Some(vec![format!("--{long}={}", text(value)?).into()]),
        (_, false) => None,
    }
}

/// The words of an option as given on the command line.
fn from_command_line(arg: &Arg, matches: &ArgMatches) -> Vec<OsString> {
    let Some(long) = arg.get_long() else {
        return Vec::new();
    };
    if !arg.get_action().takes_values() {
        return vec![format!("--{long}").into()];
    }
    let values = matches.get_raw(arg.get_id().as_str()).unwrap_or_default();
    values
        .map(|value| {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            word
        })
        .collect()
}

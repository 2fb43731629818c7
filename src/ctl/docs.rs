//! Shell completions and man pages, generated from the definitions of the command lines.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_complete::env::Shells;
use clap_mangen::Man;

use super::complete;
use super::exit::{CommandError, Exit, print};
use super::options::Options;
#[cfg(feature = "daemon")]
use crate::daemon;

/// Prints the completion script for `shell`. The script calls this program for each word, to offer
/// names from the cluster, unless `no_names` is set.
///
/// # Errors
///
/// Standard output cannot be written.
pub(super) fn completions(shell: Shell, no_names: bool) -> Result<Exit, CommandError> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    match shells.completer(&shell.to_string()).filter(|_| !no_names) {
        Some(completer) => completer
            .write_registration(
                complete::VARIABLE,
                "confdctl",
                "confdctl",
                "confdctl",
                &mut script,
            )
            .map_err(|error| CommandError::of_output(&error))?,
        None => clap_complete::generate(shell, &mut Options::command(), "confdctl", &mut script),
    }
    if shell == Shell::Zsh && !no_names {
        script.extend_from_slice(ZSH_AUTOLOAD.as_bytes());
    }
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Answered)
}

/// Zsh calls a script in its `fpath` as the function `_confdctl`, the first time to complete a word
/// already.
const ZSH_AUTOLOAD: &str = "\
if [[ $funcstack[1] == _confdctl ]]; then
    _clap_dynamic_completer_confdctl \"$@\"
fi
";

/// Writes the man pages to `man1` and `man8` below `dir`, and prints their paths.
///
/// # Errors
///
/// A file or standard output cannot be written.
pub(super) fn man(dir: &Path) -> Result<Exit, CommandError> {
    let mut command = Options::command();
    command.build();
    let mut written = Vec::new();
    let result = write_tree(&command, dir, &mut written);
    #[cfg(feature = "daemon")]
    let result = result.and_then(|()| write_page(&daemon::command(), "8", dir, &mut written));
    result.map_err(|error| {
        let text = format!("cannot write man pages below {}: {error}", dir.display());
        CommandError::new(Exit::Local, text)
    })?;
    for path in written {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Answered)
}

fn write_tree(command: &Command, dir: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    write_page(command, "1", dir, written)?;
    let commands = command.get_subcommands();
    let mut commands = commands.filter(|command| command.get_name() != "help");
    commands.try_for_each(|command| write_tree(command, dir, written))
}

fn write_page(
    command: &Command,
    section: &str,
    dir: &Path,
    written: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let man = Man::new(with_one_line_about(command.clone()))
        .section(section)
        .source(concat!("ganeti-confd ", env!("CARGO_PKG_VERSION")));
    let dir = dir.join(format!("man{section}"));
    fs::create_dir_all(&dir)?;
    let path = dir.join(man.get_filename());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(synopsis(command).as_bytes());
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(help) = command.get_after_help() {
        page.extend_from_slice(sections(&help.to_string()).as_bytes());
    }
    page.extend_from_slice(see_also(command.get_name()).as_bytes());
    fs::write(&path, page)?;
    written.push(path);
    Ok(())
}

/// The SYNOPSIS section, with the values of options.
fn synopsis(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let mut page = format!(".SH SYNOPSIS\n\\fB{}\\fR", escaped(name));
    let visible = |arg: &&Arg| !arg.is_hide_set();
    for arg in command.get_opts().filter(visible) {
        page += &format!(" [{}]", option(arg));
    }
    for arg in command.get_arguments().filter(visible) {
        if arg.get_action().takes_values() || arg.is_positional() {
            continue;
        }
        page += &format!(" [{}]", flag(arg));
    }
    for arg in command.get_positionals().filter(visible) {
        let dots = match arg
            .get_num_args()
            .is_some_and(|range| range.max_values() > 1)
        {
            true => "...",
            false => "",
        };
        let values = values(arg);
        page += &match arg.is_required_set() {
            true => format!(" {values}{dots}"),
            false => format!(" [{values}{dots}]"),
        };
    }
    if command.has_subcommands() {
        page += " \\fICOMMAND\\fR";
    }
    page + "\n"
}

/// An option with its value.
fn option(arg: &Arg) -> String {
    let is_optional = arg
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    match is_optional {
        true => format!("{}[={}]", flag(arg), values(arg)),
        false => format!("{} {}", flag(arg), values(arg)),
    }
}

/// The short and the long form of an option.
fn flag(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let forms = short.into_iter().chain(long);
    let forms = forms.map(|form| format!("\\fB{}\\fR", escaped(&form)));
    forms.collect::<Vec<_>>().join("|")
}

/// The names of the values of an option or argument.
fn values(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default().iter();
    let names = names.map(|name| format!("\\fI{}\\fR", escaped(name)));
    names.collect::<Vec<_>>().join(" ")
}

/// The SEE ALSO section.
fn see_also(page: &str) -> String {
    let others = [
        "confdctl(1)",
        "ganeti-confd(8)",
        "gnt-cluster(8)",
        "gnt-node(8)",
    ];
    let is_other = |other: &&&str| !other.starts_with(&format!("{page}("));
    let others = others.iter().filter(is_other).map(|other| escaped(other));
    format!(
        ".SH \"SEE ALSO\"\n{}\n",
        others.collect::<Vec<_>>().join(", ")
    )
}

/// Moves all but the first line of `about` to the description: the NAME section holds one line.
fn with_one_line_about(command: Command) -> Command {
    let about = command.get_about().map(ToString::to_string);
    let about = about.unwrap_or_default();
    let first = about.lines().next().unwrap_or_default().to_owned();
    command.about(first).long_about(about)
}

/// Converts help text to roff. A paragraph that starts with a line like `Files:` becomes a section;
/// line breaks are preserved.
fn sections(help: &str) -> String {
    let mut page = String::new();
    for paragraph in help.split("\n\n") {
        match paragraph.split_once(":\n") {
            Some((heading, body)) if !heading.contains('\n') => {
                page += &format!(".SH \"{}\"\n.nf\n", heading.to_uppercase());
                body.lines().for_each(|line| page += &verbatim(line));
                page += ".fi\n";
            }
            _ => {
                page += ".PP\n";
                paragraph.lines().for_each(|line| page += &verbatim(line));
            }
        }
    }
    page
}

/// Escapes a line so that roff prints it unchanged.
fn verbatim(line: &str) -> String {
    format!("\\&{}\n", escaped(line))
}

/// Escapes characters that roff interprets within a line.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_becomes_sections() {
        assert_eq!(
            sections("Files (below /x):\n  a-b\n.c\n\nThe end."),
            ".SH \"FILES (BELOW /X)\"\n.nf\n\\&  a\\-b\n\\&.c\n.fi\n.PP\n\\&The end.\n"
        );
    }
}

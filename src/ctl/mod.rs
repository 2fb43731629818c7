//! `confdctl`: queries and probes a cluster from the command line, through [`crate::client`].
//!
//! ```text
//! options    the command line; completions and man pages are generated from it
//!   |
//! target     which servers to use and with which key: options, environment, the node's files
//!   |
//! query      one query: the answer as a table or as JSON, or a diagnosis if there is none
//! probe      the health of the candidates, in the format of monitoring plugins, once or repeatedly
//! bench      the load generator, crate::load
//! raw        a request as given, signed
//! status     the state of the daemon on this host, from its status socket
//! docs       completion scripts and man pages
//! names      names from the files of this node
//! complete   names from the cluster for the completion scripts
//!
//! table, color, yaml, format, terminal   output formats
//! limits     the thresholds of probe
//! packets    the packets, with --verbose
//! ```
//!
//! Standard output carries results only, so that programs can read it. Warnings and errors go to
//! standard error. A closed pipe ends the program without a message.
#![forbid(unsafe_code)]

#[cfg(feature = "bench")]
mod bench;
mod color;
mod complete;
mod diagnose;
mod docs;
mod examples;
mod exit;
mod format;
mod limits;
mod names;
mod options;
mod packets;
mod probe;
mod query;
mod raw;
mod status;
mod table;
mod target;
mod terminal;
mod yaml;

use std::process::ExitCode;

use exit::{CommandError, Exit, eprintln_prefixed};
use options::{Command, Options};

/// Runs `confdctl` with the command line and the environment of this process.
pub fn main() -> ExitCode {
    complete::answer_script();
    let parsed = Options::parse_command_line().and_then(|options| {
        options.refuse_ignored()?;
        Ok(options)
    });
    let options = match parsed {
        Ok(options) => options,
        Err(error) => return usage_error(&error),
    };
    match &options.command {
        Command::Query(query) => report(query::run(&options.common, query)),
        Command::Probe(probe) => probe::run(&options.common, probe),
        #[cfg(feature = "bench")]
        Command::Bench(bench) => bench::run(&options.common, bench),
        Command::Raw(raw) => report(raw::run(&options.common, raw)),
        Command::Status(status) => report(status::run(&options.common, status)),
        Command::Completions { shell, no_names } => report(docs::completions(*shell, *no_names)),
        Command::Man { dir } => report(docs::man(dir)),
    }
}

/// Prints the help text or the usage error, and returns the exit status for it.
///
/// A usage error of `probe` is UNKNOWN (3), because 2 means CRITICAL to a monitoring system.
fn usage_error(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.exit_code() == 0 {
        ExitCode::SUCCESS
    } else if std::env::args_os().any(|word| word == "probe") {
        probe::ServiceState::Unknown.into()
    } else {
        Exit::Usage.into()
    }
}

/// Prints the error, if there is one, and returns the exit status.
fn report(result: Result<Exit, CommandError>) -> ExitCode {
    let exit = result.unwrap_or_else(|error| {
        eprintln_prefixed(&error);
        error.exit
    });
    exit.into()
}

//! `confdctl`: asks and probes from the command line, through [`crate::client`].
//!
//! ```text
//! options    the command line; completions and man pages are generated from it
//!   |
//! site       whom to ask and with which key: options, environment, the node's files
//!   |
//! query      one question: the answer, or what its absence can mean (silence), as a table or JSON
//! probe      the candidates' health, as a monitoring plugin; watch: again and again
//! bench      the load generator, crate::load
//! ```
//!
//! Standard output gets answers and nothing else, so that programs can read it; standard error gets what is odd about them.
//! A pipe that nobody reads any more ends the program without a word.
#![forbid(unsafe_code)]

mod bench;
mod diagnose;
mod docs;
mod exit;
mod options;
mod probe;
mod query;
mod table;
mod target;
mod watch;

use std::process::ExitCode;

use clap::Parser as _;

use exit::{CommandError, Exit, eprintln_prefixed};
use options::{Command, Options};

/// Runs `confdctl` with this process's command line and environment.
pub fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => return refused(&error),
    };
    match &options.command {
        Command::Query(query) => ended(query::run(&options.common, query)),
        Command::Probe(probe) => probe::run(&options.common, probe),
        Command::Bench(bench) => bench::run(&options.common, bench),
        Command::Completions { shell } => ended(docs::completions(*shell)),
        Command::Man { dir } => ended(docs::man(dir)),
    }
}

/// Prints help, or what is wrong with the command line. To monitoring systems, which run `probe`, the latter is UNKNOWN.
fn refused(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.exit_code() == 0 {
        ExitCode::SUCCESS
    } else if std::env::args_os().any(|word| word == "probe") {
        probe::ServiceState::Unknown.into()
    } else {
        Exit::Usage.into()
    }
}

/// Says why it has failed, if it has.
fn ended(result: Result<Exit, CommandError>) -> ExitCode {
    let ending = result.unwrap_or_else(|failure| {
        eprintln_prefixed(&failure);
        failure.ending
    });
    ending.into()
}

//! The load generator: `confdctl bench`.
//!
//! It loads confd servers with signed queries over UDP and measures throughput, latency, loss and
//! every kind of wrong answer. It knows only the protocol and works with any confd.
//!
//! ```text
//! options    the command line
//! names      what queries can ask about, from a file or the servers    replay   recorded requests
//! mix        the queries and their order
//! template   a query as a datagram without salts and signature         rsalt    reply -> request
//! schedule   when an open loop sends                                profile   its rate over time
//! plan       what each thread does
//! worker     a thread that sends and receives
//!   sockets, error_queue   system calls in batches
//!   stamps     when each request left, by the kernel's clock
//!   in_flight  the requests in flight and how each ends
//!   check      whether a reply is correct
//! stats, results   counts and latencies         usage, bottleneck   was the generator the limit?
//! outage     gaps without an answer
//! bench      one run, or a search of several    requirements        on the results
//! search     the next rate to try
//! server     the processor time of servers on this machine
//! progress, report   output
//! commands   what reads the results of earlier runs:   recorded, merge, compare, significance
//! option_file   options from a file
//! ```
//!
//! Invariants: the latency of an open loop is measured from the scheduled time. Every counted
//! request ends as answered, wrong or lost. Memory is bounded for any replies. Workers
//! are plain threads without an async runtime. Times are monotonic (`Instant`) except in the salt.
//!
//! It does not change anything on the servers.
#![forbid(unsafe_code)]

mod bench;
mod bottleneck;
mod check;
mod commands;
mod compare;
mod error;
mod error_queue;
mod format;
mod in_flight;
mod interrupt;
mod machine;
mod merge;
mod mix;
mod names;
mod nanos;
mod number;
mod option_file;
mod options;
mod outage;
mod plan;
mod profile;
mod progress;
mod recorded;
mod replay;
mod report;
mod requirements;
mod results;
mod rsalt;
mod schedule;
mod search;
mod server;
mod significance;
mod sockets;
mod stamps;
mod stats;
mod template;
mod usage;
mod worker;

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

pub use commands::{Command, CompareOptions};
pub use error::Error;
pub use format::Format;
pub use mix::Mix;
pub use options::{EXAMPLES, Options, Pacing, SendTimes};
pub use profile::Stages;
pub use requirements::Requirements;
pub use schedule::Arrivals;

use crate::protocol::Key;
use bench::Bench;
use compare::Comparison;

/// Adds the options of the file that `options` name, if they name one. `matches` are those of the
/// command line.
///
/// # Errors
///
/// The file cannot be read, or an option in it is unknown or has a wrong value.
pub fn with_profile(options: Options, matches: &clap::ArgMatches) -> Result<Options, clap::Error> {
    match &options.profile {
        Some(file) => option_file::with_file(file, matches),
        None => Ok(options),
    }
}

/// Loads `targets` as `options` specify and prints the results: by default as text, or as one JSON
/// document if `json`.
///
/// The exit status is 0, 1 if nothing was measured or a server never answered or stopped answering,
/// or 3 if a requirement does not hold. The first
/// SIGINT ends the measurement early with its results, the second one ends the process.
///
/// # Errors
///
/// The options exclude each other, a file cannot be read or written, the servers do not provide the
/// names to ask about, or there are no more sockets or threads.
pub fn run(
    options: &Options,
    targets: &[SocketAddr],
    key: &Key,
    json: bool,
) -> Result<ExitCode, Error> {
    options.check().map_err(Error::usage)?;
    if json && options.format.is_some() {
        return Err(Error::usage("--json and --format exclude each other"));
    }
    for file in [&options.report, &options.csv, &options.hdr]
        .into_iter()
        .flatten()
    {
        // Fails before the measurement, not after it.
        let open = OpenOptions::new().append(true).create(true).open(file);
        open.map_err(|error| cannot_write(file, &error))?;
    }
    let bench = Bench::prepare(options, targets, key)?;
    let started = SystemTime::now();
    let (results, search) = match &options.search {
        None => (bench.run_once(options.open_rate())?, None),
        Some(requirements) => {
            let (results, search) = bench.search(requirements)?;
            (results, Some(search))
        }
    };
    let report = bench.report(started, results, search);
    if let Some(file) = &options.report {
        std::fs::write(file, report.html()?).map_err(|error| cannot_write(file, &error))?;
    }
    if let Some(file) = &options.csv {
        std::fs::write(file, report.csv()).map_err(|error| cannot_write(file, &error))?;
    }
    if let Some(file) = &options.hdr {
        let log = report.histogram_log()?;
        std::fs::write(file, log).map_err(|error| cannot_write(file, &error))?;
    }
    let default = if json { Format::Json } else { Format::Text };
    let text = match options.format.unwrap_or(default) {
        Format::Text => report.text(),
        Format::Json => report.json()?,
        Format::Markdown => report.markdown(),
        Format::Openmetrics => report.openmetrics(),
        Format::Junit => report.junit(),
    };
    // A closed pipe is not an error.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(report.exit_code())
}

/// Runs a command on earlier results and prints what it returns, as JSON if `json`. The exit status
/// is 3 if the second result of a comparison is worse.
///
/// # Errors
///
/// A file is not a document of a run, or the format is not one of this command's.
pub fn run_command(command: &Command, json: bool) -> Result<ExitCode, Error> {
    let (text, exit) = match command {
        Command::Merge { files } => (merge::merge(files, json)?, ExitCode::SUCCESS),
        Command::Compare(options) => {
            let comparison = Comparison::read(options)?;
            let default = if json { Format::Json } else { Format::Text };
            let text = match options.format.unwrap_or(default) {
                Format::Text => comparison.text(),
                Format::Json => comparison.json(),
                Format::Markdown => comparison.markdown(),
                Format::Openmetrics | Format::Junit => {
                    return Err(Error::usage("compare prints text, json or markdown"));
                }
            };
            let exit = match comparison.is_worse() {
                true => ExitCode::from(report::EXIT_NOT_HELD),
                false => ExitCode::SUCCESS,
            };
            (text, exit)
        }
    };
    // A closed pipe is not an error.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(exit)
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Error {
    Error::new(format!("cannot write {}: {error}", file.display()))
}

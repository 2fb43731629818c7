//! `confdctl probe`: whether each candidate is up, has the newest configuration and the right time.
//!
//! ```text
//! prober    queries the candidates                checks        the queries of confd-client
//!                                                 config_file   the serial on this node's disk
//!   |
//! health    what the answers mean for each candidate, and the state of the service
//!   |
//! plugin, people, json   output                   watch         repeats it
//! ```
//!
//! Candidates are compared by `/serial_no`, the serial of the whole configuration, which grows with
//! every write. The serial in a reply is only that of the object that the reply is about.
//!
//! Source: `confd-client` of Ganeti for the checks; the Monitoring Plugins guidelines for output
//! and exit status.

mod checks;
mod config_file;
mod health;
mod json;
mod people;
mod plugin;
mod prober;
mod watch;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use super::exit::{CommandError, eprintln_prefixed, print};
use super::options::{Common, ProbeOptions};
pub(super) use health::ServiceState;
use people::Look;
use prober::Prober;

/// Runs the command.
pub(super) fn run(common: &Common, options: &ProbeOptions) -> ExitCode {
    let result = match options.watch {
        Some(interval) => watch::run(common, options, interval),
        None => once(common, options),
    };
    result.unwrap_or_else(|error| {
        let text = error.to_string();
        // Monitoring systems read standard output.
        if !text.is_empty() && print(&format!("CONFD UNKNOWN - {text}\n")).is_err() {
            eprintln_prefixed(text);
        }
        ServiceState::Unknown.into()
    })
}

fn once(common: &Common, options: &ProbeOptions) -> Result<ExitCode, CommandError> {
    let prober = Prober::new(common, options)?;
    let mut health = prober.probe()?;
    if options.checks {
        health.checks = Some(checks::run(prober.client())?);
    }
    let is_for_people = !options.plugin && io::stdout().is_terminal();
    print(&match (common.json, is_for_people) {
        (true, _) => json::document(&health),
        (false, true) => people::text(&health, Look::of_stdout(common)),
        (false, false) => plugin::text(&health),
    })?;
    Ok(health.service_state().into())
}

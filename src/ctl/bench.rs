//! `confdctl bench`: passes the servers and the key to the load generator.

use std::net::SocketAddr;
use std::process::ExitCode;

use super::exit::eprintln_prefixed;
use super::options::Common;
use super::target::Target;
use crate::client::Candidate;
use crate::load;

/// Runs the load generator against the first address of every server, or a command on earlier
/// results; returns its exit status.
pub(super) fn run(common: &Common, options: &load::Options) -> ExitCode {
    if let Some(command) = &options.command {
        return load::run_command(command, common.json).unwrap_or_else(|error| {
            eprintln_prefixed(&error);
            error.exit_code()
        });
    }
    let target = match Target::find(common) {
        Ok(target) => target,
        Err(error) => {
            eprintln_prefixed(error);
            return ExitCode::FAILURE;
        }
    };
    let (candidates, key) = target.candidates_and_key();
    let first_address = |candidate: &Candidate| {
        let why = || {
            format!(
                "{candidate}: {}",
                candidate.unresolved().unwrap_or_default()
            )
        };
        candidate.addresses().first().copied().ok_or_else(why)
    };
    let addresses: Vec<SocketAddr> = match candidates.iter().map(first_address).collect() {
        Ok(addresses) => addresses,
        Err(error) => {
            eprintln_prefixed(error);
            return ExitCode::FAILURE;
        }
    };
    load::run(options, &addresses, &key, common.json).unwrap_or_else(|error| {
        eprintln_prefixed(&error);
        error.exit_code()
    })
}

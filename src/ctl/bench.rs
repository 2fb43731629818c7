//! `confdctl bench`: hands the servers and the key to the load generator.

use std::net::SocketAddr;
use std::process::ExitCode;

use super::exit::eprintln_prefixed;
use super::options::Common;
use super::target::Target;
use crate::load;

/// Loads the first address of every server. The exit statuses are the load generator's own.
pub(super) fn run(common: &Common, options: &load::Options) -> ExitCode {
    let site = match Target::find(common) {
        Ok(site) => site,
        Err(failure) => {
            eprintln_prefixed(failure);
            return ExitCode::FAILURE;
        }
    };
    let (candidates, key) = site.targets();
    let addresses = candidates.iter().map(|candidate| candidate.addresses()[0]);
    let addresses: Vec<SocketAddr> = addresses.collect();
    load::run(options, &addresses, &key, common.json).unwrap_or_else(|error| {
        eprintln_prefixed(error);
        ExitCode::FAILURE
    })
}

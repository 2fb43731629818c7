//! `--check`: loads the configuration and the key without serving them.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::error::Error;
use crate::reader::{self, Files};
use crate::snapshot::{Loaded, Snapshot};

/// Loads both files. Prints a summary of each to standard output, or its error to standard error.
///
/// The exit status is a failure if either file cannot be used.
pub(super) fn check(files: &Files) -> ExitCode {
    let key = reader::load_key(&files.key)
        .map(|_| format!("{}: usable\n", files.key.display()))
        .map_err(|error| Error::new(error.to_string()));
    let mut status = ExitCode::SUCCESS;
    for result in [load(files), key] {
        // If the output is closed, the exit status still reports the result.
        let _ = match result {
            Ok(text) => io::stdout().write_all(text.as_bytes()),
            Err(failure) => {
                status = ExitCode::FAILURE;
                writeln!(io::stderr(), "ganeti-confd: {failure}")
            }
        };
    }
    status
}

/// Loads the configuration and returns its summary and warnings, one per line.
fn load(files: &Files) -> Result<String, Error> {
    let path = files.config.display();
    let text = std::fs::read(&files.config).map_err(|error| {
        Error::new(format!(
            "cannot read {path}: {error}; make sure that this node is a master candidate, or name \
             another file with --config"
        ))
    })?;
    let Loaded { snapshot, warnings } = Snapshot::load(&text).map_err(|error| {
        Error::new(format!(
            "{path} cannot be served: {error}; restore it from the master node \
             (gnt-cluster redist-conf)"
        ))
    })?;
    let mut lines = vec![match snapshot.summary() {
        Some(about) => format!(
            "{path}: cluster {}, serial {}: {} nodes, {} node groups, {} instances, {} disks, \
             {} networks, {} filters",
            about.cluster_name,
            about.serial_no,
            about.nodes,
            about.groups,
            about.instances,
            about.disks,
            about.networks,
            about.filters,
        ),
        None => format!("{path}: usable"),
    }];
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    Ok(lines.join("\n") + "\n")
}

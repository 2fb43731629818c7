//! Going to the background, with a parent that stays until the outcome is known.
//!
//! The process starts its own executable again, with the same arguments, and waits; the child makes itself a session, starts
//! up, and says one word on its standard output when it serves. Until then its standard error is the parent's, so that errors
//! reach the terminal. Unlike fork(2) this needs no unsafe code, and no thread can be caught half-way.
//!
//! Source: `Ganeti.Daemon.daemonize`, which forks twice and reports success before the key is read; daemon(7).

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _, parent_id};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stderr, dup2_stdout, setsid};

use super::error::Error;

/// Set for the child, to the parent's process id: an inherited value from elsewhere means nothing.
const MARK: &str = "GANETI_CONFD_PARENT";
const READY: &str = "ready\n";

/// Whether this process is the one in the background.
pub(super) fn is_child() -> bool {
    env::var(MARK).is_ok_and(|value| value == parent_id().to_string())
}

/// Starts the daemon in the background; 0 if it serves, else what it ended with, having said why.
///
/// # Errors
///
/// It could not be started at all.
pub(super) fn start() -> Result<ExitCode, Error> {
    let failure = |error: &dyn std::fmt::Display| {
        Error::new(format!(
            "cannot detach: {error}; start it with --foreground and see"
        ))
    };
    let mut args = env::args_os();
    // The path of our own executable may have been replaced by an upgrade; this name is always right.
    let mut child = Command::new("/proc/self/exe")
        .arg0(args.next().unwrap_or_else(|| "ganeti-confd".into()))
        .args(args)
        .env(MARK, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failure(&error))?;
    let mut word = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // An error is as good as silence.
        let _ = stdout.read_to_string(&mut word);
    }
    if word == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(|error| failure(&error))?;
    match (status.code(), status.signal()) {
        // Exit without ever having served, orderly: it was told to stop.
        (Some(0), _) => Err(failure(&"the daemon was stopped while it started")),
        (Some(code), _) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        (None, signal) => Err(failure(&format!(
            "the daemon died of signal {} while it started",
            signal.unwrap_or_default()
        ))),
    }
}

/// In the child: leaves the caller's session, directory and file mode mask.
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn enter_background() -> Result<(), Error> {
    let failed = |errno| {
        Error::new(format!(
            "cannot detach: {errno}; start it with --foreground"
        ))
    };
    setsid().map_err(failed)?;
    chdir("/").map_err(failed)?;
    umask(Mode::from_bits_truncate(0o077));
    Ok(())
}

/// In the child: tells the parent that the daemon serves, and leaves the caller's standard output and error for `log`.
pub(super) fn ready(log: &File) {
    // The parent may have been killed; the daemon serves all the same.
    let _ = io::stdout().write_all(READY.as_bytes());
    let _ = io::stdout().flush();
    redirect(log);
}

/// Makes `log` standard output and error: what does not go through the log (a panic) ends up there.
pub(super) fn redirect(log: &File) {
    // Only closed descriptors are refused, and these are open.
    let _ = dup2_stdout(log);
    let _ = dup2_stderr(log);
}

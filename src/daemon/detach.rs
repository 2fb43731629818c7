//! Moving to the background, with a parent that waits for the result of the start.
//!
//! The process starts its own executable again, with the same arguments, and waits. The child
//! creates a session, starts up, and writes one word to its standard output when it serves. Until
//! then it shares the parent's standard error, so that errors reach the terminal. Unlike fork(2),
//! this needs no unsafe code and is safe with several threads.
//!
//! Source: `Ganeti.Daemon.daemonize`, which forks twice and reports success before the key is read;
//! daemon(7).

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _, parent_id};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stderr, dup2_stdout, setsid};

use super::error::Error;

/// Set for the child, to the parent's process id. Any other value is ignored.
const MARK: &str = "GANETI_CONFD_PARENT";
const READY: &str = "ready\n";

/// Whether this process is the child, in the background.
pub(super) fn is_child() -> bool {
    env::var(MARK).is_ok_and(|value| value == parent_id().to_string())
}

/// Starts the daemon in the background. Returns 0 once it serves, otherwise its exit status, after
/// it has printed why.
///
/// # Errors
///
/// The child process cannot be started.
pub(super) fn start() -> Result<ExitCode, Error> {
    let failure = |error: &dyn std::fmt::Display| {
        Error::new(format!(
            "cannot detach: {error}; start it with --foreground and see"
        ))
    };
    let mut args = env::args_os();
    // An upgrade may have replaced the file at the executable's path; this name is always right.
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
        // A read error means the same as no word.
        let _ = stdout.read_to_string(&mut word);
    }
    if word == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(|error| failure(&error))?;
    match (status.code(), status.signal()) {
        // An orderly exit before it served: a signal stopped it.
        (Some(0), _) => Err(failure(&"the daemon was stopped while it started")),
        (Some(code), _) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        (None, signal) => Err(failure(&format!(
            "the daemon died of signal {} while it started",
            signal.unwrap_or_default()
        ))),
    }
}

/// In the child: leaves the caller's session, working directory and file mode mask.
///
/// # Errors
///
/// The kernel refused one of these.
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

/// In the child: reports to the parent that the daemon serves, and redirects standard output and
/// error to `log`.
pub(super) fn ready(log: &File) {
    // The parent may have been killed; the daemon serves nevertheless.
    let _ = io::stdout().write_all(READY.as_bytes());
    let _ = io::stdout().flush();
    redirect(log);
}

/// Redirects standard output and error to `log`, for output that does not go through the log, such
/// as a panic.
pub(super) fn redirect(log: &File) {
    // Fails only for closed descriptors, and these are open.
    let _ = dup2_stdout(log);
    let _ = dup2_stderr(log);
}

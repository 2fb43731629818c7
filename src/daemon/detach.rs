//! Detaching: the daemon runs in a background process, and the parent waits until it serves.
//!
//! The process runs its own executable again with the same arguments. The child creates a session,
//! starts up, and writes [`READY`] to its standard output when it serves. Until then it shares the
//! parent's standard error, so that errors reach the terminal. Unlike fork(2), this needs no unsafe
//! code and cannot copy another thread's half-changed state.
//!
//! Source: `Ganeti.Daemon.daemonize`, which forks twice and reports success before it reads the
//! key; daemon(7).

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _, parent_id};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stderr, dup2_stdout, setsid};

use super::error::Error;
use crate::remedy::{Operation, errno_of};

/// Environment variable of the child; its value is the parent's process ID.
///
/// A value inherited from any other process is ignored.
const PARENT_VAR: &str = "GANETI_CONFD_PARENT";
/// What the child writes to its standard output when it serves.
const READY: &str = "ready\n";

/// Whether this process is the background child.
pub(super) fn is_child() -> bool {
    env::var(PARENT_VAR).is_ok_and(|value| value == parent_id().to_string())
}

/// Starts the daemon in the background and waits until it serves or exits.
///
/// Returns success if the daemon serves, and otherwise the exit status of the child, which has
/// already printed its error.
///
/// # Errors
///
/// The child could not be started, was killed by a signal, or was stopped while it started.
pub(super) fn start() -> Result<ExitCode, Error> {
    let failed =
        |error: io::Error| Error::of_call("cannot detach", Operation::Process, errno_of(&error));
    let ended = |how: String| {
        Error::new(format!(
            "cannot detach: {how}; start it with --foreground to see the cause"
        ))
    };
    let mut args = env::args_os();
    // An upgrade may have replaced the executable; /proc/self/exe is always the one that runs.
    let mut child = Command::new("/proc/self/exe")
        .arg0(args.next().unwrap_or_else(|| "ganeti-confd".into()))
        .args(args)
        .env(PARENT_VAR, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        // A read error is handled like missing output: the exit status says what happened.
        let _ = stdout.read_to_string(&mut output);
    }
    if output == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(failed)?;
    match (status.code(), status.signal()) {
        // The daemon exits with 0 before it serves only if it receives a stop signal.
        (Some(0), _) => Err(ended("the daemon was stopped while it started".into())),
        (Some(code), _) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        (None, signal) => Err(ended(format!(
            "the daemon was killed by signal {} while it started",
            signal.unwrap_or_default()
        ))),
    }
}

/// In the child: creates a session, changes to the root directory and sets the file mode mask.
///
/// # Errors
///
/// A system call failed.
pub(super) fn enter_background() -> Result<(), Error> {
    let failed = |errno| Error::of_call("cannot detach", Operation::Process, errno);
    setsid().map_err(failed)?;
    chdir("/").map_err(failed)?;
    umask(Mode::from_bits_truncate(0o077));
    Ok(())
}

/// In the child: reports to the parent that the daemon serves, then redirects standard output and
/// standard error to `log`.
pub(super) fn ready(log: &File) {
    // The parent may have been killed. The daemon serves regardless.
    let _ = io::stdout().write_all(READY.as_bytes());
    let _ = io::stdout().flush();
    redirect(log);
}

/// Redirects standard output and standard error to `log`, for output that bypasses the log
/// (panics).
pub(super) fn redirect(log: &File) {
    // dup2 fails only for a closed descriptor, and `log` is open.
    let _ = dup2_stdout(log);
    let _ = dup2_stderr(log);
}

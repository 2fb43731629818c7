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
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _, parent_id};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, close, dup2_stderr, dup2_stdout, setsid};

use super::error::Error;
use crate::remedy::{Operation, errno_of};

/// Environment variable of the child; its value is the parent's process ID.
///
/// A value inherited from any other process is ignored.
const PARENT_VAR: &str = "GANETI_CONFD_PARENT";
/// What the child writes to its standard output when it serves.
const READY: &[u8] = b"ready\n";
/// How long the parent waits. Long, because a large configuration on slow storage takes time;
/// bounded, so that storage that hangs does not stop the boot of the host.
const START_MAX: Duration = Duration::from_secs(300);
/// How often the parent looks whether the child has ended without closing its output.
const LOOK: Duration = Duration::from_millis(100);

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
/// The child could not be started, was killed by a signal, was stopped while it started, or does
/// not serve within [`START_MAX`].
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
    match wait(&mut child, START_MAX).map_err(failed)? {
        Waited::Serving => Ok(ExitCode::SUCCESS),
        Waited::StillStarting => Err(Error::new(format!(
            "the daemon (process {}) has not served within {} s and goes on starting in the \
             background; look at its log, and at the storage of its files",
            child.id(),
            START_MAX.as_secs()
        ))),
        Waited::Ended(status) => match (status.code(), status.signal()) {
            // The daemon exits with 0 before it serves only if it receives a stop signal.
            (Some(0), _) => Err(ended("the daemon was stopped while it started".into())),
            (Some(code), _) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
            (None, signal) => Err(ended(format!(
                "the daemon was killed by signal {} while it started",
                signal.unwrap_or_default()
            ))),
        },
    }
}

/// How the parent's wait for its child ended.
#[derive(Debug)]
enum Waited {
    Serving,
    /// The child neither serves nor has ended.
    StillStarting,
    Ended(ExitStatus),
}

/// Waits until `child` writes [`READY`] or ends, at most for `time_max`.
///
/// The end of the child's output alone does not end the wait, because another process may hold the
/// pipe, and the child may live on without it.
fn wait(child: &mut Child, time_max: Duration) -> io::Result<Waited> {
    let end = Instant::now() + time_max;
    let mut stdout = child.stdout.take();
    let mut output = Vec::new();
    loop {
        if output.starts_with(READY) {
            return Ok(Waited::Serving);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Waited::StillStarting);
        }
        if let Some(pipe) = &mut stdout {
            let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                // Neither output nor its end.
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => {
                    let mut part = [0; 64];
                    match pipe.read(&mut part) {
                        Ok(0) | Err(_) => stdout = None,
                        Ok(len) => output.extend_from_slice(&part[..len]),
                    }
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            }
        } else {
            thread::sleep(left.min(LOOK));
        }
        if let Some(status) = child.try_wait()? {
            return Ok(Waited::Ended(status));
        }
    }
}

/// In the child: closes the descriptors that the caller of the parent left open, so that no lock or
/// pipe of the caller lives as long as the daemon.
///
/// Must be called before the process opens any descriptor.
pub(super) fn close_inherited() {
    let Ok(open) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = open
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The descriptor of the directory itself is closed already.
        let _ = close(fd);
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
    let _ = io::stdout().write_all(READY);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn child(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn the_wait_ends_with_the_output_the_end_of_the_child_or_the_time() {
        let long = Duration::from_secs(60);
        let mut serving = child("echo ready; exec sleep 60");
        assert!(matches!(wait(&mut serving, long), Ok(Waited::Serving)));
        let mut failed = child("exit 3");
        assert!(
            matches!(wait(&mut failed, long), Ok(Waited::Ended(status)) if status.code() == Some(3))
        );
        // Another process keeps the output open.
        let mut holder = child("sleep 2 & exit 4");
        assert!(
            matches!(wait(&mut holder, long), Ok(Waited::Ended(status)) if status.code() == Some(4))
        );
        // It closes its output and goes on.
        let mut silent = child("exec sleep 60 >&2");
        let short = Duration::from_millis(300);
        assert!(matches!(
            wait(&mut silent, short),
            Ok(Waited::StillStarting)
        ));
        for mut child in [serving, silent] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

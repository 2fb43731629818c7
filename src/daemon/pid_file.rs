//! The pid file: contains the daemon's process ID, and is locked while the daemon runs.
//!
//! Invariants: the lock is taken before anything is written, and held until the process ends or the
//! file is removed; only the holder of the lock removes the file, and only if the path still names
//! that file. The lock is a POSIX record lock, as in the reference, so that the two daemons exclude
//! each other.
//!
//! Source: `Ganeti.Daemon.writePidFile`, which does not truncate longer existing content; fcntl(2).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::error::Error;
use crate::remedy::{Operation, errno_of};

/// Attempts to open and lock the file, if other daemons remove it between our open and our lock.
const ATTEMPTS_MAX: usize = 10;

/// The locked pid file of this process. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Creates the file at `path`, or takes over an existing file that is not locked.
    ///
    /// # Errors
    ///
    /// Another process has locked the file, or it cannot be opened, locked or written.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let file = open(path, true)?;
            match lock(&file) {
                Ok(()) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Err(already_running(path, &file)),
                Err(errno) => return Err(failed("lock", path, errno)),
            }
            // If the previous daemon removed the file before we locked it, the lock excludes
            // nobody.
            if is_at(&file, path) {
                write_pid(&file).map_err(|error| failed("write", path, errno_of(&error)))?;
                let path = path.to_owned();
                return Ok(Self { path, file });
            }
        }
        Err(Error::new(format!(
            "cannot keep the pid file {}: other processes keep removing it; stop them",
            path.display()
        )))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            // Errors cannot be returned from `drop`.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file at `path`, and creates it if it may.
fn open(path: &Path, create: bool) -> Result<File, Error> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        // Without O_NONBLOCK, opening a device can wait.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .and_then(|file| Ok((file.metadata()?.is_file(), file)));
    let (is_file, file) = opened.map_err(|error| failed("open", path, errno_of(&error)))?;
    if !is_file {
        return Err(Error::lasting(format!(
            "cannot use the pid file {}: it is not a regular file; remove it",
            path.display()
        )));
    }
    Ok(file)
}

fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let what = format!("cannot {what} the pid file {}", path.display());
    Error::of_call(what, Operation::WriteFile, errno)
}

/// Which process has locked the pid file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The file does not exist, and can be made.
    NoFile,
    /// None: a daemon would take the file over.
    None,
    /// The process with this ID.
    Process(i32),
}

/// Checks that the pid file at `path` can be used, without changing it.
///
/// # Errors
///
/// It cannot be opened or made.
pub(super) fn holder(path: &Path) -> Result<Holder, Error> {
    if fs::symlink_metadata(path).is_err() {
        let what = format!("cannot open the pid file {}", path.display());
        return Error::unless_creatable(what, path).map(|()| Holder::NoFile);
    }
    let file = open(path, false)?;
    Ok(locked_by(&file).map_or(Holder::None, Holder::Process))
}

/// The process that has locked the file, if another one has.
fn locked_by(file: &File) -> Option<i32> {
    let mut holder = write_lock();
    fcntl(file, FcntlArg::F_GETLK(&mut holder)).ok()?;
    (holder.l_type != libc::F_UNLCK as libc::c_short).then_some(holder.l_pid)
}

fn write_pid(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// Whether `path` still names this open file. As in the reference, it may be a symbolic link to it;
/// the link is then removed at the end, and the file remains.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(named)) => (opened.dev(), opened.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn lock(file: &File) -> nix::Result<()> {
    fcntl(file, FcntlArg::F_SETLK(&write_lock())).map(drop)
}

fn write_lock() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn already_running(path: &Path, file: &File) -> Error {
    let holder = match locked_by(file) {
        Some(pid) if pid > 0 => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    Error::new(format!(
        "already running: {holder} has locked the pid file {}; stop it first",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A record lock never excludes its own process. tests/it/daemon.rs tests the lock with two
    // daemons.

    #[test]
    fn longer_existing_content_is_truncated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, "123456789012345\n99\n").unwrap();
        let pid_file = PidFile::create(&path).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        drop(pid_file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_another_daemon_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let pid_file = PidFile::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(pid_file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_symbolic_link_is_followed_and_then_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("pid"), dir.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let pid_file = PidFile::create(&link).unwrap();
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(&target).unwrap(), own);
        drop(pid_file);
        assert!(fs::symlink_metadata(&link).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), own);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let failure = PidFile::create(&path).unwrap_err().to_string();
        assert!(failure.contains("it is not a regular file"), "{failure}");
        assert!(path.exists());
    }

    #[test]
    fn the_error_for_a_missing_directory_names_the_path() {
        let failure = PidFile::create(Path::new("/nonexistent/pid"))
            .unwrap_err()
            .to_string();
        assert!(failure.contains("/nonexistent/pid"), "{failure}");
    }
}

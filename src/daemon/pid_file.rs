//! The pid file: holds the daemon's process id; its lock shows that the daemon runs.
//!
//! Invariants: the lock is taken before anything is written, and held until the process ends or the
//! file is removed; only the holder of the lock removes the file, and only its own. The lock is a
//! POSIX record lock, as the reference's, so that the two daemons exclude each other.
//!
//! Source: `Ganeti.Daemon.writePidFile`, which does not truncate an older, longer content;
//! fcntl(2).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::error::Error;

/// Retries if another daemon removes the file between our open and our lock.
const ATTEMPTS_MAX: usize = 10;

/// The locked pid file. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Creates the file at `path`, or takes over one that is not locked.
    ///
    /// # Errors
    ///
    /// Another daemon holds the lock, or the file cannot be written.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let failure = |what: &str, error: &dyn std::fmt::Display| {
            Error::new(format!(
                "cannot {what} the pid file {}: {error}; make sure that its directory exists and is writable for this user",
                path.display()
            ))
        };
        for _ in 0..ATTEMPTS_MAX {
            let file = open(path).map_err(|error| failure("open", &error))?;
            match lock(&file) {
                Ok(()) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Err(already_running(path, &file)),
                Err(errno) => return Err(failure("lock", &errno)),
            }
            // Another daemon may have removed the file meanwhile; then this lock excludes no one.
            if is_at(&file, path) {
                write_pid(&file).map_err(|error| failure("write", &error))?;
                let path = path.to_owned();
                return Ok(Self { path, file });
            }
        }
        Err(failure("keep", &"others keep removing it"))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            // There is no place to report an error any more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn write_pid(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// Whether `path` still names `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
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
    let mut holder = write_lock();
    let holder = match fcntl(file, FcntlArg::F_GETLK(&mut holder)) {
        Ok(_) if holder.l_pid > 0 => format!("process {}", holder.l_pid),
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

    // A process does not exclude itself. Tests with two daemons are in tests/it/daemon.rs.

    #[test]
    fn an_older_longer_content_goes_away() {
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
    fn another_daemons_file_stays() {
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
    fn a_missing_directory_is_named() {
        let failure = PidFile::create(Path::new("/nonexistent/pid"))
            .unwrap_err()
            .to_string();
        assert!(failure.contains("/nonexistent/pid"), "{failure}");
    }
}

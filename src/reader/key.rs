//! Loads `hmac.key` at startup and again when it changes.
//!
//! Source: `Ganeti.Confd.Utils.getClusterHmac`, which uses every byte of the file, including a
//! trailing newline, and reads the file only once. Reloading it means that
//! `gnt-cluster renew-crypto --new-confd-hmac-key` needs no restart of the daemon.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{self, ReadError};
use crate::protocol::{KEY_BYTES_MAX, Key};
use crate::remedy::{Operation, lasts, reason, remedy};

/// Error of loading the key. `Display` prints one line that names the file and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    path: PathBuf,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Empty,
    Unreadable(ReadError),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The options of the daemon and of `confdctl` that set the key file.
        const OPTIONS: &str = "--key, or confdctl --key-file";
        const COPY: &str = "copy it from the master node (gnt-cluster redist-conf)";
        let path = self.path.display();
        match self.why {
            Why::Empty => write!(
                f,
                "HMAC key {path} is empty, anybody could sign with it: {COPY}"
            ),
            Why::Unreadable(why) if why.is_missing() => write!(
                f,
                "HMAC key {path} does not exist: {COPY}, or name another file ({OPTIONS})"
            ),
            Why::Unreadable(ReadError::Directory) => {
                write!(f, "HMAC key {path} is a directory: name a file ({OPTIONS})")
            }
            Why::Unreadable(ReadError::NotRegular) => {
                write!(
                    f,
                    "HMAC key {path} is not a regular file: name one that is ({OPTIONS})"
                )
            }
            Why::Unreadable(ReadError::TooLong { bytes, limit }) => write!(
                f,
                "HMAC key {path} has {bytes} bytes, more than {limit}: name the right file ({OPTIONS})"
            ),
            Why::Unreadable(ReadError::Changing) => write!(
                f,
                "HMAC key {path} was written to while it was read: try again"
            ),
            Why::Unreadable(
                ReadError::Stat(errno) | ReadError::Open(errno) | ReadError::Read(errno),
            ) => write!(
                f,
                "HMAC key {path} cannot be read ({}): {}",
                reason(errno),
                remedy(Operation::ReadFile, errno)
            ),
        }
    }
}

impl std::error::Error for KeyError {}

impl KeyError {
    pub(super) fn unreadable(path: &Path, why: ReadError) -> Self {
        Self {
            path: path.to_owned(),
            why: Why::Unreadable(why),
        }
    }

    /// Whether the error lasts until somebody changes the key file or a limit.
    pub(crate) fn lasts(&self) -> bool {
        match self.why {
            Why::Unreadable(ReadError::Changing) => false,
            Why::Unreadable(
                ReadError::Stat(errno) | ReadError::Open(errno) | ReadError::Read(errno),
            ) => lasts(errno),
            Why::Empty
            | Why::Unreadable(
                ReadError::Directory | ReadError::NotRegular | ReadError::TooLong { .. },
            ) => true,
        }
    }
}

/// Reads the key from the file `path`, on the calling thread.
///
/// # Errors
///
/// Returns an error if the file is missing, empty, not a regular file, longer than 64 KiB, or
/// unreadable.
pub fn load_key(path: &Path) -> Result<Key, KeyError> {
    file::read_blocking(path, KEY_BYTES_MAX)
        .map_err(|why| KeyError::unreadable(path, why))
        .and_then(|contents| parse_key(path, &contents.bytes))
}

/// Returns the key that the file `path` holds.
///
/// # Errors
///
/// Returns an error if the file is empty.
pub(super) fn parse_key(path: &Path, bytes: &[u8]) -> Result<Key, KeyError> {
    Key::new(bytes).map_err(|_| KeyError {
        path: path.to_owned(),
        why: Why::Empty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_includes_every_byte_of_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("hmac.key");
        std::fs::write(&path, b"secret\n").expect("written");
        let key = load_key(&path).expect("a key");
        assert_eq!(key, Key::new(b"secret\n").expect("a key"));
        assert_ne!(key, Key::new(b"secret").expect("a key"));
    }

    #[test]
    fn error_names_the_file_and_the_remedy_in_one_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let check = |path: &Path, expect: &str| {
            let message = load_key(path).expect_err("no key").to_string();
            let expect = expect.replace("PATH", &path.display().to_string());
            assert_eq!(message, expect);
        };
        let path = dir.path().join("hmac.key");
        check(
            &path,
            "HMAC key PATH does not exist: copy it from the master node (gnt-cluster redist-conf), \
             or name another file (--key, or confdctl --key-file)",
        );
        std::fs::write(&path, b"").expect("written");
        check(
            &path,
            "HMAC key PATH is empty, anybody could sign with it: copy it from the master node (gnt-cluster redist-conf)",
        );
        std::fs::write(&path, vec![b'k'; 65_537]).expect("written");
        check(
            &path,
            "HMAC key PATH has 65537 bytes, more than 65536: name the right file (--key, or confdctl --key-file)",
        );
        check(
            dir.path(),
            "HMAC key PATH is a directory: name a file (--key, or confdctl --key-file)",
        );
    }

    #[test]
    fn error_of_an_unreadable_key_names_the_reason() {
        let error =
            KeyError::unreadable(Path::new("/k"), ReadError::Open(nix::errno::Errno::EACCES));
        assert_eq!(
            error.to_string(),
            "HMAC key /k cannot be read (Permission denied): make it readable for the user that runs this program"
        );
        assert!(error.lasts());
        let error =
            KeyError::unreadable(Path::new("/k"), ReadError::Open(nix::errno::Errno::ENFILE));
        assert!(error.to_string().contains("fs.file-max"), "{error}");
        assert!(!error.lasts());
    }
}

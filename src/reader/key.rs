//! Loads `hmac.key` at startup and again when it changes.
//!
//! Source: `Ganeti.Confd.Utils.getClusterHmac`, which uses every byte of the file, including a
//! trailing newline, and reads the file only once. Reloading it means that
//! `gnt-cluster renew-crypto --new-confd-hmac-key` needs no restart of the daemon.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{self, FileId, FileReader, Io, ReadError};
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
            Why::Unreadable(ReadError::Late | ReadError::Memory(_)) => write!(
                f,
                "HMAC key {path} cannot be read: its storage does not respond; make sure that the \
                 file system is mounted and its server is up"
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
            Why::Unreadable(ReadError::Changing | ReadError::Late | ReadError::Memory(_)) => false,
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

/// Reads the key from the file `path`, on the calling thread. Logs what makes it a weak one.
///
/// # Errors
///
/// Returns an error if the file is missing, empty, not a regular file, longer than 64 KiB, or
/// unreadable.
pub fn load_key(path: &Path) -> Result<Key, KeyError> {
    let failed = |why| KeyError::unreadable(path, why);
    // Found before the file is opened, because opening some devices has effects.
    file::stat(path, KEY_BYTES_MAX).map_err(failed)?;
    let mut bytes = Vec::new();
    let id = FileReader::new(Io::Blocking)
        .read_to(path, KEY_BYTES_MAX, &mut bytes)
        .map_err(failed)?;
    warn_of_weakness(path, &id, &bytes);
    parse_key(path, &bytes)
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

/// Bytes below which a key can be guessed. Ganeti's own keys have 40 hexadecimal digits.
const KEY_BYTES_STRONG: usize = 16;

/// Logs a warning for each property that makes the key a weak or a probably wrong one.
pub(super) fn warn_of_weakness(path: &Path, id: &FileId, bytes: &[u8]) {
    for weakness in weaknesses(id.permissions(), bytes) {
        tracing::warn!("HMAC key {} {weakness}", path.display());
    }
}

/// What is weak about the key `bytes` in a file with these `permissions`, each with its remedy.
fn weaknesses(permissions: u32, bytes: &[u8]) -> Vec<String> {
    const RENEW: &str =
        "renew it on the master node (gnt-cluster renew-crypto --new-confd-hmac-key)";
    const COPY: &str = "copy it again from the master node (gnt-cluster redist-conf)";
    let mut found = Vec::new();
    match bytes {
        // Refused.
        [] => {}
        _ if bytes.iter().all(u8::is_ascii_whitespace) => {
            found.push(format!(
                "has only white space, so anybody can sign: {RENEW}"
            ));
        }
        [first, rest @ ..] if rest.iter().all(|byte| byte == first) => {
            found.push(format!(
                "has only one byte value, so it can be guessed: {RENEW}"
            ));
        }
        _ if bytes.trim_ascii().len() < KEY_BYTES_STRONG => found.push(format!(
            "has fewer than {KEY_BYTES_STRONG} bytes, so it can be guessed: {RENEW}"
        )),
        _ => {}
    }
    if bytes.ends_with(b"\r\n") {
        found.push(format!(
            "ends with CR LF, and every byte counts, so no other host has it unless its file does: \
             {COPY}"
        ));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        found.push(format!(
            "starts with a byte order mark, which counts as part of it: {COPY}"
        ));
    }
    if permissions & 0o007 != 0 {
        found.push(format!(
            "has the mode {permissions:04o}, so every user of this host can use it: chmod 0440"
        ));
    }
    found
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

    #[test]
    fn weak_keys_are_recognized() {
        let strong = b"0123456789abcdef0123456789abcdef01234567\n";
        assert_eq!(weaknesses(0o440, strong), [""; 0]);
        for (permissions, bytes, part) in [
            (0o444, &strong[..], "has the mode 0444"),
            (0o602, strong, "has the mode 0602"),
            (0o400, b"k", "only one byte value"),
            (0o400, b"\n", "only white space"),
            (
                0o400,
                b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                "only one byte value",
            ),
            (0o400, b"secret\n", "fewer than 16 bytes"),
            (
                0o400,
                b"0123456789abcdef0123456789abcdef01234567\r\n",
                "ends with CR LF",
            ),
            (
                0o400,
                b"\xef\xbb\xbf0123456789abcdef0123456789",
                "byte order mark",
            ),
        ] {
            let found = weaknesses(permissions, bytes);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(part), "{found:?}");
        }
    }
}

//! The serial of the configuration file on this node, to compare with the serial that is served.
//!
//! A daemon that refuses a new file keeps the old configuration for a while. All candidates may do
//! so, and then their serials agree with each other but not with the file.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::clock;

/// How long the serials may differ before it is a problem: a daemon loads a new file within this
/// time.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(2);

/// A configuration file, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    /// Its serial, or why that is unknown.
    pub(super) serial: Result<i64, String>,
    /// How long ago it was changed or replaced, in whole seconds.
    pub(super) age_seconds: u64,
}

/// The part of a configuration that is needed here.
#[derive(Deserialize)]
struct Serial {
    serial_no: i64,
}

impl ConfigFile {
    /// Reads the file; `None` if there is none, as on a node that is not a master candidate.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let (serial, changed) = match open(path) {
            Ok(file) => {
                let changed = file.metadata().map_or(0, |data| data.ctime());
                let serial = serde_json::from_reader(BufReader::new(file));
                let serial = serial.map(|Serial { serial_no }| serial_no);
                (serial.map_err(|error| format!("invalid: {error}")), changed)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => (Err(error.to_string()), 0),
        };
        Some(Self {
            path: path.to_owned(),
            serial,
            age_seconds: clock::unix_seconds().saturating_sub(u64::try_from(changed).unwrap_or(0)),
        })
    }

    /// What is wrong if `served` is the newest serial that the candidates serve.
    pub(super) fn problem(&self, served: i64) -> Option<String> {
        let path = self.path.display();
        match &self.serial {
            Ok(serial) if *serial == served => None,
            Ok(serial) => Some(format!(
                "{path} has serial {serial}, but serial {served} is served"
            )),
            Err(why) => Some(format!("{path} cannot be compared: {why}")),
        }
    }

    /// Whether a daemon has had the time to load it.
    pub(super) fn is_settled(&self) -> bool {
        // Whole seconds: an age of 2 may be any time over 1 s.
        self.age_seconds > SETTLE_TIME.as_secs()
    }
}

/// Opens a regular file without blocking on a FIFO.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_is_that_of_the_whole_configuration() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.data");
        assert_eq!(ConfigFile::read(&path), None);
        std::fs::write(&path, r#"{"cluster": {"serial_no": 4}, "serial_no": 42}"#)
            .expect("written");
        let file = ConfigFile::read(&path).expect("it exists");
        assert_eq!(file.serial, Ok(42));
        assert!(!file.is_settled(), "{file:?}");
        assert_eq!(file.problem(42), None);
        let problem = file.problem(34).expect("they differ");
        assert!(problem.ends_with("config.data has serial 42, but serial 34 is served"));
        std::fs::write(&path, "{").expect("written");
        let file = ConfigFile::read(&path).expect("it exists");
        let problem = file.problem(34).expect("it is invalid");
        assert!(
            problem.contains("cannot be compared: invalid: "),
            "{problem}"
        );
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let file = ConfigFile::read(&path).expect("it exists");
        assert_eq!(file.serial, Err("it is not a regular file".to_owned()));
    }
}

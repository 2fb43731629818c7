//! Why `config.data` could not be loaded, in words for an administrator.

use std::fmt::Display;

use super::file::ReadError;
use super::memory::Shortage;
use crate::config;
use crate::printable::printable_start;
use crate::remedy::{Operation, reason, remedy};

/// Maximum length of the reported detail of an invalid file, in characters.
pub(super) const DETAIL_CHARS_MAX: usize = 1_000;

/// Error of loading `config.data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// The file could not be read.
    Unreadable(ReadError),
    /// The file was read, but is not a valid configuration.
    Invalid(config::Error),
}

impl LoadFailure {
    /// Returns one line with the file `path`, the cause and the remedy. Clients get the words of
    /// the reference instead.
    pub(super) fn explain(&self, path: &impl Display) -> String {
        /// The option that names another file.
        const OTHER: &str = "name another file with --config";
        let why = match self {
            Self::Invalid(error) => {
                return format!(
                    "{path} cannot be served: {}; restore it from the master node \
                     (gnt-cluster redist-conf)",
                    printable_start(&error.to_string(), DETAIL_CHARS_MAX)
                );
            }
            Self::Unreadable(why) => *why,
        };
        match why {
            _ if why.is_missing() => format!(
                "{path} does not exist; make sure that this node is a master candidate, or {OTHER}"
            ),
            ReadError::Stat(errno) | ReadError::Open(errno) | ReadError::Read(errno) => format!(
                "{path} cannot be read: {}; {}",
                reason(errno),
                remedy(Operation::ReadFile, errno)
            ),
            ReadError::Directory => format!("{path} is a directory; {OTHER}"),
            ReadError::NotRegular => format!("{path} is not a regular file; {OTHER}"),
            ReadError::TooLong { bytes, limit } => format!(
                "{path} has {bytes} bytes, more than the {limit} that can be served; {OTHER}"
            ),
            ReadError::Changing => format!("{path} was written to while it was read"),
            ReadError::Memory(Shortage {
                needed,
                available,
                limit,
            }) => format!(
                "loading {path} takes about {} MB of memory, and {limit} leaves {} MB; raise it",
                needed >> 20,
                available >> 20
            ),
            ReadError::Late => format!("{path} cannot be read: its storage does not respond"),
        }
    }
}

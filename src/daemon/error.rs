//! Why the daemon does not start.

use std::fmt;

/// One line for an administrator: what is wrong, with which thing, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Error(String);

impl Error {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

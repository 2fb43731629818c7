//! The error that prevents the daemon from starting.

use std::fmt;

/// One line for an administrator: what failed, for which file or option, and the remedy.
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

//! The error that prevents the daemon from starting, and the exit status that it causes.

use std::fmt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::reader::KeyError;
use crate::remedy::{Operation, lasts, reason, remedy};

/// The exit status if starting the daemon again does not help: the reference's status for an
/// invalid value, the wrong user or a missing key.
pub(super) const STATUS_LASTING: u8 = 1;
/// The exit status if starting the daemon again may help: `EX_TEMPFAIL` of sysexits.h.
pub(super) const STATUS_PASSING: u8 = 75;

/// One line for an administrator: what failed, for which file or option, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Error {
    text: String,
    lasting: bool,
}

impl Error {
    /// An error that may be gone at the next start.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            lasting: false,
        }
    }

    /// An error that lasts until somebody changes options, files or the host.
    pub(super) fn lasting(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            lasting: true,
        }
    }

    /// The error of a system call: `what` failed, like "cannot open the log file /a/b".
    pub(super) fn of_call(what: impl fmt::Display, operation: Operation, errno: Errno) -> Self {
        Self {
            text: format!("{what}: {}; {}", reason(errno), remedy(operation, errno)),
            lasting: lasts(errno),
        }
    }

    /// The error of loading the key.
    pub(super) fn of_key(error: &KeyError) -> Self {
        Self {
            text: error.to_string(),
            lasting: error.lasts(),
        }
    }

    /// Checks that the file at `path`, which does not exist, can be made: `what` fails otherwise.
    ///
    /// # Errors
    ///
    /// Its directory does not exist or is not writable.
    pub(super) fn unless_creatable(what: impl fmt::Display, path: &Path) -> Result<(), Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let needed = AccessFlags::W_OK | AccessFlags::X_OK;
        access(directory, needed).map_err(|errno| Self::of_call(what, Operation::WriteFile, errno))
    }

    /// The exit status of the process.
    pub(super) fn status(&self) -> u8 {
        if self.lasting {
            STATUS_LASTING
        } else {
            STATUS_PASSING
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

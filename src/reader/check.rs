//! A check: the watches of one file are renewed, then the file is identified.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{self, FileId, ReadError};
use super::watch::{self, Placed};

/// The result of a check.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Checked {
    /// The watches of the file, which were renewed before.
    pub(super) placed: Placed,
    /// The file's current version.
    pub(super) found: Result<FileId, ReadError>,
}

/// Watches the directories of the file `path` again, then identifies the file.
pub(super) fn check_here(inotify: Option<&OwnedFd>, path: &Path, limit: u64) -> Checked {
    let placed = inotify.map_or_else(Placed::default, |inotify| {
        watch::add_watches(inotify.as_fd(), path)
    });
    Checked {
        placed,
        found: file::stat(path, limit),
    }
}

//! Access to the disk: checks and reads of files, in another process.
//!
//! A thread that waits for a disk can be in an uninterruptible state, and a process does not end
//! before all its threads have ended. NFS and FUSE file systems whose server hangs, and failing
//! disks, keep it in that state for minutes or for good. So the daemon's own process never touches
//! its files after the start: a helper process ([`Helper`]) does, and the daemon's threads wait for
//! sockets. If there can be no helper, they wait for the disk.
//!
//! Everything here blocks, and runs on threads of its own.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::check::{Checked, check_here};
use super::file::{FileId, FileReader, Io, ReadError, Sink};
use super::helper::{Helper, Lost};

/// Attempts with a helper process before the calling thread accesses the disk itself.
const ATTEMPTS: usize = 2;

/// How files are accessed.
#[derive(Debug)]
pub(super) struct Storage {
    here: FileReader,
    helper: Option<Helper>,
}

impl Storage {
    /// Accesses files in this process.
    pub(super) fn here(io: Io) -> Self {
        Self {
            here: FileReader::new(io),
            helper: None,
        }
    }

    /// Accesses files in a helper process, which is started at the first access.
    pub(super) fn in_helper(io: Io) -> Self {
        Self {
            here: FileReader::new(io),
            helper: Some(Helper::new(io)),
        }
    }

    /// Watches the directories of the file `path` again, then identifies the file.
    pub(super) fn check(&self, inotify: Option<&OwnedFd>, path: &Path, limit: u64) -> Checked {
        self.through_helper(|helper| helper.check(inotify, path, limit))
            .unwrap_or_else(|| check_here(inotify, path, limit))
    }

    /// Reads the file `path` of at most `limit` bytes into a sink that `new_sink` makes. Logs why
    /// io_uring was not used, once for each cause.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub(super) fn read<S: Sink>(
        &self,
        path: &Path,
        limit: u64,
        new_sink: impl Fn() -> S,
    ) -> Result<(FileId, S), ReadError> {
        let mut causes = Vec::new();
        let read = self.through_helper(|helper| {
            let mut sink = new_sink();
            let (id, why) = helper.read(path, limit, &mut sink)?;
            causes = why;
            Ok(id.map(|id| (id, sink)))
        });
        let read = read.unwrap_or_else(|| {
            let mut sink = new_sink();
            let id = self.here.read_to(path, limit, &mut sink);
            causes = self.here.new_causes();
            id.map(|id| (id, sink))
        });
        for cause in causes {
            tracing::warn!("Reading {} with system calls: {cause}", path.display());
        }
        read
    }

    /// Tries `access` with a helper process; `None` if there is none, or it ends each time.
    fn through_helper<T>(&self, mut access: impl FnMut(&Helper) -> Result<T, Lost>) -> Option<T> {
        let helper = self.helper.as_ref()?;
        (0..ATTEMPTS).find_map(|_| access(helper).ok())
    }
}

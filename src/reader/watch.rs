//! Watches the directories of the files with inotify.
//!
//! A watch on a file does not survive its replacement by rename, so the directories are watched and
//! events are filtered by name. For a symbolic link, both the directory of the link and that of its
//! target are watched. Only the periodic poll detects changes of an intermediate link, a renamed
//! ancestor directory, and changes on file systems without events for remote writes.
//!
//! An inotify watch belongs to a directory's inode, not to its name. [`add_watches`] therefore adds
//! the watches of a file again before every check. An unchanged directory keeps its watch; a
//! replaced directory gets a new one. No change is missed: a later change causes an event, and the
//! check sees an earlier one. An event of a new watch that is read before [`Watch::renewed`] is
//! ignored, so a file whose watches changed is checked once more.
//!
//! Adding a watch can wait for the disk, so it is separate from [`Watch`]: it needs only the
//! inotify descriptor, and can run in another thread or process. Everything else does not wait.
//!
//! `IN_MODIFY` is not used. A program that writes in place closes the file when it is done, and a
//! partially written file is not worth reading.
//!
//! Source: `inotify(7)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use inotify::{EventMask, Inotify};
use rustix::fs::inotify::{WatchFlags, add_watch, remove_watch};
use serde::{Deserialize, Serialize};

use super::schedule::Hint;
use crate::remedy::{Operation, errno_of, reason, remedy};

const FLAGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Size of the event buffer in bytes. It holds at least 16 events with names of maximum length;
/// further events are returned by the next read.
const EVENT_BYTES: usize = 16 * (16 + 256);

/// Watches for a list of files, which are identified by their index.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` if inotify is not available.
    inotify: Option<Inotify>,
    files: Vec<Watched>,
}

/// The watches of one file.
#[derive(Debug, Default)]
struct Watched {
    places: Vec<Place>,
    /// Why the file cannot be watched, or that nothing was tried yet. An error is logged only when
    /// it changes.
    error: Option<String>,
}

/// A file name in a watched directory.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Place {
    /// The watch descriptor.
    directory: i32,
    name: OsString,
}

/// The result of [`add_watches`].
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Placed {
    places: Vec<Place>,
    error: Option<String>,
}

/// Watches the directories that `path` currently names, as far as this is possible. Can wait for
/// the disk.
pub(super) fn add_watches(inotify: BorrowedFd<'_>, path: &Path) -> Placed {
    let mut placed = Placed::default();
    let mut add = |path: &Path| match watch_place(inotify, path) {
        Ok(place) => placed.places.push(place),
        Err(e) => {
            let errno = errno_of(&e);
            let remedy = remedy(Operation::WatchDirectory, errno);
            placed.error = Some(format!("{}: {}; {remedy}", path.display(), reason(errno)));
        }
    };
    add(path);
    // A link is resolved after it is watched, so that every later change of it is an event.
    if let Ok(target) = path.canonicalize()
        && target != *path
    {
        add(&target);
    }
    placed
}

impl Watch {
    /// Prepares to watch `files` files. The first [`add_watches`] of each file starts it.
    pub(super) fn new(files: usize) -> Self {
        let inotify = Inotify::init()
            .inspect_err(|e| {
                let errno = errno_of(e);
                tracing::warn!(
                    "Cannot watch for changes ({}; {}), polling several times a second instead",
                    reason(errno),
                    remedy(Operation::WatchInstance, errno)
                );
            })
            .ok();
        Self {
            inotify,
            files: (0..files).map(|_| Watched::default()).collect(),
        }
    }

    /// Returns a descriptor that is readable when there are events, and to which watches are added.
    pub(super) fn descriptor(&self) -> Option<OwnedFd> {
        self.inotify.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// Whether every change of the file with the index `file` causes an event.
    pub(super) fn is_watched(&self, file: usize) -> bool {
        let file = &self.files[file];
        !file.places.is_empty() && file.error.is_none()
    }

    /// Takes the watches that were added for a file. Returns whether they changed. The file must
    /// then be checked again, because events may have been missed.
    pub(super) fn renewed(&mut self, file: usize, placed: Placed) -> bool {
        let watched = &mut self.files[file];
        if let Some(error) = &placed.error
            && watched.error.as_ref() != Some(error)
        {
            tracing::warn!(
                "Cannot watch the directory of {error}; polling several times a second instead"
            );
        }
        watched.error = placed.error;
        let old = std::mem::replace(&mut watched.places, placed.places);
        let moved = old != watched.places;
        for place in old {
            let directory = place.directory;
            let mut places = self.files.iter().flat_map(|file| &file.places);
            if let Some(inotify) = &self.inotify
                && !places.any(|place| place.directory == directory)
            {
                // Fails if the directory was removed, because the kernel then removed the watch.
                let _ = remove_watch(inotify, directory);
            }
        }
        moved
    }

    /// Reads pending events and calls `on_hint` with the index of each affected file and its hint.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] if there are no events. After any other error, no more
    /// events can be received.
    pub(super) fn read(&mut self, mut on_hint: impl FnMut(usize, Hint)) -> io::Result<()> {
        let Some(inotify) = &mut self.inotify else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let mut buffer = [0; EVENT_BYTES];
        for event in inotify.read_events(&mut buffer)? {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                (0..self.files.len()).for_each(|file| on_hint(file, Hint::Changed));
                continue;
            }
            let directory = event.wd.get_watch_descriptor_id();
            for (index, file) in self.files.iter().enumerate() {
                // An event without a name is about the directory itself and affects every file in
                // it.
                let is_here = |place: &&Place| {
                    place.directory == directory && event.name.is_none_or(|name| name == place.name)
                };
                file.places
                    .iter()
                    .filter(is_here)
                    .for_each(|_| on_hint(index, hint(event.mask)));
            }
        }
        Ok(())
    }
}

/// Watches the directory of `path`.
fn watch_place(inotify: BorrowedFd<'_>, path: &Path) -> io::Result<Place> {
    let (directory, name) = split(path)?;
    Ok(Place {
        directory: add_watch(inotify, directory, FLAGS)?,
        name: name.to_owned(),
    })
}

/// Splits `path` into directory and file name.
fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((directory, name))
}

fn hint(mask: EventMask) -> Hint {
    if mask.intersects(EventMask::CLOSE_WRITE | EventMask::MOVED_TO) {
        Hint::Changed
    } else if mask.intersects(EventMask::CREATE | EventMask::ATTRIB) {
        Hint::Touched
    } else {
        Hint::Moved
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A [`Watch`] with the paths of its files.
    struct Files {
        watch: Watch,
        paths: Vec<PathBuf>,
    }

    /// Starts to watch `paths`.
    fn watching(paths: Vec<PathBuf>) -> Files {
        let watch = Watch::new(paths.len());
        let mut files = Files { watch, paths };
        renew(&mut files);
        files
    }

    /// Adds the watches of every file, and returns the files whose watches changed.
    fn moved(files: &mut Files) -> Vec<usize> {
        let descriptor = files.watch.descriptor().expect("inotify");
        let mut moved = Vec::new();
        for (file, path) in files.paths.iter().enumerate() {
            let placed = add_watches(descriptor.as_fd(), path);
            if files.watch.renewed(file, placed) {
                moved.push(file);
            }
        }
        moved
    }

    /// The same, but returns whether every file is watched.
    fn renew(files: &mut Files) -> bool {
        moved(files);
        (0..files.paths.len()).all(|file| files.watch.is_watched(file))
    }

    /// Returns the pending hints of `watch`. The kernel queues an event before the system call that
    /// causes it returns.
    fn hints(files: &mut Files) -> Vec<Hint> {
        let mut all = Vec::new();
        loop {
            match files.watch.read(|_, hint| all.push(hint)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return all,
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[test]
    fn reports_events_of_the_watched_file_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.data");
        let other = dir.path().join("config.data.new");
        let mut watch = watching(vec![path.clone()]);

        fs::write(&other, "1").expect("written");
        assert_eq!(hints(&mut watch), []);
        fs::rename(&other, &path).expect("renamed");
        assert_eq!(hints(&mut watch), [Hint::Changed]);
        fs::write(&path, "2").expect("written");
        assert_eq!(hints(&mut watch), [Hint::Changed]);
        fs::rename(&path, &other).expect("renamed");
        assert_eq!(hints(&mut watch), [Hint::Moved]);
        fs::hard_link(&other, &path).expect("linked");
        assert_eq!(hints(&mut watch), [Hint::Touched]);
        fs::remove_file(&path).expect("removed");
        assert_eq!(hints(&mut watch).last(), Some(&Hint::Moved));
    }

    #[test]
    fn follows_the_directory_name_to_a_new_directory() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = parent.path().join("ganeti");
        fs::create_dir(&dir).expect("created");
        let path = dir.join("config.data");
        let mut watch = watching(vec![path.clone()]);
        assert!(renew(&mut watch));

        fs::rename(&dir, parent.path().join("old")).expect("renamed");
        assert_eq!(hints(&mut watch), [Hint::Moved]);
        assert!(!renew(&mut watch), "watched a missing directory");
        fs::write(parent.path().join("old/config.data"), "1").expect("written");
        assert_eq!(
            hints(&mut watch),
            [],
            "reported an event of the renamed directory"
        );

        fs::create_dir(&dir).expect("created");
        assert!(renew(&mut watch));
        fs::write(&path, "2").expect("written");
        assert_eq!(hints(&mut watch), [Hint::Touched, Hint::Changed]);
    }

    #[test]
    fn reports_the_files_whose_watch_changed() {
        let [gone, stays] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let path = gone.path().join("a");
        let mut watch = watching(vec![path.clone(), stays.path().join("b"), path]);
        assert!(moved(&mut watch).is_empty());
        let path = gone.path().to_owned();
        gone.close().expect("removed");
        assert_eq!(moved(&mut watch), [0, 2]);
        assert!(moved(&mut watch).is_empty());
        fs::create_dir(&path).expect("created");
        assert_eq!(moved(&mut watch), [0, 2]);
        fs::remove_dir(&path).expect("removed");
    }

    #[test]
    fn watches_a_symbolic_link_and_its_target() {
        let link_dir = tempfile::tempdir().expect("a directory");
        let real_dir = tempfile::tempdir().expect("a directory");
        let (link, real) = (link_dir.path().join("link"), real_dir.path().join("real"));
        fs::write(&real, "1").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        let mut watch = watching(vec![link.clone()]);

        fs::write(&real, "2").expect("written");
        assert_eq!(hints(&mut watch), [Hint::Changed]);
        fs::remove_file(&link).expect("removed");
        assert_eq!(hints(&mut watch), [Hint::Moved]);
        assert!(renew(&mut watch));
        fs::write(&real, "3").expect("written");
        assert_eq!(
            hints(&mut watch),
            [],
            "reported an event of the former target"
        );
    }

    #[test]
    fn a_queue_overflow_marks_every_file_as_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut watch = watching(vec![dir.path().join("a"), dir.path().join("b")]);
        let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
            .expect("a Linux kernel")
            .trim()
            .parse()
            .expect("a number");
        // The kernel merges equal consecutive events, so two names alternate.
        let names = ["x", "y"].map(|name| dir.path().join(name));
        for name in &names {
            fs::write(name, "").expect("written");
        }
        for i in 0..=limit {
            let name = &names[i % 2];
            fs::OpenOptions::new()
                .write(true)
                .open(name)
                .expect("opened");
        }
        let mut changed = [false; 2];
        while watch
            .watch
            .read(|file, hint| changed[file] |= hint == Hint::Changed)
            .is_ok()
        {}
        assert_eq!(changed, [true; 2]);
    }
}

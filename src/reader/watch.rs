//! Watches the directories of the files with inotify.
//!
//! A watch on a file does not survive its replacement by rename, so the directories are watched and
//! events are filtered by name. For a symbolic link, both the directory of the link and that of its
//! target are watched. Only the periodic poll detects changes of an intermediate link, a renamed
//! ancestor directory, and changes on file systems without events for remote writes.
//!
//! An inotify watch belongs to a directory's inode, not to its name. [`Watch::renew`] therefore
//! adds all watches again before every check. An unchanged directory keeps its watch; a replaced
//! directory gets a new one. No change is missed: a later change causes an event, and the check
//! sees an earlier one.
//!
//! `IN_MODIFY` is not used. A program that writes in place closes the file when it is done, and a
//! partially written file is not worth reading.
//!
//! Source: `inotify(7)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};

use super::schedule::Hint;
use crate::remedy::{Operation, errno_of, reason, remedy};

const MASK: WatchMask = WatchMask::CREATE
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::DELETE)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// Size of the event buffer in bytes. It holds at least 16 events with names of maximum length;
/// further events are returned by the next read.
const EVENT_BYTES: usize = 16 * (16 + 256);

/// Watches for a list of files, which are identified by their index.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` if inotify is not available.
    inotify: Option<Inotify>,
    paths: Vec<PathBuf>,
    places: Vec<Place>,
    /// Why a file cannot be watched. Logged only when it changes.
    watch_error: Option<String>,
}

/// A file name in a watched directory.
#[derive(Debug, PartialEq)]
struct Place {
    directory: WatchDescriptor,
    name: OsString,
    /// Index in [`Watch::paths`].
    file: usize,
}

impl Watch {
    /// Starts watching `paths`, as far as this is possible now.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
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
        let mut watch = Self {
            inotify,
            paths,
            places: Vec::new(),
            watch_error: None,
        };
        watch.renew(|_| ());
        watch
    }

    /// Returns a descriptor that is readable when there are events.
    pub(super) fn descriptor(&self) -> Option<OwnedFd> {
        self.inotify.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// Updates the watches to the directories that the paths currently name. Returns whether every
    /// file is watched.
    ///
    /// Calls `moved` with the index of each file whose watches changed. Such a file must be
    /// checked, because events of its new directory may have been missed.
    pub(super) fn renew(&mut self, mut moved: impl FnMut(usize)) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let mut watches = inotify.watches();
        let mut places = Vec::new();
        let mut watch_error = None;
        for (file, path) in self.paths.iter().enumerate() {
            let mut add = |path: &Path| match watch_place(&mut watches, path, file) {
                Ok(place) => places.push(place),
                Err(e) => {
                    let errno = errno_of(&e);
                    let remedy = remedy(Operation::WatchDirectory, errno);
                    watch_error = Some(format!("{}: {}; {remedy}", path.display(), reason(errno)));
                }
            };
            add(path);
            // A link is resolved after it is watched, so that every later change of it is an event.
            if let Ok(target) = path.canonicalize()
                && target != *path
            {
                add(&target);
            }
        }
        let old_places = std::mem::replace(&mut self.places, places);
        for file in 0..self.paths.len() {
            let old = old_places.iter().filter(|place| place.file == file);
            if !old.eq(self.places.iter().filter(|place| place.file == file)) {
                moved(file);
            }
        }
        for old in old_places {
            if !self.places.iter().any(|new| new.directory == old.directory) {
                // Fails if the directory was removed, because the kernel then removed the watch.
                let _ = watches.remove(old.directory);
            }
        }
        if let Some(error) = &watch_error
            && self.watch_error.as_ref() != Some(error)
        {
            tracing::warn!(
                "Cannot watch the directory of {error}; polling several times a second instead"
            );
        }
        self.watch_error = watch_error;
        self.watch_error.is_none()
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
                (0..self.paths.len()).for_each(|file| on_hint(file, Hint::Changed));
                continue;
            }
            // An event without a name is about the directory itself and affects every file in it.
            self.places
                .iter()
                .filter(|place| {
                    place.directory == event.wd && event.name.is_none_or(|name| name == place.name)
                })
                .for_each(|place| on_hint(place.file, hint(event.mask)));
        }
        Ok(())
    }
}

/// Watches the directory of `path`, which belongs to the file with the index `file`.
fn watch_place(watches: &mut Watches, path: &Path, file: usize) -> io::Result<Place> {
    let (directory, name) = split(path)?;
    Ok(Place {
        directory: watches.add(directory, MASK)?,
        name: name.to_owned(),
        file,
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

    use super::*;

    fn renew(watch: &mut Watch) -> bool {
        watch.renew(|_| ())
    }

    /// Returns the pending hints of `watch`. The kernel queues an event before the system call that
    /// causes it returns.
    fn hints(watch: &mut Watch) -> Vec<Hint> {
        let mut all = Vec::new();
        loop {
            match watch.read(|_, hint| all.push(hint)) {
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
        let mut watch = Watch::new(vec![path.clone()]);

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
        let mut watch = Watch::new(vec![path.clone()]);
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
        let mut watch = Watch::new(vec![path.clone(), stays.path().join("b"), path]);
        let moved = |watch: &mut Watch| {
            let mut files = Vec::new();
            watch.renew(|file| files.push(file));
            files
        };
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
        let mut watch = Watch::new(vec![link.clone()]);

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
        let mut watch = Watch::new(vec![dir.path().join("a"), dir.path().join("b")]);
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
            .read(|file, hint| changed[file] |= hint == Hint::Changed)
            .is_ok()
        {}
        assert_eq!(changed, [true; 2]);
    }
}

//! The directories of the watched files, through inotify.
//!
//! Files are replaced by rename, which a watch on the file itself would lose, so their directories are watched and events
//! are picked by name. A path that is a symbolic link is watched in two places, where the link is and where the file is.
//! Left to the safety poll are a change to a link in between, the renaming of a directory further up, and file systems
//! that do not tell of changes made elsewhere.
//!
//! A watch is on a directory's inode, not on its name. So [`Watch::renew`] asks for all watches again before every look:
//! it is the same watch if it is the same directory, and else a new one. A change after that is an event, a change
//! before it is seen by the look; none is missed.
//!
//! Not watched for: `IN_MODIFY`. A writer in place closes the file in the end, and half of a file is not worth reading.
//!
//! Source: `inotify(7)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use super::schedule::Hint;

const MASK: WatchMask = WatchMask::CREATE
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::DELETE)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// How many bytes of events are taken at a time: room for at least sixteen with the longest names. More come the next time.
const EVENT_BYTES: usize = 16 * (16 + 256);

/// Watches on some files, known by their index.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None`: the kernel refuses inotify.
    inotify: Option<Inotify>,
    paths: Vec<PathBuf>,
    places: Vec<Place>,
    /// What keeps a file from being watched; only said when it changes.
    trouble: Option<String>,
}

/// One name in one watched directory.
#[derive(Debug, PartialEq)]
struct Place {
    directory: WatchDescriptor,
    name: OsString,
    /// Of the file in [`Watch::paths`].
    file: usize,
}

impl Watch {
    /// Watches `paths`, as far as that is possible now.
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let inotify = Inotify::init()
            .inspect_err(|e| {
                tracing::warn!(
                    "Cannot watch for changes ({e}; is fs.inotify.max_user_instances too low?), \
                     looking for them several times a second instead"
                );
            })
            .ok();
        let mut watch = Self {
            inotify,
            paths,
            places: Vec::new(),
            trouble: None,
        };
        watch.renew(|_| ());
        watch
    }

    /// A descriptor that is readable when there are events.
    pub(super) fn descriptor(&self) -> Option<OwnedFd> {
        self.inotify.as_ref()?.as_fd().try_clone_to_owned().ok()
    }

    /// Watches the directories that the paths name now. Says whether every file is watched.
    ///
    /// Calls `moved` with the index of each file that is watched elsewhere now, or not at all: it needs a look, because
    /// what happened to its directory is not told any more.
    pub(super) fn renew(&mut self, mut moved: impl FnMut(usize)) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let mut watches = inotify.watches();
        let mut places = Vec::new();
        let mut trouble = None;
        for (file, path) in self.paths.iter().enumerate() {
            let mut add = |path: &Path| {
                let (directory, name) = split(path)?;
                let directory = watches.add(directory, MASK)?;
                places.push(Place {
                    directory,
                    name: name.to_owned(),
                    file,
                });
                io::Result::Ok(())
            };
            if let Err(e) = add(path) {
                trouble = Some(format!("{}: {e}", path.display()));
            }
            if let Ok(real) = path.canonicalize()
                && real != *path
                && let Err(e) = add(&real)
            {
                trouble = Some(format!("{}: {e}", real.display()));
            }
        }
        let old_places = std::mem::replace(&mut self.places, places);
        for file in 0..self.paths.len() {
            let of_file = |place: &&Place| place.file == file;
            if !old_places
                .iter()
                .filter(of_file)
                .eq(self.places.iter().filter(of_file))
            {
                moved(file);
            }
        }
        for old in old_places {
            if !self.places.iter().any(|new| new.directory == old.directory) {
                // It is gone already if its directory is.
                let _ = watches.remove(old.directory);
            }
        }
        if trouble.is_some() && trouble != self.trouble {
            let trouble = trouble.as_deref().unwrap_or_default();
            tracing::warn!(
                "Cannot watch the directory of {trouble}; looking several times a second instead"
            );
        }
        self.trouble = trouble;
        self.trouble.is_none()
    }

    /// Takes events, and calls `found` with the index of each file concerned and what may have happened to it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when there are none; others if watching does not work any more.
    pub(super) fn read(&mut self, mut found: impl FnMut(usize, Hint)) -> io::Result<()> {
        let Some(inotify) = &mut self.inotify else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let mut buffer = [0; EVENT_BYTES];
        for event in inotify.read_events(&mut buffer)? {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                (0..self.paths.len()).for_each(|file| found(file, Hint::Changed));
                continue;
            }
            // An event without a name is about the directory itself: it concerns all names in it.
            self.places
                .iter()
                .filter(|place| {
                    place.directory == event.wd && event.name.is_none_or(|name| name == place.name)
                })
                .for_each(|place| found(place.file, hint(event.mask)));
        }
        Ok(())
    }
}

/// The directory and the name of the file `path`.
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

    /// The hints that wait for file 0 of `watch`. Events are there when the system call that causes them returns.
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
    fn tells_what_happens_to_its_file_and_to_no_other() {
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
    fn follows_its_directory_s_name() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = parent.path().join("ganeti");
        fs::create_dir(&dir).expect("created");
        let path = dir.join("config.data");
        let mut watch = Watch::new(vec![path.clone()]);
        assert!(renew(&mut watch));

        fs::rename(&dir, parent.path().join("old")).expect("renamed");
        assert_eq!(hints(&mut watch), [Hint::Moved]);
        assert!(!renew(&mut watch), "there is no such directory");
        fs::write(parent.path().join("old/config.data"), "1").expect("written");
        assert_eq!(hints(&mut watch), [], "it is not ours any more");

        fs::create_dir(&dir).expect("created");
        assert!(renew(&mut watch));
        fs::write(&path, "2").expect("written");
        assert_eq!(hints(&mut watch), [Hint::Touched, Hint::Changed]);
    }

    #[test]
    fn says_which_files_lost_their_watch() {
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
    fn watches_both_ends_of_a_symbolic_link() {
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
        assert_eq!(hints(&mut watch), [], "no link leads to it");
    }

    #[test]
    fn a_lost_event_means_that_every_file_may_have_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut watch = Watch::new(vec![dir.path().join("a"), dir.path().join("b")]);
        let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
            .expect("a Linux kernel")
            .trim()
            .parse()
            .expect("a number");
        // Equal events in a row are merged, so two names take turns.
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

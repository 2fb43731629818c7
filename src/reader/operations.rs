//! Checks and loads of files, each on a thread of its own, and their outcomes.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::background::{BackgroundError, Priority, in_background};
use super::check::Checked;
use super::file::{FileId, ReadError, Sink};
use super::key::{KeyError, parse_key, warn_of_weakness};
use super::watch::Placed;
use super::{CONFIG, Reader, memory};
use crate::config;
use crate::protocol::Key;
use crate::snapshot::Loaded;

/// The end of a check or a load.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A check of the file with this index.
    Checked(usize, Checked),
    /// A load of `config.data`.
    Config(Result<ConfigLoad, ReadError>),
    /// A load of `hmac.key`.
    Key(KeyLoad),
}

/// Result of a load of `config.data` that read the file.
#[derive(Debug)]
pub(super) struct ConfigLoad {
    pub(super) id: FileId,
    pub(super) outcome: Result<Loaded, config::Error>,
    /// Duration of parsing and indexing, without reading.
    pub(super) took: Duration,
}

/// The text of `config.data`. It is not read if the load does not fit the memory that there is.
#[derive(Default)]
struct ConfigText(Vec<u8>);

impl Sink for ConfigText {
    fn begin(&mut self, id: &FileId) -> Result<(), ReadError> {
        memory::check(id.size()).map_err(ReadError::Memory)?;
        self.0.begin(id)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.0.take(bytes)
    }
}

/// Result of a load of `hmac.key`. The outer error means that the file could not be read, the inner
/// one that its content is not a usable key.
pub(super) type KeyLoad = Result<(FileId, Result<Key, KeyError>), ReadError>;

impl From<BackgroundError> for ReadError {
    fn from(error: BackgroundError) -> Self {
        match error {
            BackgroundError::NotStarted(errno) => Self::Read(errno),
            BackgroundError::Panicked => Self::Read(Errno::EIO),
        }
    }
}

impl Reader {
    /// Starts a check of a file: one renewal of its watches and one `stat`.
    pub(super) fn start_check(&mut self, file: usize) {
        let tracked = &mut self.tracked[file];
        tracked.begin_check(Instant::now());
        let (path, limit) = (tracked.path.clone(), tracked.limit);
        let (storage, sender) = (Arc::clone(&self.storage), self.sender.clone());
        let inotify = self.watch.descriptor();
        let work = move || storage.check(inotify.as_ref(), &path, limit);
        in_background(Priority::Normal, work, move |result| {
            let checked = result.unwrap_or_else(|error| Checked {
                placed: Placed::default(),
                found: Err(error.into()),
            });
            // Fails only while the daemon ends.
            let _ = sender.send(Outcome::Checked(file, checked));
        });
    }

    /// Starts a load of a file.
    pub(super) fn start_load(&mut self, file: usize) {
        self.tracked[file].begin_load(Instant::now());
        if file == CONFIG {
            self.start_config_load();
        } else {
            self.start_key_load(file);
        }
    }

    fn start_config_load(&mut self) {
        let tracked = &self.tracked[CONFIG];
        let (path, limit, load) = (tracked.path.clone(), tracked.limit, self.load);
        let (storage, sender) = (Arc::clone(&self.storage), self.sender.clone());
        let work = move || {
            let (id, text) = storage.read(&path, limit, ConfigText::default)?;
            let ConfigText(text) = text;
            let start = Instant::now();
            let outcome = catch_unwind(|| load(&text));
            let took = start.elapsed();
            // Free the text before the snapshot is published.
            drop(text);
            let outcome = outcome.unwrap_or_else(|_panic| {
                Err(config::Error {
                    path: String::new(),
                    what: "an internal error stopped the loader: please report it".into(),
                })
            });
            Ok(ConfigLoad { id, outcome, took })
        };
        in_background(Priority::Low, work, move |result| {
            let result = result.unwrap_or_else(|error| Err(error.into()));
            let _ = sender.send(Outcome::Config(result));
        });
    }

    fn start_key_load(&mut self, file: usize) {
        let (path, limit) = (self.tracked[file].path.clone(), self.tracked[file].limit);
        let (storage, sender) = (Arc::clone(&self.storage), self.sender.clone());
        let work = move || {
            let (id, bytes) = storage.read(&path, limit, Vec::new)?;
            warn_of_weakness(&path, &id, &bytes);
            Ok((id, parse_key(&path, &bytes)))
        };
        in_background(Priority::Normal, work, move |result| {
            let result = result.unwrap_or_else(|error| Err(error.into()));
            let _ = sender.send(Outcome::Key(result));
        });
    }
}

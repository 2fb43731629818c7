//! What the reader has done so far, for logs and metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::snapshot::Summary;

/// The reader's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What the configuration that is served is about; `None` while error answers are served.
    pub summary: Option<Summary>,
    /// The error that is answered in place of a configuration.
    pub unavailable: Option<String>,
    /// When the last good configuration was loaded.
    pub loaded_at: Option<SystemTime>,
    /// How long the last good configuration took to parse and index.
    pub load_time: Duration,
    /// How many times `config.data` was read whole, good or bad.
    pub loads: u64,
    /// How many times `config.data` could not be used, a missing file included.
    pub failures: u64,
    /// What was wrong with `config.data` at the last look; `None` if it is good.
    pub last_error: Option<String>,
    /// How many times another HMAC key was taken into use.
    pub key_changes: u64,
    /// What is wrong with `hmac.key`, if the key in use is an older one for that.
    pub key_error: Option<String>,
}

/// A [`Status`] that the reader keeps and others look at. Clones show the same one.
#[derive(Clone, Debug, Default)]
pub struct SharedStatus(Arc<Mutex<Status>>);

impl SharedStatus {
    /// A copy of the status as it is now.
    pub fn read(&self) -> Status {
        self.update(|status| status.clone())
    }

    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

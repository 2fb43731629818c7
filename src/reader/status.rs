//! State and counters of the reader, for logs and metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::snapshot::Summary;

/// The reader's state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Summary of the served configuration; `None` while error answers are served.
    pub summary: Option<Summary>,
    /// The error that is served instead of a configuration.
    pub unavailable: Option<String>,
    /// When the last valid configuration was loaded.
    pub loaded_at: Option<SystemTime>,
    /// How long parsing and indexing of the last valid configuration took.
    pub load_time: Duration,
    /// Number of complete reads of `config.data`, valid or not.
    pub loads: u64,
    /// Number of times `config.data` was unusable, including a missing file.
    pub failures: u64,
    /// Error of the last check of `config.data`; `None` if it is valid.
    pub last_error: Option<String>,
    /// Since when the last valid configuration has been served although `config.data` is unusable.
    pub kept_since: Option<SystemTime>,
    /// When that ends; `None` with a `kept_since`: when the file is repaired or removed.
    pub kept_until: Option<SystemTime>,
    /// Number of times the HMAC key was replaced.
    pub key_changes: u64,
    /// Error of `hmac.key`, if an older key is in use because of it.
    pub key_error: Option<String>,
}

/// Shared handle to the reader's [`Status`]. Clones refer to the same status.
#[derive(Clone, Debug, Default)]
pub struct SharedStatus(Arc<Mutex<Status>>);

impl SharedStatus {
    /// Returns a copy of the current status.
    pub fn read(&self) -> Status {
        self.update(|status| status.clone())
    }

    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

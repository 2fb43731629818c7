//! Watches `config.data` and `hmac.key`, loads them when they change, and publishes the result.
//!
//! ```text
//! watch       inotify events of the directories -> hints
//!   |
//! schedule    when to check and when to load (no I/O)
//!   |
//! file        stat and read; uring: through io_uring where that works
//!   |
//! background  read, parse and index, on a low-priority thread
//!   |
//! policy      what to serve and log (no I/O)
//!   |
//! Reader      swap the ArcSwap, wake the workers, free the old state once it is unused (retired)
//! ```
//!
//! Runs on the control plane. Invariants:
//!
//! * Only the reader changes the served state. It replaces key and configuration in one swap.
//! * Workers never free a snapshot: see `retired`.
//! * Loads of `config.data` run one at a time and at most once per second, or twice if the file
//!   was missing in between. The last change is always loaded: see `schedule`.
//! * At most one copy of the file's text exists. It is freed before the new snapshot is published.
//!   While a new snapshot is built the old one is still served, so two snapshots exist during that
//!   time.
//! * The control plane's thread never parses a configuration. It blocks on the disk only in `stat`.
//!
//! The reader does not define what a valid configuration is (see [`Snapshot::load`]), nor how a
//! client is answered without one (see [`Snapshot::unavailable`]).
//!
//! Source: `Ganeti.ConfigReader` of version 3.0.2, with the differences listed in the README.
#![forbid(unsafe_code)]

mod background;
pub(crate) mod failure;
pub(crate) mod file;
mod key;
mod once;
pub(crate) mod policy;
mod retired;
pub(crate) mod schedule;
mod status;
#[cfg_attr(
    not(feature = "tokio-uring"),
    allow(dead_code, reason = "nothing is read through io_uring")
)]
mod uring;
mod watch;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::io::unix::AsyncFd;

use crate::config;
use crate::protocol::{KEY_BYTES_MAX, Key};
use crate::responder::Served;
use crate::snapshot::{Loaded, Snapshot};

use background::{BackgroundError, background};
use file::{Contents, FileId, FileReader, ReadError};
use policy::{Decision, LoadFailure, Policy};
use retired::Retired;
use schedule::{Hint, Schedule, Step};
use watch::Watch;

pub use file::Io;
pub use key::{KeyError, load_key};
pub use once::{ConfigError, load_config};
pub use policy::KeepLastGood;
pub use status::{SharedStatus, Status};

/// Maximum size of `config.data` in bytes. Positions in the text are 32 bits wide, and one byte is
/// reserved for the end.
pub const CONFIG_BYTES_MAX: u64 = (1 << 31) - 1;

/// Interval of the checks without a hint, for changes that cause no event of a watched directory:
/// another mount, a replaced directory further up, a switched link in between, a writer that keeps
/// the file open, a write by another host. They are seen within a second. The reference uses 17 s.
const POLL: Duration = Duration::from_millis(900);

/// Interval of the checks of a file that cannot be watched, for example because its directory is
/// missing. Corresponds to the reference's poll mode.
const UNWATCHED_POLL: Duration = Duration::from_millis(250);

/// The files to read.
#[derive(Clone, Debug)]
pub struct Files {
    /// Path of `config.data`. Error answers contain it unchanged.
    pub config: PathBuf,
    /// Path of `hmac.key`.
    pub key: PathBuf,
    /// How long to serve the last good configuration once `config.data` is unusable.
    pub keep_last_good: KeepLastGood,
}

/// Builds a snapshot from a file's text. Always [`Snapshot::load`] outside of tests.
pub type LoadFn = fn(&[u8]) -> Result<Loaded, config::Error>;

/// Keeps the served state up to date with the files.
#[derive(Debug)]
pub struct Reader {
    files: Files,
    file_reader: Arc<FileReader>,
    load: LoadFn,
    poll: Duration,
    watch: Watch,
    /// Schedule of `config.data`.
    config: Schedule,
    /// Schedule of `hmac.key`.
    key: Schedule,
    policy: Policy,
    retired: Retired,
    status: SharedStatus,
}

impl Reader {
    /// Creates a reader and starts watching `files`. [`run`](Self::run) handles every later change.
    pub fn new(files: Files, io: Io) -> Self {
        let now = Instant::now();
        Self {
            file_reader: Arc::new(FileReader::new(io)),
            load: Snapshot::load,
            poll: POLL,
            // `schedule_of` depends on this order.
            watch: Watch::new(vec![files.config.clone(), files.key.clone()]),
            config: Schedule::new(now),
            key: Schedule::new(now),
            policy: Policy::new(files.config.display().to_string(), files.keep_last_good),
            retired: Retired::default(),
            status: SharedStatus::default(),
            files,
        }
    }

    /// Replaces the function that builds snapshots.
    #[must_use]
    pub fn with_load(mut self, load: LoadFn) -> Self {
        self.load = load;
        self
    }

    /// Replaces the interval of the checks without a hint.
    #[must_use]
    pub fn with_poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Returns a handle to the reader's status.
    pub fn status(&self) -> SharedStatus {
        self.status.clone()
    }

    /// Reads both files once and returns the initial state to serve.
    ///
    /// An invalid or missing configuration is not an error: it is served as error answers.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no usable key.
    pub async fn first_load(&mut self) -> Result<Served, KeyError> {
        let (id, key) = self
            .read_key()
            .await
            .map_err(|why| KeyError::unreadable(&self.files.key, why))?;
        self.key.loaded(Instant::now(), id);
        let key = Arc::new(key?);
        let snapshot = self
            .check_config(self.poll)
            .await
            .unwrap_or_else(|| Snapshot::unavailable("Configuration not yet loaded"));
        Ok(Served {
            key,
            snapshot: Arc::new(snapshot),
        })
    }

    /// Publishes every change of the files. Never returns.
    ///
    /// `wake` is called after each publication and must make every worker release the previous
    /// state. The returned future can be dropped at any time.
    pub async fn run(mut self, published: Arc<ArcSwap<Served>>, wake: impl Fn()) -> Infallible {
        let mut events = self.watch.descriptor().and_then(listen);
        loop {
            events = self.wait(events).await;
            self.retired.sweep(Instant::now());
            if let Some(snapshot) = self.pass_time() {
                let key = published.load().key.clone();
                let snapshot = Arc::new(snapshot);
                self.publish(Served { key, snapshot }, &published, &wake);
            }
            if self.config.next_check() <= Instant::now() {
                let poll = self.renew_watch(events.is_some());
                if let Some(snapshot) = self.check_config(poll).await {
                    let key = published.load().key.clone();
                    let snapshot = Arc::new(snapshot);
                    self.publish(Served { key, snapshot }, &published, &wake);
                }
            }
            if self.key.next_check() <= Instant::now() {
                let poll = self.renew_watch(events.is_some());
                let current = published.load_full();
                if let Some(key) = self.check_key(&current.key, poll).await {
                    let (key, snapshot) = (Arc::new(key), current.snapshot.clone());
                    drop(current);
                    self.publish(Served { key, snapshot }, &published, &wake);
                }
            }
        }
    }

    /// Replaces the served state, wakes the workers and retires the old state.
    fn publish(&mut self, new: Served, published: &ArcSwap<Served>, wake: &impl Fn()) {
        let old = published.swap(Arc::new(new));
        wake();
        self.retired.push(Instant::now(), old);
    }

    /// Waits for the next event or deadline, and records the hints of the events. Returns `None` if
    /// events can no longer be received.
    async fn wait(&mut self, events: Option<AsyncFd<OwnedFd>>) -> Option<AsyncFd<OwnedFd>> {
        let next_check = self.config.next_check().min(self.key.next_check());
        let others = [self.retired.next(), self.policy.deadline()];
        let deadline = others.into_iter().flatten().fold(next_check, Instant::min);
        let Some(events) = events else {
            tokio::time::sleep_until(deadline.into()).await;
            return None;
        };
        let mut ready = match tokio::time::timeout_at(deadline.into(), events.readable()).await {
            Err(_deadline) => return Some(events),
            Ok(Ok(ready)) => ready,
            Ok(Err(e)) => return stop_listening(&e),
        };
        let now = Instant::now();
        let (watch, config, key) = (&mut self.watch, &mut self.config, &mut self.key);
        let result = ready
            .try_io(|_| watch.read(|file, hint| schedule_of(file, config, key).hint(now, hint)));
        match result {
            // The outer error means that no events are pending.
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(e)) => return stop_listening(&e),
        }
        drop(ready);
        Some(events)
    }

    /// Updates the watches and returns the maximum time to the next check. `listening` is whether
    /// events can be received.
    fn renew_watch(&mut self, listening: bool) -> Duration {
        let now = Instant::now();
        let (config, key) = (&mut self.config, &mut self.key);
        let watched = self
            .watch
            .renew(|file| schedule_of(file, config, key).hint(now, Hint::Moved));
        if watched && listening {
            self.poll
        } else {
            self.poll.min(UNWATCHED_POLL)
        }
    }

    /// Lets the policy act on the passing of time, and returns the snapshot to publish, if any.
    fn pass_time(&mut self) -> Option<Snapshot> {
        let now = Instant::now();
        if self.policy.deadline().is_none_or(|due| now < due) {
            return None;
        }
        let decision = self.policy.pass(now);
        self.log_decision(&decision);
        decision.publish
    }

    /// Checks `config.data`, loads it if a load is due, and returns the snapshot to publish, if
    /// any.
    async fn check_config(&mut self, poll: Duration) -> Option<Snapshot> {
        let found = file::stat(&self.files.config, CONFIG_BYTES_MAX);
        let decision = match self.config.check(Instant::now(), found, poll) {
            Step::Wait => return None,
            Step::Report(why) => self
                .policy
                .failed(Instant::now(), LoadFailure::Unreadable(why)),
            Step::Load => self.load_config().await,
        };
        self.log_decision(&decision);
        decision.publish
    }

    /// Loads `config.data` and decides what to publish and log.
    async fn load_config(&mut self) -> Decision {
        let load = match self.read_config().await {
            Ok(load) => load,
            Err(why) => {
                let now = Instant::now();
                let report = self.config.read_failed(now, why);
                return report.map_or_else(Decision::default, |why| {
                    self.policy.failed(now, LoadFailure::Unreadable(why))
                });
            }
        };
        self.config.loaded(Instant::now(), load.id);
        self.status.update(|status| status.loads += 1);
        match load.outcome {
            Ok(loaded) => {
                self.log_loaded(&loaded.snapshot, load.took);
                self.policy.loaded(Instant::now(), loaded)
            }
            Err(error) => self
                .policy
                .failed(Instant::now(), LoadFailure::Invalid(error)),
        }
    }

    /// Checks `hmac.key`, reads it if a load is due, and returns it if it differs from `current`.
    async fn check_key(&mut self, current: &Key, poll: Duration) -> Option<Key> {
        let path = &self.files.key;
        let found = file::stat(path, KEY_BYTES_MAX);
        let result = match self.key.check(Instant::now(), found, poll) {
            Step::Wait => return None,
            Step::Report(why) => Err(KeyError::unreadable(path, why)),
            Step::Load => match self.read_key().await {
                Ok((id, key)) => {
                    self.key.loaded(Instant::now(), id);
                    key
                }
                Err(why) => match self.key.read_failed(Instant::now(), why) {
                    Some(why) => Err(KeyError::unreadable(path, why)),
                    None => return None,
                },
            },
        };
        match result {
            Ok(key) => {
                let changed = key != *current;
                self.log_key(changed);
                changed.then_some(key)
            }
            Err(error) => {
                self.log_bad_key(&error);
                None
            }
        }
    }

    /// Reads `hmac.key`. The outer error means that the file could not be read, the inner one that
    /// its content is not a usable key.
    async fn read_key(&self) -> Result<(FileId, Result<Key, KeyError>), ReadError> {
        let (file_reader, path) = (self.file_reader.clone(), self.files.key.clone());
        let read = background(move || {
            let Contents { id, bytes } = read(&file_reader, &path, KEY_BYTES_MAX)?;
            key::warn_of_weakness(&path, &id, &bytes);
            Ok((id, key::parse_key(&path, &bytes)))
        });
        read.await.unwrap_or_else(|error| Err(error.into()))
    }

    /// Reads, parses and indexes `config.data` on a background thread.
    async fn read_config(&self) -> Result<ConfigLoad, ReadError> {
        let (file_reader, path) = (self.file_reader.clone(), self.files.config.clone());
        let load = self.load;
        let read = background(move || {
            let Contents { id, bytes } = read(&file_reader, &path, CONFIG_BYTES_MAX)?;
            let start = Instant::now();
            let outcome = std::panic::catch_unwind(|| load(&bytes));
            let took = start.elapsed();
            // Free the text before the snapshot is published.
            drop(bytes);
            let outcome = outcome.unwrap_or_else(|_panic| {
                Err(config::Error {
                    path: String::new(),
                    what: "an internal error stopped the loader: please report it".into(),
                })
            });
            Ok(ConfigLoad { id, outcome, took })
        });
        read.await.unwrap_or_else(|error| Err(error.into()))
    }

    /// Logs a successful load and records it in the status.
    fn log_loaded(&self, snapshot: &Snapshot, took: Duration) {
        let summary = snapshot.summary();
        match &summary {
            Some(s) => tracing::info!(
                "Loaded new config, serial {} ({}: {} nodes, {} instances, {} disks; {} bytes of memory, {:.1} ms)",
                s.serial_no,
                s.cluster_name,
                s.nodes,
                s.instances,
                s.disks,
                s.bytes,
                took.as_secs_f64() * 1e3,
            ),
            None => tracing::info!("Loaded new config"),
        }
        self.status.update(|status| {
            status.summary = summary;
            status.unavailable = None;
            status.loaded_at = Some(SystemTime::now());
            status.load_time = took;
            status.last_error = None;
        });
    }

    /// Logs the warnings and the error of a decision and records them in the status.
    fn log_decision(&self, decision: &Decision) {
        for warning in &decision.warnings {
            tracing::warn!("{warning}");
        }
        if let Some(error) = &decision.error {
            tracing::error!("{error}");
        }
        let (now, wall) = (Instant::now(), SystemTime::now());
        let keeping = self.policy.keeping();
        self.status.update(|status| {
            if let Some(failure) = &decision.failure {
                status.failures += 1;
                status.last_error = Some(failure.clone());
            }
            status.kept_since = keeping.map(|kept| wall - now.duration_since(kept.since));
            status.kept_until = keeping.and_then(|kept| wall.checked_add(kept.until? - now));
            if let Some(answer) = &decision.unavailable {
                status.unavailable = Some(answer.clone());
                status.summary = None;
            }
        });
    }

    /// Logs and records a usable key, if it changed or was unusable before.
    fn log_key(&self, changed: bool) {
        let repaired = self.status.update(|status| {
            status.key_changes += u64::from(changed);
            status.key_error.take().is_some()
        });
        let path = self.files.key.display();
        if changed {
            tracing::info!("HMAC key {path} changed; the new key is in use");
        } else if repaired {
            tracing::info!("HMAC key {path} is usable again and is the key in use");
        }
    }

    /// Logs and records an unusable key. An error is logged once until it changes.
    fn log_bad_key(&self, error: &KeyError) {
        let error = error.to_string();
        let before = self
            .status
            .update(|status| status.key_error.replace(error.clone()));
        if before.as_ref() != Some(&error) {
            tracing::error!("{error}; the old key stays in use");
        }
    }
}

/// Returns the schedule of the file with the index `file` in the reader's [`Watch`].
fn schedule_of<'a>(
    file: usize,
    config: &'a mut Schedule,
    key: &'a mut Schedule,
) -> &'a mut Schedule {
    if file == 0 { config } else { key }
}

/// Result of a load of `config.data` that read the file.
struct ConfigLoad {
    id: FileId,
    outcome: Result<Loaded, config::Error>,
    /// Duration of parsing and indexing, without reading.
    took: Duration,
}

/// Reads the file `path`. Logs why io_uring was not used for it, once for each cause.
fn read(file_reader: &FileReader, path: &Path, limit: u64) -> Result<Contents, ReadError> {
    let contents = file_reader.read(path, limit);
    for cause in file_reader.new_causes() {
        tracing::warn!("Reading {} with system calls: {cause}", path.display());
    }
    contents
}

impl From<BackgroundError> for ReadError {
    fn from(error: BackgroundError) -> Self {
        match error {
            BackgroundError::NotStarted(errno) => Self::Read(errno),
            BackgroundError::Panicked => Self::Read(nix::errno::Errno::EIO),
        }
    }
}

/// Registers the inotify descriptor with the runtime. Returns `None` if that fails.
#[allow(
    deprecated,
    reason = "the replacement is an unsafe function; its requirement is met by an OwnedFd"
)]
fn listen(descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
        .map_err(|e| stop_listening(&e))
        .ok()
}

/// Logs that events cannot be received. The files are then polled.
fn stop_listening(error: &std::io::Error) -> Option<AsyncFd<OwnedFd>> {
    tracing::warn!(
        "Cannot receive file events ({error}); polling for changes several times a second instead"
    );
    None
}

//! Watches `config.data` and `hmac.key`, loads them when they change, and publishes the result.
//!
//! ```text
//! watch       inotify events of the directories -> hints
//!   |
//! tracked     one file: its schedule, and the check and the load that are running
//!   schedule    when to check and when to load (no I/O)
//!   |
//! operations  checks and loads, each on a thread (background)
//!   storage     access to the disk, in a helper process (helper, helper_process)
//!     check, file stat and read; uring: through io_uring where that works
//!   |
//! memory      whether a load fits
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
//! * The control plane's thread never parses a configuration and never waits for the disk. Neither
//!   does any other thread of this process, see `storage`, so the process can always end.
//! * A check or load of one file delays nothing else: not that of the other file, and no check
//!   waits for a load.
//!
//! The reader does not define what a valid configuration is (see [`Snapshot::load`]), nor how a
//! client is answered without one (see [`Snapshot::unavailable`]).
//!
//! Source: `Ganeti.ConfigReader` of version 3.0.2, with the differences listed in the README.
#![forbid(unsafe_code)]

mod background;
mod check;
pub(crate) mod failure;
pub(crate) mod file;
mod helper;
mod helper_process;
mod key;
mod log;
pub(crate) mod memory;
mod once;
mod operations;
pub(crate) mod policy;
mod retired;
pub(crate) mod schedule;
mod status;
mod storage;
mod tracked;
#[cfg_attr(
    not(feature = "tokio-uring"),
    allow(dead_code, reason = "nothing is read through io_uring")
)]
mod uring;
mod watch;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout_at;

use crate::config;
use crate::protocol::{KEY_BYTES_MAX, Key};
use crate::responder::Served;
use crate::snapshot::{Loaded, Snapshot};

use check::Checked;
use file::ReadError;
use operations::{ConfigLoad, KeyLoad, Outcome};
use policy::{Decision, LoadFailure, Policy};
use retired::Retired;
use schedule::{Hint, Step};
use storage::Storage;
use tracked::Tracked;
use watch::Watch;

pub use file::Io;
pub(crate) use helper::is_helper;
pub(crate) use helper_process::run as run_helper;
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

/// Longest wait for `config.data` before the daemon serves, with error answers if need be.
const FIRST_CONFIG_MAX: Duration = Duration::from_secs(10);

/// Longest wait for `hmac.key` at the start. Nothing can be answered without it.
const FIRST_KEY_MAX: Duration = Duration::from_secs(30);

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

/// Index of `config.data` in [`Reader::tracked`] and in the [`Watch`].
const CONFIG: usize = 0;

/// Index of `hmac.key`.
const KEY: usize = 1;

/// Keeps the served state up to date with the files.
#[derive(Debug)]
pub struct Reader {
    files: Files,
    storage: Arc<Storage>,
    load: LoadFn,
    poll: Duration,
    watch: Watch,
    /// The descriptor of `watch`, while events can be received.
    events: Option<AsyncFd<OwnedFd>>,
    tracked: [Tracked; 2],
    /// The key in use, after the first load.
    key: Option<Arc<Key>>,
    outcomes: UnboundedReceiver<Outcome>,
    /// The other end of `outcomes`, for the threads.
    sender: UnboundedSender<Outcome>,
    policy: Policy,
    retired: Retired,
    status: SharedStatus,
}

/// What must be published.
enum Change {
    Snapshot(Snapshot),
    Key(Arc<Key>),
}

impl Reader {
    /// Creates a reader of `files` that accesses them in this process.
    pub fn new(files: Files, io: Io) -> Self {
        let now = Instant::now();
        let (sender, outcomes) = unbounded_channel();
        Self {
            storage: Arc::new(Storage::here(io)),
            load: Snapshot::load,
            poll: POLL,
            watch: Watch::new(2),
            events: None,
            tracked: [
                Tracked::new(files.config.clone(), CONFIG_BYTES_MAX, now),
                Tracked::new(files.key.clone(), KEY_BYTES_MAX, now),
            ],
            key: None,
            outcomes,
            sender,
            policy: Policy::new(files.config.display().to_string(), files.keep_last_good),
            retired: Retired::default(),
            status: SharedStatus::default(),
            files,
        }
    }

    /// Accesses the files in a helper process, which this executable must be ready to be
    /// ([`is_helper`]).
    #[must_use]
    pub(crate) fn with_helper(mut self, io: Io) -> Self {
        self.storage = Arc::new(Storage::in_helper(io));
        self
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
    /// An invalid or missing configuration is not an error: it is served as error answers, and so
    /// is one that takes longer than ten seconds. [`run`](Self::run) continues such a load.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no usable key within thirty seconds.
    pub async fn first_load(&mut self) -> Result<Served, KeyError> {
        let start = Instant::now();
        self.start_load(KEY);
        self.start_check(CONFIG);
        let mut snapshot = None;
        let key = loop {
            let now = Instant::now();
            let is_late = now >= start + FIRST_CONFIG_MAX;
            if let Some(key) = &self.key
                && (snapshot.is_some() || is_late)
            {
                break Arc::clone(key);
            }
            if now >= start + FIRST_KEY_MAX {
                return Err(KeyError::unreadable(&self.files.key, ReadError::Late));
            }
            self.warn_of_slow(now);
            let limit = if is_late {
                FIRST_KEY_MAX
            } else {
                FIRST_CONFIG_MAX
            };
            let deadline = self
                .next_warning()
                .map_or(start + limit, |at| at.min(start + limit));
            let received = timeout_at(deadline.into(), self.outcomes.recv()).await;
            let Ok(Some(outcome)) = received else {
                continue;
            };
            match outcome {
                Outcome::Key(result) => self.first_key(result)?,
                other => {
                    if let Some(Change::Snapshot(new)) = self.handle(other) {
                        snapshot = Some(new);
                    }
                }
            }
        };
        let snapshot =
            snapshot.unwrap_or_else(|| Snapshot::unavailable("Configuration not yet loaded"));
        Ok(Served {
            key,
            snapshot: Arc::new(snapshot),
        })
    }

    fn first_key(&mut self, result: KeyLoad) -> Result<(), KeyError> {
        let tracked = &mut self.tracked[KEY];
        tracked.load = None;
        let (id, key) = result.map_err(|why| KeyError::unreadable(&tracked.path, why))?;
        tracked.schedule.loaded(Instant::now(), id);
        self.key = Some(Arc::new(key?));
        Ok(())
    }

    /// Publishes every change of the files. Never returns.
    ///
    /// `wake` is called after each publication and must make every worker release the previous
    /// state. The returned future can be dropped at any time.
    pub async fn run(mut self, published: Arc<ArcSwap<Served>>, wake: impl Fn()) -> Infallible {
        self.events = self.watch.descriptor().and_then(listen);
        loop {
            let now = Instant::now();
            self.retired.sweep(now);
            self.warn_of_slow(now);
            if let Some(snapshot) = self.pass_time() {
                self.publish(Change::Snapshot(snapshot), &published, &wake);
            }
            for file in [CONFIG, KEY] {
                if self.tracked[file].next_check().is_some_and(|at| at <= now) {
                    self.start_check(file);
                }
            }
            if let Some(change) = self.next_change().await {
                self.publish(change, &published, &wake);
            }
        }
    }

    /// Replaces a part of the served state, wakes the workers and retires the old state.
    fn publish(&mut self, change: Change, published: &ArcSwap<Served>, wake: &impl Fn()) {
        let current = published.load();
        let new = match change {
            Change::Snapshot(snapshot) => Served {
                key: Arc::clone(&current.key),
                snapshot: Arc::new(snapshot),
            },
            Change::Key(key) => Served {
                key,
                snapshot: Arc::clone(&current.snapshot),
            },
        };
        drop(current);
        let old = published.swap(Arc::new(new));
        wake();
        self.retired.push(Instant::now(), old);
    }

    /// Waits for an outcome, events, or the next deadline. Returns what an outcome changed.
    async fn next_change(&mut self) -> Option<Change> {
        let deadlines = [
            self.tracked[CONFIG].next_check(),
            self.tracked[KEY].next_check(),
            self.next_warning(),
            self.retired.next(),
            self.policy.deadline(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + POLL);
        tokio::select! {
            Some(outcome) = self.outcomes.recv() => self.handle(outcome),
            () = readable(&mut self.events) => {
                self.read_events();
                None
            }
            () = tokio::time::sleep_until(deadline.into()) => None,
        }
    }

    /// Records the hints of the pending events.
    fn read_events(&mut self) {
        let now = Instant::now();
        let (watch, tracked) = (&mut self.watch, &mut self.tracked);
        match watch.read(|file, hint| tracked[file].hint(now, hint)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => self.events = stop_listening(&e),
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

    /// Handles the end of a check or load, and returns what must be published.
    fn handle(&mut self, outcome: Outcome) -> Option<Change> {
        match outcome {
            Outcome::Checked(file, checked) => self.checked(file, checked),
            Outcome::Config(load) => {
                let decision = self.config_loaded(load)?;
                self.log_decision(&decision);
                decision.publish.map(Change::Snapshot)
            }
            Outcome::Key(load) => self.key_loaded(load).map(Change::Key),
        }
    }

    /// Handles the result of a check: starts a load if one is due, or reports an error.
    fn checked(&mut self, file: usize, checked: Checked) -> Option<Change> {
        let now = Instant::now();
        let moved = self.watch.renewed(file, checked.placed);
        // Every change then causes an event.
        let is_watched = self.watch.is_watched(file) && self.events.is_some();
        let poll = if is_watched {
            self.poll
        } else {
            self.poll.min(UNWATCHED_POLL)
        };
        let step = self.tracked[file].checked(now, checked.found, poll);
        if moved && is_watched {
            self.tracked[file].hint(now, Hint::Moved);
        }
        match step {
            Step::Wait => None,
            Step::Load => {
                self.start_load(file);
                None
            }
            Step::Report(why) if file == KEY => {
                self.log_bad_key(&KeyError::unreadable(&self.files.key, why));
                None
            }
            Step::Report(why) => {
                let decision = self.policy.failed(now, LoadFailure::Unreadable(why));
                self.log_decision(&decision);
                decision.publish.map(Change::Snapshot)
            }
        }
    }

    /// Decides what to publish and log after a load of `config.data`.
    fn config_loaded(&mut self, load: Result<ConfigLoad, ReadError>) -> Option<Decision> {
        let now = Instant::now();
        let tracked = &mut self.tracked[CONFIG];
        tracked.load = None;
        let load = match load {
            Ok(load) => load,
            Err(why) => {
                let why = tracked.schedule.read_failed(now, why)?;
                return Some(self.policy.failed(now, LoadFailure::Unreadable(why)));
            }
        };
        self.status.update(|status| status.loads += 1);
        if tracked.schedule.has_vanished() {
            // It vanished during the load, and that was reported.
            tracked.schedule.load_discarded(now);
            return None;
        }
        tracked.schedule.loaded(now, load.id);
        Some(match load.outcome {
            Ok(loaded) => {
                self.log_loaded(&loaded.snapshot, load.took);
                self.policy.loaded(now, loaded)
            }
            Err(error) => self.policy.failed(now, LoadFailure::Invalid(error)),
        })
    }

    /// Returns the key after a load of `hmac.key`, if it changed.
    fn key_loaded(&mut self, load: KeyLoad) -> Option<Arc<Key>> {
        let now = Instant::now();
        let tracked = &mut self.tracked[KEY];
        tracked.load = None;
        let result = match load {
            Ok((id, key)) => {
                tracked.schedule.loaded(now, id);
                key
            }
            Err(why) => {
                let why = tracked.schedule.read_failed(now, why)?;
                Err(KeyError::unreadable(&tracked.path, why))
            }
        };
        match result {
            Ok(key) => {
                let changed = self.key.as_deref() != Some(&key);
                self.log_key(changed);
                changed.then(|| Arc::clone(self.key.insert(Arc::new(key))))
            }
            Err(error) => {
                self.log_bad_key(&error);
                None
            }
        }
    }

    /// Warns of each check and load that takes long.
    fn warn_of_slow(&mut self, now: Instant) {
        for tracked in &mut self.tracked {
            tracked.warn_of_slow(now);
        }
    }

    /// The time of the next such warning.
    fn next_warning(&self) -> Option<Instant> {
        self.tracked.iter().filter_map(Tracked::next_warning).min()
    }
}

/// Waits until there may be events; forever if none can be received.
async fn readable(events: &mut Option<AsyncFd<OwnedFd>>) {
    let Some(listening) = events else {
        return std::future::pending().await;
    };
    match listening.readable().await {
        // The events are read next. If there are more afterwards, the descriptor becomes readable
        // again.
        Ok(mut ready) => ready.clear_ready(),
        Err(e) => *events = stop_listening(&e),
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

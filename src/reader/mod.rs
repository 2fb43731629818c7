//! From files to what is served: watches `config.data` and `hmac.key`, loads them when they change, and publishes.
//!
//! ```text
//! watch      inotify on the directories -> hints        file       stat and read, through io_uring or system calls
//!   |                                                     ^
//! schedule   when to look, when to load (pure) -----------+
//!   |                                                     v
//! policy     what is served now (pure) <------------- background   parse and index, on a nicer thread
//!   |
//! Reader     one swap of the ArcSwap, wake the workers, free the old one when they let go (retired)
//! ```
//!
//! Runs on the control plane. Invariants:
//!
//! * What is served changes in one swap, key and configuration together, and only here.
//! * A worker never frees a snapshot: see `retired`.
//! * One load at a time, and at most one a second; the last change is always loaded: see `schedule`.
//! * At most one copy of the file's text exists, and it is freed before the new snapshot is published. While a new snapshot
//!   is made the old one is served on, so for that long there are two.
//! * The control plane's thread never parses, and waits for a disk in `stat` only.
//!
//! It does not decide what a configuration is ([`Snapshot::load`]) nor what a bad one means to a client (the snapshot).
//!
//! Source: `Ganeti.ConfigReader` of version 3.0.2, with the differences that the README lists.
#![forbid(unsafe_code)]

mod background;
pub(crate) mod file;
mod key;
pub(crate) mod policy;
mod retired;
pub(crate) mod schedule;
mod status;
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
use file::{FileId, ReadError};
use policy::{Decision, LoadFailure, Policy};
use retired::Retired;
use schedule::{Hint, Schedule, Step};
use watch::Watch;

pub use key::{KeyError, load_key};
pub use status::{SharedStatus, Status};

/// The longest `config.data` that is loaded, in bytes: positions in it are 32 bits wide, and one byte is left for the end.
pub const CONFIG_BYTES_MAX: u64 = (1 << 31) - 1;

/// How often a file is looked at although nothing was heard of it, for file systems that tell nothing (a change made by
/// another host, some overlays). The reference takes 17 s; one `stat` in 15 s costs nothing.
const POLL: Duration = Duration::from_secs(15);

/// How often a file is looked at that cannot be watched now, as when its directory is missing. The reference's poll mode.
const UNWATCHED_POLL: Duration = Duration::from_millis(250);

/// What is read.
#[derive(Clone, Debug)]
pub struct Files {
    /// `config.data`. Error answers name it as it stands here.
    pub config: PathBuf,
    /// `hmac.key`.
    pub key: PathBuf,
    /// What a bad `config.data` does.
    pub on_bad_config: OnBadConfig,
}

/// What is served after a configuration that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadConfig {
    /// The last good one, until the file is repaired or goes away.
    #[default]
    KeepLast,
    /// The error, as the reference does.
    Error,
}

/// How files are read. Which of them works depends on the runtime that runs the [`Reader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Through the ring of a tokio-uring runtime.
    Uring,
    /// With plain system calls on a thread of their own, on any tokio runtime with I/O and time.
    Blocking,
}

/// Makes a snapshot of a file's text; [`Snapshot::load`] outside of tests.
pub type LoadFn = fn(&[u8]) -> Result<Loaded, config::Error>;

/// Keeps what is served up to date with the files.
#[derive(Debug)]
pub struct Reader {
    files: Files,
    io: Io,
    load: LoadFn,
    poll: Duration,
    watch: Watch,
    /// The schedules of `config.data` and `hmac.key`.
    config: Schedule,
    key: Schedule,
    policy: Policy,
    retired: Retired,
    status: SharedStatus,
}

impl Reader {
    /// Starts to watch `files`. Whatever happens to them from now on is noticed by [`run`](Self::run).
    pub fn new(files: Files, io: Io) -> Self {
        let now = Instant::now();
        Self {
            io,
            load: Snapshot::load,
            poll: POLL,
            // In the order that `schedule_of` knows.
            watch: Watch::new(vec![files.config.clone(), files.key.clone()]),
            config: Schedule::new(now),
            key: Schedule::new(now),
            policy: Policy::new(files.config.display().to_string(), files.on_bad_config),
            retired: Retired::default(),
            status: SharedStatus::default(),
            files,
        }
    }

    /// The same with another loader.
    #[must_use]
    pub fn with_load(mut self, load: LoadFn) -> Self {
        self.load = load;
        self
    }

    /// The same with another interval of the safety poll.
    #[must_use]
    pub fn with_poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Where to see what the reader did.
    pub fn status(&self) -> SharedStatus {
        self.status.clone()
    }

    /// Reads both files once, for serving to start. A bad or missing configuration is no obstacle: it is served as errors.
    ///
    /// # Errors
    ///
    /// There is no usable key.
    pub async fn first_load(&mut self) -> Result<Served, KeyError> {
        let (id, key) = key::reload_key(self.io, &self.files.key)
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

    /// Publishes what changes, for ever. `wake` is called after each publication, and makes every worker drop what it
    /// holds of the one before. May be dropped at any time.
    pub async fn run(mut self, published: Arc<ArcSwap<Served>>, wake: impl Fn()) -> Infallible {
        let mut events = self.watch.descriptor().and_then(listen);
        loop {
            events = self.wait(events).await;
            self.retired.sweep(Instant::now());
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

    fn publish(&mut self, new: Served, published: &ArcSwap<Served>, wake: &impl Fn()) {
        let old = published.swap(Arc::new(new));
        wake();
        self.retired.push(Instant::now(), old);
    }

    /// Waits for the next event or deadline, and takes note of the events. Returns `events` if they still come.
    async fn wait(&mut self, events: Option<AsyncFd<OwnedFd>>) -> Option<AsyncFd<OwnedFd>> {
        let looks = self.config.next_check().min(self.key.next_check());
        let deadline = self.retired.next().map_or(looks, |next| next.min(looks));
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
        let taken = ready
            .try_io(|_| watch.read(|file, hint| schedule_of(file, config, key).hint(now, hint)));
        match taken {
            // There were events, or there are none any more.
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(e)) => return stop_listening(&e),
        }
        drop(ready);
        Some(events)
    }

    /// Watches what the paths name now, and says how long the next look may take if nothing is heard.
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

    /// Looks at `config.data`, loads it if it is time to, and returns what is to be published.
    async fn check_config(&mut self, poll: Duration) -> Option<Snapshot> {
        let found = file::stat(&self.files.config, CONFIG_BYTES_MAX);
        let verdict = match self.config.check(Instant::now(), found, poll) {
            Step::Wait => return None,
            Step::Report(why) => self.policy.failed(LoadFailure::Unreadable(why)),
            Step::Load => match load_config(self.io, &self.files.config, self.load).await {
                Ok(judged) => {
                    self.config.loaded(Instant::now(), judged.id);
                    self.status.update(|status| status.loads += 1);
                    match judged.outcome {
                        Ok(loaded) => {
                            self.log_success(&loaded.snapshot, judged.took);
                            self.policy.loaded(loaded)
                        }
                        Err(error) => self.policy.failed(LoadFailure::Invalid(error)),
                    }
                }
                Err(why) => {
                    self.config.read_failed(Instant::now(), why);
                    self.policy.failed(LoadFailure::Unreadable(why))
                }
            },
        };
        self.log_decision(&verdict);
        verdict.publish
    }

    /// Looks at `hmac.key`, reads it if it is time to, and returns it if it is another than `current`.
    async fn check_key(&mut self, current: &Key, poll: Duration) -> Option<Key> {
        let path = &self.files.key;
        let found = file::stat(path, KEY_BYTES_MAX);
        let result = match self.key.check(Instant::now(), found, poll) {
            Step::Wait => return None,
            Step::Report(why) => Err(KeyError::unreadable(path, why)),
            Step::Load => match key::reload_key(self.io, path).await {
                Ok((id, key)) => {
                    self.key.loaded(Instant::now(), id);
                    key
                }
                Err(why) => {
                    self.key.read_failed(Instant::now(), why);
                    Err(KeyError::unreadable(path, why))
                }
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

    fn log_success(&self, snapshot: &Snapshot, took: Duration) {
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

    fn log_decision(&self, verdict: &Decision) {
        for warning in &verdict.warnings {
            tracing::warn!("{}: {warning}", self.files.config.display());
        }
        if let Some(error) = &verdict.error {
            tracing::error!("{error}");
        }
        self.status.update(|status| {
            if let Some(error) = &verdict.error {
                status.failures += 1;
                status.last_error = Some(error.clone());
            }
            if let Some(answer) = &verdict.unavailable {
                status.unavailable = Some(answer.clone());
                status.summary = None;
            }
        });
    }

    fn log_key(&self, changed: bool) {
        let repaired = self.status.update(|status| {
            status.key_changes += u64::from(changed);
            status.key_error.take().is_some()
        });
        let path = self.files.key.display();
        if changed {
            tracing::info!("HMAC key {path} changed; the new one is used from now on");
        } else if repaired {
            tracing::info!("HMAC key {path} is usable again, and the one in use");
        }
    }

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

/// The schedule of the file with the index `file` in the reader's [`Watch`].
fn schedule_of<'a>(
    file: usize,
    config: &'a mut Schedule,
    key: &'a mut Schedule,
) -> &'a mut Schedule {
    if file == 0 { config } else { key }
}

/// A `config.data` that was read and judged.
struct ConfigLoad {
    id: FileId,
    outcome: Result<Loaded, config::Error>,
    /// How long judging took, without reading.
    took: Duration,
}

/// Reads `path` on this thread and judges it on another.
async fn load_config(io: Io, path: &Path, load: LoadFn) -> Result<ConfigLoad, ReadError> {
    let file::Contents { id, bytes } = file::read(io, path, CONFIG_BYTES_MAX).await?;
    let judge = move || {
        let start = Instant::now();
        let outcome = load(&bytes);
        let took = start.elapsed();
        // The text is gone before its snapshot is published.
        drop(bytes);
        ConfigLoad { id, outcome, took }
    };
    background(judge).await.or_else(|aborted| match aborted {
        BackgroundError::NotStarted(errno) => Err(ReadError::Read(errno)),
        BackgroundError::Panicked => Ok(ConfigLoad {
            id,
            outcome: Err(config::Error {
                path: String::new(),
                what: "an internal error stopped the loader: please report it".into(),
            }),
            took: Duration::ZERO,
        }),
    })
}

#[allow(
    deprecated,
    reason = "its successor is an unsafe function, which asks for what an OwnedFd keeps by itself"
)]
fn listen(descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
        .map_err(|e| stop_listening(&e))
        .ok()
}

/// What remains when events cannot be received: looking.
fn stop_listening(error: &std::io::Error) -> Option<AsyncFd<OwnedFd>> {
    tracing::warn!(
        "Cannot receive file events ({error}); looking for changes several times a second instead"
    );
    None
}

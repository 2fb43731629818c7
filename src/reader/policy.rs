//! Decides what is served and logged after each check of `config.data`. Performs no I/O: the caller
//! passes in the time.
//!
//! | state of the file     | a valid one is served                        | otherwise     |
//! |-----------------------|----------------------------------------------|---------------|
//! | valid                 | serve it                                     | serve it      |
//! | invalid or unreadable | keep the last valid one for [`KeepLastGood`] | error answers |
//! | missing               | error answers                                | error answers |
//!
//! Ganeti removes `config.data` from a node that is no longer a master candidate. Such a node must
//! not keep answering from an outdated configuration, so a missing file always discards the last
//! valid one. When a file counts as missing is decided by [`schedule`](super::schedule).
//!
//! Invariants:
//!
//! * Every change of what is served is logged: an error at level ERROR, an old configuration at
//!   level WARNING.
//! * The log grows by a bounded number of lines per check, and by one reminder per
//!   [`REMINDER_MAX`] at most while nothing changes.
//!
//! Source of the error answers: `Ganeti.ConfigReader` (`loadConfig`, `updateConfig`), version
//! 3.0.2. The text after `parsing configuration: ` is our own.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::failure::DETAIL_CHARS_MAX;
pub use super::failure::LoadFailure;
use super::file::ReadError;
use super::memory::Shortage;
use crate::printable::printable_start;
use crate::snapshot::{Loaded, Snapshot};

/// Maximum length of a logged cluster name, in characters. DNS names have at most 253.
const NAME_CHARS_MAX: usize = 253;

/// Time from the start of keeping to the first reminder. The time to each following reminder
/// doubles.
const REMINDER_FIRST: Duration = Duration::from_secs(60);

/// Maximum time between two reminders.
const REMINDER_MAX: Duration = Duration::from_secs(3_600);

/// Minimum time for which an incompletely written file does not count as unusable. It is read again
/// after one second.
const INCOMPLETE_MAX: Duration = Duration::from_secs(5);

/// How long the last valid configuration is served once `config.data` is invalid or unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepLastGood {
    /// For this time. Zero: not at all, like the reference. A time beyond the clock's range counts
    /// as [`Forever`](Self::Forever).
    For(Duration),
    /// Until the file is repaired or removed.
    Forever,
}

impl Default for KeepLastGood {
    /// 300 seconds: the age up to which the protocol takes a message for a current one.
    fn default() -> Self {
        Self::For(Duration::from_secs(300))
    }
}

/// What to publish and log after a check.
#[derive(Debug, Default)]
pub struct Decision {
    /// The snapshot to publish; `None` to keep the current one.
    pub publish: Option<Snapshot>,
    /// The error answer in `publish`, if it holds one.
    pub unavailable: Option<String>,
    /// The failure to count, if the check failed in a new way.
    pub failure: Option<String>,
    /// The warnings to log.
    pub warnings: Vec<String>,
    /// The error to log: from now on, it is the answer to every query.
    pub error: Option<String>,
}

/// The time during which the last valid configuration is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// When the file became unusable.
    pub since: Instant,
    /// When error answers begin; `None`: never.
    pub until: Option<Instant>,
}

/// What is served.
#[derive(Debug)]
enum State {
    /// This error, or the initial one.
    Unavailable(Option<String>),
    /// The content of the file.
    Current,
    /// The last valid content, because the file is unusable.
    Kept {
        keeping: Keeping,
        remind_at: Instant,
        remind_after: Duration,
    },
}

/// The serial and the cluster name of a configuration.
#[derive(Debug)]
struct Identity {
    serial: String,
    cluster: String,
}

/// State kept between checks of `config.data`.
#[derive(Debug)]
pub struct Policy {
    /// The path of `config.data` as configured by the administrator.
    path: String,
    keep: KeepLastGood,
    state: State,
    /// The error answer of the last check, if it failed. Answers are compared instead of failures,
    /// so that a missing file is reported once, whether `stat` or `open` detects it.
    last_answer: Option<String>,
    /// The same failure in words for the log.
    explanation: String,
    /// The last valid configuration, served or not.
    last_loaded: Option<Identity>,
    /// The warnings of the last load.
    warnings: Vec<String>,
}

impl Policy {
    /// Creates the policy for the file `path`, before its first check.
    pub fn new(path: String, keep: KeepLastGood) -> Self {
        Self {
            path,
            keep,
            state: State::Unavailable(None),
            last_answer: None,
            explanation: String::new(),
            last_loaded: None,
            warnings: Vec::new(),
        }
    }

    /// Returns since when and until when the last valid configuration is kept, if it is.
    pub fn keeping(&self) -> Option<Keeping> {
        match self.state {
            State::Kept { keeping, .. } => Some(keeping),
            State::Unavailable(_) | State::Current => None,
        }
    }

    /// Returns the time of the next call of [`pass`](Self::pass), if one is due without a check.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Kept {
                keeping, remind_at, ..
            } => Some(keeping.until.map_or(remind_at, |end| end.min(remind_at))),
            State::Unavailable(_) | State::Current => None,
        }
    }

    /// Handles a successful load.
    pub fn loaded(&mut self, now: Instant, loaded: Loaded) -> Decision {
        let mut decision = Decision::default();
        if let State::Kept { keeping, .. } = self.state {
            decision.warnings.push(format!(
                "{} is usable again, after {} in which the last good configuration was served",
                self.path,
                shown(now - keeping.since)
            ));
        }
        self.state = State::Current;
        self.last_answer = None;
        self.compare_with_last(&loaded.snapshot, &mut decision.warnings);
        if loaded.warnings != self.warnings {
            let lines = loaded.warnings.iter();
            decision
                .warnings
                .extend(lines.map(|line| format!("{}: {line}", self.path)));
            self.warnings = loaded.warnings;
        }
        decision.publish = Some(loaded.snapshot);
        decision
    }

    /// Adds a warning if `snapshot` is older than the last valid configuration, or of another
    /// cluster. It is served nevertheless: a restored backup and a renamed cluster are both legal.
    fn compare_with_last(&mut self, snapshot: &Snapshot, warnings: &mut Vec<String>) {
        let Some(summary) = snapshot.summary() else {
            return;
        };
        let new = Identity {
            serial: summary.serial_no,
            cluster: summary.cluster_name,
        };
        if let Some(old) = &self.last_loaded {
            let path = &self.path;
            let number = |serial: &str| serial.parse::<i128>().ok();
            if number(&new.serial) < number(&old.serial) {
                warnings.push(format!(
                    "{path}: the serial went back from {} to {}: the file is an older one; unless \
                     a backup was restored, run gnt-cluster redist-conf on the master",
                    old.serial, new.serial
                ));
            }
            if new.cluster != old.cluster {
                let name = |name| printable_start(name, NAME_CHARS_MAX);
                warnings.push(format!(
                    "{path}: the cluster's name changed from '{}' to '{}': unless it was renamed, \
                     the file is that of another cluster",
                    name(&old.cluster),
                    name(&new.cluster)
                ));
            }
        }
        self.last_loaded = Some(new);
    }

    /// Handles a failed load or check.
    ///
    /// An unreadable file is retried even if it has not changed, so its error is logged only when
    /// it differs from the last one. An invalid file is reloaded only after a change, so its error
    /// is always logged. Both happen at most about once per second.
    pub fn failed(&mut self, now: Instant, failure: LoadFailure) -> Decision {
        let answer = self.answer(&failure);
        let is_new = matches!(failure, LoadFailure::Invalid(_))
            || self.last_answer.as_ref() != Some(&answer);
        self.last_answer = Some(answer.clone());
        self.explanation = failure.explain(&self.path);
        let mut decision = Decision::default();
        if is_new {
            decision.failure = Some(self.failed_to_load());
        }
        match self.keep_through(now, &failure) {
            Some(keeping) => {
                if is_new {
                    decision.warnings.push(format!(
                        "{}; serving the last good configuration{} {}",
                        self.failed_to_load(),
                        self.last_serial(),
                        remaining(now, keeping)
                    ));
                }
                self.keep(now, keeping);
            }
            None => self.serve_error(now, answer, is_new, &mut decision),
        }
        decision
    }

    /// Handles the passing of time: reminds that an old configuration is served, or stops serving
    /// it.
    pub fn pass(&mut self, now: Instant) -> Decision {
        let mut decision = Decision::default();
        let serial = self.last_serial();
        let State::Kept {
            keeping,
            remind_at,
            remind_after,
        } = &mut self.state
        else {
            return decision;
        };
        let answer = self.last_answer.clone().unwrap_or_default();
        if keeping.until.is_some_and(|end| end <= now) {
            self.serve_error(now, answer, true, &mut decision);
        } else if *remind_at <= now {
            *remind_after = (*remind_after * 2).min(REMINDER_MAX);
            *remind_at = now + *remind_after;
            decision.warnings.push(format!(
                "Still serving the last good configuration{serial} after {}, {}: {}",
                shown(now - keeping.since),
                remaining(now, *keeping),
                self.explanation
            ));
        }
        decision
    }

    /// Returns since when and until when the last valid configuration is kept if the file fails by
    /// `failure`; `None` if it is not kept.
    fn keep_through(&self, now: Instant, failure: &LoadFailure) -> Option<Keeping> {
        let since = match &self.state {
            State::Unavailable(_) => return None,
            State::Current => now,
            State::Kept { keeping, .. } => keeping.since,
        };
        let at_least = match failure {
            LoadFailure::Unreadable(why) if why.is_missing() => return None,
            LoadFailure::Unreadable(ReadError::Changing) => INCOMPLETE_MAX,
            LoadFailure::Unreadable(_) | LoadFailure::Invalid(_) => Duration::ZERO,
        };
        let until = match self.keep {
            KeepLastGood::For(time) => since.checked_add(time.max(at_least)),
            KeepLastGood::Forever => None,
        };
        let is_over = until.is_some_and(|end| end <= now);
        (!is_over).then_some(Keeping { since, until })
    }

    /// Starts to keep the last valid configuration, or goes on.
    fn keep(&mut self, now: Instant, new: Keeping) {
        match &mut self.state {
            State::Kept { keeping, .. } => *keeping = new,
            State::Current | State::Unavailable(_) => {
                self.state = State::Kept {
                    keeping: new,
                    remind_at: now + REMINDER_FIRST,
                    remind_after: REMINDER_FIRST,
                };
            }
        }
    }

    /// Serves the error `answer` from now on. It is logged if it `is_new` or was not served before.
    fn serve_error(&mut self, now: Instant, answer: String, is_new: bool, decision: &mut Decision) {
        let served_before =
            matches!(&self.state, State::Unavailable(Some(error)) if *error == answer);
        if let State::Kept { keeping, .. } = self.state {
            decision.warnings.push(format!(
                "The last good configuration is no longer served, after {}",
                shown(now - keeping.since)
            ));
        }
        if is_new || !served_before {
            decision.error = Some(self.failed_to_load());
        }
        if !served_before {
            decision.publish = Some(Snapshot::unavailable(&answer));
            decision.unavailable = Some(answer.clone());
        }
        self.state = State::Unavailable(Some(answer));
    }

    /// The serial of the last valid configuration, for a log line.
    fn last_serial(&self) -> String {
        self.last_loaded
            .as_ref()
            .map_or(String::new(), |last| format!(", serial {},", last.serial))
    }

    /// The log line for the last failure.
    fn failed_to_load(&self) -> String {
        format!("Failed to load config: {}", self.explanation)
    }

    /// Returns the reference's error answer for `failure`, or a similar one if the reference has no
    /// such failure.
    fn answer(&self, failure: &LoadFailure) -> String {
        let path = &self.path;
        let update = |what: String| format!("Failure during configuration update: {path}: {what}");
        let load = |what: String| format!("Cannot load configuration from {path}: {what}");
        let open = |what: &str| load(format!("{path}: openFile: {what}"));
        match failure {
            LoadFailure::Invalid(error) => load(format!(
                "parsing configuration: {}",
                printable_start(&error.to_string(), DETAIL_CHARS_MAX)
            )),
            LoadFailure::Unreadable(why) => match *why {
                // A file removed between `stat` and `open` gets the same answer as a missing one.
                ReadError::Stat(errno) | ReadError::Open(errno) if why.is_missing() => {
                    update(format!("getFileStatus: {}", io_error(errno)))
                }
                ReadError::Stat(errno) => update(format!("getFileStatus: {}", io_error(errno))),
                ReadError::Open(errno) => open(&io_error(errno)),
                ReadError::Read(errno) => update(format!("hGetContents: {}", io_error(errno))),
                ReadError::Directory => open("inappropriate type (is a directory)"),
                ReadError::NotRegular => open("inappropriate type (not a regular file)"),
                ReadError::TooLong { bytes, limit } => load(format!(
                    "parsing configuration: {bytes} bytes are more than the {limit} that can be served"
                )),
                ReadError::Memory(Shortage { needed, limit, .. }) => load(format!(
                    "it takes about {} MB of memory, more than {limit} leaves",
                    needed >> 20
                )),
                ReadError::Late => load("its storage does not respond".into()),
                ReadError::Changing => load("it was written to while it was read".into()),
            },
        }
    }
}

/// Until when `keeping` lasts, for a log line.
fn remaining(now: Instant, keeping: Keeping) -> String {
    match keeping.until {
        Some(end) => format!(
            "for {} more, then errors (--keep-last-good)",
            shown(end - now)
        ),
        None => "until the file is repaired or removed (--keep-last-good)".to_owned(),
    }
}

/// A duration to the second; below a second, to the millisecond.
fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(match time.as_secs() {
        0 => Duration::from_millis(time.subsec_millis().into()),
        seconds => Duration::from_secs(seconds),
    })
}

/// Formats an I/O error like the reference (`Show IOException` in GHC's `GHC.IO.Exception`).
fn io_error(errno: Errno) -> String {
    let kind = match errno {
        Errno::ENOENT => "does not exist",
        Errno::EACCES | Errno::EPERM | Errno::EROFS => "permission denied",
        Errno::ENOTDIR | Errno::EISDIR => "inappropriate type",
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => "resource exhausted",
        Errno::ELOOP | Errno::EINVAL | Errno::ENAMETOOLONG => "invalid argument",
        Errno::EIO => "hardware fault",
        _ => "failed",
    };
    format!("{kind} ({})", errno.desc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const MISSING: LoadFailure = LoadFailure::Unreadable(ReadError::Stat(Errno::ENOENT));
    const MISSING_ANSWER: &str = "Failure during configuration update: /d/config.data: \
        getFileStatus: does not exist (No such file or directory)";

    /// The default of `--keep-last-good`.
    const KEPT: Duration = Duration::from_secs(300);
    const LIKE_THE_REFERENCE: KeepLastGood = KeepLastGood::For(Duration::ZERO);

    /// A policy with a simulated clock.
    struct Script {
        policy: Policy,
        start: Instant,
        now: Instant,
    }

    impl Script {
        fn new(keep: KeepLastGood) -> Self {
            let start = Instant::now();
            Self {
                policy: Policy::new("/d/config.data".into(), keep),
                start,
                now: start,
            }
        }

        fn at(&mut self, seconds: u64) -> &mut Self {
            self.now = self.start + Duration::from_secs(seconds);
            self
        }

        fn loaded(&mut self, loaded: Loaded) -> Decision {
            self.policy.loaded(self.now, loaded)
        }

        fn failed(&mut self, failure: LoadFailure) -> Decision {
            self.policy.failed(self.now, failure)
        }

        fn pass(&mut self) -> Decision {
            self.policy.pass(self.now)
        }

        /// Seconds from the start to the policy's deadline.
        fn deadline(&self) -> Option<u64> {
            let deadline = self.policy.deadline()?;
            Some((deadline - self.start).as_secs())
        }
    }

    fn valid(warnings: &[&str]) -> Loaded {
        Loaded {
            snapshot: Snapshot::unavailable("placeholder for a valid snapshot"),
            warnings: warnings.iter().map(|&w| w.into()).collect(),
        }
    }

    fn invalid() -> LoadFailure {
        LoadFailure::Invalid(config::Error {
            path: "/nodes/N/name".into(),
            what: "is a number".into(),
        })
    }

    /// What a decision publishes: nothing, a valid configuration, or an error answer.
    #[derive(Debug, PartialEq)]
    enum Published {
        Nothing,
        Valid,
        Error(String),
    }

    fn published(decision: &Decision) -> Published {
        match (&decision.publish, &decision.unavailable) {
            (None, None) => Published::Nothing,
            (Some(_), None) => Published::Valid,
            (Some(_), Some(answer)) => Published::Error(answer.clone()),
            (None, Some(_)) => panic!("an error answer without a snapshot to publish"),
        }
    }

    /// A valid configuration of the cluster `name` with this serial.
    fn cluster(name: &str, serial: u64) -> Loaded {
        let text = crate::demo::configuration(1, 0, crate::demo::SEED);
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["cluster"]["cluster_name"] = name.into();
        config["serial_no"] = serial.into();
        Snapshot::load(config.to_string().as_bytes()).expect("valid")
    }

    const INVALID: &str = "Failed to load config: /d/config.data cannot be served: \
        /nodes/N/name: is a number; restore it from the master node (gnt-cluster redist-conf)";
    const INVALID_ANSWER: &str = "Cannot load configuration from /d/config.data: \
        parsing configuration: /nodes/N/name: is a number";
    const MISSING_LINE: &str = "Failed to load config: /d/config.data does not exist; make sure \
        that this node is a master candidate, or name another file with --config";

    #[test]
    fn an_invalid_or_unreadable_file_is_bridged_but_not_a_missing_one() {
        let mut s = Script::new(KeepLastGood::default());
        assert_eq!(published(&s.loaded(valid(&[]))), Published::Valid);
        let decision = s.at(10).failed(invalid());
        assert_eq!(published(&decision), Published::Nothing);
        assert_eq!(decision.failure.as_deref(), Some(INVALID));
        assert_eq!(decision.error, None);
        let warning = format!(
            "{INVALID}; serving the last good configuration for 5m more, then errors (--keep-last-good)"
        );
        assert_eq!(decision.warnings, [warning]);

        let unreadable = LoadFailure::Unreadable(ReadError::Open(Errno::EACCES));
        let decision = s.at(70).failed(unreadable);
        assert_eq!(published(&decision), Published::Nothing);
        assert!(
            decision.warnings[0]
                .contains("cannot be read: Permission denied; make it readable for"),
            "{decision:?}"
        );
        // Another failure does not prolong the time.
        assert!(
            decision.warnings[0].contains("for 4m more, then errors"),
            "{decision:?}"
        );

        let decision = s.failed(MISSING);
        assert_eq!(
            published(&decision),
            Published::Error(MISSING_ANSWER.into())
        );
        assert_eq!(
            decision.warnings,
            ["The last good configuration is no longer served, after 1m"]
        );
        assert_eq!(decision.error, Some(MISSING_LINE.to_owned()));
        // The missing file discarded the last valid configuration.
        assert!(matches!(
            published(&s.failed(invalid())),
            Published::Error(_)
        ));
        assert_eq!(published(&s.loaded(valid(&[]))), Published::Valid);
    }

    #[test]
    fn keeping_ends_after_its_time_with_the_reference_s_error() {
        let mut s = Script::new(KeepLastGood::For(KEPT));
        s.loaded(cluster("c", 12));
        assert_eq!(s.deadline(), None);
        let decision = s.at(10).failed(invalid());
        assert!(
            decision.warnings[0].contains("the last good configuration, serial 12, for 5m more"),
            "{decision:?}"
        );
        let ends = s.start + Duration::from_secs(310);
        assert_eq!(s.policy.keeping().and_then(|k| k.until), Some(ends));
        // The intervals of the reminders double.
        assert_eq!(s.deadline(), Some(70));
        let reason = INVALID.trim_start_matches("Failed to load config: ");
        let reminder = format!(
            "Still serving the last good configuration, serial 12, after 1m, for 4m more, then \
             errors (--keep-last-good): {reason}"
        );
        assert_eq!(s.at(70).pass().warnings, [reminder]);
        assert_eq!(s.deadline(), Some(190));
        assert!(s.at(189).pass().warnings.is_empty());
        assert_eq!(s.at(190).pass().warnings.len(), 1);
        assert_eq!(s.deadline(), Some(310));
        assert_eq!(published(&s.at(309).pass()), Published::Nothing);

        let decision = s.at(310).pass();
        assert_eq!(
            published(&decision),
            Published::Error(INVALID_ANSWER.into())
        );
        assert_eq!(decision.error.as_deref(), Some(INVALID));
        assert_eq!(
            decision.warnings,
            ["The last good configuration is no longer served, after 5m"]
        );
        assert_eq!((s.deadline(), s.policy.keeping()), (None, None));
        assert_eq!(published(&s.at(311).pass()), Published::Nothing);
        // A good file is served as always.
        assert_eq!(published(&s.loaded(cluster("c", 12))), Published::Valid);
    }

    #[test]
    fn a_failure_after_the_time_ends_the_keeping_even_if_the_deadline_was_not_handled() {
        let mut s = Script::new(KeepLastGood::For(KEPT));
        s.loaded(valid(&[]));
        let unreadable = || LoadFailure::Unreadable(ReadError::Open(Errno::EMFILE));
        s.failed(unreadable());
        let decision = s.at(300).failed(unreadable());
        assert!(matches!(published(&decision), Published::Error(_)));
        assert!(decision.error.is_some());
    }

    #[test]
    fn a_repair_ends_the_keeping() {
        let mut s = Script::new(KeepLastGood::For(KEPT));
        s.loaded(valid(&[]));
        s.failed(invalid());
        let decision = s.at(12).loaded(valid(&[]));
        assert_eq!(
            decision.warnings,
            [
                "/d/config.data is usable again, after 12s in which the last good configuration \
                 was served"
            ]
        );
        assert_eq!((s.deadline(), s.policy.keeping()), (None, None));
        // The next failure has the whole time again.
        s.at(299).failed(invalid());
        assert_eq!(published(&s.at(598).pass()), Published::Nothing);
    }

    #[test]
    fn forever_keeps_until_the_file_is_gone_and_reminds_at_growing_intervals() {
        let mut s = Script::new(KeepLastGood::Forever);
        s.loaded(valid(&[]));
        let decision = s.failed(invalid());
        assert!(
            decision.warnings[0]
                .ends_with("until the file is repaired or removed (--keep-last-good)"),
            "{decision:?}"
        );
        let mut reminders = Vec::new();
        while reminders.len() < 9 {
            let at = s.deadline().expect("a reminder");
            let decision = s.at(at).pass();
            assert_eq!(published(&decision), Published::Nothing);
            assert_eq!(decision.warnings.len(), 1);
            reminders.push(at);
        }
        let steps: Vec<_> = reminders.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(steps, [120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]);
        assert!(matches!(published(&s.failed(MISSING)), Published::Error(_)));
        assert_eq!(s.deadline(), None);
    }

    #[test]
    fn with_zero_errors_are_answered_immediately() {
        let mut s = Script::new(LIKE_THE_REFERENCE);
        s.loaded(valid(&[]));
        let decision = s.failed(invalid());
        let answer = "Cannot load configuration from /d/config.data: parsing configuration: /nodes/N/name: is a number";
        assert_eq!(published(&decision), Published::Error(answer.into()));
        assert_eq!(decision.error.as_deref(), Some(INVALID));
        assert!(decision.warnings.is_empty());
    }

    #[test]
    fn a_file_that_is_being_written_is_bridged_for_some_seconds_in_any_case() {
        let mut s = Script::new(LIKE_THE_REFERENCE);
        s.loaded(valid(&[]));
        let changing = || LoadFailure::Unreadable(ReadError::Changing);
        assert_eq!(published(&s.failed(changing())), Published::Nothing);
        assert_eq!(published(&s.at(4).failed(changing())), Published::Nothing);
        assert!(matches!(
            published(&s.at(5).failed(changing())),
            Published::Error(_)
        ));
        // A complete but invalid file is not bridged.
        s.loaded(valid(&[]));
        s.failed(changing());
        assert!(matches!(
            published(&s.failed(invalid())),
            Published::Error(_)
        ));
    }

    #[test]
    fn errors_are_answered_if_no_valid_configuration_was_loaded() {
        let mut s = Script::new(KeepLastGood::Forever);
        assert!(matches!(
            published(&s.failed(invalid())),
            Published::Error(_)
        ));
    }

    #[test]
    fn every_invalid_version_is_logged_but_an_unreadable_file_only_once() {
        let mut s = Script::new(KeepLastGood::Forever);
        s.loaded(valid(&[]));
        assert!(s.failed(invalid()).failure.is_some());
        assert!(s.failed(invalid()).failure.is_some());
        let unreadable = || LoadFailure::Unreadable(ReadError::Open(Errno::EMFILE));
        assert!(s.failed(unreadable()).failure.is_some());
        let again = s.failed(unreadable());
        assert!(again.failure.is_none() && again.warnings.is_empty());
        s.loaded(valid(&[]));
        assert!(s.failed(unreadable()).failure.is_some());
    }

    #[test]
    fn a_file_removed_between_stat_and_open_is_reported_once() {
        let mut s = Script::new(KeepLastGood::Forever);
        s.loaded(valid(&[]));
        let decision = s.failed(LoadFailure::Unreadable(ReadError::Open(Errno::ENOENT)));
        assert_eq!(
            published(&decision),
            Published::Error(MISSING_ANSWER.into())
        );
        assert!(decision.error.is_some());
        // The next check.
        let decision = s.failed(MISSING);
        assert_eq!(published(&decision), Published::Nothing);
        assert_eq!((decision.error, decision.failure), (None, None));
    }

    #[test]
    fn a_serial_that_goes_back_and_another_cluster_are_served_with_a_warning() {
        let mut s = Script::new(KeepLastGood::default());
        let warnings = |s: &mut Script, name, serial| {
            let decision = s.loaded(cluster(name, serial));
            assert_eq!(published(&decision), Published::Valid);
            decision.warnings
        };
        assert!(warnings(&mut s, "a", 120).is_empty());
        assert!(warnings(&mut s, "a", 120).is_empty());
        assert!(warnings(&mut s, "a", 1_000).is_empty());
        // Not lost while errors are served.
        s.failed(MISSING);
        assert_eq!(
            warnings(&mut s, "a", 999),
            [
                "/d/config.data: the serial went back from 1000 to 999: the file is an older one; \
                 unless a backup was restored, run gnt-cluster redist-conf on the master"
            ]
        );
        assert_eq!(
            warnings(&mut s, "b\n", 1_001),
            [
                "/d/config.data: the cluster's name changed from 'a' to 'b\\n': unless it was \
                 renamed, the file is that of another cluster"
            ]
        );
        assert!(warnings(&mut s, "b\n", 1_001).is_empty());
        assert_eq!(warnings(&mut s, "a", 1).len(), 2);
    }

    #[test]
    fn warnings_are_logged_only_when_they_change() {
        let mut s = Script::new(KeepLastGood::default());
        let [a, b] = ["/d/config.data: a", "/d/config.data: b"];
        assert_eq!(s.loaded(valid(&["a"])).warnings, [a]);
        assert!(s.loaded(valid(&["a"])).warnings.is_empty());
        assert_eq!(s.loaded(valid(&["a", "b"])).warnings, [a, b]);
        assert!(s.loaded(valid(&[])).warnings.is_empty());
        assert_eq!(s.loaded(valid(&["a"])).warnings, [a]);
    }

    #[test]
    fn the_detail_is_one_line_of_bounded_length() {
        let policy = Script::new(KeepLastGood::default()).policy;
        let answer = |what: &str| {
            let (path, what) = (String::new(), what.to_owned());
            let answer = policy.answer(&LoadFailure::Invalid(config::Error { path, what }));
            let (_, detail) = answer.split_once("configuration: ").expect("a detail");
            detail.to_owned()
        };
        assert_eq!(answer("/a\n\u{e9}\0"), "/a\\n\u{e9}\\u{0}");
        let longest = "x".repeat(DETAIL_CHARS_MAX);
        assert_eq!(answer(&longest), longest);
        assert_eq!(answer(&(longest.clone() + "y")), longest + "...");
    }

    #[test]
    fn io_errors_are_formatted_like_the_reference() {
        let policy = Script::new(KeepLastGood::default()).policy;
        let check = |why, expect: &str| {
            assert_eq!(policy.answer(&LoadFailure::Unreadable(why)), expect);
        };
        check(ReadError::Stat(Errno::ENOENT), MISSING_ANSWER);
        check(ReadError::Open(Errno::ENOENT), MISSING_ANSWER);
        check(
            ReadError::Directory,
            "Cannot load configuration from /d/config.data: /d/config.data: openFile: inappropriate type (is a directory)",
        );
        check(
            ReadError::Open(Errno::EACCES),
            "Cannot load configuration from /d/config.data: /d/config.data: openFile: permission denied (Permission denied)",
        );
        check(
            ReadError::Read(Errno::EIO),
            "Failure during configuration update: /d/config.data: hGetContents: hardware fault (I/O error)",
        );
    }
}

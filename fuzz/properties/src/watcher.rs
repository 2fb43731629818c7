//! A sequence of file operations, events and clock steps against the watch on `config.data`.
//!
//! Loads are rate-limited, checks do not spin, the policy decides what is served, and in the end
//! that is the file's content. Events may come late, twice or never, as on a network file system. A
//! file may be replaced while it is read, or change without another identity.
//!
//! Source of the rules: the documentation of `reader`, its schedule and its policy.

use std::time::{Duration, Instant};

use ganeti_confd::config;
use ganeti_confd::reader::KeepLastGood;
use ganeti_confd::snapshot::{Loaded, Snapshot};
use ganeti_confd::testing::reader::{
    Decision, Errno, FileId, Hint, LoadFailure, Policy, ReadError, Schedule, Step,
};

use crate::choices::Choices;

/// Operations in one sequence.
const STEPS_MAX: usize = 200;

/// The interval of checks without events.
const POLL: Duration = Duration::from_secs(15);

/// The least time from the end of one load to the start of the next.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// For this time, a file that was found before may be absent without being missing.
const GRACE: Duration = Duration::from_millis(200);

/// From an event for creation or changed attributes to the check.
const SETTLE: Duration = Duration::from_millis(100);

/// A file that is being written is bridged at least for this time.
const INCOMPLETE: Duration = Duration::from_secs(5);

/// The least time between two reminders that an old configuration is served.
const REMINDER: Duration = Duration::from_secs(60);

/// `stat` finds no file.
const MISSING: ReadError = ReadError::Stat(Errno::ENOENT);

/// The file was removed between `stat` and `open`.
const VANISHED: ReadError = ReadError::Open(Errno::ENOENT);

/// The file may not be opened.
const DENIED: ReadError = ReadError::Open(Errno::EACCES);

/// What the path refers to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum File {
    Missing,
    Directory,
    /// A file with this version that cannot be opened.
    Denied(i64),
    Content(Content),
}

/// A file's content, by number, and the version that `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Content {
    version: i64,
    number: u64,
    good: bool,
}

/// What is served.
#[derive(Debug, Clone, PartialEq)]
enum Served {
    /// Nothing was checked yet.
    Nothing,
    /// A good content: the last one that was loaded.
    Config(Content),
    Error(Failure),
}

/// Why a check or a load found nothing to serve.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Failure {
    Bad,
    Unreadable(ReadError),
}

struct World {
    schedule: Schedule,
    policy: Policy,
    /// How long an old configuration is served; `None`: without an end.
    keep: Option<Duration>,
    now: Instant,
    start: Instant,
    file: File,
    /// Versions and contents created so far.
    created: u64,
    /// Events not delivered yet.
    events: Vec<Hint>,
    served: Served,
    /// Since when and until when an old configuration is served, and the last reminder of it.
    kept: Option<(Instant, Option<Instant>, Instant)>,
    /// The last reported outcome.
    outcome: Option<Result<Content, Failure>>,
    /// What the last check or load found; `None` if the next check must lead to a load.
    known: Option<Result<i64, ReadError>>,
    /// Whether an event announced new content since the last load began.
    changed: bool,
    load_ended: Option<Instant>,
    /// Whether the last load began within the load interval.
    hasty: bool,
    /// Whether the file was found, and not reported as missing since then.
    found: bool,
    /// Since when a check or load has not found the file.
    absent: Option<Instant>,
    /// Time of the last report other than of a missing file.
    last_report: Option<Instant>,
    /// Times of all reports.
    report_times: Vec<Instant>,
    loads: usize,
    checks: usize,
    hints: usize,
    reports: usize,
}

/// Runs the sequence that `bytes` choose.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices::from_bytes(bytes);
    let mut world = World::new(&mut choices);
    world.check_while_due(&mut choices);
    for _ in 0..STEPS_MAX {
        world.step(&mut choices);
        if choices.is_at_end() {
            break;
        }
    }
    world.settle(&mut choices);
}

impl World {
    fn new(choices: &mut Choices<'_>) -> Self {
        let start = Instant::now();
        let keep = match choices.usize(0..4) {
            0 => Some(Duration::ZERO),
            1 => Some(Duration::from_secs(300)),
            2 => Some(Duration::from_millis(choices.usize(0..20_000) as u64)),
            _ => None,
        };
        let keep_last_good = keep.map_or(KeepLastGood::Forever, KeepLastGood::For);
        Self {
            schedule: Schedule::new(start),
            policy: Policy::new("config.data".to_owned(), keep_last_good),
            keep,
            now: start,
            start,
            file: File::Missing,
            created: 0,
            events: Vec::new(),
            served: Served::Nothing,
            kept: None,
            outcome: None,
            known: None,
            changed: false,
            load_ended: None,
            hasty: false,
            found: false,
            absent: None,
            last_report: None,
            report_times: Vec::new(),
            loads: 0,
            checks: 0,
            hints: 0,
            reports: 0,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.usize(0..6) {
            0 | 1 => self.change(choices),
            2 | 3 => self.deliver(choices),
            _ => self.advance(choices),
        }
        self.check_while_due(choices);
    }

    /// Changes the file. An event follows unless it is lost.
    fn change(&mut self, choices: &mut Choices<'_>) {
        self.created += 1;
        let version = self.created as i64;
        let content = |version| Content {
            version,
            number: self.created,
            good: true,
        };
        let (file, hint) = match choices.usize(0..8) {
            0 | 1 => (File::Content(content(version)), Hint::Changed),
            2 => {
                let good = false;
                (
                    File::Content(Content {
                        good,
                        ..content(version)
                    }),
                    Hint::Changed,
                )
            }
            // Within one clock tick, so that only an event announces it.
            3 => match self.file {
                File::Content(Content { version, .. }) => {
                    self.file = File::Content(content(version));
                    return self.hint(Hint::Changed);
                }
                other => (other, Hint::Touched),
            },
            4 => (File::Missing, Hint::Moved),
            5 => (File::Directory, Hint::Moved),
            6 => (File::Denied(version), Hint::Touched),
            // Changed attributes: another version of the same content.
            _ => match self.file {
                File::Content(old) => (File::Content(Content { version, ..old }), Hint::Touched),
                other => (other, Hint::Touched),
            },
        };
        self.file = file;
        if !choices.once_in(4) {
            self.events.push(hint);
        }
    }

    /// Delivers any one of the events, and perhaps keeps it for another delivery.
    fn deliver(&mut self, choices: &mut Choices<'_>) {
        if self.events.is_empty() {
            return;
        }
        let at = choices.usize(0..self.events.len());
        let hint = self.events[at];
        if !choices.once_in(4) {
            self.events.swap_remove(at);
        }
        self.hint(hint);
    }

    fn hint(&mut self, hint: Hint) {
        self.hints += 1;
        let before = self.schedule.next_check();
        self.schedule.hint(self.now, hint);
        assert!(
            self.schedule.next_check() <= before,
            "an event postpones a check"
        );
        let delay = match hint {
            Hint::Touched => SETTLE,
            Hint::Changed | Hint::Moved => Duration::ZERO,
        };
        assert!(
            self.schedule.next_check() <= self.now + delay,
            "{hint:?} does not lead to a check"
        );
        self.changed |= hint == Hint::Changed;
    }

    /// Advances the clock, and does the checks that are due.
    fn advance(&mut self, choices: &mut Choices<'_>) {
        let by = match choices.usize(0..4) {
            0 => choices.usize(0..50),
            1 => choices.usize(0..1_200),
            2 => 1_000,
            _ => choices.usize(0..20_000),
        };
        self.advance_until(self.now + Duration::from_millis(by as u64), choices);
    }

    fn advance_until(&mut self, then: Instant, choices: &mut Choices<'_>) {
        loop {
            let check = self.schedule.next_check();
            let next = self.policy.deadline().map_or(check, |due| due.min(check));
            if next > then {
                break;
            }
            self.now = self.now.max(next);
            self.pass();
            if check <= self.now {
                self.check(choices);
            }
        }
        self.now = self.now.max(then);
    }

    /// Handles the policy's deadline, if it is due: an old configuration is served for its time and
    /// no longer.
    fn pass(&mut self) {
        let due = self.policy.deadline();
        assert_eq!(due.is_some(), self.kept.is_some(), "{due:?}");
        let (Some(due), Some((since, until, reminded))) = (due, self.kept) else {
            return;
        };
        assert!(until.is_none_or(|until| due <= until), "kept for too long");
        if due > self.now {
            return;
        }
        let decision = self.policy.pass(self.now);
        assert_eq!(decision.failure, None, "the file was not looked at");
        assert_eq!(decision.warnings.len(), 1);
        if until.is_none_or(|until| self.now < until) {
            assert!(decision.publish.is_none() && decision.error.is_none());
            assert!(self.now >= reminded + REMINDER, "reminded too often");
            self.kept = Some((since, until, self.now));
            return;
        }
        let Some(Err(failure)) = self.outcome else {
            panic!("kept after {:?}", self.outcome);
        };
        assert!(decision.publish.is_some() && decision.unavailable.is_some());
        assert!(decision.error.is_some(), "the end of keeping is not logged");
        self.served = Served::Error(failure);
        self.kept = None;
    }

    fn check_while_due(&mut self, choices: &mut Choices<'_>) {
        self.advance_until(self.now, choices);
    }

    fn check(&mut self, choices: &mut Choices<'_>) {
        self.checks += 1;
        let found = match self.file {
            File::Missing => Err(MISSING),
            File::Directory => Err(ReadError::Directory),
            File::Denied(version) | File::Content(Content { version, .. }) => Ok(version),
        };
        let step = self
            .schedule
            .check(self.now, found.map(FileId::of_test), POLL);
        assert!(
            self.schedule.next_check() <= self.now + POLL,
            "a check later than the poll interval"
        );
        self.see(found != Err(MISSING));
        match step {
            Step::Wait => self.assert_nothing_to_do(found),
            Step::Load => {
                self.known = Some(found);
                self.load(choices);
            }
            Step::Report(why) => {
                let trouble = found.expect_err("what can be read is not reported");
                assert_eq!(why, trouble);
                self.reports += 1;
                self.known = Some(found);
                self.changed = false;
                if trouble == MISSING {
                    self.assert_missing();
                } else {
                    assert!(
                        self.now >= self.next_load(),
                        "a report within the load interval"
                    );
                    self.last_report = Some(self.now);
                    self.found = true;
                }
                let decision = self.policy.failed(self.now, LoadFailure::Unreadable(why));
                self.apply(Err(Failure::Unreadable(trouble)), &decision);
            }
        }
        self.assert_no_spinning();
    }

    /// Records whether a check or a load found the file.
    fn see(&mut self, found: bool) {
        match found {
            true => self.absent = None,
            false => _ = self.absent.get_or_insert(self.now),
        }
    }

    /// Checks that the file may be reported as missing now: once, and not within the grace period.
    fn assert_missing(&mut self) {
        let since = self.absent.expect("it was not found");
        assert_ne!(
            self.outcome,
            Some(Err(Failure::Unreadable(MISSING))),
            "a missing file is reported again"
        );
        assert!(
            !self.found || self.now >= since + GRACE,
            "an absent file is reported as missing within the grace period"
        );
        self.found = false;
    }

    /// The earliest time of the next load: one interval after the last load, or after the last
    /// report of a file that exists and cannot be read.
    fn next_load(&self) -> Instant {
        let last = self.load_ended.max(self.last_report);
        last.map_or(self.start, |last| last + LOAD_INTERVAL)
    }

    /// Whether a load need not wait for that time: errors are answered because the file was
    /// missing, and the last load has waited.
    fn may_hurry(&self) -> bool {
        let missing = Some(Err(Failure::Unreadable(MISSING)));
        self.outcome == missing && !self.found && !self.hasty
    }

    /// Checks that nothing needed to be done: what was `found` is known, or a check after the load
    /// interval or after the grace period is scheduled.
    fn assert_nothing_to_do(&mut self, found: Result<i64, ReadError>) {
        let reported = found == Err(MISSING) && !self.found && self.outcome.is_some();
        let known = self.known == Some(found) || reported;
        if known && !(self.changed && found.is_ok()) {
            self.changed = false;
            return;
        }
        let then = match found {
            Err(MISSING) => {
                let since = self.absent.expect("it was not found");
                assert!(self.found, "a missing file is not reported");
                since + GRACE
            }
            _ => {
                assert!(
                    found.is_err() || !self.may_hurry(),
                    "errors are answered for longer than necessary"
                );
                self.next_load()
            }
        };
        assert!(self.now < then, "{found:?} is new and ignored");
        assert!(self.schedule.next_check() <= then, "{found:?} is postponed");
    }

    /// Reads the file. That takes time, during which the file may change.
    fn load(&mut self, choices: &mut Choices<'_>) {
        let hasty = self.now < self.next_load();
        assert!(
            !hasty || self.may_hurry(),
            "a load within the load interval"
        );
        self.hasty = hasty;
        self.loads += 1;
        self.changed = false;
        let before = self.file;
        if choices.once_in(4) {
            self.change(choices);
        }
        self.now += Duration::from_millis(choices.usize(0..3_000) as u64);
        let changed = self.file != before;
        let outcome = match before {
            _ if self.file == File::Missing && choices.bool() => Err(Failure::Unreadable(VANISHED)),
            File::Content(_) if changed && choices.bool() => {
                Err(Failure::Unreadable(ReadError::Changing))
            }
            // A file that was replaced meanwhile is still read completely.
            File::Content(content) if content.good => Ok(content),
            File::Content(_) => Err(Failure::Bad),
            _ => Err(Failure::Unreadable(DENIED)),
        };
        self.load_ended = Some(self.now);
        let decision = match (outcome, before) {
            (Err(Failure::Unreadable(trouble)), _) => {
                // Must be tried again even if its identity is the same.
                self.known = None;
                self.see(trouble != VANISHED);
                let report = self.schedule.read_failed(self.now, trouble);
                // One that vanished may return within the grace period.
                let bridged = trouble == VANISHED && self.found;
                assert_eq!(report, (!bridged).then_some(trouble));
                if bridged {
                    return;
                }
                self.found = trouble != VANISHED;
                self.policy
                    .failed(self.now, LoadFailure::Unreadable(trouble))
            }
            (_, File::Content(Content { version, good, .. })) => {
                self.found = true;
                self.schedule.loaded(self.now, FileId::of_test(version));
                self.judge(good)
            }
            (outcome, file) => unreachable!("{outcome:?} of {file:?}"),
        };
        self.apply(outcome, &decision);
    }

    /// The policy's decision on a file that was read.
    fn judge(&mut self, good: bool) -> Decision {
        if good {
            return self.policy.loaded(
                self.now,
                Loaded {
                    snapshot: Snapshot::unavailable("in place of a configuration"),
                    warnings: Vec::new(),
                },
            );
        }
        self.policy.failed(
            self.now,
            LoadFailure::Invalid(config::Error {
                path: String::new(),
                what: "not valid".to_owned(),
            }),
        )
    }

    /// Compares what is published and logged with what must be.
    fn apply(&mut self, outcome: Result<Content, Failure>, decision: &Decision) {
        self.report_times.push(self.now);
        // Of three loads or reports of an unusable file, two are a load interval apart. Before,
        // between and after two of them, a missing file is reported at most once.
        if let [.., first, _, _, _, _, last] = self.report_times[..] {
            assert!(
                last >= first + LOAD_INTERVAL,
                "six reports in one load interval"
            );
        }
        let outcome = outcome.map_err(|failure| match failure {
            // A file that is missing at `open` is reported as one that is missing at `stat`.
            Failure::Unreadable(VANISHED) => Failure::Unreadable(MISSING),
            other => other,
        });
        let is_new = self.outcome != Some(outcome);
        self.outcome = Some(outcome);
        let was_kept = self.kept.is_some();
        let (served, publish) = match outcome {
            Ok(content) => {
                self.kept = None;
                (Served::Config(content), Some(true))
            }
            Err(failure) => match self.keep(failure) {
                true => (self.served.clone(), None),
                false => (Served::Error(failure), Some(false)),
            },
        };
        let published = (decision.publish.is_some()).then_some(decision.unavailable.is_none());
        // An error that is already served need not be published again.
        let again = matches!(served, Served::Error(_)) && served == self.served;
        assert!(
            published == publish || (again && published.is_none()),
            "{published:?} instead of {publish:?} after {outcome:?}"
        );
        self.assert_logged(outcome, is_new, was_kept, decision);
        assert!(served == self.served || publish.is_some());
        self.served = served;
    }

    /// Decides whether the good configuration that is served is kept, and records since when.
    fn keep(&mut self, failure: Failure) -> bool {
        let since = self.kept.map_or(self.now, |(since, _, _)| since);
        let time = match failure {
            Failure::Unreadable(ReadError::Changing) => self.keep.map(|time| time.max(INCOMPLETE)),
            _ => self.keep,
        };
        let until = time.map(|time| since + time);
        let keep = matches!(self.served, Served::Config(_))
            && failure != Failure::Unreadable(MISSING)
            && until.is_none_or(|until| self.now < until);
        let reminded = self.kept.map_or(self.now, |(_, _, reminded)| reminded);
        self.kept = keep.then_some((since, until, reminded));
        keep
    }

    /// Checks what is logged: a failure as a warning while it is bridged, and as an error
    /// otherwise. The same state is logged once, except that each bad version of the file is.
    fn assert_logged(
        &self,
        outcome: Result<Content, Failure>,
        is_new: bool,
        was_kept: bool,
        decision: &Decision,
    ) {
        let is_kept = self.kept.is_some();
        let end = usize::from(was_kept && !is_kept);
        match outcome {
            Ok(_) => {
                assert_eq!((&decision.failure, &decision.error), (&None, &None));
                assert_eq!(decision.warnings.len(), end);
            }
            Err(failure) if is_new || failure == Failure::Bad => {
                assert!(decision.failure.is_some(), "{outcome:?} is not counted");
                assert_eq!(decision.error.is_none(), is_kept, "{outcome:?}");
                assert_eq!(decision.warnings.len(), usize::from(is_kept) + end);
            }
            Err(_) => {
                assert_eq!(decision.failure, None, "{outcome:?} is counted again");
                // That an error is served from now on is logged in any case.
                assert_eq!(decision.error.is_some(), end == 1, "{outcome:?}");
                assert_eq!(decision.warnings.len(), end);
            }
        }
    }

    /// Checks that the number of checks is bounded by their causes.
    fn assert_no_spinning(&self) {
        let elapsed = self.now - self.start;
        let polls = elapsed.div_duration_f64(POLL) as usize;
        let caused = 2 + 2 * self.hints + 3 * self.loads + 2 * self.reports + polls;
        assert!(
            self.checks <= caused,
            "{} checks for {caused} causes",
            self.checks
        );
    }

    /// Leaves the file alone, without further events: in the end its content is known.
    fn settle(&mut self, choices: &mut Choices<'_>) {
        self.check_while_due(choices);
        // Without choices, loads do not fail and the file does not change.
        let mut none = Choices::from_bytes(&[]);
        self.advance_until(self.now + POLL + LOAD_INTERVAL, &mut none);
        let expected = match self.file {
            File::Missing => Err(Failure::Unreadable(MISSING)),
            File::Directory => Err(Failure::Unreadable(ReadError::Directory)),
            File::Denied(_) => Err(Failure::Unreadable(DENIED)),
            File::Content(content) if content.good => Ok(content),
            File::Content(_) => Err(Failure::Bad),
        };
        assert_eq!(
            self.outcome,
            Some(expected),
            "the file's state was not found"
        );
        let (checks, loads) = (self.checks, self.loads);
        self.advance_until(self.now + 4 * POLL, &mut none);
        assert!(
            self.checks - checks <= 5,
            "an unchanged file is checked too often"
        );
        let denied = matches!(self.file, File::Denied(_));
        assert!(
            denied || self.loads == loads,
            "an unchanged file is loaded again"
        );
    }
}

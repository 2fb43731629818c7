//! A sequence of file operations, events and clock steps against the watch on `config.data`: loads are rationed, nothing spins, what is
//! served follows the rules, and in the end it is what the file says.
//!
//! Events may come late, twice or never, as on a network file system; a file may be replaced while it is read, or change without looking
//! changed.
//!
//! Source of the rules: the documentation of `reader`, of its schedule and of its policy.

use std::time::{Duration, Instant};

use ganeti_confd::config;
use ganeti_confd::reader::OnBadConfig;
use ganeti_confd::snapshot::{Loaded, Snapshot};
use ganeti_confd::testing::reader::{
    Decision, Errno, FileId, Hint, LoadFailure, Policy, ReadError, Schedule, Step,
};

use crate::choices::Choices;

/// Operations in one sequence.
const STEPS_MAX: usize = 200;

/// The safety poll.
const POLL: Duration = Duration::from_secs(15);

/// The least time from the end of one load to the start of the next.
const REST: Duration = Duration::from_secs(1);

/// From the creation or re-labelling of a file to the look at it.
const SETTLE: Duration = Duration::from_millis(100);

/// `stat` finds no file.
const MISSING: ReadError = ReadError::Stat(Errno::ENOENT);

/// The file was removed between `stat` and `open`.
const VANISHED: ReadError = ReadError::Open(Errno::ENOENT);

/// The file may not be opened.
const DENIED: ReadError = ReadError::Open(Errno::EACCES);

/// What the path leads to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum File {
    Missing,
    Directory,
    /// `stat` shows a version; opening it is refused.
    Denied(i64),
    Content(Content),
}

/// A file's content, by number, under the version that `stat` shows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Content {
    version: i64,
    number: u64,
    good: bool,
}

/// What clients are answered from.
#[derive(Debug, Clone, PartialEq)]
enum Served {
    /// Nothing was looked at yet.
    Nothing,
    Config(Content),
    Error(Failure),
}

/// The outcome of a look or a load that gave nothing to serve.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Failure {
    Bad,
    Unreadable(ReadError),
}

struct World {
    schedule: Schedule,
    policy: Policy,
    keep_last: bool,
    now: Instant,
    start: Instant,
    file: File,
    /// Versions and contents made so far.
    made: u64,
    /// Events that were not delivered yet.
    events: Vec<Hint>,
    served: Served,
    /// The last outcome that was told.
    outcome: Option<Result<Content, Failure>>,
    /// What the last look or load found, if a look must find something else now to be worth a load.
    known: Option<Result<i64, ReadError>>,
    /// Whether an event told of new content since the last load began.
    changed: bool,
    load_ended: Option<Instant>,
    /// When something other than a missing file was last reported.
    reported: Option<Instant>,
    /// When outcomes were told.
    told: Vec<Instant>,
    loads: usize,
    looks: usize,
    hints: usize,
    reports: usize,
}

/// Plays the sequence that `bytes` choose.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices::from_bytes(bytes);
    let mut world = World::new(&mut choices);
    world.look_while_due(&mut choices);
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
        let keep_last = choices.bool();
        let on_bad_config = match keep_last {
            true => OnBadConfig::KeepLast,
            false => OnBadConfig::Error,
        };
        Self {
            schedule: Schedule::new(start),
            policy: Policy::new("config.data".to_owned(), on_bad_config),
            keep_last,
            now: start,
            start,
            file: File::Missing,
            made: 0,
            events: Vec::new(),
            served: Served::Nothing,
            outcome: None,
            known: None,
            changed: false,
            load_ended: None,
            reported: None,
            told: Vec::new(),
            loads: 0,
            looks: 0,
            hints: 0,
            reports: 0,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.usize(0..6) {
            0 | 1 => self.change(choices),
            2 | 3 => self.hear(choices),
            _ => self.pass(choices),
        }
        self.look_while_due(choices);
    }

    /// Somebody does something to the file; there will be events of it, unless they are lost.
    fn change(&mut self, choices: &mut Choices<'_>) {
        self.made += 1;
        let version = self.made as i64;
        let content = |version| Content {
            version,
            number: self.made,
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
            // In one tick of the clock: nothing but an event tells.
            3 => match self.file {
                File::Content(Content { version, .. }) => {
                    self.file = File::Content(content(version));
                    return self.hear_now(Hint::Changed);
                }
                other => (other, Hint::Touched),
            },
            4 => (File::Missing, Hint::Moved),
            5 => (File::Directory, Hint::Moved),
            6 => (File::Denied(version), Hint::Touched),
            // A new label: another version of the same content.
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

    /// One of the events comes, in any order, perhaps to come again.
    fn hear(&mut self, choices: &mut Choices<'_>) {
        if self.events.is_empty() {
            return;
        }
        let at = choices.usize(0..self.events.len());
        let hint = self.events[at];
        if !choices.once_in(4) {
            self.events.swap_remove(at);
        }
        self.hear_now(hint);
    }

    fn hear_now(&mut self, hint: Hint) {
        self.hints += 1;
        let before = self.schedule.next_check();
        self.schedule.hint(self.now, hint);
        assert!(self.schedule.next_check() <= before, "an event puts a look off");
        let delay = match hint {
            Hint::Touched => SETTLE,
            Hint::Changed | Hint::Moved => Duration::ZERO,
        };
        assert!(
            self.schedule.next_check() <= self.now + delay,
            "{hint:?} is not looked into"
        );
        self.changed |= hint == Hint::Changed;
    }

    /// Time passes, and looks fall due.
    fn pass(&mut self, choices: &mut Choices<'_>) {
        let by = match choices.usize(0..4) {
            0 => choices.usize(0..50),
            1 => choices.usize(0..1_200),
            2 => 1_000,
            _ => choices.usize(0..20_000),
        };
        self.pass_until(self.now + Duration::from_millis(by as u64), choices);
    }

    fn pass_until(&mut self, then: Instant, choices: &mut Choices<'_>) {
        while self.schedule.next_check() <= then {
            self.now = self.now.max(self.schedule.next_check());
            self.look(choices);
        }
        self.now = self.now.max(then);
    }

    fn look_while_due(&mut self, choices: &mut Choices<'_>) {
        self.pass_until(self.now, choices);
    }

    fn look(&mut self, choices: &mut Choices<'_>) {
        self.looks += 1;
        let found = match self.file {
            File::Missing => Err(MISSING),
            File::Directory => Err(ReadError::Directory),
            File::Denied(version) | File::Content(Content { version, .. }) => Ok(version),
        };
        let step = self.schedule.check(self.now, found.map(FileId::of_test), POLL);
        assert!(
            self.schedule.next_check() <= self.now + POLL,
            "a look beyond the poll"
        );
        match step {
            Step::Wait => self.assert_nothing_to_do(found),
            Step::Load => {
                self.known = Some(found);
                self.load(choices);
            }
            Step::Report(why) => {
                let decision = self.policy.failed(LoadFailure::Unreadable(why));
                self.reports += 1;
                self.known = Some(found);
                self.changed = false;
                let trouble = found.expect_err("what can be read is not reported");
                if trouble != MISSING {
                    assert!(self.now >= self.rest_until(), "a report in the rest");
                    self.reported = Some(self.now);
                }
                self.hear_of(Err(Failure::Unreadable(trouble)), &decision);
            }
        }
        self.assert_calm();
    }

    /// The end of the rest after the last load, or after the last report of what is there and cannot be read.
    fn rest_until(&self) -> Instant {
        let last = self.load_ended.max(self.reported);
        last.map_or(self.start, |last| last + REST)
    }

    /// Nothing was done about what was `found`: it is known, or its time comes when the rest is over.
    fn assert_nothing_to_do(&mut self, found: Result<i64, ReadError>) {
        if self.known == Some(found) && !(self.changed && found.is_ok()) {
            self.changed = false;
            return;
        }
        assert_ne!(
            found,
            Err(MISSING),
            "a file goes missing, and nothing is said"
        );
        let rest = self.rest_until();
        assert!(self.now < rest, "{found:?} is news, and nothing is done");
        assert!(self.schedule.next_check() <= rest, "{found:?} is put off");
    }

    /// The file is read, which takes a while, in which it may change.
    fn load(&mut self, choices: &mut Choices<'_>) {
        assert!(
            self.now >= self.rest_until(),
            "a load before the rest is over"
        );
        self.loads += 1;
        self.changed = false;
        let before = self.file;
        if choices.once_in(4) {
            self.change(choices);
        }
        self.now += Duration::from_millis(choices.usize(0..3_000) as u64);
        let changed = self.file != before;
        let outcome = match before {
            _ if self.file == File::Missing && choices.bool() => {
                Err(Failure::Unreadable(VANISHED))
            }
            File::Content(_) if changed && choices.bool() => {
                Err(Failure::Unreadable(ReadError::Changing))
            }
            // A file that was replaced meanwhile is read whole, as it was.
            File::Content(content) if content.good => Ok(content),
            File::Content(_) => Err(Failure::Bad),
            _ => Err(Failure::Unreadable(DENIED)),
        };
        let decision = match (outcome, before) {
            (Err(Failure::Unreadable(trouble)), _) => {
                // To be tried again even if it looks the same.
                self.known = None;
                self.schedule.read_failed(self.now, trouble);
                self.policy.failed(LoadFailure::Unreadable(trouble))
            }
            (_, File::Content(Content { version, good, .. })) => {
                self.schedule.loaded(self.now, FileId::of_test(version));
                self.judge(good)
            }
            (outcome, file) => unreachable!("{outcome:?} of {file:?}"),
        };
        self.load_ended = Some(self.now);
        self.hear_of(outcome, &decision);
    }

    /// The policy's decision on a file that was read.
    fn judge(&mut self, good: bool) -> Decision {
        if good {
            return self.policy.loaded(Loaded {
                snapshot: Snapshot::unavailable("in place of a configuration"),
                warnings: Vec::new(),
            });
        }
        self.policy.failed(LoadFailure::Invalid(config::Error {
            path: String::new(),
            what: "not valid".to_owned(),
        }))
    }

    /// What was published and logged, against what must be.
    fn hear_of(&mut self, outcome: Result<Content, Failure>, decision: &Decision) {
        self.told.push(self.now);
        // One for the last rest, and both for this one.
        if let [.., first, _, _, last] = self.told[..] {
            assert!(last >= first + REST, "four things are told in one rest");
        }
        let outcome = outcome.map_err(|failure| match failure {
            // When it was noticed is no news.
            Failure::Unreadable(VANISHED) => Failure::Unreadable(MISSING),
            other => other,
        });
        let news = self.outcome != Some(outcome);
        self.outcome = Some(outcome);
        let (served, publish) = match outcome {
            Ok(content) => (Served::Config(content), Some(true)),
            Err(failure) => {
                let had_good = matches!(self.served, Served::Config(_));
                let keep = match failure {
                    Failure::Unreadable(MISSING) => false,
                    Failure::Unreadable(ReadError::Changing) => true,
                    _ => self.keep_last,
                };
                match had_good && keep {
                    true => (self.served.clone(), None),
                    false => (Served::Error(failure), Some(false)),
                }
            }
        };
        let published = (decision.publish.is_some()).then_some(decision.unavailable.is_none());
        // An error that is served already need not be published again.
        let again = matches!(served, Served::Error(_)) && served == self.served;
        assert!(
            published == publish || (again && published.is_none()),
            "{published:?}, and not {publish:?}, after {outcome:?}"
        );
        self.served = served;
        match outcome {
            Ok(_) => assert_eq!(decision.error, None),
            Err(_) if news => assert!(decision.error.is_some(), "{outcome:?} is not said"),
            Err(Failure::Bad) => {}
            Err(_) => assert_eq!(decision.error, None, "{outcome:?} is said again"),
        }
    }

    /// Looks are caused by something.
    fn assert_calm(&self) {
        let elapsed = self.now - self.start;
        let polls = elapsed.div_duration_f64(POLL) as usize;
        let caused = 2 + 2 * self.hints + 3 * self.loads + 2 * self.reports + polls;
        assert!(
            self.looks <= caused,
            "{} looks, of which {caused} had a cause",
            self.looks
        );
    }

    /// The file is left alone: no event comes any more, and in the end it is known what is there.
    fn settle(&mut self, choices: &mut Choices<'_>) {
        self.look_while_due(choices);
        // No choice is left to make loads fail or to change the file.
        let mut none = Choices::from_bytes(&[]);
        self.pass_until(self.now + POLL + REST, &mut none);
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
            "the watch did not find what is there"
        );
        let (looks, loads) = (self.looks, self.loads);
        self.pass_until(self.now + 4 * POLL, &mut none);
        assert!(self.looks - looks <= 5, "a file at rest is looked at often");
        let denied = matches!(self.file, File::Denied(_));
        assert!(denied || self.loads == loads, "the same is loaded again");
    }
}

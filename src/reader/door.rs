//! A door to how `config.data` is watched, for `fuzz/` and the tests; not for use.
//!
//! The schedule and the policy, wired as the reader wires them, with the file, the events and the clock in the hands of whoever holds this.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::OnBadConfig;
use super::file::{FileId, ReadError};
use super::policy::{Decision, LoadFailure, Policy};
use super::schedule::{self, Schedule, Step};
use crate::config;
use crate::snapshot::{Loaded, Snapshot};

/// What may have happened to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// It has new content, even if its identity says otherwise.
    Changed,
    /// It is gone, or another.
    Moved,
    /// It was created or re-labelled: there is no hurry.
    Touched,
}

/// Why there is nothing to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such file.
    Missing,
    /// It went missing after the look, before it was opened.
    Vanished,
    /// It may not be opened.
    Denied,
    /// It is a directory.
    Directory,
    /// It was written to while it was read.
    Changing,
}

/// What was decided at a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing is to be done.
    Wait,
    /// The file is to be read.
    Load,
    /// There is nothing to read.
    Told(Told),
}

/// What is published and logged.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// A configuration, or the error answer instead of one.
    pub publish: Option<Result<(), String>>,
    /// The line in the log.
    pub error: Option<String>,
}

/// The watch on one file.
#[derive(Debug)]
pub struct Watcher {
    schedule: Schedule,
    policy: Policy,
}

impl Watcher {
    /// A watch that has seen nothing yet.
    pub fn new(now: Instant, on_bad_config: OnBadConfig) -> Self {
        Self {
            schedule: Schedule::new(now),
            policy: Policy::new("config.data".to_owned(), on_bad_config),
        }
    }

    /// When to look next.
    pub fn look_at(&self) -> Instant {
        self.schedule.next_check()
    }

    /// An event was heard of.
    pub fn hint(&mut self, now: Instant, hint: Hint) {
        let hint = match hint {
            Hint::Changed => schedule::Hint::Changed,
            Hint::Moved => schedule::Hint::Moved,
            Hint::Touched => schedule::Hint::Touched,
        };
        self.schedule.hint(now, hint);
    }

    /// A look at the file, of which the version or the trouble with it was `found`; the next one is at most `poll` away.
    pub fn look(&mut self, now: Instant, found: Result<i64, Trouble>, poll: Duration) -> Look {
        let found = found.map(FileId::of_test).map_err(ReadError::from);
        match self.schedule.check(now, found, poll) {
            Step::Wait => Look::Wait,
            Step::Load => Look::Load,
            Step::Report(why) => {
                Look::Told(self.policy.failed(LoadFailure::Unreadable(why)).into())
            }
        }
    }

    /// The file was read: `version` of it, and whether it is a configuration.
    pub fn judged(&mut self, now: Instant, version: i64, good: bool) -> Told {
        self.schedule.loaded(now, FileId::of_test(version));
        let verdict = if good {
            self.policy.loaded(Loaded {
                snapshot: Snapshot::unavailable("stands for a configuration"),
                warnings: Vec::new(),
            })
        } else {
            self.policy.failed(LoadFailure::Invalid(config::Error {
                path: String::new(),
                what: "not valid".to_owned(),
            }))
        };
        verdict.into()
    }

    /// The file could not be read after all.
    pub fn unread(&mut self, now: Instant, trouble: Trouble) -> Told {
        let why = ReadError::from(trouble);
        self.schedule.read_failed(now, why);
        self.policy.failed(LoadFailure::Unreadable(why)).into()
    }
}

impl From<Trouble> for ReadError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Missing => Self::Stat(Errno::ENOENT),
            Trouble::Vanished => Self::Open(Errno::ENOENT),
            Trouble::Denied => Self::Open(Errno::EACCES),
            Trouble::Directory => Self::Directory,
            Trouble::Changing => Self::Changing,
        }
    }
}

impl From<Decision> for Told {
    fn from(verdict: Decision) -> Self {
        let Decision {
            publish,
            unavailable,
            error,
            ..
        } = verdict;
        Self {
            publish: publish.map(|_| unavailable.map_or(Ok(()), Err)),
            error,
        }
    }
}

//! When to look at a file, and when to load it. Pure: the clock, the hints and what `stat` found come in, steps go out.
//!
//! *Looking* is one `stat`, done on every hint; *loading* is reading and judging, done at most once per [`LOAD_INTERVAL_MIN`]. So a file
//! that vanished is noticed at once however often it is written, and the first change after quiet is loaded at once.
//!
//! Invariants:
//!
//! * A change is never forgotten: `changed` is only cleared, and `seen` only set, in the step that answers it. A hint that
//!   comes in the resting time postpones the look to its end; one that comes while a load is running outlives that load.
//! * Every load is followed by a look, so what changed while it ran is found without any hint.
//! * There is always a next look, at most the poll interval away.
//! * A caller reports at most two things per [`LOAD_INTERVAL_MIN`]: only a missing file is reported in the resting time, and only after
//!   something else was.

use std::time::{Duration, Instant};

use super::file::{FileId, ReadError};

/// From the end of one load to the start of the next: at most one a second, and never more than half of a core when loads
/// take as long as that. The reference's manual page gives the same second (`ganeti-confd(8)`).
pub(super) const LOAD_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// From the creation or re-labelling of a file to the look at it. One that is created by opening it is still empty then,
/// and will be closed in a moment, which is a hint of its own; a link is complete, but gives no other hint.
const SETTLE: Duration = Duration::from_millis(100);

/// What may have happened to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It has new content, even if its identity says otherwise.
    Changed,
    /// It is gone, or another.
    Moved,
    /// It was created or re-labelled: there is no hurry.
    Touched,
}

/// What the caller does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Read and judge the file, then call [`Schedule::loaded`] or [`Schedule::read_failed`].
    Load,
    /// Tell that there is nothing to read.
    Report(ReadError),
}

/// The schedule of one file.
#[derive(Debug)]
pub struct Schedule {
    /// What was last loaded or reported; `None` if that must be tried again.
    seen: Option<Result<FileId, ReadError>>,
    /// Whether to load even what has been seen.
    changed: bool,
    look_at: Instant,
    rest_until: Instant,
}

impl Schedule {
    /// A file nothing is known of: to be looked at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            seen: None,
            changed: false,
            look_at: now,
            rest_until: now,
        }
    }

    /// When to [check](Self::check) next.
    pub fn next_check(&self) -> Instant {
        self.look_at
    }

    /// Takes note of `hint`.
    pub fn hint(&mut self, now: Instant, hint: Hint) {
        self.changed |= hint == Hint::Changed;
        let delay = if hint == Hint::Touched {
            SETTLE
        } else {
            Duration::ZERO
        };
        self.look_at = self.look_at.min(now + delay);
    }

    /// Decides about what `stat` found `now`, with the next look at most `poll` away.
    pub fn check(
        &mut self,
        now: Instant,
        found: Result<FileId, ReadError>,
        poll: Duration,
    ) -> Step {
        self.look_at = now + poll;
        let known = self.seen == Some(found);
        if known && (found.is_err() || !self.changed) {
            self.changed = false;
            return Step::Wait;
        }
        let missing = found.is_err_and(ReadError::is_missing);
        if now < self.rest_until && !missing {
            self.look_at = self.look_at.min(self.rest_until);
            return Step::Wait;
        }
        self.changed = false;
        self.seen = Some(found);
        match found {
            Ok(_) => Step::Load,
            Err(why) => {
                if !missing {
                    self.rest_until = now + LOAD_INTERVAL_MIN;
                }
                Step::Report(why)
            }
        }
    }

    /// The load is over: `id` was read, and found good or bad.
    pub fn loaded(&mut self, now: Instant, id: FileId) {
        self.seen = Some(Ok(id));
        self.rest_until = now + LOAD_INTERVAL_MIN;
        self.look_at = now;
    }

    /// The load is over: nothing could be read. One that was being written is tried again after the rest, others when
    /// they change, or at the next poll.
    pub fn read_failed(&mut self, now: Instant, why: ReadError) {
        self.seen = None;
        self.rest_until = now + LOAD_INTERVAL_MIN;
        if why == ReadError::Changing {
            self.look_at = self.look_at.min(self.rest_until);
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    const POLL: Duration = Duration::from_secs(15);
    const GONE: ReadError = ReadError::Stat(Errno::ENOENT);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Version `n` of a file of constant size.
    fn version(n: i64) -> FileId {
        FileId::of_test(n)
    }

    /// A schedule on a clock, and the file it is about.
    struct Script {
        schedule: Schedule,
        now: Instant,
        start: Instant,
    }

    impl Script {
        fn new() -> Self {
            let start = Instant::now();
            Self {
                schedule: Schedule::new(start),
                now: start,
                start,
            }
        }

        fn at(&mut self, ms_since_start: u64) -> &mut Self {
            self.now = self.start + ms(ms_since_start);
            self
        }

        fn hint(&mut self, hint: Hint) -> &mut Self {
            self.schedule.hint(self.now, hint);
            self
        }

        /// Looks, which must be due, and expects `step`.
        #[track_caller]
        fn look(&mut self, found: Result<FileId, ReadError>, step: Step) -> &mut Self {
            assert!(self.schedule.next_check() <= self.now, "no look is due");
            assert_eq!(self.schedule.check(self.now, found, POLL), step);
            self
        }

        /// A load that takes no time, and the look that follows.
        #[track_caller]
        fn load(&mut self, n: i64) -> &mut Self {
            self.look(Ok(version(n)), Step::Load);
            self.schedule.loaded(self.now, version(n));
            self.look(Ok(version(n)), Step::Wait)
        }

        #[track_caller]
        fn next_look(&mut self, ms_since_start: u64) -> &mut Self {
            assert_eq!(
                self.schedule.next_check() - self.start,
                ms(ms_since_start),
                "next look"
            );
            self
        }
    }

    #[test]
    fn the_first_change_after_quiet_is_loaded_at_once_and_then_only_polled() {
        let mut s = Script::new();
        s.load(1).next_look(15_000);
        s.at(5_000).hint(Hint::Changed).load(2).next_look(20_000);
        s.at(20_000)
            .look(Ok(version(2)), Step::Wait)
            .next_look(35_000);
        s.at(35_000).load(3);
    }

    #[test]
    fn the_last_of_a_burst_is_loaded_after_the_rest() {
        let mut s = Script::new();
        s.load(0);
        for n in 1..100 {
            s.at(n)
                .hint(Hint::Changed)
                .look(Ok(version(n as i64)), Step::Wait)
                .next_look(1_000);
        }
        s.at(1_000).load(99).next_look(16_000);
    }

    #[test]
    fn content_that_changed_under_the_same_identity_is_loaded_again() {
        let mut s = Script::new();
        s.load(1);
        s.at(1).hint(Hint::Changed).look(Ok(version(1)), Step::Wait);
        s.next_look(1_000).at(1_000).load(1).next_look(16_000);
    }

    #[test]
    fn a_change_during_a_load_is_loaded_next() {
        let mut s = Script::new();
        // Found without a hint, by the look after the load.
        s.look(Ok(version(1)), Step::Load).at(500);
        s.schedule.loaded(s.now, version(1));
        s.look(Ok(version(2)), Step::Wait).next_look(1_500);
        s.at(1_500).look(Ok(version(2)), Step::Load);
        // Told by a hint only.
        s.at(1_600).hint(Hint::Changed);
        s.schedule.loaded(s.now, version(2));
        s.look(Ok(version(2)), Step::Wait).next_look(2_600);
        s.at(2_600).load(2).next_look(17_600);
    }

    #[test]
    fn a_missing_file_is_reported_once_and_at_once() {
        let mut s = Script::new();
        s.load(1);
        s.at(10)
            .hint(Hint::Moved)
            .look(Err(GONE), Step::Report(GONE));
        s.at(20)
            .hint(Hint::Moved)
            .look(Err(GONE), Step::Wait)
            .next_look(15_020);
        // Back within the rest: after it. Gone again before: nothing that was not said already.
        s.at(30)
            .hint(Hint::Changed)
            .look(Ok(version(2)), Step::Wait);
        s.at(40).hint(Hint::Moved).look(Err(GONE), Step::Wait);
        s.at(50)
            .hint(Hint::Changed)
            .look(Ok(version(3)), Step::Wait);
        s.next_look(1_000).at(1_000).load(3);
    }

    #[test]
    fn reports_other_than_missing_are_rate_limited() {
        let mut s = Script::new();
        let directory = Err(ReadError::Directory);
        s.look(directory, Step::Report(ReadError::Directory));
        s.at(1)
            .hint(Hint::Moved)
            .look(Err(GONE), Step::Report(GONE));
        s.at(2).hint(Hint::Moved).look(directory, Step::Wait);
        s.next_look(1_000)
            .at(1_000)
            .look(directory, Step::Report(ReadError::Directory));
    }

    #[test]
    fn creation_and_relabelling_settle_first_and_closing_does_not_wait_for_them() {
        let mut s = Script::new();
        s.look(Err(GONE), Step::Report(GONE));
        s.at(10).hint(Hint::Touched).next_look(110);
        s.at(50).hint(Hint::Touched).next_look(110);
        s.at(60).hint(Hint::Changed).load(1).next_look(15_060);
        s.at(2_000).hint(Hint::Touched).next_look(2_100);
        s.at(2_100).look(Ok(version(1)), Step::Wait);
        s.at(3_000).hint(Hint::Touched).at(3_100).load(2);
    }

    #[test]
    fn what_could_not_be_read_is_tried_again() {
        let mut s = Script::new();
        s.look(Ok(version(1)), Step::Load);
        s.schedule.read_failed(s.now, ReadError::Changing);
        s.next_look(1_000)
            .at(1_000)
            .look(Ok(version(1)), Step::Load);
        s.schedule
            .read_failed(s.now, ReadError::Open(Errno::EACCES));
        s.next_look(16_000).at(16_000).load(1);
    }
}

//! Decides when to check and when to load a file. Performs no I/O: the caller passes in the time,
//! the hints and the result of `stat`.
//!
//! A *check* is one `stat`, done on every hint. A *load* reads and parses the file, normally at
//! most once per [`LOAD_INTERVAL_MIN`]. The first change after an idle period is loaded
//! immediately. The time from a load to the earliest next one is the *pause*.
//!
//! A file that is not found counts as missing after [`MISSING_GRACE`]: a program that removes a
//! file and creates it again causes no error. The way back from missing does not wait for the
//! pause, because errors are answered until then.
//!
//! Invariants:
//!
//! * No change is lost: `changed` is cleared and `seen` is set only in the step that handles the
//!   change. A hint during the pause schedules a check for the end of the pause. A hint during a
//!   load stays set after that load.
//! * Every load is followed by a check, so a change during the load is found even without a hint.
//! * Loads run one at a time. Of the checks during a load, only one that finds no file has an
//!   effect: the file is reported as missing after the grace period, and the load is discarded.
//! * A next check is always scheduled, at most one poll interval ahead.
//! * Of two loads, at least one waits for its pause. There are thus at most two loads per
//!   [`LOAD_INTERVAL_MIN`], and two only if the file was reported as missing between them.
//! * A missing file is reported at most once until it is found again, and a file that cannot be
//!   used at most once per [`LOAD_INTERVAL_MIN`].

use std::time::{Duration, Instant};

use super::file::{FileId, ReadError};

/// Minimum time from the end of one load to the start of the next. Loads of up to one second thus
/// use at most half of a core. The reference's manual page documents the same limit
/// (`ganeti-confd(8)`).
pub(super) const LOAD_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Time for which a file that was found before must be absent until it counts as missing. Programs
/// that do not replace a file by rename leave it absent for some milliseconds.
pub(super) const MISSING_GRACE: Duration = Duration::from_millis(200);

/// Delay from the creation or a metadata change of a file to its check.
///
/// A file created with `open` is still empty; closing it causes another hint shortly after. A file
/// created with `link` is already complete and causes no other hint.
const SETTLE: Duration = Duration::from_millis(100);

/// A file event that requires a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The content changed, even if the identity is unchanged.
    Changed,
    /// The file was removed or replaced.
    Moved,
    /// The file was created or its metadata changed; the check may be delayed.
    Touched,
}

/// What the caller must do after a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Wait,
    /// Load the file, then call [`Schedule::loaded`] or [`Schedule::read_failed`].
    Load,
    /// Report that the file cannot be read.
    Report(ReadError),
}

/// Whether the file exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Not checked yet.
    Unknown,
    /// It was found.
    Found,
    /// It was found before, but not since this time.
    Absent(Instant),
    /// It was reported as missing, and nothing was loaded since then.
    Missing,
}

/// The schedule of one file.
#[derive(Debug)]
pub struct Schedule {
    /// The last result that was loaded or reported; `None` to retry it.
    seen: Option<Result<FileId, ReadError>>,
    /// Whether to load the file even if its identity is unchanged.
    changed: bool,
    /// Whether a load is running.
    loading: bool,
    /// Whether the file was missing at the last check during the load.
    vanished: bool,
    presence: Presence,
    /// Checks without a hint are made at multiples of the poll interval from this time on, so that
    /// schedules that begin together wake the thread together.
    start: Instant,
    check_at: Instant,
    /// No load starts before this time, except on the way back from missing.
    pause_until: Instant,
    /// Whether the last load did not wait for the pause, so that the next one must.
    skipped_pause: bool,
}

impl Schedule {
    /// Creates the schedule of an unknown file, with the first check due `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            seen: None,
            changed: false,
            loading: false,
            vanished: false,
            presence: Presence::Unknown,
            start: now,
            check_at: now,
            pause_until: now,
            skipped_pause: false,
        }
    }

    /// Returns the time of the next [check](Self::check).
    pub fn next_check(&self) -> Instant {
        self.check_at
    }

    /// Records `hint` and schedules a check.
    pub fn hint(&mut self, now: Instant, hint: Hint) {
        self.changed |= hint == Hint::Changed;
        let delay = if hint == Hint::Touched {
            SETTLE
        } else {
            Duration::ZERO
        };
        self.check_at = self.check_at.min(now + delay);
    }

    /// Handles the result of `stat` and returns what to do.
    ///
    /// The next check is scheduled at most `poll` after `now`.
    pub fn check(
        &mut self,
        now: Instant,
        found: Result<FileId, ReadError>,
        poll: Duration,
    ) -> Step {
        self.check_at = self.next_poll(now, poll);
        let missing = found.is_err_and(ReadError::is_missing);
        if self.loading && !missing {
            // The check after the load finds it.
            self.vanished = false;
            return Step::Wait;
        }
        if let (Presence::Absent(_), false) = (self.presence, missing) {
            self.presence = Presence::Found;
        }
        let known = match self.presence {
            Presence::Missing if missing => true,
            _ => self.seen == Some(found),
        };
        if known && (found.is_err() || !self.changed) {
            self.changed = false;
            self.vanished = self.loading;
            return Step::Wait;
        }
        let step = match found {
            Err(why) if missing => {
                if self.is_in_grace(now) {
                    return Step::Wait;
                }
                self.presence = Presence::Missing;
                self.vanished = self.loading;
                Step::Report(why)
            }
            Ok(_) if now < self.pause_until && !self.may_skip_pause() => {
                return self.wait_for_pause();
            }
            Ok(_) => {
                self.skipped_pause = now < self.pause_until;
                (self.loading, self.vanished) = (true, false);
                Step::Load
            }
            Err(_) if now < self.pause_until => return self.wait_for_pause(),
            Err(why) => {
                self.presence = Presence::Found;
                self.pause_until = now + LOAD_INTERVAL_MIN;
                Step::Report(why)
            }
        };
        self.changed = false;
        self.seen = Some(found);
        step
    }

    /// Returns the first multiple of `poll` from the start that is after `now`.
    fn next_poll(&self, now: Instant, poll: Duration) -> Instant {
        let since_last = (now - self.start).as_nanos() % poll.as_nanos().max(1);
        // Less than `poll`, whose whole nanoseconds fit 64 bits up to 584 years.
        now + poll - Duration::from_nanos(u64::try_from(since_last).unwrap_or(0))
    }

    /// Whether a file that is absent `now` does not count as missing yet. If so, the check that
    /// decides it is scheduled.
    fn is_in_grace(&mut self, now: Instant) -> bool {
        let since = match self.presence {
            // There is nothing to bridge.
            Presence::Unknown | Presence::Missing => return false,
            Presence::Found => now,
            Presence::Absent(since) => since,
        };
        let counts_at = since + MISSING_GRACE;
        let in_grace = now < counts_at;
        if in_grace {
            self.presence = Presence::Absent(since);
            self.check_at = self.check_at.min(counts_at);
        }
        in_grace
    }

    /// Whether the next load may start during the pause.
    fn may_skip_pause(&self) -> bool {
        self.presence == Presence::Missing && !self.skipped_pause
    }

    /// Schedules a check for the end of the pause.
    fn wait_for_pause(&mut self) -> Step {
        self.check_at = self.check_at.min(self.pause_until);
        Step::Wait
    }

    /// Records a completed load of version `id`, whether its content was valid or not.
    pub fn loaded(&mut self, now: Instant, id: FileId) {
        self.seen = Some(Ok(id));
        self.loading = false;
        self.presence = Presence::Found;
        self.pause_until = now + LOAD_INTERVAL_MIN;
        self.check_at = now;
    }

    /// Whether the file vanished during the running load, and that was reported.
    pub fn has_vanished(&self) -> bool {
        self.loading && self.vanished
    }

    /// Records a completed load whose result is not used, because the file was reported as missing
    /// meanwhile.
    pub fn load_discarded(&mut self, now: Instant) {
        self.loading = false;
        self.pause_until = now + LOAD_INTERVAL_MIN;
        self.check_at = now;
    }

    /// Records a load that could not read the file, and returns the error to report. There is none
    /// if the file was removed meanwhile, because it may return during the grace period.
    ///
    /// A file that was being written is retried after the pause. Other failures are retried on the
    /// next hint or poll.
    #[must_use]
    pub fn read_failed(&mut self, now: Instant, why: ReadError) -> Option<ReadError> {
        self.seen = None;
        self.loading = false;
        self.pause_until = now + LOAD_INTERVAL_MIN;
        if !why.is_missing() {
            self.presence = Presence::Found;
        } else if self.is_in_grace(now) {
            return None;
        } else {
            self.presence = Presence::Missing;
        }
        if why == ReadError::Changing {
            self.check_at = self.check_at.min(self.pause_until);
        }
        Some(why)
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

    /// A schedule with a simulated clock.
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

        /// Checks the file, which must be due, and expects `step`.
        #[track_caller]
        fn check(&mut self, found: Result<FileId, ReadError>, step: Step) -> &mut Self {
            assert!(self.schedule.next_check() <= self.now, "no check is due");
            assert_eq!(self.schedule.check(self.now, found, POLL), step);
            self
        }

        /// Performs a load that takes no time, and the check that follows it.
        #[track_caller]
        fn load(&mut self, n: i64) -> &mut Self {
            self.check(Ok(version(n)), Step::Load);
            self.schedule.loaded(self.now, version(n));
            self.check(Ok(version(n)), Step::Wait)
        }

        #[track_caller]
        fn next_check_at(&mut self, ms_since_start: u64) -> &mut Self {
            assert_eq!(
                self.schedule.next_check() - self.start,
                ms(ms_since_start),
                "time of the next check"
            );
            self
        }
    }

    #[test]
    fn a_change_after_an_idle_period_is_loaded_immediately() {
        let mut s = Script::new();
        s.load(1).next_check_at(15_000);
        s.at(5_000)
            .hint(Hint::Changed)
            .load(2)
            .next_check_at(15_000);
        s.at(15_007)
            .check(Ok(version(2)), Step::Wait)
            .next_check_at(30_000);
        s.at(30_000).load(3);
    }

    #[test]
    fn the_last_change_of_a_burst_is_loaded_after_the_pause() {
        let mut s = Script::new();
        s.load(0);
        for n in 1..100 {
            s.at(n)
                .hint(Hint::Changed)
                .check(Ok(version(n as i64)), Step::Wait)
                .next_check_at(1_000);
        }
        s.at(1_000).load(99).next_check_at(15_000);
    }

    #[test]
    fn a_change_hint_reloads_a_file_with_an_unchanged_identity() {
        let mut s = Script::new();
        s.load(1);
        s.at(1)
            .hint(Hint::Changed)
            .check(Ok(version(1)), Step::Wait);
        s.next_check_at(1_000)
            .at(1_000)
            .load(1)
            .next_check_at(15_000);
    }

    #[test]
    fn a_change_during_a_load_is_loaded_after_the_pause() {
        let mut s = Script::new();
        // Detected without a hint, by the check after the load.
        s.check(Ok(version(1)), Step::Load).at(500);
        s.schedule.loaded(s.now, version(1));
        s.check(Ok(version(2)), Step::Wait).next_check_at(1_500);
        s.at(1_500).check(Ok(version(2)), Step::Load);
        // Detected only by a hint.
        s.at(1_600).hint(Hint::Changed);
        s.schedule.loaded(s.now, version(2));
        s.check(Ok(version(2)), Step::Wait).next_check_at(2_600);
        s.at(2_600).load(2).next_check_at(15_000);
    }

    #[test]
    fn a_file_that_vanishes_during_a_load_is_missing_after_the_grace_period() {
        let mut s = Script::new();
        s.load(1);
        s.at(5_000).hint(Hint::Changed);
        s.check(Ok(version(2)), Step::Load);
        s.at(5_010).hint(Hint::Changed);
        s.check(Ok(version(3)), Step::Wait);
        s.at(5_020).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.next_check_at(5_220)
            .at(5_220)
            .check(Err(GONE), Step::Report(GONE));
        assert!(s.schedule.has_vanished());
        s.at(5_300);
        s.schedule.load_discarded(s.now);
        s.check(Err(GONE), Step::Wait);
        s.at(9_000).hint(Hint::Changed).load(4);
        assert!(!s.schedule.has_vanished());
    }

    #[test]
    fn a_file_that_is_absent_for_less_than_the_grace_period_is_not_missing() {
        let mut s = Script::new();
        s.load(1);
        s.at(10).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.next_check_at(210);
        // It returns as another version, which is loaded after the pause.
        s.at(12)
            .hint(Hint::Changed)
            .check(Ok(version(2)), Step::Wait);
        s.next_check_at(1_000).at(1_000).load(2);
        // The next absence has the whole grace period again.
        s.at(5_000).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.next_check_at(5_200);
        s.at(5_100).hint(Hint::Touched).at(5_200);
        s.check(Ok(version(2)), Step::Wait);
        s.at(5_300).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.next_check_at(5_500);
    }

    #[test]
    fn a_missing_file_is_reported_after_the_grace_period_and_only_once() {
        let mut s = Script::new();
        s.load(1);
        s.at(10).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.at(20).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.next_check_at(210)
            .at(210)
            .check(Err(GONE), Step::Report(GONE))
            .next_check_at(15_000);
        s.at(220)
            .hint(Hint::Moved)
            .check(Err(GONE), Step::Wait)
            .next_check_at(15_000);
        // Not even for another reason.
        let gone = ReadError::Stat(Errno::ENOTDIR);
        s.at(230).hint(Hint::Moved).check(Err(gone), Step::Wait);
    }

    #[test]
    fn the_way_back_from_missing_does_not_wait_unless_the_last_load_did_not_either() {
        let mut s = Script::new();
        s.load(1);
        s.at(10).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.at(210).check(Err(GONE), Step::Report(GONE));
        s.at(300).hint(Hint::Changed).load(2);
        // The pause after that load is waited for.
        s.at(310).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.at(510).check(Err(GONE), Step::Report(GONE));
        s.at(520)
            .hint(Hint::Changed)
            .check(Ok(version(3)), Step::Wait);
        s.next_check_at(1_300).at(1_300).load(3);
        s.at(1_310).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.at(1_510).check(Err(GONE), Step::Report(GONE));
        s.at(1_520).hint(Hint::Changed).load(4);
    }

    #[test]
    fn a_file_that_is_missing_at_the_start_is_reported_immediately() {
        let mut s = Script::new();
        s.check(Err(GONE), Step::Report(GONE)).next_check_at(15_000);
        s.at(1).hint(Hint::Changed).load(1);
        // The same if it vanishes between `stat` and `open`.
        let mut s = Script::new();
        s.check(Ok(version(1)), Step::Load);
        let gone = ReadError::Open(Errno::ENOENT);
        assert_eq!(s.schedule.read_failed(s.now, gone), Some(gone));
        // The file that returns is loaded without a pause.
        s.at(1).hint(Hint::Changed).load(2);
    }

    #[test]
    fn a_file_that_vanishes_between_stat_and_open_has_the_grace_period() {
        let mut s = Script::new();
        s.load(1);
        s.at(5_000).hint(Hint::Changed);
        s.check(Ok(version(2)), Step::Load).at(5_010);
        let gone = ReadError::Open(Errno::ENOENT);
        assert_eq!(s.schedule.read_failed(s.now, gone), None);
        s.next_check_at(5_210);
        s.at(5_012)
            .hint(Hint::Changed)
            .check(Ok(version(3)), Step::Wait);
        s.next_check_at(6_010).at(6_010).load(3);
        // And if it does not return:
        s.at(8_000).hint(Hint::Changed);
        s.check(Ok(version(4)), Step::Load);
        assert_eq!(s.schedule.read_failed(s.now, gone), None);
        s.at(8_200).check(Err(GONE), Step::Report(GONE));
    }

    #[test]
    fn reports_other_than_missing_are_rate_limited() {
        let mut s = Script::new();
        let directory = Err(ReadError::Directory);
        s.check(directory, Step::Report(ReadError::Directory));
        s.at(1).hint(Hint::Moved).check(Err(GONE), Step::Wait);
        s.at(201).check(Err(GONE), Step::Report(GONE));
        s.at(202).hint(Hint::Moved).check(directory, Step::Wait);
        s.next_check_at(1_000)
            .at(1_000)
            .check(directory, Step::Report(ReadError::Directory));
    }

    #[test]
    fn creation_and_metadata_changes_delay_the_check_but_closing_does_not() {
        let mut s = Script::new();
        s.check(Err(GONE), Step::Report(GONE));
        s.at(10).hint(Hint::Touched).next_check_at(110);
        s.at(50).hint(Hint::Touched).next_check_at(110);
        s.at(60).hint(Hint::Changed).load(1).next_check_at(15_000);
        s.at(2_000).hint(Hint::Touched).next_check_at(2_100);
        s.at(2_100).check(Ok(version(1)), Step::Wait);
        s.at(3_000).hint(Hint::Touched).at(3_100).load(2);
    }

    #[test]
    fn a_failed_read_is_retried() {
        let mut s = Script::new();
        s.check(Ok(version(1)), Step::Load);
        let failed = |s: &mut Script, why| {
            assert_eq!(s.schedule.read_failed(s.now, why), Some(why));
        };
        failed(&mut s, ReadError::Changing);
        s.next_check_at(1_000)
            .at(1_000)
            .check(Ok(version(1)), Step::Load);
        failed(&mut s, ReadError::Open(Errno::EACCES));
        s.next_check_at(15_000).at(15_000).load(1);
    }
}

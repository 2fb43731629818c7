//! One file: its schedule, and the check and the load of it that are running.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::file::{FileId, ReadError};
use super::schedule::{Hint, Schedule, Step};

/// Time after which a running check or load is warned of. The time to each following warning
/// doubles.
const SLOW: Duration = Duration::from_secs(5);

/// Maximum time between two warnings.
const WARN_INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// A file and what is being done with it.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) path: PathBuf,
    /// Maximum size in bytes.
    pub(super) limit: u64,
    pub(super) schedule: Schedule,
    check: Option<Running>,
    pub(super) load: Option<Running>,
    /// A hint that came during the check: the check may have been too early.
    check_again: Option<Hint>,
}

/// A check or load that has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    since: Instant,
    /// After which time the next warning is due.
    warn_after: Duration,
}

impl Running {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            warn_after: SLOW,
        }
    }

    fn next_warning(&self) -> Instant {
        self.since + self.warn_after
    }

    /// Returns the time that has passed, if a warning is due.
    fn warning(&mut self, now: Instant) -> Option<Duration> {
        if now < self.next_warning() {
            return None;
        }
        let passed = self.warn_after;
        self.warn_after += passed.min(WARN_INTERVAL_MAX);
        Some(passed)
    }
}

impl Tracked {
    pub(super) fn new(path: PathBuf, limit: u64, now: Instant) -> Self {
        Self {
            path,
            limit,
            schedule: Schedule::new(now),
            check: None,
            load: None,
            check_again: None,
        }
    }

    /// The time of the next check; `None` while one is running.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.check.is_none().then(|| self.schedule.next_check())
    }

    /// Records a hint.
    pub(super) fn hint(&mut self, now: Instant, hint: Hint) {
        self.schedule.hint(now, hint);
        if self.check.is_some() && self.check_again != Some(Hint::Moved) {
            // The schedule keeps that the content changed. Another check finds the rest.
            self.check_again = Some(match hint {
                Hint::Changed | Hint::Moved => Hint::Moved,
                Hint::Touched => Hint::Touched,
            });
        }
    }

    pub(super) fn begin_check(&mut self, now: Instant) {
        self.check = Some(Running::new(now));
    }

    pub(super) fn begin_load(&mut self, now: Instant) {
        self.load = Some(Running::new(now));
    }

    /// Handles the result of a check. See [`Schedule::check`].
    pub(super) fn checked(
        &mut self,
        now: Instant,
        found: Result<FileId, ReadError>,
        poll: Duration,
    ) -> Step {
        self.check = None;
        let step = self.schedule.check(now, found, poll);
        if let Some(hint) = self.check_again.take() {
            self.schedule.hint(now, hint);
        }
        step
    }

    /// The time of the next [warning](Self::warn_of_slow).
    pub(super) fn next_warning(&self) -> Option<Instant> {
        let running = [&self.check, &self.load].into_iter().flatten();
        running.map(Running::next_warning).min()
    }

    /// Warns if the check or the load takes long.
    pub(super) fn warn_of_slow(&mut self, now: Instant) {
        let path = self.path.display();
        if let Some(passed) = self.check.as_mut().and_then(|check| check.warning(now)) {
            tracing::warn!(
                "Checking {path} takes longer than {} s: its storage does not respond; what was \
                 loaded before is served",
                passed.as_secs()
            );
        }
        if let Some(passed) = self.load.as_mut().and_then(|load| load.warning(now)) {
            tracing::warn!(
                "Loading {path} takes longer than {} s; what was loaded before is served",
                passed.as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(15);

    #[test]
    fn a_hint_during_a_check_causes_another_check() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut file = Tracked::new("f".into(), 9, start);
        let found = Ok(FileId::of_test(1));
        file.begin_check(start);
        assert_eq!(file.next_check(), None);
        assert_eq!(file.checked(at(1), found, POLL), Step::Load);
        file.schedule.loaded(at(1), FileId::of_test(1));
        for (hint, delay) in [(Hint::Moved, 0), (Hint::Touched, 100), (Hint::Changed, 0)] {
            file.begin_check(at(2));
            file.hint(at(3), hint);
            file.checked(at(4), found, POLL);
            assert_eq!(file.next_check(), Some(at(4 + delay)), "{hint:?}");
        }
        // The last hint said that the content changed, which is loaded after the pause.
        file.begin_check(at(5));
        assert_eq!(file.checked(at(2_000), found, POLL), Step::Load);
    }

    #[test]
    fn warnings_come_at_growing_intervals() {
        let start = Instant::now();
        let mut file = Tracked::new("f".into(), 9, start);
        assert_eq!(file.next_warning(), None);
        file.begin_load(start);
        let mut warned = Vec::new();
        while let Some(at) = file.next_warning()
            && warned.len() < 12
        {
            warned.push((at - start).as_secs());
            file.warn_of_slow(at);
        }
        assert_eq!(
            warned,
            [5, 10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 8_720]
        );
    }
}

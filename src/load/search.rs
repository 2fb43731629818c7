//! Finds the highest rate that meets the requirements: doubles the rate until one fails, then
//! bisects on a logarithmic scale.
//!
//! Pure: the caller runs the trials. There are at most [`TRIALS_MAX`] of them.

/// The search ends when the lowest failed rate is at most this factor above the highest that held.
const PRECISION: f64 = 1.03;

/// From 1 to a million requests per second takes 20 doublings; bisecting a factor of 2 takes 6
/// steps.
const TRIALS_MAX: usize = 30;

/// The lowest rate tried, in requests per second.
const RATE_MIN: f64 = 1.0;

/// A search in progress.
#[derive(Clone, Debug)]
pub(super) struct RateSearch {
    next: f64,
    held: Option<f64>,
    failed: Option<f64>,
    trials: usize,
}

impl RateSearch {
    /// A search that starts with `rate`.
    pub(super) fn from(rate: f64) -> Self {
        Self {
            next: rate.max(RATE_MIN),
            held: None,
            failed: None,
            trials: 0,
        }
    }

    /// The rate to try next; `None` when the search has ended.
    pub(super) fn next(&self) -> Option<f64> {
        let close = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed / held <= PRECISION,
            (None, Some(failed)) => failed <= RATE_MIN,
            _ => false,
        };
        (!close && self.trials < TRIALS_MAX).then_some(self.next)
    }

    /// Records whether the rate from [`RateSearch::next`] meets the requirements.
    pub(super) fn note(&mut self, holds: bool) {
        let side = if holds {
            &mut self.held
        } else {
            &mut self.failed
        };
        *side = Some(self.next);
        self.trials += 1;
        self.next = match (self.held, self.failed) {
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (Some(held), None) => held * 2.0,
            (None, Some(failed)) => (failed / 2.0).max(RATE_MIN),
            (None, None) => self.next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(start: f64, limit: f64) -> (Option<f64>, usize) {
        let mut search = RateSearch::from(start);
        let mut trials = 0;
        while let Some(rate) = search.next() {
            trials += 1;
            search.note(rate <= limit);
        }
        (search.held, trials)
    }

    #[test]
    fn the_limit_is_found_from_below_and_above() {
        for start in [10.0, 1_000.0, 100_000.0, 3e6] {
            let (best, trials) = search(start, 123_456.0);
            let best = best.expect("there is one");
            assert!(best <= 123_456.0 && best * PRECISION >= 123_456.0, "{best}");
            assert!(trials <= 22, "{trials} trials");
        }
    }

    #[test]
    fn a_search_ends_if_every_trial_fails_or_holds() {
        assert_eq!(search(1_000.0, 0.0).0, None);
        let (best, trials) = search(1.0, f64::INFINITY);
        assert!(best.is_some());
        assert_eq!(trials, TRIALS_MAX);
    }
}

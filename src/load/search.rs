//! Finds the highest rate that meets the requirements: from the capacity of a closed loop, up or
//! down until a rate fails or holds, then by bisection on a logarithmic scale.
//!
//! One trial proves little, because a pause of the machine fails it. Each rate is tried until a
//! majority of [`TRIALS`] agrees. A trial in which the generator could not send at the rate says
//! nothing about the server and is repeated.
//!
//! Pure: the caller runs the trials. At most [`RATES_MAX`] rates are tried.

use serde::Serialize;

/// Trials of one rate, of which a majority decides.
const TRIALS: u32 = 3;

/// Trials of one rate that may be repeated because the generator was the limit.
const REPEATS_MAX: u32 = 2;

/// The search ends when the lowest failed rate is at most this factor above the highest that held.
const PRECISION: f64 = 1.05;

/// From 1 to a million requests per second takes 13 steps; bisecting a factor of 4 takes 5.
const RATES_MAX: usize = 30;

/// The largest factor between two rates.
const STEP_MAX: f64 = 4.0;

/// The lowest rate tried, in requests per second.
const RATE_MIN: f64 = 1.0;

/// The result of one trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TrialResult {
    /// The requirements hold.
    Held,
    /// A requirement does not hold.
    Failed,
    /// The generator could not send at this rate.
    GeneratorLimited,
}

/// A rate that was tried, and its votes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Bound {
    pub(super) rate: f64,
    /// Trials in which the requirements held.
    pub(super) held: u32,
    /// Trials in which they did not.
    pub(super) failed: u32,
    /// The rate failed because the generator could not send at it.
    pub(super) generator_limited: bool,
}

impl Bound {
    /// The probability that most trials at this rate would agree with the votes, if nothing was
    /// known before: a beta distribution with the votes as parameters, above one half.
    pub(super) fn confidence(&self) -> f64 {
        let (most, least) = (self.held.max(self.failed), self.held.min(self.failed));
        // I(1/2; least + 1, most + 1) as a binomial sum over n = most + least + 1 tosses.
        let n = most + least + 1;
        let mut term = 0.5_f64.powi(n as i32);
        let mut above = 0.0;
        for k in 0..=n {
            if k > least {
                above += term;
            }
            term *= f64::from(n - k) / f64::from(k + 1);
        }
        above
    }
}

/// A search in progress.
#[derive(Clone, Debug)]
pub(super) struct RateSearch {
    next: f64,
    /// The factor to the next higher rate while none has failed.
    step: f64,
    held: Option<Bound>,
    failed: Option<Bound>,
    votes: Bound,
    limited: u32,
    rates: usize,
}

impl RateSearch {
    /// A search that starts with a rate given by the user, which may be far from the limit.
    pub(super) fn from_rate(rate: f64) -> Self {
        Self::new(rate, 2.0)
    }

    /// A search that starts with the rate of a closed loop, which is near the limit.
    pub(super) fn from_capacity(rate: f64) -> Self {
        Self::new(rate, 1.25)
    }

    fn new(rate: f64, step: f64) -> Self {
        let next = rate.max(RATE_MIN);
        Self {
            next,
            step,
            held: None,
            failed: None,
            votes: votes(next),
            limited: 0,
            rates: 0,
        }
    }

    /// The rate of the next trial; `None` when the search has ended.
    pub(super) fn next(&self) -> Option<f64> {
        let is_close = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed.rate / held.rate <= PRECISION,
            (None, Some(failed)) => failed.rate <= RATE_MIN,
            _ => false,
        };
        (!is_close && self.rates < RATES_MAX).then_some(self.next)
    }

    /// Records the result of a trial at the rate from [`RateSearch::next`].
    pub(super) fn note(&mut self, result: TrialResult) {
        const MAJORITY: u32 = TRIALS / 2 + 1;
        match result {
            TrialResult::Held => self.votes.held += 1,
            TrialResult::Failed => self.votes.failed += 1,
            TrialResult::GeneratorLimited => self.limited += 1,
        }
        if self.limited > REPEATS_MAX {
            self.votes.generator_limited = true;
            self.failed = Some(self.votes);
        } else if self.votes.held == MAJORITY {
            self.held = Some(self.votes);
        } else if self.votes.failed == MAJORITY {
            self.failed = Some(self.votes);
        } else {
            return;
        }
        self.rates += 1;
        self.next = match (self.held, self.failed) {
            (Some(held), Some(failed)) => (held.rate * failed.rate).sqrt(),
            (Some(held), None) => held.rate * self.step,
            (None, Some(failed)) => (failed.rate / self.step).max(RATE_MIN),
            (None, None) => self.next,
        };
        // Far from the limit, larger steps find the other bound sooner.
        self.step = (self.step * 1.25).min(STEP_MAX);
        self.votes = votes(self.next);
        self.limited = 0;
    }

    /// The highest rate that held and the lowest that failed.
    pub(super) fn bracket(&self) -> (Option<Bound>, Option<Bound>) {
        (self.held, self.failed)
    }
}

fn votes(rate: f64) -> Bound {
    Bound {
        rate,
        held: 0,
        failed: 0,
        generator_limited: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search with trials that `hold` decides; returns the highest rate that held, and the
    /// number of trials.
    fn run(
        mut search: RateSearch,
        mut hold: impl FnMut(f64) -> TrialResult,
    ) -> (Option<f64>, usize) {
        let mut trials = 0;
        while let Some(rate) = search.next() {
            trials += 1;
            search.note(hold(rate));
        }
        (search.bracket().0.map(|bound| bound.rate), trials)
    }

    fn below(limit: f64) -> impl Fn(f64) -> TrialResult {
        move |rate| match rate <= limit {
            true => TrialResult::Held,
            false => TrialResult::Failed,
        }
    }

    #[test]
    fn the_limit_is_found_from_below_and_above() {
        for start in [10.0, 1_000.0, 100_000.0, 3e6] {
            for search in [
                RateSearch::from_rate(start),
                RateSearch::from_capacity(start),
            ] {
                let (best, trials) = run(search, below(123_456.0));
                let best = best.expect("there is one");
                assert!(best <= 123_456.0 && best * PRECISION >= 123_456.0, "{best}");
                assert!(trials <= 60, "{trials} trials from {start}");
            }
        }
        let (_, trials) = run(RateSearch::from_capacity(100_000.0), below(60_000.0));
        assert!(trials <= 16, "{trials} trials from the capacity");
    }

    /// Near its limit, a server meets the requirements in some trials only; and every tenth trial
    /// is disturbed at any rate.
    #[test]
    fn ten_searches_with_noise_agree_within_15_percent() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut rates: Vec<f64> = (0..10)
            .map(|_| {
                let (best, _) = run(RateSearch::from_capacity(100_000.0), |rate| {
                    let chance = 1.0 / (1.0 + (rate / 40_000.0).powi(20));
                    match random.f64() < chance * 0.9 {
                        true => TrialResult::Held,
                        false => TrialResult::Failed,
                    }
                });
                best.expect("there is one")
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        let median = f64::midpoint(rates[4], rates[5]);
        for rate in &rates {
            assert!((rate / median - 1.0).abs() <= 0.15, "{rates:?}");
        }
    }

    #[test]
    fn a_limit_of_the_generator_is_repeated_and_then_named() {
        let mut search = RateSearch::from_rate(1_000.0);
        search.note(TrialResult::GeneratorLimited);
        assert_eq!(search.next(), Some(1_000.0), "repeated");
        search.note(TrialResult::Held);
        search.note(TrialResult::Held);
        assert_eq!(search.next(), Some(2_000.0));
        for _ in 0..=REPEATS_MAX {
            search.note(TrialResult::GeneratorLimited);
        }
        let (held, failed) = search.bracket();
        assert_eq!(held.map(|bound| bound.rate), Some(1_000.0));
        assert!(failed.expect("the generator's limit").generator_limited);
    }

    #[test]
    fn a_search_ends_if_every_trial_fails_or_holds() {
        assert_eq!(run(RateSearch::from_rate(1_000.0), below(0.0)).0, None);
        let (best, trials) = run(RateSearch::from_rate(1.0), below(f64::INFINITY));
        assert!(best.is_some());
        assert_eq!(trials, 2 * RATES_MAX);
    }

    #[test]
    fn the_confidence_grows_with_the_votes() {
        let confidence = |held, failed| {
            let bound = Bound {
                held,
                failed,
                ..votes(1.0)
            };
            (bound.confidence() * 1e4).round() / 1e4
        };
        assert_eq!(confidence(2, 0), 0.875);
        assert_eq!(confidence(0, 2), 0.875);
        assert_eq!(confidence(2, 1), 0.6875);
        assert_eq!(confidence(3, 0), 0.9375);
    }
}

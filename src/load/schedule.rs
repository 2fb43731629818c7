//! When the requests of an open loop are to be sent, whatever becomes of the earlier ones.
//!
//! Times are nanoseconds since the start of the run. A schedule knows no clock: what is late is the worker's affair, and
//! latency is counted from the times given here.

use clap::ValueEnum;
use serde::Serialize;

use super::Nanos;

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At equal distances.
    #[default]
    Constant,
    /// As if from very many independent clients: distances are random, exponentially distributed.
    Poisson,
}

/// One worker's part of the requests.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    /// Nanoseconds between this worker's requests, on average.
    distance: f64,
    first: f64,
    count: u64,
    due: f64,
    random: fastrand::Rng,
}

impl Schedule {
    /// The part of worker `index` of `workers`, of a load of `rate` requests a second in all.
    pub(super) fn new(
        arrivals: Arrivals,
        rate: f64,
        index: usize,
        workers: usize,
        seed: u64,
    ) -> Self {
        let overall = 1e9 / rate;
        let mut schedule = Self {
            arrivals,
            distance: overall * workers as f64,
            first: overall * index as f64,
            count: 0,
            due: overall * index as f64,
            random: fastrand::Rng::with_seed(seed),
        };
        if arrivals == Arrivals::Poisson {
            schedule.due = schedule.gap();
        }
        schedule
    }

    /// When the next request is to be sent.
    pub(super) fn due(&self) -> Nanos {
        self.due as Nanos
    }

    /// Goes on to the request behind it.
    pub(super) fn advance(&mut self) {
        self.count += 1;
        self.due = match self.arrivals {
            // Not a sum: rounding does not add up.
            Arrivals::Constant => self.first + self.distance * self.count as f64,
            Arrivals::Poisson => self.due + self.gap(),
        };
    }

    fn gap(&mut self) -> f64 {
        // 1 - u is above zero: its logarithm is finite.
        -(1.0 - self.random.f64()).ln() * self.distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(mut schedule: Schedule, count: usize) -> Vec<Nanos> {
        (0..count)
            .map(|_| {
                let due = schedule.due();
                schedule.advance();
                due
            })
            .collect()
    }

    #[test]
    fn workers_take_turns_at_a_constant_rate() {
        let part = |index| times(Schedule::new(Arrivals::Constant, 1e6, index, 2, 0), 3);
        assert_eq!(part(0), [0, 2000, 4000]);
        assert_eq!(part(1), [1000, 3000, 5000]);
    }

    #[test]
    fn a_constant_rate_does_not_drift() {
        let mut schedule = Schedule::new(Arrivals::Constant, 3.0, 0, 1, 0);
        for _ in 0..3_000_000 {
            schedule.advance();
        }
        assert_eq!(schedule.due(), 1_000_000 * 1_000_000_000);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let count = 100_000;
        let times = times(Schedule::new(Arrivals::Poisson, 1e6, 0, 1, 7), count);
        assert!(times.is_sorted());
        let mean = *times.last().expect("many") as f64 / count as f64;
        assert!((mean - 1000.0).abs() < 20.0, "{mean} ns between requests");
        // Of exponential gaps, 1 - 1/e are shorter than the mean.
        let short = times
            .windows(2)
            .filter(|pair| pair[1] - pair[0] < 1000)
            .count();
        let share = short as f64 / count as f64;
        assert!((share - 0.632).abs() < 0.01, "{share} are short");
    }

    #[test]
    fn a_seed_repeats_a_schedule() {
        let run = |seed| times(Schedule::new(Arrivals::Poisson, 1e3, 1, 4, seed), 50);
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}

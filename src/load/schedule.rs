//! The times at which an open loop sends its requests, independent of any reply.
//!
//! Pure: times are nanoseconds since the start of the run, and no clock is read. Latency is
//! measured from these times, even if the worker sends later.

use clap::ValueEnum;
use serde::Serialize;

use super::nanos::Nanos;
use super::profile::Profile;

/// The distribution of requests over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Equal intervals.
    #[default]
    Constant,
    /// Exponentially distributed intervals, as from very many independent clients.
    Poisson,
}

/// The schedule of one worker.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    profile: Profile,
    /// The requests of the whole load from one request of this worker to the next, on average.
    step: f64,
    /// With equal intervals, the number of the first request in the whole load.
    first: f64,
    /// Requests of this worker so far.
    count: u64,
    /// The position of the next request among those of the whole load.
    position: f64,
    due: f64,
    random: fastrand::Rng,
}

impl Schedule {
    /// The share of worker `index` of `workers` in a load with this rate over time.
    pub(super) fn new(
        arrivals: Arrivals,
        profile: Profile,
        index: usize,
        workers: usize,
        seed: u64,
    ) -> Self {
        let mut schedule = Self {
            arrivals,
            profile,
            step: workers as f64,
            first: index as f64,
            count: 0,
            position: index as f64,
            due: 0.0,
            random: fastrand::Rng::with_seed(seed),
        };
        if arrivals == Arrivals::Poisson {
            schedule.position = schedule.gap();
        }
        schedule.due = schedule.profile.time_of(schedule.position);
        schedule
    }

    /// When the next request is due.
    pub(super) fn due(&self) -> Nanos {
        self.due as Nanos
    }

    /// Moves on to the request after it.
    pub(super) fn advance(&mut self) {
        self.count += 1;
        self.position = match self.arrivals {
            Arrivals::Constant => self.first + self.step * self.count as f64,
            Arrivals::Poisson => self.position + self.gap(),
        };
        self.due = self.profile.time_of(self.position);
    }

    /// Skips the requests that are due before `time`; returns their number. With Poisson arrivals
    /// that is the expected number, and the schedule starts again at `time`.
    pub(super) fn skip_to(&mut self, time: Nanos) -> u64 {
        let time = time as f64;
        if self.due >= time {
            return 0;
        }
        let left = self.profile.count_at(time) - self.position;
        // A request that is due at the time itself is not skipped, in spite of rounding.
        let skipped = (left / self.step - 1e-6).ceil().max(0.0) as u64;
        self.count += skipped;
        self.position = match self.arrivals {
            Arrivals::Constant => self.first + self.step * self.count as f64,
            Arrivals::Poisson => self.profile.count_at(time) + self.gap(),
        };
        self.due = self.profile.time_of(self.position).max(time);
        skipped
    }

    /// The distance to the next request with Poisson arrivals.
    fn gap(&mut self) -> f64 {
        // 1 - u is above 0, so its logarithm is finite.
        -(1.0 - self.random.f64()).ln() * self.step
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
    fn workers_alternate_at_a_constant_rate() {
        let part = |index| {
            times(
                Schedule::new(Arrivals::Constant, Profile::constant(1e6), index, 2, 0),
                3,
            )
        };
        assert_eq!(part(0), [0, 2000, 4000]);
        assert_eq!(part(1), [1000, 3000, 5000]);
    }

    #[test]
    fn a_constant_rate_does_not_drift() {
        let mut schedule = Schedule::new(Arrivals::Constant, Profile::constant(3.0), 0, 1, 0);
        for _ in 0..3_000_000 {
            schedule.advance();
        }
        assert_eq!(schedule.due(), 1_000_000 * 1_000_000_000);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_distribution() {
        let count = 100_000;
        let times = times(
            Schedule::new(Arrivals::Poisson, Profile::constant(1e6), 0, 1, 7),
            count,
        );
        assert!(times.is_sorted());
        let mean = *times.last().expect("many") as f64 / count as f64;
        assert!((mean - 1000.0).abs() < 20.0, "{mean} ns between requests");
        // A share of 1 - 1/e of exponential intervals is shorter than the mean.
        let short = times
            .windows(2)
            .filter(|pair| pair[1] - pair[0] < 1000)
            .count();
        let share = short as f64 / count as f64;
        assert!((share - 0.632).abs() < 0.01, "{share} are short");
    }

    #[test]
    fn skipped_requests_are_counted() {
        let mut schedule = Schedule::new(Arrivals::Constant, Profile::constant(1e6), 1, 2, 0);
        assert_eq!(schedule.skip_to(0), 0);
        assert_eq!(schedule.due(), 1_000);
        // Those at 1,000, 3,000, 5,000 and 7,000.
        assert_eq!(schedule.skip_to(9_000), 4);
        assert_eq!(schedule.due(), 9_000);
        let mut schedule = Schedule::new(Arrivals::Poisson, Profile::constant(1e6), 0, 1, 7);
        let skipped = schedule.skip_to(1_000_000_000);
        assert!((990_000..1_010_000).contains(&skipped), "{skipped}");
        assert!(schedule.due() >= 1_000_000_000);
    }

    #[test]
    fn a_seed_repeats_a_schedule() {
        let run = |seed| {
            times(
                Schedule::new(Arrivals::Poisson, Profile::constant(1e3), 1, 4, seed),
                50,
            )
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}

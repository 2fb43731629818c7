//! The rate of an open loop over time: constant, or stages with steps and ramps
//! (`1k:10s,1k-50k:30s`).
//!
//! Pure: a profile converts between a time and the number of requests that are due before it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::nanos::nanos;
use super::number::parse_number;

/// The highest rate, in requests per second.
const RATE_MAX: f64 = 1e8;

/// The longest stage.
const STAGE_MAX: Duration = Duration::from_secs(86_400);

/// Stages of an open loop, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages(Vec<Stage>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stage {
    /// Requests per second at the start.
    from: f64,
    /// Requests per second at the end.
    to: f64,
    duration: Duration,
}

impl Stages {
    /// The duration of all stages.
    pub(super) fn duration(&self) -> Duration {
        self.0.iter().map(|stage| stage.duration).sum()
    }

    /// The mean rate, in requests per second.
    pub(super) fn mean_rate(&self) -> f64 {
        let requests =
            |stage: &Stage| f64::midpoint(stage.from, stage.to) * stage.duration.as_secs_f64();
        self.0.iter().map(requests).sum::<f64>() / self.duration().as_secs_f64()
    }
}

impl FromStr for Stages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let stage = |part: &str| -> Option<Stage> {
            let (rates, duration) = part.trim().split_once(':')?;
            let (from, to) = rates.split_once('-').unwrap_or((rates, rates));
            let rate = |text: &str| parse_number(text).filter(|rate| *rate <= RATE_MAX);
            let duration = humantime::parse_duration(duration).ok();
            let stage = Stage {
                from: rate(from)?,
                to: rate(to)?,
                duration: duration.filter(|it| !it.is_zero() && *it <= STAGE_MAX)?,
            };
            (stage.from > 0.0 || stage.to > 0.0).then_some(stage)
        };
        let stages: Option<Vec<Stage>> = text.split(',').map(stage).collect();
        stages
            .map(Self)
            .ok_or_else(|| "expected stages like 1k:10s for a step or 1k-50k:30s for a ramp".into())
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}", stage.from)?;
            if stage.from != stage.to {
                write!(f, "-{}", stage.to)?;
            }
            write!(f, ":{}", humantime::format_duration(stage.duration))?;
        }
        Ok(())
    }
}

impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The rate over time. Times are in nanoseconds, rates in requests per nanosecond.
#[derive(Clone, Debug)]
pub(super) struct Profile(Vec<Segment>);

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: f64,
    /// Requests before the start.
    count: f64,
    rate: f64,
    /// The change of the rate per nanosecond.
    slope: f64,
}

impl Profile {
    /// A constant rate, in requests per second.
    pub(super) fn constant(rate: f64) -> Self {
        Self(vec![Segment {
            start: 0.0,
            count: 0.0,
            rate: rate / 1e9,
            slope: 0.0,
        }])
    }

    /// A warm-up at the first rate, then the stages. The last rate continues after them.
    pub(super) fn of_stages(stages: &Stages, warm_up: Duration) -> Self {
        let first = stages.0.first().map_or(0.0, |stage| stage.from);
        let warm_up = Stage {
            from: first,
            to: first,
            duration: warm_up,
        };
        let (mut start, mut count) = (0.0, 0.0);
        let mut segments = Vec::new();
        for stage in std::iter::once(&warm_up).chain(&stages.0) {
            let duration = nanos(stage.duration) as f64;
            if duration == 0.0 {
                continue;
            }
            let (rate, end_rate) = (stage.from / 1e9, stage.to / 1e9);
            segments.push(Segment {
                start,
                count,
                rate,
                slope: (end_rate - rate) / duration,
            });
            start += duration;
            count += f64::midpoint(rate, end_rate) * duration;
        }
        let rate = stages.0.last().map_or(0.0, |stage| stage.to / 1e9);
        segments.push(Segment {
            start,
            count,
            rate,
            slope: 0.0,
        });
        Self(segments)
    }

    /// When request `count` is due, counted from 0; infinite if there is no such request.
    pub(super) fn time_of(&self, count: f64) -> f64 {
        let index = self.0.partition_point(|segment| segment.count <= count);
        let segment = &self.0[index.saturating_sub(1)];
        let left = count - segment.count;
        if left <= 0.0 {
            return segment.start;
        }
        if segment.slope == 0.0 {
            // A division by the rate would round whole nanoseconds down.
            return segment.start + left * (1.0 / segment.rate);
        }
        let root = (segment.rate.powi(2) + 2.0 * segment.slope * left)
            .max(0.0)
            .sqrt();
        segment.start + 2.0 * left / (segment.rate + root)
    }

    /// The number of requests that are due before `time`.
    pub(super) fn count_at(&self, time: f64) -> f64 {
        let index = self.0.partition_point(|segment| segment.start <= time);
        let segment = &self.0[index.saturating_sub(1)];
        let left = (time - segment.start).max(0.0);
        segment.count + left * (segment.rate + segment.slope * left / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str, warm_up: u64) -> Profile {
        let stages: Stages = text.parse().expect("stages");
        Profile::of_stages(&stages, Duration::from_secs(warm_up))
    }

    #[test]
    fn stages_are_parsed_and_printed() {
        let stages: Stages = "1k:10s, 1k-50k:1m,0-5:100ms".parse().expect("stages");
        assert_eq!(stages.to_string(), "1000:10s,1000-50000:1m,0-5:100ms");
        assert_eq!(stages.duration(), Duration::from_millis(70_100));
        let mean = "100:10s,100-300:10s"
            .parse::<Stages>()
            .expect("stages")
            .mean_rate();
        assert_eq!(mean, 150.0);
        for bad in [
            "", "1k", "1k:", "1k:0s", "x:1s", "1-x:1s", "0:1s", "0-0:1s", "1:2days", "1e9:1s",
        ] {
            assert!(bad.parse::<Stages>().is_err(), "{bad}");
        }
    }

    #[test]
    fn time_and_count_are_inverse() {
        let profile = profile("100:2s,100-500:4s,500-0:2s,200:1s", 1);
        for count in 0..2_200 {
            let time = profile.time_of(f64::from(count));
            let back = profile.count_at(time);
            assert!(
                (back - f64::from(count)).abs() < 1e-3,
                "{count}: {time} {back}"
            );
        }
    }

    #[test]
    fn a_ramp_has_the_rates_of_its_ends() {
        let profile = profile("0-1000:10s", 0);
        let in_second =
            |second: f64| profile.count_at((second + 1.0) * 1e9) - profile.count_at(second * 1e9);
        assert!((in_second(0.0) - 50.0).abs() < 1e-6);
        assert!((in_second(9.0) - 950.0).abs() < 1e-6);
        assert!(
            (in_second(20.0) - 1_000.0).abs() < 1e-6,
            "the last rate continues"
        );
    }

    #[test]
    fn after_a_ramp_to_zero_nothing_is_due() {
        let profile = profile("100-0:2s", 0);
        assert!(profile.time_of(99.0) <= 2e9);
        assert_eq!(profile.time_of(101.0), f64::INFINITY);
    }
}

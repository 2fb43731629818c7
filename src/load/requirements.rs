//! Requirements on the results of a run: `p99<1ms,loss<0.1%,role.p99.9<=5ms,probe.p99<2ms`.
//!
//! ```text
//! requirement = [ scope "." ] metric ( "<" | "<=" | ">" | ">=" | "=" ) value
//! scope       = a request type, or "probe" for the probe client
//! metric      = [ "service_" ] ( "p" percent | "mean" | "max" )   value: a time such as 1ms
//!             | "lag" | "stall"                                   value: a time
//!             | "loss" | "late" | "duplicated" | "reordered" | "wrong" | "errors" | "unsent"
//!                                                           value: a number, or 0.1% of those sent
//!             | "rate"                                      value: answers per second, 100k
//! ```
//!
//! A time that is not known because nothing was answered meets no requirement, and a run that sent
//! nothing meets none at all.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::number::parse_number;
use super::results::Results;
use super::stats::Stats;
use crate::protocol::request::RequestType;

/// A list of requirements, all of which must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirements(Vec<Requirement>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Requirement {
    scope: Scope,
    metric: Metric,
    comparison: Comparison,
    bound: f64,
    /// The bound is a share of the requests sent.
    of_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Type(RequestType),
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Time(Clock, Statistic),
    Lag,
    Stall,
    Count(Count),
    Rate,
}

/// When a time starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// When the request was due.
    Schedule,
    /// When it was sent.
    Sending,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic {
    Percentile(f64),
    Mean,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Loss,
    Late,
    Duplicated,
    Reordered,
    Wrong,
    Errors,
    Unsent,
}

const COUNTS: [(&str, Count); 7] = [
    ("loss", Count::Loss),
    ("late", Count::Late),
    ("duplicated", Count::Duplicated),
    ("reordered", Count::Reordered),
    ("wrong", Count::Wrong),
    ("errors", Count::Errors),
    ("unsent", Count::Unsent),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
}

/// The prefix of a time that starts with sending.
const SERVICE: &str = "service_";

/// The longer ones come first, because `<=` starts with `<`.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Below),
    (">", Comparison::Above),
    ("=", Comparison::Equal),
];

/// A requirement, the actual value, and whether it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct CheckedRequirement {
    pub(super) requirement: String,
    pub(super) actual: String,
    pub(super) held: bool,
}

impl Requirements {
    /// Checks each requirement.
    pub(super) fn check(&self, results: &Results) -> Vec<CheckedRequirement> {
        self.0.iter().map(|one| one.check(results)).collect()
    }

    /// Whether all of them hold.
    pub(super) fn hold(&self, results: &Results) -> bool {
        self.check(results).iter().all(|check| check.held)
    }

    /// Whether any of them is about the probe client.
    pub(super) fn need_probe(&self) -> bool {
        self.0.iter().any(|one| one.scope == Scope::Probe)
    }
}

impl FromStr for Requirements {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = text.split(',').map(|part| part.trim().parse());
        Ok(Self(all.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{one}")?;
        }
        Ok(())
    }
}

impl Serialize for Requirements {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Requirement {
    fn check(&self, results: &Results) -> CheckedRequirement {
        let actual = self.actual(results);
        CheckedRequirement {
            requirement: self.to_string(),
            actual: actual.map_or("not known".into(), |actual| self.print(actual)),
            held: actual.is_some_and(|actual| self.comparison.holds(actual, self.bound)),
        }
    }

    fn actual(&self, results: &Results) -> Option<f64> {
        if results.load.counts.sent + results.load.counts.corrupted == 0 {
            return None;
        }
        let stats = match self.scope {
            Scope::Probe => results.probe.as_ref()?,
            Scope::All | Scope::Type(_) => &results.load,
        };
        match self.metric {
            Metric::Count(count) => {
                let (count, sent) = self.count(count, stats);
                match (self.of_sent, sent) {
                    (false, _) => Some(count as f64),
                    (true, 0) => None,
                    (true, sent) => Some(count as f64 / sent as f64),
                }
            }
            Metric::Rate => Some(match self.scope {
                Scope::All => results.answered_rate(),
                Scope::Type(kind) => stats.by_type[kind as usize].answered as f64 / results.seconds,
                Scope::Probe => stats.counts.answered as f64 / results.seconds,
            }),
            Metric::Stall => (stats.counts.answered > 0).then(|| stats.stall() as f64),
            Metric::Lag => stats.lag.percentile(99.0).map(|lag| lag as f64),
            Metric::Time(clock, statistic) => {
                let times = match (self.scope, clock) {
                    (Scope::Type(kind), Clock::Schedule) => {
                        stats.by_type[kind as usize].latency.clone()
                    }
                    (Scope::Type(kind), Clock::Sending) => {
                        stats.by_type[kind as usize].service.clone()
                    }
                    (_, Clock::Schedule) => stats.latency(),
                    (_, Clock::Sending) => stats.service(),
                };
                match statistic {
                    Statistic::Percentile(percent) => times.percentile(percent).map(|ns| ns as f64),
                    Statistic::Mean => (!times.0.is_empty()).then(|| times.0.mean()),
                    Statistic::Max => (!times.0.is_empty()).then(|| times.0.max() as f64),
                }
            }
        }
    }

    /// The count, and the number of requests sent.
    fn count(&self, count: Count, stats: &Stats) -> (u64, u64) {
        if let Scope::Type(kind) = self.scope {
            let of_type = &stats.by_type[kind as usize];
            let number = match count {
                Count::Errors => of_type.errors,
                // Only `loss` and `errors` are accepted with a type.
                _ => of_type.lost,
            };
            return (number, of_type.sent);
        }
        let counts = &stats.counts;
        let number = match count {
            Count::Loss => counts.lost,
            Count::Late => counts.late,
            Count::Duplicated => counts.duplicated,
            Count::Reordered => counts.reordered,
            Count::Wrong => counts.wrong(),
            Count::Errors => counts.errors,
            Count::Unsent => counts.unsent,
        };
        (number, counts.sent)
    }

    fn print(&self, value: f64) -> String {
        match self.metric {
            Metric::Count(_) if self.of_sent => format!("{}%", round(value * 100.0)),
            Metric::Count(_) => format!("{value}"),
            Metric::Rate => format!("{}/s", round(value)),
            _ => format!("{}ms", round(value / 1e6)),
        }
    }
}

/// Rounds to four decimal places.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

impl FromStr for Requirement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("'{text}': {why}, as in p99<1ms or loss<0.1%");
        let (name, comparison, value) = COMPARISONS
            .iter()
            .find_map(|(sign, comparison)| {
                let (name, value) = text.split_once(sign)?;
                Some((name.trim(), *comparison, value.trim()))
            })
            .ok_or_else(|| wrong("the comparison is missing"))?;
        let (scope, name) = match name.split_once('.') {
            Some(("probe", metric)) => (Scope::Probe, metric),
            Some((kind, metric)) => match RequestType::from_name(kind) {
                Some(kind) => (Scope::Type(kind), metric),
                None => (Scope::All, name),
            },
            None => (Scope::All, name),
        };
        let metric = parse_metric(name).ok_or_else(|| wrong("unknown metric"))?;
        if let (Scope::Type(_), Metric::Count(count)) = (scope, metric)
            && !matches!(count, Count::Loss | Count::Errors)
        {
            return Err(wrong("this metric is not counted by type"));
        }
        if let (Scope::Type(_), Metric::Lag | Metric::Stall) = (scope, metric) {
            return Err(wrong("this metric is not measured by type"));
        }
        let (bound, of_sent) = match metric {
            Metric::Count(_) => match value.strip_suffix('%') {
                Some(percent) => (parse_number(percent).map(|value| value / 100.0), true),
                None => (parse_number(value), false),
            },
            Metric::Rate => (parse_number(value.trim_end_matches("/s")), false),
            _ => (parse_time(value), false),
        };
        Ok(Self {
            scope,
            metric,
            comparison,
            bound: bound.ok_or_else(|| wrong("the value is missing or has the wrong unit"))?,
            of_sent,
        })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Scope::All => {}
            Scope::Type(kind) => write!(f, "{}.", kind.name())?,
            Scope::Probe => f.write_str("probe.")?,
        }
        match self.metric {
            Metric::Time(clock, statistic) => {
                if clock == Clock::Sending {
                    f.write_str(SERVICE)?;
                }
                match statistic {
                    Statistic::Percentile(percent) => write!(f, "p{percent}")?,
                    Statistic::Mean => f.write_str("mean")?,
                    Statistic::Max => f.write_str("max")?,
                }
            }
            Metric::Lag => f.write_str("lag")?,
            Metric::Stall => f.write_str("stall")?,
            Metric::Rate => f.write_str("rate")?,
            Metric::Count(count) => {
                let named = COUNTS.iter().find(|(_, other)| *other == count);
                f.write_str(named.map_or("", |(name, _)| name))?;
            }
        }
        let sign = COMPARISONS
            .iter()
            .find(|(_, other)| *other == self.comparison);
        write!(
            f,
            "{}{}",
            sign.map_or("", |(sign, _)| sign),
            self.print(self.bound)
        )
    }
}

impl Comparison {
    fn holds(self, actual: f64, bound: f64) -> bool {
        match self {
            Self::Below => actual < bound,
            Self::AtMost => actual <= bound,
            Self::Above => actual > bound,
            Self::AtLeast => actual >= bound,
            Self::Equal => actual == bound,
        }
    }
}

fn parse_metric(name: &str) -> Option<Metric> {
    let named = COUNTS.iter().find(|(other, _)| *other == name);
    match name {
        "lag" => Some(Metric::Lag),
        "stall" => Some(Metric::Stall),
        "rate" => Some(Metric::Rate),
        _ if named.is_some() => named.map(|(_, count)| Metric::Count(*count)),
        _ => {
            let (clock, name) = match name.strip_prefix(SERVICE) {
                Some(name) => (Clock::Sending, name),
                None => (Clock::Schedule, name),
            };
            Some(Metric::Time(clock, parse_statistic(name)?))
        }
    }
}

fn parse_statistic(name: &str) -> Option<Statistic> {
    match name {
        "mean" => Some(Statistic::Mean),
        "max" => Some(Statistic::Max),
        _ => {
            let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
            (percent > 0.0 && percent <= 100.0).then_some(Statistic::Percentile(percent))
        }
    }
}

/// Parses a time with its unit; returns nanoseconds.
fn parse_time(text: &str) -> Option<f64> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    parse_number(number).map(|value| value * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results {
            seconds: 2.0,
            ..Results::default()
        };
        results.load.counts.sent = 1_000;
        results.load.counts.lost = 2;
        results.load.counts.answered = 998;
        let role = &mut results.load.by_type[RequestType::NodeRoleByName as usize];
        role.sent = 1_000;
        role.lost = 2;
        role.answered = 998;
        for time in 1..=998 {
            role.latency.record(time * 1_000);
        }
        results
    }

    fn holds(text: &str) -> bool {
        let requirements: Requirements = text.parse().expect("a requirement");
        requirements.hold(&results())
    }

    #[test]
    fn requirements_are_checked() {
        for held in [
            "p99<1ms",
            "p50<=500us",
            "p99.9 < 0.9985ms",
            "max>900us",
            "mean<501us",
            "loss<0.3%",
            "loss=2",
            "loss<=0.2%",
            "wrong=0,late=0,duplicated<1",
            "rate>=499/s",
            "rate<1k",
            "role.p99<1s",
            "role.loss<3",
            "role.rate=499",
        ] {
            assert!(holds(held), "{held}");
        }
        for missed in [
            "p99<0.9ms",
            "loss=0",
            "loss<0.2%",
            "rate>0.5k",
            "p99<1ms,loss=0",
            "role.errors>0",
            "ping.p99<1s",
            "ping.loss=0%",
            "probe.p99<1s",
            "lag<1s",
        ] {
            assert!(!holds(missed), "{missed}");
        }
    }

    #[test]
    fn requirements_are_printed_as_they_are_parsed() {
        let text =
            "p99.9<1.5ms,service_p50<1ms,role.loss<=0.1%,probe.max<20ms,rate>=1000/s,wrong=0";
        let requirements: Requirements = text.parse().expect("requirements");
        assert_eq!(requirements.to_string(), text);
        assert!(requirements.need_probe());
        let checks = requirements.check(&results());
        assert_eq!(checks[2].actual, "0.2%");
        assert_eq!(checks[3].actual, "not known");
    }

    #[test]
    fn invalid_requirements_are_refused() {
        for bad in [
            "",
            "p99",
            "p99<",
            "p99<1",
            "p0<1ms",
            "p101<1ms",
            "px<1ms",
            "loss<1ms",
            "loss<-1",
            "rate>x",
            "foo<1",
            "rule.p99<1ms",
            "role.late=0",
            "p99<1%",
            "role.lag<1ms",
            "role.stall<1ms",
            "stall<1",
            "service_<1ms",
            "service_lag<1ms",
        ] {
            assert!(bad.parse::<Requirements>().is_err(), "{bad}");
        }
    }
}

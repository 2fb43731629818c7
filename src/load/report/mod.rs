//! The report of a measurement in several formats.

mod csv;
mod hdr;
mod html;
mod json;
mod junit;
mod markdown;
mod markup;
mod merged;
mod openmetrics;
mod plot;
mod text;

use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use serde::Serialize;

use super::error::silence_causes;
use super::machine::Machine;
use super::nanos::Nanos;
use super::options::Options;
use super::requirements::CheckedRequirement;
use super::results::Results;
use super::schedule::Arrivals;
use super::search::{Bound, TrialResult};
use super::stats::{Tally, Times};
use crate::protocol::request::RequestType;
pub(super) use hdr::times_of_base64;
pub(super) use merged::Merged;

/// The exit status if a requirement of `--require` or `--search` does not hold, or a result is
/// worse than another.
pub(super) const EXIT_NOT_HELD: u8 = 3;

/// The percentiles that are printed.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 95.0, 99.0, 99.9, 99.99];

/// The results of a measurement, and how it was made.
pub(super) struct Report<'a> {
    pub(super) options: &'a Options,
    pub(super) targets: &'a [SocketAddr],
    pub(super) machine: Machine,
    pub(super) started: SystemTime,
    pub(super) seed: u64,
    /// Number of different queries.
    pub(super) queries: usize,
    pub(super) results: Results,
    /// The targets that never answered or stopped answering, one sentence each.
    pub(super) outages: Vec<String>,
    pub(super) search: Option<Search>,
    pub(super) notes: Vec<String>,
}

/// The trials of a search, and the rates between which the limit is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Search {
    pub(super) trials: Vec<Trial>,
    /// The highest rate that held.
    pub(super) lower: Option<Bound>,
    /// The lowest rate that failed.
    pub(super) upper: Option<Bound>,
}

impl Search {
    /// The confidence in both bounds.
    fn confidence(&self) -> f64 {
        let bounds = [self.lower, self.upper].into_iter().flatten();
        bounds.map(|bound| bound.confidence()).fold(1.0, f64::min)
    }
}

/// One trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Trial {
    /// The requested rate, in requests per second.
    pub(super) rate: f64,
    pub(super) result: TrialResult,
    /// Answers per second.
    pub(super) answered_rate: f64,
    /// The share of the requests that was lost.
    pub(super) loss: f64,
    pub(super) p50_ns: Option<Nanos>,
    pub(super) p99_ns: Option<Nanos>,
}

impl Trial {
    pub(super) fn new(rate: f64, result: TrialResult, results: &Results) -> Self {
        let latency = results.load.latency();
        Self {
            rate,
            result,
            answered_rate: results.answered_rate(),
            loss: results.load.counts.loss(),
            p50_ns: latency.percentile(50.0),
            p99_ns: latency.percentile(99.0),
        }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99 = self
            .p99_ns
            .map_or("-".into(), |p99| format!("{:.3} ms", p99 as f64 / 1e6));
        let result = match self.result {
            TrialResult::Held => "holds",
            TrialResult::Failed => "does not hold",
            TrialResult::GeneratorLimited => "the generator cannot send at this rate",
        };
        write!(
            f,
            "{:>10.0}/s  answered {:>10.0}/s  lost {:>7.3} %  p99 {p99:>12}  {result}",
            self.rate,
            self.answered_rate,
            self.loss * 100.0
        )
    }
}

/// A rate without decimal places, unless it is small.
pub(super) fn significant(rate: f64) -> String {
    if rate < 100.0 {
        ((rate * 1e3).round() / 1e3).to_string()
    } else {
        format!("{rate:.0}")
    }
}

impl Report<'_> {
    /// The requirements with their results.
    fn checks(&self) -> Vec<CheckedRequirement> {
        let required = &self.options.require;
        required
            .as_ref()
            .map_or_else(Vec::new, |required| required.check(&self.results))
    }

    /// The highest rate that held; `None` if none did, or this was not a search.
    fn best_rate(&self) -> Option<f64> {
        Some(self.search.as_ref()?.lower?.rate)
    }

    /// Why the run failed, one sentence each; empty if it did not.
    fn failures(&self) -> Vec<String> {
        match self.nothing_measured() {
            Some(why) => vec![why],
            None => self.outages.clone(),
        }
    }

    /// Why nothing was measured; `None` if something was.
    fn nothing_measured(&self) -> Option<String> {
        let counts = &self.results.load.counts;
        if counts.sent == 0 {
            let nothing = "nothing was measured: no request was sent after the warm-up";
            return (counts.corrupted == 0).then(|| nothing.into());
        }
        if counts.answered > 0 {
            return None;
        }
        Some(if counts.wrong() > 0 {
            "no reply was valid: another key, or another protocol".into()
        } else if counts.refused > 0 {
            "no answer, and the port is refused: no confd is listening there".into()
        } else {
            format!("no answer. {}", silence_causes())
        })
    }

    /// 0, 1 if the run failed, or 3 if a requirement does not hold.
    pub(super) fn exit_code(&self) -> ExitCode {
        let search_failed = self.options.search.is_some() && self.best_rate().is_none();
        if !self.failures().is_empty() {
            ExitCode::FAILURE
        } else if search_failed || self.checks().iter().any(|check| !check.held) {
            ExitCode::from(EXIT_NOT_HELD)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// Describes the load in one line.
    fn load(&self) -> String {
        let options = self.options;
        let sockets = options.sockets(self.targets.len());
        let pace = match (self.results.offered, options.search.is_some()) {
            (Some(rate), is_search) => {
                let arrivals = match options.arrivals {
                    Arrivals::Constant => "constant",
                    Arrivals::Poisson => "Poisson",
                };
                let found = match &options.stages {
                    Some(stages) => format!(" on average ({stages})"),
                    None if is_search => " (found by search)".to_owned(),
                    None => String::new(),
                };
                format!(
                    "open loop, {} requests/s{found}, {arrivals}, {sockets} sockets",
                    significant(rate)
                )
            }
            (None, _) => {
                let in_flight = options.in_flight();
                let sockets = sockets.min(in_flight);
                format!("closed loop, {in_flight} in flight on {sockets} sockets")
            }
        };
        format!(
            "{pace}, {} {}, {:.1} s after {:.1} s of warm-up",
            options.threads,
            if options.threads == 1 {
                "thread"
            } else {
                "threads"
            },
            self.results.seconds,
            options.warm_up.as_secs_f64()
        )
    }

    /// Describes the queries in one line.
    fn queries(&self) -> String {
        let different = self.queries;
        match &self.options.replay {
            Some(file) => format!("{different} of {}, in their order", file.display()),
            None => format!("{different} different, {}", self.options.mix),
        }
    }

    /// Names and tallies of the types and of the targets; each kind only if there are several.
    fn tallies(&self) -> Vec<(String, &Tally)> {
        let load = &self.results.load;
        let types = RequestType::ALL.map(|kind| kind.name().to_owned());
        let mut tallies: Vec<_> = types.into_iter().zip(&load.by_type).collect();
        tallies.retain(|(_, tally)| tally.sent > 0);
        if tallies.len() == 1 {
            tallies.clear();
        }
        if self.targets.len() > 1 {
            let targets = self.targets.iter().map(ToString::to_string);
            tallies.extend(targets.zip(&load.by_target));
        }
        tallies
    }

    /// The latencies of all requests, of each type and target if there are several, and of the
    /// probe client.
    fn named_times(&self) -> Vec<(String, Times)> {
        let load = &self.results.load;
        let mut named = vec![("all".to_owned(), load.latency())];
        if self.results.offered.is_some() {
            named.push(("all, from sending".to_owned(), load.service()));
        }
        let tallies = self.tallies().into_iter();
        named.extend(tallies.map(|(name, tally)| (name, tally.latency.clone())));
        if let Some(probe) = &self.results.probe {
            named.push(("probe client".into(), probe.latency()));
        }
        named
    }

    fn targets(&self) -> String {
        let targets: Vec<_> = self.targets.iter().map(ToString::to_string).collect();
        targets.join(", ")
    }
}

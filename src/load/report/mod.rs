//! What a measurement has shown: as text for people, as JSON for programs, as a page for both.

mod html;
mod json;
mod plot;
mod text;

use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::SystemTime;

use serde::Serialize;

use super::machine::Machine;
use super::requirements::CheckedRequirement;
use super::results::Results;
use super::stats::Tally;
use super::{EXIT_NOT_HELD, Nanos, Options, silence_causes};
use crate::protocol::request::RequestType;

/// The percentiles that are printed.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 95.0, 99.0, 99.9, 99.99];

/// A measurement, and how it was made.
pub(super) struct Report<'a> {
    pub(super) options: &'a Options,
    pub(super) targets: &'a [SocketAddr],
    pub(super) machine: Machine,
    pub(super) started: SystemTime,
    pub(super) seed: u64,
    /// Different questions.
    pub(super) queries: usize,
    pub(super) results: Results,
    pub(super) trials: Vec<Trial>,
    pub(super) notes: Vec<String>,
}

/// One rate of a search.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Trial {
    /// Requests a second that were asked for.
    pub(super) rate: f64,
    /// The requirements held, and the rate did.
    pub(super) held: bool,
    /// Answers a second.
    pub(super) answered_rate: f64,
    /// Share of the requests.
    pub(super) loss: f64,
    pub(super) p50_ns: Option<Nanos>,
    pub(super) p99_ns: Option<Nanos>,
    /// The generator could not send at this rate.
    pub(super) generator_limited: bool,
}

impl Trial {
    pub(super) fn new(rate: f64, held: bool, results: &Results) -> Self {
        let latency = results.load.latency();
        Self {
            rate,
            held,
            answered_rate: results.answered_rate(),
            loss: results.load.counts.loss(),
            p50_ns: latency.percentile(50.0),
            p99_ns: latency.percentile(99.0),
            generator_limited: !results.held_rate(),
        }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p99 = self
            .p99_ns
            .map_or("-".into(), |p99| format!("{:.3} ms", p99 as f64 / 1e6));
        let verdict = match (self.held, self.generator_limited) {
            (true, _) => "holds",
            (false, false) => "does not hold",
            (false, true) => "does not hold: the generator cannot send that much",
        };
        write!(
            f,
            "{:>10.0}/s  answered {:>10.0}/s  lost {:>7.3} %  p99 {p99:>12}  {verdict}",
            self.rate,
            self.answered_rate,
            self.loss * 100.0
        )
    }
}

impl Report<'_> {
    /// What became of the requirements.
    fn checks(&self) -> Vec<CheckedRequirement> {
        let required = &self.options.require;
        required
            .as_ref()
            .map_or_else(Vec::new, |required| required.check(&self.results))
    }

    /// The highest rate that held; `None` if none did, or none was searched.
    fn best_rate(&self) -> Option<f64> {
        let held = self.trials.iter().filter(|trial| trial.held);
        held.map(|trial| trial.rate).max_by(f64::total_cmp)
    }

    /// Why not one request was answered, if that is so.
    fn silence(&self) -> Option<String> {
        let counts = &self.results.load.counts;
        if counts.sent == 0 || counts.answered > 0 {
            return None;
        }
        Some(if counts.wrong() > 0 {
            "not one reply was good: another key, or another protocol".into()
        } else if counts.refused > 0 {
            "not one answer, and the port refuses: no confd listens there".into()
        } else {
            format!("not one answer. {}", silence_causes())
        })
    }

    /// 0, or 1 if nothing was answered, or 3 if a requirement does not hold.
    pub(super) fn exit_code(&self) -> ExitCode {
        let searched_in_vain = self.options.search.is_some() && self.best_rate().is_none();
        if self.silence().is_some() {
            ExitCode::FAILURE
        } else if searched_in_vain || self.checks().iter().any(|check| !check.held) {
            ExitCode::from(EXIT_NOT_HELD)
        } else {
            ExitCode::SUCCESS
        }
    }

    /// The load in a few words.
    fn load(&self) -> String {
        let options = self.options;
        let sockets = options.sockets(self.targets.len());
        let pace = match (self.results.offered, options.search.is_some()) {
            (Some(rate), searched) => {
                let arrivals = match options.arrivals {
                    super::Arrivals::Constant => "constant",
                    super::Arrivals::Poisson => "Poisson",
                };
                let found = if searched { " (found by search)" } else { "" };
                format!("open loop, {rate:.0} requests/s{found}, {arrivals}, {sockets} sockets")
            }
            (None, _) => {
                let in_flight = super::in_flight(options);
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

    /// What was asked, in a few words.
    fn questions(&self) -> String {
        let different = self.queries;
        match &self.options.replay {
            Some(file) => format!("{different} of {}, in turns", file.display()),
            None => format!("{different} different ones, {}", self.options.mix),
        }
    }

    /// The types that were asked for and the targets, each if there are several, with their names.
    fn tallies(&self) -> Vec<(String, &Tally)> {
        let load = &self.results.load;
        let types = RequestType::ALL.map(|kind| kind.name().to_owned());
        let mut tallies: Vec<_> = types.into_iter().zip(&load.by_type).collect();
        tallies.retain(|(_, tally)| tally.sent > 0);
        if tallies.len() == 1 {
            tallies.clear();
        }
        let targets = self.targets.iter().map(ToString::to_string);
        tallies.extend(targets.zip(&load.by_target));
        tallies
    }

    fn targets(&self) -> String {
        let targets: Vec<_> = self.targets.iter().map(ToString::to_string).collect();
        targets.join(", ")
    }
}

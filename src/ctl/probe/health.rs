//! What the replies say about the health of each candidate, and of the service as a whole.
//!
//! Pure: replies in, states and texts out.

use std::process::ExitCode;
use std::time::Duration;

use super::super::format::{self, milliseconds};
use super::super::limits::{Limits, Severity};
use super::config_file::ConfigFile;
use crate::client::{
    Candidate, CandidateResult, CandidateStatus, Outcome, Question, Skew, question, quorum,
};
use crate::clock;
use crate::protocol::SKEW_SECONDS_MAX;
use crate::protocol::reply::Status;

/// Clocks within this many seconds of each other agree.
const SKEW_SECONDS_ALIKE: i64 = 5;

/// The state of the service; the numbers are the exit statuses of monitoring plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub(in super::super) enum ServiceState {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl From<ServiceState> for ExitCode {
    fn from(state: ServiceState) -> Self {
        Self::from(state as u8)
    }
}

impl ServiceState {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// The health of all candidates.
#[derive(Clone, Debug)]
pub(super) struct Health {
    pub(super) candidates: Vec<CandidateHealth>,
    /// The safe number of replies.
    pub(super) needed: usize,
    pub(super) limits: Limits,
    /// The time since the configuration was changed, if a threshold needs it.
    pub(super) age: Option<Duration>,
    /// The configuration file on this node, if there is one and it belongs to this cluster.
    pub(super) config_file: Option<ConfigFile>,
    /// The results of `--checks`.
    pub(super) checks: Option<Vec<Check>>,
}

/// The health of one candidate.
#[derive(Clone, Debug)]
pub(super) struct CandidateHealth {
    pub(super) name: String,
    pub(super) state: ProbeState,
    pub(super) skew: Option<Skew>,
    /// The master it reports, if another candidate with the same serial reports a different one.
    pub(super) disputed_master: Option<String>,
}

/// What came back from a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProbeState {
    Up {
        serial: i64,
        /// The newest serial of all candidates, less this one.
        lag: i64,
        round_trip: Duration,
    },
    /// It replies, but has no configuration.
    Error(String),
    Unreachable(String),
    Silent,
}

impl ProbeState {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Up { .. } => "up",
            Self::Error(_) => "error",
            Self::Unreachable(_) => "down",
            Self::Silent => "silent",
        }
    }
}

/// The result of one query of `--checks`.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    pub(super) text: String,
}

impl Health {
    /// Evaluates the replies to `/serial_no` and to the query for the master.
    pub(super) fn new(
        candidates: &[Candidate],
        serials: &Outcome,
        masters: &Outcome,
        limits: Limits,
    ) -> Self {
        let question = question::config("/serial_no");
        let all = serials.results().iter();
        let newest = all.filter_map(|it| serial_of(&question, it)).max();
        let best = masters.best().and_then(CandidateResult::reply);
        let disputed = best.filter(|_| !masters.is_consistent());
        let health = |candidate: &Candidate| {
            let state = find(serials, candidate.name())
                .map(|result| probe_state(&question, result, newest.unwrap_or_default()));
            let reply = find(masters, candidate.name()).and_then(CandidateResult::reply);
            let reply = reply
                .zip(disputed)
                .filter(|(reply, best)| (reply.status, reply.serial) == (best.status, best.serial));
            CandidateHealth {
                name: candidate.to_string(),
                state: state.unwrap_or(ProbeState::Silent),
                skew: None,
                disputed_master: reply
                    .map(|(reply, _)| reply.answer.get().trim_matches('"').to_owned()),
            }
        };
        Self {
            needed: quorum(candidates.len()),
            limits,
            age: None,
            candidates: candidates.iter().map(health).collect(),
            config_file: None,
            checks: None,
        }
    }

    /// Adds the clocks, which are in the order of the candidates.
    pub(super) fn with_clocks(mut self, skews: Vec<(Candidate, Option<Skew>)>) -> Self {
        for (candidate, (_, skew)) in self.candidates.iter_mut().zip(skews) {
            candidate.skew = skew;
        }
        self
    }

    /// Updates serials and lags from a second query. The lag is still relative to the newest serial
    /// of the first one, so that a candidate that has caught up since is not behind.
    pub(super) fn merge_retry(&mut self, serials: &Outcome) {
        let question = question::config("/serial_no");
        for candidate in &mut self.candidates {
            let ProbeState::Up { serial, lag, .. } = &mut candidate.state else {
                continue;
            };
            let now = find(serials, &candidate.name).and_then(|it| serial_of(&question, it));
            if let Some(now) = now {
                let newest = *serial + *lag;
                *serial = now;
                *lag = newest.saturating_sub(now).max(0);
            }
        }
    }

    pub(super) fn is_any_behind(&self) -> bool {
        self.candidates.iter().any(|it| it.lag() > Some(0))
    }

    /// Takes the age from the replies to `/mtime`.
    pub(super) fn set_changed(&mut self, changed: &Outcome) {
        let question = question::config("/mtime");
        let reply = changed.best().and_then(CandidateResult::reply);
        let seconds = reply.and_then(|reply| question.read(reply).ok()?.as_f64());
        let changed = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let now = Duration::from_secs(clock::unix_seconds());
        self.age = changed.map(|changed| now.saturating_sub(changed));
    }

    /// What is wrong with the age of the configuration.
    pub(super) fn age_problem(&self) -> Option<(Severity, String)> {
        let age = self.age?;
        let severity = self.limits.exceeded(age, |it| it.age)?;
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        Some((severity, format!("the configuration was changed {age} ago")))
    }

    /// Each candidate that has problems, with these.
    pub(super) fn problems(&self) -> impl Iterator<Item = (&str, Problem)> {
        let candidates = self.candidates.iter();
        candidates.filter_map(|it| Some((&*it.name, it.problem(&self.limits)?)))
    }

    /// What differs between the configuration file on this node and what is served.
    pub(super) fn file_problem(&self) -> Option<String> {
        self.config_file.as_ref()?.problem(self.newest()?)
    }

    pub(super) fn is_file_different(&self) -> bool {
        self.file_problem().is_some()
    }

    pub(super) fn is_file_settled(&self) -> bool {
        self.config_file
            .as_ref()
            .is_some_and(ConfigFile::is_settled)
    }

    /// Whether `file` has the serial of the file read before.
    pub(super) fn config_file_is(&self, file: &ConfigFile) -> bool {
        let before = self.config_file.as_ref();
        before.is_some_and(|before| before.serial == file.serial)
    }

    pub(super) fn up(&self) -> usize {
        self.candidates.iter().filter(|it| it.is_up()).count()
    }

    pub(super) fn up_by_candidate(&self) -> Vec<bool> {
        self.candidates.iter().map(CandidateHealth::is_up).collect()
    }

    pub(super) fn service_state(&self) -> ServiceState {
        let failed = self.checks.iter().flatten().any(|check| !check.ok);
        let severities = self.problems().map(|(_, problem)| problem.severity);
        let age = self.age_problem().map(|(severity, _)| severity);
        let worst = severities.chain(age).max();
        if self.up() < self.needed || worst == Some(Severity::Critical) {
            ServiceState::Critical
        } else if failed || self.is_file_different() || worst.is_some() {
            ServiceState::Warning
        } else {
            ServiceState::Ok
        }
    }

    /// The newest serial of all candidates.
    pub(super) fn newest(&self) -> Option<i64> {
        self.candidates
            .iter()
            .filter_map(CandidateHealth::serial)
            .max()
    }

    /// The largest distance of a clock from this host's, in seconds.
    pub(super) fn skew_max(&self) -> Option<u64> {
        let skews = self.candidates.iter().filter_map(|it| it.skew);
        skews.map(|it| it.seconds.unsigned_abs()).max()
    }

    /// Whether several clocks agree with each other, but not with this host's.
    pub(super) fn is_own_clock_off(&self) -> bool {
        let skews = self.candidates.iter().filter_map(|it| it.skew);
        let skews: Vec<i64> = skews.map(|it| it.seconds).collect();
        let (Some(&least), Some(&most)) = (skews.iter().min(), skews.iter().max()) else {
            return false;
        };
        skews.len() > 1
            && most - least <= SKEW_SECONDS_ALIKE
            && self.exceeds_skew(least)
            && self.exceeds_skew(most)
    }

    fn exceeds_skew(&self, seconds: i64) -> bool {
        let skew = Duration::from_secs(seconds.unsigned_abs());
        self.limits.exceeded(skew, |it| it.skew).is_some()
    }
}

/// What is wrong with a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    /// In a few words.
    pub(super) text: String,
}

impl CandidateHealth {
    fn is_up(&self) -> bool {
        matches!(self.state, ProbeState::Up { .. })
    }

    pub(super) fn serial(&self) -> Option<i64> {
        match self.state {
            ProbeState::Up { serial, .. } => Some(serial),
            _ => None,
        }
    }

    pub(super) fn lag(&self) -> Option<i64> {
        match self.state {
            ProbeState::Up { lag, .. } => Some(lag),
            _ => None,
        }
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        match self.state {
            ProbeState::Up { round_trip, .. } => Some(round_trip),
            _ => None,
        }
    }

    /// `None` if it is healthy.
    pub(super) fn problem(&self, limits: &Limits) -> Option<Problem> {
        let mut problems = Vec::new();
        let mut add = |severity, text: String| problems.push(Problem { severity, text });
        match &self.state {
            ProbeState::Up {
                lag, round_trip, ..
            } => {
                if let Some(severity) = limits.exceeded(*lag, |it| it.lag) {
                    add(severity, format!("serial {lag} behind"));
                }
                if let Some(severity) = limits.exceeded(*round_trip, |it| it.round_trip) {
                    add(
                        severity,
                        format!("round trip {}", milliseconds(*round_trip)),
                    );
                }
            }
            ProbeState::Error(text) => add(Severity::Warning, format!("error ({text})")),
            ProbeState::Unreachable(why) => add(Severity::Warning, format!("down ({why})")),
            ProbeState::Silent => add(Severity::Warning, "no answer".to_owned()),
        }
        if let Some(master) = &self.disputed_master {
            let text = format!("reports {master} as the master, others do not");
            add(Severity::Warning, text);
        }
        if let Some(skew) = self.skew {
            let seconds = Duration::from_secs(skew.seconds.unsigned_abs());
            if let Some(severity) = limits.exceeded(seconds, |it| it.skew) {
                add(severity, format!("clock {}", distance(skew)));
            }
        }
        let severity = problems.iter().map(|problem| problem.severity).max()?;
        let texts: Vec<String> = problems.into_iter().map(|problem| problem.text).collect();
        Some(Problem {
            severity,
            text: texts.join(", "),
        })
    }

    /// What an administrator should check; empty if the candidate is healthy.
    pub(super) fn advice(&self) -> String {
        let is_far = |skew: Skew| skew.seconds.unsigned_abs() + skew.within >= SKEW_SECONDS_MAX;
        match (&self.state, self.skew) {
            (ProbeState::Silent, Some(skew)) if is_far(skew) => {
                "key correct, clock wrong: set the time there, or here".to_owned()
            }
            (ProbeState::Silent, Some(_)) => "answers only pings: check its log".to_owned(),
            (ProbeState::Silent, None) => "not running, firewall, or wrong key".to_owned(),
            (ProbeState::Unreachable(why) | ProbeState::Error(why), _) => why.clone(),
            (ProbeState::Up { lag, .. }, _) if *lag > 0 => {
                "run gnt-cluster redist-conf, check its log".to_owned()
            }
            (ProbeState::Up { .. }, _) => match &self.disputed_master {
                Some(master) => format!("reports {master} as the master"),
                None => String::new(),
            },
        }
    }
}

/// A clock's distance, such as `10m 5s ahead`.
fn distance(skew: Skew) -> String {
    let time = humantime::format_duration(Duration::from_secs(skew.seconds.unsigned_abs()));
    let side = if skew.seconds < 0 { "behind" } else { "ahead" };
    format!("{time} {side}")
}

fn find<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a CandidateResult> {
    let mut results = outcome.results().iter();
    results.find(|result| result.candidate.name() == name)
}

fn serial_of(question: &Question<serde_json::Value>, result: &CandidateResult) -> Option<i64> {
    let reply = result.reply().filter(|reply| reply.status == Status::Ok)?;
    question.read(reply).ok()?.as_i64()
}

fn probe_state(
    question: &Question<serde_json::Value>,
    result: &CandidateResult,
    newest: i64,
) -> ProbeState {
    match &result.state {
        CandidateStatus::Malformed(why) => ProbeState::Error(format!("malformed reply: {why}")),
        CandidateStatus::Unreachable(why) => ProbeState::Unreachable(format::reason(why)),
        CandidateStatus::Silent => ProbeState::Silent,
        CandidateStatus::Answered {
            reply, round_trip, ..
        } => match (serial_of(question, result), question.read(reply)) {
            (Some(serial), _) => ProbeState::Up {
                serial,
                lag: newest.saturating_sub(serial),
                round_trip: *round_trip,
            },
            (None, Err(error)) => ProbeState::Error(error.to_string()),
            (None, Ok(_)) => ProbeState::Error("its configuration has no serial number".to_owned()),
        },
    }
}

/// Health values for the tests of this module and of the output formats.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub(in super::super) fn up(name: &str, serial: i64, lag: i64, skew: i64) -> CandidateHealth {
        CandidateHealth {
            name: name.to_owned(),
            state: ProbeState::Up {
                serial,
                lag,
                round_trip: Duration::from_micros(412),
            },
            skew: Some(Skew {
                seconds: skew,
                within: 0,
            }),
            disputed_master: None,
        }
    }

    pub(in super::super) fn down(
        name: &str,
        state: ProbeState,
        skew: Option<i64>,
    ) -> CandidateHealth {
        CandidateHealth {
            name: name.to_owned(),
            state,
            skew: skew.map(|seconds| Skew { seconds, within: 0 }),
            disputed_master: None,
        }
    }

    pub(in super::super) fn health(candidates: Vec<CandidateHealth>) -> Health {
        Health {
            needed: quorum(candidates.len()),
            limits: Limits::default(),
            age: None,
            candidates,
            config_file: None,
            checks: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{down, health, up};
    use super::*;

    #[test]
    fn the_worst_candidate_determines_the_state() {
        let ok = || up("a", 77, 0, 0);
        assert_eq!(health(vec![ok()]).service_state(), ServiceState::Ok);
        for candidate in [
            up("b", 70, 7, 0),
            up("b", 77, 0, 61),
            down("b", ProbeState::Silent, None),
        ] {
            let state = health(vec![ok(), ok(), candidate]).service_state();
            assert_eq!(state, ServiceState::Warning);
        }
        let silent = || down("b", ProbeState::Silent, None);
        let state = health(vec![ok(), silent(), silent()]).service_state();
        assert_eq!(state, ServiceState::Critical);
    }

    #[test]
    fn a_failed_check_is_a_warning() {
        let mut health = health(vec![up("a", 77, 0, 0)]);
        health.checks = Some(vec![Check {
            name: "ping",
            ok: false,
            text: "no answer".to_owned(),
        }]);
        assert_eq!(health.service_state(), ServiceState::Warning);
    }
}

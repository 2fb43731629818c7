//! `confdctl probe`: whether each candidate is up, up to date and on time; says and exits as monitoring plugins do.
//!
//! The serial is that of the whole configuration, which grows with every write, as `/serial_no` tells it; the serial that a
//! reply carries is only that of the cluster's own entry.
//!
//! Source: `confd-client` of Ganeti for the checks; the plugin guidelines of Monitoring Plugins for line and status.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::diagnose;
use super::exit::{CommandError, eprintln_prefixed, print};
use super::options::{Common, ProbeOptions};
use super::query::{milliseconds, to_json, version};
use super::table::Table;
use super::target::Target;
use super::watch;
use crate::client::{
    Candidate, CandidateResult, CandidateStatus, ConfdClient, Coverage, Error, NodeRole, Outcome,
    Question, Settings, Skew, WaitFor, question, quorum,
};
use crate::protocol::SKEW_SECONDS_MAX;
use crate::protocol::reply::Status;

/// How long answers are waited for at most: monitoring systems give a plugin ten seconds for all.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// A clock that is further off is worth a warning, long before confd is silent for it.
const SKEW_SECONDS_WARNING: u64 = 60;
/// Who is behind is asked again after this time: the master may be spreading a new configuration just now.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long a comparison of the clocks is good for, to those who look often.
const CLOCKS_AGE_MAX: Duration = Duration::from_secs(30);

/// A monitoring plugin's exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub(super) enum ServiceState {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

/// Runs the command.
pub(super) fn run(common: &Common, options: &ProbeOptions) -> ExitCode {
    let ended = match options.watch {
        Some(interval) => watch::run(common, interval),
        None => once(common, options),
    };
    ended.unwrap_or_else(|failure| {
        let text = failure.to_string();
        // Monitoring reads standard output.
        if !text.is_empty() && print(&format!("CONFD UNKNOWN - {text}\n")).is_err() {
            eprintln_prefixed(text);
        }
        ExitCode::from(ServiceState::Unknown as u8)
    })
}

fn once(common: &Common, options: &ProbeOptions) -> Result<ExitCode, CommandError> {
    let probe = Probe::new(common)?;
    let mut health = probe.probe_with_clocks()?;
    if options.checks {
        health.checks = Some(checks(&probe.client)?);
    }
    print(&if common.json {
        health.json()
    } else {
        health.text()
    })?;
    Ok(health.service_state().into())
}

impl From<ServiceState> for ExitCode {
    fn from(verdict: ServiceState) -> Self {
        Self::from(verdict as u8)
    }
}

/// Looks at the candidates.
pub(super) struct Probe {
    client: ConfdClient,
    _site: Target,
    clocks: Option<Clocks>,
}

/// The clocks when they were last compared, for those who look often.
struct Clocks {
    skews: Vec<(Candidate, Option<Skew>)>,
    compared: Instant,
    /// Which candidates were up then.
    up: Vec<bool>,
}

impl Probe {
    pub(super) fn new(common: &Common) -> Result<Self, CommandError> {
        let site = Target::find(common)?;
        let settings = Settings {
            coverage: Coverage::All,
            patience: WaitFor::All,
            deadline: common.timeout.unwrap_or(TIMEOUT_DEFAULT),
        };
        let client = site.client()?.with_settings(settings);
        Ok(Self {
            client,
            _site: site,
            clocks: None,
        })
    }

    /// A thorough look: who is behind gets a second one.
    fn probe_with_clocks(&self) -> Result<Health, CommandError> {
        let mut health = thread::scope(|scope| {
            let skews = scope.spawn(|| self.client.estimate_skews());
            let health = self.query_all();
            let skews = skews.join().expect("no panic in a survey");
            health.and_then(|health| Ok(health.with_clocks(skews.map_err(of_client)?)))
        })?;
        if health.candidates.iter().any(|it| it.lag() > Some(0)) {
            thread::sleep(RETRY_DELAY);
            let settings = Settings {
                coverage: Coverage::All,
                patience: WaitFor::All,
                deadline: RETRY_DELAY,
            };
            let question = question::config("/serial_no");
            let again = self.client.query_all_with(&question, settings);
            health.merge_retry(&again.map_err(of_client)?);
        }
        Ok(health)
    }

    /// One look of many: the clocks are compared now and then, or if somebody has come or gone.
    pub(super) fn poll(&mut self) -> Result<Health, CommandError> {
        let health = self.query_all()?;
        let up: Vec<bool> = health
            .candidates
            .iter()
            .map(CandidateHealth::is_up)
            .collect();
        let recent = self
            .clocks
            .take()
            .filter(|it| it.up == up && it.compared.elapsed() < CLOCKS_AGE_MAX);
        let clocks = match recent {
            Some(clocks) => clocks,
            None => Clocks {
                skews: self.client.estimate_skews().map_err(of_client)?,
                compared: Instant::now(),
                up,
            },
        };
        let skews = self.clocks.insert(clocks).skews.clone();
        Ok(health.with_clocks(skews))
    }

    /// Asks all for their serial and their master at the same time.
    fn query_all(&self) -> Result<Health, CommandError> {
        let (serials, masters) = thread::scope(|scope| {
            let masters = scope.spawn(|| self.client.query_all(&question::cluster_master()));
            let serials = self.client.query_all(&question::config("/serial_no"));
            (serials, masters.join().expect("no panic in a survey"))
        });
        let (serials, masters) = (serials.map_err(of_client)?, masters.map_err(of_client)?);
        Ok(Health::new(&self.client.candidates(), &serials, &masters))
    }
}

fn of_client(error: Error) -> CommandError {
    CommandError::of_client(&error)
}

/// How all candidates are.
#[derive(Clone, Debug)]
pub(super) struct Health {
    candidates: Vec<CandidateHealth>,
    /// How many must answer to make an answer safe.
    needed: usize,
    checks: Option<Vec<Check>>,
}

/// How one candidate is.
#[derive(Clone, Debug)]
struct CandidateHealth {
    name: String,
    state: ProbeState,
    skew: Option<Skew>,
    /// Whom it calls master, if those who are as new call another one so.
    disputed_master: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ProbeState {
    Up {
        serial: i64,
        lag: i64,
        round_trip: Duration,
    },
    /// It answers, but has no configuration.
    Error(String),
    Unreachable(String),
    Silent,
}

/// One query of `--checks`, and what came of it.
#[derive(Clone, Debug, serde::Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    text: String,
}

impl Health {
    /// What the answers tell; of clocks they tell nothing.
    fn new(candidates: &[Candidate], serials: &Outcome, masters: &Outcome) -> Self {
        let question = question::config("/serial_no");
        let all = serials.results().iter();
        let newest = all.filter_map(|it| serial_of(&question, it)).max();
        let best = masters.best().and_then(CandidateResult::reply);
        let disputed = best.filter(|_| !masters.is_consistent());
        let of_candidate = |candidate: &Candidate| {
            let state = find(serials, candidate.name())
                .map(|contact| answering(&question, contact, newest.unwrap_or_default()));
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
            candidates: candidates.iter().map(of_candidate).collect(),
            checks: None,
        }
    }

    /// The same with the clocks, in the candidates' order.
    fn with_clocks(mut self, skews: Vec<(Candidate, Option<Skew>)>) -> Self {
        for (candidate, (_, skew)) in self.candidates.iter_mut().zip(skews) {
            candidate.skew = skew;
        }
        self
    }

    /// Who has caught up in the meantime with the newest of the first look is not behind.
    fn merge_retry(&mut self, serials: &Outcome) {
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

    fn up(&self) -> usize {
        self.candidates.iter().filter(|it| it.is_up()).count()
    }

    fn service_state(&self) -> ServiceState {
        let failed = self.checks.iter().flatten().any(|check| !check.ok);
        if self.up() < self.needed {
            ServiceState::Critical
        } else if failed || self.candidates.iter().any(|it| it.trouble().is_some()) {
            ServiceState::Warning
        } else {
            ServiceState::Ok
        }
    }

    fn newest(&self) -> Option<i64> {
        self.candidates
            .iter()
            .filter_map(CandidateHealth::serial)
            .max()
    }

    fn skew_max(&self) -> Option<u64> {
        self.candidates
            .iter()
            .filter_map(|it| it.skew)
            .map(|it| it.seconds.unsigned_abs())
            .max()
    }

    /// The first line, without performance data.
    fn summary(&self) -> String {
        let mut text = format!(
            "{} of {} candidates answer",
            self.up(),
            self.candidates.len()
        );
        if self.service_state() == ServiceState::Critical {
            let _ = write!(text, ", {} are needed", self.needed);
        }
        if let Some(serial) = self.newest() {
            let _ = write!(text, ", serial {serial}");
        }
        let troubles = self
            .candidates
            .iter()
            .filter_map(|it| Some((&it.name, it.trouble()?)));
        for (name, trouble) in troubles {
            let _ = write!(text, "; {name} {trouble}");
        }
        for check in self.checks.iter().flatten().filter(|check| !check.ok) {
            let _ = write!(text, "; {} fails", check.name);
        }
        if self.is_own_clock_off() {
            text += "; all clocks are off alike: check this host's";
        }
        text.replace('|', "/")
    }

    /// Whether several clocks agree with each other and not with this host's.
    fn is_own_clock_off(&self) -> bool {
        let skews: Vec<i64> = self
            .candidates
            .iter()
            .filter_map(|it| it.skew)
            .map(|it| it.seconds)
            .collect();
        let (least, most) = (skews.iter().min().copied(), skews.iter().max().copied());
        skews.len() > 1
            && most.zip(least).is_some_and(|(most, least)| {
                most - least <= 5
                    && least.unsigned_abs().min(most.unsigned_abs()) > SKEW_SECONDS_WARNING
            })
    }

    /// Performance data: value with unit, warning and critical threshold, minimum, maximum.
    fn performance(&self) -> String {
        let (all, needed) = (self.candidates.len(), self.needed);
        let mut text = format!("up={};{all}:;{needed}:;0;{all}", self.up());
        if let Some(lag) = self
            .candidates
            .iter()
            .filter_map(CandidateHealth::lag)
            .max()
        {
            let _ = write!(text, " lag={lag};0;;0;");
        }
        if let Some(skew) = self.skew_max() {
            let _ = write!(text, " skew={skew}s;{SKEW_SECONDS_WARNING};;0;");
        }
        if let Some(round_trip) = self
            .candidates
            .iter()
            .filter_map(CandidateHealth::round_trip)
            .max()
        {
            let _ = write!(text, " rtt={:.6}s;;;0;", round_trip.as_secs_f64());
        }
        text
    }

    /// What is printed.
    pub(super) fn text(&self) -> String {
        let mut table = Table::new([
            "CANDIDATE",
            "STATE",
            "SERIAL",
            "BEHIND",
            "CLOCK",
            "ROUND TRIP",
            "",
        ]);
        for it in &self.candidates {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            table.push([
                it.name.clone(),
                it.state.name().to_owned(),
                or_dash(it.serial().map(|serial| serial.to_string())),
                or_dash(it.lag().map(|lag| lag.to_string())),
                or_dash(it.skew.map(clock)),
                or_dash(it.round_trip().map(milliseconds)),
                it.explanation(),
            ]);
        }
        let mut text = format!(
            "CONFD {} - {}|{}\n",
            self.service_state().name(),
            self.summary(),
            self.performance()
        );
        text += &table.aligned(None);
        for check in self.checks.iter().flatten() {
            let state = if check.ok { "OK" } else { "FAILED" };
            let _ = writeln!(text, "{state:6}  {}: {}", check.name, check.text);
        }
        text
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        let candidate = |it: &CandidateHealth| {
            serde_json::json!({
                "name": it.name,
                "state": it.state.name(),
                "serial": it.serial(),
                "lag": it.lag(),
                "skew_s": it.skew.map(|skew| skew.seconds),
                "skew_within_s": it.skew.map(|skew| skew.within),
                "round_trip_ms": it.round_trip().map(|time| time.as_secs_f64() * 1000.0),
                "trouble": it.trouble(),
            })
        };
        let candidates: Vec<_> = self.candidates.iter().map(candidate).collect();
        let mut json = serde_json::json!({
            "verdict": self.service_state(),
            "summary": self.summary(),
            "up": self.up(),
            "needed": self.needed,
            "serial": self.newest(),
            "candidates": candidates,
        });
        if let Some(checks) = &self.checks {
            json["checks"] = serde_json::json!(checks);
        }
        to_json(&json)
    }
}

impl ServiceState {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl ProbeState {
    fn name(&self) -> &'static str {
        match self {
            Self::Up { .. } => "up",
            Self::Error(_) => "error",
            Self::Unreachable(_) => "down",
            Self::Silent => "silent",
        }
    }
}

impl CandidateHealth {
    fn is_up(&self) -> bool {
        matches!(self.state, ProbeState::Up { .. })
    }

    fn serial(&self) -> Option<i64> {
        match self.state {
            ProbeState::Up { serial, .. } => Some(serial),
            _ => None,
        }
    }

    fn lag(&self) -> Option<i64> {
        match self.state {
            ProbeState::Up { lag, .. } => Some(lag),
            _ => None,
        }
    }

    fn round_trip(&self) -> Option<Duration> {
        match self.state {
            ProbeState::Up { round_trip, .. } => Some(round_trip),
            _ => None,
        }
    }

    /// What is wrong with it, as what follows its name.
    fn trouble(&self) -> Option<String> {
        let mut troubles = Vec::new();
        match &self.state {
            ProbeState::Up { lag: 0, .. } => {}
            ProbeState::Up { lag, .. } => troubles.push(format!("is {lag} behind")),
            ProbeState::Error(text) => troubles.push(format!("answers errors ({text})")),
            ProbeState::Unreachable(why) => troubles.push(format!("is down: {why}")),
            ProbeState::Silent => troubles.push("is silent".to_owned()),
        }
        if let Some(master) = &self.disputed_master {
            troubles.push(format!("calls {master} the master, others disagree"));
        }
        if let Some(skew) = self
            .skew
            .filter(|skew| skew.seconds.unsigned_abs() > SKEW_SECONDS_WARNING)
        {
            troubles.push(format!("has a clock {}", distance(skew)));
        }
        (!troubles.is_empty()).then(|| troubles.join(", "))
    }

    /// What an administrator should look at.
    fn explanation(&self) -> String {
        let is_far = |skew: Skew| skew.seconds.unsigned_abs() + skew.within >= SKEW_SECONDS_MAX;
        match (&self.state, self.skew) {
            (ProbeState::Silent, Some(skew)) if is_far(skew) => {
                "right key, wrong clock: set the time there, or here".to_owned()
            }
            (ProbeState::Silent, Some(_)) => "answers pings only: see its log".to_owned(),
            (ProbeState::Silent, None) => "off, firewall, or another key".to_owned(),
            (ProbeState::Unreachable(why) | ProbeState::Error(why), _) => why.clone(),
            (ProbeState::Up { lag, .. }, _) if *lag > 0 => {
                "gnt-cluster redist-conf, and see its log".to_owned()
            }
            (ProbeState::Up { .. }, _) => match &self.disputed_master {
                Some(master) => format!("calls {master} the master"),
                None => String::new(),
            },
        }
    }
}

/// `10 min 5 s ahead`.
fn distance(skew: Skew) -> String {
    let time = humantime::format_duration(Duration::from_secs(skew.seconds.unsigned_abs()));
    let side = if skew.seconds < 0 { "behind" } else { "ahead" };
    format!("{time} {side}")
}

/// `+12 s`, and how sure that is where it is not.
fn clock(skew: Skew) -> String {
    match skew.within {
        0 | 1 => format!("{:+} s", skew.seconds),
        within => format!("{:+} s (within {within})", skew.seconds),
    }
}

fn find<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a CandidateResult> {
    outcome
        .results()
        .iter()
        .find(|contact| contact.candidate.name() == name)
}

fn serial_of(question: &Question<serde_json::Value>, contact: &CandidateResult) -> Option<i64> {
    let reply = contact.reply().filter(|reply| reply.status == Status::Ok)?;
    question.read(reply).ok()?.as_i64()
}

fn answering(
    question: &Question<serde_json::Value>,
    contact: &CandidateResult,
    newest: i64,
) -> ProbeState {
    match &contact.state {
        CandidateStatus::Unreachable(why) => ProbeState::Unreachable(diagnose::reason(why)),
        CandidateStatus::Silent => ProbeState::Silent,
        CandidateStatus::Answered {
            reply, round_trip, ..
        } => match (serial_of(question, contact), question.read(reply)) {
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

/// What `confd-client` checks.
fn checks(client: &ConfdClient) -> Result<Vec<Check>, CommandError> {
    let mut checks = Checks {
        client,
        done: Vec::new(),
    };
    checks.ask("ping", &question::ping(), |number| {
        Ok(format!("version {}", version(*number).trim_end()))
    })?;
    let master = checks.ask("master", &question::cluster_master(), |name| {
        Ok(name.clone())
    })?;
    checks.ask(
        "master's addresses",
        &question::master_addresses(),
        |master| {
            Ok(format!(
                "{}, cluster {}",
                master.primary_ip, master.cluster_ip
            ))
        },
    )?;
    if let Some(master) = master {
        checks.ask(
            "role of the master",
            &question::node_role(&master),
            |role| match role {
                NodeRole::Master => Ok(format!("{master} is the master")),
                role => Err(format!("{master} is {role}")),
            },
        )?;
    }
    checks.ask("nodes", &question::node_ips(), |ips| Ok(some(ips)))?;
    checks.ask("master candidates", &question::candidate_ips(), |ips| {
        Ok(some(ips))
    })?;
    let ips = checks.ask(
        "instances' addresses",
        &question::instance_ips(None),
        |ips| Ok(some(ips)),
    )?;
    let ips = ips.unwrap_or_default();
    let asked: Vec<&str> = ips.iter().map(String::as_str).take(ADDRESSES_MAX).collect();
    checks.ask(
        "nodes of instances' addresses",
        &question::nodes_of_ips(&asked, None),
        |nodes| {
            let unknown = nodes.iter().filter(|node| node.0.is_none()).count();
            match (unknown, nodes.len() == asked.len()) {
                (0, true) => Ok(format!("{} found", nodes.len())),
                _ => Err(format!(
                    "{} of {} found",
                    nodes.len() - unknown,
                    asked.len()
                )),
            }
        },
    )?;
    Ok(checks.done)
}

/// As many addresses are asked for at once: request and answer fit a datagram.
const ADDRESSES_MAX: usize = 50;

struct Checks<'a> {
    client: &'a ConfdClient,
    done: Vec<Check>,
}

impl Checks<'_> {
    /// Asks, and writes down what `judge` says of the answer.
    fn ask<T>(
        &mut self,
        name: &'static str,
        question: &Question<T>,
        judge: impl FnOnce(&T) -> Result<String, String>,
    ) -> Result<Option<T>, CommandError> {
        let settings = Settings {
            patience: WaitFor::Enough,
            deadline: TIMEOUT_DEFAULT,
            ..Settings::default()
        };
        let survey = self.client.query_all_with(question, settings);
        let outcome = survey.map_err(of_client)?;
        let answer = outcome.into_answer(question);
        let judged = match &answer {
            Ok(answer) => judge(answer),
            Err(error) => Err(error.to_string()),
        };
        self.done.push(Check {
            name,
            ok: judged.is_ok(),
            text: judged.unwrap_or_else(|error| error),
        });
        Ok(answer.ok())
    }
}

/// The first few of a list.
fn some(texts: &[String]) -> String {
    const SHOWN: usize = 5;
    match texts {
        [] => "none".to_owned(),
        texts if texts.len() > SHOWN => {
            format!(
                "{} and {} more",
                texts[..SHOWN].join(", "),
                texts.len() - SHOWN
            )
        }
        texts => texts.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(name: &str, serial: i64, lag: i64, seconds: i64) -> CandidateHealth {
        CandidateHealth {
            name: name.to_owned(),
            state: ProbeState::Up {
                serial,
                lag,
                round_trip: Duration::from_micros(412),
            },
            skew: Some(Skew { seconds, within: 0 }),
            disputed_master: None,
        }
    }

    fn down(name: &str, state: ProbeState, skew: Option<i64>) -> CandidateHealth {
        CandidateHealth {
            name: name.to_owned(),
            state,
            skew: skew.map(|seconds| Skew { seconds, within: 0 }),
            disputed_master: None,
        }
    }

    fn health(candidates: Vec<CandidateHealth>) -> Health {
        Health {
            needed: quorum(candidates.len()),
            candidates,
            checks: None,
        }
    }

    fn first_line(health: &Health) -> String {
        health.text().lines().next().expect("a line").to_owned()
    }

    #[test]
    fn all_is_well() {
        let health = health(vec![up("a", 77, 0, 0), up("b", 77, 0, -1)]);
        assert_eq!(
            first_line(&health),
            "CONFD OK - 2 of 2 candidates answer, serial 77|up=2;2:;2:;0;2 lag=0;0;;0; skew=1s;60;;0; rtt=0.000412s;;;0;"
        );
        assert_eq!(health.service_state(), ServiceState::Ok);
    }

    #[test]
    fn one_that_is_down_behind_or_late_is_a_warning() {
        let silent = down("c", ProbeState::Silent, Some(605));
        let refused = down("d", ProbeState::Unreachable("refused".to_owned()), None);
        let health = health(vec![
            up("a", 77, 0, 0),
            up("b", 70, 7, 61),
            silent,
            refused,
            up("e", 77, 0, 0),
        ]);
        assert_eq!(health.service_state(), ServiceState::Warning);
        let line = first_line(&health);
        for part in [
            "CONFD WARNING - 3 of 5 candidates answer, serial 77; ",
            "; b is 7 behind, has a clock 1m 1s ahead; ",
            "; c is silent, has a clock 10m 5s ahead; ",
            "; d is down: refused|up=3;5:;3:;0;5 lag=7;0;;0; skew=605s;",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(health.text().contains("right key, wrong clock"));
    }

    #[test]
    fn fewer_than_the_safe_number_are_critical() {
        let silent = |name: &str| down(name, ProbeState::Silent, None);
        let some = health(vec![up("a", 77, 0, 0), silent("b"), silent("c")]);
        assert_eq!(some.service_state(), ServiceState::Critical);
        assert!(
            first_line(&some).starts_with(
                "CONFD CRITICAL - 1 of 3 candidates answer, 2 are needed, serial 77; b"
            )
        );
        let none = health(vec![silent("a")]);
        assert!(first_line(&none).ends_with("a is silent|up=0;1:;1:;0;1"));
    }

    #[test]
    fn this_hosts_own_clock_is_suspected() {
        let alike = health(vec![up("a", 77, 0, -90), up("b", 77, 0, -91)]);
        assert!(first_line(&alike).contains("check this host's"));
        let differently = health(vec![up("a", 77, 0, -90), up("b", 77, 0, 90)]);
        assert!(!first_line(&differently).contains("check this host's"));
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
        assert!(health.text().ends_with("FAILED  ping: no answer\n"));
    }
}

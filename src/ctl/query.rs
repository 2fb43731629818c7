//! `confdctl query`: sends one query and prints the answer, or the answer of each candidate.

use std::io::{self, IsTerminal as _};
use std::net::IpAddr;

use serde_json::Value;
use serde_json::value::RawValue;

use super::diagnose;
use super::exit::{CommandError, Exit, eprintln_prefixed, print};
use super::format::{json_line, milliseconds, version};
use super::options::{Common, Query, QueryOptions};
use super::table::Table;
use super::target::Target;
use crate::client::{
    AdminState, AnsweredError, Candidate, CandidateResult, CandidateStatus, ConfdClient, Coverage,
    DataCollector, Disk, DrbdMinor, Error, Instance, Master, NodeInstances, Outcome, Question,
    Settings, WaitFor, question,
};
use crate::protocol::reply::Status;

/// Runs the command.
///
/// # Errors
///
/// A file or a socket of this host fails, or options exclude each other. An error that the cluster
/// answers is an exit status.
pub(super) fn run(common: &Common, options: &QueryOptions) -> Result<Exit, CommandError> {
    let target = Target::find(common)?;
    let run = QueryRun {
        client: target.client()?,
        target,
        common,
        options,
    };
    run.dispatch()
}

/// What all queries have in common.
struct QueryRun<'a> {
    client: ConfdClient,
    target: Target,
    common: &'a Common,
    options: &'a QueryOptions,
}

impl QueryRun<'_> {
    fn dispatch(&self) -> Result<Exit, CommandError> {
        match &self.options.query {
            Query::Master { addresses: false } => self.ask(&question::cluster_master(), line),
            Query::Master { addresses: true } => self.ask(&question::master_addresses(), master),
            Query::Role { node } => {
                self.ask(&question::node_role(node), |role| line(role.to_string()))
            }
            Query::Nodes => self.ask(&question::node_ips(), ip_lines),
            Query::Candidates => self.ask(&question::candidate_ips(), ip_lines),
            Query::InstancesOn { node } => self.ask(&question::node_instances(node), instances),
            Query::Disks { instance } => self.ask(&question::instance_disks(instance), disks),
            Query::Drbd { node } => self.ask(&question::node_drbd(node), minors),
            Query::NodeOf { ips, link } => match ips.as_slice() {
                [ip] => self.ask(&question::node_of_ip(ip, link.as_deref()), |ip| {
                    line(ip.to_string())
                }),
                _ => {
                    let asked: Vec<&str> = ips.iter().map(String::as_str).collect();
                    self.ask(&question::nodes_of_ips(&asked, link.as_deref()), |nodes| {
                        nodes_of(&asked, nodes)
                    })
                }
            },
            Query::Ips { link } => self.ask(&question::instance_ips(link.as_deref()), ip_lines),
            Query::Config { path } => self.ask(&question::config(path), value),
            Query::Collectors => self.ask(&question::data_collectors(), collectors),
            Query::Ping => self.ask(&question::ping(), |number| line(version(number))),
        }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if self.options.all {
            settings.coverage = Coverage::All;
            settings.wait_for = WaitFor::All;
        }
        settings.deadline = self.common.timeout.unwrap_or(settings.deadline);
        settings
    }

    /// Sends the query and prints the result.
    fn ask<T>(
        &self,
        question: &Question<T>,
        show: impl Fn(T) -> String,
    ) -> Result<Exit, CommandError> {
        let outcome = self.client.query_all_with(question, self.settings());
        let outcome = outcome.map_err(|error| CommandError::of_client(&error))?;
        let results = in_order(&outcome, &self.client.candidates());
        let answer = match outcome.best().and_then(CandidateResult::reply) {
            Some(reply) => question.read(reply).map_err(Some),
            None => Err(None),
        };
        let error = answer
            .as_ref()
            .err()
            .and_then(Option::as_ref)
            .map(|error| self.describe(error));
        if self.common.json {
            print(&json(
                &outcome,
                self.options.all.then_some(&results),
                error.as_deref(),
            ))?;
        } else if self.options.all {
            print(&side_by_side(&results).for_stdout())?;
        }
        warn(&outcome, &results);
        let is_text = !self.common.json && !self.options.all;
        match answer {
            Ok(answer) if is_text => self.print_answer(&show(answer)),
            Ok(_) => Ok(Exit::Answered),
            Err(None) => {
                eprintln_prefixed(diagnose::explain(
                    &outcome,
                    &results,
                    &self.target.key_source,
                    self.may_be_large(),
                ));
                Ok(Exit::NoAnswer)
            }
            Err(Some(_)) => {
                eprintln_prefixed(error.unwrap_or_default());
                Ok(Exit::ClusterError)
            }
        }
    }

    fn print_answer(&self, text: &str) -> Result<Exit, CommandError> {
        if text.is_empty() && io::stdout().is_terminal() {
            eprintln_prefixed("the answer is an empty list");
        }
        print(text)?;
        Ok(Exit::Answered)
    }

    /// The error that was answered, with the argument of the query.
    fn describe(&self, error: &Error) -> String {
        if let Error::Answered(AnsweredError::NotFound(Some(details))) = error {
            return details.clone();
        }
        let error = error.to_string();
        match &self.options.query {
            Query::Role { node } | Query::InstancesOn { node } | Query::Drbd { node } => {
                format!("node {node:?}: {error}")
            }
            Query::Disks { instance } => format!("instance {instance:?}: {error}"),
            Query::NodeOf { ips, .. } => format!("address {}: {error}", ips.join(" ")),
            Query::Config { path } => format!("path {path:?}: {error}"),
            _ => error,
        }
    }

    /// Whether the size of the answer grows with the cluster.
    fn may_be_large(&self) -> bool {
        !matches!(
            self.options.query,
            Query::Master { .. } | Query::Role { .. } | Query::Ping
        )
    }
}

/// The results in the order in which the candidates were named.
fn in_order<'a>(outcome: &'a Outcome, candidates: &[Candidate]) -> Vec<&'a CandidateResult> {
    let mut results: Vec<&CandidateResult> = outcome.results().iter().collect();
    results.sort_by_key(|result| candidates.iter().position(|it| *it == result.candidate));
    results
}

/// Prints a warning if there are too few answers or they differ.
fn warn(outcome: &Outcome, results: &[&CandidateResult]) {
    let Some(best) = outcome.best().and_then(CandidateResult::reply) else {
        return;
    };
    if !outcome.is_enough() {
        eprintln_prefixed(format!(
            "warning: {} of {} candidates answered, the safe number is {}; the answer may be old{}",
            outcome.replies(),
            results.len(),
            outcome.needed(),
            diagnose::unanswered(results),
        ));
    }
    if !outcome.is_consistent() {
        let mut text = format!(
            "warning: candidates give different answers with serial {}; on the master: gnt-cluster redist-conf",
            best.serial
        );
        let same_serial = |result: &&&CandidateResult| {
            result
                .reply()
                .is_some_and(|reply| (reply.status, reply.serial) == (best.status, best.serial))
        };
        for result in results.iter().filter(same_serial) {
            let answer = result.reply().map_or("", |reply| reply.answer.get());
            text += &format!("\n  {}: {}", result.candidate, shortened(answer));
        }
        eprintln_prefixed(text);
    }
}

/// The first characters of an answer, for one line.
fn shortened(answer: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let mut text: String = answer.chars().take(CHARACTERS_MAX).collect();
    if text.len() < answer.len() {
        text += "...";
    }
    text
}

fn side_by_side(results: &[&CandidateResult]) -> Table {
    let mut table = Table::new(["CANDIDATE", "SERIAL", "ROUND TRIP", "ANSWER"]);
    for result in results {
        let name = result.candidate.to_string();
        table.push(match &result.state {
            CandidateStatus::Answered {
                reply, round_trip, ..
            } => {
                let answer = match reply.status {
                    Status::Ok => bare(reply.answer.get()),
                    Status::Error => format!("error {}", bare(reply.answer.get())),
                };
                [
                    name,
                    reply.serial.to_string(),
                    milliseconds(*round_trip),
                    answer,
                ]
            }
            CandidateStatus::Malformed(why) => {
                [name, dash(), dash(), format!("malformed reply: {why}")]
            }
            CandidateStatus::Unreachable(why) => [name, dash(), dash(), diagnose::reason(why)],
            CandidateStatus::Silent => [name, dash(), dash(), "no answer".to_owned()],
        });
    }
    table
}

fn dash() -> String {
    "-".to_owned()
}

/// JSON text, a string without its quotes.
fn bare(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Value::String(text)) => text,
        _ => json.to_owned(),
    }
}

/// What `--json` prints; answers are printed as they were received.
#[derive(serde::Serialize)]
struct OutcomeJson<'a> {
    answer: Option<&'a RawValue>,
    serial: Option<i64>,
    replies: usize,
    needed: usize,
    asked: usize,
    consistent: bool,
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<CandidateJson<'a>>>,
}

/// The result of one candidate.
#[derive(serde::Serialize)]
struct CandidateJson<'a> {
    name: &'a str,
    status: &'static str,
    answer: Option<&'a RawValue>,
    serial: Option<i64>,
    round_trip_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn json(outcome: &Outcome, results: Option<&Vec<&CandidateResult>>, error: Option<&str>) -> String {
    let best = outcome.best();
    let reply = best.and_then(CandidateResult::reply);
    let json = OutcomeJson {
        answer: reply.map(|reply| &*reply.answer),
        serial: reply.map(|reply| reply.serial),
        replies: outcome.replies(),
        needed: outcome.needed(),
        asked: outcome.results().len(),
        consistent: outcome.is_consistent(),
        from: best.map(|result| result.candidate.name()),
        error: error.or_else(|| reply.is_none().then_some("no answer")),
        candidates: results.map(|results| {
            results
                .iter()
                .map(|result| candidate_json(result))
                .collect()
        }),
    };
    json_line(&json)
}

fn candidate_json(result: &CandidateResult) -> CandidateJson<'_> {
    let reply = result.reply();
    let (status, round_trip_ms, reason) = match &result.state {
        CandidateStatus::Answered {
            reply, round_trip, ..
        } => {
            let status = if reply.status == Status::Ok {
                "answered"
            } else {
                "error"
            };
            (status, Some(round_trip.as_secs_f64() * 1000.0), None)
        }
        CandidateStatus::Malformed(why) => ("malformed", None, Some(why.clone())),
        CandidateStatus::Unreachable(why) => ("unreachable", None, Some(diagnose::reason(why))),
        CandidateStatus::Silent => ("silent", None, None),
    };
    CandidateJson {
        name: result.candidate.name(),
        status,
        answer: reply.map(|reply| &*reply.answer),
        serial: reply.map(|reply| reply.serial),
        round_trip_ms,
        reason,
    }
}

// The text format of each answer.

fn line(text: String) -> String {
    text + "\n"
}

fn ip_lines(ips: Vec<IpAddr>) -> String {
    ips.into_iter().map(|ip| line(ip.to_string())).collect()
}

/// A string as it is, anything else as indented JSON.
fn value(value: Value) -> String {
    line(match value {
        Value::String(text) => text,
        value => format!("{value:#}"),
    })
}

fn master(master: Master) -> String {
    let mut table = Table::new(["NAME", "CLUSTER IP", "PRIMARY IP"]);
    let [cluster_ip, primary_ip] = [master.cluster_ip, master.primary_ip].map(|ip| ip.to_string());
    table.push([master.name, cluster_ip, primary_ip]);
    table.for_stdout()
}

fn nodes_of(ips: &[&str], nodes: Vec<Option<IpAddr>>) -> String {
    let mut table = Table::new(["INSTANCE IP", "NODE IP"]);
    for (ip, node) in ips.iter().zip(nodes) {
        let node = node.map_or_else(dash, |node| node.to_string());
        table.push([(*ip).to_owned(), node]);
    }
    table.for_stdout()
}

fn instances(instances: NodeInstances) -> String {
    let mut table = Table::new(["INSTANCE", "ROLE", "STATE", "HYPERVISOR"]);
    let mut push = |role: &str, instance: &Instance| {
        let state = instance.admin_state.as_ref().map(AdminState::to_string);
        table.push([
            instance.name.clone().unwrap_or_default(),
            role.to_owned(),
            state.unwrap_or_default(),
            instance.hypervisor.clone().unwrap_or_default(),
        ]);
    };
    instances
        .primary
        .iter()
        .for_each(|instance| push("primary", instance));
    instances
        .secondary
        .iter()
        .for_each(|instance| push("secondary", instance));
    table.for_stdout()
}

fn disks(disks: Vec<Disk>) -> String {
    let mut table = Table::new(["DISK", "TYPE", "SIZE (MiB)", "MODE", "UUID", "LOGICAL ID"]);
    for (index, disk) in disks.iter().enumerate() {
        table.push([
            format!("disk/{index}"),
            disk.kind.dev_type().to_owned(),
            disk.size_mebibytes.unwrap_or_default().to_string(),
            disk.mode.clone().unwrap_or_default(),
            disk.uuid.clone(),
            disk.kind.to_string(),
        ]);
    }
    table.for_stdout()
}

fn minors(minors: Vec<DrbdMinor>) -> String {
    let mut table = Table::new(["NODE", "MINOR", "INSTANCE", "DISK", "ROLE", "PEER"]);
    for minor in minors {
        let role = minor.role.to_string();
        table.push([
            minor.node,
            minor.minor.to_string(),
            minor.instance,
            minor.disk,
            role,
            minor.peer,
        ]);
    }
    table.for_stdout()
}

fn collectors(collectors: std::collections::BTreeMap<String, DataCollector>) -> String {
    let mut table = Table::new(["COLLECTOR", "ACTIVE", "INTERVAL (s)"]);
    for (name, collector) in collectors {
        let active = if collector.active { "yes" } else { "no" };
        let interval = collector.interval_microseconds as f64 / 1e6;
        table.push([name, active.to_owned(), interval.to_string()]);
    }
    table.for_stdout()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_are_printed_without_quotes_and_the_rest_as_json() {
        assert_eq!(value(json!("a \"b\"")), "a \"b\"\n");
        assert_eq!(value(json!(["a"])), "[\n  \"a\"\n]\n");
        assert_eq!(value(json!(null)), "null\n");
        assert_eq!(bare("\"a\""), "a");
        assert_eq!(bare("[1]"), "[1]");
    }

    #[test]
    fn long_answers_are_shortened_between_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"\u{e9}".repeat(61));
        assert_eq!(cut.chars().count(), 63);
    }
}

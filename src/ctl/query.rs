//! `confdctl query`: asks, and shows the answer that counts, or everybody's.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::diagnose;
use super::exit::{CommandError, Exit, eprintln_prefixed, print};
use super::options::{Common, Query, QueryOptions};
use super::table::Table;
use super::target::Target;
use crate::client::{
    Candidate, CandidateResult, CandidateStatus, ConfdClient, Coverage, DataCollector, Disk,
    DrbdMinor, Error, Instance, Master, NodeInstances, NodeOfIp, Outcome, Question, Settings,
    WaitFor, question,
};
use crate::protocol::reply::Status;

/// Runs the command.
///
/// # Errors
///
/// This host's files or sockets, or the command line; not what the cluster answers.
pub(super) fn run(common: &Common, options: &QueryOptions) -> Result<Exit, CommandError> {
    let site = Target::find(common)?;
    let asking = QueryRun {
        client: site.client()?,
        site,
        common,
        options,
    };
    asking.ask_any()
}

/// What all questions have in common.
struct QueryRun<'a> {
    client: ConfdClient,
    site: Target,
    common: &'a Common,
    options: &'a QueryOptions,
}

impl QueryRun<'_> {
    fn ask_any(&self) -> Result<Exit, CommandError> {
        match &self.options.query {
            Query::Master { addresses: false } => self.ask(&question::cluster_master(), line),
            Query::Master { addresses: true } => self.ask(&question::master_addresses(), master),
            Query::Role { node } => {
                self.ask(&question::node_role(node), |role| line(role.to_string()))
            }
            Query::Nodes => self.ask(&question::node_ips(), lines),
            Query::Candidates => self.ask(&question::candidate_ips(), lines),
            Query::InstancesOn { node } => self.ask(&question::node_instances(node), instances),
            Query::Disks { instance } => self.ask(&question::instance_disks(instance), disks),
            Query::Drbd { node } => self.ask(&question::node_drbd(node), minors),
            Query::NodeOf { ips, link } => match ips.as_slice() {
                [ip] => self.ask(&question::node_of_ip(ip, link.as_deref()), line),
                _ => {
                    let asked: Vec<&str> = ips.iter().map(String::as_str).collect();
                    self.ask(&question::nodes_of_ips(&asked, link.as_deref()), |nodes| {
                        nodes_of(&asked, nodes)
                    })
                }
            },
            Query::Ips { link } => self.ask(&question::instance_ips(link.as_deref()), lines),
            Query::Config { path } => self.ask(&question::config(path), value),
            Query::Collectors => self.ask(&question::data_collectors(), collectors),
            Query::Ping => self.ask(&question::ping(), version),
        }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if self.options.all {
            settings.coverage = Coverage::All;
            settings.patience = WaitFor::All;
        }
        settings.deadline = self.common.timeout.unwrap_or(settings.deadline);
        settings
    }

    /// Asks, and prints what comes of it.
    fn ask<T>(
        &self,
        question: &Question<T>,
        show: impl Fn(T) -> String,
    ) -> Result<Exit, CommandError> {
        let survey = self.client.query_all_with(question, self.settings());
        let outcome = survey.map_err(|error| CommandError::of_client(&error))?;
        let contacts = in_order(&outcome, &self.client.candidates());
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
                self.options.all.then_some(&contacts),
                error.as_deref(),
            ))?;
        } else if self.options.all {
            print(&side_by_side(&contacts).for_stdout())?;
        }
        warn(&outcome, &contacts);
        let plain = !self.common.json && !self.options.all;
        match answer {
            Ok(answer) if plain => self.print_answer(&show(answer)),
            Ok(_) => Ok(Exit::Answered),
            Err(None) => {
                eprintln_prefixed(diagnose::explain(
                    &outcome,
                    &contacts,
                    &self.site.key_source,
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

    /// The error that was answered, with what was asked for.
    fn describe(&self, error: &Error) -> String {
        let error = error.to_string();
        if let Some(details) = details(&error) {
            return details.to_owned();
        }
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

    /// Whether the answer grows with the cluster.
    fn may_be_large(&self) -> bool {
        !matches!(
            self.options.query,
            Query::Master { .. } | Query::Role { .. } | Query::Ping
        )
    }
}

/// The news in one of the reference's texts about a name that it does not know (`Ganeti.Config`, shown in two ways).
fn details(error: &str) -> Option<&str> {
    let told = error.split_once("error details:\n").map(|(_, rest)| rest);
    told.or_else(|| {
        let (_, shown) = error.split_once("OpPrereqError \"")?;
        shown.split_once("\" ECode").map(|(details, _)| details)
    })
}

/// The contacts in the order that the candidates were named in.
fn in_order<'a>(outcome: &'a Outcome, candidates: &[Candidate]) -> Vec<&'a CandidateResult> {
    let mut contacts: Vec<&CandidateResult> = outcome.results().iter().collect();
    contacts.sort_by_key(|contact| candidates.iter().position(|it| *it == contact.candidate));
    contacts
}

/// What is odd about an answer, on standard error.
fn warn(outcome: &Outcome, contacts: &[&CandidateResult]) {
    let Some(best) = outcome.best().and_then(CandidateResult::reply) else {
        return;
    };
    if !outcome.is_enough() {
        eprintln_prefixed(format!(
            "warning: {} of {} candidates answered, {} make an answer safe; this one may be old{}",
            outcome.replies(),
            contacts.len(),
            outcome.needed(),
            diagnose::list(contacts),
        ));
    }
    if !outcome.is_consistent() {
        let mut text = format!(
            "warning: candidates answer differently under serial {}; on the master: gnt-cluster redist-conf",
            best.serial
        );
        let alike = |contact: &&&CandidateResult| {
            contact
                .reply()
                .is_some_and(|reply| (reply.status, reply.serial) == (best.status, best.serial))
        };
        for contact in contacts.iter().filter(alike) {
            let answer = contact.reply().map_or("", |reply| reply.answer.get());
            text += &format!("\n  {}: {}", contact.candidate, shortened(answer));
        }
        eprintln_prefixed(text);
    }
}

/// As much of an answer as fits a line.
fn shortened(answer: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    let mut text: String = answer.chars().take(CHARACTERS_MAX).collect();
    if text.len() < answer.len() {
        text += "...";
    }
    text
}

fn side_by_side(contacts: &[&CandidateResult]) -> Table {
    let mut table = Table::new(["CANDIDATE", "SERIAL", "ROUND TRIP", "ANSWER"]);
    for contact in contacts {
        let name = contact.candidate.to_string();
        table.push(match &contact.state {
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
            CandidateStatus::Unreachable(why) => [name, dash(), dash(), diagnose::reason(why)],
            CandidateStatus::Silent => [name, dash(), dash(), "no answer".to_owned()],
        });
    }
    table
}

fn dash() -> String {
    "-".to_owned()
}

/// A time as `0.41 ms`.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// JSON text; a string without its quotes.
fn bare(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Value::String(text)) => text,
        _ => json.to_owned(),
    }
}

/// What `--json` prints of a call; answers as they were sent.
#[derive(serde::Serialize)]
struct Answered<'a> {
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

/// One candidate's part of it.
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

fn json(
    outcome: &Outcome,
    contacts: Option<&Vec<&CandidateResult>>,
    error: Option<&str>,
) -> String {
    let best = outcome.best();
    let reply = best.and_then(CandidateResult::reply);
    let answered = Answered {
        answer: reply.map(|reply| &*reply.answer),
        serial: reply.map(|reply| reply.serial),
        replies: outcome.replies(),
        needed: outcome.needed(),
        asked: outcome.results().len(),
        consistent: outcome.is_consistent(),
        from: best.map(|contact| contact.candidate.name()),
        error: error.or_else(|| reply.is_none().then_some("no answer")),
        candidates: contacts.map(|contacts| {
            contacts
                .iter()
                .map(|contact| candidate_json(contact))
                .collect()
        }),
    };
    to_json(&answered)
}

fn candidate_json(contact: &CandidateResult) -> CandidateJson<'_> {
    let reply = contact.reply();
    let (status, round_trip_ms, reason) = match &contact.state {
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
        CandidateStatus::Unreachable(why) => ("unreachable", None, Some(diagnose::reason(why))),
        CandidateStatus::Silent => ("silent", None, None),
    };
    CandidateJson {
        name: contact.candidate.name(),
        status,
        answer: reply.map(|reply| &*reply.answer),
        serial: reply.map(|reply| reply.serial),
        round_trip_ms,
        reason,
    }
}

/// One line of JSON.
pub(super) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("text and numbers are JSON") + "\n"
}

// What each answer looks like.

fn line(text: String) -> String {
    text + "\n"
}

fn lines(texts: Vec<String>) -> String {
    texts.into_iter().map(line).collect()
}

/// 3000000 is 3.0.0 (`Ganeti.Version`, `BuildVersion` of `lib/_constants.py`).
pub(super) fn version(number: i64) -> String {
    line(format!(
        "{}.{}.{}",
        number / 1_000_000,
        number / 10_000 % 100,
        number % 10_000
    ))
}

/// A string as it is; anything else as JSON to be read.
fn value(value: Value) -> String {
    line(match value {
        Value::String(text) => text,
        value => format!("{value:#}"),
    })
}

fn master(master: Master) -> String {
    let mut table = Table::new(["NAME", "CLUSTER IP", "PRIMARY IP"]);
    table.push([master.name, master.cluster_ip, master.primary_ip]);
    table.for_stdout()
}

fn nodes_of(ips: &[&str], nodes: Vec<NodeOfIp>) -> String {
    let mut table = Table::new(["INSTANCE IP", "NODE IP"]);
    for (ip, NodeOfIp(node)) in ips.iter().zip(nodes) {
        table.push([(*ip).to_owned(), node.unwrap_or_else(dash)]);
    }
    table.for_stdout()
}

fn instances(instances: NodeInstances) -> String {
    let mut table = Table::new(["INSTANCE", "NODE IS ITS", "STATE", "HYPERVISOR"]);
    let mut push = |role: &str, instance: &Instance| {
        let cells = [
            instance.name(),
            role,
            instance.admin_state(),
            instance.hypervisor(),
        ];
        table.push(cells.map(str::to_owned));
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
            disk.dev_type().to_owned(),
            disk.size_mebibytes().to_string(),
            disk.mode().to_owned(),
            disk.uuid().to_owned(),
            place(disk),
        ]);
    }
    table.for_stdout()
}

/// Where the disk is, without the secret that DRBD's two ends share: it is the last of six members.
fn place(disk: &Disk) -> String {
    const DRBD_MEMBERS_PUBLIC: usize = 5;
    let Some(members) = disk.logical_id().as_array() else {
        return disk.logical_id().to_string();
    };
    let public = if disk.dev_type() == "drbd" {
        DRBD_MEMBERS_PUBLIC
    } else {
        members.len()
    };
    let texts: Vec<String> = members.iter().take(public).map(text).collect();
    texts.join(" ")
}

/// A string as it is; anything else as JSON.
fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
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
    fn versions_read_as_ganeti_writes_them() {
        assert_eq!(version(3_000_000), "3.0.0\n");
        assert_eq!(version(2_160_001), "2.16.1\n");
    }

    #[test]
    fn the_news_in_an_error() {
        for text in [
            "Failure: prerequisites not met for this operation:\nerror type: ECodeNoEnt, error details:\nNo a",
            "Instance not found in the configuration: OpPrereqError \"No a\" ECodeNoEnt",
        ] {
            assert_eq!(details(text), Some("No a"));
        }
        assert_eq!(details("No config path"), None);
    }

    #[test]
    fn strings_are_plain_and_the_rest_is_json() {
        assert_eq!(value(json!("a \"b\"")), "a \"b\"\n");
        assert_eq!(value(json!(["a"])), "[\n  \"a\"\n]\n");
        assert_eq!(value(json!(null)), "null\n");
        assert_eq!(bare("\"a\""), "a");
        assert_eq!(bare("[1]"), "[1]");
    }

    #[test]
    fn the_secret_of_a_drbd_disk_is_not_shown() {
        let disk = |kind: &str, id: Value| Disk(json!({"dev_type": kind, "logical_id": id}));
        let drbd = disk("drbd", json!(["a", "b", 11000, 0, 1, "secret"]));
        assert_eq!(place(&drbd), "a b 11000 0 1");
        assert_eq!(place(&disk("plain", json!(["vg", "lv"]))), "vg lv");
        assert_eq!(place(&disk("odd", json!(null))), "null");
    }

    #[test]
    fn long_answers_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"\u{e9}".repeat(61));
        assert_eq!(cut.chars().count(), 63);
    }
}

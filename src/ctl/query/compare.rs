//! `query --all`: whether each candidate agrees with the answer that was printed.

use serde_json::Value;

use super::super::format::{self, milliseconds};
use super::super::table::{Column, Table};
use super::shortened;
use crate::client::{CandidateResult, CandidateStatus, Outcome, Reply};
use crate::protocol::reply::Status;

/// One row per candidate. `best` is the answer that was printed, `serials` the replies to the query
/// for the serial of the configuration.
pub(super) fn table(
    results: &[&CandidateResult],
    best: Option<&Reply>,
    serials: &Outcome,
) -> Table {
    let mut table = Table::new([
        Column::new("CANDIDATE"),
        Column::optional("OBJECT SERIAL", 2),
        Column::optional("CONFIG SERIAL", 1),
        Column::optional("ROUND TRIP", 3),
        Column::state("ANSWER"),
    ]);
    for result in results {
        let name = result.candidate.to_string();
        let config_serial = config_serial(serials, &name).unwrap_or_else(dash);
        let (serial, round_trip, answer) = match &result.state {
            CandidateStatus::Answered {
                reply, round_trip, ..
            } => (
                reply.serial.to_string(),
                milliseconds(*round_trip),
                comparison(reply, best),
            ),
            CandidateStatus::Malformed(why) => {
                (dash(), dash(), format!("error: malformed reply: {why}"))
            }
            CandidateStatus::Unreachable(why) => {
                (dash(), dash(), format!("down: {}", format::reason(why)))
            }
            CandidateStatus::Silent => (dash(), dash(), "silent: no answer".to_owned()),
        };
        table.push([name, serial, config_serial, round_trip, answer]);
    }
    table
}

fn dash() -> String {
    "-".to_owned()
}

/// The serial of the configuration that a candidate serves.
fn config_serial(serials: &Outcome, name: &str) -> Option<String> {
    let mut results = serials.results().iter();
    let reply = results
        .find(|result| result.candidate.name() == name)?
        .reply()?;
    (reply.status == Status::Ok).then(|| reply.answer.get().to_owned())
}

/// How a reply compares with the answer that was printed. Errors are compared as well, because the
/// best reply may be one.
fn comparison(reply: &Reply, best: Option<&Reply>) -> String {
    let answer = shortened(&bare(reply.answer.get()));
    let is_same = best
        .is_some_and(|best| (reply.status, reply.answer.get()) == (best.status, best.answer.get()));
    match (reply.status, is_same) {
        (Status::Ok, true) => "agrees".to_owned(),
        (Status::Ok, false) => format!("differs: {answer}"),
        (Status::Error, _) => format!("error: {answer}"),
    }
}

/// JSON text, a string without its quotes.
fn bare(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Value::String(text)) => text,
        _ => json.to_owned(),
    }
}

//! The result of a query as a JSON document.

use serde_json::value::RawValue;

use super::super::format;
use crate::client::{CandidateResult, CandidateStatus, Outcome};
use crate::protocol::reply::Status;

/// The document; answers are printed as they were received.
#[derive(serde::Serialize)]
pub(super) struct OutcomeJson<'a> {
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

/// The document about `outcome`, with each candidate if `results` is given.
pub(super) fn document<'a>(
    outcome: &'a Outcome,
    results: Option<&[&'a CandidateResult]>,
    error: Option<&'a str>,
) -> OutcomeJson<'a> {
    let best = outcome.best();
    let reply = best.and_then(CandidateResult::reply);
    OutcomeJson {
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
    }
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
        CandidateStatus::Unreachable(why) => ("unreachable", None, Some(format::reason(why))),
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

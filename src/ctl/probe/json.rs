//! The result of a probe as JSON.

use super::super::format::json_line;
use super::super::limits::Limits;
use super::health::{CandidateHealth, Health};
use super::plugin;

/// One line of JSON.
pub(super) fn document(health: &Health) -> String {
    let candidates = health.candidates.iter();
    let candidates: Vec<_> = candidates.map(|it| candidate(it, &health.limits)).collect();
    let mut json = serde_json::json!({
        "verdict": health.service_state(),
        "summary": plugin::summary(health),
        "up": health.up(),
        "needed": health.needed,
        "serial": health.newest(),
        "age_s": health.age.map(|age| age.as_secs()),
        "candidates": candidates,
    });
    if let Some(file) = &health.config_file {
        json["config_file"] = serde_json::json!({
            "path": file.path,
            "serial": file.serial.as_ref().ok(),
            "problem": health.file_problem(),
        });
    }
    if let Some(checks) = &health.checks {
        json["checks"] = serde_json::json!(checks);
    }
    json_line(&json)
}

fn candidate(candidate: &CandidateHealth, limits: &Limits) -> serde_json::Value {
    serde_json::json!({
        "name": candidate.name,
        "state": candidate.state.name(),
        "serial": candidate.serial(),
        "lag": candidate.lag(),
        "skew_s": candidate.skew.map(|skew| skew.seconds),
        "skew_within_s": candidate.skew.map(|skew| skew.within),
        "round_trip_ms": candidate.round_trip().map(|time| time.as_secs_f64() * 1000.0),
        "problem": candidate.problem(limits).map(|problem| problem.text),
    })
}

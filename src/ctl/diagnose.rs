//! Why a query may have had no answer, and what to do about it.
//!
//! Confd sends no reply to a request with a wrong key or a wrong clock, so the client cannot
//! distinguish these from a daemon that is not running. The text lists the possible causes.

use super::target::KeySource;
use crate::client::{CandidateResult, CandidateStatus, Outcome};
use crate::protocol::PORT_DEFAULT;

/// Lists the possible causes, the most likely first.
///
/// `may_be_large`: the size of the answer grows with the cluster, so it may not fit a datagram.
pub(super) fn explain(
    outcome: &Outcome,
    results: &[&CandidateResult],
    key: &KeySource,
    may_be_large: bool,
) -> String {
    let port = results
        .iter()
        .find_map(|result| result.candidate.addresses().first())
        .map_or(PORT_DEFAULT, |address| address.port());
    let is_silent = |result: &&CandidateResult| matches!(result.state, CandidateStatus::Silent);
    let mut causes = vec![
        "ganeti-confd is not running there, or the host is not a master candidate (any more).\n\
         On that host: /usr/lib/ganeti/daemon-util check ganeti-confd. \
         On the master: gnt-node list -o name,pip,role"
            .to_owned(),
    ];
    if results.iter().any(is_silent) {
        causes.push(wrong_key(key));
        causes.push(
            "The clocks differ by more than 5 minutes. \"confdctl probe\" compares them."
                .to_owned(),
        );
    }
    causes.push(format!(
        "A firewall here, there or in between drops udp/{port} or its replies."
    ));
    if may_be_large && results.iter().any(is_silent) {
        causes.push(
            "The answer is too large for a datagram: Ganeti's own ganeti-confd does not reply then.\n\
             Try \"confdctl query ping\"; if that is answered, ask for less at once."
                .to_owned(),
        );
    }
    let mut text = format!(
        "no answer within {:.1} s{}\nPossible causes, the most likely first:",
        outcome.elapsed().as_secs_f64(),
        unanswered(results)
    );
    for (number, cause) in (1..).zip(causes) {
        text += &format!("\n {number}. {}", cause.replace('\n', "\n    "));
    }
    text
}

fn wrong_key(key: &KeySource) -> String {
    match key {
        KeySource::File(path) => format!(
            "The key is wrong: confd does not answer requests signed with another key.\n\
             Compare \"sha1sum {path}\" here with /var/lib/ganeti/hmac.key there; every byte counts.",
            path = path.display()
        ),
        KeySource::Environment => {
            "The key in CONFD_KEY is wrong: confd does not answer requests signed with another key.\n\
             Every byte of hmac.key counts, and $(cat FILE) drops its final newline: \
             set CONFD_KEY_FILE instead."
                .to_owned()
        }
        KeySource::Demo => "The key is wrong.".to_owned(),
    }
}

/// One line for each candidate that did not answer, each preceded by a line feed.
pub(super) fn unanswered(results: &[&CandidateResult]) -> String {
    let line = |result: &&CandidateResult| {
        let state = match &result.state {
            CandidateStatus::Answered { .. } => return None,
            CandidateStatus::Malformed(why) => format!("malformed reply: {why}"),
            CandidateStatus::Unreachable(why) => format!("unreachable: {}", reason(why)),
            CandidateStatus::Silent => match result.sent {
                1 => "no reply to 1 request".to_owned(),
                sent => format!("no reply to {sent} requests"),
            },
        };
        Some(format!("\n  {}: {state}", result.candidate))
    };
    results.iter().filter_map(line).collect()
}

/// An I/O error's text without the number that the standard library appends.
pub(super) fn reason(why: &str) -> String {
    let text = why.split(" (os error").next().unwrap_or(why);
    if text == "Connection refused" {
        return "connection refused, no daemon listens there".to_owned();
    }
    text.to_owned()
}

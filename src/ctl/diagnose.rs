//! What no answer can mean, and what to do about it.
//!
//! Confd answers nobody whose key is wrong or whose clock is off, so everything that goes wrong looks alike from here.

use super::target::KeySource;
use crate::client::{CandidateResult, CandidateStatus, Outcome};

/// The explanation, likeliest first; `may_be_large` if the answer grows with the cluster.
pub(super) fn explain(
    outcome: &Outcome,
    contacts: &[&CandidateResult],
    key: &KeySource,
    may_be_large: bool,
) -> String {
    let port = contacts
        .first()
        .map_or(0, |contact| contact.candidate.addresses()[0].port());
    let is_silent = |contact: &&CandidateResult| matches!(contact.state, CandidateStatus::Silent);
    let mut meanings = vec![
        "ganeti-confd does not run there, or the host is no master candidate (any more).\n\
         There: /usr/lib/ganeti/daemon-util check ganeti-confd. On the master: gnt-node list -o name,pip,role"
            .to_owned(),
    ];
    if contacts.iter().any(is_silent) {
        meanings.push(other_key(key));
        meanings
            .push("The clocks are more than 5 minutes apart. \"confdctl probe\" tells.".to_owned());
    }
    meanings.push(format!(
        "A firewall, here, there or between, does not let udp/{port} and its replies pass."
    ));
    if may_be_large && contacts.iter().any(is_silent) {
        meanings.push(
            "The answer is too large for a datagram: Ganeti's own ganeti-confd is silent then.\n\
             Try \"confdctl query ping\"; if that is answered, ask for less at once."
                .to_owned(),
        );
    }
    let mut text = format!(
        "no answer within {:.1} s{}\nWhat that can mean, likeliest first:",
        outcome.elapsed().as_secs_f64(),
        list(contacts)
    );
    for (number, meaning) in (1..).zip(meanings) {
        text += &format!("\n {number}. {}", meaning.replace('\n', "\n    "));
    }
    text
}

fn other_key(key: &KeySource) -> String {
    match key {
        KeySource::File(path) => format!(
            "The key is another one: confd is silent to a wrong key. Used here: {path}\n\
             Compare \"sha1sum {path}\" here with /var/lib/ganeti/hmac.key there; every byte counts.",
            path = path.display()
        ),
        KeySource::Environment => "The key is another one: confd is silent to a wrong key. Used here: CONFD_KEY\n\
             Every byte of hmac.key counts, and $(cat FILE) drops its final newline: set CONFD_KEY_FILE instead."
            .to_owned(),
        KeySource::Demo => "The key is another one: confd is silent to a wrong key.".to_owned(),
    }
}

/// One line for each candidate that did not answer, a line feed before each.
pub(super) fn list(contacts: &[&CandidateResult]) -> String {
    let line = |contact: &&CandidateResult| {
        let what = match &contact.state {
            CandidateStatus::Answered { .. } => return None,
            CandidateStatus::Unreachable(why) => format!("unreachable: {}", reason(why)),
            CandidateStatus::Silent => match contact.sent {
                1 => "silent, asked once".to_owned(),
                times => format!("silent, asked {times} times"),
            },
        };
        Some(format!("\n  {}: {what}", contact.candidate))
    };
    contacts.iter().filter_map(line).collect()
}

/// A reason without the number that the standard library adds to it.
pub(super) fn reason(why: &str) -> String {
    let text = why.split(" (os error").next().unwrap_or(why);
    if text == "Connection refused" {
        return "nobody listens there (connection refused)".to_owned();
    }
    text.to_owned()
}

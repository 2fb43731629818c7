//! Why a query may have had no answer, and what to do about it.
//!
//! Confd sends no reply to a request with a wrong key or a wrong clock, so the client cannot
//! distinguish these from a daemon that is not running. The text lists the possible causes.

use super::format;
use super::target::KeySource;
use crate::client::{Candidate, CandidateResult, CandidateStatus, Outcome, Skew};
use crate::protocol::{PORT_DEFAULT, SKEW_SECONDS_MAX};

/// What is known about a query without an answer.
pub(super) struct Silence<'a> {
    pub(super) outcome: &'a Outcome,
    pub(super) results: &'a [&'a CandidateResult],
    /// The clocks of the candidates, where they answer pings with another time.
    pub(super) skews: &'a [(Candidate, Option<Skew>)],
    pub(super) key: &'a KeySource,
    /// The size of the answer grows with the cluster, so it may not fit a datagram.
    pub(super) may_be_large: bool,
}

impl Silence<'_> {
    /// Lists the causes, the most likely first. A clock that is wrong for certain is the only one.
    pub(super) fn explain(&self) -> String {
        let mut text = format!(
            "no answer within {:.1} s{}",
            self.outcome.elapsed().as_secs_f64(),
            unanswered(self.results)
        );
        if let Some(clocks) = self.wrong_clocks() {
            return text + &clocks;
        }
        let causes = self.causes();
        if !causes.is_empty() {
            text += "\nPossible causes, the most likely first:";
        }
        for (number, cause) in (1..).zip(causes) {
            text += &format!("\n {number}. {}", cause.replace('\n', "\n    "));
        }
        text
    }

    fn wrong_clocks(&self) -> Option<String> {
        let mut text = String::new();
        for (candidate, skew) in self.skews {
            let Some(skew) = skew else { continue };
            let seconds = skew.seconds.unsigned_abs();
            if seconds + skew.within >= SKEW_SECONDS_MAX {
                let side = if skew.seconds < 0 { "behind" } else { "ahead" };
                text += &format!("\nThe clock of {candidate} is {seconds} s {side}.");
            }
        }
        (!text.is_empty()).then(|| {
            text + &format!(
                "\nThe key is correct, but confd answers only if the clocks differ by at most \
                 {SKEW_SECONDS_MAX} s: set the time there, or here."
            )
        })
    }

    fn causes(&self) -> Vec<String> {
        let is_any_silent = self.results.iter().any(|result| is_silent(result));
        // Candidates that answer pings only are running, with the right key and clock.
        let answers_pings = self.skews.iter().any(|(_, skew)| skew.is_some());
        let mut causes = Vec::new();
        let is_off_host = |result: &&CandidateResult| is_silent(result) && !is_loopback(result);
        let may_be_down = |result: &&CandidateResult| is_off_host(result) || is_refused(result);
        if !answers_pings && self.results.iter().any(may_be_down) {
            causes.push(
                "ganeti-confd is not running there, or the host is not a master candidate (any \
                 more).\n\
                 On that host: /usr/lib/ganeti/daemon-util check ganeti-confd. \
                 On the master: gnt-node list -o name,pip,role"
                    .to_owned(),
            );
        }
        if is_any_silent && !answers_pings {
            causes.push(wrong_key(self.key));
            causes.push(
                "The clocks differ by more than a day. \"confdctl probe\" compares them."
                    .to_owned(),
            );
        }
        let mut addresses = self.results.iter().flat_map(|it| it.candidate.addresses());
        let port = addresses
            .next()
            .map_or(PORT_DEFAULT, |address| address.port());
        if !answers_pings && self.results.iter().any(is_off_host) {
            causes.push(format!(
                "A firewall here, there or in between drops udp/{port} or its replies."
            ));
        }
        if self.may_be_large && is_any_silent {
            causes.push(
                "The answer is too large for a datagram: Ganeti's own ganeti-confd does not reply \
                 then.\n\
                 Try \"confdctl query ping\"; if that is answered, ask for less at once."
                    .to_owned(),
            );
        }
        if causes.is_empty() && answers_pings {
            causes.push("The daemon answers pings only: check its log.".to_owned());
        }
        causes
    }
}

/// Whether a candidate sent no reply, and no error was received either.
pub(super) fn is_silent(result: &CandidateResult) -> bool {
    matches!(result.state, CandidateStatus::Silent)
}

fn is_loopback(result: &CandidateResult) -> bool {
    let addresses = result.candidate.addresses();
    !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback())
}

/// Whether the host is up and no daemon is listening. On loopback, a candidate that is silent and
/// not refused is therefore running.
fn is_refused(result: &CandidateResult) -> bool {
    matches!(&result.state, CandidateStatus::Unreachable(why) if why.contains("refused"))
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
            CandidateStatus::Unreachable(why) => format!("unreachable: {}", format::reason(why)),
            CandidateStatus::Silent => match result.sent {
                1 => "no reply to 1 request".to_owned(),
                sent => format!("no reply to {sent} requests"),
            },
        };
        Some(format!("\n  {}: {state}", result.candidate))
    };
    results.iter().filter_map(line).collect()
}

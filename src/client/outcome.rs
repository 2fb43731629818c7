//! The outcome of a call: the reply of each candidate, and the best of them.

use std::cmp::Reverse;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::candidate::Candidate;
use super::reply::Reply;
use crate::protocol::reply::Status;

/// The outcome of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(super) results: Vec<CandidateResult>,
    pub(super) needed: usize,
    pub(super) elapsed: Duration,
}

/// A candidate that was asked, and what came back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CandidateResult {
    /// The candidate.
    pub candidate: Candidate,
    /// The number of requests that were sent to it.
    pub sent: usize,
    /// What came back.
    pub state: CandidateStatus,
    /// Another address than the one that was asked, if a reply to this candidate's request came
    /// from there, with the right signature. The reply counts only with
    /// [`Settings::any_source`](super::Settings::any_source).
    ///
    /// A daemon that is bound to 0.0.0.0 on a host with several addresses causes this, as does
    /// address translation.
    pub other_source: Option<SocketAddr>,
}

/// What came back from a candidate.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CandidateStatus {
    /// A reply.
    Answered {
        /// The reply.
        reply: Reply,
        /// The time from the request that it answers to the reply.
        round_trip: Duration,
        /// The time from the start of the call to the reply.
        after: Duration,
    },
    /// A message with the right signature that is not a reply; the text says what is wrong with it.
    Malformed(String),
    /// It cannot be reached; the text says why. The network or this host reported that nothing
    /// listens there or that there is no route; or its name has no address.
    Unreachable(String),
    /// Nothing until the call ended.
    Silent,
}

impl CandidateResult {
    /// The reply, if there was one.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.state {
            CandidateStatus::Answered { reply, .. } => Some(reply),
            _ => None,
        }
    }

    fn after(&self) -> Duration {
        match self.state {
            CandidateStatus::Answered { after, .. } => after,
            _ => Duration::MAX,
        }
    }
}

impl Outcome {
    /// The candidates that were asked, with what came back.
    pub fn results(&self) -> &[CandidateResult] {
        &self.results
    }

    /// The number of candidates that replied.
    pub fn replies(&self) -> usize {
        self.answered().count()
    }

    /// The number of replies that make an answer safe ([`quorum`](super::quorum)).
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Whether there are enough replies to make an answer safe.
    pub fn is_enough(&self) -> bool {
        self.replies() >= self.needed
    }

    /// The time that the call took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The candidate with the best reply: a value is better than an error, then the highest serial
    /// is best, then the earliest reply.
    pub fn best(&self) -> Option<&CandidateResult> {
        self.answered()
            .max_by_key(|(result, reply)| {
                let is_value = reply.status == Status::Ok;
                (is_value, reply.serial, Reverse(result.after()))
            })
            .map(|(result, _)| result)
    }

    /// Whether all values with the best reply's serial are equal. If not, the copies of the
    /// configuration differ, and the replies do not show which one is right. Errors are not
    /// compared: they have no serial, and daemons word them differently.
    pub fn is_consistent(&self) -> bool {
        let best = self.best().and_then(CandidateResult::reply);
        let Some(best) = best.filter(|reply| reply.status == Status::Ok) else {
            return true;
        };
        self.answered()
            .filter(|(_, reply)| (reply.status, reply.serial) == (best.status, best.serial))
            .all(|(_, reply)| reply.agrees_with(best))
    }

    fn answered(&self) -> impl Iterator<Item = (&CandidateResult, &Reply)> {
        let results = self.results.iter();
        results.filter_map(|result| Some((result, result.reply()?)))
    }

    /// Displays the number of candidates in each state.
    pub(super) fn tally(&self) -> Tally<'_> {
        Tally(self)
    }
}

/// See [`Outcome::tally`].
pub(super) struct Tally<'a>(&'a Outcome);

impl fmt::Display for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = &self.0.results;
        let count =
            |is: fn(&CandidateStatus) -> bool| results.iter().filter(|r| is(&r.state)).count();
        let answered = count(|s| matches!(s, CandidateStatus::Answered { .. }));
        let malformed = count(|s| matches!(s, CandidateStatus::Malformed(_)));
        let unreachable = count(|s| matches!(s, CandidateStatus::Unreachable(_)));
        let silent = count(|s| matches!(s, CandidateStatus::Silent));
        let seconds = self.0.elapsed.as_secs_f64();
        write!(f, "from {} asked within {seconds:.1} s (", results.len())?;
        let parts = [
            (answered, "answered"),
            (malformed, "malformed"),
            (unreachable, "unreachable"),
            (silent, "silent"),
        ];
        let mut separator = "";
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{separator}{count} {what}")?;
            separator = ", ";
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::quorum;

    /// A candidate that answered after `after` milliseconds.
    fn answered(status: Status, serial: i64, answer: &str, after: u64) -> CandidateResult {
        let address: std::net::SocketAddr = ([127, 0, 0, 1], 1814).into();
        let reply = Reply {
            status,
            answer: serde_json::from_str(answer).expect("JSON"),
            serial,
        };
        let after = Duration::from_millis(after);
        CandidateResult {
            candidate: address.into(),
            sent: 1,
            other_source: None,
            state: CandidateStatus::Answered {
                reply,
                round_trip: after,
                after,
            },
        }
    }

    fn outcome(results: Vec<CandidateResult>) -> Outcome {
        Outcome {
            needed: quorum(results.len()),
            results,
            elapsed: Duration::ZERO,
        }
    }

    fn best(outcome: &Outcome) -> &str {
        outcome
            .best()
            .and_then(CandidateResult::reply)
            .expect("an answer")
            .answer
            .get()
    }

    #[test]
    fn the_newest_answer_is_best() {
        let it = outcome(vec![
            answered(Status::Ok, 7, "1", 1),
            answered(Status::Ok, 8, "2", 3),
            answered(Status::Ok, 8, "2", 2),
            answered(Status::Error, 0, "3", 0),
        ]);
        assert_eq!(best(&it), "2");
        assert_eq!(
            it.best().expect("an answer").after(),
            Duration::from_millis(2)
        );
        assert!(it.is_consistent() && it.is_enough());
    }

    #[test]
    fn a_value_is_better_than_an_error() {
        let it = outcome(vec![
            answered(Status::Error, 9, "2", 0),
            answered(Status::Ok, 7, "1", 1),
        ]);
        assert_eq!(best(&it), "1");
    }

    #[test]
    fn different_answers_with_one_serial_are_inconsistent() {
        let it = outcome(vec![
            answered(Status::Ok, 7, "1", 1),
            answered(Status::Ok, 7, "2", 2),
        ]);
        assert!(!it.is_consistent());
        let older = outcome(vec![
            answered(Status::Ok, 7, "1", 1),
            answered(Status::Ok, 6, "2", 2),
        ]);
        assert!(older.is_consistent());
        let errors = outcome(vec![
            answered(Status::Error, 0, r#""no file""#, 1),
            answered(Status::Error, 0, r#""not found""#, 2),
        ]);
        assert!(errors.is_consistent());
    }
}

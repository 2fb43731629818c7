//! What came of a call: every candidate's answer, and the one that counts.

use std::fmt;
use std::time::Duration;

use super::{Candidate, Error, Question, Reply};
use crate::protocol::reply::Status;

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(super) contacts: Vec<CandidateResult>,
    pub(super) needed: usize,
    pub(super) elapsed: Duration,
}

/// A candidate that was asked, and what came back.
#[derive(Clone, Debug)]
pub struct CandidateResult {
    /// Who was asked.
    pub candidate: Candidate,
    /// How many times.
    pub sent: usize,
    /// What came back.
    pub state: CandidateStatus,
}

/// What came back from a candidate.
#[derive(Clone, Debug)]
pub enum CandidateStatus {
    /// A reply.
    Answered {
        /// The reply.
        reply: Reply,
        /// From the request that it answers to the reply.
        round_trip: Duration,
        /// From the beginning of the call to the reply.
        after: Duration,
    },
    /// Word from the network, or from this host, that it cannot be reached: nobody listens there, or there is no way.
    Unreachable(String),
    /// Nothing until the call was over.
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
    /// All that were asked.
    pub fn results(&self) -> &[CandidateResult] {
        &self.contacts
    }

    /// How many answered.
    pub fn replies(&self) -> usize {
        self.answered().count()
    }

    /// How many had to answer to make an answer safe.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Whether as many answered.
    pub fn is_enough(&self) -> bool {
        self.replies() >= self.needed
    }

    /// How long the call took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The candidate whose answer counts: an answer rather than an error, the highest serial, and of equals the quickest.
    pub fn best(&self) -> Option<&CandidateResult> {
        self.answered()
            .max_by_key(|(contact, reply)| {
                let is_answer = reply.status == Status::Ok;
                (is_answer, reply.serial, std::cmp::Reverse(contact.after()))
            })
            .map(|(contact, _)| contact)
    }

    /// Whether all that are as new as the answer that counts say the same. If not, a candidate's copy of the configuration is not
    /// what it should be, and nobody can tell whose. Errors carry no serial, and each daemon words them as it likes: they are no sign of that.
    pub fn is_consistent(&self) -> bool {
        let best = self.best().and_then(CandidateResult::reply);
        let Some(best) = best.filter(|reply| reply.status == Status::Ok) else {
            return true;
        };
        self.answered()
            .filter(|(_, reply)| (reply.status, reply.serial) == (best.status, best.serial))
            .all(|(_, reply)| reply.agrees_with(best))
    }

    /// The answer that counts, if it is safe.
    ///
    /// # Errors
    ///
    /// [`Error::Silence`], [`Error::TooFewReplies`]; as of [`Question::read`].
    pub fn into_answer<T>(self, question: &Question<T>) -> Result<T, Error> {
        match self.best().and_then(CandidateResult::reply) {
            None => Err(Error::Silence(Box::new(self))),
            Some(_) if !self.is_enough() => Err(Error::TooFewReplies(Box::new(self))),
            Some(reply) => question.read(reply),
        }
    }

    fn answered(&self) -> impl Iterator<Item = (&CandidateResult, &Reply)> {
        self.contacts
            .iter()
            .filter_map(|contact| Some((contact, contact.reply()?)))
    }

    /// How the candidates fared, in parentheses.
    pub(super) fn tally(&self) -> Tally<'_> {
        Tally(self)
    }
}

pub(super) struct Tally<'a>(&'a Outcome);

impl fmt::Display for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contacts = &self.0.contacts;
        let count =
            |is: fn(&CandidateStatus) -> bool| contacts.iter().filter(|c| is(&c.state)).count();
        let parts = [
            (
                count(|s| matches!(s, CandidateStatus::Answered { .. })),
                "answered",
            ),
            (
                count(|s| matches!(s, CandidateStatus::Unreachable(_))),
                "unreachable",
            ),
            (count(|s| matches!(s, CandidateStatus::Silent)), "silent"),
        ];
        write!(
            f,
            "from {} asked within {:.1} s (",
            contacts.len(),
            self.0.elapsed.as_secs_f64()
        )?;
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

    /// A contact that answered after so many milliseconds.
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
            state: CandidateStatus::Answered {
                reply,
                round_trip: after,
                after,
            },
        }
    }

    fn outcome(contacts: Vec<CandidateResult>) -> Outcome {
        Outcome {
            needed: super::super::quorum(contacts.len()),
            contacts,
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
    fn the_newest_answer_counts() {
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
    fn an_answer_beats_an_error() {
        let it = outcome(vec![
            answered(Status::Error, 9, "2", 0),
            answered(Status::Ok, 7, "1", 1),
        ]);
        assert_eq!(best(&it), "1");
    }

    #[test]
    fn a_difference_under_one_serial_is_seen() {
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

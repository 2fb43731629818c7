//! One question under way: whom to ask (again) and when, what came back, when enough is known.
//!
//! Knows no socket, no clock and no protocol: times are arguments.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    Candidate, CandidateResult, CandidateStatus, Outcome, RejectedReply, Reply, Settings, WaitFor,
    quorum,
};
use crate::protocol::reply::Status;

/// Who has not answered is asked again after this time; then after twice that, and so on.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest time between two requests to one candidate.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How often a candidate must be found unreachable in one call to be believed so: its daemon may be starting anew.
const UNREACHABLE_FINAL: usize = 2;
/// How long those who have not answered get when the safe number is reached: as long as the slowest answer took, within these bounds;
/// the longest time as long as there are only errors, since any answer beats them.
const GRACE_MIN: Duration = Duration::from_millis(25);
const GRACE_MAX: Duration = Duration::from_millis(500);

/// One question under way.
#[derive(Debug)]
pub(super) struct Call {
    asked: Vec<CandidateState>,
    needed: usize,
    patience: WaitFor,
    started: Instant,
    deadline: Instant,
    /// When those who have not answered are not waited for any more.
    grace_ends: Option<Instant>,
}

/// A candidate, and how far it has come.
#[derive(Debug)]
struct CandidateState {
    candidate: Candidate,
    /// When it was asked, each time.
    sent: Vec<Instant>,
    /// When it is asked again.
    next: Instant,
    unreachable: usize,
    state: CandidateStatus,
}

/// One request to be sent: for which candidate, the how manieth, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmission {
    pub(super) candidate: usize,
    pub(super) attempt: usize,
    pub(super) to: SocketAddr,
}

impl CandidateState {
    /// Where the `attempt`th request goes: the addresses in turn.
    fn address(&self, attempt: usize) -> SocketAddr {
        let addresses = self.candidate.addresses();
        addresses[attempt % addresses.len()]
    }

    /// Whether nothing more is expected of it.
    fn is_settled(&self) -> bool {
        match self.state {
            CandidateStatus::Answered { .. } => true,
            // Each of its addresses gets its chance.
            CandidateStatus::Unreachable(_) => {
                let addresses = self.candidate.addresses().len();
                self.unreachable >= UNREACHABLE_FINAL.max(addresses)
            }
            CandidateStatus::Silent => false,
        }
    }
}

impl Call {
    pub(super) fn new(candidates: Vec<Candidate>, settings: Settings, now: Instant) -> Self {
        let ask = |candidate| CandidateState {
            candidate,
            sent: Vec::new(),
            next: now,
            unreachable: 0,
            state: CandidateStatus::Silent,
        };
        Self {
            needed: quorum(candidates.len()),
            asked: candidates.into_iter().map(ask).collect(),
            patience: settings.patience,
            started: now,
            deadline: now + settings.deadline,
            grace_ends: None,
        }
    }

    /// The next request that is due, if there is one; it counts as sent.
    pub(super) fn due(&mut self, now: Instant) -> Option<Transmission> {
        let is_due = |asked: &CandidateState| asked.next <= now && !asked.is_settled();
        let candidate = self.asked.iter().position(is_due)?;
        let asked = &mut self.asked[candidate];
        let attempt = asked.sent.len();
        asked.sent.push(now);
        let doublings = u32::try_from(attempt).unwrap_or(u32::MAX);
        let interval = RETRY_FIRST.saturating_mul(2u32.saturating_pow(doublings));
        asked.next = now + interval.min(RETRY_MAX);
        Some(Transmission {
            candidate,
            attempt,
            to: asked.address(attempt),
        })
    }

    /// Word that what was sent to an address does not arrive; maybe it is about another call's request. It counts once for each of ours.
    pub(super) fn unreachable(&mut self, to: SocketAddr, why: &str) {
        for asked in &mut self.asked {
            let last = asked.sent.len().checked_sub(1);
            if !asked.is_settled() && last.is_some_and(|last| asked.address(last) == to) {
                asked.unreachable = asked.sent.len().min(asked.unreachable + 1);
                asked.state = CandidateStatus::Unreachable(why.to_owned());
            }
        }
    }

    /// A reply to a candidate's `attempt`th request.
    ///
    /// # Errors
    ///
    /// [`RejectedReply::WrongPeer`] if it came from elsewhere than that request went to, [`RejectedReply::Unsolicited`] if there was
    /// no such request or it is answered already.
    pub(super) fn answered(
        &mut self,
        candidate: usize,
        attempt: usize,
        from: SocketAddr,
        reply: Reply,
        now: Instant,
    ) -> Result<(), RejectedReply> {
        let asked = self
            .asked
            .get_mut(candidate)
            .ok_or(RejectedReply::Unsolicited)?;
        let sent = *asked.sent.get(attempt).ok_or(RejectedReply::Unsolicited)?;
        if asked.address(attempt) != from {
            return Err(RejectedReply::WrongPeer);
        }
        if matches!(asked.state, CandidateStatus::Answered { .. }) {
            return Err(RejectedReply::Unsolicited);
        }
        asked.state = CandidateStatus::Answered {
            reply,
            round_trip: now.saturating_duration_since(sent),
            after: now.saturating_duration_since(self.started),
        };
        if self.replies() >= self.needed {
            let grace = if self.has_answer() {
                self.slowest().clamp(GRACE_MIN, GRACE_MAX)
            } else {
                GRACE_MAX
            };
            let ends = now + grace;
            self.grace_ends = Some(self.grace_ends.map_or(ends, |before| before.min(ends)));
        }
        Ok(())
    }

    /// Whether a candidate answered other than with an error.
    fn has_answer(&self) -> bool {
        self.asked.iter().any(|asked| match &asked.state {
            CandidateStatus::Answered { reply, .. } => reply.status == Status::Ok,
            _ => false,
        })
    }

    fn round_trips(&self) -> impl Iterator<Item = Duration> {
        self.asked.iter().filter_map(|asked| match asked.state {
            CandidateStatus::Answered { round_trip, .. } => Some(round_trip),
            _ => None,
        })
    }

    fn replies(&self) -> usize {
        self.round_trips().count()
    }

    fn slowest(&self) -> Duration {
        self.round_trips().max().unwrap_or_default()
    }

    /// When it is over at the latest, whatever else comes.
    fn ends(&self) -> Instant {
        match (self.patience, self.grace_ends) {
            (WaitFor::Enough, Some(grace_ends)) => grace_ends.min(self.deadline),
            _ => self.deadline,
        }
    }

    /// Whether nothing more is waited for.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.ends() || self.asked.iter().all(CandidateState::is_settled)
    }

    /// When to look again if nothing comes; in the past if it is over.
    pub(super) fn wake(&self) -> Instant {
        let waiting = self.asked.iter().filter(|asked| !asked.is_settled());
        let retry = waiting.map(|asked| asked.next).min();
        retry.map_or(self.started, |retry| retry.min(self.ends()))
    }

    /// What has come of it.
    pub(super) fn into_outcome(self, now: Instant) -> Outcome {
        let contact = |asked: CandidateState| CandidateResult {
            candidate: asked.candidate,
            sent: asked.sent.len(),
            state: asked.state,
        };
        Outcome {
            contacts: self.asked.into_iter().map(contact).collect(),
            needed: self.needed,
            elapsed: now.saturating_duration_since(self.started),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> SocketAddr {
        ([127, 0, 0, number], 1814).into()
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn reply(serial: i64) -> Reply {
        Reply {
            status: Status::Ok,
            answer: serde_json::from_str("null").expect("JSON"),
            serial,
        }
    }

    /// A call to so many candidates, at 127.0.0.1 and so on, that has sent its first requests.
    fn call(candidates: u8, settings: Settings) -> (Call, Instant) {
        let now = Instant::now();
        let candidates = (1..=candidates)
            .map(|number| address(number).into())
            .collect();
        let mut call = Call::new(candidates, settings, now);
        while call.due(now).is_some() {}
        (call, now)
    }

    /// Candidate `number` answers its first request.
    fn answer(call: &mut Call, number: u8, now: Instant) -> Result<(), RejectedReply> {
        call.answered(usize::from(number) - 1, 0, address(number), reply(1), now)
    }

    #[test]
    fn it_is_over_when_all_have_answered() {
        let (mut call, t) = call(2, Settings::default());
        answer(&mut call, 1, t + ms(1)).expect("asked");
        assert!(!call.is_over(t + ms(1)));
        answer(&mut call, 2, t + ms(2)).expect("asked");
        assert!(call.is_over(t + ms(2)));
        assert_eq!(call.into_outcome(t + ms(2)).replies(), 2);
    }

    #[test]
    fn the_rest_gets_as_long_again_as_the_slowest_took() {
        let (mut call, t) = call(5, Settings::default());
        for number in 1..=3 {
            answer(&mut call, number, t + ms(30)).expect("asked");
        }
        assert!(!call.is_over(t + ms(59)));
        assert_eq!(call.wake(), t + ms(60));
        assert!(call.is_over(t + ms(60)));
    }

    #[test]
    fn an_answer_is_waited_for_longer_while_there_are_only_errors() {
        let (mut call, t) = call(5, Settings::default());
        for number in 1..=3 {
            let error = Reply {
                status: Status::Error,
                ..reply(0)
            };
            call.answered(
                usize::from(number) - 1,
                0,
                address(number),
                error,
                t + ms(1),
            )
            .expect("asked");
        }
        assert!(!call.is_over(t + ms(500)));
        // Then the last one gets as long again, as ever.
        answer(&mut call, 4, t + ms(100)).expect("asked");
        assert!(!call.is_over(t + ms(199)));
        assert!(call.is_over(t + ms(200)));
    }

    #[test]
    fn patience_waits_for_all_until_the_deadline() {
        let settings = Settings {
            patience: WaitFor::All,
            deadline: ms(900),
            ..Settings::default()
        };
        let (mut call, t) = call(5, settings);
        for number in 1..=4 {
            answer(&mut call, number, t + ms(1)).expect("asked");
        }
        assert!(!call.is_over(t + ms(899)));
        assert!(call.is_over(t + ms(900)));
    }

    #[test]
    fn the_silent_are_asked_again_at_growing_intervals() {
        let (mut call, t) = call(2, Settings::default());
        answer(&mut call, 1, t + ms(1)).expect("asked");
        let mut asked_after = Vec::new();
        let mut now = t;
        while !call.is_over(now) {
            now = call.wake();
            while let Some(transmission) = call.due(now) {
                assert_eq!(transmission.to, address(2));
                assert_eq!(transmission.attempt, asked_after.len() + 1);
                asked_after.push((now - t).as_millis());
            }
        }
        assert_eq!(asked_after, [200, 600, 1400, 3000, 5000, 7000, 9000]);
        assert_eq!(now - t, Duration::from_secs(10));
        assert!(!call.into_outcome(now).is_enough());
    }

    #[test]
    fn a_late_answer_to_an_earlier_request_counts() {
        let (mut call, t) = call(1, Settings::default());
        let again = call.due(t + ms(200)).expect("nothing came");
        assert_eq!(again.attempt, 1);
        answer(&mut call, 1, t + ms(250)).expect("asked");
        let outcome = call.into_outcome(t + ms(250));
        let CandidateStatus::Answered { round_trip, .. } = outcome.results()[0].state else {
            panic!("it answered");
        };
        assert_eq!(round_trip, ms(250));
    }

    #[test]
    fn word_that_nobody_listens_is_believed_the_second_time() {
        let (mut call, t) = call(1, Settings::default());
        call.unreachable(address(1), "refused");
        // Other calls' words about the same moment are no second time.
        call.unreachable(address(1), "refused");
        assert!(!call.is_over(t));
        let again = call.due(t + ms(200)).expect("not believed yet");
        call.unreachable(again.to, "refused");
        assert!(call.is_over(t + ms(200)));
        assert!(call.wake() <= t + ms(200));
        // Even then an answer is an answer.
        answer(&mut call, 1, t + ms(201)).expect("asked");
    }

    #[test]
    fn nobody_answers_for_somebody_else_or_twice() {
        let (mut call, t) = call(3, Settings::default());
        let refused = |result: Result<(), RejectedReply>| result.expect_err("it must be refused");
        assert_eq!(
            refused(call.answered(0, 0, address(2), reply(9), t)),
            RejectedReply::WrongPeer
        );
        assert_eq!(
            refused(call.answered(0, 1, address(1), reply(9), t)),
            RejectedReply::Unsolicited
        );
        assert_eq!(
            refused(call.answered(3, 0, address(1), reply(9), t)),
            RejectedReply::Unsolicited
        );
        answer(&mut call, 1, t).expect("asked");
        assert_eq!(refused(answer(&mut call, 1, t)), RejectedReply::Unsolicited);
        assert_eq!(call.into_outcome(t).replies(), 1);
    }

    #[test]
    fn several_addresses_are_tried_in_turn() {
        let two = Candidate::resolve("localhost:9").expect("loopback has a name");
        let count = two.addresses().len();
        let now = Instant::now();
        let mut call = Call::new(vec![two.clone()], Settings::default(), now);
        for attempt in 0..=count {
            let now = call.wake();
            let transmission = call.due(now).expect("nothing came");
            assert_eq!(transmission.to, two.addresses()[attempt % count]);
        }
    }
}

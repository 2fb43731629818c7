//! The schedule of one call: when to ask which candidate (again), what came back, and when the call
//! is over.
//!
//! Pure: it uses no socket, no clock and no protocol. Times are arguments.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::candidate::Candidate;
use super::outcome::{CandidateResult, CandidateStatus, Outcome};
use super::reply::{RejectedReply, Reply};
use super::settings::{Settings, WaitFor, quorum};
use crate::protocol::reply::Status;

/// The time after which a candidate without a reply is asked again. It doubles with each request.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The longest time between two requests to one candidate.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The number of errors in one call after which a candidate counts as unreachable. One is not
/// enough: its daemon may be restarting.
const UNREACHABLE_FINAL: usize = 2;
/// Bounds of the time that other candidates have once there is a quorum of replies. It is the round
/// trip of the slowest reply; as long as all replies are errors, it is the upper bound.
const GRACE_MIN: Duration = Duration::from_millis(25);
const GRACE_MAX: Duration = Duration::from_millis(500);
/// A deadline that a clock cannot represent is this far off.
const FAR_FUTURE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// One call's schedule and results.
#[derive(Debug)]
pub(super) struct Exchange {
    candidates: Vec<CandidateState>,
    needed: usize,
    wait_for: WaitFor,
    any_source: bool,
    started: Instant,
    deadline: Instant,
    /// When candidates without a reply are no longer waited for.
    grace_ends: Option<Instant>,
}

/// A candidate and its progress.
#[derive(Debug)]
struct CandidateState {
    candidate: Candidate,
    /// When each request was sent.
    sent: Vec<Instant>,
    /// When the next request is due.
    next: Instant,
    /// The number of errors, at most one for each request.
    unreachable: usize,
    status: CandidateStatus,
    other_source: Option<SocketAddr>,
}

/// One request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DueRequest {
    /// The candidate's index.
    pub(super) candidate: usize,
    /// The attempt's number, from 0.
    pub(super) attempt: usize,
    /// The destination.
    pub(super) to: SocketAddr,
}

impl CandidateState {
    fn new(candidate: Candidate, now: Instant) -> Self {
        let status = match candidate.unresolved() {
            Some(why) => CandidateStatus::Unreachable(why.to_owned()),
            None => CandidateStatus::Silent,
        };
        Self {
            candidate,
            sent: Vec::new(),
            next: now,
            unreachable: 0,
            status,
            other_source: None,
        }
    }

    /// The destination of a request: the addresses in turn.
    fn address(&self, attempt: usize) -> Option<SocketAddr> {
        let addresses = self.candidate.addresses();
        let index = attempt.checked_rem(addresses.len())?;
        Some(addresses[index])
    }

    /// Whether it is not asked again.
    fn is_settled(&self) -> bool {
        match self.status {
            CandidateStatus::Answered { .. } | CandidateStatus::Malformed(_) => true,
            CandidateStatus::Unreachable(_) => {
                let addresses = self.candidate.addresses().len();
                // Each of its addresses is tried.
                addresses == 0 || self.unreachable >= UNREACHABLE_FINAL.max(addresses)
            }
            CandidateStatus::Silent => false,
        }
    }

    fn round_trip(&self) -> Option<Duration> {
        match self.status {
            CandidateStatus::Answered { round_trip, .. } => Some(round_trip),
            _ => None,
        }
    }
}

impl Exchange {
    pub(super) fn new(candidates: Vec<Candidate>, settings: Settings, now: Instant) -> Self {
        let state = |candidate| CandidateState::new(candidate, now);
        Self {
            needed: quorum(candidates.len()),
            candidates: candidates.into_iter().map(state).collect(),
            wait_for: settings.wait_for,
            any_source: settings.any_source,
            started: now,
            deadline: now
                .checked_add(settings.deadline)
                .unwrap_or_else(|| now + FAR_FUTURE),
            grace_ends: None,
        }
    }

    /// Returns the next request that is due, and counts it as sent.
    pub(super) fn due(&mut self, now: Instant) -> Option<DueRequest> {
        let is_due = |state: &CandidateState| state.next <= now && !state.is_settled();
        let candidate = self.candidates.iter().position(is_due)?;
        let state = &mut self.candidates[candidate];
        let attempt = state.sent.len();
        let to = state.address(attempt)?;
        state.sent.push(now);
        let doublings = u32::try_from(attempt).unwrap_or(u32::MAX);
        let interval = RETRY_FIRST.saturating_mul(2u32.saturating_pow(doublings));
        state.next = now + interval.min(RETRY_MAX);
        Some(DueRequest {
            candidate,
            attempt,
            to,
        })
    }

    /// Records that a datagram to an address did not arrive. It may have been another call's
    /// datagram, so it counts at most once for each request of this call.
    pub(super) fn unreachable(&mut self, to: SocketAddr, why: &str) {
        for state in &mut self.candidates {
            let last = state.sent.len().checked_sub(1);
            if !state.is_settled() && last.is_some_and(|last| state.address(last) == Some(to)) {
                state.unreachable = state.sent.len().min(state.unreachable + 1);
                state.status = CandidateStatus::Unreachable(why.to_owned());
            }
        }
    }

    /// Records a signed reply to a request, or what is wrong with the message.
    ///
    /// # Errors
    ///
    /// * [`RejectedReply::Unsolicited`]: there was no such request, or it is answered.
    /// * [`RejectedReply::WrongPeer`]: it came from another address than the request was sent to.
    pub(super) fn answered(
        &mut self,
        candidate: usize,
        attempt: usize,
        from: SocketAddr,
        reply: Result<Reply, String>,
        now: Instant,
    ) -> Result<(), RejectedReply> {
        let state = self.candidates.get_mut(candidate);
        let state = state.ok_or(RejectedReply::Unsolicited)?;
        let sent = *state.sent.get(attempt).ok_or(RejectedReply::Unsolicited)?;
        if matches!(state.status, CandidateStatus::Answered { .. }) {
            return Err(RejectedReply::Unsolicited);
        }
        if state.address(attempt) != Some(from) {
            state.other_source = Some(from);
            if !self.any_source {
                return Err(RejectedReply::WrongPeer);
            }
        }
        state.status = match reply {
            Ok(reply) => CandidateStatus::Answered {
                reply,
                round_trip: now.saturating_duration_since(sent),
                after: now.saturating_duration_since(self.started),
            },
            Err(why) => CandidateStatus::Malformed(why),
        };
        self.update_grace(now);
        Ok(())
    }

    /// Sets the end of the grace time if there is a quorum of replies.
    fn update_grace(&mut self, now: Instant) {
        if self.round_trips().count() < self.needed {
            return;
        }
        let grace = if self.has_value() {
            let slowest = self.round_trips().max().unwrap_or_default();
            slowest.clamp(GRACE_MIN, GRACE_MAX)
        } else {
            GRACE_MAX
        };
        let ends = now + grace;
        self.grace_ends = Some(self.grace_ends.map_or(ends, |before| before.min(ends)));
    }

    /// Whether a candidate replied with a value, not an error.
    fn has_value(&self) -> bool {
        self.candidates.iter().any(|state| match &state.status {
            CandidateStatus::Answered { reply, .. } => reply.status == Status::Ok,
            _ => false,
        })
    }

    fn round_trips(&self) -> impl Iterator<Item = Duration> {
        self.candidates
            .iter()
            .filter_map(CandidateState::round_trip)
    }

    /// The latest time at which the call ends.
    fn ends(&self) -> Instant {
        match (self.wait_for, self.grace_ends) {
            (WaitFor::Enough, Some(grace_ends)) => grace_ends.min(self.deadline),
            _ => self.deadline,
        }
    }

    /// Whether nothing more is waited for.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.ends() || self.candidates.iter().all(CandidateState::is_settled)
    }

    /// The next time at which a request is due or the call ends; in the past if it is over.
    pub(super) fn next_wakeup(&self) -> Instant {
        let waiting = self.candidates.iter().filter(|state| !state.is_settled());
        let retry = waiting.map(|state| state.next).min();
        retry.map_or(self.started, |retry| retry.min(self.ends()))
    }

    /// Ends the call.
    pub(super) fn into_outcome(self, now: Instant) -> Outcome {
        let result = |state: CandidateState| CandidateResult {
            candidate: state.candidate,
            sent: state.sent.len(),
            state: state.status,
            other_source: state.other_source,
        };
        Outcome {
            results: self.candidates.into_iter().map(result).collect(),
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

    fn reply(status: Status) -> Result<Reply, String> {
        Reply::for_test(status, "null", 1)
    }

    /// A call to the first `candidates` of 127.0.0.1, 127.0.0.2 ... that has sent its first
    /// requests.
    fn call(candidates: u8, settings: Settings) -> (Exchange, Instant) {
        let now = Instant::now();
        let candidates = (1..=candidates)
            .map(|number| address(number).into())
            .collect();
        let mut call = Exchange::new(candidates, settings, now);
        while call.due(now).is_some() {}
        (call, now)
    }

    /// Candidate `number` answers its first request.
    fn answer(call: &mut Exchange, number: u8, now: Instant) -> Result<(), RejectedReply> {
        let candidate = usize::from(number) - 1;
        call.answered(candidate, 0, address(number), reply(Status::Ok), now)
    }

    #[test]
    fn a_call_is_over_when_all_have_answered() {
        let (mut call, t) = call(2, Settings::default());
        answer(&mut call, 1, t + ms(1)).expect("asked");
        assert!(!call.is_over(t + ms(1)));
        answer(&mut call, 2, t + ms(2)).expect("asked");
        assert!(call.is_over(t + ms(2)));
        assert_eq!(call.into_outcome(t + ms(2)).replies(), 2);
    }

    #[test]
    fn after_a_quorum_the_others_have_as_long_as_the_slowest_took() {
        let (mut call, t) = call(5, Settings::default());
        for number in 1..=3 {
            answer(&mut call, number, t + ms(30)).expect("asked");
        }
        assert!(!call.is_over(t + ms(59)));
        assert_eq!(call.next_wakeup(), t + ms(60));
        assert!(call.is_over(t + ms(60)));
    }

    #[test]
    fn while_there_are_only_errors_a_value_is_waited_for_longer() {
        let (mut call, t) = call(5, Settings::default());
        for number in 1..=3 {
            let candidate = usize::from(number) - 1;
            let error = reply(Status::Error);
            call.answered(candidate, 0, address(number), error, t + ms(1))
                .expect("asked");
        }
        assert!(!call.is_over(t + ms(500)));
        // The last one then has as long as the slowest took, as usual.
        answer(&mut call, 4, t + ms(100)).expect("asked");
        assert!(!call.is_over(t + ms(199)));
        assert!(call.is_over(t + ms(200)));
    }

    #[test]
    fn waiting_for_all_lasts_until_the_deadline() {
        let settings = Settings::default()
            .with_wait_for(WaitFor::All)
            .with_deadline(ms(900));
        let (mut call, t) = call(5, settings);
        for number in 1..=4 {
            answer(&mut call, number, t + ms(1)).expect("asked");
        }
        assert!(!call.is_over(t + ms(899)));
        assert!(call.is_over(t + ms(900)));
    }

    #[test]
    fn silent_candidates_are_asked_again_at_growing_intervals() {
        let (mut call, t) = call(2, Settings::default());
        answer(&mut call, 1, t + ms(1)).expect("asked");
        let mut asked_after = Vec::new();
        let mut now = t;
        while !call.is_over(now) {
            now = call.next_wakeup();
            while let Some(request) = call.due(now) {
                assert_eq!(request.to, address(2));
                assert_eq!(request.attempt, asked_after.len() + 1);
                asked_after.push((now - t).as_millis());
            }
        }
        assert_eq!(asked_after, [200, 600, 1400, 3000, 5000, 7000, 9000]);
        assert_eq!(now - t, Duration::from_secs(10));
        assert!(!call.into_outcome(now).is_enough());
    }

    #[test]
    fn the_longest_deadline_is_no_panic() {
        let (mut call, t) = call(2, Settings::default().with_deadline(Duration::MAX));
        assert!(!call.is_over(t + Duration::from_secs(365 * 24 * 3600)));
        assert_eq!(call.next_wakeup(), t + ms(200));
        call.due(t + ms(200)).expect("nothing came");
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
    fn a_candidate_is_unreachable_after_the_second_error() {
        let (mut call, t) = call(1, Settings::default());
        call.unreachable(address(1), "refused");
        // Another call's error about the same moment does not count.
        call.unreachable(address(1), "refused");
        assert!(!call.is_over(t));
        let again = call.due(t + ms(200)).expect("one error is not enough");
        call.unreachable(again.to, "refused");
        assert!(call.is_over(t + ms(200)));
        assert!(call.next_wakeup() <= t + ms(200));
        // An answer counts all the same.
        answer(&mut call, 1, t + ms(201)).expect("asked");
    }

    #[test]
    fn a_reply_counts_once_and_from_the_address_that_was_asked() {
        let (mut call, t) = call(3, Settings::default());
        let mut rejected = |candidate, attempt, from| {
            call.answered(candidate, attempt, address(from), reply(Status::Ok), t)
                .expect_err("it must be rejected")
        };
        assert_eq!(rejected(0, 0, 2), RejectedReply::WrongPeer);
        assert_eq!(rejected(0, 1, 1), RejectedReply::Unsolicited);
        assert_eq!(rejected(3, 0, 1), RejectedReply::Unsolicited);
        answer(&mut call, 1, t).expect("asked");
        let again = answer(&mut call, 1, t).expect_err("it has answered");
        assert_eq!(again, RejectedReply::Unsolicited);
        assert_eq!(call.into_outcome(t).replies(), 1);
    }

    #[test]
    fn a_reply_from_another_address_is_named_and_counts_on_request() {
        for any_source in [false, true] {
            let settings = Settings::default().with_any_source(any_source);
            let (mut call, t) = call(1, settings);
            let result = call.answered(0, 0, address(9), reply(Status::Ok), t + ms(1));
            assert_eq!(result.is_ok(), any_source);
            assert_eq!(call.is_over(t + ms(1)), any_source);
            let outcome = call.into_outcome(t + ms(1));
            assert_eq!(outcome.replies(), usize::from(any_source));
            assert_eq!(outcome.results()[0].other_source, Some(address(9)));
        }
    }

    #[test]
    fn a_malformed_reply_is_neither_silence_nor_an_answer() {
        let (mut call, t) = call(1, Settings::default());
        call.answered(0, 0, address(1), Err("serial 1.5".to_owned()), t)
            .expect("asked");
        assert!(call.is_over(t));
        let outcome = call.into_outcome(t);
        assert_eq!(outcome.replies(), 0);
        assert!(
            matches!(&outcome.results()[0].state, CandidateStatus::Malformed(why) if why == "serial 1.5")
        );
        assert!(outcome.tally().to_string().contains("1 malformed"));
    }

    #[test]
    fn several_addresses_are_tried_in_turn() {
        let two = Candidate::resolve("localhost:9").expect("it is a name");
        let count = two.addresses().len();
        let now = Instant::now();
        let mut call = Exchange::new(vec![two.clone()], Settings::default(), now);
        for attempt in 0..=count {
            let now = call.next_wakeup();
            let request = call.due(now).expect("nothing came");
            assert_eq!(request.to, two.addresses()[attempt % count]);
        }
    }

    #[test]
    fn a_candidate_without_an_address_is_unreachable_from_the_start() {
        let now = Instant::now();
        let absent = Candidate::resolve("nosuch.invalid").expect("it is a name");
        let candidates = vec![address(1).into(), absent, address(2).into()];
        let mut call = Exchange::new(candidates, Settings::default(), now);
        let mut sent = Vec::new();
        while let Some(request) = call.due(now) {
            sent.push(request.to);
        }
        assert_eq!(sent, [address(1), address(2)]);
        for candidate in [0, 2] {
            let from = sent[candidate / 2];
            call.answered(candidate, 0, from, reply(Status::Ok), now)
                .expect("asked");
        }
        assert!(call.is_over(now));
        let outcome = call.into_outcome(now);
        assert!(outcome.is_enough(), "two of three");
        assert!(matches!(
            outcome.results()[1].state,
            CandidateStatus::Unreachable(_)
        ));
    }
}

//! How long a server did not answer, and whether it stopped answering.
//!
//! A gap is a time without a valid answer while a request is waiting or has been lost. It starts
//! with the first request that is sent after the last answer, so that the pauses of a slow load do
//! not count. Pure: times are arguments.

use std::time::Duration;

use super::nanos::{Nanos, nanos};

/// A server has stopped answering if it did not answer for this long before the end of sending, or
/// for a quarter of a short run.
const STOPPED_AFTER: Duration = Duration::from_millis(500);

/// With fewer lost requests after the last answer, it may be ordinary loss.
const LOST_MIN: u64 = 2;

/// The gaps between the answers that one worker gets, from one server or from all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    /// The longest gap.
    pub(super) longest: Nanos,
    /// When the gap began that no answer has ended.
    since: Option<Nanos>,
    /// Requests lost in that gap.
    lost: u64,
    /// Valid requests in flight.
    waiting: u64,
    /// The part of the last gap before the end of sending; set by [`Gaps::finish`].
    pub(super) trailing: Option<Trailing>,
    /// A valid request was sent.
    pub(super) sent: bool,
}

/// A gap at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailing {
    /// Its length up to the end of sending.
    pub(super) length: Nanos,
    lost: u64,
}

impl Gaps {
    /// A valid request was sent.
    pub(super) fn sent(&mut self, now: Nanos) {
        self.sent = true;
        self.waiting += 1;
        self.since.get_or_insert(now);
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, now: Nanos) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(since) = self.since.take() {
            self.longest = self.longest.max(now.saturating_sub(since));
        }
        self.lost = 0;
        self.since = (self.waiting > 0).then_some(now);
    }

    /// A request got a wrong answer, which does not end a gap.
    pub(super) fn answered_wrongly(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// A request was lost.
    pub(super) fn lost(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        self.lost += 1;
    }

    /// The warm-up has ended: earlier gaps, and the earlier part of the current one, do not count.
    pub(super) fn restart(&mut self, now: Nanos) {
        self.longest = 0;
        self.since = self.since.map(|_| now);
    }

    /// The run has ended; sending ended at `end`.
    pub(super) fn finish(&mut self, end: Nanos) {
        if let Some(since) = self.since.filter(|_| self.lost > 0) {
            let length = end.saturating_sub(since);
            self.longest = self.longest.max(length);
            self.trailing = Some(Trailing {
                length,
                lost: self.lost,
            });
        }
    }

    /// Adds the gaps of another worker to the same server. A trailing gap remains only if every
    /// worker that sent has one.
    pub(super) fn add(&mut self, other: &Self) {
        self.longest = self.longest.max(other.longest);
        self.trailing = match (self.sent, other.sent) {
            (true, true) => self
                .trailing
                .zip(other.trailing)
                .map(|(one, two)| Trailing {
                    length: one.length.min(two.length),
                    lost: one.lost + two.lost,
                }),
            (true, false) => self.trailing,
            (false, _) => other.trailing,
        };
        self.sent |= other.sent;
    }

    /// If the server stopped answering: for how long it did not answer before the end of sending.
    /// Requests were sent for `seconds`, and one is lost after `lost_after`.
    pub(super) fn stopped_for(&self, seconds: f64, lost_after: Nanos) -> Option<Nanos> {
        let threshold = nanos(STOPPED_AFTER)
            .min(lost_after)
            .min((seconds * 1e9 / 4.0) as Nanos);
        let trailing = self.trailing?;
        (trailing.lost >= LOST_MIN && trailing.length >= threshold).then_some(trailing.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn pauses_between_requests_are_no_gaps() {
        let mut gaps = Gaps::default();
        for second in 0..5 {
            gaps.sent(second * 1_000 * MS);
            gaps.answered(second * 1_000 * MS + MS);
        }
        gaps.finish(5_000 * MS);
        assert_eq!((gaps.longest, gaps.trailing), (MS, None));
    }

    #[test]
    fn a_stall_is_a_gap_until_the_next_answer() {
        let mut gaps = Gaps::default();
        gaps.sent(0);
        gaps.sent(0);
        gaps.answered(MS);
        gaps.sent(2 * MS);
        gaps.answered(301 * MS);
        assert_eq!(gaps.longest, 300 * MS);
    }

    #[test]
    fn lost_requests_between_answers_are_no_outage() {
        let mut gaps = Gaps::default();
        for ms in 0..1_000 {
            gaps.sent(ms * MS);
            // Every tenth is lost, which shows only 100 ms later.
            if ms % 10 != 0 {
                gaps.answered(ms * MS + 500);
            }
            if ms >= 100 && ms % 10 == 0 {
                gaps.lost();
            }
        }
        for _ in 0..10 {
            gaps.lost();
        }
        gaps.finish(1_000 * MS);
        assert!(gaps.longest <= 2 * MS, "{gaps:?}");
        assert_eq!(gaps.stopped_for(1.0, 100 * MS), None, "{gaps:?}");
    }

    #[test]
    fn a_server_that_dies_has_stopped() {
        let mut gaps = Gaps::default();
        gaps.sent(0);
        gaps.answered(MS);
        gaps.sent(MS);
        gaps.lost();
        gaps.sent(2_001 * MS);
        gaps.lost();
        gaps.finish(4_000 * MS);
        assert_eq!(gaps.longest, 3_999 * MS);
        assert_eq!(gaps.stopped_for(4.0, 2_000 * MS), Some(3_999 * MS));
    }

    #[test]
    fn a_server_that_answers_another_worker_has_not_stopped() {
        let dead = Gaps {
            longest: 900 * MS,
            trailing: Some(Trailing {
                length: 900 * MS,
                lost: 5,
            }),
            sent: true,
            ..Gaps::default()
        };
        let alive = Gaps {
            longest: MS,
            sent: true,
            ..Gaps::default()
        };
        let mut sum = Gaps::default();
        sum.add(&dead);
        assert!(sum.stopped_for(1.0, MS).is_some());
        sum.add(&alive);
        assert_eq!(sum.stopped_for(1.0, MS), None);
        assert_eq!(sum.longest, 900 * MS);
        let mut sum = Gaps::default();
        sum.add(&dead);
        sum.add(&Gaps::default());
        assert!(
            sum.stopped_for(1.0, MS).is_some(),
            "idle workers do not matter"
        );
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let mut gaps = Gaps::default();
        gaps.sent(0);
        gaps.restart(500 * MS);
        gaps.answered(510 * MS);
        assert_eq!(gaps.longest, 10 * MS);
    }
}

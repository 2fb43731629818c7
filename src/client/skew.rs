//! The search for the skew of a candidate's clock: which pings to send, and what their answers
//! prove.
//!
//! A reply does not contain the candidate's time. But a candidate answers a request only if its
//! salt, the sender's clock, is at most [`SKEW_SECONDS_MAX`] from its own clock. So a ping whose
//! salt is `offset` seconds off is answered if and only if `|offset - skew| <= 300`. The answered
//! offsets are a range of width 600 with the skew in the middle; the search finds its two ends.
//!
//! Only answers count. Each one proves a bound; no answer proves nothing. So a lost datagram makes
//! an estimate later or less precise, but not wrong.
//!
//! Pure: it uses no socket and no clock. Source: `Ganeti.Confd.Utils.parseRequest`
//! (`maxClockSkew`).

use crate::protocol::SKEW_SECONDS_MAX;

const REACH: i64 = SKEW_SECONDS_MAX as i64;

/// The first pings. They suffice for a clock that is right to the second, which answers almost all
/// of them.
const NEAR: [i64; 16] = [
    -300, -299, -298, -296, -290, -270, -240, 0, 0, 240, 270, 290, 296, 298, 299, 300,
];
/// The number of times that these are sent before the sweep.
const NEAR_BURSTS: usize = 2;
/// The largest skew that is found: a day, and two hours of a wrong time zone.
const SWEEP_SECONDS_MAX: i64 = 26 * 3600;
/// The step of the sweep: a clock anywhere within it answers one ping.
const SWEEP_STEP: i64 = 2 * REACH;
/// The number of times that the sweep is sent.
const SWEEPS: usize = 2;
/// The largest offset of a ping.
const OFFSET_MAX: u64 = SWEEP_SECONDS_MAX.unsigned_abs() + 2 * SKEW_SECONDS_MAX;
/// The number of pings in a burst that search for each end of the range.
const PINGS_PER_END: i64 = 16;
/// The number of bursts after which the estimate is final.
const BURSTS_MAX: usize = 12;

/// The difference between a clock and this host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Seconds; positive if the candidate's clock is ahead.
    pub seconds: i64,
    /// The skew is at most this far from `seconds`, in seconds. Clocks are read in whole seconds,
    /// which adds an error of less than one.
    pub within: u64,
}

/// The search for one candidate's clock.
#[derive(Debug, Default)]
pub(super) struct SkewSearch {
    /// The lowest and the highest offset that was answered.
    answered: Option<(i64, i64)>,
    bursts: usize,
}

impl SkewSearch {
    /// The offsets of the next pings, in seconds to add to this host's clock, nearest first. Empty:
    /// the search is over.
    pub(super) fn next_burst(&mut self) -> Vec<i64> {
        self.bursts += 1;
        match self.answered {
            Some(_) if self.is_sharp() || self.bursts > BURSTS_MAX => Vec::new(),
            Some((lowest, highest)) => ends(lowest, highest),
            None if self.bursts <= NEAR_BURSTS => NEAR.to_vec(),
            None if self.bursts <= NEAR_BURSTS + SWEEPS => sweep(),
            None => Vec::new(),
        }
    }

    /// Records that a ping with this offset was answered. Impossible offsets are ignored.
    pub(super) fn answered(&mut self, offset: i64) {
        if offset.unsigned_abs() > OFFSET_MAX {
            return;
        }
        let (lowest, highest) = self.answered.unwrap_or((offset, offset));
        self.answered = Some((lowest.min(offset), highest.max(offset)));
    }

    /// The skew that the answers prove; `None` if there are none.
    pub(super) fn skew(&self) -> Option<Skew> {
        let (at_least, at_most) = self.bounds()?;
        let seconds = at_least.midpoint(at_most);
        Some(Skew {
            seconds,
            within: at_most.abs_diff(seconds).max(at_least.abs_diff(seconds)),
        })
    }

    /// Whether the estimate cannot become more precise.
    pub(super) fn is_sharp(&self) -> bool {
        // Clocks are read in whole seconds that change at different moments: the bounds can cross
        // by one.
        self.bounds()
            .is_some_and(|(at_least, at_most)| at_least >= at_most)
    }

    fn bounds(&self) -> Option<(i64, i64)> {
        self.answered
            .map(|(lowest, highest)| (highest - REACH, lowest + REACH))
    }
}

/// Offsets beyond both ends of the answered range, evenly spread over what the range can include.
fn ends(lowest: i64, highest: i64) -> Vec<i64> {
    let width = 2 * REACH - (highest - lowest);
    let pings = PINGS_PER_END.min(width);
    let steps = (1..=pings).map(|n| n * width / pings);
    steps
        .flat_map(|step| [highest + step, lowest - step])
        .collect()
}

/// The offsets of the sweep, nearest first.
fn sweep() -> Vec<i64> {
    let steps = (1..=SWEEP_SECONDS_MAX / SWEEP_STEP).map(|n| n * SWEEP_STEP);
    steps.flat_map(|step| [step, -step]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for a clock that is `skew` seconds ahead. `is_lost` says whether an answer is lost.
    /// Returns the estimate and the number of pings.
    fn find(skew: f64, mut is_lost: impl FnMut() -> bool) -> (Option<Skew>, usize) {
        let mut search = SkewSearch::default();
        let mut now = 1_795_354_392.0;
        let mut sent = 0;
        loop {
            let burst = search.next_burst();
            if burst.is_empty() {
                return (search.skew(), sent);
            }
            for offset in burst {
                sent += 1;
                now += 0.0137;
                let salt = now as i64 + offset;
                let theirs = (now + skew) as i64;
                if salt.abs_diff(theirs) <= SKEW_SECONDS_MAX && !is_lost() {
                    search.answered(offset);
                }
            }
        }
    }

    /// Skews of all kinds, in seconds; some are near the limits of the sweep.
    fn skews() -> impl Iterator<Item = f64> {
        let edges = [
            0.0, 1.0, 59.0, 60.0, 61.0, 299.0, 300.0, 301.0, 599.0, 600.0, 601.0, 900.0, 3600.0,
            86_400.0,
        ];
        let random = std::iter::repeat_with(|| fastrand::f64() * 90_000.0).take(300);
        edges.into_iter().chain(random).flat_map(|s| [s, -s])
    }

    #[test]
    fn any_clock_is_found_to_the_second() {
        for skew in skews() {
            let (found, sent) = find(skew, || false);
            let found = found.unwrap_or_else(|| panic!("{skew} is found"));
            let error = (found.seconds as f64 - skew).abs();
            assert!(error < 2.0 && found.within <= 1, "{skew}: {found:?}");
            assert!(sent < 800, "{skew}: {sent}");
        }
    }

    #[test]
    fn a_good_clock_is_found_at_once() {
        let (found, sent) = find(0.0, || false);
        assert_eq!(
            found,
            Some(Skew {
                seconds: 0,
                within: 0
            })
        );
        assert_eq!(sent, NEAR.len());
    }

    #[test]
    fn loss_makes_an_estimate_less_precise_but_not_wrong() {
        let mut sharp = 0;
        let mut tried = 0;
        for skew in skews() {
            let (found, _) = find(skew, || fastrand::u8(..10) < 4);
            let Some(found) = found else { continue };
            let error = (found.seconds as f64 - skew).abs();
            assert!(error < found.within as f64 + 2.0, "{skew}: {found:?}");
            tried += 1;
            sharp += usize::from(found.within <= 1);
        }
        assert!(sharp * 10 >= tried * 9, "{sharp} of {tried}");
    }

    #[test]
    fn impossible_answers_are_ignored() {
        for _ in 0..1000 {
            let mut search = SkewSearch::default();
            while !search.next_burst().is_empty() {
                search.answered(i64::MAX);
                search.answered(i64::MIN);
                search.answered(fastrand::i64(-100_000..100_000));
            }
            search.skew().expect("some of them were possible");
        }
    }

    #[test]
    fn offsets_are_bounded() {
        let mut search = SkewSearch::default();
        search.answered(SWEEP_SECONDS_MAX);
        while let burst @ [_, ..] = &*search.next_burst() {
            for &offset in burst {
                assert!(offset.unsigned_abs() <= OFFSET_MAX, "{offset}");
                search.answered(offset.max(SWEEP_SECONDS_MAX));
            }
        }
    }

    #[test]
    fn a_search_without_answers_ends() {
        let (found, sent) = find(0.0, || true);
        assert_eq!(found, None);
        assert!(sent < 800, "{sent}");
        assert_eq!(find(30.0 * 3600.0, || false).0, None);
    }
}

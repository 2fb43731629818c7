//! How far a candidate's clock is from this host's: which pings to send, and what their answers prove.
//!
//! A reply tells no time. But a candidate answers a request only if its salt, the sender's clock, is at most [`SKEW_SECONDS_MAX`]
//! from its own clock. So a ping whose salt is `offset` seconds off is answered if, and only if, `|offset - skew| <= 300`: the answered
//! offsets are a range 600 wide with the skew in its middle, and its two ends are looked for.
//!
//! Only answers count. Each one proves a bound, and silence proves nothing: what is lost on the way makes an estimate less
//! sharp or later, never wrong.
//!
//! Knows no socket and no clock. Source: `Ganeti.Confd.Utils.parseRequest` (`maxClockSkew`).

use crate::protocol::SKEW_SECONDS_MAX;

const REACH: i64 = SKEW_SECONDS_MAX as i64;

/// The first pings: a clock within a second is found with these alone, and hardly one of them is refused then.
const NEAR: [i64; 16] = [
    -300, -299, -298, -296, -290, -270, -240, 0, 0, 240, 270, 290, 296, 298, 299, 300,
];
/// How often these are sent before the clock is looked for farther away.
const NEAR_BURSTS: usize = 2;
/// A clock this far off is still found: a day, and an hour or two of a wrong time zone.
const SWEEP_SECONDS_MAX: i64 = 26 * 3600;
/// A clock at any place of the sweep answers one of its pings.
const SWEEP_STEP: i64 = 2 * REACH;
/// How often all of the sweep is sent.
const SWEEPS: usize = 2;
/// No ping is farther off.
const OFFSET_MAX: u64 = SWEEP_SECONDS_MAX.unsigned_abs() + 2 * SKEW_SECONDS_MAX;
/// How many pings look for each end of the range at once.
const PINGS_PER_END: i64 = 16;
/// An estimate that is no sharper after this many bursts stays so.
const BURSTS_MAX: usize = 12;

/// A clock's distance from this host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Seconds; positive if the candidate's clock is ahead.
    pub seconds: i64,
    /// The clock is at most this many seconds off `seconds`, and the fraction of one that clocks in seconds do not show.
    pub within: u64,
}

/// What is known of one candidate's clock.
#[derive(Debug, Default)]
pub(super) struct SkewSearch {
    /// The lowest and the highest offset that was answered.
    answered: Option<(i64, i64)>,
    bursts: usize,
}

impl SkewSearch {
    /// The offsets of the next pings to send at once, as seconds to be added to this host's clock. None: all is known that will be.
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

    /// A ping with this offset was answered. An offset that nobody asked with is none.
    pub(super) fn answered(&mut self, offset: i64) {
        if offset.unsigned_abs() > OFFSET_MAX {
            return;
        }
        let (lowest, highest) = self.answered.unwrap_or((offset, offset));
        self.answered = Some((lowest.min(offset), highest.max(offset)));
    }

    /// What the answers prove.
    pub(super) fn skew(&self) -> Option<Skew> {
        let (at_least, at_most) = self.bounds()?;
        let seconds = at_least.midpoint(at_most);
        Some(Skew {
            seconds,
            within: at_most.abs_diff(seconds).max(at_least.abs_diff(seconds)),
        })
    }

    /// Whether nothing more is to be found out.
    pub(super) fn is_sharp(&self) -> bool {
        // Clocks are read in whole seconds, which change at different moments: the bounds may cross by one.
        self.bounds()
            .is_some_and(|(at_least, at_most)| at_least >= at_most)
    }

    fn bounds(&self) -> Option<(i64, i64)> {
        self.answered
            .map(|(lowest, highest)| (highest - REACH, lowest + REACH))
    }
}

/// Pings beyond both ends of what was answered, as far as the range can reach, evenly spread.
fn ends(lowest: i64, highest: i64) -> Vec<i64> {
    let width = 2 * REACH - (highest - lowest);
    let pings = PINGS_PER_END.min(width);
    let steps = (1..=pings).map(|n| n * width / pings);
    steps
        .flat_map(|step| [highest + step, lowest - step])
        .collect()
}

/// From the nearest to the farthest.
fn sweep() -> Vec<i64> {
    let steps = (1..=SWEEP_SECONDS_MAX / SWEEP_STEP).map(|n| n * SWEEP_STEP);
    steps.flat_map(|step| [step, -step]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for a clock that is `skew` seconds ahead, where `is_lost` says what does not come back.
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

    /// Seconds that a clock may be off: all kinds, and beyond the sweep's ends.
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
    fn loss_makes_it_less_sharp_but_never_wrong() {
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
    fn made_up_answers_do_no_harm() {
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
    fn pings_stay_within_bounds() {
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
    fn silence_ends() {
        let (found, sent) = find(0.0, || true);
        assert_eq!(found, None);
        assert!(sent < 800, "{sent}");
        assert_eq!(find(30.0 * 3600.0, || false).0, None);
    }
}

//! Counts and latencies: of one worker, of a time slice, and in total.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::nanos::Nanos;
use super::outage::Gaps;
use crate::protocol::request::RequestType;

/// Significant decimal digits of latencies.
const DIGITS: u8 = 3;
/// The same for time slices, which the progress line and the plots over time use.
const SLICE_DIGITS: u8 = 2;

/// How the counted datagrams ended. After a run, `sent = answered + wrong + lost` (with
/// `unexpected` excluded from `wrong`) and `corrupted = silent + unexpected`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    /// Valid requests sent.
    pub(super) sent: u64,
    /// Valid replies to them in time.
    pub(super) answered: u64,
    /// The part of `answered` with status 1.
    pub(super) errors: u64,
    /// The part of `answered` whose service time has the kernel's time of sending.
    pub(super) stamped: u64,
    /// Valid requests without a reply in time.
    pub(super) lost: u64,
    /// The part of `lost` that was answered later.
    pub(super) late: u64,
    /// Second replies to a request.
    pub(super) duplicated: u64,
    /// Requests answered after a later request on the same socket.
    pub(super) reordered: u64,
    /// Replies with a bad signature.
    pub(super) bad_hmac: u64,
    /// Datagrams with a known salt that are not valid replies.
    pub(super) malformed: u64,
    /// Replies that differ from an earlier one to the same query with the same serial.
    pub(super) inconsistent: u64,
    /// Replies to corrupted requests.
    pub(super) unexpected: u64,
    /// Corrupted requests sent.
    pub(super) corrupted: u64,
    /// The part of `corrupted` that got no reply, as it should be.
    pub(super) silent: u64,
    /// Datagrams that do not belong to this run.
    pub(super) stray: u64,
    /// Requests that a target's port refused; they count as lost as well.
    pub(super) refused: u64,
    /// Datagrams that the kernel did not accept; they count as lost as well.
    pub(super) unsendable: u64,
    /// Scheduled requests that were not sent, because the generator could not keep up.
    pub(super) unsent: u64,
    /// Bytes of payload sent, including corrupted requests.
    pub(super) bytes_sent: u64,
    /// Bytes of payload received in valid replies.
    pub(super) bytes_received: u64,
}

impl Counts {
    /// All replies that are wrong in some way.
    pub(super) fn wrong(&self) -> u64 {
        self.bad_hmac + self.malformed + self.inconsistent + self.unexpected
    }

    /// The share of `sent` that is lost; 0 if nothing was sent.
    pub(super) fn loss(&self) -> f64 {
        share(self.lost, self.sent)
    }

    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.sent, other.sent),
            (&mut self.answered, other.answered),
            (&mut self.errors, other.errors),
            (&mut self.stamped, other.stamped),
            (&mut self.lost, other.lost),
            (&mut self.late, other.late),
            (&mut self.duplicated, other.duplicated),
            (&mut self.reordered, other.reordered),
            (&mut self.bad_hmac, other.bad_hmac),
            (&mut self.malformed, other.malformed),
            (&mut self.inconsistent, other.inconsistent),
            (&mut self.unexpected, other.unexpected),
            (&mut self.corrupted, other.corrupted),
            (&mut self.silent, other.silent),
            (&mut self.stray, other.stray),
            (&mut self.refused, other.refused),
            (&mut self.unsendable, other.unsendable),
            (&mut self.unsent, other.unsent),
            (&mut self.bytes_sent, other.bytes_sent),
            (&mut self.bytes_received, other.bytes_received),
        ];
        for (sum, part) in pairs {
            *sum += part;
        }
    }
}

/// `part / whole`; 0 if `whole` is 0.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// A histogram of times in nanoseconds, with three significant digits.
#[derive(Clone, Debug)]
pub(super) struct Times(pub(super) Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are valid"))
    }
}

impl Times {
    pub(super) fn record(&mut self, time: Nanos) {
        // Cannot fail: the histogram resizes itself.
        let _ = self.0.record(time);
    }

    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the histogram resizes itself");
    }

    /// As [`Times::percentile`]; `None` if there are too few values for this percentile.
    pub(super) fn supported_percentile(&self, percent: f64) -> Option<Nanos> {
        let time = self.percentile(percent);
        time.filter(|_| is_supported(percent, self.0.len()))
    }

    /// The time that `percent` of the values do not exceed; `None` if there are no values.
    pub(super) fn percentile(&self, percent: f64) -> Option<Nanos> {
        // 99.9 / 100.0 is a little more than 0.999, which would select the next value.
        let quantile = (percent * 1e6).round() / 1e8;
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile))
    }
}

/// Whether a percentile differs from the maximum: at least one of `count` values is above it.
fn is_supported(percent: f64, count: u64) -> bool {
    // A percentile like 99.9 is not a binary fraction.
    percent >= 100.0 || count as f64 * (100.0 - percent) / 100.0 > 1.0 - 1e-6
}

/// Counts of the valid requests of one type or to one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) errors: u64,
    pub(super) lost: u64,
    /// From the scheduled time, or in a closed loop from sending, to the reply.
    pub(super) latency: Times,
    /// From sending to the reply.
    pub(super) service: Times,
}

/// All counts of one worker or several.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    pub(super) counts: Counts,
    /// By [`RequestType`].
    pub(super) by_type: Vec<Tally>,
    /// By target.
    pub(super) by_target: Vec<Tally>,
    /// The gaps between the answers of each target.
    pub(super) gaps: Vec<Gaps>,
    /// The gaps between answers from any target.
    pub(super) gaps_of_all: Gaps,
    /// How long after they were due requests were sent.
    pub(super) lag: Times,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            by_type: vec![Tally::default(); RequestType::ALL.len()],
            by_target: Vec::new(),
            gaps: Vec::new(),
            gaps_of_all: Gaps::default(),
            lag: Times::default(),
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.errors += other.errors;
        self.lost += other.lost;
        self.latency.add(&other.latency);
        self.service.add(&other.service);
    }
}

impl Stats {
    /// Empty counts for a load on this number of targets.
    pub(super) fn for_targets(targets: usize) -> Self {
        Self {
            by_target: vec![Tally::default(); targets],
            gaps: vec![Gaps::default(); targets],
            ..Self::default()
        }
    }

    /// The tallies of the type `kind` and of the target.
    pub(super) fn tallies(
        &mut self,
        kind: RequestType,
        target: usize,
    ) -> impl Iterator<Item = &mut Tally> {
        let of_type = self.by_type.get_mut(kind as usize);
        of_type.into_iter().chain(self.by_target.get_mut(target))
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        for (sum, part) in self.by_type.iter_mut().zip(&other.by_type) {
            sum.add(part);
        }
        if self.by_target.is_empty() {
            self.by_target = vec![Tally::default(); other.by_target.len()];
            self.gaps = vec![Gaps::default(); other.gaps.len()];
        }
        for (sum, part) in self.gaps.iter_mut().zip(&other.gaps) {
            sum.add(part);
        }
        self.gaps_of_all.add(&other.gaps_of_all);
        for (sum, part) in self.by_target.iter_mut().zip(&other.by_target) {
            sum.add(part);
        }
        self.lag.add(&other.lag);
    }

    /// The gaps of a target and those of all.
    pub(super) fn gaps_mut(&mut self, target: usize) -> impl Iterator<Item = &mut Gaps> {
        let all = std::iter::once(&mut self.gaps_of_all);
        all.chain(self.gaps.get_mut(target))
    }

    pub(super) fn all_gaps_mut(&mut self) -> impl Iterator<Item = &mut Gaps> {
        std::iter::once(&mut self.gaps_of_all).chain(&mut self.gaps)
    }

    /// The longest gap of any target.
    pub(super) fn stall(&self) -> Nanos {
        let gaps = self.gaps.iter().chain(std::iter::once(&self.gaps_of_all));
        gaps.map(|gaps| gaps.longest).max().unwrap_or(0)
    }

    /// The latency over all types.
    pub(super) fn latency(&self) -> Times {
        self.of_all(|tally| &tally.latency)
    }

    /// The service time over all types.
    pub(super) fn service(&self) -> Times {
        self.of_all(|tally| &tally.service)
    }

    fn of_all(&self, times: impl Fn(&Tally) -> &Times) -> Times {
        let mut all = Times::default();
        for part in &self.by_type {
            all.add(times(part));
        }
        all
    }
}

/// The counts of a time slice, including the warm-up.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) lost: u64,
    pub(super) latency: Histogram<u32>,
}

impl Default for Slice {
    fn default() -> Self {
        Self {
            sent: 0,
            answered: 0,
            lost: 0,
            latency: Histogram::new(SLICE_DIGITS).expect("two digits are valid"),
        }
    }
}

impl Slice {
    pub(super) fn record(&mut self, time: Nanos) {
        self.answered += 1;
        let _ = self.latency.record(time);
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.lost += other.lost;
        self.latency
            .add(&other.latency)
            .expect("the histogram resizes itself");
    }
}

/// The figures of a time slice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    /// The end of the slice in seconds since the start.
    pub(super) time_seconds: f64,
    /// Requests per second.
    pub(super) sent_rate: f64,
    /// Valid replies per second.
    pub(super) answered_rate: f64,
    /// Requests per second that were sent in this slice and lost.
    pub(super) lost_rate: f64,
    /// The median latency; `None` if nothing was answered.
    pub(super) p50_ns: Option<Nanos>,
    /// The 99th percentile of latency.
    pub(super) p99_ns: Option<Nanos>,
    /// The longest latency.
    pub(super) max_ns: Option<Nanos>,
}

/// Adds up the slices of the workers as they arrive. Each worker delivers its slices in order.
#[derive(Debug)]
pub(super) struct Series {
    seconds: f64,
    workers: usize,
    /// Incomplete slices with the number of workers that delivered theirs. The first one follows
    /// the last point.
    open: std::collections::VecDeque<(usize, Slice)>,
    pub(super) points: Vec<Point>,
}

impl Series {
    /// A series of slices of `seconds` from this number of workers.
    pub(super) fn new(seconds: f64, workers: usize) -> Self {
        Self {
            seconds,
            workers,
            open: Default::default(),
            points: Vec::new(),
        }
    }

    /// Adds slice `index` of one worker; returns the point if that completes it.
    pub(super) fn add(&mut self, index: usize, slice: &Slice) -> Option<Point> {
        let position = index.checked_sub(self.points.len())?;
        while self.open.len() <= position {
            self.open.push_back(Default::default());
        }
        let (count, sum) = &mut self.open[position];
        *count += 1;
        sum.add(slice);
        let (count, _) = self.open.front()?;
        if *count < self.workers {
            return None;
        }
        let (_, sum) = self.open.pop_front()?;
        let point = self.point(&sum);
        self.points.push(point);
        Some(point)
    }

    /// Adds requests that were sent in slice `index` and turned out to be lost later.
    pub(super) fn add_lost(&mut self, index: usize, lost: u64) {
        if let Some(point) = self.points.get_mut(index) {
            point.lost_rate += lost as f64 / self.seconds;
            return;
        }
        let position = index - self.points.len();
        while self.open.len() <= position {
            self.open.push_back(Default::default());
        }
        self.open[position].1.lost += lost;
    }

    /// Returns all points. Incomplete slices become points as well: workers end at different times.
    pub(super) fn finish(mut self) -> Vec<Point> {
        while let Some((_, sum)) = self.open.pop_front() {
            let point = self.point(&sum);
            self.points.push(point);
        }
        self.points
    }

    fn point(&self, slice: &Slice) -> Point {
        let known = |value: Nanos| (!slice.latency.is_empty()).then_some(value);
        Point {
            time_seconds: self.seconds * (self.points.len() + 1) as f64,
            sent_rate: slice.sent as f64 / self.seconds,
            answered_rate: slice.answered as f64 / self.seconds,
            lost_rate: slice.lost as f64 / self.seconds,
            p50_ns: known(slice.latency.value_at_quantile(0.5)),
            p99_ns: known(slice.latency.value_at_quantile(0.99)),
            max_ns: known(slice.latency.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_needs_the_slices_of_all_workers() {
        let mut series = Series::new(0.5, 2);
        let mut slice = Slice {
            sent: 10,
            ..Slice::default()
        };
        slice.record(1_000);
        assert_eq!(series.add(0, &slice), None);
        assert_eq!(series.add(1, &slice), None);
        let point = series.add(0, &slice).expect("both workers delivered");
        assert_eq!((point.sent_rate, point.answered_rate), (40.0, 4.0));
        assert_eq!(point.time_seconds, 0.5);
        assert_eq!(
            point.max_ns,
            Some(1_003),
            "two significant digits, rounded up"
        );
        series.add_lost(0, 3);
        series.add_lost(1, 1);
        let points = series.finish();
        assert_eq!(points.len(), 2);
        assert_eq!(points[1].sent_rate, 20.0);
        assert_eq!((points[0].lost_rate, points[1].lost_rate), (6.0, 2.0));
    }

    #[test]
    fn a_percentile_needs_enough_values() {
        let mut times = Times::default();
        for time in 1..=999 {
            times.record(time);
        }
        assert!(times.supported_percentile(99.0).is_some());
        assert_eq!(times.supported_percentile(99.9), None);
        assert_eq!(times.supported_percentile(100.0), Some(999));
        times.record(1_000);
        assert_eq!(times.supported_percentile(99.9), Some(999));
    }

    #[test]
    fn stats_are_added_up() {
        let mut stats = Stats::default();
        stats.counts.sent = 4;
        stats.counts.lost = 1;
        stats.by_type[3].latency.record(5);
        let mut sum = stats.clone();
        sum.add(&stats);
        assert_eq!((sum.counts.sent, sum.counts.lost), (8, 2));
        assert_eq!(sum.counts.loss(), 0.25);
        assert_eq!(sum.latency().0.len(), 2);
        assert_eq!(sum.latency().percentile(50.0), Some(5));
        assert_eq!(Times::default().percentile(50.0), None);
    }
}

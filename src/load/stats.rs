//! What was counted: by one worker, in a slice of time, and in all.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Nanos;
use crate::protocol::request::RequestType;

/// Digits to which latencies are kept.
const DIGITS: u8 = 3;
/// The same for the short slices that the progress line and the plots over time are made of.
const SLICE_DIGITS: u8 = 2;

/// What became of the datagrams that counted. `sent = answered + wrong + lost`, and `damaged = silent + unexpected`, when all is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Good requests sent.
    pub(super) sent: u64,
    /// Good replies to them, in time.
    pub(super) answered: u64,
    /// Of these, how many had status 1.
    pub(super) errors: u64,
    /// Not answered in time.
    pub(super) lost: u64,
    /// Of these, how many were answered after that.
    pub(super) late: u64,
    /// Replies to what was answered before.
    pub(super) duplicated: u64,
    /// Answered after a later request on the same socket.
    pub(super) reordered: u64,
    /// Replies with a bad signature.
    pub(super) bad_hmac: u64,
    /// Replies that are none.
    pub(super) malformed: u64,
    /// Replies unlike the one to the same query with the same serial.
    pub(super) inconsistent: u64,
    /// Replies to damaged requests.
    pub(super) unexpected: u64,
    /// Damaged requests sent.
    pub(super) damaged: u64,
    /// Of these, how many got no reply, as it must be.
    pub(super) silent: u64,
    /// Datagrams that have nothing to do with this run.
    pub(super) stray: u64,
    /// How often the target's port refused.
    pub(super) refused: u64,
    /// Datagrams that the kernel did not take; they are lost as well.
    pub(super) unsendable: u64,
    /// Requests of the schedule that were never sent, as the generator could not keep up.
    pub(super) unsent: u64,
    /// Bytes of payload sent, damaged requests included.
    pub(super) bytes_sent: u64,
    /// Bytes of payload received in good replies.
    pub(super) bytes_received: u64,
}

impl Counts {
    /// Replies that are not what they should be.
    pub(super) fn wrong(&self) -> u64 {
        self.bad_hmac + self.malformed + self.inconsistent + self.unexpected
    }

    /// Lost requests as a share of those sent; 0 if there were none.
    pub(super) fn loss(&self) -> f64 {
        share(self.lost, self.sent)
    }

    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.sent, other.sent),
            (&mut self.answered, other.answered),
            (&mut self.errors, other.errors),
            (&mut self.lost, other.lost),
            (&mut self.late, other.late),
            (&mut self.duplicated, other.duplicated),
            (&mut self.reordered, other.reordered),
            (&mut self.bad_hmac, other.bad_hmac),
            (&mut self.malformed, other.malformed),
            (&mut self.inconsistent, other.inconsistent),
            (&mut self.unexpected, other.unexpected),
            (&mut self.damaged, other.damaged),
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

/// A part of a whole, 0 of nothing.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Times in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub(super) struct Times(pub(super) Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are possible"))
    }
}

impl Times {
    pub(super) fn record(&mut self, time: Nanos) {
        // It grows by itself, up to centuries.
        let _ = self.0.record(time);
    }

    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("it grows by itself");
    }

    /// The time that `percent` of the requests did not exceed; `None` without any.
    pub(super) fn percentile(&self, percent: f64) -> Option<Nanos> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(percent / 100.0))
    }
}

/// Good requests of one type, or to one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) errors: u64,
    pub(super) lost: u64,
    pub(super) latency: Times,
}

/// All that a worker, or several, counted.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    pub(super) counts: Counts,
    /// By [`RequestType`].
    pub(super) by_type: Vec<Tally>,
    /// By target; empty if there is one only.
    pub(super) by_target: Vec<Tally>,
    /// How much later than intended requests were sent.
    pub(super) lag: Times,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            counts: Counts::default(),
            by_type: vec![Tally::default(); RequestType::ALL.len()],
            by_target: Vec::new(),
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
    }
}

impl Stats {
    /// For a load on so many targets.
    pub(super) fn for_targets(targets: usize) -> Self {
        let told_apart = if targets > 1 { targets } else { 0 };
        Self {
            by_target: vec![Tally::default(); told_apart],
            ..Self::default()
        }
    }

    /// Where a request of type `kind` to `target` is counted.
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
        }
        for (sum, part) in self.by_target.iter_mut().zip(&other.by_target) {
            sum.add(part);
        }
        self.lag.add(&other.lag);
    }

    /// The latency of all types.
    pub(super) fn latency(&self) -> Times {
        let mut all = Times::default();
        for part in &self.by_type {
            all.add(&part.latency);
        }
        all
    }
}

/// What happened in a short time, warm-up included.
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
            latency: Histogram::new(SLICE_DIGITS).expect("two digits are possible"),
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
            .expect("it grows by itself");
    }
}

/// A slice, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// The slice's end, in seconds since the start.
    pub(super) time_seconds: f64,
    /// Requests a second.
    pub(super) sent_rate: f64,
    /// Replies a second.
    pub(super) answered_rate: f64,
    /// Requests given up a second.
    pub(super) lost_rate: f64,
    /// Median latency, if anything was answered.
    pub(super) p50_ns: Option<Nanos>,
    /// 99th percentile.
    pub(super) p99_ns: Option<Nanos>,
    /// The longest.
    pub(super) max_ns: Option<Nanos>,
}

/// Puts the workers' slices together, as they come: each worker delivers all of its slices in their order.
#[derive(Debug)]
pub(super) struct Series {
    seconds: f64,
    workers: usize,
    /// The first is of the time behind the last point.
    open: std::collections::VecDeque<(usize, Slice)>,
    pub(super) points: Vec<Point>,
}

impl Series {
    /// Of slices of `seconds` each, from so many `workers`.
    pub(super) fn new(seconds: f64, workers: usize) -> Self {
        Self {
            seconds,
            workers,
            open: Default::default(),
            points: Vec::new(),
        }
    }

    /// Takes a worker's slice number `index`; gives the point that it completes, if it does.
    pub(super) fn add(&mut self, index: usize, slice: &Slice) -> Option<Point> {
        let behind = index.checked_sub(self.points.len())?;
        while self.open.len() <= behind {
            self.open.push_back(Default::default());
        }
        let (count, sum) = &mut self.open[behind];
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

    /// Makes points of what is left, when the workers have ended: not all at the same time.
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
    fn series_wait_for_all_workers() {
        let mut series = Series::new(0.5, 2);
        let mut slice = Slice {
            sent: 10,
            ..Slice::default()
        };
        slice.record(1_000);
        assert_eq!(series.add(0, &slice), None);
        assert_eq!(series.add(1, &slice), None);
        let point = series.add(0, &slice).expect("both are there");
        assert_eq!((point.sent_rate, point.answered_rate), (40.0, 4.0));
        assert_eq!(point.time_seconds, 0.5);
        assert_eq!(point.max_ns, Some(1_003), "two digits, rounded up");
        let points = series.finish();
        assert_eq!(points.len(), 2);
        assert_eq!(points[1].sent_rate, 20.0);
    }

    #[test]
    fn sums_are_complete() {
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

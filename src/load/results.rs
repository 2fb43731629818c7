//! What a run has shown.

use super::Nanos;
use super::stats::{Point, Stats};
use super::usage::Usage;
use super::worker::Role;

/// Everything that was counted in one run; the warm-up is left out, but for the series.
#[derive(Clone, Debug, Default)]
pub(super) struct Results {
    /// The load.
    pub(super) load: Stats,
    /// The measuring client beside it, if there was one.
    pub(super) measure: Option<Stats>,
    /// How long requests that count were sent, in seconds.
    pub(super) seconds: f64,
    /// The rate that was asked for, in an open loop.
    pub(super) offered: Option<f64>,
    /// Over time, warm-up included.
    pub(super) series: Vec<Point>,
    /// The same for the measuring client.
    pub(super) measure_series: Vec<Point>,
    pub(super) threads: Vec<ThreadUse>,
    /// Replies dropped in the generator's own receive buffers.
    pub(super) dropped: u64,
}

/// What a thread of the generator took.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadUse {
    pub(super) role: Role,
    /// How long it was sending.
    pub(super) sending: Nanos,
    /// Its use of the processor in that time.
    pub(super) usage: Option<Usage>,
}

impl Results {
    /// Good requests sent a second.
    pub(super) fn sent_rate(&self) -> f64 {
        self.per_second(self.load.counts.sent)
    }

    /// Good replies a second.
    pub(super) fn answered_rate(&self) -> f64 {
        self.per_second(self.load.counts.answered)
    }

    /// Whether the load was sent at the rate that was asked for, within a hundredth.
    pub(super) fn held_rate(&self) -> bool {
        let counts = &self.load.counts;
        let sent = (counts.sent + counts.damaged) as f64;
        counts.unsent as f64 <= sent * 0.01
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 {
            count as f64 / self.seconds
        } else {
            0.0
        }
    }
}

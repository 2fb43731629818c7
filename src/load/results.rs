//! The results of a run.

use super::nanos::Nanos;
use super::server::ServerUse;
use super::stats::{Point, Stats};
use super::usage::Usage;
use super::worker::{Role, WorkerResult};

/// The counts of one run. The warm-up is excluded, except in the series.
#[derive(Clone, Debug, Default)]
pub(super) struct Results {
    /// The load.
    pub(super) load: Stats,
    /// The probe client, if there was one.
    pub(super) probe: Option<Stats>,
    /// Seconds from the end of the warm-up to the end of sending; in a closed loop of a number of
    /// requests, to the last answer.
    pub(super) seconds: f64,
    /// In an open loop, the requested rate.
    pub(super) offered: Option<f64>,
    /// The load over time, including the warm-up.
    pub(super) series: Vec<Point>,
    /// The probe client over time.
    pub(super) probe_series: Vec<Point>,
    pub(super) threads: Vec<ThreadUse>,
    /// The servers on this machine.
    pub(super) servers: Vec<ServerUse>,
    /// Replies that the kernel dropped because receive buffers of the generator were full.
    pub(super) dropped: u64,
}

/// The processor use of one thread of the generator.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadUse {
    pub(super) role: Role,
    /// How long it sent, after the warm-up.
    pub(super) sending: Nanos,
    /// Its processor use in that time.
    pub(super) usage: Option<Usage>,
}

impl Results {
    /// Adds up the results of the workers.
    pub(super) fn sum(workers: Vec<WorkerResult>) -> Self {
        let mut results = Self::default();
        for worker in workers {
            match worker.role {
                Role::Load => {
                    results.load.add(&worker.stats);
                    results.seconds = results.seconds.max(worker.sending as f64 / 1e9);
                }
                Role::Probe => {
                    let probe = results.probe.get_or_insert_with(Stats::default);
                    probe.add(&worker.stats);
                }
            }
            results.dropped += worker.dropped;
            results.threads.push(ThreadUse {
                role: worker.role,
                sending: worker.sending,
                usage: worker.usage,
            });
        }
        results
    }

    /// Valid requests sent per second.
    pub(super) fn sent_rate(&self) -> f64 {
        self.per_second(self.load.counts.sent)
    }

    /// Valid replies per second.
    pub(super) fn answered_rate(&self) -> f64 {
        self.per_second(self.load.counts.answered)
    }

    /// Whether the load was sent at the requested rate, to within 1 %.
    pub(super) fn held_rate(&self) -> bool {
        let counts = &self.load.counts;
        let sent = counts.sent + counts.corrupted;
        sent > 0 && counts.unsent as f64 <= sent as f64 * 0.01
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 {
            count as f64 / self.seconds
        } else {
            0.0
        }
    }
}

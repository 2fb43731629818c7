//! Feeds the service manager's watchdog while every worker answers signed questions.
//!
//! The questions are those of [`self_check`], over the daemon's own sockets. The kernel chooses the
//! worker by the source port, so new ports ask until each worker has sent a reply since the last
//! time that the watchdog was fed. Replies to clients count as well. So this shows that each worker
//! receives, answers with the current key and sends; a heartbeat of its loop would not show the
//! first and the last. It also shows that the control plane runs, because it does the asking.
//!
//! A flood can keep questions out of a worker's receive queue. A worker that takes
//! datagrams while the kernel drops others counts as working: a restart would only lose more.
//!
//! Source: sd_watchdog_enabled(3), systemd.service(5) `WatchdogSec=`.

use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::error;

use super::{notify, self_check};
use crate::engine::{Totals, Workers};
use crate::responder::Served;

/// Checks in each watchdog interval. The service manager acts when all of them have failed.
const CHECKS: u32 = 3;

/// Feeds the watchdog. Does not return, also if the service manager has none.
pub(super) async fn feed(workers: &Workers, served: &ArcSwap<Served>) -> ! {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        std::future::pending().await
    };
    let mut ticks = interval(limit / CHECKS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = totals(workers);
    loop {
        ticks.tick().await;
        match silent_worker(workers, &seen, served, limit / CHECKS).await {
            None => {
                notify::feed_watchdog();
                seen = totals(workers);
            }
            Some(worker) => error!(
                "Worker {worker} does not answer the daemon's own pings; the service manager \
                 restarts the daemon after {} s of this",
                limit.as_secs_f32()
            ),
        }
    }
}

/// Asks until each worker has made progress since `seen`. Returns a worker that has not by the end
/// of `limit`.
async fn silent_worker(
    workers: &Workers,
    seen: &[Totals],
    served: &ArcSwap<Served>,
    limit: Duration,
) -> Option<usize> {
    let deadline = Instant::now() + limit;
    loop {
        let now = totals(workers);
        let mut pairs = now.iter().zip(seen);
        let silent = pairs.position(|(now, seen)| !has_progressed(now, seen))?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(silent);
        }
        // The counters decide: a question may have no answer because of a flood.
        let _ = self_check::ask(workers.local_addr(), 1, served, left).await;
    }
}

fn totals(workers: &Workers) -> Vec<Totals> {
    let counters = workers.counters().iter();
    counters.map(|counters| counters.snapshot()).collect()
}

/// Whether a worker has replied, or has received datagrams while its queue overflowed.
fn has_progressed(now: &Totals, seen: &Totals) -> bool {
    let flooded = now.received > seen.received && now.overruns != seen.overruns;
    now.replied > seen.replied || flooded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_only_receives_has_progressed_only_in_a_flood() {
        let seen = Totals::default();
        let totals = |received, replied, overruns| Totals {
            received,
            replied,
            overruns,
            ..Totals::default()
        };
        assert!(has_progressed(&totals(1, 1, 0), &seen));
        assert!(!has_progressed(&totals(1, 0, 0), &seen));
        assert!(!has_progressed(&totals(0, 0, 1), &seen));
        assert!(has_progressed(&totals(1, 0, 1), &seen));
    }
}

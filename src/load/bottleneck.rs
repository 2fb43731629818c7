//! Whether the generator itself was what limited a run: then the figures are about it, not about the server.
//!
//! Pure: from what was counted to sentences for the report.

use super::results::Results;
use super::stats::share;
use super::worker::Role;

/// A thread that is busy for more of its time than this has none to spare.
const BUSY_SHARE: f64 = 0.9;

/// A thread that waits for a processor for more of its time than this measures the scheduler.
const STARVED_SHARE: f64 = 0.1;

/// Requests this much too late are no longer the load that was asked for, in nanoseconds (at the 99th percentile).
const LAG_NS: u64 = 1_000_000;

/// What there is to say; nothing if the generator kept up.
pub(super) fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    let counts = &results.load.counts;
    if counts.unsent > 0 {
        let asked = counts.unsent + counts.sent + counts.damaged;
        notes.push(format!(
            "{} requests of the schedule ({:.1} %) were never sent",
            counts.unsent,
            100.0 * share(counts.unsent, asked)
        ));
    }
    if let Some(lag) = results.load.lag.percentile(99.0)
        && lag > LAG_NS
    {
        notes.push(format!(
            "one request in a hundred was sent {:.1} ms or more behind its time",
            lag as f64 / 1e6
        ));
    }
    for (index, thread) in results.threads.iter().enumerate() {
        let Some(usage) = thread.usage else { continue };
        let busy = share(usage.cpu_ns, thread.sending);
        let starved = share(usage.waited_ns, thread.sending);
        // In an open loop a busy thread that keeps its schedule is all right.
        if busy > BUSY_SHARE && thread.role == Role::Load && results.offered.is_none() {
            notes.push(format!(
                "thread {index} was busy for {:.0} % of its time: the rate is the generator's. \
                 More --threads may help, or --verify 1/16",
                busy * 100.0
            ));
        }
        if starved > STARVED_SHARE {
            notes.push(format!(
                "thread {index} waited for a processor for {:.0} % of its time: the machine has too few for generator and server",
                starved * 100.0
            ));
        }
    }
    if results.dropped > 0 {
        notes.push(format!(
            "{} replies were dropped in full receive buffers of the generator; they count as lost",
            results.dropped
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::super::results::ThreadUse;
    use super::super::usage::Usage;
    use super::*;

    fn thread(cpu: u64, waited: u64) -> ThreadUse {
        ThreadUse {
            role: Role::Load,
            sending: 1_000,
            usage: Some(Usage {
                cpu_ns: cpu,
                waited_ns: waited,
            }),
        }
    }

    #[test]
    fn a_generator_that_keeps_up_is_not_mentioned() {
        let mut results = Results::default();
        results.threads.push(thread(500, 50));
        results.load.lag.record(100_000);
        assert_eq!(notes(&results), Vec::<String>::new());
    }

    #[test]
    fn each_limit_is_named() {
        let mut results = Results {
            threads: vec![thread(950, 0), thread(100, 200)],
            dropped: 3,
            ..Results::default()
        };
        results.load.lag.record(5_000_000);
        results.load.counts.unsent = 10;
        results.load.counts.sent = 90;
        let notes = notes(&results);
        assert_eq!(notes.len(), 5, "{notes:?}");
        assert!(notes[0].contains("10 requests of the schedule (10.0 %)"));
        assert!(notes[2].contains("thread 0 was busy for 95 %"));
        assert!(notes[3].contains("thread 1 waited"));
    }

    #[test]
    fn a_busy_thread_may_keep_its_schedule() {
        let results = Results {
            threads: vec![thread(950, 0)],
            offered: Some(1_000.0),
            ..Results::default()
        };
        assert!(notes(&results).is_empty());
    }
}

//! Whether the generator itself limited a run: then its figures do not describe the server.
//!
//! Pure: counts in, sentences for the report out.

use super::results::Results;
use super::stats::share;
use super::worker::Role;

/// Share of the time above which a thread counts as fully busy.
const BUSY_SHARE: f64 = 0.9;

/// Share of the scheduled requests above which unsent ones are worth a note.
const UNSENT_SHARE: f64 = 0.001;

/// Share of the time above which waiting for a processor distorts the measurement.
const WAITED_SHARE: f64 = 0.1;

/// The 99th percentile of the schedule lag, in nanoseconds, above which the load differs from the
/// one requested.
const LAG_NS: u64 = 1_000_000;

/// One sentence per limit that was reached; empty if the generator kept up.
pub(super) fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    let counts = &results.load.counts;
    let scheduled = counts.unsent + counts.sent + counts.corrupted;
    if share(counts.unsent, scheduled) > UNSENT_SHARE {
        notes.push(format!(
            "{} requests of the schedule ({:.1} %) were never sent",
            counts.unsent,
            100.0 * share(counts.unsent, scheduled)
        ));
    }
    if let Some(lag) = results.load.lag.percentile(99.0)
        && lag > LAG_NS
    {
        notes.push(format!(
            "1 % of the requests left {:.1} ms or more behind schedule",
            lag as f64 / 1e6
        ));
    }
    for (index, thread) in results.threads.iter().enumerate() {
        let Some(usage) = thread.usage else { continue };
        let busy = share(usage.cpu_ns, thread.sending);
        let waited = share(usage.waited_ns, thread.sending);
        // In an open loop, a busy thread is no limit as long as it keeps its schedule.
        if busy > BUSY_SHARE && thread.role == Role::Load && results.offered.is_none() {
            notes.push(format!(
                "thread {index} was busy for {:.0} % of the time: the generator limits the rate. \
                 More --threads or --verify 1/16 may help",
                busy * 100.0
            ));
        }
        if waited > WAITED_SHARE {
            notes.push(format!(
                "thread {index} waited for a processor for {:.0} % of the time: this machine has too \
                 few processors for the generator and the server",
                waited * 100.0
            ));
        }
    }
    if results.dropped > 0 {
        notes.push(format!(
            "the kernel dropped {} replies because receive buffers of the generator were full; \
             they count as lost",
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
    fn a_generator_that_keeps_up_has_no_notes() {
        let mut results = Results::default();
        results.threads.push(thread(500, 50));
        results.load.lag.record(100_000);
        assert_eq!(notes(&results), Vec::<String>::new());
    }

    #[test]
    fn each_limit_has_a_note() {
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
    fn a_busy_thread_that_keeps_its_schedule_has_no_note() {
        let results = Results {
            threads: vec![thread(950, 0)],
            offered: Some(1_000.0),
            ..Results::default()
        };
        assert!(notes(&results).is_empty());
    }
}

//! How much of a processor a thread used, and how long it waited for one.

use std::ops::Sub;

use serde::Serialize;

use super::Nanos;

/// Since the thread started, or in between two such looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    /// Time on a processor.
    pub(super) cpu_ns: Nanos,
    /// Time ready to run, without a processor.
    pub(super) waited_ns: Nanos,
}

impl Usage {
    /// The calling thread's, from the scheduler (Documentation/scheduler/sched-stats.rst); `None` if this kernel does not account it.
    pub(super) fn of_this_thread() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut numbers = text.split_whitespace().map(str::parse);
        Some(Self {
            cpu_ns: numbers.next()?.ok()?,
            waited_ns: numbers.next()?.ok()?,
        })
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            waited_ns: self.waited_ns.saturating_sub(before.waited_ns),
        }
    }
}

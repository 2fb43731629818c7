//! The processor time of a thread, and how long it waited for a processor.

use std::ops::Sub;

use serde::Serialize;

use super::nanos::Nanos;

/// Times since the start of a thread, or the difference of two such values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    /// Time running on a processor.
    pub(super) cpu_ns: Nanos,
    /// Time runnable without a processor.
    pub(super) waited_ns: Nanos,
}

impl Usage {
    /// The times of the calling thread; `None` if this kernel does not account them.
    ///
    /// Source: `/proc/thread-self/schedstat`, Documentation/scheduler/sched-stats.rst.
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

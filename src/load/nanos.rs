//! Times of a run as numbers.

use std::time::Duration;

/// Nanoseconds, usually since the start of the run.
pub(super) type Nanos = u64;

/// The duration in nanoseconds, limited to [`Nanos::MAX`].
pub(super) fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

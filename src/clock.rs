//! The wall clock, in the form that the protocol uses.
#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

/// Reads this host's clock, in seconds since the epoch; 0 if it is set before 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

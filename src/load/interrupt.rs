//! SIGINT ends a measurement early, with its results.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Error;

/// Handles SIGINT until dropped: the first one sets a flag, the second one ends the process.
pub(super) struct Interrupt {
    seen: Arc<AtomicBool>,
    handlers: [signal_hook::SigId; 2],
}

impl Interrupt {
    /// # Errors
    ///
    /// A signal handler cannot be installed.
    pub(super) fn catch() -> Result<Self, Error> {
        let seen = Arc::new(AtomicBool::new(false));
        let try_catch = || {
            use signal_hook::consts::SIGINT;
            use signal_hook::flag;
            // The order matters: the shutdown is registered first, so that it sees the flag only
            // if an earlier signal has set it. 130 is the status that shells report for SIGINT.
            let second = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&seen))?;
            Ok([second, flag::register(SIGINT, Arc::clone(&seen))?])
        };
        let handlers = try_catch().map_err(|error: std::io::Error| {
            Error::new(format!("cannot handle SIGINT: {error}"))
        })?;
        Ok(Self { seen, handlers })
    }

    pub(super) fn is_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// The flag that the first SIGINT sets.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.seen)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for handler in self.handlers {
            signal_hook::low_level::unregister(handler);
        }
    }
}

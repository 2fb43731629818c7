//! How the control plane reaches a worker: a stop flag, and an event that wakes it.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::event::Event;

/// A stop flag and a wake-up event.
pub(super) struct Signal {
    stop: AtomicBool,
    pub(super) event: Event,
}

impl Signal {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            stop: AtomicBool::new(false),
            event: Event::new()?,
        })
    }

    /// Wakes the worker: it loads the published snapshot, and checks whether to stop.
    pub(super) fn wake(&self) {
        self.event.signal();
    }

    /// Asks the worker to end, and wakes it.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the worker was asked to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

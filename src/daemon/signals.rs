//! Signals, as events of the control plane.
//!
//! SIGPIPE is not handled here: Rust's runtime ignores it from the start.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::Error;

/// The action that a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalRequest {
    /// SIGTERM: stop, with exit status 0.
    Terminate,
    /// SIGINT: stop, then end as SIGINT does.
    Interrupt,
    /// SIGHUP: reopen the log file.
    ReopenLog,
    /// SIGUSR1: log all counters.
    LogCounters,
    /// SIGUSR2: start or stop logging debug messages.
    SwitchDebug,
}

/// The handlers that [`Signals::catch`] installs.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    quit: Signal,
}

impl Signals {
    /// Installs the handlers. Requires a tokio runtime.
    ///
    /// # Errors
    ///
    /// A handler cannot be installed.
    pub(super) fn catch() -> Result<Self, Error> {
        Self::try_catch().map_err(|error| Error::new(format!("cannot catch signals: {error}")))
    }

    fn try_catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next request. Ignores SIGQUIT.
    ///
    /// Cancel safe: dropping the future loses no signal.
    pub(super) async fn next(&mut self) -> SignalRequest {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return SignalRequest::Terminate,
                _ = self.interrupt.recv() => return SignalRequest::Interrupt,
                _ = self.hangup.recv() => return SignalRequest::ReopenLog,
                _ = self.user1.recv() => return SignalRequest::LogCounters,
                _ = self.user2.recv() => return SignalRequest::SwitchDebug,
                _ = self.quit.recv() => {}
            }
        }
    }
}

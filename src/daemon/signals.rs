//! Signals, as events of the control plane.
//!
//! A thread of its own waits for them, and all other threads block them. So they act from the first
//! moment, and a request to stop ends the process within [`STOP_MAX`] even if the control plane
//! waits for something that never comes, such as a disk.
//!
//! SIGPIPE is not handled here: Rust's runtime ignores it from the start.
//!
//! Source: sigwait(3), signal(7).

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::error::Error;
use crate::remedy::{Operation, errno_of};

/// Time from a request to stop until the process is ended without further steps. The regular end
/// takes milliseconds.
const STOP_MAX: Duration = Duration::from_millis(900);

/// The signals that are received. SIGQUIT has no effect. Nor has SIGXFSZ, so that a log file at the
/// limit of a file's size does not end the daemon.
const RECEIVED: [Signal; 7] = [
    Signal::SIGXFSZ,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGQUIT,
];

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

/// The requests that have been received.
#[derive(Debug)]
pub(super) struct Signals(UnboundedReceiver<SignalRequest>);

impl Signals {
    /// Starts to receive signals. Must be called before any other thread is started.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn catch() -> Result<Self, Error> {
        let mut set = SigSet::empty();
        RECEIVED.into_iter().for_each(|signal| set.add(signal));
        let failed = |errno| {
            Error::of_call(
                "cannot start the thread for signals",
                Operation::Thread,
                errno,
            )
        };
        set.thread_block().map_err(failed)?;
        let (sender, requests) = unbounded_channel();
        let (started, ready) = mpsc::channel::<()>();
        thread::Builder::new()
            .name("confd-signals".into())
            .spawn(move || {
                super::sandbox::give_up_everything();
                drop(started);
                receive(set, &sender);
            })
            .map_err(|error| failed(errno_of(&error)))?;
        // The thread uses system calls here that are forbidden later.
        let _ = ready.recv();
        Ok(Self(requests))
    }

    /// Waits for the next request.
    ///
    /// Cancel safe: dropping the future loses no signal.
    pub(super) async fn next(&mut self) -> SignalRequest {
        match self.0.recv().await {
            Some(request) => request,
            // The thread does not end before the process.
            None => std::future::pending().await,
        }
    }
}

/// The thread: forwards signals, and ends the process if it does not end by itself.
fn receive(set: SigSet, requests: &UnboundedSender<SignalRequest>) {
    loop {
        // sigwait fails only for an invalid set.
        let Ok(signal) = set.wait() else { return };
        let request = match signal {
            Signal::SIGTERM => SignalRequest::Terminate,
            Signal::SIGINT => SignalRequest::Interrupt,
            Signal::SIGHUP => SignalRequest::ReopenLog,
            Signal::SIGUSR1 => SignalRequest::LogCounters,
            Signal::SIGUSR2 => SignalRequest::SwitchDebug,
            _ => continue,
        };
        // Fails only while the process ends.
        let _ = requests.send(request);
        if matches!(signal, Signal::SIGTERM | Signal::SIGINT) {
            thread::sleep(STOP_MAX);
            end_now(signal);
        }
    }
}

/// Ends the process as the regular end would, without waiting for any other thread.
fn end_now(signal: Signal) {
    if signal == Signal::SIGTERM {
        signal_hook::low_level::exit(0);
    }
    let _ = signal_hook::low_level::emulate_default_handler(signal as i32);
}

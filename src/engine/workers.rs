//! Starts, watches and stops the workers' threads.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::counters::{Counters, Totals};
use super::dispatch::Dispatcher;
use super::event::Event;
use super::handler::Handler;
use super::signal::Signal;
use super::socket::Sockets;
use super::{mmsg, uring};
use crate::remedy::{Operation, failed};
use crate::responder::Served;

/// An engine: how workers receive and send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        })
    }
}

/// No worker was started: what the kernel refused, and what an administrator can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    kind: EngineKind,
    reason: String,
    /// Why io_uring was not used instead, if it was tried before.
    uring_reason: Option<String>,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.uring_reason {
            write!(f, "the uring engine cannot start: {reason}; and ")?;
        }
        write!(f, "the {} engine cannot start: {}", self.kind, self.reason)?;
        if self.kind == EngineKind::Uring {
            f.write_str(" (or start with --engine=mmsg)")?;
        }
        Ok(())
    }
}

impl std::error::Error for StartError {}

/// Starts one worker per socket, each with a handler of its own. Returns when all of them serve.
///
/// With `None` for `kind` the workers themselves are the probe: if io_uring, its multishot receive
/// or its buffer rings are refused to any of them, all are started again with [`EngineKind::Mmsg`],
/// whose workers try their system calls before they serve.
///
/// # Errors
///
/// The engine cannot be used. With `None` the error has the reasons of both engines.
pub fn start<H: Handler + Send + 'static>(
    sockets: Sockets,
    kind: Option<EngineKind>,
    served: &Arc<ArcSwap<Served>>,
    make_handler: impl FnMut() -> H,
) -> Result<Workers, StartError> {
    start_confined(sockets, kind, served, make_handler, || Ok(()))
}

/// As [`start`]. Each worker calls `confine` on its thread, after all that it takes from the kernel
/// and before it serves.
///
/// # Errors
///
/// The engine cannot be used, or `confine` failed.
pub fn start_confined<H: Handler + Send + 'static>(
    sockets: Sockets,
    kind: Option<EngineKind>,
    served: &Arc<ArcSwap<Served>>,
    mut make_handler: impl FnMut() -> H,
    confine: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> Result<Workers, StartError> {
    let first = kind.unwrap_or(EngineKind::Uring);
    let confine: Confine = Arc::new(confine);
    let mut start = |kind| start_all(&sockets, kind, served, &mut make_handler, &confine);
    match start(first) {
        Err(error) if kind.is_none() => match start(EngineKind::Mmsg) {
            Ok(mut workers) => {
                workers.fallback_reason = Some(error.reason);
                Ok(workers)
            }
            Err(second) => Err(StartError {
                uring_reason: Some(error.reason),
                ..second
            }),
        },
        started => started,
    }
}

/// What a worker does before it serves.
type Confine = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

fn start_all<H: Handler + Send + 'static>(
    sockets: &Sockets,
    kind: EngineKind,
    served: &Arc<ArcSwap<Served>>,
    make_handler: &mut impl FnMut() -> H,
    confine: &Confine,
) -> Result<Workers, StartError> {
    let refused = |reason| StartError {
        kind,
        reason,
        uring_reason: None,
    };
    let failure = WorkerFailure::new().map_err(|e| refused(format!("eventfd: {e}")))?;
    let mut workers = Workers {
        kind,
        fallback_reason: None,
        local_addr: sockets.local_addr,
        counters: Vec::new(),
        threads: Vec::new(),
        failure: Arc::new(failure),
    };
    // An error drops `workers`, which stops those already started.
    for (index, socket) in sockets.sockets.iter().enumerate() {
        let name = format!("confd-{index}");
        let signal = Signal::new().map_err(|e| refused(failed("eventfd", Operation::Other, &e)))?;
        let signal = Arc::new(signal);
        let counters = Arc::new(Counters::default());
        let dispatcher = Dispatcher::new(
            make_handler(),
            Arc::clone(served),
            Arc::clone(&counters),
            index == 0,
        );
        let parts = WorkerParts {
            kind,
            socket: Arc::clone(socket),
            gso: sockets.gso,
            dispatcher,
            signal: Arc::clone(&signal),
            confine: Arc::clone(confine),
        };
        let exit_reporter = ExitReporter {
            name: name.clone(),
            cause: Some("panicked".into()),
            failure: Arc::clone(&workers.failure),
        };
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || parts.work(&ready, exit_reporter))
            .map_err(|e| refused(failed("starting a thread", Operation::Thread, &e)))?;
        workers.threads.push((thread, signal));
        workers.counters.push(counters);
        started
            .recv()
            .unwrap_or_else(|_| Err("the worker panicked".into()))
            .map_err(refused)?;
    }
    Ok(workers)
}

/// What a worker is given; it allocates the rest itself, on its own thread.
struct WorkerParts<H> {
    kind: EngineKind,
    socket: Arc<socket2::Socket>,
    gso: bool,
    dispatcher: Dispatcher<H>,
    signal: Arc<Signal>,
    confine: Confine,
}

impl<H: Handler> WorkerParts<H> {
    /// Runs a worker on the calling thread. Reports to `ready` whether its setup succeeded.
    fn work(self, ready: &mpsc::SyncSender<Result<(), String>>, exit_reporter: ExitReporter) {
        let (socket, signal) = (self.socket, self.signal);
        let confine = move || (self.confine)().map_err(|e| format!("confining a worker: {e}"));
        match self.kind {
            EngineKind::Uring => {
                let worker = uring::Worker::new(socket, self.gso, self.dispatcher, signal);
                let worker = worker.and_then(|worker| confine().map(|()| worker));
                run(worker, uring::Worker::run, ready, exit_reporter);
            }
            EngineKind::Mmsg => {
                let worker = mmsg::Worker::new(socket, self.gso, self.dispatcher, signal);
                let worker = worker.and_then(|worker| confine().map(|()| worker));
                run(worker, mmsg::Worker::run, ready, exit_reporter);
            }
        }
    }
}

fn run<W>(
    worker: Result<W, String>,
    run: impl FnOnce(W) -> io::Result<()>,
    ready: &mpsc::SyncSender<Result<(), String>>,
    mut exit_reporter: ExitReporter,
) {
    let (report, worker) = match worker {
        Ok(worker) => (Ok(()), Some(worker)),
        Err(reason) => (Err(reason), None),
    };
    // Fails only if `start_all` has returned; then the worker's signal says stop.
    let _ = ready.send(report);
    exit_reporter.cause = worker.and_then(|worker| run(worker).err().map(|e| e.to_string()));
}

/// The first worker that ended without being asked to.
#[derive(Debug)]
struct WorkerFailure {
    text: Mutex<Option<String>>,
    event: Event,
}

impl WorkerFailure {
    fn new() -> io::Result<Self> {
        Ok(Self {
            text: Mutex::new(None),
            event: Event::new()?,
        })
    }
}

/// Reports on drop, so also after a panic, that a worker ended; reports nothing if `cause` is
/// `None`.
struct ExitReporter {
    name: String,
    cause: Option<String>,
    failure: Arc<WorkerFailure>,
}

impl Drop for ExitReporter {
    fn drop(&mut self) {
        if let Some(cause) = self.cause.take() {
            let mut text = self
                .failure
                .text
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            text.get_or_insert_with(|| format!("worker {}: {cause}", self.name));
            self.failure.event.signal();
        }
    }
}

/// The running workers. Dropping them stops them.
pub struct Workers {
    kind: EngineKind,
    fallback_reason: Option<String>,
    local_addr: SocketAddr,
    counters: Vec<Arc<Counters>>,
    threads: Vec<(JoinHandle<()>, Arc<Signal>)>,
    failure: Arc<WorkerFailure>,
}

impl Workers {
    /// How long [`Workers::stop`] waits for the workers.
    const STOP_TIMEOUT: Duration = Duration::from_secs(5);

    /// The engine in use.
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Why io_uring is not used, if it was tried and refused.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// The address that the workers serve, with the port that the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The counters of each worker. They may be kept after the workers have ended.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// The counters of all workers, summed.
    pub fn totals(&self) -> Totals {
        self.counters
            .iter()
            .map(|counters| counters.snapshot())
            .sum()
    }

    /// Makes each worker load the published snapshot again, idle ones included, so that it drops
    /// its reference to the snapshot before. Returns at once.
    pub fn wake(&self) {
        for (_, signal) in &self.threads {
            signal.wake();
        }
    }

    /// Why a worker has ended without being asked to, if one has. The daemon must not go on with
    /// fewer workers: what the kernel delivers to the dead worker's socket is lost.
    pub fn failed(&self) -> Option<String> {
        let text = self.failure.text.lock();
        text.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A descriptor that becomes readable as soon as [`Workers::failed`] returns a reason. To be
    /// polled, not read.
    pub fn failure_fd(&self) -> BorrowedFd<'_> {
        self.failure.event.as_fd()
    }

    /// Stops all workers and waits until they have ended. Datagrams not yet answered get no answer.
    ///
    /// # Errors
    ///
    /// `TimedOut` if a worker has not ended within five seconds; its thread keeps running.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop_all()
    }

    fn stop_all(&mut self) -> io::Result<()> {
        for (_, signal) in &self.threads {
            signal.stop();
        }
        let deadline = Instant::now() + Self::STOP_TIMEOUT;
        let mut stopped = Ok(());
        for (thread, _) in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // The exit reporter has reported a panic.
                let _ = thread.join();
            } else {
                stopped = Err(io::ErrorKind::TimedOut.into());
            }
        }
        stopped
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Errors cannot be returned from `drop`; call `stop` to get them.
        let _ = self.stop_all();
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("kind", &self.kind)
            .field("local_addr", &self.local_addr)
            .field("workers", &self.counters.len())
            .finish_non_exhaustive()
    }
}

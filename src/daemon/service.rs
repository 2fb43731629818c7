//! The running daemon: its start, and the control loop.
//!
//! Signals act during the start as well. The workers are started on a thread of their own, so that
//! a kernel that never answers cannot keep the control plane from handling signals.

use std::io;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::error::{Error, STATUS_PASSING};
use super::facts::{Facts, SocketFacts};
use super::log::Log;
use super::observers::Observers;
use super::options::Options;
use super::report::{self, Report};
use super::sandbox::{Mode, Sandbox};
use super::signals::{SignalRequest, Signals};
use super::{Exit, notify, self_check, watchdog};
use crate::engine::{self, EngineKind, Sockets, Workers};
use crate::reader::{Files, Io, Reader, SharedStatus};
use crate::remedy::{Operation, errno_of};
use crate::responder::{ReplayTable, Responder, Served};

/// Time in which the daemon must answer its own pings at the start.
const SELF_CHECK_MAX: Duration = Duration::from_secs(5);

/// The running daemon: the workers (data plane) and the reader (control plane).
pub(super) struct Service {
    pub(super) workers: Workers,
    reader: Reader,
    served: Arc<ArcSwap<Served>>,
    sandbox: Sandbox,
    sockets: SocketFacts,
}

/// The result of [`Service::start`].
pub(super) enum Started {
    /// The daemon serves.
    Serving(Box<Service>),
    /// A signal requested the end first.
    Stopped(Exit),
}

impl Service {
    /// Loads the files, starts the workers and asks them a question. Handles signals meanwhile.
    ///
    /// # Errors
    ///
    /// There is no usable key, no engine can run, or the daemon does not answer itself.
    pub(super) async fn start(
        sockets: Sockets,
        options: &Options,
        files: Files,
        signals: &mut Signals,
        log: &Log,
        sandbox: Sandbox,
    ) -> Result<Started, Error> {
        let mut start = pin!(Self::serving(sockets, options, files, sandbox));
        loop {
            tokio::select! {
                service = &mut start => return Ok(Started::Serving(Box::new(service?))),
                request = signals.next() => match request {
                    SignalRequest::Terminate => {
                        return Ok(Started::Stopped(Exit::Code(ExitCode::SUCCESS)));
                    }
                    SignalRequest::Interrupt => return Ok(Started::Stopped(Exit::Interrupted)),
                    SignalRequest::ReopenLog => reopen(log),
                    SignalRequest::SwitchDebug => log.switch_debug(),
                    SignalRequest::LogCounters => info!("Not serving yet, there are no counters"),
                },
            }
        }
    }

    async fn serving(
        sockets: Sockets,
        options: &Options,
        files: Files,
        sandbox: Sandbox,
    ) -> Result<Self, Error> {
        let mut reader = Reader::new(files, Io::Uring);
        // The strictest sandbox allows no other process.
        if options.sandbox != Mode::Strict {
            reader = reader.with_helper(Io::Uring);
        }
        let first = reader.first_load().await;
        let first = first.map_err(|error| Error::of_key(&error))?;
        let served = Arc::new(ArcSwap::from_pointee(first));
        let replays = options
            .replay_protection()
            .then(Arc::<ReplayTable>::default);
        let socket_facts = SocketFacts::from(&sockets);
        let confine = sandbox.worker_setup();
        let workers =
            start_workers(sockets, options.engine, served.clone(), replays, confine).await?;
        if let Some(reason) = workers.fallback_reason() {
            warn!("io_uring is not available, using recvmmsg: {reason}");
        }
        let (address, count) = (workers.local_addr(), workers.counters().len());
        self_check::ask(address, count, &served, SELF_CHECK_MAX)
            .await
            .map_err(|error| Error::new(error.to_string()))?;
        info!(
            "Serving {address}/udp, {count} workers, engine {}",
            workers.kind()
        );
        Ok(Self {
            workers,
            reader,
            served,
            sandbox,
            sockets: socket_facts,
        })
    }

    /// Serves until a signal requests the end or a worker fails, then stops the workers.
    pub(super) async fn run(self, signals: Signals, log: &Log, observers: Observers) -> Exit {
        let workers = &self.workers;
        let mut report = Report::default();
        let status = self.reader.status();
        let facts = Facts::of(workers, self.sockets, &status, self.sandbox.clone());
        notify::ready(workers, &status.read());
        let exit = tokio::select! {
            exit = control_loop(workers, &status, &mut report, signals, log) => exit,
            never = self.reader.run(Arc::clone(&self.served), || workers.wake()) => match never {},
            never = notify::report_changes(workers, &status) => never,
            never = observers.serve(facts) => match never {},
            never = watchdog::feed(workers, &self.served) => never,
        };
        notify::stopping();
        report.log_growth(workers.counters());
        if let Err(error) = self.workers.stop() {
            error!("A worker did not stop: {error}");
            return Exit::Code(ExitCode::from(STATUS_PASSING));
        }
        exit
    }
}

/// Starts the workers on a thread of their own.
///
/// # Errors
///
/// No engine can run.
async fn start_workers(
    sockets: Sockets,
    kind: Option<EngineKind>,
    served: Arc<ArcSwap<Served>>,
    replays: Option<Arc<ReplayTable>>,
    confine: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> Result<Workers, Error> {
    report::warn_about_buffers(sockets.buffer_sizes());
    let (sender, started) = oneshot::channel();
    let start = move || {
        let responder = || match &replays {
            Some(table) => Responder::new().with_replay_protection(Arc::clone(table)),
            None => Responder::new(),
        };
        // If nobody waits any more, this stops the workers.
        let _ = sender.send(engine::start_confined(
            sockets, kind, &served, responder, confine,
        ));
    };
    thread::Builder::new()
        .name("confd-start".into())
        .spawn(start)
        .map_err(|error| {
            let what = "cannot start the thread that starts the workers";
            Error::of_call(what, Operation::Thread, errno_of(&error))
        })?;
    match started.await {
        Ok(workers) => workers.map_err(|error| Error::new(error.to_string())),
        Err(_) => Err(Error::new(
            "cannot start the workers: an internal error, please report it",
        )),
    }
}

/// Handles signals, worker failures and the periodic report until the daemon must end.
async fn control_loop(
    workers: &Workers,
    status: &SharedStatus,
    report: &mut Report,
    mut signals: Signals,
    log: &Log,
) -> Exit {
    let mut failure = pin!(worker_failure(workers));
    let mut ticks = tokio::time::interval(report::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut loads = 0;
    loop {
        tokio::select! {
            request = signals.next() => match request {
                SignalRequest::Terminate => return Exit::Code(ExitCode::SUCCESS),
                SignalRequest::Interrupt => return Exit::Interrupted,
                SignalRequest::ReopenLog => notify::reloading(|| reopen(log)),
                SignalRequest::SwitchDebug => log.switch_debug(),
                SignalRequest::LogCounters => report::log_all(workers.counters()),
            },
            reason = &mut failure => {
                error!("Stopping: a worker failed: {reason}");
                return Exit::Code(ExitCode::from(STATUS_PASSING));
            }
            _ = ticks.tick() => {
                report.log_growth(workers.counters());
                log.report_missing();
                let loads_now = status.read().loads;
                if std::mem::replace(&mut loads, loads_now) != loads_now {
                    engine::release_freed_memory();
                }
            }
        }
    }
}

/// Waits until a worker ends without having been stopped, and returns the reason.
#[expect(
    deprecated,
    reason = "the replacement is unsafe; it requires an open descriptor, which BorrowedFd guarantees"
)]
async fn worker_failure(workers: &Workers) -> String {
    let reason = || {
        let failed = workers.failed();
        failed.unwrap_or_else(|| "no reason was recorded".to_owned())
    };
    match AsyncFd::new(workers.failure_fd()) {
        Ok(fd) => match fd.readable().await {
            Ok(_) => reason(),
            Err(error) => error.to_string(),
        },
        Err(error) => format!("cannot watch the workers: {error}"),
    }
}

/// Reopens the log file, and logs the result.
fn reopen(log: &Log) {
    match log.reopen() {
        Ok(()) => info!("Log file reopened"),
        Err(failure) => error!("{failure}"),
    }
}

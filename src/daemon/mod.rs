//! The daemon: options, checks, detaching, log, pid file and signals. Connects the other modules.
//!
//! The steps, in order; each is undone when its scope ends:
//!
//! ```text
//! options -> accounts -> address          errors go to the terminal, from the started process
//!   [detach]                              the rest runs in the child; the parent waits
//! log -> signals -> pid file -> socket
//!   -> key and configuration -> workers
//! ready                                   the parent exits with 0; notifies a service manager
//! control loop                            signals, reader, counters, failed workers
//! workers -> pid file -> log
//! ```
//!
//! Invariants: the daemon never runs partially (every failure ends the process with status 1);
//! signals are handled before the pid file says where to send them; only this module prints.
//!
//! Source: ganeti-confd(8), `Ganeti.Daemon.genericMain` of version 3.0.2.
#![forbid(unsafe_code)]

mod accounts;
mod address;
mod check;
mod demo;
mod detach;
mod error;
mod listen_fds;
mod log;
mod options;
mod pid_file;
mod report;
mod signals;

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::io::unix::AsyncFd;
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use crate::engine::{self, Sockets, Workers};
use crate::node_files::NodeFiles;
use crate::reader::{Files, Io, Reader};
use crate::responder::{ReplayTable, Responder, Served};
use demo::Demo;
use error::Error;
use log::{Log, NOTICE};
use options::{Options, Syslog};
use pid_file::PidFile;
use report::Report;
use signals::{SignalRequest, Signals};

/// Runs `ganeti-confd` with this process's command line and environment.
pub fn main() -> ExitCode {
    // The main thread has this name even if the executable has another, as in the reference:
    // daemon-util finds the daemon by it (start-stop-daemon --name).
    let _ = nix::sys::prctl::set_name(c"ganeti-confd");
    let ending = match Options::parse_from_args(std::env::args_os()) {
        Ok(options) => execute(&options),
        Err(refusal) => {
            print_error(&refusal.text);
            return ExitCode::from(refusal.status);
        }
    };
    match ending {
        Ok(Exit::Exit(code)) => code,
        Ok(Exit::Interrupted) => die_of_interrupt(),
        Err(failure) => {
            print_error(&format!("ganeti-confd: {failure}\n"));
            ExitCode::FAILURE
        }
    }
}

/// The definition of the daemon's command line, for its man page.
pub fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

/// How the process ends after a successful start.
#[derive(Debug)]
enum Exit {
    Exit(ExitCode),
    /// By SIGINT, after an orderly shutdown.
    Interrupted,
}

fn print_error(text: &str) {
    // A closed standard error must not change how the process ends.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Ends the process by SIGINT, as if it had no handler: shells see status 130, service managers no
/// failure.
fn die_of_interrupt() -> ExitCode {
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGINT);
    ExitCode::from(130)
}

fn execute(options: &Options) -> Result<Exit, Error> {
    if let Some(text) = options.information() {
        let _ = io::stdout().write_all(text.as_bytes());
        return Ok(Exit::Exit(ExitCode::SUCCESS));
    }
    let paths = Paths::from_environment(options);
    if options.check {
        return Ok(Exit::Exit(check::check(&paths.files)));
    }
    let passed = listen_fds::take(options)?;
    if let Some(size) = options.demo {
        let demo = Demo::create(size, options)?;
        let log = Log::open(log_settings(options, None, true))?;
        return on_control_plane(&log, |io| serve_demo(&demo, options, &log, io));
    }
    if !options.no_user_checks {
        accounts::check()?;
    }
    let address = match &passed {
        Some(sockets) => sockets.local_addr(),
        None => address::choose(options.bind, options.port, &paths.family)?,
    };
    let child = detach::is_child();
    if !options.foreground && !child {
        return detach::start().map(Exit::Exit);
    }
    if child {
        detach::enter_background()?;
    }
    let log = Log::open(log_settings(options, Some(paths.log.clone()), !child))?;
    on_control_plane(&log, |io| {
        serve_cluster(&paths, address, passed, options, &log, io)
    })
}

/// The paths of all files.
#[derive(Debug)]
struct Paths {
    files: Files,
    family: PathBuf,
    pid: PathBuf,
    log: PathBuf,
}

impl Paths {
    /// Ganeti's paths, or those that options name.
    fn from_environment(options: &Options) -> Self {
        let node = NodeFiles::from_env();
        let given = |path: &Option<PathBuf>| path.as_deref().map(absolute);
        Self {
            files: Files {
                config: given(&options.config).unwrap_or_else(|| absolute(&node.config())),
                key: given(&options.key).unwrap_or_else(|| absolute(&node.key())),
                on_bad_config: options.on_bad_config(),
            },
            family: absolute(&node.family()),
            pid: absolute(&node.pid()),
            log: absolute(&node.log()),
        }
    }
}

/// Makes `path` absolute, because detaching changes the working directory. An absolute path stays
/// as it is: error answers quote it.
fn absolute(path: &Path) -> PathBuf {
    if path.is_absolute() {
        return path.to_owned();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn log_settings(options: &Options, file: Option<PathBuf>, foreground: bool) -> log::LogSettings {
    log::LogSettings {
        syslog: if file.is_some() {
            options.syslog()
        } else {
            Syslog::No
        },
        file,
        foreground,
        debug: options.debug,
    }
}

/// Runs `serve` on a tokio-uring runtime, or on a tokio runtime if io_uring is not available.
fn on_control_plane<F: Future<Output = Result<Exit, Error>>>(
    log: &Log,
    serve: impl FnOnce(Io) -> F,
) -> Result<Exit, Error> {
    let ending = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
        Ok(runtime) => runtime.block_on(serve(Io::Uring)),
        Err(why) => match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(runtime) => {
                debug!("Reading files without io_uring, which is not available: {why}");
                runtime.block_on(serve(Io::Blocking))
            }
            Err(error) => Err(Error::new(format!(
                "cannot start the control plane: {error}"
            ))),
        },
    };
    ending.inspect_err(|failure| log.record(failure))
}

async fn serve_demo(demo: &Demo, options: &Options, log: &Log, io: Io) -> Result<Exit, Error> {
    let signals = Signals::catch()?;
    let sockets = demo::bind(options)?;
    let service = Service::start(sockets, options, demo.files.clone(), io).await?;
    demo.print_demo_help(service.workers.local_addr());
    Ok(service.run(signals, log).await)
}

async fn serve_cluster(
    paths: &Paths,
    address: SocketAddr,
    passed: Option<Sockets>,
    options: &Options,
    log: &Log,
    io: Io,
) -> Result<Exit, Error> {
    let signals = Signals::catch()?;
    let pid_file = PidFile::create(&paths.pid)?;
    info!(target: NOTICE, "ganeti-confd daemon startup");
    let sockets = match passed {
        Some(sockets) => {
            info!("Using {} sockets of the service manager", sockets.count());
            sockets
        }
        None => bound(engine::bind(address, options.workers()), address)?,
    };
    let service = Service::start(sockets, options, paths.files.clone(), io).await?;
    log.leave_terminal();
    let ending = service.run(signals, log).await;
    drop(pid_file);
    info!(target: NOTICE, "ganeti-confd daemon shutdown");
    Ok(ending)
}

/// Adds the address and a remedy to an error of binding.
fn bound(sockets: io::Result<Sockets>, address: SocketAddr) -> Result<Sockets, Error> {
    sockets.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the process that has this port (see: ss -ulpn), or give another --port"
            }
            io::ErrorKind::AddrNotAvailable => {
                "give --bind an address of this host (see: ip address)"
            }
            io::ErrorKind::PermissionDenied => "give a --port above 1023, or start it as root",
            _ => "give another --bind or --port",
        };
        Error::new(format!("cannot bind UDP {address}: {error}; {remedy}"))
    })
}

/// The running control plane and data plane.
struct Service {
    workers: Workers,
    reader: Reader,
    served: Arc<ArcSwap<Served>>,
}

impl Service {
    /// Loads the files and starts the workers.
    async fn start(
        sockets: Sockets,
        options: &Options,
        files: Files,
        io: Io,
    ) -> Result<Self, Error> {
        let mut reader = Reader::new(files, io);
        let first = reader
            .first_load()
            .await
            .map_err(|error| Error::new(error.to_string()))?;
        let served = Arc::new(ArcSwap::from_pointee(first));
        let replays = options
            .replay_protection()
            .then(Arc::<ReplayTable>::default);
        let responder = || match &replays {
            Some(table) => Responder::new().with_replay_protection(Arc::clone(table)),
            None => Responder::new(),
        };
        let workers = engine::start(sockets, options.engine, &served, responder)
            .map_err(|error| Error::new(error.to_string()))?;
        if let Some(why) = workers.fallback_reason() {
            warn!("io_uring is not available, using recvmmsg: {why}");
        }
        info!(
            "Serving {}/udp, {} workers, engine {}",
            workers.local_addr(),
            workers.counters().len(),
            workers.kind()
        );
        Ok(Self {
            workers,
            reader,
            served,
        })
    }

    /// Serves until a signal says to stop, or until a worker fails.
    async fn run(self, signals: Signals, log: &Log) -> Exit {
        let Self {
            reader,
            served,
            workers,
        } = self;
        notify(NotifyState::Ready);
        let mut report = Report::default();
        let exit = control_loop(reader, served, &workers, &mut report, signals, log).await;
        notify(NotifyState::Stopping);
        report.log_growth(workers.counters());
        if let Err(error) = workers.stop() {
            error!("A worker did not stop: {error}");
            return Exit::Exit(ExitCode::FAILURE);
        }
        exit
    }
}

/// Follows the files and handles signals until one says to stop, or until a worker fails.
async fn control_loop(
    reader: Reader,
    served: Arc<ArcSwap<Served>>,
    workers: &Workers,
    report: &mut Report,
    mut signals: Signals,
    log: &Log,
) -> Exit {
    let status = reader.status();
    let mut loads = 0;
    let mut reading = pin!(reader.run(served, || workers.wake()));
    let mut failure = pin!(failure(workers));
    let mut ticks = tokio::time::interval(report::INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            request = signals.next() => match request {
                SignalRequest::Terminate => return Exit::Exit(ExitCode::SUCCESS),
                SignalRequest::Interrupt => return Exit::Interrupted,
                SignalRequest::ReopenLog => reopen(log),
                SignalRequest::LogCounters => report::log_all(workers.counters()),
            },
            why = &mut failure => {
                error!("Stopping: a worker failed: {why}");
                return Exit::Exit(ExitCode::FAILURE);
            }
            _ = ticks.tick() => {
                report.log_growth(workers.counters());
                let loads_now = status.read().loads;
                if std::mem::replace(&mut loads, loads_now) != loads_now {
                    engine::release_freed_memory();
                }
            }
            never = &mut reading => match never {},
        }
    }
}

/// Waits until a worker fails, and returns why.
#[expect(
    deprecated,
    reason = "its successor is an unsafe function, which asks for what a BorrowedFd keeps by itself"
)]
async fn failure(workers: &Workers) -> String {
    let why = || {
        workers
            .failed()
            .unwrap_or_else(|| "without a word".to_owned())
    };
    match AsyncFd::new(workers.failure_fd()) {
        Ok(fd) => match fd.readable().await {
            Ok(_) => why(),
            Err(error) => error.to_string(),
        },
        Err(error) => format!("cannot watch the workers: {error}"),
    }
}

fn reopen(log: &Log) {
    match log.reopen() {
        Ok(()) => info!("Log file reopened"),
        Err(failure) => error!("{failure}"),
    }
}

/// Notifies the service manager, if it asked for notifications (`NOTIFY_SOCKET`).
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("Cannot notify the service manager: {error}");
    }
}

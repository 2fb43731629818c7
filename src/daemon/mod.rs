//! The daemon: options, checks, detaching, log, pid file and signals. It connects the other
//! modules.
//!
//! The steps in order. When the daemon ends, they are undone in reverse order.
//!
//! ```text
//! options -> accounts -> address        errors go to the terminal
//!   [detach]                            the child continues; the parent waits until it serves
//! signals -> log -> limits -> pid file -> socket -> metrics, status socket
//! sandbox                               rights that are not needed from here on are given up
//!   -> key and configuration -> workers -> self-check
//! ready                                 the parent exits with 0; the service manager is notified
//! control loop                          signals, reader, counters, watchdog, failed workers
//! stop workers -> remove pid file
//! ```
//!
//! Invariants: any failure ends the whole process with the status of `error`, so that no part of
//! the daemon runs without the others; signals are received before the pid file exists;
//! only this module, `check`, `demo` and `panics` print.
//!
//! Source: ganeti-confd(8), `Ganeti.Daemon.genericMain` of version 3.0.2.
#![forbid(unsafe_code)]

mod accounts;
mod address;
mod check;
mod demo;
mod detach;
mod error;
mod facts;
mod journal;
mod listen_fds;
mod log;
mod log_file;
mod metrics;
mod notify;
mod observers;
mod options;
mod panics;
mod pid_file;
mod report;
mod resources;
mod sandbox;
mod self_check;
mod service;
mod signals;
mod watchdog;

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tracing::info;

use crate::engine::{self, Sockets};
use crate::node_files::NodeFiles;
use crate::reader::{self, Files};
use crate::remedy::{Operation, errno_of};
use demo::Demo;
use error::Error;
use log::{Log, NOTICE};
use observers::Observers;
use options::{Options, Syslog};
use pid_file::PidFile;
use sandbox::{Places, Sandbox};
use service::{Service, Started};
use signals::Signals;

/// Runs `ganeti-confd` with this process's command line and environment.
pub fn main() -> ExitCode {
    engine::use_one_heap();
    if reader::is_helper() {
        return reader::run_helper();
    }
    // daemon-util finds the daemon by the name of its main thread (start-stop-daemon --name). As in
    // the reference, it does not depend on the name of the executable.
    let _ = nix::sys::prctl::set_name(c"ganeti-confd");
    panics::report_in_one_line();
    let result = match Options::parse_from_args(std::env::args_os()) {
        Ok(options) => execute(&options),
        Err(error) => {
            print_error(&error.text);
            return ExitCode::from(error.status);
        }
    };
    match result {
        Ok(Exit::Code(code)) => code,
        Ok(Exit::Interrupted) => exit_by_sigint(),
        Err(failure) => {
            print_error(&format!("ganeti-confd: {failure}\n"));
            ExitCode::from(failure.status())
        }
    }
}

/// The definition of the daemon's command line, for its man page.
pub fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

/// How the process ends after it has started without an error.
#[derive(Debug)]
enum Exit {
    /// With this exit status.
    Code(ExitCode),
    /// By SIGINT, after the workers have stopped.
    Interrupted,
}

fn print_error(text: &str) {
    // A closed standard error must not change the exit status.
    let _ = io::stderr().write_all(journal::marked_as_error(text).as_bytes());
}

/// Ends the process as SIGINT without a handler does.
///
/// Shells then report status 130, and service managers do not count it as a failure.
fn exit_by_sigint() -> ExitCode {
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGINT);
    ExitCode::from(130)
}

/// Carries out the command line.
fn execute(options: &Options) -> Result<Exit, Error> {
    if let Some(text) = options.information() {
        let _ = io::stdout().write_all(text.as_bytes());
        return Ok(Exit::Code(ExitCode::SUCCESS));
    }
    let child = detach::is_child();
    if child {
        detach::close_inherited();
    }
    let paths = Paths::from_environment(options);
    if options.check {
        return Ok(Exit::Code(check::check(options, &paths)));
    }
    let passed = listen_fds::take(options)?;
    if let Some(size) = options.demo {
        let signals = Signals::catch()?;
        let demo = Demo::create(size, options)?;
        let log = Log::open(log_settings(options, None, true))?;
        let serve = serve_demo(&demo, options, signals, &log);
        return on_control_plane(&log, options.workers(), serve);
    }
    if !options.no_user_checks {
        accounts::check()?;
    }
    let listen = match passed {
        Some(sockets) => Listen::Passed(sockets),
        None => Listen::At(address::choose(options.bind, options.port, &paths.family)?),
    };
    if !options.foreground && !child {
        return detach::start().map(Exit::Code);
    }
    let signals = Signals::catch()?;
    if child {
        detach::enter_background()?;
    }
    let log = Log::open(log_settings(options, Some(paths.log.clone()), !child))?;
    let workers = match &listen {
        Listen::Passed(sockets) => sockets.count(),
        Listen::At(_) => options.workers(),
    };
    let serve = serve_cluster(&paths, listen, options, signals, &log);
    on_control_plane(&log, workers, serve)
}

/// Where the daemon's sockets come from.
enum Listen {
    /// The service manager passed them.
    Passed(Sockets),
    /// The daemon binds them.
    At(address::Chosen),
}

/// The absolute paths of the daemon's files.
#[derive(Debug)]
struct Paths {
    files: Files,
    family: PathBuf,
    pid: PathBuf,
    status: PathBuf,
    log: PathBuf,
}

impl Paths {
    /// Returns Ganeti's paths, with those of `--config` and `--key` replaced.
    fn from_environment(options: &Options) -> Self {
        let node = NodeFiles::from_env();
        let given = |path: &Option<PathBuf>| path.as_deref().map(absolute);
        Self {
            files: Files {
                config: given(&options.config).unwrap_or_else(|| absolute(&node.config())),
                key: given(&options.key).unwrap_or_else(|| absolute(&node.key())),
                keep_last_good: options.keep_last_good(),
            },
            family: absolute(&node.family()),
            pid: absolute(&node.pid()),
            status: absolute(&node.status_socket()),
            log: absolute(&node.log()),
        }
    }

    /// What the daemon reads, creates and removes after its start.
    fn places(&self) -> Places {
        Places {
            read: vec![self.files.config.clone(), self.files.key.clone()],
            written: vec![self.log.clone(), self.pid.clone(), self.status.clone()],
        }
    }
}

/// Makes a path independent of the working directory, which changes when the daemon detaches.
///
/// An absolute path stays exactly as it is, because error answers quote it.
fn absolute(path: &Path) -> PathBuf {
    if path.is_absolute() {
        return path.to_owned();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Builds the settings of the log. Syslog is used only if there is a log file, so never by a demo.
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
        format: options.log_format,
    }
}

/// Runs `serve` on the control plane's runtime: plain tokio, on this thread.
fn on_control_plane(
    log: &Log,
    workers: usize,
    serve: impl Future<Output = Result<Exit, Error>>,
) -> Result<Exit, Error> {
    let runtime = || {
        resources::check(workers)?;
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().map_err(|error| {
            let what = "cannot start the control plane";
            Error::of_call(what, Operation::Other, errno_of(&error))
        })
    };
    let result = match runtime() {
        Ok(runtime) => runtime.block_on(serve),
        Err(failure) => Err(failure),
    };
    result.inspect_err(|failure| log.record(failure))
}

async fn serve_demo(
    demo: &Demo,
    options: &Options,
    mut signals: Signals,
    log: &Log,
) -> Result<Exit, Error> {
    let sockets = demo::bind(options)?;
    let files = demo.files.clone();
    let status = files.config.with_file_name("ganeti-confd.sock");
    let observers = Observers::bind(options.metrics, Some(&status))?;
    // A demo removes its directory at its end, and serves no cluster.
    let sandbox = Sandbox::default();
    match Service::start(sockets, options, files, &mut signals, log, sandbox).await? {
        Started::Serving(service) => {
            demo.print_demo_help(service.workers.local_addr());
            Ok(service.run(signals, log, observers).await)
        }
        Started::Stopped(exit) => Ok(exit),
    }
}

async fn serve_cluster(
    paths: &Paths,
    listen: Listen,
    options: &Options,
    mut signals: Signals,
    log: &Log,
) -> Result<Exit, Error> {
    let pid_file = PidFile::create(&paths.pid)?;
    info!(target: NOTICE, "ganeti-confd daemon startup");
    let sockets = match listen {
        Listen::Passed(sockets) => {
            info!("Using {} sockets from the service manager", sockets.count());
            sockets
        }
        Listen::At(chosen) => {
            chosen.log_port_origin();
            let address = chosen.address;
            bound(engine::bind(address, options.workers()), address)?
        }
    };
    let observers = Observers::bind(options.metrics, Some(&paths.status))?;
    let sandbox = Sandbox::enter(options.sandbox, &paths.places())?;
    info!("Sandbox: {sandbox}");
    let files = paths.files.clone();
    let start = Service::start(sockets, options, files, &mut signals, log, sandbox);
    let exit = match start.await? {
        Started::Serving(service) => {
            log.leave_terminal();
            service.run(signals, log, observers).await
        }
        Started::Stopped(exit) => exit,
    };
    drop(pid_file);
    info!(target: NOTICE, "ganeti-confd daemon shutdown");
    Ok(exit)
}

/// Adds the address and a remedy to an error of [`engine::bind`].
fn bound(sockets: io::Result<Sockets>, address: SocketAddr) -> Result<Sockets, Error> {
    sockets.map_err(|error| {
        let what = format!("cannot bind UDP {address}");
        Error::of_call(what, Operation::Bind, errno_of(&error))
    })
}

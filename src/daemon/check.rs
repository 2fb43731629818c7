//! `--check`: takes the steps of a start, without serving and without changing a file.
//!
//! The steps are those of [`super::execute`], by the same functions. The port is not bound, because
//! a running daemon would lose datagrams to a second socket; the workers serve a port of their own
//! on loopback instead.
//!
//! With `--config` or `--key` only these files are checked: they may be those of another host.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use super::error::{Error, STATUS_LASTING};
use super::log::event_text;
use super::log_file::LogFile;
use super::options::Options;
use super::pid_file::{self, Holder};
use super::sandbox::Sandbox;
use super::{Paths, accounts, address, resources};
use crate::engine;
use crate::printable::printable;
use crate::protocol::Key;
use crate::reader::{load_config, load_key};
use crate::responder::{Responder, Served};
use crate::snapshot::{Loaded, Snapshot};

/// Takes all steps, and prints the result of each to standard output, or its error to standard
/// error. The exit status is a failure if one failed.
pub(super) fn check(options: &Options, paths: &Paths) -> ExitCode {
    // This fails only if a subscriber is installed already.
    let _ = Registry::default().with(Warnings).try_init();
    let mut report = Report { failed: false };
    let only_files = options.config.is_some() || options.key.is_some();
    if !only_files {
        report.step(user(options));
        report.step(port(options, paths));
        report.step(log(paths));
        report.step(limits(options));
        report.step(pid(paths));
        // The steps that follow have its restrictions, as in a start.
        report.step(sandbox(options, paths));
    }
    let (key, snapshot) = files(paths, &mut report);
    if !only_files {
        report.step(engine(options, key, snapshot));
    }
    if report.failed {
        ExitCode::from(STATUS_LASTING)
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints results.
struct Report {
    failed: bool,
}

impl Report {
    fn step(&mut self, result: Result<String, Error>) {
        // If the output is closed, the exit status still reports the result.
        let _ = match result {
            Ok(line) => writeln!(io::stdout(), "{}", printable(&line)),
            Err(failure) => {
                self.failed = true;
                writeln!(io::stderr(), "ganeti-confd: {failure}")
            }
        };
    }
}

/// Prints the warnings that the steps log.
struct Warnings;

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            let _ = writeln!(io::stdout(), "warning: {}", printable(&event_text(event)));
        }
    }
}

/// Checks the accounts. Root then takes the rights of the daemon's user for the other steps.
fn user(options: &Options) -> Result<String, Error> {
    if options.no_user_checks {
        return Ok("user: not checked (--no-user-checks)".into());
    }
    if nix::unistd::getuid().is_root() {
        accounts::become_daemon()?;
    }
    accounts::check()?;
    Ok(format!("user: {}", accounts::CONFD_USER))
}

fn port(options: &Options, paths: &Paths) -> Result<String, Error> {
    let chosen = address::choose(options.bind, options.port, &paths.family)?;
    chosen.log_port_origin();
    Ok(format!("address: {}/udp", chosen.address))
}

fn log(paths: &Paths) -> Result<String, Error> {
    let path = paths.log.display();
    Ok(match LogFile::open_existing(&paths.log)? {
        Some(_) => format!("{path}: writable"),
        None => format!("{path}: can be made"),
    })
}

fn limits(options: &Options) -> Result<String, Error> {
    resources::check(options.workers()).map(|()| "limits: high enough".into())
}

fn sandbox(options: &Options, paths: &Paths) -> Result<String, Error> {
    let sandbox = Sandbox::enter(options.sandbox, &paths.places())?;
    Ok(format!("sandbox: {sandbox}"))
}

fn pid(paths: &Paths) -> Result<String, Error> {
    let path = paths.pid.display();
    Ok(match pid_file::holder(&paths.pid)? {
        Holder::None => format!("{path}: writable"),
        Holder::NoFile => format!("{path}: can be made"),
        Holder::Process(pid) => format!("{path}: locked by process {pid}, a daemon is running"),
    })
}

/// Loads the key and the configuration. In place of those that cannot be used, returns ones for the
/// step that follows.
fn files(paths: &Paths, report: &mut Report) -> (Key, Snapshot) {
    let (config, key) = (&paths.files.config, &paths.files.key);
    let snapshot = match load_config(config) {
        Ok(Loaded { snapshot, warnings }) => {
            report.step(Ok(about(&config.display(), &snapshot)));
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            snapshot
        }
        Err(error) => {
            report.step(Err(Error::new(error.to_string())));
            Snapshot::unavailable("no configuration")
        }
    };
    let key = match load_key(key) {
        Ok(usable) => {
            report.step(Ok(format!("{}: usable", key.display())));
            usable
        }
        Err(error) => {
            report.step(Err(Error::of_key(&error)));
            Key::new(b"a key for the engine's check").expect("the key has bytes")
        }
    };
    (key, snapshot)
}

/// A line about the configuration.
fn about(path: &impl std::fmt::Display, snapshot: &Snapshot) -> String {
    match snapshot.summary() {
        Some(about) => format!(
            "{path}: cluster {}, serial {}: {} nodes, {} node groups, {} instances, {} disks, \
             {} networks, {} filters",
            about.cluster_name,
            about.serial_no,
            about.nodes,
            about.groups,
            about.instances,
            about.disks,
            about.networks,
            about.filters,
        ),
        None => format!("{path}: usable"),
    }
}

/// Starts the workers on a free port of loopback, and stops them.
fn engine(options: &Options, key: Key, snapshot: Snapshot) -> Result<String, Error> {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let sockets = super::bound(engine::bind(address, options.workers()), address)?;
    let served = Served {
        key: Arc::new(key),
        snapshot: Arc::new(snapshot),
    };
    let served = Arc::new(ArcSwap::from_pointee(served));
    let failed = |error: &dyn std::fmt::Display| Error::new(error.to_string());
    let workers = engine::start(sockets, options.engine, &served, Responder::new)
        .map_err(|error| failed(&error))?;
    if let Some(reason) = workers.fallback_reason() {
        tracing::warn!("io_uring is not available, using recvmmsg: {reason}");
    }
    let line = format!(
        "engine: {}, {} workers",
        workers.kind(),
        workers.counters().len()
    );
    workers.stop().map_err(|error| failed(&error))?;
    Ok(line)
}

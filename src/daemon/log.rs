//! The log: writes `tracing` events to a file, to syslog, and in the foreground to standard error.
//!
//! Invariants: an event is always one line, because control characters are escaped; logging never
//! blocks on syslog; errors of the log itself are ignored, because there is nowhere to report them;
//! the lock is held only while the file is written or replaced.
//!
//! The line format is the reference's without the thread name:
//! `2026-11-22 13:40:21,472245 UTC: ganeti-confd pid=19830 INFO message`.
//!
//! Source: `Ganeti.Logging.setupLogging` of version 3.0.2; syslog(3), RFC 3164 section 4.1 for the
//! priority.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use super::error::Error;
use super::options::Syslog;
use crate::printable::printable;

/// Target of `INFO` events that are logged with the level `NOTICE`, as in syslog.
pub(super) const NOTICE: &str = "ganeti_confd::notice";

/// The socket of the local syslog daemon.
const SYSLOG_SOCKET: &str = "/dev/log";
/// The facility `daemon`, shifted to its position in a priority.
const SYSLOG_FACILITY: u8 = 3 << 3;

/// What to log, and where.
#[derive(Clone, Debug)]
pub(super) struct LogSettings {
    /// The log file, opened for appending. `None` for a demo.
    pub(super) file: Option<PathBuf>,
    /// Whether to log to standard error as well.
    pub(super) foreground: bool,
    pub(super) syslog: Syslog,
    pub(super) debug: bool,
}

/// The open log. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Log(Arc<Sinks>);

#[derive(Debug)]
struct Sinks {
    settings: LogSettings,
    file: Mutex<Option<File>>,
    syslog: Option<UnixDatagram>,
}

impl Log {
    /// Opens the log file and the syslog socket, and installs the log as the global subscriber.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or no syslog daemon listens.
    pub(super) fn open(settings: LogSettings) -> Result<Self, Error> {
        let file = settings.file().map(open_file).transpose()?;
        let syslog = match settings.syslog {
            Syslog::No => None,
            Syslog::Yes | Syslog::Only => Some(open_syslog()?),
        };
        let level = if settings.debug {
            Level::DEBUG
        } else {
            Level::INFO
        };
        let filter = Targets::new()
            .with_default(Level::WARN)
            .with_target("ganeti_confd", level);
        let log = Self(Arc::new(Sinks {
            settings,
            file: Mutex::new(file),
            syslog,
        }));
        let layer = LogLayer(log.clone()).with_filter(filter);
        // This fails only if a subscriber is installed already; a process opens one log.
        let _ = Registry::default().with(layer).try_init();
        Ok(log)
    }

    /// Reopens the log file by name, after log rotation. On an error, the old file stays in use.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        if let Some(path) = self.0.settings.file() {
            let file = open_file(path)?;
            if !self.0.settings.foreground {
                super::detach::redirect(&file);
            }
            *self.file() = Some(file);
        }
        Ok(())
    }

    /// In the background: reports to the parent that the daemon serves, and detaches from its
    /// terminal.
    pub(super) fn leave_terminal(&self) {
        if let Some(file) = &*self.file()
            && !self.0.settings.foreground
        {
            super::detach::ready(file);
        }
    }

    /// Logs a startup error, except to standard error, where `main` prints it.
    pub(super) fn record(&self, failure: &Error) {
        self.write(Severity::Error, &failure.to_string(), false);
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, severity: Severity, message: &str, to_stderr: bool) {
        let message = printable(message);
        let line = format!(
            "{} ganeti-confd pid={} {severity} {message}\n",
            timestamp(),
            std::process::id()
        );
        // Errors are ignored: a full disk must not stop the daemon.
        if self.0.settings.syslog != Syslog::Only
            && let Some(file) = &mut *self.file()
        {
            let _ = file.write_all(line.as_bytes());
        }
        if to_stderr && self.0.settings.foreground {
            let _ = io::stderr().write_all(line.as_bytes());
        }
        if let Some(socket) = &self.0.syslog
            && severity != Severity::Debug
        {
            let priority = SYSLOG_FACILITY | severity as u8;
            let datagram = format!(
                "<{priority}>ganeti-confd[{}]: {message}",
                std::process::id()
            );
            // Sent by name each time, because the syslog daemon may have been restarted.
            let _ = socket.send_to(datagram.as_bytes(), SYSLOG_SOCKET);
        }
    }
}

impl LogSettings {
    /// The file to keep open.
    ///
    /// In the background, it receives standard output and standard error even if all events go to
    /// syslog.
    fn file(&self) -> Option<&Path> {
        let needed = self.syslog != Syslog::Only || !self.foreground;
        self.file.as_deref().filter(|_| needed)
    }
}

fn open_file(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| {
        Error::new(format!(
            "cannot open the log file {}: {error}; make sure that its directory exists and is \
             writable for this user",
            path.display()
        ))
    })
}

fn open_syslog() -> Result<UnixDatagram, Error> {
    let connect = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Only checks that a syslog daemon listens; messages are sent by name.
        UnixDatagram::unbound()?.connect(SYSLOG_SOCKET)?;
        Ok(socket)
    };
    connect().map_err(|error: io::Error| {
        Error::new(format!(
            "cannot log to syslog at {SYSLOG_SOCKET}: {error}; start a syslog daemon, or use \
             --syslog=no"
        ))
    })
}

/// Formats the current time as `2026-11-22 13:40:21,472245 UTC:`.
fn timestamp() -> String {
    let mut text = String::with_capacity(32);
    // RFC 3339 in UTC with microseconds. Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text.replace('T', " ")
        .replace('.', ",")
        .replace('Z', " UTC:")
}

/// The severity of an event; the values are those of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Severity {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

impl Severity {
    fn of(event: &Metadata<'_>) -> Self {
        match *event.level() {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO if event.target() == NOTICE => Self::Notice,
            Level::INFO => Self::Info,
            Level::DEBUG | Level::TRACE => Self::Debug,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        })
    }
}

/// The `tracing` layer that writes events to the log.
struct LogLayer(Log);

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = EventText::default();
        event.record(&mut text);
        self.0.write(Severity::of(event.metadata()), &text.0, true);
    }
}

/// The text of an event: its message, then its fields as `name=value`.
#[derive(Default)]
struct EventText(String);

impl Visit for EventText {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = &mut self.0;
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(text, "{value:?}"),
            name => write!(text, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_has_the_format_of_the_reference() {
        let now = timestamp();
        let shape: String = now
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00 00:00:00,000000 UTC:");
    }
}

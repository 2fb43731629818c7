//! The log: writes `tracing` events to a file, to syslog, and in the foreground to standard error
//! or to the systemd journal.
//!
//! Invariants: an event is always one line, because control characters are escaped; logging never
//! blocks on syslog; errors of the log itself are ignored, because there is nowhere to report them;
//! the lock is held only while the file is written or replaced.
//!
//! The line format is the reference's without the thread name:
//! `2026-11-22 13:40:21,472245 UTC: ganeti-confd pid=19830 INFO message`. With `--log-format=json`
//! it is a JSON object.
//!
//! Source: `Ganeti.Logging.setupLogging` of version 3.0.2; syslog(3), RFC 3164 section 4.1 for the
//! priority.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, info};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layered, SubscriberExt as _};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

use super::error::Error;
use super::journal;
use super::log_file::{LogFile, Missing};
use super::options::{LogFormat, Syslog};
use crate::printable::printable;
use crate::remedy::{self, Operation, errno_of, limit_or};

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
    /// `None`: text, and the journal if standard error is the journal.
    pub(super) format: Option<LogFormat>,
}

/// The open log. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Log(Arc<Sinks>);

#[derive(Debug)]
struct Sinks {
    settings: LogSettings,
    file: Mutex<Option<LogFile>>,
    syslog: Option<UnixDatagram>,
    /// Whether the journal receives the events instead of standard error.
    journal: bool,
    filter: reload::Handle<Targets, Registry>,
}

impl Log {
    /// Opens the log file and the syslog socket, and installs the log as the global subscriber.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or no syslog daemon or no journal listens.
    pub(super) fn open(settings: LogSettings) -> Result<Self, Error> {
        let file = settings.file().map(LogFile::open).transpose()?;
        let syslog = match settings.syslog {
            Syslog::No => None,
            Syslog::Yes | Syslog::Only => Some(open_syslog()?),
        };
        let journal = settings.open_journal()?;
        let (layer, filter) = reload::Layer::new(filter(settings.debug));
        let log = Self(Arc::new(Sinks {
            settings,
            file: Mutex::new(file),
            syslog,
            journal: journal.is_some(),
            filter,
        }));
        // This fails only if a subscriber is installed already; a process opens one log.
        let _ = Registry::default()
            .with(layer)
            .with(LogLayer(log.clone()))
            .with(journal)
            .try_init();
        Ok(log)
    }

    /// Starts logging debug messages, or stops it.
    pub(super) fn switch_debug(&self) {
        let debug = !self.is_debug();
        // This fails only if the log was never installed.
        let _ = self.0.filter.reload(filter(debug));
        let logged = if debug { "logged" } else { "not logged" };
        info!("Debug messages are {logged} from now on");
    }

    /// Whether debug messages are logged.
    pub(super) fn is_debug(&self) -> bool {
        let is_debug = |current: &Targets| *current == filter(true);
        self.0.filter.with_current(is_debug).unwrap_or(false)
    }

    /// Reopens the log file by name, after log rotation. On an error, the old file stays in use.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(super) fn reopen(&self) -> Result<(), Error> {
        if let Some(path) = self.0.settings.file()
            && let Some(file) = &mut *self.file()
        {
            file.reopen(path)?;
            if !self.0.settings.foreground {
                super::detach::redirect(file.file());
            }
        }
        Ok(())
    }

    /// Writes the number of lines that the file lacks, if there are such lines and it has room now.
    pub(super) fn report_missing(&self) {
        if let Some(file) = &mut *self.file() {
            file.report_missing(|missing| self.missing_line(missing));
        }
    }

    /// In the background: reports to the parent that the daemon serves, and detaches from its
    /// terminal.
    pub(super) fn leave_terminal(&self) {
        if let Some(file) = &*self.file()
            && !self.0.settings.foreground
        {
            super::detach::ready(file.file());
        }
    }

    /// Logs a startup error, except to standard error, where `main` prints it.
    pub(super) fn record(&self, failure: &Error) {
        self.write(Severity::Error, &failure.to_string(), false);
    }

    fn file(&self) -> MutexGuard<'_, Option<LogFile>> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, severity: Severity, message: &str, to_stderr: bool) {
        let message = printable(message);
        let line = self.line(severity, &message);
        // A full disk does not stop the daemon.
        if self.0.settings.syslog != Syslog::Only
            && let Some(file) = &mut *self.file()
        {
            file.append(&line, |missing| self.missing_line(missing));
        }
        if to_stderr && self.0.settings.foreground && !self.0.journal {
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

impl Log {
    /// The line of an event in the format of the log.
    fn line(&self, severity: Severity, message: &str) -> String {
        match self.0.settings.format {
            Some(LogFormat::Json) => json_line(severity, message),
            _ => text_line(severity, message),
        }
    }

    /// The line that replaces those that could not be written.
    fn missing_line(&self, missing: &Missing) -> String {
        let reason = missing.error.as_ref().map_or(Errno::EIO, errno_of);
        let message = format!(
            "{} lines are missing here, because the log file could not be written: {}; {}",
            missing.lines,
            remedy::reason(reason),
            remedy::remedy(Operation::WriteFile, reason)
        );
        self.line(Severity::Warning, &message)
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

    /// Connects to the journal, if it is to receive the events.
    fn open_journal(&self) -> Result<Option<impl Layer<Filtered> + Send + Sync>, Error> {
        match self.format {
            Some(LogFormat::Journal) => journal::layer(NOTICE).map(Some).map_err(|error| {
                let remedy = "start systemd-journald, or omit --log-format=journal";
                let remedy = limit_or(&error, remedy);
                Error::new(format!(
                    "cannot log to the systemd journal: {error}; {remedy}"
                ))
            }),
            // Lines on standard error are the alternative.
            None if self.foreground && journal::is_stderr() => Ok(journal::layer(NOTICE).ok()),
            _ => Ok(None),
        }
    }
}

/// The subscriber below the layer of the journal.
type Filtered = Layered<LogLayer, Layered<reload::Layer<Targets, Registry>, Registry>>;

/// Which events are logged: those of this crate, and warnings of its dependencies.
fn filter(debug: bool) -> Targets {
    let level = if debug { Level::DEBUG } else { Level::INFO };
    Targets::new()
        .with_default(Level::WARN)
        .with_target("ganeti_confd", level)
}

fn text_line(severity: Severity, message: &str) -> String {
    format!(
        "{} ganeti-confd pid={} {severity} {message}\n",
        timestamp(),
        std::process::id()
    )
}

fn json_line(severity: Severity, message: &str) -> String {
    let object = serde_json::json!({
        "time": rfc3339(),
        "level": severity.to_string(),
        "program": "ganeti-confd",
        "pid": std::process::id(),
        "message": message,
    });
    format!("{object}\n")
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
        let remedy = limit_or(&error, "start a syslog daemon, or use --syslog=no");
        Error::new(format!(
            "cannot log to syslog at {SYSLOG_SOCKET}: {error}; {remedy}"
        ))
    })
}

/// Formats the current time as `2026-11-22 13:40:21,472245 UTC:`.
fn timestamp() -> String {
    rfc3339()
        .replace('T', " ")
        .replace('.', ",")
        .replace('Z', " UTC:")
}

/// The current time in UTC as RFC 3339, with microseconds.
fn rfc3339() -> String {
    let mut text = String::with_capacity(32);
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
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
        let text = event_text(event);
        self.0.write(Severity::of(event.metadata()), &text, true);
    }
}

/// The message of an event, then its fields as `name=value`.
pub(super) fn event_text(event: &Event<'_>) -> String {
    let mut text = EventText::default();
    event.record(&mut text);
    text.0
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

    #[test]
    fn a_json_line_is_one_object() {
        let line = json_line(Severity::Warning, "a \"quote\"");
        assert_eq!(line.matches('\n').count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["level"], "WARNING");
        assert_eq!(object["message"], "a \"quote\"");
    }
}

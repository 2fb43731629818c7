//! The systemd journal as a log: native priorities and fields instead of lines on standard error.
//!
//! Used if `--log-format=journal` asks for it, or if standard error is the journal. Lines written
//! there would have a second timestamp and no priority. `tracing-journald` sends the events. The
//! journal's protocol keeps control characters in a message, and `journalctl` escapes them.
//!
//! Source: systemd.exec(5) for `JOURNAL_STREAM`, sd-daemon(3) for the prefix of a line,
//! systemd.journal-fields(7).
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use tracing::Subscriber;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The value of `SYSLOG_IDENTIFIER` of all events.
const IDENTIFIER: &str = "ganeti-confd";

/// The name of the environment variable by which systemd says which stream is the journal.
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";

/// Whether standard error is a stream to the journal.
pub(super) fn is_stderr() -> bool {
    let identity = nix::sys::stat::fstat(io::stderr().as_fd());
    let stream = std::env::var(STREAM_VARIABLE);
    match (identity, stream) {
        (Ok(stat), Ok(stream)) => stream == format!("{}:{}", stat.st_dev, stat.st_ino),
        _ => false,
    }
}

/// `line`, marked as an error for the journal if standard error is the journal.
pub(super) fn marked_as_error(line: &str) -> String {
    let mark = if is_stderr() { "<3>" } else { "" };
    format!("{mark}{line}")
}

/// Sends events to the journal. Those with the target `notice` have the priority `notice`.
///
/// # Errors
///
/// The journal's socket does not exist or has no listener.
pub(super) fn layer<S>(notice: &'static str) -> io::Result<impl Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let notices = with_info_as(Priority::Notice)?;
    let others = with_info_as(Priority::Informational)?;
    let is_notice = move |target: &str| target == notice;
    Ok(notices
        .with_filter(filter_fn(move |event| is_notice(event.target())))
        .and_then(others.with_filter(filter_fn(move |event| !is_notice(event.target())))))
}

fn with_info_as(info: Priority) -> io::Result<tracing_journald::Layer> {
    let mappings = PriorityMappings {
        info,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = tracing_journald::layer()?
        .with_syslog_identifier(IDENTIFIER.to_owned())
        .with_priority_mappings(mappings);
    Ok(layer)
}

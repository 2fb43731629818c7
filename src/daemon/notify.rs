//! Messages to the service manager: readiness, reloads and a line about the daemon's state.
//!
//! They are sent only if the service manager has set `NOTIFY_SOCKET`. The state is sent when its
//! text changes, at most once a second. Its age has the precision of minutes, then of hours and
//! days, so that an unchanged daemon sends little.
//!
//! Source: sd_notify(3).

use std::sync::Once;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::engine::Workers;
use crate::printable::printable_start;
use crate::reader::{SharedStatus, Status};

/// The shortest time between two messages about the daemon's state.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// The longest text about the daemon's state. An error can quote a long name.
const STATE_CHARS_MAX: usize = 500;

/// Reports that the daemon serves, with its state.
pub(super) fn ready(workers: &Workers, status: &Status) {
    let text = state(workers, status);
    send(&[NotifyState::Ready, NotifyState::Status(&text)]);
}

/// Reports a reload before and after `reload`.
///
/// The service manager uses the time of the first message to distinguish reloads.
pub(super) fn reloading(reload: impl FnOnce()) {
    let mut begin = vec![NotifyState::Reloading];
    begin.extend(NotifyState::monotonic_usec_now());
    send(&begin);
    reload();
    send(&[NotifyState::Ready]);
}

/// Reports that the daemon ends.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Reports that every worker answers (`WATCHDOG=1`).
pub(super) fn feed_watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Reports every change of the daemon's state. Does not return.
pub(super) async fn report_changes(workers: &Workers, status: &SharedStatus) -> ! {
    let mut sent = state(workers, &status.read());
    let mut ticks = interval(STATUS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = state(workers, &status.read());
        if now != sent {
            send(&[NotifyState::Status(&now)]);
            sent = now;
        }
    }
}

/// Sends a message. The first failure is logged.
fn send(message: &[NotifyState<'_>]) {
    static WARNED: Once = Once::new();
    if let Err(error) = sd_notify::notify(message) {
        WARNED.call_once(|| warn!("Cannot notify the service manager: {error}"));
    }
}

/// The daemon's state in one line.
fn state(workers: &Workers, status: &Status) -> String {
    let serving = serving(status, SystemTime::now());
    let text = format!(
        "{serving}; {} workers at {}/udp, engine {}",
        workers.counters().len(),
        workers.local_addr(),
        workers.kind()
    );
    printable_start(&text, STATE_CHARS_MAX)
}

/// What the daemon answers from.
fn serving(status: &Status, now: SystemTime) -> String {
    let age = |loaded_at| age(now.duration_since(loaded_at).unwrap_or_default());
    match (&status.summary, &status.unavailable) {
        (Some(summary), _) => {
            let loaded = status.loaded_at.map_or(String::new(), |at| {
                format!(" (config.data loaded {} ago)", age(at))
            });
            let stale = match &status.last_error {
                Some(error) => format!(", not up to date: {error}"),
                None => String::new(),
            };
            format!("Serving serial {}{loaded}{stale}", summary.serial_no)
        }
        (None, Some(error)) => format!("Answering with an error: {error}"),
        (None, None) => "Answering with an error".to_owned(),
    }
}

/// A duration in its largest unit: minutes, hours or days.
fn age(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match minutes {
        0 => "less than a minute".to_owned(),
        1..60 => format!("{minutes} min"),
        60..1_440 => format!("{} h", minutes / 60),
        _ => format!("{} d", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Summary;

    #[test]
    fn the_state_changes_with_serial_error_and_coarse_age() {
        let loaded = SystemTime::UNIX_EPOCH;
        let mut status = Status {
            summary: Some(Summary {
                serial_no: "42".to_owned(),
                ..Summary::default()
            }),
            loaded_at: Some(loaded),
            ..Status::default()
        };
        let after =
            |status: &Status, seconds| serving(status, loaded + Duration::from_secs(seconds));
        assert_eq!(
            after(&status, 59),
            "Serving serial 42 (config.data loaded less than a minute ago)"
        );
        assert_eq!(
            after(&status, 3_599),
            "Serving serial 42 (config.data loaded 59 min ago)"
        );
        status.last_error = Some("it is gone".to_owned());
        assert_eq!(
            after(&status, 200_000),
            "Serving serial 42 (config.data loaded 2 d ago), not up to date: it is gone"
        );
        status.summary = None;
        status.unavailable = Some("it is gone".to_owned());
        assert_eq!(after(&status, 0), "Answering with an error: it is gone");
    }
}

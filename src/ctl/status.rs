//! `confdctl status`: the state of the daemon on this host, from its status socket.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::exit::{CommandError, Exit, print};
use super::format::escape_controls;
use super::options::{Common, StatusOptions};
use crate::node_files::NodeFiles;

/// Time to wait for the daemon, without `--timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest reply that is read: the counters of some thousand workers.
const REPLY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Asks the daemon, and prints what it replies.
///
/// # Errors
///
/// No daemon listens, or this user may not ask it.
pub(super) fn run(common: &Common, options: &StatusOptions) -> Result<Exit, CommandError> {
    let path = options.socket.clone();
    let path = path.unwrap_or_else(|| NodeFiles::from_env().status_socket());
    let reply = ask(&path, common.timeout.unwrap_or(TIMEOUT));
    let reply = reply.map_err(|error| failure(&path, &error))?;
    let status: Value = serde_json::from_str(&reply).map_err(|error| {
        let what = format!(
            "{} does not answer as ganeti-confd: {error}",
            path.display()
        );
        CommandError::new(Exit::NoAnswer, what)
    })?;
    if common.json {
        print(&reply)?;
    } else {
        print(&escape_controls(&text(&status)))?;
    }
    Ok(Exit::Answered)
}

fn ask(path: &PathBuf, timeout: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(b"status\n")?;
    let mut reply = String::new();
    stream.take(REPLY_BYTES_MAX).read_to_string(&mut reply)?;
    Ok(reply)
}

/// Says what an error of the socket means, and what to do.
fn failure(path: &Path, error: &io::Error) -> CommandError {
    use io::ErrorKind as Kind;
    let (exit, remedy) = match error.kind() {
        Kind::NotFound | Kind::ConnectionRefused => (
            Exit::NoAnswer,
            "no daemon runs on this host, or it has another socket (--socket)",
        ),
        Kind::PermissionDenied => (
            Exit::Local,
            "ask as root, or as a member of the daemon's group",
        ),
        _ => (Exit::NoAnswer, "the daemon is busy or stuck; see its log"),
    };
    let text = format!("cannot ask {}: {error}; {remedy}", path.display());
    CommandError::new(exit, text)
}

/// The status as text: one value per line, and only the counters that are not 0.
fn text(status: &Value) -> String {
    let mut text = String::new();
    write_members(&mut text, status, 0);
    text
}

fn write_members(text: &mut String, value: &Value, indent: usize) {
    let Value::Object(members) = value else {
        return;
    };
    for (name, member) in members {
        let _ = match member {
            Value::Null => Ok(()),
            Value::Object(inner) if inner.values().all(is_zero) => Ok(()),
            Value::Object(_) => {
                let _ = writeln!(text, "{:indent$}{name}:", "");
                write_members(text, member, indent + 2);
                Ok(())
            }
            Value::Array(list) if list.iter().all(Value::is_string) => {
                let words: Vec<_> = list.iter().filter_map(Value::as_str).collect();
                writeln!(text, "{:indent$}{name}: {}", "", words.join(", "))
            }
            Value::Array(list) => writeln!(text, "{:indent$}{name}: {}", "", list.len()),
            number if name != "failures" && indent > 0 && is_zero(number) => Ok(()),
            Value::String(string) => writeln!(text, "{:indent$}{name}: {string}", ""),
            scalar => writeln!(text, "{:indent$}{name}: {}", "", readable(name, scalar)),
        };
    }
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0) || value.is_null()
}

/// A number, as a date if its name says that it is a time.
fn readable(name: &str, value: &Value) -> String {
    let is_time = ["_at", "_since", "_until"];
    match value.as_f64() {
        Some(seconds) if seconds > 0.0 && is_time.iter().any(|end| name.ends_with(end)) => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_has_dates_and_leaves_out_what_is_zero_or_absent() {
        let status = json!({
            "version": "0.1.0",
            "started_at": 1_000_000_000.25,
            "engine": { "name": "uring", "fallback_reason": null, "features": ["a b", "c"] },
            "counters": { "received": 3, "errors": 0, "dropped": { "bad_hmac": 0 } },
            "workers": [{}, {}],
        });
        assert_eq!(
            text(&status),
            "version: 0.1.0\nstarted_at: 2001-09-09T01:46:40Z\nengine:\n  name: uring\n  features: a b, c\n\
             counters:\n  received: 3\nworkers: 2\n"
        );
    }
}

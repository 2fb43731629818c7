//! Recorded requests, one per line. They are signed again when they are sent.
//!
//! A line is the inner message of a request (`{"protocol": 1, "type": 3, ...}`), a whole datagram
//! (`plj0{...}`), or an object whose key `request` holds the inner message as text. Such an object
//! is skipped if its `reply` is null, because that request gets no reply. Only the type and the
//! query of each request are used.

use std::path::Path;

use serde_json::Value;

use super::error::Error;
use super::mix::Query;
use crate::json::ascii_json;
use crate::protocol::request::RequestType;

/// Numbers of skipped lines that are printed.
const SHOWN_MAX: usize = 5;

/// Reads a recording; returns its queries and the numbers of the lines that were skipped. Empty
/// lines are ignored.
///
/// # Errors
///
/// The file cannot be read, or contains no request.
pub(super) fn read(file: &Path) -> Result<(Vec<Query>, Vec<usize>), Error> {
    let text =
        std::fs::read(file).map_err(|error| Error::new(format!("{}: {error}", file.display())))?;
    let (queries, skipped) = parse(&text);
    if queries.is_empty() {
        let why = "no line is a request (an inner message, a datagram, or {\"request\": \"...\"})";
        return Err(Error::new(format!("{}: {why}", file.display())));
    }
    Ok((queries, skipped))
}

fn parse(text: &[u8]) -> (Vec<Query>, Vec<usize>) {
    let mut queries = Vec::new();
    let mut skipped = Vec::new();
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.trim_ascii();
        match std::str::from_utf8(line).ok().and_then(query) {
            Some(query) => queries.push(query),
            None if line.is_empty() => {}
            None => skipped.push(number),
        }
    }
    (queries, skipped)
}

/// The first numbers of a list.
pub(super) fn shortened(lines: &[usize]) -> String {
    let shown = lines.iter().take(SHOWN_MAX).map(usize::to_string);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match lines.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn query(line: &str) -> Option<Query> {
    let inner = |text: &Value| serde_json::from_str(text.as_str()?).ok();
    let message: Value = match line.strip_prefix("plj0") {
        Some(envelope) => inner(&serde_json::from_str::<Value>(envelope).ok()?["msg"])?,
        None => {
            let line: Value = serde_json::from_str(line).ok()?;
            match line.get("request") {
                Some(_) if line.get("reply").is_some_and(Value::is_null) => return None,
                Some(request) => inner(request)?,
                None => line,
            }
        }
    };
    let kind = RequestType::from_number(message.get("type")?.as_u64()?)?;
    let argument = message.get("query").unwrap_or(&Value::Null);
    Some(Query {
        kind,
        argument: ascii_json(&argument.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_is_skipped_by_its_number() {
        let text = b"{\"type\": 0}\n\nplj0\xff not a request\r\n{\"type\": 3}\r\n{}";
        let (queries, skipped) = parse(text);
        let kinds: Vec<_> = queries.iter().map(|query| query.kind).collect();
        assert_eq!(kinds, [RequestType::Ping, RequestType::ClusterMaster]);
        assert_eq!(skipped, [3, 5]);
        assert_eq!(shortened(&skipped), "3, 5");
        assert_eq!(shortened(&[1, 2, 3, 4, 5, 6]), "1, 2, 3, 4, 5 and 1 more");
    }

    #[test]
    fn a_request_can_be_recorded_in_three_formats() {
        let role = Some(Query {
            kind: RequestType::NodeRoleByName,
            argument: r#""n1""#.into(),
        });
        for line in [
            r#"{"protocol": 1, "type": 1, "query": "n1", "rsalt": "R"}"#,
            r#"plj0{"msg": "{\"protocol\":1,\"type\":1,\"query\":\"n1\",\"rsalt\":\"R\"}", "salt": "1", "hmac": ""}"#,
            r#"{"request": "{\"type\":1,\"query\":\"n1\"}", "reply": "..."}"#,
        ] {
            assert_eq!(query(line), role, "{line}");
        }
        for line in [
            "x",
            r#"{"config": "empty.json"}"#,
            r#"{"type": 12}"#,
            r#"{"type": "1"}"#,
            r#"{"request": "{\"type\":1,\"query\":5}", "reply": null}"#,
        ] {
            assert_eq!(query(line), None, "{line}");
        }
    }
}

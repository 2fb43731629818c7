//! Inputs of the pure path's benchmarks: every query, as a client would send it to a sample
//! cluster, and datagrams that are dropped.

use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, REQUEST_BYTES_MAX, envelope};
use serde_json::Value;

/// The daemon's clock, in seconds since the epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The cluster's key.
pub(crate) fn key() -> Key {
    Key::new(b"a key for benchmarks").expect("the key has bytes")
}

/// All datagrams with their names.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let node = format!("\"{}\"", demo::node_name(2));
    let instance = format!("\"{}\"", demo::instance_name(7));
    let ping = request(0, "null");
    let mut forged = ping.clone();
    // A digit of the signature, which comes last.
    let digit = forged.len() - 10;
    forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
    vec![
        ("ping", ping),
        ("node_role_by_name", request(1, &node)),
        ("node_pip_by_inst_pip", request(2, r#"{"1": "10.2.0.7"}"#)),
        ("cluster_master", request(3, "null")),
        ("cluster_master_fields", request(3, r#"{"3": [0, 1, 2]}"#)),
        ("node_pip_list", request(4, "null")),
        ("mc_pip_list", request(5, "null")),
        ("inst_ips_list", request(6, "\"no such link\"")),
        ("node_drbd", request(7, &node)),
        ("node_instances", request(8, &node)),
        ("instance_disks", request(9, &instance)),
        ("config_query", request(10, "\"/cluster/cluster_name\"")),
        ("data_collectors", request(11, "null")),
        ("(bad signature)", forged),
        ("(bad fourcc)", b"GET / HTTP/1.1".to_vec()),
    ]
}

/// A request in the layout of Ganeti's Python library (`ganeti.serializer.DumpSignedJson`).
fn request(kind: u8, query: &str) -> Vec<u8> {
    let rsalt = "3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11";
    let message = format!(
        "{{\"protocol\": 1, \"type\": {kind}, \"query\": {query}, \"rsalt\": \"{rsalt}\"}}\n"
    );
    let compact = envelope::request(&key(), NOW, &message);
    let envelope: Value = serde_json::from_slice(&compact[4..]).expect("an envelope is JSON");
    let (msg, salt, hmac) = (&envelope["msg"], &envelope["salt"], &envelope["hmac"]);
    let datagram = format!("plj0{{\"msg\": {msg}, \"salt\": {salt}, \"hmac\": {hmac}}}\n");
    datagram.into_bytes()
}

/// The longest datagrams that are most expensive to read, with a wrong signature.
#[allow(dead_code, reason = "for the benchmark `instructions` only")]
pub(crate) fn unauthenticated() -> Vec<(&'static str, Vec<u8>)> {
    // Members of an envelope before and after the text that fills the datagram.
    let filled = |before: &str, unit: &str, after: &str| {
        let hmac = "0".repeat(40);
        let after = format!("{after}\"hmac\":\"{hmac}\"}}");
        filled(&format!("plj0{{{before}"), unit, &after).into_bytes()
    };
    let in_message = |unit| filled("\"salt\":\"1\",\"msg\":\"", unit, "\",");
    let in_salt = |unit| filled("\"msg\":\"1\",\"salt\":\"", unit, "\",");
    vec![
        (
            "white space",
            filled("", " \n", "\"msg\":\"1\",\"salt\":\"1\","),
        ),
        ("letters", in_message("letters ")),
        ("quotes", in_message("\\\"")),
        ("quotes and letters", in_message("a\\\"")),
        ("backslashes", in_message("\\\\")),
        ("escapes and letters", in_message("ab\\tc\\\\d\\/efg\\n")),
        ("newlines", in_message("\\n")),
        ("escapes and five letters", in_message("\\tabcde")),
        ("escaped letters", in_message("\\u0041")),
        ("Unicode escapes", in_message("\\u00e9")),
        ("surrogate escapes", in_message("\\ud83d\\ude00\u{e9}")),
        ("two-byte characters", in_message("\u{e9}")),
        ("characters and escapes", in_message("\u{e9}\\t")),
        ("escapes in the salt", in_salt("\\\\a")),
        ("escapes in a key", filled("\"", "\\u006d", "\":\"1\",")),
        ("numbers", filled("\"msg\":[", "5e-324,", "0],")),
        ("brackets", filled("\"msg\":", "[", ",")),
    ]
}

/// The longest requests that are most expensive to answer.
#[allow(dead_code, reason = "for the benchmark `instructions` only")]
pub(crate) fn longest() -> Vec<(&'static str, Vec<u8>)> {
    let of = |kind: u8, before: &str, unit: &str, after: &str| {
        let before = format!(r#"{{"protocol":1,"type":{kind},"query":{before}"#);
        let after = format!(r#"{after},"rsalt":"R"}}"#);
        // The envelope escapes each quote and backslash.
        let mut len = REQUEST_BYTES_MAX;
        loop {
            let message = filled_to(len, &before, unit, &after);
            match envelope::signed(&key(), &NOW.to_string(), &message) {
                Some(request) if request.len() <= REQUEST_BYTES_MAX => return request,
                _ => len -= len / 64,
            }
        }
    };
    vec![
        (
            "path of short names",
            of(10, "\"/cluster/osparams", "/a", "\""),
        ),
        (
            "path of one name",
            of(10, "\"/cluster/osparams/", "a", "\""),
        ),
        ("path of tildes", of(10, "\"/cluster/osparams/", "~1", "\"")),
        ("path of quotes", of(10, "\"/cluster/", "\\\"", "\"")),
        ("path of an index", of(10, "\"/cluster/tags/", "1", "\"")),
        ("node's name", of(1, "\"", "n", "\"")),
        ("node's name of quotes", of(1, "\"", "\\\"", "\"")),
        ("instance's name", of(9, "\"", "\u{e9}", "\"")),
        ("instance's name of quotes", of(9, "\"", "\\\"", "\"")),
        (
            "instance's name of control characters",
            of(9, "\"", "\\u0001", "\""),
        ),
        ("link", of(6, "\"", "a\\n", "\"")),
        (
            "addresses",
            of(2, "{\"2\":[\"10.2.0.7\"", ",\"10.2.0.7\"", "]}"),
        ),
        ("short addresses", of(2, "{\"2\":[\"\"", ",\"\"", "]}")),
        (
            "addresses with escapes",
            of(2, "{\"2\":[\"\"", ",\"\\n\"", "]}"),
        ),
        (
            "addresses beyond ASCII",
            of(2, "{\"2\":[\"\"", ",\"\u{e9}\"", "]}"),
        ),
        (
            "unused addresses with quotes",
            of(1, "{\"2\":[\"\"", ",\"\\\"\"", "]}"),
        ),
        ("unused addresses", of(1, "{\"2\":[\"\"", ",\"\"", "]}")),
        ("fields", of(3, "{\"3\":[0", ",1", "]}")),
        ("unused fields", of(0, "{\"3\":[0", ",1", "]}")),
        (
            "fields of many digits",
            of(3, "{\"3\":[0", ",1.9999999999999999", "]}"),
        ),
        ("a number", of(0, "{\"3\":[0.", "0", "]}")),
        ("white space", of(0, "", " ", "null")),
    ]
}

/// A text of at most [`REQUEST_BYTES_MAX`] bytes: `before`, as many of `unit` as fit, `after`.
fn filled(before: &str, unit: &str, after: &str) -> String {
    filled_to(REQUEST_BYTES_MAX, before, unit, after)
}

fn filled_to(len: usize, before: &str, unit: &str, after: &str) -> String {
    let units = len.saturating_sub(before.len() + after.len()) / unit.len();
    [before, &unit.repeat(units), after].concat()
}

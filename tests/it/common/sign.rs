//! Building and parsing datagrams.

use ganeti_confd::protocol::Key;
use serde_json::Value;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// This host's clock, in whole seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970")
        .as_secs()
}

/// HMAC-SHA1 over `signed`, in lower-case hexadecimal digits.
pub(crate) fn sign_hex(key: &[u8], signed: &[u8]) -> String {
    let key = Key::new(key).expect("tests sign with non-empty keys");
    key.sign(signed, b"")
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// A request as Ganeti's Python client writes it: text beyond ASCII is escaped.
pub(crate) fn request_datagram(key: &[u8], salt: &str, message: &str) -> Vec<u8> {
    let hmac = sign_hex(key, format!("{salt}{message}").as_bytes());
    format!(
        r#"plj0{{"msg": {}, "salt": {}, "hmac": "{hmac}"}}"#,
        quote_ascii(message),
        quote_ascii(salt)
    )
    .into_bytes()
}

/// A reply as the reference writes it, from the inner message and the request's `rsalt`.
pub(crate) fn reply_datagram(key: &[u8], message: &str, salt: &str) -> Vec<u8> {
    let hmac = sign_hex(key, format!("{salt}{message}").as_bytes());
    format!(
        r#"plj0{{"hmac":"{hmac}","msg":{},"salt":{}}}"#,
        quote(message),
        quote(salt)
    )
    .into_bytes()
}

/// A JSON string with the reference's escapes: control characters, quote and backslash only.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A JSON string in ASCII: other characters are escaped as UTF-16 code units.
pub(crate) fn quote_ascii(text: &str) -> String {
    let mut quoted = String::new();
    for c in quote(text).chars() {
        if c.is_ascii() {
            quoted.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(quoted, "\\u{unit:04x}");
            }
        }
    }
    quoted
}

/// The parts of a reply, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) message: String,
    pub(crate) salt: String,
}

impl Reply {
    /// Parses a reply; `None` if it differs from what [`reply_datagram`] makes of its parts,
    /// including the signature.
    pub(crate) fn read(key: &[u8], datagram: &[u8]) -> Option<Self> {
        let envelope: Value = serde_json::from_slice(datagram.strip_prefix(b"plj0")?).ok()?;
        let reply = Self {
            message: envelope["msg"].as_str()?.to_owned(),
            salt: envelope["salt"].as_str()?.to_owned(),
        };
        (reply_datagram(key, &reply.message, &reply.salt) == datagram).then_some(reply)
    }
}

/// A signature made by Python's `hmac` module, and a reply recorded from the reference.
#[test]
fn signatures_equal_those_of_other_implementations() {
    assert_eq!(
        sign_hex(b"testkey123", b"1795354392message"),
        "0ed89b44e365a369426fcdfe3b347376be4e1e1a"
    );
    let reply = reply_datagram(
        b"testkey123",
        r#"{"protocol":1,"status":0,"answer":3000000,"serial":0}"#,
        "R",
    );
    assert_eq!(
        reply,
        br#"plj0{"hmac":"faed288556f314ccb1367b119f3b18bd8cd23225","msg":"{\"protocol\":1,\"status\":0,\"answer\":3000000,\"serial\":0}","salt":"R"}"#
    );
    assert!(Reply::read(b"testkey123", &reply).is_some());
    assert!(Reply::read(b"testkey124", &reply).is_none());
}

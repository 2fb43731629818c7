//! Requests prepared in advance: sending one fills in the reply salt, the clock and the signature.
//!
//! The form is that of Ganeti's Python client (`lib/confd/client.py`): the inner message ends with
//! its `rsalt`, and the envelope has `msg`, `salt` and `hmac`. All of it is ASCII, because the
//! reference decodes a datagram as Latin-1 before it verifies it.

use std::ops::Range;

use super::rsalt::RSALT_BYTES;
use crate::json;
use crate::protocol::request::RequestType;
use crate::protocol::{FOURCC, Key, hex};

/// Digits of the time in seconds, until the year 2286.
pub(super) const SALT_BYTES: usize = 10;

const HMAC_BYTES: usize = 40;

/// The age of a stale request. Confd accepts up to 300 s.
pub(super) const STALE_SECONDS: u64 = 3600;

/// A request as text, with the positions of the parts that differ each time.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) kind: RequestType,
    /// The inner message; it is what is signed.
    message: Box<[u8]>,
    message_rsalt: Range<usize>,
    wire: Vec<u8>,
    wire_rsalt: Range<usize>,
    wire_salt: Range<usize>,
    wire_hmac: Range<usize>,
}

/// How a datagram that must not be answered is corrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Corruption {
    /// It is not a request, in one of [`MALFORMED_KINDS`] ways.
    Malformed(u8),
    /// One digit of the signature is wrong.
    BadSignature,
    /// The signature is valid but too old.
    Stale,
}

/// A wrong fourcc, a truncated envelope, a wrong closing bracket, an unknown key.
pub(super) const MALFORMED_KINDS: u8 = 4;

impl Template {
    /// A request with the argument `query`, which is JSON in ASCII.
    pub(super) fn new(kind: RequestType, query: &str) -> Self {
        debug_assert!(query.is_ascii(), "the reference decodes Latin-1");
        let number = kind as u8;
        let before = format!(r#"{{"protocol": 1, "type": {number}, "query": {query}, "rsalt": ""#);
        let mut message = before.clone().into_bytes();
        let message_rsalt = reserve(&mut message, RSALT_BYTES);
        message.extend_from_slice(br#""}"#);

        let mut wire = FOURCC.to_vec();
        wire.extend_from_slice(br#"{"msg": ""#);
        json::escape(before.as_bytes(), &mut wire);
        let wire_rsalt = reserve(&mut wire, RSALT_BYTES);
        json::escape(br#""}"#, &mut wire);
        wire.extend_from_slice(br#"", "salt": ""#);
        let wire_salt = reserve(&mut wire, SALT_BYTES);
        wire.extend_from_slice(br#"", "hmac": ""#);
        let wire_hmac = reserve(&mut wire, HMAC_BYTES);
        wire.extend_from_slice(br#""}"#);
        Self {
            kind,
            message: message.into(),
            message_rsalt,
            wire,
            wire_rsalt,
            wire_salt,
            wire_hmac,
        }
    }

    /// Length of the datagram in bytes.
    pub(super) fn len(&self) -> usize {
        self.wire.len()
    }

    /// Pads the datagram with spaces after the envelope to at least `len` bytes, because
    /// `UDP_SEGMENT` requires equal lengths.
    pub(super) fn pad(&mut self, len: usize) {
        self.wire.resize(len.max(self.wire.len()), b' ');
    }

    /// Appends a datagram to `out`.
    pub(super) fn write(
        &self,
        key: &Key,
        salt: &[u8; SALT_BYTES],
        rsalt: &[u8; RSALT_BYTES],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        scratch.clear();
        scratch.extend_from_slice(&self.message);
        scratch[self.message_rsalt.clone()].copy_from_slice(rsalt);
        let tag = key.sign(salt, scratch);
        let start = out.len();
        out.extend_from_slice(&self.wire);
        let wire = &mut out[start..];
        wire[self.wire_rsalt.clone()].copy_from_slice(rsalt);
        wire[self.wire_salt.clone()].copy_from_slice(salt);
        hex::encode(&tag, &mut wire[self.wire_hmac.clone()]);
    }

    /// Corrupts a datagram that [`Template::write`] made from this template, without changing its
    /// length. [`Corruption::Stale`] is not applied here, because it is in the salt.
    pub(super) fn corrupt(&self, corruption: Corruption, wire: &mut [u8]) {
        match corruption {
            Corruption::Malformed(0) => wire[FOURCC.len() - 1] ^= 1,
            Corruption::Malformed(1) => wire[self.wire_salt.start..].fill(b' '),
            Corruption::Malformed(2) => wire[self.wire_hmac.end + 1] = b']',
            Corruption::Malformed(_) => wire[self.wire_hmac.start - 5] = b'x',
            Corruption::BadSignature => {
                let digit = &mut wire[self.wire_hmac.start];
                *digit = if *digit == b'0' { b'1' } else { b'0' };
            }
            Corruption::Stale => {}
        }
    }
}

fn reserve(text: &mut Vec<u8>, len: usize) -> Range<usize> {
    let start = text.len();
    text.resize(start + len, b'0');
    start..start + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::ascii_json;
    use crate::protocol::envelope;

    const RSALT: &[u8; RSALT_BYTES] = b"01234567-89ab-cdef-03ab-cdeffffffffe";

    fn key() -> Key {
        Key::new(b"testkey123").expect("not empty")
    }

    fn written(template: &Template) -> Vec<u8> {
        let mut out = Vec::new();
        template.write(&key(), b"1795354392", RSALT, &mut Vec::new(), &mut out);
        out
    }

    /// Compared with serde_json and the protocol module's writer.
    #[test]
    fn the_datagram_is_that_of_the_protocol_module() {
        let query = ascii_json("\"a\\\"\u{e9}\u{1f600}\"");
        let template = Template::new(RequestType::NodeRoleByName, &query);
        let datagram = written(&template);
        let envelope: serde_json::Value =
            serde_json::from_slice(&datagram[4..]).expect("an envelope");
        let message = envelope["msg"].as_str().expect("a message");
        assert_eq!(
            message,
            r#"{"protocol": 1, "type": 1, "query": "a\"\u00e9\ud83d\ude00", "rsalt": "01234567-89ab-cdef-03ab-cdeffffffffe"}"#
        );
        let other = envelope::request(&key(), 1_795_354_392, message);
        let other: serde_json::Value = serde_json::from_slice(&other[4..]).expect("an envelope");
        assert_eq!(envelope, other);
    }

    #[test]
    fn padding_follows_the_envelope() {
        let mut template = Template::new(RequestType::Ping, "null");
        let plain = written(&template);
        template.pad(plain.len() + 7);
        assert_eq!(written(&template), [plain.as_slice(), b"       "].concat());
        template.pad(3);
        assert_eq!(template.len(), plain.len() + 7);
    }

    #[test]
    fn a_corruption_changes_the_datagram_and_keeps_its_length() {
        let template = Template::new(RequestType::Ping, "null");
        let good = written(&template);
        let mut seen = vec![good.clone()];
        let kinds = (0..MALFORMED_KINDS)
            .map(Corruption::Malformed)
            .chain([Corruption::BadSignature]);
        for corruption in kinds {
            let mut bad = good.clone();
            template.corrupt(corruption, &mut bad);
            assert!(!seen.contains(&bad), "{corruption:?} changes something");
            let envelope: Result<std::collections::BTreeMap<String, String>, _> =
                serde_json::from_slice(&bad[4..]);
            let valid = bad.starts_with(b"plj0")
                && envelope.is_ok_and(|envelope| envelope.contains_key("hmac"));
            assert_eq!(
                valid,
                corruption == Corruption::BadSignature,
                "{corruption:?}"
            );
            seen.push(bad);
        }
    }
}

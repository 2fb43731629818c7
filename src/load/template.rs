//! Requests, prepared as far as they can be: sending one fills in reply salt, clock and signature.
//!
//! The form is that of Ganeti's Python client (`lib/confd/client.py`): the inner message ends with its `rsalt`, and the envelope has
//! `msg`, `salt` and `hmac`. All of it is ASCII, so that the reference signs what was sent.

use std::ops::Range;

use super::rsalt::RSALT_BYTES;
use crate::protocol::request::RequestType;
use crate::protocol::{FOURCC, Key, hex};
use crate::text;

/// Digits of a clock in seconds, until the year 2286.
pub(super) const SALT_BYTES: usize = 10;

const HMAC_BYTES: usize = 40;

/// A stale request's clock is behind by this much; 300 s would be taken.
pub(super) const STALE_SECONDS: u64 = 3600;

/// A request as text, with places for what differs each time.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) kind: RequestType,
    /// The inner message, which is signed.
    message: Box<[u8]>,
    message_rsalt: Range<usize>,
    wire: Vec<u8>,
    wire_rsalt: Range<usize>,
    wire_salt: Range<usize>,
    wire_hmac: Range<usize>,
}

/// What is wrong with a datagram that must not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Corruption {
    /// Not a request; there are [`MALFORMED_KINDS`] ways.
    Malformed(u8),
    /// The signature is off by one digit.
    BadSignature,
    /// Signed well, too long ago.
    Stale,
}

/// Fourcc, cut short, not closed, an unknown key.
pub(super) const MALFORMED_KINDS: u8 = 4;

impl Template {
    /// A request for `query`, which is JSON in ASCII.
    pub(super) fn new(kind: RequestType, query: &str) -> Self {
        debug_assert!(query.is_ascii(), "the reference reads Latin-1");
        let number = kind as u8;
        let before = format!(r#"{{"protocol": 1, "type": {number}, "query": {query}, "rsalt": ""#);
        let mut message = before.clone().into_bytes();
        let message_rsalt = reserve(&mut message, RSALT_BYTES);
        message.extend_from_slice(br#""}"#);

        let mut wire = FOURCC.to_vec();
        wire.extend_from_slice(br#"{"msg": ""#);
        text::escape(before.as_bytes(), &mut wire);
        let wire_rsalt = reserve(&mut wire, RSALT_BYTES);
        text::escape(br#""}"#, &mut wire);
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

    /// Length of the datagram.
    pub(super) fn len(&self) -> usize {
        self.wire.len()
    }

    /// Makes the datagram `len` bytes long, if it is shorter, with spaces behind the envelope: `UDP_SEGMENT` wants equal lengths.
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

    /// Damages the datagram that [`Template::write`] has made of this template. Its length stays.
    ///
    /// [`Corruption::Stale`] is nothing that could be done afterwards: it is in the salt.
    pub(super) fn corrupt(&self, damage: Corruption, wire: &mut [u8]) {
        match damage {
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
    use crate::protocol::envelope;
    use crate::text::ascii_json;

    const RSALT: &[u8; RSALT_BYTES] = b"01234567-89ab-cdef-03ab-cdeffffffffe";

    fn key() -> Key {
        Key::new(b"testkey123").expect("it has bytes")
    }

    fn written(template: &Template) -> Vec<u8> {
        let mut out = Vec::new();
        template.write(&key(), b"1795354392", RSALT, &mut Vec::new(), &mut out);
        out
    }

    /// The same, by serde_json and the protocol's own writer.
    #[test]
    fn what_is_sent_is_what_is_signed() {
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
    fn padding_stays_outside_of_the_envelope() {
        let mut template = Template::new(RequestType::Ping, "null");
        let plain = written(&template);
        template.pad(plain.len() + 7);
        assert_eq!(written(&template), [plain.as_slice(), b"       "].concat());
        template.pad(3);
        assert_eq!(template.len(), plain.len() + 7);
    }

    #[test]
    fn damage_shows_and_keeps_the_length() {
        let template = Template::new(RequestType::Ping, "null");
        let good = written(&template);
        let mut seen = vec![good.clone()];
        let kinds = (0..MALFORMED_KINDS)
            .map(Corruption::Malformed)
            .chain([Corruption::BadSignature]);
        for damage in kinds {
            let mut bad = good.clone();
            template.corrupt(damage, &mut bad);
            assert!(!seen.contains(&bad), "{damage:?} changes something");
            let envelope: Result<std::collections::BTreeMap<String, String>, _> =
                serde_json::from_slice(&bad[4..]);
            let sound = bad.starts_with(b"plj0")
                && envelope.is_ok_and(|envelope| envelope.contains_key("hmac"));
            assert_eq!(sound, damage == Corruption::BadSignature, "{damage:?}");
            seen.push(bad);
        }
    }
}

//! Checks a reply: its signature, its form, and that a query has one answer per serial.
//!
//! Only what the protocol specifies is checked, in any JSON layout: exactly the keys `hmac`, `msg`
//! and `salt` in the envelope; `protocol` 1, `status` 0 or 1, `answer` and `serial` in the message.
//! The key order and white space of the reference are not required.

use std::hash::BuildHasher;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::protocol::envelope::Envelope;
use crate::protocol::{FOURCC, Key, PADDING, REPLY_BYTES_MAX};

/// Serials remembered per query. Configurations change slowly, so a few suffice.
const SERIALS_MAX: usize = 8;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyCheck {
    /// A valid reply with status 0.
    Ok,
    /// A valid reply with status 1.
    Error,
    /// The signature does not match the key.
    BadHmac,
    /// The datagram is not a reply.
    Malformed,
    /// The same query had another answer with the same serial.
    Inconsistent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    protocol: u64,
    status: u8,
    #[expect(dead_code, reason = "must be present and valid JSON")]
    answer: IgnoredAny,
    serial: u64,
}

/// Checks replies and remembers earlier answers.
#[derive(Debug)]
pub(super) struct Checker {
    key: Key,
    /// The inner message of a reply, and the bytes that must follow it.
    message: Box<[u8]>,
    hash: foldhash::fast::FixedState,
    /// By query: serials, each with the hash of the message.
    seen: Vec<Vec<(u64, u64)>>,
    compare: bool,
}

impl Checker {
    /// A checker for replies to `queries` different queries. `compare`: a different answer with the
    /// same serial is [`ReplyCheck::Inconsistent`].
    pub(super) fn new(key: Key, queries: usize, compare: bool) -> Self {
        Self {
            key,
            message: vec![0; REPLY_BYTES_MAX + PADDING].into(),
            hash: foldhash::fast::FixedState::default(),
            seen: vec![Vec::new(); queries],
            compare,
        }
    }

    /// Checks the first `len` bytes of `reply`, which must be followed by [`PADDING`] more, as the
    /// reply to `query` with the salt `rsalt`. Changes the buffer: it is unescaped in place.
    pub(super) fn check(
        &mut self,
        reply: &mut [u8],
        len: usize,
        rsalt: &[u8],
        query: usize,
    ) -> ReplyCheck {
        let start = FOURCC.len();
        if len < start || reply[..start] != FOURCC {
            return ReplyCheck::Malformed;
        }
        let mut message = std::mem::take(&mut self.message);
        let text = &mut reply[start..];
        let envelope = Envelope::parse(text, len - start, &mut message);
        let check = match envelope {
            Ok(envelope) if envelope.salt != rsalt => ReplyCheck::Malformed,
            Ok(envelope) if envelope.verify(&self.key).is_err() => ReplyCheck::BadHmac,
            Ok(envelope) => self.check_message(&envelope.message[..envelope.message_len], query),
            Err(_) => ReplyCheck::Malformed,
        };
        self.message = message;
        check
    }

    /// Checks the message of a reply with a valid signature.
    fn check_message(&mut self, message: &[u8], query: usize) -> ReplyCheck {
        match serde_json::from_slice(message) {
            Ok(Message {
                protocol: 1,
                status: status @ 0..=1,
                serial,
                ..
            }) => {
                let same = self.is_consistent(query, serial, message);
                match (same, status) {
                    (false, _) => ReplyCheck::Inconsistent,
                    (true, 0) => ReplyCheck::Ok,
                    (true, _) => ReplyCheck::Error,
                }
            }
            _ => ReplyCheck::Malformed,
        }
    }

    /// Whether `message` is the answer seen before with this serial. Pings and errors have serial
    /// 0, which is not compared.
    fn is_consistent(&mut self, query: usize, serial: u64, message: &[u8]) -> bool {
        if !self.compare || serial == 0 {
            return true;
        }
        let hash = self.hash.hash_one(message);
        let seen = &mut self.seen[query];
        if let Some((_, before)) = seen.iter().find(|(other, _)| *other == serial) {
            return *before == hash;
        }
        if seen.len() == SERIALS_MAX {
            seen.remove(0);
        }
        seen.push((serial, hash));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope;

    fn key() -> Key {
        Key::new(b"testkey123").expect("not empty")
    }

    fn check(checker: &mut Checker, message: &str, rsalt: &[u8]) -> ReplyCheck {
        let mut reply = envelope::signed(&key(), "R", message).expect("it fits");
        let len = reply.len();
        reply.resize(len + PADDING, 0);
        checker.check(&mut reply, len, rsalt, 0)
    }

    #[test]
    fn each_fault_of_a_reply_is_recognized() {
        let other = Key::new(b"another").expect("not empty");
        let mut good = Checker::new(key(), 1, true);
        let ok = r#"{"protocol":1,"status":0,"answer":[1,{"a":null}],"serial":7}"#;
        assert_eq!(check(&mut good, ok, b"R"), ReplyCheck::Ok);
        assert_eq!(check(&mut good, ok, b"S"), ReplyCheck::Malformed);
        let mut bad = Checker::new(other, 1, true);
        assert_eq!(check(&mut bad, ok, b"R"), ReplyCheck::BadHmac);
        let error = r#"{"protocol":1,"status":1,"answer":0,"serial":0}"#;
        assert_eq!(check(&mut good, error, b"R"), ReplyCheck::Error);
        let spaced = r#"{"serial": 9, "answer": "x", "status": 0, "protocol": 1}"#;
        assert_eq!(check(&mut good, spaced, b"R"), ReplyCheck::Ok);
        for message in [
            "",
            "{}",
            r#"{"protocol":1,"status":2,"answer":0,"serial":0}"#,
            r#"{"protocol":2,"status":0,"answer":0,"serial":0}"#,
            r#"{"protocol":1,"status":0,"serial":0}"#,
            r#"{"protocol":1,"status":0,"answer":[0,"serial":0}"#,
        ] {
            assert_eq!(check(&mut good, message, b"R"), ReplyCheck::Malformed);
        }
    }

    #[test]
    fn a_second_answer_with_one_serial_is_inconsistent() {
        let mut checker = Checker::new(key(), 1, true);
        let mut answer = |answer: u32, serial: u32| {
            let message =
                format!(r#"{{"protocol":1,"status":0,"answer":{answer},"serial":{serial}}}"#);
            check(&mut checker, &message, b"R")
        };
        assert_eq!(answer(1, 5), ReplyCheck::Ok);
        assert_eq!(answer(1, 5), ReplyCheck::Ok);
        assert_eq!(answer(2, 6), ReplyCheck::Ok);
        assert_eq!(answer(2, 5), ReplyCheck::Inconsistent);
        assert_eq!(
            (answer(1, 0), answer(2, 0)),
            (ReplyCheck::Ok, ReplyCheck::Ok)
        );
        for serial in 10..100 {
            assert_eq!(answer(3, serial), ReplyCheck::Ok);
        }
    }

    #[test]
    fn the_longest_replies_are_checked() {
        let mut checker = Checker::new(key(), 1, true);
        let answer = "\\\"x".repeat(12_000);
        let message = format!(r#"{{"protocol":1,"status":0,"answer":"{answer}","serial":1}}"#);
        assert_eq!(check(&mut checker, &message, b"R"), ReplyCheck::Ok);
        assert_eq!(check(&mut checker, &message, b"R"), ReplyCheck::Ok);
    }

    #[test]
    fn garbage_is_malformed() {
        let mut checker = Checker::new(key(), 1, true);
        for text in ["", "plj", "plj0", "plj0{}", "plj1{\"msg\":1}"] {
            let mut reply = text.as_bytes().to_vec();
            reply.resize(text.len() + PADDING, 0);
            assert_eq!(
                checker.check(&mut reply, text.len(), b"R", 0),
                ReplyCheck::Malformed
            );
        }
    }
}

//! One reply: opened, verified, read as far as every reply is alike.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::AnsweredError;
use crate::protocol::reply::Status;
use crate::protocol::{FOURCC, Key};

/// A reply that was signed with the cluster's key.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Whether the answer is one.
    pub status: Status,
    /// The answer's JSON text, as it was sent.
    pub answer: Box<RawValue>,
    /// The serial of what it was answered from: the cluster's, or for a node's or an instance's objects theirs; 0 for errors and pings.
    pub serial: i64,
}

/// Why a datagram is not taken for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedReply {
    /// It does not start with the fourcc.
    BadFourcc,
    /// It is no signed message, or no reply is in it.
    Malformed,
    /// Another key signed it, or none.
    BadHmac,
    /// It answers nothing that was asked, or is not needed any more.
    Unsolicited,
    /// It came from somebody else than was asked.
    WrongPeer,
}

/// The envelope, as [`crate::protocol::envelope`] writes it; other keys are nobody's business.
#[derive(Deserialize)]
struct Envelope {
    hmac: String,
    msg: String,
    salt: String,
}

/// The inner message (`ConfdReply`).
#[derive(Deserialize)]
struct Message {
    status: u8,
    answer: Box<RawValue>,
    serial: i64,
}

/// Opens a datagram: the `rsalt` that it answers, and the reply.
pub(super) fn open(key: &Key, datagram: &[u8]) -> Result<(String, Reply), RejectedReply> {
    let envelope = datagram
        .strip_prefix(&FOURCC)
        .ok_or(RejectedReply::BadFourcc)?;
    let opened = std::str::from_utf8(envelope)
        .map_err(|_| RejectedReply::Malformed)
        .and_then(|text| verified(key, text));
    match opened {
        // The reference sends characters up to U+00FF as one byte each, under the signature of their UTF-8.
        Err(_) if !envelope.is_ascii() => verified(key, &from_latin_1(envelope)),
        opened => opened,
    }
}

fn from_latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn verified(key: &Key, text: &str) -> Result<(String, Reply), RejectedReply> {
    let envelope: Envelope = serde_json::from_str(text).map_err(|_| RejectedReply::Malformed)?;
    let tag =
        crate::protocol::hex::decode(envelope.hmac.as_bytes()).ok_or(RejectedReply::BadHmac)?;
    if !key.verify(envelope.salt.as_bytes(), envelope.msg.as_bytes(), &tag) {
        return Err(RejectedReply::BadHmac);
    }
    let message: Message =
        serde_json::from_str(&envelope.msg).map_err(|_| RejectedReply::Malformed)?;
    let status = match message.status {
        0 => Status::Ok,
        // Code 2, not implemented, is an error to a client as well.
        1 | 2 => Status::Error,
        _ => return Err(RejectedReply::Malformed),
    };
    let reply = Reply {
        status,
        answer: message.answer,
        serial: message.serial,
    };
    Ok((envelope.salt, reply))
}

impl Reply {
    /// The answer as an error.
    pub(super) fn error(&self) -> AnsweredError {
        AnsweredError::read(self.answer.get())
    }

    /// Whether both say the same.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.status == other.status && self.answer.get() == other.answer.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope;

    fn key() -> Key {
        Key::new(b"secret").expect("not empty")
    }

    const MESSAGE: &str = r#"{"protocol":1,"status":0,"answer":["\u00e9","é"],"serial":7}"#;

    /// A signed datagram with `message`, salted with 42.
    fn signed(message: &str) -> Vec<u8> {
        envelope::request(&key(), 42, message)
    }

    #[test]
    fn a_reply_opens() {
        let (rsalt, reply) = open(&key(), &signed(MESSAGE)).expect("it is signed");
        assert_eq!(rsalt, "42");
        assert_eq!((reply.status, reply.serial), (Status::Ok, 7));
        assert_eq!(reply.answer.get(), r#"["\u00e9","é"]"#);
    }

    #[test]
    fn the_references_latin_1_opens() {
        let text = String::from_utf8(signed(MESSAGE)).expect("we send UTF-8");
        let latin_1: Vec<u8> = text.chars().map(|c| c as u8).collect();
        assert!(std::str::from_utf8(&latin_1).is_err());
        let (_, reply) = open(&key(), &latin_1).expect("it is signed");
        assert_eq!(reply.answer.get(), r#"["\u00e9","é"]"#);
    }

    #[test]
    fn what_is_no_reply_is_refused_with_the_reason() {
        let refused = |datagram: &[u8]| open(&key(), datagram).expect_err("no reply");
        assert_eq!(refused(b""), RejectedReply::BadFourcc);
        assert_eq!(refused(b"plj1{}"), RejectedReply::BadFourcc);
        assert_eq!(refused(b"plj0"), RejectedReply::Malformed);
        assert_eq!(refused(b"plj0{\xff}"), RejectedReply::Malformed);
        assert_eq!(refused(&signed("{}")), RejectedReply::Malformed);
        assert_eq!(
            refused(&signed(r#"{"status":3,"answer":0,"serial":0}"#)),
            RejectedReply::Malformed
        );
        let mut forged = signed(MESSAGE);
        let digit = forged
            .iter()
            .position(|&b| b == b':')
            .expect("hmac comes first")
            + 2;
        forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
        assert_eq!(refused(&forged), RejectedReply::BadHmac);
        let other = Key::new(b"other").expect("not empty");
        assert_eq!(
            open(&other, &signed(MESSAGE)).expect_err("another key"),
            RejectedReply::BadHmac
        );
    }
}

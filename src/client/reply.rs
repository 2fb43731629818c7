//! One reply: opened, verified, and read as far as all replies are alike.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::protocol::reply::{ErrorCode, Status};
use crate::protocol::{FOURCC, Key, hex};

/// A reply with a valid signature.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// Whether the answer is a value or an error.
    pub status: Status,
    /// The answer's JSON text, as it was sent.
    pub answer: Box<RawValue>,
    /// The serial of the configuration that was answered from; for a node's minors, a node's
    /// instances and an instance's disks, that of the node or instance. 0 for errors and pings.
    pub serial: i64,
}

/// The reason why a datagram is not accepted as a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectedReply {
    /// It does not start with the fourcc.
    BadFourcc,
    /// It is not a signed message, or the message is not a reply.
    Malformed,
    /// It is not signed with the cluster's key.
    BadHmac,
    /// It answers no request of this call, or one that is answered already.
    Unsolicited,
    /// It came from another address than the one that was asked.
    WrongPeer,
}

impl fmt::Display for RejectedReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadFourcc => "not a confd datagram (no plj0 magic)",
            Self::Malformed => "not a signed reply",
            Self::BadHmac => "not signed with the cluster's key",
            Self::Unsolicited => "no request is waiting for this reply",
            Self::WrongPeer => "not from the address that was asked",
        })
    }
}

impl std::error::Error for RejectedReply {}

/// An error that a candidate answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnsweredError {
    /// The cluster has no node, instance or address of that name; or several, if the name was
    /// abbreviated. The text is the candidate's, such as `Node name n1 not found`; `None` if it
    /// sent only a code.
    NotFound(Option<String>),
    /// The answer is too large for a datagram, or the cluster lacks what the query is about.
    Internal,
    /// The argument has the wrong type; or no value is at the path of a
    /// [`config`](super::question::config) query.
    Argument,
    /// Any other error, in the candidate's words.
    Text(String),
}

impl AnsweredError {
    fn read(answer: &str) -> Self {
        match serde_json::from_str(answer) {
            Ok(Value::String(text)) => not_found(&text).unwrap_or(Self::Text(text)),
            Ok(Value::Number(code)) => match code.as_u64() {
                Some(code) if code == ErrorCode::UnknownEntry as u64 => Self::NotFound(None),
                Some(code) if code == ErrorCode::Internal as u64 => Self::Internal,
                Some(code) if code == ErrorCode::Argument as u64 => Self::Argument,
                _ => Self::Text(format!("error {code}")),
            },
            _ => Self::Text(answer.to_owned()),
        }
    }
}

/// Reads the text of a lookup that failed. `Ganeti.Config` formats it in two ways.
fn not_found(text: &str) -> Option<AnsweredError> {
    let for_people = || {
        let (_, rest) = text.split_once("error type: ECodeNoEnt, error details:\n")?;
        Some(rest)
    };
    let shown = || {
        let (_, rest) = text.split_once("OpPrereqError \"")?;
        Some(rest.split_once("\" ECodeNoEnt")?.0)
    };
    let details = for_people().or_else(shown)?;
    Some(AnsweredError::NotFound(Some(details.to_owned())))
}

impl fmt::Display for AnsweredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound(Some(details)) => details,
            Self::NotFound(None) => "the cluster has no such entry",
            Self::Internal => "the answer does not fit a datagram; ask for a part of it",
            Self::Argument => "the argument is of the wrong kind, or the path leads nowhere",
            Self::Text(text) => text,
        })
    }
}

impl std::error::Error for AnsweredError {}

/// The envelope, as [`crate::protocol::envelope`] writes it. Unknown keys are ignored.
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

/// Reads an object. A derived `Deserialize` would accept an array of its values as well.
fn object<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    if !text.trim_start().starts_with('{') {
        return Err(serde_json::Error::custom("not an object"));
    }
    serde_json::from_str(text)
}

/// A message with a valid signature.
#[derive(Debug)]
pub(super) struct SignedReply {
    /// The `rsalt` of the request that it answers.
    pub(super) rsalt: String,
    /// The reply, or what is wrong with the message.
    pub(super) reply: Result<Reply, String>,
}

/// Opens a datagram and verifies its signature.
///
/// # Errors
///
/// [`RejectedReply::BadFourcc`], [`RejectedReply::Malformed`] for the envelope, and
/// [`RejectedReply::BadHmac`].
pub(super) fn open(key: &Key, datagram: &[u8]) -> Result<SignedReply, RejectedReply> {
    let envelope = open_envelope(key, datagram)?;
    Ok(SignedReply {
        reply: Reply::read(&envelope.msg),
        rsalt: envelope.salt,
    })
}

/// Opens a datagram, verifies its signature, and returns the message's text, which need not be a
/// reply, and its salt.
///
/// # Errors
///
/// As for [`open`].
#[cfg(feature = "ctl")]
pub(crate) fn open_text(key: &Key, datagram: &[u8]) -> Result<(String, String), RejectedReply> {
    let envelope = open_envelope(key, datagram)?;
    Ok((envelope.msg, envelope.salt))
}

fn open_envelope(key: &Key, datagram: &[u8]) -> Result<Envelope, RejectedReply> {
    let envelope = datagram
        .strip_prefix(&FOURCC)
        .ok_or(RejectedReply::BadFourcc)?;
    let opened = std::str::from_utf8(envelope)
        .map_err(|_| RejectedReply::Malformed)
        .and_then(|text| verify(key, text));
    match opened {
        // The reference sends characters up to U+00FF as one byte each, but signs their UTF-8.
        Err(_) if !envelope.is_ascii() => verify(key, &from_latin_1(envelope)),
        opened => opened,
    }
}

fn from_latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn verify(key: &Key, text: &str) -> Result<Envelope, RejectedReply> {
    let envelope: Envelope = object(text).map_err(|_| RejectedReply::Malformed)?;
    let tag = hex::decode(envelope.hmac.as_bytes()).ok_or(RejectedReply::BadHmac)?;
    if !key.verify(envelope.salt.as_bytes(), envelope.msg.as_bytes(), &tag) {
        return Err(RejectedReply::BadHmac);
    }
    Ok(envelope)
}

impl Reply {
    /// Reads the inner message. The error says what is wrong with it.
    fn read(message: &str) -> Result<Self, String> {
        let message: Message = object(message).map_err(|error| error.to_string())?;
        let status = match message.status {
            0 => Status::Ok,
            // 2 is "not implemented", which no daemon sends.
            1 | 2 => Status::Error,
            other => return Err(format!("unknown status {other}")),
        };
        Ok(Self {
            status,
            answer: message.answer,
            serial: message.serial,
        })
    }

    /// The answer as an error.
    pub(super) fn error(&self) -> AnsweredError {
        AnsweredError::read(self.answer.get())
    }

    /// Whether both replies have the same status and answer.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.status == other.status && self.answer.get() == other.answer.get()
    }
}

#[cfg(test)]
impl Reply {
    /// A reply with a JSON text as its answer.
    pub(super) fn for_test(status: Status, answer: &str, serial: i64) -> Result<Self, String> {
        let status = status as u8;
        Self::read(&format!(
            r#"{{"status":{status},"answer":{answer},"serial":{serial}}}"#
        ))
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

    /// A signed datagram with `message`, whose salt is 42.
    fn signed(message: &str) -> Vec<u8> {
        envelope::request(&key(), 42, message)
    }

    fn rejected(datagram: &[u8]) -> RejectedReply {
        open(&key(), datagram).expect_err("it is not a signed message")
    }

    /// What is wrong with a message that is signed.
    fn malformed(message: &str) -> String {
        let signed = open(&key(), &signed(message)).expect("it is signed");
        assert_eq!(signed.rsalt, "42");
        signed.reply.expect_err("it is not a reply")
    }

    #[test]
    fn a_reply_opens() {
        let SignedReply { rsalt, reply } = open(&key(), &signed(MESSAGE)).expect("it is signed");
        let reply = reply.expect("it is a reply");
        assert_eq!(rsalt, "42");
        assert_eq!((reply.status, reply.serial), (Status::Ok, 7));
        assert_eq!(reply.answer.get(), r#"["\u00e9","é"]"#);
    }

    #[test]
    fn the_latin_1_of_the_reference_opens() {
        let text = String::from_utf8(signed(MESSAGE)).expect("we send UTF-8");
        let latin_1: Vec<u8> = text.chars().map(|c| c as u8).collect();
        assert!(std::str::from_utf8(&latin_1).is_err());
        let signed = open(&key(), &latin_1).expect("it is signed");
        let reply = signed.reply.expect("it is a reply");
        assert_eq!(reply.answer.get(), r#"["\u00e9","é"]"#);
    }

    #[test]
    fn rejected_datagrams_have_a_reason() {
        assert_eq!(rejected(b""), RejectedReply::BadFourcc);
        assert_eq!(rejected(b"plj1{}"), RejectedReply::BadFourcc);
        assert_eq!(rejected(b"plj0"), RejectedReply::Malformed);
        assert_eq!(rejected(b"plj0{\xff}"), RejectedReply::Malformed);
        let mut forged = signed(MESSAGE);
        let colon = forged.iter().position(|&b| b == b':');
        let digit = colon.expect("hmac comes first") + 2;
        forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
        assert_eq!(rejected(&forged), RejectedReply::BadHmac);
        let other = Key::new(b"other").expect("not empty");
        assert_eq!(
            open(&other, &signed(MESSAGE)).expect_err("another key"),
            RejectedReply::BadHmac
        );
    }

    #[test]
    fn an_array_is_not_an_envelope() {
        let key = key();
        let message = r#"{"status":0,"answer":0,"serial":0}"#;
        let digits: String = key
            .sign(b"42", message.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let array = format!("plj0{}", serde_json::json!([digits, message, "42"]));
        assert_eq!(rejected(array.as_bytes()), RejectedReply::Malformed);
    }

    #[test]
    fn a_signed_message_that_is_not_a_reply_says_why() {
        assert!(malformed("{}").contains("status"));
        assert!(malformed("[0,1,2]").contains("not an object"));
        assert_eq!(
            malformed(r#"{"status":3,"answer":0,"serial":0}"#),
            "unknown status 3"
        );
        for serial in ["9223372036854775808", "1.5", "\"7\"", "null"] {
            let message = format!(r#"{{"status":0,"answer":0,"serial":{serial}}}"#);
            assert!(malformed(&message).contains("expected i64"), "{serial}");
        }
    }

    #[test]
    fn a_name_that_is_not_found_is_recognized() {
        let read = |text: &str| AnsweredError::read(&serde_json::json!(text).to_string());
        for text in [
            "Failure: prerequisites not met for this operation:\nerror type: ECodeNoEnt, error details:\nNode name a not found",
            "OpPrereqError \"Node name a not found\" ECodeNoEnt",
            "Node not found in the configuration: OpPrereqError \"Node name a not found\" ECodeNoEnt",
        ] {
            let details = Some("Node name a not found".to_owned());
            assert_eq!(read(text), AnsweredError::NotFound(details));
        }
        assert_eq!(AnsweredError::read("0"), AnsweredError::NotFound(None));
        for text in ["No config path", "OpPrereqError \"a\" ECodeInval"] {
            assert_eq!(read(text), AnsweredError::Text(text.to_owned()));
        }
    }
}

//! The outer layer of a datagram: fourcc, message, salt and signature.

use std::ops::Range;

#[cfg(feature = "server")]
use simd_json::Node;

#[cfg(feature = "server")]
use super::Parser;
use super::{FOURCC, Key, REPLY_BYTES_MAX, Reject, hex};
use crate::json::{self, Sink};

/// The three strings of an envelope, unescaped.
#[doc(hidden)]
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The message in the first `message_len` bytes, then the parser's padding.
    pub message: &'a mut [u8],
    /// The message's length in bytes.
    pub message_len: usize,
    /// In a request the sender's clock, in a reply the request's `rsalt`; UTF-8.
    pub salt: &'a [u8],
    /// The signature's hex digits as received.
    pub hmac: &'a [u8],
}

/// Where an envelope's strings are: the message in a buffer of its own, the others in the text.
#[doc(hidden)]
#[derive(Debug)]
pub struct EnvelopeSpans {
    /// The message's length in bytes.
    pub message_len: usize,
    /// The salt, between its quotes.
    pub salt: Range<usize>,
    /// The signature's hex digits, between their quotes.
    pub hmac: Range<usize>,
}

impl Envelope<'_> {
    /// Checks the signature.
    ///
    /// # Errors
    ///
    /// [`Reject::BadHmac`] if it is not 40 hex digits (of either case), or not what `key` signs.
    pub fn verify(&self, key: &Key) -> Result<(), Reject> {
        let tag = hex::decode(self.hmac).ok_or(Reject::BadHmac)?;
        if key.verify(self.salt, &self.message[..self.message_len], &tag) {
            Ok(())
        } else {
            Err(Reject::BadHmac)
        }
    }

    /// Checks the sender's clock: the salt must be decimal digits, in seconds since the epoch.
    ///
    /// # Errors
    ///
    /// [`Reject::ClockSkew`] if it is anything else, or differs from `now` by more than `skew_max`.
    pub fn check_clock(&self, now: u64, skew_max: u64) -> Result<(), Reject> {
        // `parse` would accept a sign.
        if self.salt.starts_with(b"+") {
            return Err(Reject::ClockSkew);
        }
        let sent = std::str::from_utf8(self.salt).ok().map(str::parse::<u64>);
        match sent {
            Some(Ok(sent)) if sent.abs_diff(now) <= skew_max => Ok(()),
            _ => Err(Reject::ClockSkew),
        }
    }
}

#[cfg(feature = "server")]
impl EnvelopeSpans {
    /// As [`Envelope::parse`], always with the general parser. The strings are unescaped in place.
    ///
    /// # Errors
    ///
    /// As for [`Envelope::parse`].
    pub fn parse(
        parser: &mut Parser,
        text: &mut [u8],
        len: usize,
        message: &mut [u8],
    ) -> Result<Self, Reject> {
        if text.first() != Some(&b'{') {
            return Err(Reject::BadEnvelope);
        }
        let is_ascii = text[..len].is_ascii();
        let base = text.as_ptr().addr();
        let spans = parser
            .parse(text, len, |nodes| Self::from_nodes(nodes, base, message))
            .flatten()
            .ok_or(Reject::BadEnvelope)?;
        if is_ascii && has_surrogate_pairs(&message[..spans.message_len]) {
            return Err(Reject::BadHmac);
        }
        Ok(spans)
    }

    /// Finds the strings in `nodes`, parsed from a text that starts at address `base`.
    fn from_nodes(nodes: &[Node<'_>], base: usize, message: &mut [u8]) -> Option<Self> {
        let [Node::Object { len: 3, count: 6 }, members @ ..] = nodes else {
            return None;
        };
        let span = |value: &str| {
            let start = value.as_ptr().addr() - base;
            start..start + value.len()
        };
        let (mut message_len, mut salt, mut hmac) = (None, None, None);
        for member in members.chunks_exact(2) {
            let [Node::String(key), Node::String(value)] = *member else {
                return None;
            };
            match key {
                "msg" => {
                    message[..value.len()].copy_from_slice(value.as_bytes());
                    message_len = Some(value.len());
                }
                "salt" => salt = Some(span(value)),
                "hmac" => hmac = Some(span(value)),
                _ => return None,
            }
        }
        // There are three members: if a key occurs twice, another one is missing.
        Some(Self {
            message_len: message_len?,
            salt: salt?,
            hmac: hmac?,
        })
    }
}

/// Whether `message` has characters above U+FFFF. In an ASCII datagram they were written as pairs
/// of escapes. The reference signs each half by itself, which is not UTF-8: the signature of a
/// client that signed UTF-8 cannot match there.
#[cfg(feature = "server")]
fn has_surrogate_pairs(message: &[u8]) -> bool {
    !message.is_ascii() && message.iter().any(|&byte| byte >= 0xf0)
}

/// The text before a message: fourcc, and the signature's digits, to be replaced.
const HEAD: &[u8; 62] = b"plj0{\"hmac\":\"0000000000000000000000000000000000000000\",\"msg\":\"";
const DIGITS: Range<usize> = 13..53;
const SALT_PREFIX: &[u8] = br#"","salt":""#;
const SUFFIX: &[u8] = br#""}"#;

const _: () = assert!(matches!(HEAD.first_chunk(), Some(&FOURCC)));

/// Writes a datagram to a fixed buffer. Text that does not fit is counted but not written.
struct DatagramWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Sink for DatagramWriter<'_> {
    fn push(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        if let Some(free) = self.bytes.get_mut(self.len..end) {
            free.copy_from_slice(piece);
        }
        self.len = end;
    }
}

/// Writes a signed message to `out` in the reference's layout. `key` signs `salt` and `message`.
///
/// `escaped` is `message` escaped as the content of a JSON string, if the caller has it. Returns
/// the datagram's length, or `None` if it is longer than [`REPLY_BYTES_MAX`] or does not fit; the
/// content of `out` is then unspecified.
pub(crate) fn write(
    key: &Key,
    salt: &[u8],
    message: &[u8],
    escaped: Option<&[u8]>,
    out: &mut [u8],
) -> Option<usize> {
    let bytes_max = out.len().min(REPLY_BYTES_MAX);
    if escaped.unwrap_or(message).len() > bytes_max {
        return None;
    }
    let mut head = *HEAD;
    hex::encode(&key.sign(salt, message), &mut head[DIGITS]);
    let mut writer = DatagramWriter {
        bytes: &mut out[..bytes_max],
        len: 0,
    };
    writer.push(&head);
    match escaped {
        Some(escaped) => writer.push(escaped),
        None => json::escape(message, &mut writer),
    }
    writer.push(SALT_PREFIX);
    json::escape(salt, &mut writer);
    writer.push(SUFFIX);
    (writer.len <= bytes_max).then_some(writer.len)
}

/// Returns a signed request as a datagram.
///
/// `now` is the sender's clock in seconds since the epoch, `message` the inner request as JSON.
///
/// # Panics
///
/// If the message does not fit a datagram; [`signed`] returns `None` instead.
pub fn request(key: &Key, now: u64, message: &str) -> Vec<u8> {
    signed(key, &now.to_string(), message).expect("a request fits a datagram")
}

/// Returns a signed message as a datagram; `None` if it does not fit one.
///
/// The salt of a request is the sender's clock in seconds since the epoch, that of a reply the
/// request's `rsalt`.
pub fn signed(key: &Key, salt: &str, message: &str) -> Option<Vec<u8>> {
    // An escape takes at most six bytes.
    let bytes_max =
        HEAD.len() + 6 * (message.len() + salt.len()) + SALT_PREFIX.len() + SUFFIX.len();
    let mut out = vec![0; bytes_max.min(REPLY_BYTES_MAX)];
    let len = write(key, salt.as_bytes(), message.as_bytes(), None, &mut out)?;
    out.truncate(len);
    Some(out)
}

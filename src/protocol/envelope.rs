//! The fourcc and the envelope round a message.

use std::ops::Range;

use simd_json::Node;

use super::{FOURCC, Key, Parser, REPLY_BYTES_MAX, Reject, fast_path};
use crate::json::{self, Sink, splat};

/// The three strings of an envelope, unescaped.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The message in its first `message_len` bytes, then the parser's padding.
    pub message: &'a mut [u8],
    /// The message's length in bytes.
    pub message_len: usize,
    /// The sender's clock in a request, the request's `rsalt` in a reply; UTF-8.
    pub salt: &'a [u8],
    /// The signature's digits, as they were sent.
    pub hmac: &'a [u8],
}

/// Where an envelope's strings stand: the message in a buffer of its own, the others in the text.
#[derive(Debug)]
pub struct EnvelopeSpans {
    /// The message's length in bytes.
    pub message_len: usize,
    /// The salt, between its quotes.
    pub salt: Range<usize>,
    /// The signature's digits, between their quotes.
    pub hmac: Range<usize>,
}

impl<'a> Envelope<'a> {
    /// Parses the envelope in the first `len` bytes of `text`, and writes its message to `message`. Both must hold `len` bytes and
    /// [`PADDING`](super::PADDING) more.
    ///
    /// # Errors
    ///
    /// * [`Reject::BadEnvelope`]: exactly the keys `msg`, `salt` and `hmac` must be there, once each, all of them strings.
    /// * [`Reject::BadHmac`]: what is written cannot be what was signed.
    ///
    /// # Panics
    ///
    /// If `text` or `message` is too short.
    pub fn parse(
        parser: &mut Parser,
        text: &'a mut [u8],
        len: usize,
        message: &'a mut [u8],
    ) -> Result<Self, Reject> {
        let places = match fast_path::envelope(text, len, message) {
            Some(places) => places,
            None => EnvelopeSpans::parse(parser, text, len, message)?,
        };
        Ok(Self {
            message,
            message_len: places.message_len,
            salt: &text[places.salt],
            hmac: &text[places.hmac],
        })
    }

    /// Checks the signature.
    ///
    /// # Errors
    ///
    /// [`Reject::BadHmac`]: not 40 hexadecimal digits (of either case), or not those of `key`.
    pub fn verify(&self, key: &Key) -> Result<(), Reject> {
        let tag = decode_hex(self.hmac).ok_or(Reject::BadHmac)?;
        let holds = key.verify(self.salt, &self.message[..self.message_len], &tag);
        if holds { Ok(()) } else { Err(Reject::BadHmac) }
    }

    /// Checks the sender's clock: seconds since the epoch, decimal digits and nothing else.
    ///
    /// # Errors
    ///
    /// [`Reject::ClockSkew`]: it is no such number, or further than `skew_max` from `now`.
    pub fn check_clock(&self, now: u64, skew_max: u64) -> Result<(), Reject> {
        // The standard library would take a sign as well.
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

impl EnvelopeSpans {
    /// As [`Envelope::parse`], whatever the spelling.
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
        let places = parser
            .parse(text, len, |nodes| Self::from_nodes(nodes, base, message))
            .flatten()
            .ok_or(Reject::BadEnvelope)?;
        if is_ascii && has_surrogate_pairs(&message[..places.message_len]) {
            return Err(Reject::BadHmac);
        }
        Ok(places)
    }

    /// The places of the envelope that `nodes` are, of a text that starts at the address `base`.
    fn from_nodes(nodes: &[Node<'_>], base: usize, message: &mut [u8]) -> Option<Self> {
        let [Node::Object { len: 3, count: 6 }, members @ ..] = nodes else {
            return None;
        };
        let place = |value: &str| {
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
                "salt" => salt = Some(place(value)),
                "hmac" => hmac = Some(place(value)),
                _ => return None,
            }
        }
        // Three members: a key that came twice leaves another one out.
        Some(Self {
            message_len: message_len?,
            salt: salt?,
            hmac: hmac?,
        })
    }
}

/// Whether `message` has characters beyond U+FFFF. In a datagram of ASCII they were written as pairs of escapes; the reference
/// signs the two halves for themselves, which is no UTF-8, and what a client signs does not hold.
fn has_surrogate_pairs(message: &[u8]) -> bool {
    !message.is_ascii() && message.iter().any(|&byte| byte >= 0xf0)
}

/// The tag that 40 hexadecimal digits of either case mean; `None` if they are no such.
pub(crate) fn decode_hex(digits: &[u8]) -> Option<[u8; 20]> {
    let digits: &[u8; 40] = digits.try_into().ok()?;
    let mut tag = [0; 20];
    let mut wrong = 0;
    for (bytes, digits) in tag.chunks_exact_mut(4).zip(digits.as_chunks().0) {
        let digits = u64::from_be_bytes(*digits);
        let letters = digits & splat(1 << 6);
        let nibbles = ((digits & splat(15)) + 9 * (letters >> 6)) & splat(15);
        // Right are digits that are what their value is written with, in lower case.
        wrong |= hex_digits(nibbles) ^ (digits | letters >> 1);
        let pairs = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
        let quads = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
        bytes.copy_from_slice(&((quads | quads >> 16) as u32).to_be_bytes());
    }
    (wrong == 0).then_some(tag)
}

/// Writes `tag` as hexadecimal digits, in lower case.
pub(crate) fn encode_hex(tag: &[u8; 20], digits: &mut [u8]) {
    for (digits, bytes) in digits.chunks_exact_mut(8).zip(tag.as_chunks().0) {
        let quads = u64::from(u32::from_be_bytes(*bytes));
        let pairs = (quads | quads << 16) & 0x0000_ffff_0000_ffff;
        let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
        let nibbles = (bytes | bytes << 4) & splat(15);
        digits.copy_from_slice(&hex_digits(nibbles).to_be_bytes());
    }
}

/// The digits of eight nibbles, all in the bytes of one number.
const fn hex_digits(nibbles: u64) -> u64 {
    let letters = (nibbles + splat(6)) >> 4 & splat(1);
    nibbles + splat(b'0') + (b'a' - b'9' - 1) as u64 * letters
}

/// What stands before a message: fourcc, and the signature's digits to be filled in.
const HEAD: &[u8; 62] = b"plj0{\"hmac\":\"0000000000000000000000000000000000000000\",\"msg\":\"";
const DIGITS: Range<usize> = 13..53;
const SALT_PREFIX: &[u8] = br#"","salt":""#;
const SUFFIX: &[u8] = br#""}"#;

const _: () = assert!(matches!(HEAD.first_chunk(), Some(&FOURCC)));

/// A reply in the making, in its sender's buffer. What does not fit is left out, but counted.
struct DatagramWriter<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Sink for DatagramWriter<'_> {
    fn push(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(piece);
        }
        self.len = end;
    }
}

/// Writes a message to `out` as the reference writes it, with the signature of `key` over `salt` and `message`.
///
/// `escaped` is `message` with the escapes of a JSON string, if it is at hand. Gives the length of the whole, or `None`, and leaves
/// `out` without meaning, if it is longer than [`REPLY_BYTES_MAX`] or does not fit.
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
    encode_hex(&key.sign(salt, message), &mut head[DIGITS]);
    let mut slot = DatagramWriter {
        bytes: &mut out[..bytes_max],
        len: 0,
    };
    slot.push(&head);
    match escaped {
        Some(escaped) => slot.push(escaped),
        None => json::escape(message, &mut slot),
    }
    slot.push(SALT_PREFIX);
    json::escape(salt, &mut slot);
    slot.push(SUFFIX);
    (slot.len <= bytes_max).then_some(slot.len)
}

/// A signed request, ready to be sent: for tests and benches.
///
/// `now` is the sender's clock in seconds since the epoch, `message` the inner request as JSON text.
///
/// # Panics
///
/// If the message is too long for a datagram; [`signed`] tells.
pub fn request(key: &Key, now: u64, message: &str) -> Vec<u8> {
    signed(key, &now.to_string(), message).expect("a request fits a datagram")
}

/// A signed message, ready to be sent; `None` if it does not fit a datagram.
///
/// The salt of a request is the sender's clock in seconds since the epoch, that of a reply the request's `rsalt`.
pub fn signed(key: &Key, salt: &str, message: &str) -> Option<Vec<u8>> {
    // A character that needs an escape takes six bytes at most.
    let bytes_max =
        HEAD.len() + 6 * (message.len() + salt.len()) + SALT_PREFIX.len() + SUFFIX.len();
    let mut out = vec![0; bytes_max.min(REPLY_BYTES_MAX)];
    let len = write(key, salt.as_bytes(), message.as_bytes(), None, &mut out)?;
    out.truncate(len);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_these_and_no_others() {
        let tag: [u8; 20] = std::array::from_fn(|at| (at * 31 + 0x9a) as u8);
        let mut digits = [0; 40];
        encode_hex(&tag, &mut digits);
        let shown: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, shown.as_bytes());
        assert_eq!(decode_hex(&digits.to_ascii_uppercase()), Some(tag));
        for byte in 0..=255_u8 {
            for at in [0, 7, 8, 39] {
                let mut digits = *b"00112233445566778899aAbBcCdDeEfF01234567";
                digits[at] = byte;
                let value = (byte as char).to_digit(16);
                let decoded = decode_hex(&digits).map(|tag| match at % 2 {
                    0 => tag[at / 2] >> 4,
                    _ => tag[at / 2] & 15,
                });
                assert_eq!(decoded.map(u32::from), value, "{byte:#x} at {at}");
            }
        }
        assert_eq!(decode_hex(&digits[1..]), None);
    }
}

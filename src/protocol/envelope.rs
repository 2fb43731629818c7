//! The outer layer of a datagram: fourcc, message, salt and signature.

use std::ops::Range;

use super::{FOURCC, Key, REPLY_BYTES_MAX, Reject, hex};
use crate::json::{self, Sink};

/// The three strings of an envelope, unescaped.
#[doc(hidden)]
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The message in the first `message_len` bytes, then at least [`PADDING`](super::PADDING).
    pub message: &'a mut [u8],
    /// The message's length in bytes.
    pub message_len: usize,
    /// In a request the sender's clock, in a reply the request's `rsalt`; UTF-8.
    pub salt: &'a [u8],
    /// The signature as received.
    pub hmac: &'a [u8],
    /// The signature's tag; `None` if it is not 40 hex digits.
    pub(crate) tag: Option<[u8; 20]>,
}

impl Envelope<'_> {
    /// Checks the signature, and returns its tag.
    ///
    /// # Errors
    ///
    /// [`Reject::BadHmac`] if it is not 40 hex digits (of either case), or not what `key` signs.
    pub fn verify(&self, key: &Key) -> Result<[u8; 20], Reject> {
        let tag = self.tag.ok_or(Reject::BadHmac)?;
        if key.verify(self.salt, &self.message[..self.message_len], &tag) {
            Ok(tag)
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

/// The text before a message: fourcc, and the signature's digits, to be replaced.
const HEAD: &[u8; 62] = b"plj0{\"hmac\":\"0000000000000000000000000000000000000000\",\"msg\":\"";
const DIGITS: Range<usize> = 13..53;
const SALT_PREFIX: &[u8] = br#"","salt":""#;
const SUFFIX: &[u8] = br#""}"#;

/// How much of a message is escaped before checking that it still fits.
const PIECE_BYTES: usize = 1024;

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
    let mut writer = DatagramWriter {
        bytes: &mut out[..bytes_max],
        len: 0,
    };
    writer.push(HEAD);
    match escaped {
        Some(escaped) => writer.push(escaped),
        None => {
            for piece in message.chunks(PIECE_BYTES) {
                // What no longer fits is not escaped.
                if writer.len <= bytes_max {
                    json::escape(piece, &mut writer);
                }
            }
        }
    }
    writer.push(SALT_PREFIX);
    json::escape(salt, &mut writer);
    writer.push(SUFFIX);
    let len = writer.len;
    // Signed last: a message that does not fit is not worth a signature.
    if len > bytes_max {
        return None;
    }
    hex::encode(&key.sign(salt, message), &mut out[DIGITS]);
    Some(len)
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

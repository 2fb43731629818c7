//! Dispatches to the fast path, or to the general parser for everything that the fast path leaves.

use super::envelope::{Envelope, EnvelopeSpans};
use super::request::Request;
use super::{Parser, Reject, fast_path};

impl<'a> Envelope<'a> {
    /// Parses the envelope in the first `len` bytes of `text`, and writes its message to `message`.
    ///
    /// # Errors
    ///
    /// * [`Reject::BadEnvelope`]: not an object of exactly the strings `msg`, `salt` and `hmac`,
    ///   each once.
    /// * [`Reject::BadHmac`]: the message as it is spelled cannot be the message that was signed.
    ///
    /// # Panics
    ///
    /// If `text` or `message` is shorter than `len` and [`PADDING`](super::PADDING) bytes.
    pub fn parse(
        parser: &mut Parser,
        text: &'a mut [u8],
        len: usize,
        message: &'a mut [u8],
    ) -> Result<Self, Reject> {
        let spans = match fast_path::envelope(text, len, message) {
            Some(spans) => spans,
            None => EnvelopeSpans::parse(parser, text, len, message)?,
        };
        Ok(Self {
            message,
            message_len: spans.message_len,
            salt: &text[spans.salt],
            hmac: &text[spans.hmac],
        })
    }
}

impl Request<'_> {
    /// Parses the request in the first `len` bytes of `text` and passes it to `then`. `None` if the
    /// text is not a valid request.
    ///
    /// `protocol` may be any number that a double can hold: like the reference, this ignores its
    /// value. The type of the argument is checked even for requests that do not use it.
    ///
    /// # Panics
    ///
    /// If `text` is shorter than `len` and [`PADDING`](super::PADDING) bytes.
    pub fn read<R>(
        parser: &mut Parser,
        text: &mut [u8],
        len: usize,
        then: impl FnOnce(&Request<'_>) -> R,
    ) -> Option<R> {
        if let Some(request) = fast_path::request(text, len) {
            return Some(then(&request));
        }
        Request::parse(parser, text, len, then)
    }
}

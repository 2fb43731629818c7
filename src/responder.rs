//! One datagram in; one reply, or one reason for silence, out.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::protocol::envelope::{self, Envelope};
use crate::protocol::reply::ErrorCode;
use crate::protocol::request::Request;
use crate::protocol::{FOURCC, Key, PADDING, Parser, REQUEST_BYTES_MAX, Reject, SKEW_SECONDS_MAX};
use crate::snapshot::{AnswerWriter, Rendered, Snapshot};

/// What is served at one moment: published as a whole, so that no reply mixes two of them.
#[derive(Debug, Clone)]
pub struct Served {
    /// The cluster's key.
    pub key: Arc<Key>,
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
}

/// A datagram as the kernel delivered it: `len` bytes, then at least [`PADDING`] bytes that the parser may read.
///
/// Parsing may unescape strings in place, so the bytes are not the datagram any more afterwards.
#[derive(Debug)]
pub struct Datagram<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Datagram<'a> {
    /// A datagram in the first `len` bytes of `buffer`.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than `len` and the padding.
    pub fn new(buffer: &'a mut [u8], len: usize) -> Self {
        assert!(
            buffer.len() >= len + PADDING,
            "a datagram's buffer must hold the parser's padding"
        );
        Self { buffer, len }
    }

    /// The datagram, as long as it was not parsed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// How long the datagram is, in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the datagram is empty, as anybody may send one.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// An answered datagram: the reply stands in the first `len` bytes of the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyInfo {
    /// The reply's length in bytes, at most [`REPLY_BYTES_MAX`](crate::protocol::REPLY_BYTES_MAX).
    pub len: usize,
    /// The request's type, 0 to 11.
    pub kind: u8,
    /// Whether the answer was larger than a datagram, and an error was sent in its place.
    pub too_large: bool,
}

/// Answers datagrams one after another. Holds the scratch memory of one worker and nothing that outlives a call.
#[derive(Debug)]
pub struct Responder {
    parser: Parser,
    /// The inner message of the request, with the parser's padding.
    message: Box<[u8]>,
    answer: AnswerWriter,
}

impl Default for Responder {
    fn default() -> Self {
        Self::new()
    }
}

impl Responder {
    /// Takes all the memory that answering needs.
    pub fn new() -> Self {
        Self {
            parser: Parser::new(),
            message: vec![0; REQUEST_BYTES_MAX + PADDING].into(),
            answer: AnswerWriter::new(),
        }
    }

    /// Answers `datagram` from `served` into `out`, which must hold [`REPLY_BYTES_MAX`](crate::protocol::REPLY_BYTES_MAX) bytes.
    ///
    /// `now` is the daemon's clock in whole seconds since the epoch.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    ///
    /// # Panics
    ///
    /// If `out` is too short for the reply.
    pub fn respond(
        &mut self,
        datagram: Datagram<'_>,
        now: u64,
        served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject> {
        let Datagram { buffer, len } = datagram;
        if len > REQUEST_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        if len < FOURCC.len() || buffer[..FOURCC.len()] != FOURCC {
            return Err(Reject::BadFourcc);
        }
        let text = &mut buffer[FOURCC.len()..];
        let len = len - FOURCC.len();
        let Self {
            parser,
            message,
            answer,
        } = self;
        let signed = Envelope::parse(parser, text, len, message)?;
        signed.verify(&served.key)?;
        signed.check_clock(now, SKEW_SECONDS_MAX)?;
        Request::read(parser, signed.message, signed.message_len, |request| {
            reply(request, served, answer, out)
        })
        .ok_or(Reject::BadRequest)
    }
}

/// Writes the reply to `request` to `out`.
fn reply(
    request: &Request<'_>,
    served: &Served,
    answer: &mut AnswerWriter,
    out: &mut [u8],
) -> ReplyInfo {
    let mut write = |message: &[u8], escaped: Option<&[u8]>| {
        envelope::write(&served.key, request.rsalt, message, escaped, out)
    };
    let written = match served.snapshot.answer(request, answer) {
        Rendered::Ready(ready) => write(&ready.message, Some(&ready.escaped)),
        Rendered::Written if answer.is_too_large() => None,
        Rendered::Written => write(answer.message(), None),
    };
    let len = written.unwrap_or_else(|| {
        answer.error_code(ErrorCode::Internal);
        write(answer.message(), None)
            .expect("with its rsalt, an error is shorter than the longest request and 200 bytes")
    });
    ReplyInfo {
        len,
        kind: request.kind as u8,
        too_large: written.is_none(),
    }
}

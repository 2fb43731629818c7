//! Answers one datagram: bytes, a clock value and a snapshot in; a reply or a reject reason out.
//!
//! Pure: no I/O, no clock, no lock, and no allocation per datagram. The checks run in the order of
//! [`Reject::ALL`].
#![forbid(unsafe_code)]

mod replay;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

pub use replay::{ENTRIES as REPLAY_ENTRIES, ReplayTable};

use crate::protocol::envelope::{self, Envelope};
use crate::protocol::reply::{self, ErrorCode};
use crate::protocol::request::Request;
use crate::protocol::{FOURCC, Key, PADDING, REQUEST_BYTES_MAX, Reject, SKEW_SECONDS_MAX};
use crate::snapshot::{AnswerWriter, Rendered, Snapshot};

/// The key and the configuration in use. Published as one value, so that a reply never mixes two
/// versions.
#[derive(Debug, Clone)]
pub struct Served {
    /// The cluster's key.
    pub key: Arc<Key>,
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
}

/// A received datagram: `len` bytes in a buffer with at least [`PADDING`] bytes after them.
///
/// Parsing may unescape strings in place: afterwards the buffer no longer holds the datagram.
#[derive(Debug)]
pub struct Datagram<'a> {
    buffer: &'a mut [u8],
    len: usize,
    peer: IpAddr,
}

impl<'a> Datagram<'a> {
    /// A datagram in the first `len` bytes of `buffer`, from the unspecified address.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than `len` and [`PADDING`] bytes.
    pub fn new(buffer: &'a mut [u8], len: usize) -> Self {
        assert!(
            buffer.len() >= len + PADDING,
            "a datagram's buffer must hold the parser's padding"
        );
        Self {
            buffer,
            len,
            peer: Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The same datagram, from the address `peer`.
    pub fn from_peer(self, peer: IpAddr) -> Self {
        Self { peer, ..self }
    }

    /// The datagram's bytes, before it is parsed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// The datagram's length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the datagram has no bytes. UDP allows this.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Describes a reply, which is in the first `len` bytes of the caller's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyInfo {
    /// The reply's length in bytes, at most [`REPLY_BYTES_MAX`](crate::protocol::REPLY_BYTES_MAX).
    pub len: usize,
    /// The request's type, 0 to 11.
    pub kind: u8,
    /// Whether the reply is an error.
    pub is_error: bool,
    /// Whether the answer was larger than a datagram. The reply is then an error.
    pub too_large: bool,
}

/// Answers datagrams. Holds one worker's scratch memory, and no state from one call to the next.
#[derive(Debug)]
pub struct Responder {
    replays: Option<Arc<ReplayTable>>,
    /// The request's inner message, and the bytes that must follow it.
    message: Box<[u8]>,
    answer: AnswerWriter,
}

impl Default for Responder {
    fn default() -> Self {
        Self::new()
    }
}

impl Responder {
    /// Allocates all memory that answering needs.
    pub fn new() -> Self {
        Self {
            replays: None,
            message: vec![0; REQUEST_BYTES_MAX + PADDING].into(),
            answer: AnswerWriter::new(),
        }
    }

    /// Answers each signature to one address only, which `table` remembers. Workers of one daemon
    /// share a table.
    pub fn with_replay_protection(self, table: Arc<ReplayTable>) -> Self {
        Self {
            replays: Some(table),
            ..self
        }
    }

    /// Answers `datagram` from `served`, and writes the reply to `out`, which must hold
    /// [`REPLY_BYTES_MAX`](crate::protocol::REPLY_BYTES_MAX) bytes.
    ///
    /// `now` is the daemon's clock in whole seconds since the epoch.
    ///
    /// # Errors
    ///
    /// The reason why the datagram gets no answer.
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
        let Datagram { buffer, len, peer } = datagram;
        if len > REQUEST_BYTES_MAX {
            return Err(Reject::TooLong);
        }
        if len < FOURCC.len() || buffer[..FOURCC.len()] != FOURCC {
            return Err(Reject::BadFourcc);
        }
        let text = &mut buffer[FOURCC.len()..];
        let len = len - FOURCC.len();
        let Self {
            replays,
            message,
            answer,
        } = self;
        let envelope = Envelope::parse(text, len, message)?;
        if let (Some(table), Some(tag)) = (&replays, &envelope.tag) {
            table.prefetch(tag);
        }
        let tag = envelope.verify(&served.key)?;
        envelope.check_clock(now, SKEW_SECONDS_MAX)?;
        if let Some(table) = replays
            && !table.admit(&tag, peer, now)
        {
            return Err(Reject::Replayed);
        }
        let request = Request::read(envelope.message, envelope.message_len);
        let request = request.ok_or(Reject::BadRequest)?;
        Ok(reply(&request, served, answer, out))
    }
}

/// Writes the reply to `request`.
fn reply(
    request: &Request<'_>,
    served: &Served,
    answer: &mut AnswerWriter,
    out: &mut [u8],
) -> ReplyInfo {
    let mut is_error = false;
    let mut write = |message: &[u8], escaped: Option<&[u8]>| {
        is_error = reply::is_error(message);
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
            .expect("an error with its rsalt is at most 200 bytes longer than the longest request")
    });
    ReplyInfo {
        len,
        kind: request.kind as u8,
        is_error,
        too_large: written.is_none(),
    }
}

//! One datagram in; one reply, or one reason for silence, out.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::protocol::{Key, PADDING, Reject};
use crate::snapshot::Snapshot;

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
/// Parsing unescapes strings in place, so the bytes are not the datagram any more afterwards.
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
pub struct Reply {
    /// The reply's length in bytes, at most [`crate::protocol::REPLY_BYTES_MAX`].
    pub len: usize,
    /// The request's type, 0 to 11.
    pub kind: u8,
    /// Whether the answer was larger than a datagram, and an error was sent in its place.
    pub too_large: bool,
}

/// Answers datagrams one after another. Holds the scratch memory of one worker and nothing that outlives a call.
#[derive(Debug, Default)]
pub struct Responder {}

impl Responder {
    /// Takes all the memory that answering needs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `datagram` from `served` into `out`, which must hold [`crate::protocol::REPLY_BYTES_MAX`] bytes.
    ///
    /// `now` is the daemon's clock in whole seconds since the epoch.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub fn respond(
        &mut self,
        datagram: Datagram<'_>,
        now: u64,
        served: &Served,
        out: &mut [u8],
    ) -> Result<Reply, Reject> {
        let _ = (datagram.buffer, datagram.len, now, served, out);
        Err(Reject::BadFourcc)
    }
}

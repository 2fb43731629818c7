//! What both engines do with a received datagram: have it answered, and count.
#![forbid(unsafe_code)]

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::Handler;
use super::control::LocalAddr;
use super::counters::Counters;
use super::peer::Peer;
use crate::clock;
use crate::protocol::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reject};
use crate::responder::{Datagram, Served};

/// A datagram as an engine received it.
pub struct Received<'a> {
    /// The sender.
    pub peer: Peer,
    /// The address it was sent to, from which the reply is to leave.
    pub source: LocalAddr,
    /// The kernel cut it.
    pub truncated: bool,
    /// The socket's drop counter, if it was told.
    pub overruns: Option<u32>,
    /// The datagram in its first `len` bytes, then the parser's padding.
    pub buffer: &'a mut [u8],
    /// The datagram's length in bytes.
    pub len: usize,
}

/// One worker's means of answering.
pub(super) struct Dispatcher<A> {
    answer: A,
    served: Cache<Arc<ArcSwap<Served>>, Arc<Served>>,
    counters: Arc<Counters>,
}

/// A [`Dispatcher`] for one batch: one look at what is published, one at the clock.
pub(super) struct BatchContext<'a, A> {
    answer: &'a mut A,
    served: &'a Served,
    now: u64,
    pub(super) counters: &'a Counters,
}

impl<A: Handler> Dispatcher<A> {
    pub(super) fn new(answer: A, served: Arc<ArcSwap<Served>>, counters: Arc<Counters>) -> Self {
        Self {
            answer,
            served: Cache::new(served),
            counters,
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Looks at what is published, and lets go of what was before.
    pub(super) fn refresh(&mut self) {
        self.served.load();
    }

    /// Starts a batch.
    pub(super) fn begin_batch(&mut self) -> BatchContext<'_, A> {
        BatchContext {
            answer: &mut self.answer,
            served: self.served.load(),
            // A clock set before 1970 reads as 0, so that every request is too new.
            now: clock::unix_seconds(),
            counters: &self.counters,
        }
    }
}

impl<A: Handler> BatchContext<'_, A> {
    /// Answers one datagram into `out`; the reply's length, or `None` if there is none.
    pub(super) fn answer(&mut self, arrival: Received<'_>, out: &mut [u8]) -> Option<usize> {
        let counters = self.counters;
        counters.received.add(1);
        if let Some(overruns) = arrival.overruns {
            counters.overruns.set(u64::from(overruns));
        }
        let answer = if arrival.truncated || arrival.len > REQUEST_BYTES_MAX {
            counters.truncated.add(1);
            Err(Reject::TooLong)
        } else {
            let datagram = Datagram::new(arrival.buffer, arrival.len).from_peer(arrival.peer.ip());
            self.answer.handle(datagram, self.now, self.served, out)
        };
        match answer {
            Ok(reply) => {
                assert!(
                    reply.len <= REPLY_BYTES_MAX,
                    "a reply is as long as its buffer at most"
                );
                if reply.too_large {
                    counters.answer_too_large(reply.kind);
                }
                Some(reply.len)
            }
            Err(reject) => {
                counters.reject(reject, &arrival.peer);
                None
            }
        }
    }
}

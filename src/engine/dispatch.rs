//! What both engines do with a received datagram: call the handler, and count.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};

use super::control::LocalAddr;
use super::counters::Counters;
use super::handler::Handler;
use super::peer::Peer;
use crate::clock;
use crate::protocol::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reject};
use crate::responder::{Datagram, Served};

/// A datagram as an engine received it.
pub struct Received<'a> {
    /// The sender.
    pub peer: Peer,
    /// The address it was sent to, from which the reply is sent.
    pub local_addr: LocalAddr,
    /// Whether the kernel truncated it.
    pub truncated: bool,
    /// The socket's drop counter, if the kernel reported it.
    pub overruns: Option<u32>,
    /// The datagram in its first `len` bytes, then the parser's padding.
    pub buffer: &'a mut [u8],
    /// The datagram's length in bytes.
    pub len: usize,
}

/// A worker's handler, with what it answers from and counts in.
pub(super) struct Dispatcher<A> {
    answer: A,
    served: Cache<Arc<ArcSwap<Served>>, Arc<Served>>,
    counters: Arc<Counters>,
}

/// A [`Dispatcher`] for one batch, which loads the published snapshot and reads the clock once.
pub(super) struct BatchContext<'a, A> {
    answer: &'a mut A,
    served: &'a Served,
    now: u64,
    pub(super) counters: &'a Counters,
    received_before: u64,
    /// When the batch began, if it is measured.
    began: Option<Instant>,
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

    /// Loads the published snapshot, and drops the reference to the one before.
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
            received_before: self.counters.received(),
            began: self.counters.measures_next_batch().then(Instant::now),
        }
    }
}

impl<A: Handler> BatchContext<'_, A> {
    /// Ends the batch, and counts it.
    pub(super) fn finish(self) {
        let received = self.counters.received() - self.received_before;
        self.counters.batch(received);
        if let Some(began) = self.began {
            self.counters.service_time(began.elapsed());
        }
    }

    /// Answers one datagram and writes the reply to `out`. Returns its length; `None` if there is
    /// no reply.
    pub(super) fn answer(&mut self, received: Received<'_>, out: &mut [u8]) -> Option<usize> {
        let counters = self.counters;
        counters.receive(received.len);
        if let Some(overruns) = received.overruns {
            counters.overruns.set(u64::from(overruns));
        }
        let answer = if received.truncated || received.len > REQUEST_BYTES_MAX {
            counters.truncated.add(1);
            Err(Reject::TooLong)
        } else {
            let datagram =
                Datagram::new(received.buffer, received.len).from_peer(received.peer.ip());
            self.answer.handle(datagram, self.now, self.served, out)
        };
        match answer {
            Ok(reply) => {
                assert!(
                    reply.len <= REPLY_BYTES_MAX,
                    "a reply is as long as its buffer at most"
                );
                counters.write(&reply);
                Some(reply.len)
            }
            Err(reject) => {
                counters.reject(reject, &received.peer);
                None
            }
        }
    }
}

//! What both engines do with a received datagram: call the handler, and count.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};

use super::control::RecvControl;
use super::counters::Counters;
use super::handler::Handler;
use super::peer::Peer;
use crate::clock;
use crate::protocol::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reject};
use crate::responder::{Datagram, Served};

/// Datagrams longer than this are answered after shorter ones.
pub(super) const LONG_BYTES: usize = 2_048;

/// How many bytes of long datagrams a batch answers before the worker looks for new datagrams: one
/// datagram of the greatest length. In the worst case that is known this takes 2.8 million
/// instructions (42 per byte with portable SHA-1, see benches/instructions.md).
pub(super) const LONG_BYTES_PER_BATCH: usize = 65_536;

/// A batch ends when its datagrams and replies have this many bytes: the first reply should not
/// wait until hundreds of large ones are written.
pub(super) const BATCH_BYTES: usize = 262_144;

/// A datagram as an engine received it.
pub struct Received<'a> {
    /// The sender.
    pub peer: Peer,
    /// The address it was sent to, from which the reply is sent, and the socket's drop counter.
    pub control: RecvControl,
    /// Whether the kernel truncated it.
    pub truncated: bool,
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
    answers_groups: bool,
}

impl<A> Dispatcher<A> {
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }
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
    answers_groups: bool,
}

/// A reply that was written to a send slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenReply {
    /// Its length in bytes.
    pub(super) len: usize,
    /// Bytes of the slot that were written. More than `len` if the answer was too large and was
    /// replaced by an error.
    pub(super) touched: usize,
}

impl<A: Handler> Dispatcher<A> {
    /// `answers_groups`: whether this worker answers datagrams to broadcast and multicast
    /// addresses, of which the kernel delivers a copy to each worker.
    pub(super) fn new(
        answer: A,
        served: Arc<ArcSwap<Served>>,
        counters: Arc<Counters>,
        answers_groups: bool,
    ) -> Self {
        Self {
            answer,
            served: Cache::new(served),
            counters,
            answers_groups,
        }
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
            answers_groups: self.answers_groups,
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

    /// Answers one datagram and writes the reply to `out`; `None` if there is no reply.
    pub(super) fn answer(
        &mut self,
        received: Received<'_>,
        out: &mut [u8],
    ) -> Option<WrittenReply> {
        let counters = self.counters;
        if received.control.is_group && !self.answers_groups {
            counters.group_copies.add(1);
            return None;
        }
        counters.receive(received.len);
        if let Some(overruns) = received.control.overruns {
            counters.note_overruns(overruns);
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
                let touched = if reply.too_large {
                    REPLY_BYTES_MAX
                } else {
                    reply.len
                };
                Some(WrittenReply {
                    len: reply.len,
                    touched,
                })
            }
            Err(reject) => {
                counters.reject(reject, &received.peer);
                None
            }
        }
    }
}

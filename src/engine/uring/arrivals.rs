//! Received datagrams until they are answered, short ones first.
//!
//! A long datagram takes much longer to answer or reject than a short one. So that short ones do
//! not wait for many long ones, long ones stay in their buffers until all short ones are answered,
//! and then a batch answers only [`LONG_BYTES_PER_BATCH`] of them before the worker looks for new
//! datagrams. A short datagram waits as well if an earlier one of its peer does, so that replies to
//! one peer keep their order.

use std::collections::VecDeque;

use io_uring::cqueue;

use super::recv_buffers::{Lease, RecvBuffers, Suspended};
use crate::engine::counters::Counters;
use crate::engine::dispatch::{LONG_BYTES, LONG_BYTES_PER_BATCH};
use crate::engine::errno::ErrorBackoff;
use crate::engine::peer::Peer;

/// A completion of the receive: a datagram, or an error in its place.
#[derive(Clone, Copy, Debug)]
struct RecvCompletion {
    result: i32,
    buffer: Option<u16>,
}

/// A datagram that waits until short ones are answered.
#[derive(Debug)]
struct Deferred {
    datagram: Suspended,
    peer: Peer,
    len: usize,
}

/// The received datagrams of one worker.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Completions, in the order of their arrival.
    pending: VecDeque<RecvCompletion>,
    deferred: VecDeque<Deferred>,
    /// Most deferred datagrams: they occupy receive buffers, of which others need some.
    deferred_max: usize,
    /// Bytes of deferred datagrams that the current batch may still answer.
    budget: usize,
}

impl Arrivals {
    /// Creates an empty queue for the datagrams in `buffers` buffers.
    pub(super) fn new(buffers: usize) -> Self {
        Self {
            pending: VecDeque::with_capacity(buffers + 1),
            deferred: VecDeque::with_capacity(buffers),
            deferred_max: (buffers / 2).max(1),
            budget: 0,
        }
    }

    /// Adds a completion of the receive.
    pub(super) fn push(&mut self, completion: &cqueue::Entry) {
        self.pending.push_back(RecvCompletion {
            result: completion.result(),
            buffer: cqueue::buffer_select(completion.flags()),
        });
    }

    /// Whether every datagram was returned by [`next`](Self::next).
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.deferred.is_empty()
    }

    /// Whether every completion was examined. Deferred datagrams do not count.
    pub(super) fn are_examined(&self) -> bool {
        self.pending.is_empty()
    }

    /// Starts a batch.
    pub(super) fn begin_batch(&mut self) {
        self.budget = LONG_BYTES_PER_BATCH;
    }

    /// The next datagram to answer in this batch. Counts errors in place of datagrams.
    pub(super) fn next(
        &mut self,
        buffers: &mut RecvBuffers,
        backoff: &mut ErrorBackoff,
        counters: &Counters,
    ) -> Option<Suspended> {
        loop {
            if self.deferred.len() == self.deferred_max {
                return self.deferred.pop_front().map(|first| first.datagram);
            }
            let Some(completion) = self.pending.pop_front() else {
                return self.next_deferred();
            };
            let Some(mut lease) = lease(completion, buffers, backoff, counters) else {
                continue;
            };
            let is_long = lease.written() > LONG_BYTES;
            if !is_long && self.deferred.is_empty() {
                return Some(lease.suspend());
            }
            let Some(received) = lease.received() else {
                counters.malformed.add(1);
                continue;
            };
            let (peer, len) = (received.peer, received.len);
            let datagram = lease.suspend();
            if !is_long && !self.deferred.iter().any(|other| other.peer == peer) {
                return Some(datagram);
            }
            self.deferred.push_back(Deferred {
                datagram,
                peer,
                len,
            });
        }
    }

    fn next_deferred(&mut self) -> Option<Suspended> {
        if self.budget == 0 {
            return None;
        }
        let first = self.deferred.pop_front()?;
        self.budget = self.budget.saturating_sub(first.len);
        Some(first.datagram)
    }
}

/// Takes the datagram of a completion, or counts the error in its place.
fn lease<'a>(
    completion: RecvCompletion,
    buffers: &'a mut RecvBuffers,
    backoff: &mut ErrorBackoff,
    counters: &Counters,
) -> Option<Lease<'a>> {
    let written = usize::try_from(completion.result);
    let lease = completion
        .buffer
        .and_then(|id| buffers.lease(id, written.unwrap_or(0)));
    if written.is_err() {
        // Buffers are returned before the receive is re-armed, so ENOBUFS repeats only after more
        // datagrams.
        backoff.failed();
        if completion.result == -libc::ENOBUFS {
            counters.no_buffers.add(1);
        } else {
            counters.receive_errors.add(1);
        }
        return None;
    }
    backoff.succeeded();
    if lease.is_none() {
        counters.malformed.add(1);
    }
    lease
}

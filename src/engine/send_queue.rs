//! Decides for each send whether the socket's send buffer has room for it, and keeps the sends that
//! must wait, in order.
//!
//! The kernel charges a reply to the send buffer until the network device has sent it. A reply to
//! an address that does not resolve stays charged for about three seconds (`struct neighbour`,
//! arp(7)). If such replies filled the buffer, nobody would be answered. The rules, the same for
//! both engines:
//!
//! * A *large* reply (more than [`LARGE_REPLY_BYTES`]) is sent only while the buffer is less than
//!   half full. The other half is for small replies, which therefore need not wait for large ones.
//! * A send without room waits, at most for [`SEND_TIMEOUT`]; then its replies are dropped and
//!   counted. At most [`LARGE_WAITING_MAX`] large replies wait, of which at most
//!   [`LARGE_WAITING_PER_PEER_MAX`] go to one peer.
//! * Replies to one peer keep their order: none is sent while an earlier one to that peer waits.
//! * While a small reply waits, the buffer is full and everything waits, in order.
//!
//! What one peer can occupy in the kernel is limited by the kernel: an address that does not
//! resolve to `net.ipv4.neigh.*.unres_qlen_bytes` (212,992 by default).
//!
//! The worker does not ask the kernel before each send how full the buffer is. It adds up an upper
//! bound of what it has sent, and asks (`SO_MEMINFO`) only when that bound reaches the limit. With
//! the buffer that the daemon requests this is once in some 10,000 small replies.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::batch::Batch;

/// Replies longer than this are large.
pub(super) const LARGE_REPLY_BYTES: usize = 4_096;

/// Most large replies that wait. They occupy send slots, of which small replies need some.
const LARGE_WAITING_MAX: usize = 64;

/// Most large replies to one peer that wait. The others are for replies to other peers.
const LARGE_WAITING_PER_PEER_MAX: usize = 8;

/// How long a reply waits for room before it is dropped.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a worker looks for room while replies wait. The kernel reports room only from half of
/// the buffer on (`sock_writeable`), which is too late.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Replies of at most this many bytes are charged [`SHORT_CHARGE`].
const SHORT_BYTES: usize = 256;
/// Upper bound of what the kernel charges for a short reply: `struct sk_buff` and 1 KiB of data.
const SHORT_CHARGE: usize = 1_280;
/// Payload of the smallest usual fragment (the minimum MTU of IPv6 less IPv6 and UDP headers).
const FRAGMENT_BYTES: usize = 1_232;
/// Upper bound of what the kernel charges for a fragment: `struct sk_buff` and 2 KiB of data.
const FRAGMENT_CHARGE: usize = 2_304;

/// What to do with a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room: send it now.
    Send,
    /// It waits in the queue; its slots must stay pinned.
    Wait,
    /// Too many large replies wait, or too many to this peer: drop it.
    Drop,
}

/// The sends of a worker that wait for room, and the estimated state of its send buffer.
#[derive(Debug)]
pub(super) struct SendQueue {
    buffer: SendBuffer,
    /// In the order of their arrival.
    waiting: VecDeque<WaitingSend>,
    large_waiting: usize,
    /// Whether a small reply waits because the buffer is full.
    is_full: bool,
}

#[derive(Clone, Copy, Debug)]
struct WaitingSend {
    head: u16,
    count: usize,
    need: Need,
    since: Instant,
}

impl SendQueue {
    /// Creates the queue of a socket whose send buffer has `buffer_bytes` bytes (`SO_SNDBUF` as the
    /// kernel reports it). At most `slots` sends wait.
    pub(super) fn new(buffer_bytes: usize, slots: usize) -> Self {
        Self {
            buffer: SendBuffer {
                size: buffer_bytes,
                in_use: 0,
            },
            waiting: VecDeque::with_capacity(slots),
            large_waiting: 0,
            is_full: false,
        }
    }

    /// Whether no send waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Decides on the send of `count` replies from slot `head` on; `None` if the estimate has
    /// reached the limit. Then the caller hands all admitted sends to the kernel and calls
    /// [`admit_measured`](Self::admit_measured).
    pub(super) fn admit(&mut self, batch: &Batch, head: u16, count: usize) -> Option<Admission> {
        let need = Need::of(batch, head, count);
        if !self.waiting.is_empty() && self.must_wait(batch, head, need) {
            return Some(self.push(batch, head, count, need));
        }
        self.buffer.reserve(need).then_some(Admission::Send)
    }

    /// Decides on a send while `in_use` bytes of the send buffer are in use, or an unknown number.
    pub(super) fn admit_measured(
        &mut self,
        batch: &Batch,
        head: u16,
        count: usize,
        in_use: Option<usize>,
    ) -> Admission {
        let need = Need::of(batch, head, count);
        if let Some(in_use) = in_use {
            self.buffer.in_use = in_use;
            if self.buffer.reserve(need) {
                return Admission::Send;
            }
        }
        self.is_full |= !need.is_large;
        self.push(batch, head, count, need)
    }

    /// Queues a send that the kernel has refused for lack of room.
    pub(super) fn wait(&mut self, batch: &Batch, head: u16, count: usize) -> Admission {
        let need = Need::of(batch, head, count);
        self.is_full |= !need.is_large;
        self.buffer.in_use = self.buffer.size;
        self.push(batch, head, count, need)
    }

    fn push(&mut self, batch: &Batch, head: u16, count: usize, need: Need) -> Admission {
        if need.is_large {
            if self.large_waiting == LARGE_WAITING_MAX
                || self.large_waiting_for(batch, head) == LARGE_WAITING_PER_PEER_MAX
            {
                return Admission::Drop;
            }
            self.large_waiting += 1;
        }
        self.waiting.push_back(WaitingSend {
            head,
            count,
            need,
            since: Instant::now(),
        });
        Admission::Wait
    }

    /// Whether a send must wait because others wait.
    fn must_wait(&self, batch: &Batch, head: u16, need: Need) -> bool {
        self.is_full
            || (need.is_large && self.large_waiting > 0)
            || self.is_peer_waiting(batch, head, self.waiting.len())
    }

    /// Whether one of the first `count` waiting sends goes to the peer of the reply in slot `head`.
    fn is_peer_waiting(&self, batch: &Batch, head: u16, count: usize) -> bool {
        let peer = &batch.reply(head).peer;
        let mut first = self.waiting.iter().take(count);
        first.any(|other| batch.reply(other.head).peer == *peer)
    }

    /// The number of large replies that wait for the peer of the reply in slot `head`.
    fn large_waiting_for(&self, batch: &Batch, head: u16) -> usize {
        let peer = &batch.reply(head).peer;
        let to_peer =
            |send: &&WaitingSend| send.need.is_large && batch.reply(send.head).peer == *peer;
        self.waiting.iter().filter(to_peer).count()
    }

    /// Removes a send that has waited for too long at time `now`. Returns its head slot and the
    /// number of its replies.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<(u16, usize)> {
        let expired = |first: &mut WaitingSend| now.duration_since(first.since) >= SEND_TIMEOUT;
        self.waiting.pop_front_if(expired).map(|send| {
            self.large_waiting -= usize::from(send.need.is_large);
            (send.head, send.count)
        })
    }

    /// Moves the waiting sends for which there is room to `ready`, as head slots and numbers of
    /// replies, while `in_use` bytes of the send buffer are in use.
    ///
    /// The number of steps is bounded by the square of the number of waiting sends, which is at
    /// most the number of slots.
    pub(super) fn take_ready(
        &mut self,
        batch: &Batch,
        in_use: usize,
        ready: &mut Vec<(u16, usize)>,
    ) {
        self.buffer.in_use = in_use;
        self.is_full = false;
        self.large_waiting = 0;
        let mut kept = 0;
        for at in 0..self.waiting.len() {
            let send = self.waiting[at];
            if !self.is_full && !self.is_peer_waiting(batch, send.head, kept) {
                if self.buffer.reserve(send.need) {
                    ready.push((send.head, send.count));
                    continue;
                }
                self.is_full |= !send.need.is_large;
            }
            self.large_waiting += usize::from(send.need.is_large);
            self.waiting[kept] = send;
            kept += 1;
        }
        self.waiting.truncate(kept);
    }

    /// Removes any waiting send. Returns its head slot and the number of its replies.
    pub(super) fn take_any(&mut self) -> Option<(u16, usize)> {
        let send = self.waiting.pop_front()?;
        Some((send.head, send.count))
    }
}

/// What a send takes from the send buffer.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// Upper bound, in bytes as the kernel charges them.
    bytes: usize,
    is_large: bool,
}

impl Need {
    fn of(batch: &Batch, head: u16, count: usize) -> Self {
        // No reply of a group is longer than the first.
        let len = batch.reply(head).len;
        let each = if len <= SHORT_BYTES {
            SHORT_CHARGE
        } else {
            len.div_ceil(FRAGMENT_BYTES) * FRAGMENT_CHARGE
        };
        Self {
            bytes: count * each,
            is_large: len > LARGE_REPLY_BYTES,
        }
    }
}

/// The estimated state of a send buffer.
#[derive(Debug)]
struct SendBuffer {
    size: usize,
    /// Upper bound of the bytes in use.
    in_use: usize,
}

impl SendBuffer {
    /// Reserves room for a send; `false` if there is not enough.
    ///
    /// A send that needs more than a share of the buffer is treated as if it needed only that: it
    /// must be sent at some time, even with a small buffer. The kernel takes any send as long as
    /// the buffer is not full.
    fn reserve(&mut self, need: Need) -> bool {
        let (limit, share) = if need.is_large {
            (self.size / 2, self.size / 8 * 3)
        } else {
            (self.size, self.size / 2)
        };
        let fits = self.in_use + need.bytes.min(share) <= limit;
        if fits {
            self.in_use += need.bytes;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::PendingReply;
    use crate::engine::control::LocalAddr;
    use crate::engine::peer::Peer;

    const BUFFER: usize = 212_992;

    /// Replies in slots 0, 1, 2, ... to (port, length).
    fn batch(replies: &[(u16, usize)]) -> Batch {
        let mut batch = Batch::new(replies.len());
        for (slot, (port, len)) in replies.iter().enumerate() {
            let peer = Peer::from_socket_addr(([127, 0, 0, 1], *port).into());
            batch.push(
                slot as u16,
                PendingReply::new(peer, LocalAddr::Any, *len),
                false,
            );
        }
        batch
    }

    fn admit(queue: &mut SendQueue, batch: &Batch, slot: u16, in_use: usize) -> Admission {
        queue
            .admit(batch, slot, 1)
            .unwrap_or_else(|| queue.admit_measured(batch, slot, 1, Some(in_use)))
    }

    fn ready(queue: &mut SendQueue, batch: &Batch, in_use: usize) -> Vec<u16> {
        let mut ready = Vec::new();
        queue.take_ready(batch, in_use, &mut ready);
        ready.into_iter().map(|(head, _)| head).collect()
    }

    #[test]
    fn large_replies_use_at_most_half_of_the_buffer() {
        let batch = batch(&[(1, 47_000), (2, 200), (3, 65_507)]);
        let mut queue = SendQueue::new(BUFFER, 4);
        assert_eq!(admit(&mut queue, &batch, 0, 0), Admission::Send);
        assert_eq!(admit(&mut queue, &batch, 2, 80_000), Admission::Wait);
        for _ in 0..90 {
            assert_eq!(admit(&mut queue, &batch, 1, BUFFER), Admission::Send);
        }
        // The largest reply fits an idle buffer of the default size.
        assert_eq!(ready(&mut queue, &batch, 80_000), [0; 0]);
        assert_eq!(ready(&mut queue, &batch, 20_000), [2]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_small_reply_passes_a_large_one_unless_it_has_the_same_peer() {
        let batch = batch(&[(1, 47_000), (2, 200), (1, 200), (3, 47_000)]);
        let mut queue = SendQueue::new(BUFFER, 4);
        queue.buffer.in_use = BUFFER / 2;
        assert_eq!(admit(&mut queue, &batch, 0, BUFFER / 2), Admission::Wait);
        assert_eq!(admit(&mut queue, &batch, 1, 0), Admission::Send);
        assert_eq!(admit(&mut queue, &batch, 2, 0), Admission::Wait);
        assert_eq!(admit(&mut queue, &batch, 3, 0), Admission::Wait);
        assert_eq!(ready(&mut queue, &batch, 0), [0, 2]);
        assert_eq!(ready(&mut queue, &batch, 0), [3]);
    }

    #[test]
    fn while_a_small_reply_waits_everything_waits_in_order() {
        let batch = batch(&[(1, 200), (2, 200), (3, 47_000), (4, 200)]);
        let mut queue = SendQueue::new(BUFFER, 4);
        queue.buffer.in_use = BUFFER;
        assert_eq!(admit(&mut queue, &batch, 0, BUFFER), Admission::Wait);
        for slot in 1..4 {
            assert_eq!(admit(&mut queue, &batch, slot, 0), Admission::Wait);
        }
        assert_eq!(ready(&mut queue, &batch, BUFFER), [0; 0]);
        assert_eq!(ready(&mut queue, &batch, BUFFER - SHORT_CHARGE), [0]);
        assert_eq!(ready(&mut queue, &batch, BUFFER / 2), [1, 3]);
        assert_eq!(ready(&mut queue, &batch, 0), [2]);
    }

    #[test]
    fn a_refused_send_waits_even_if_the_estimate_had_room() {
        let batch = batch(&[(1, 200), (1, 200)]);
        let mut queue = SendQueue::new(BUFFER, 4);
        assert_eq!(queue.wait(&batch, 0, 1), Admission::Wait);
        assert_eq!(admit(&mut queue, &batch, 1, 0), Admission::Wait);
        assert_eq!(ready(&mut queue, &batch, 0), [0, 1]);
    }

    #[test]
    fn waiting_is_bounded_in_time_and_for_large_replies_in_number() {
        let replies: Vec<_> = (0..=LARGE_WAITING_MAX as u16)
            .map(|number| (1 + number, 47_000))
            .collect();
        let batch = batch(&replies);
        let mut queue = SendQueue::new(BUFFER, replies.len());
        queue.buffer.in_use = BUFFER;
        for slot in 0..LARGE_WAITING_MAX as u16 {
            assert_eq!(admit(&mut queue, &batch, slot, BUFFER), Admission::Wait);
        }
        let last = LARGE_WAITING_MAX as u16;
        assert_eq!(admit(&mut queue, &batch, last, BUFFER), Admission::Drop);
        let now = Instant::now();
        assert_eq!(queue.take_expired(now), None);
        let late = now + SEND_TIMEOUT;
        for slot in 0..LARGE_WAITING_MAX as u16 {
            assert_eq!(queue.take_expired(late), Some((slot, 1)));
        }
        assert!(queue.is_empty() && queue.large_waiting == 0);
    }

    #[test]
    fn one_peer_takes_few_of_the_places_of_large_replies() {
        const MAX: u16 = LARGE_WAITING_PER_PEER_MAX as u16;
        let mut replies = vec![(1, 47_000); LARGE_WAITING_PER_PEER_MAX + 1];
        replies.extend([(2, 47_000), (1, 200)]);
        let batch = batch(&replies);
        let mut queue = SendQueue::new(BUFFER, replies.len());
        queue.buffer.in_use = BUFFER;
        for slot in 0..MAX {
            assert_eq!(admit(&mut queue, &batch, slot, BUFFER), Admission::Wait);
        }
        assert_eq!(admit(&mut queue, &batch, MAX, BUFFER), Admission::Drop);
        assert_eq!(admit(&mut queue, &batch, MAX + 1, BUFFER), Admission::Wait);
        assert_eq!(admit(&mut queue, &batch, MAX + 2, BUFFER), Admission::Wait);
    }

    #[test]
    fn any_reply_fits_an_idle_buffer_of_any_size() {
        let batch = batch(&[(1, 65_507), (2, 1), (3, 1_232)]);
        for size in [4_608, BUFFER, 16 << 20] {
            for slot in 0..3 {
                let mut queue = SendQueue::new(size, 4);
                assert_eq!(admit(&mut queue, &batch, slot, 0), Admission::Send);
            }
        }
    }
}

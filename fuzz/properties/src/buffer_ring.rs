//! A sequence of operations on receive buffers and send slots, with a model in place of the kernel.
//!
//! No buffer is handed out twice or lost, and each ring entry has its buffer's place. No slot is in
//! two states; replies are sent in order, complete and once; and what the kernel reads of a send
//! does not change until the send completes.

use std::collections::VecDeque;
use std::mem;

use ganeti_confd::protocol::REPLY_BYTES_MAX;
use ganeti_confd::testing::engine::{
    LocalAddr, Peer, Published, RecvBuffers, SendControl, SendGroup, SendSlots, Sent,
};

use crate::choices::Choices;

/// Operations in one sequence.
const STEPS_MAX: usize = 200;

/// Batches in one sequence.
const BATCHES_MAX: usize = 8;

/// The kernel's limit of segments in a send with `UDP_SEGMENT` (udp(7)).
const SEGMENTS_MAX: usize = 64;

/// The largest UDP payload of an IPv6 packet that every path takes.
const SEGMENT_BYTES_MAX: usize = 1_232;

/// Runs the sequence that `bytes` choose.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices::from_bytes(bytes);
    match choices.bool() {
        false => Receiving::new(&mut choices).play(&mut choices),
        true => Sending::new(&mut choices).play(&mut choices),
    }
}

/// Receive buffers, and the state of each according to the model.
struct Receiving {
    buffers: RecvBuffers,
    /// Buffers taken by the kernel since start, modulo 2^16.
    head: u16,
    count: u16,
    /// Published, in ring order.
    published: VecDeque<u16>,
    /// Taken by the kernel and not completed.
    taken: Vec<u16>,
    /// Completed and returned, but not published.
    returned: Vec<u16>,
    /// Completed and leaked, so never returned.
    leaked: Vec<u16>,
}

impl Receiving {
    fn new(choices: &mut Choices<'_>) -> Self {
        let count = 1 << choices.usize(0..7);
        Self {
            buffers: RecvBuffers::new(count).expect("memory for a few buffers"),
            head: 0,
            count,
            published: (0..count).collect(),
            taken: Vec::new(),
            returned: Vec::new(),
            leaked: Vec::new(),
        }
    }

    fn play(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..STEPS_MAX {
            match choices.usize(0..8) {
                0..2 => self.take(),
                2..5 if !self.taken.is_empty() => {
                    let at = choices.usize(0..self.taken.len());
                    let written = usize::from(choices.u8()) << choices.usize(0..10);
                    self.complete(at, written);
                }
                5 => self.publish(),
                6 => self.complete_invalid(choices),
                7 => self.cycle(choices),
                _ => {}
            }
            let kernels = self.published.len() + self.taken.len();
            let ours = self.returned.len() + self.leaked.len();
            assert_eq!(kernels + ours, usize::from(self.count), "a buffer is lost");
            if choices.is_at_end() {
                break;
            }
        }
        self.publish();
        for _ in 0..self.count {
            self.take();
        }
        self.taken.append(&mut self.leaked);
        self.taken.sort_unstable();
        assert!(
            self.taken.iter().copied().eq(0..self.count),
            "{:?}",
            self.taken
        );
    }

    fn take(&mut self) {
        let expected = self.published.pop_front().map(|id| Published {
            id,
            offset: usize::from(id) * RecvBuffers::STRIDE,
            len: 61_581,
        });
        assert_eq!(self.buffers.published(self.head), expected);
        self.head = self.head.wrapping_add(u16::from(expected.is_some()));
        self.taken.extend(expected.map(|entry| entry.id));
    }

    fn complete(&mut self, at: usize, written: usize) {
        let id = self.taken.swap_remove(at);
        let lease = self.buffers.lease(id, written);
        let mut lease = lease.unwrap_or_else(|| panic!("the kernel has buffer {id}"));
        // It contains no sender's address.
        assert!(lease.received().is_none(), "buffer {id}");
        drop(lease);
        self.returned.push(id);
    }

    /// A completion for a buffer that does not exist or that the kernel does not have.
    fn complete_invalid(&mut self, choices: &mut Choices<'_>) {
        let id = self.count.saturating_add(u16::from(choices.u8()) << 8);
        assert!(self.buffers.lease(id, 0).is_none());
        if choices.once_in(4)
            && let Some(id) = self.taken.pop()
        {
            let lease = self.buffers.lease(id, 0);
            mem::forget(lease.expect("the kernel has it"));
            self.leaked.push(id);
        }
        for id in &self.leaked {
            let again = self.buffers.lease(*id, 0);
            assert!(again.is_none(), "buffer {id} is ours already");
        }
    }

    fn publish(&mut self) {
        self.buffers.publish();
        self.published.extend(self.returned.drain(..));
    }

    /// Cycles of one buffer. A unit test covers the wrap of the tail, which would be slow here.
    fn cycle(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..choices.usize(0..64) {
            if self.published.is_empty() {
                break;
            }
            self.take();
            self.complete(self.taken.len() - 1, 0);
            self.publish();
        }
    }
}

/// A reply in its slot.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Written {
    slot: u16,
    peer: usize,
    len: usize,
    /// The value of all its bytes.
    fill: u8,
}

/// Send slots, and their state according to the model.
struct Sending {
    slots: SendSlots,
    count: usize,
    peers: usize,
    /// The replies of each send in flight.
    sent: Vec<Vec<Written>>,
    /// Replies written so far.
    replies: usize,
}

impl Sending {
    fn new(choices: &mut Choices<'_>) -> Self {
        let count = choices.usize(1..32);
        Self {
            slots: SendSlots::new(count).expect("memory for some slots"),
            count,
            peers: choices.usize(1..40),
            sent: Vec::new(),
            replies: 0,
        }
    }

    fn play(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..BATCHES_MAX {
            self.batch(choices);
            self.look_up(choices);
            self.finish_some(choices);
            if choices.is_at_end() {
                break;
            }
        }
        while let Some(last) = self.sent.len().checked_sub(1) {
            self.finish(last);
        }
        assert!(self.slots.is_idle());
        let mut free: Vec<_> = std::iter::from_fn(|| self.slots.take()).collect();
        free.sort_unstable();
        assert!(free.into_iter().eq(0..self.count as u16), "a slot is lost");
    }

    /// Fills slots and sends the replies.
    fn batch(&mut self, choices: &mut Choices<'_>) {
        let busy: usize = self.sent.iter().map(Vec::len).sum();
        let mut written: Vec<Written> = Vec::new();
        let grouped = !choices.once_in(8);
        for _ in 0..choices.usize(0..self.count + 2) {
            let Some(slot) = self.slots.take() else {
                assert_eq!(busy + written.len(), self.count, "a slot is lost");
                break;
            };
            let in_use = self.sent.iter().flatten();
            let twice = in_use.chain(&written).any(|reply| reply.slot == slot);
            assert!(!twice, "slot {slot} is handed out twice");
            if choices.once_in(12) {
                self.slots.discard(slot);
                continue;
            }
            let reply = Written {
                slot,
                peer: choices.usize(0..self.peers),
                len: length(choices),
                fill: self.replies as u8,
            };
            self.replies += 1;
            self.slots.bytes_mut(slot)[..reply.len].fill(reply.fill);
            let peer = Peer::parse(&name(reply.peer)).expect("a peer's name");
            self.slots
                .push(slot, peer, source(reply.peer), reply.len, grouped);
            written.push(reply);
        }
        self.send(&written, grouped);
        self.slots.clear();
    }

    /// Hands the batch's groups to the kernel.
    fn send(&mut self, written: &[Written], grouped: bool) {
        let mut left = written.to_vec();
        for group in self.slots.groups().to_vec() {
            let members = self.slots.members(group.head, group.count);
            assert_eq!(members.len(), group.count);
            let replies: Vec<_> = members
                .iter()
                .map(|slot| {
                    let at = left.iter().position(|reply| reply.slot == *slot);
                    let at = at.unwrap_or_else(|| panic!("slot {slot} is sent twice"));
                    // No reply may overtake an earlier one to the same peer.
                    let peer = left[at].peer;
                    let first = left.iter().position(|reply| reply.peer == peer);
                    assert_eq!(first, Some(at), "replies to peer {peer} are out of order");
                    left.remove(at)
                })
                .collect();
            assert!(grouped || group.count == 1);
            assert_group(&group, &replies);
            self.slots.pin(group.head, group.count);
            assert_eq!(self.slots.sending(group.head), Some(group.count));
            for slot in &members[1..] {
                assert_eq!(self.slots.sending(*slot), None, "slot {slot} is no head");
            }
            self.sent.push(replies);
        }
        assert_eq!(left, [], "replies that are never sent");
        assert_eq!(self.slots.is_idle(), self.sent.is_empty());
    }

    /// Looks up any slot, as a completion may name it.
    fn look_up(&self, choices: &mut Choices<'_>) {
        let slot = choices.usize(0..self.count + 2) as u16;
        let sent = self.sent.iter().find(|replies| replies[0].slot == slot);
        assert_eq!(self.slots.sending(slot), sent.map(Vec::len), "slot {slot}");
        assert_eq!(self.slots.sending(!slot), None);
    }

    /// Completes some sends, in any order; the others stay in flight while the next batches are
    /// filled.
    fn finish_some(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..choices.usize(0..self.sent.len() + 1) {
            let at = choices.usize(0..self.sent.len());
            match choices.usize(0..8) {
                6 => self.send_again(at),
                7 => self.refuse(at),
                _ => self.finish(at),
            }
        }
    }

    /// The socket's send queue was full, so the send is repeated.
    fn send_again(&mut self, at: usize) {
        let replies = &self.sent[at];
        self.slots.pin(replies[0].slot, replies.len());
    }

    /// The kernel refuses a group; its replies are sent one by one.
    fn refuse(&mut self, at: usize) {
        for reply in self.sent.swap_remove(at) {
            self.slots.pin(reply.slot, 1);
            self.sent.push(vec![reply]);
        }
    }

    fn finish(&mut self, at: usize) {
        let replies = self.sent.swap_remove(at);
        let (head, count) = (replies[0].slot, replies.len());
        assert_eq!(self.slots.sending(head), Some(count));
        assert_eq!(self.slots.read(head), Some(expected(&replies)));
        self.slots.release(head, count);
        assert_eq!(self.slots.sending(head), None);
    }
}

/// Checks the rules of `UDP_SEGMENT` (udp(7)).
fn assert_group(group: &SendGroup, replies: &[Written]) {
    let shown = || format!("{group:?}: {replies:?}");
    let (last, others) = replies.split_last().expect("a group has replies");
    let segment_bytes = group.segment_bytes;
    let one_peer = replies.iter().all(|reply| reply.peer == last.peer);
    assert!(one_peer, "{}", shown());
    let full = others.iter().all(|reply| reply.len == segment_bytes);
    assert!(full && last.len <= segment_bytes, "{}", shown());
    assert!(replies.len() <= SEGMENTS_MAX, "{}", shown());
    if !others.is_empty() {
        assert!(segment_bytes <= SEGMENT_BYTES_MAX, "{}", shown());
        assert!(last.len > 0, "{}", shown());
        let bytes: usize = replies.iter().map(|reply| reply.len).sum();
        assert!(bytes <= REPLY_BYTES_MAX, "{}", shown());
    }
}

/// What the kernel must read of a send of `replies`; a group of several has the size of its
/// segments.
fn expected(replies: &[Written]) -> Sent {
    let first = replies[0];
    let segment_bytes = (replies.len() > 1).then_some(first.len as u16);
    Sent {
        name: name(first.peer),
        control: SendControl::new(source(first.peer), segment_bytes)
            .as_bytes()
            .to_vec(),
        replies: replies.iter().map(|r| vec![r.fill; r.len]).collect(),
    }
}

/// The length of a reply; often one of a few, so that replies can share a send.
fn length(choices: &mut Choices<'_>) -> usize {
    match choices.usize(0..8) {
        0..3 => 100,
        3 | 4 => 300,
        5 => choices.one_of(&[0, 1, 1_231, 1_232, 1_233, REPLY_BYTES_MAX]),
        _ => choices.usize(0..2_000),
    }
}

/// The local address of a peer's replies; consecutive peers may differ only in this.
fn source(peer: usize) -> LocalAddr {
    match peer % 2 {
        0 => LocalAddr::Any,
        _ => LocalAddr::V4([127, 0, 0, 2].into()),
    }
}

/// A peer's `sockaddr`, of either family.
fn name(peer: usize) -> Vec<u8> {
    let peer = peer / 2;
    let port = (1_000 + peer as u16).to_be_bytes();
    match peer % 2 {
        0 => [&2_u16.to_ne_bytes()[..], &port, &[127, 0, 0, 1], &[0; 8]].concat(),
        _ => [&10_u16.to_ne_bytes()[..], &port, &[0; 4], &[7; 16], &[1; 4]].concat(),
    }
}

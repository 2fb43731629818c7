//! The replies of one batch, grouped for GSO: replies to one peer, from one local address, of one
//! size, which the kernel can send with one system call (`UDP_SEGMENT`, udp(7)).
//!
//! Replies to one peer keep their order: a peer has at most one open group, and groups are sent in
//! the order in which they were opened. (If the kernel refuses a GSO send, its replies are resent
//! one by one after the batch.) Grouping takes a bounded number of steps per reply for any mix of
//! peers: a peer that finds no place in the table gets no group.
#![forbid(unsafe_code)]

use super::control::LocalAddr;
use super::dispatch::WrittenReply;
use super::peer::Peer;
use crate::protocol::REPLY_BYTES_MAX;

/// Most replies in one send: `UDP_MAX_SEGMENTS` of include/linux/udp.h before it was doubled.
pub(super) const SEGMENTS_MAX: usize = 64;

/// Replies longer than this are sent alone: the kernel does not fragment a segment, and the
/// sockets' IPv6 fragments have 1,280 bytes, IPv6 and UDP headers included (see `socket`).
const SEGMENT_BYTES_MAX: usize = 1_232;

/// Until the kernel segments it, a group is one UDP datagram.
const GROUP_BYTES_MAX: usize = REPLY_BYTES_MAX;

/// Table entries examined for one reply.
const PROBES_MAX: usize = 8;

const _: () = assert!(SEGMENT_BYTES_MAX <= u16::MAX as usize);

/// One reply in its send slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PendingReply {
    pub(super) peer: Peer,
    pub(super) local_addr: LocalAddr,
    pub(super) len: usize,
    /// Bytes of the slot that were written; see [`WrittenReply`].
    pub(super) touched: usize,
    /// The slot of the next reply of the group.
    next: Option<u16>,
}

impl PendingReply {
    pub(super) fn new(peer: Peer, local_addr: LocalAddr, len: usize) -> Self {
        Self {
            peer,
            local_addr,
            len,
            touched: len,
            next: None,
        }
    }

    /// A reply that a handler has written.
    pub(super) fn written(peer: Peer, local_addr: LocalAddr, reply: WrittenReply) -> Self {
        Self {
            touched: reply.touched,
            ..Self::new(peer, local_addr, reply.len)
        }
    }

    fn has_same_route(&self, other: &Self) -> bool {
        self.peer == other.peer && self.local_addr == other.local_addr
    }
}

/// Replies that are sent together; often just one.
#[derive(Clone, Copy, Debug)]
pub struct SendGroup {
    /// The slot of the first reply.
    pub head: u16,
    /// The number of replies.
    pub count: usize,
    /// Length of each reply in bytes; the last may be shorter.
    pub segment_bytes: usize,
    tail: u16,
    bytes: usize,
    open: bool,
}

impl SendGroup {
    fn new(slot: u16, len: usize, open: bool) -> Self {
        Self {
            head: slot,
            tail: slot,
            count: 1,
            segment_bytes: len,
            bytes: len,
            open: open && len > 0 && len <= SEGMENT_BYTES_MAX,
        }
    }

    fn accepts(&self, len: usize) -> bool {
        self.open
            && len > 0
            && len <= self.segment_bytes
            && self.count < SEGMENTS_MAX
            && self.bytes + len <= GROUP_BYTES_MAX
    }
}

/// Replies by slot, and the groups of the current batch.
///
/// A reply stays readable after [`Batch::clear`] until its slot is filled again, so that the
/// replies of a refused GSO send can be sent one by one.
#[derive(Debug)]
pub(super) struct Batch {
    replies: Box<[PendingReply]>,
    groups: Vec<SendGroup>,
    table: Box<[Entry]>,
    round: u32,
}

/// The open group of a peer; unused if `round` is not the batch's.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    round: u32,
    group: u16,
}

impl Batch {
    /// Creates a batch of at most `slots` replies.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            replies: vec![PendingReply::default(); slots].into(),
            groups: Vec::with_capacity(slots),
            table: vec![Entry::default(); (2 * slots).next_power_of_two()].into(),
            round: 1,
        }
    }

    /// Adds the reply in `slot`, to the open group of its peer if `grouped` and it fits.
    pub(super) fn push(&mut self, slot: u16, reply: PendingReply, grouped: bool) {
        self.replies[usize::from(slot)] = reply;
        let new = SendGroup::new(slot, reply.len, grouped);
        if !grouped {
            self.groups.push(new);
            return;
        }
        let Some(at) = self.find(&reply) else {
            self.groups.push(new);
            return;
        };
        if self.table[at].round == self.round {
            let group = &mut self.groups[usize::from(self.table[at].group)];
            if group.accepts(reply.len) {
                self.replies[usize::from(group.tail)].next = Some(slot);
                group.tail = slot;
                group.count += 1;
                group.bytes += reply.len;
                group.open = reply.len == group.segment_bytes;
                return;
            }
        }
        self.table[at] = Entry {
            round: self.round,
            group: self.groups.len() as u16,
        };
        self.groups.push(new);
    }

    /// The table entry of the reply's peer, or an unused one.
    fn find(&self, reply: &PendingReply) -> Option<usize> {
        let mask = self.table.len() - 1;
        let start = (reply.peer.fold() >> 32) as usize;
        (start..start + PROBES_MAX).map(|at| at & mask).find(|at| {
            let entry = self.table[*at];
            entry.round != self.round || {
                let head = self.groups[usize::from(entry.group)].head;
                self.replies[usize::from(head)].has_same_route(reply)
            }
        })
    }

    /// The groups, in the order in which they are to be sent.
    pub(super) fn groups(&self) -> &[SendGroup] {
        &self.groups
    }

    /// The reply in `slot`.
    pub(super) fn reply(&self, slot: u16) -> &PendingReply {
        &self.replies[usize::from(slot)]
    }

    /// The slot of the reply after `slot` in its group.
    pub(super) fn next_in_group(&self, slot: u16) -> Option<u16> {
        self.reply(slot).next
    }

    /// The slots of the first `count` replies from `head` on, in order.
    pub(super) fn members(&self, head: u16, count: usize) -> impl Iterator<Item = u16> {
        std::iter::successors(Some(head), |slot| self.next_in_group(*slot)).take(count)
    }

    /// Starts the next batch.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            // The round counter wrapped: clear entries that would otherwise look current.
            self.table.fill(Entry::default());
            self.round = 1;
        }
    }
}

/// Decides whether to try GSO: after a refusal it is skipped for a number of batches, which doubles
/// with each refusal in a row.
///
/// A refusal can come from the path to one peer (a tunnel's MTU, IPsec) or from a device that
/// serves all of them, and the kernel does not say which. So GSO is never switched off for good,
/// and one peer can switch it off for the others only briefly.
#[derive(Debug)]
pub(super) struct GsoState {
    supported: bool,
    batches_to_skip: u32,
    penalty: u32,
}

impl GsoState {
    const PENALTY_MAX: u32 = 1_024;

    /// `supported`: whether the kernel supports `UDP_SEGMENT`.
    pub(super) fn new(supported: bool) -> Self {
        Self {
            supported,
            batches_to_skip: 0,
            penalty: 0,
        }
    }

    /// Whether to group the replies of this batch. To be called once per batch.
    pub(super) fn next_batch(&mut self) -> bool {
        let skipped = self.batches_to_skip > 0;
        self.batches_to_skip = self.batches_to_skip.saturating_sub(1);
        self.supported && !skipped
    }

    /// Records that the kernel accepted a GSO send.
    pub(super) fn accepted(&mut self) {
        self.penalty = 0;
    }

    /// Records that the kernel refused a GSO send.
    pub(super) fn refused(&mut self) {
        self.penalty = (2 * self.penalty).clamp(1, Self::PENALTY_MAX);
        self.batches_to_skip = self.penalty;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Peer {
        Peer::from_socket_addr(([127, 0, 0, 1], port).into())
    }

    /// Groups `replies`, given as (port, length). Returns the slots of each group.
    fn groups(replies: &[(u16, usize)], grouped: bool) -> Vec<Vec<u16>> {
        let mut batch = Batch::new(replies.len().max(4));
        for (slot, (port, len)) in replies.iter().enumerate() {
            let reply = PendingReply::new(peer(*port), LocalAddr::Any, *len);
            batch.push(slot as u16, reply, grouped);
        }
        batch
            .groups()
            .iter()
            .map(|group| batch.members(group.head, group.count).collect())
            .collect()
    }

    #[test]
    fn equal_replies_to_one_peer_are_sent_together() {
        assert_eq!(groups(&[(1, 9), (1, 9), (1, 9)], true), [[0, 1, 2]]);
        assert_eq!(groups(&[(1, 9), (2, 9), (1, 9)], true), [&[0, 2][..], &[1]]);
        assert_eq!(groups(&[(1, 9), (1, 9)], false), [[0], [1]]);
    }

    #[test]
    fn a_shorter_reply_is_the_last_of_its_group() {
        assert_eq!(
            groups(&[(1, 9), (1, 8), (1, 9), (1, 9)], true),
            [[0, 1], [2, 3]]
        );
        assert_eq!(groups(&[(1, 8), (1, 9)], true), [[0], [1]]);
    }

    #[test]
    fn a_longer_reply_opens_the_next_group_and_order_holds() {
        assert_eq!(
            groups(&[(1, 8), (1, 9), (1, 8), (1, 8)], true),
            [&[0][..], &[1, 2], &[3]]
        );
    }

    #[test]
    fn empty_and_long_replies_are_sent_alone() {
        assert_eq!(groups(&[(1, 0), (1, 0)], true), [[0], [1]]);
        assert_eq!(groups(&[(1, 5), (1, 0)], true), [[0], [1]]);
        let long = SEGMENT_BYTES_MAX + 1;
        assert_eq!(groups(&[(1, long), (1, long)], true), [[0], [1]]);
    }

    #[test]
    fn a_group_is_bounded_in_segments_and_bytes() {
        let many = groups(&[(1, 9); 100], true);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [64, 36]);
        let big = groups(&[(1, SEGMENT_BYTES_MAX); 60], true);
        assert_eq!(big[0].len(), GROUP_BYTES_MAX / SEGMENT_BYTES_MAX);
    }

    #[test]
    fn another_local_address_opens_another_group() {
        let mut batch = Batch::new(4);
        for (slot, host) in [2, 3, 2].into_iter().enumerate() {
            let local_addr = LocalAddr::V4([127, 0, 0, host].into());
            batch.push(slot as u16, PendingReply::new(peer(1), local_addr, 9), true);
        }
        assert_eq!(batch.groups().len(), 2);
    }

    #[test]
    fn every_reply_is_in_one_group_and_each_peer_keeps_its_order() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut batch = Batch::new(256);
        for _ in 0..200 {
            batch.clear();
            let count = random.usize(1..=256);
            let peers = random.u16(1..=300);
            for slot in 0..count {
                let to = peer(random.u16(1..=peers));
                let reply = PendingReply::new(to, LocalAddr::Any, random.usize(0..4));
                batch.push(slot as u16, reply, true);
            }
            let sent: Vec<u16> = batch
                .groups()
                .iter()
                .flat_map(|group| batch.members(group.head, group.count))
                .collect();
            assert_eq!(sent.len(), count);
            for port in 1..=peers {
                let of_peer: Vec<_> = sent
                    .iter()
                    .filter(|slot| batch.reply(**slot).peer == peer(port))
                    .collect();
                assert!(of_peer.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn a_refusal_skips_gso_for_some_batches() {
        let mut gso = GsoState::new(true);
        assert!(gso.next_batch());
        gso.refused();
        assert!(!gso.next_batch());
        assert!(gso.next_batch());
        for _ in 0..100 {
            gso.refused();
        }
        let skipped = (0..5_000).take_while(|_| !gso.next_batch()).count();
        assert_eq!(skipped, GsoState::PENALTY_MAX as usize);
        assert!(!GsoState::new(false).next_batch());
    }
}

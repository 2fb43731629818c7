//! The replies of one batch, grouped into trains: replies to one peer, from one source, of one size, which the kernel
//! can send in one pass (`UDP_SEGMENT`, udp(7)).
//!
//! Replies to one peer keep their order: a peer has one open train at a time, and trains leave in the order in which
//! they were opened. (Those of a refused train leave again behind the batch.) Grouping costs a bounded number of steps per reply whatever the peers are: a peer that finds no place
//! in the table goes without a train.
#![forbid(unsafe_code)]

use super::control::LocalAddr;
use super::peer::Peer;
use crate::protocol::REPLY_BYTES_MAX;

/// Replies in one send at most: `UDP_MAX_SEGMENTS` of include/linux/udp.h before it was doubled.
pub(super) const SEGMENTS_MAX: usize = 64;

/// Replies longer than this go alone: they do not fit the usual path (1,500 bytes less IPv6 and UDP headers) unfragmented,
/// and a segment must.
const SEGMENT_BYTES_MAX: usize = 1_452;

/// A train is one UDP datagram to the kernel until the last moment.
const GROUP_BYTES_MAX: usize = REPLY_BYTES_MAX;

/// Table entries looked at for one reply.
const PROBES_MAX: usize = 8;

const _: () = assert!(SEGMENT_BYTES_MAX <= u16::MAX as usize);

/// One reply, standing in its send slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PendingReply {
    pub(super) peer: Peer,
    pub(super) source: LocalAddr,
    pub(super) len: usize,
    /// The slot of the train's next reply.
    next: Option<u16>,
}

impl PendingReply {
    pub(super) fn new(peer: Peer, source: LocalAddr, len: usize) -> Self {
        Self {
            peer,
            source,
            len,
            next: None,
        }
    }

    fn has_same_route(&self, other: &Self) -> bool {
        self.peer == other.peer && self.source == other.source
    }
}

/// Replies that leave in one send; often just one.
#[derive(Clone, Copy, Debug)]
pub struct SendGroup {
    /// The slot of the first reply.
    pub head: u16,
    /// How many replies.
    pub count: usize,
    /// Length of each reply; the last may be shorter.
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

/// Replies by slot, and the trains of the current batch.
///
/// A reply stays readable after [`Batch::clear`] until its slot is filled again, so that a train the kernel refuses can be
/// sent one by one.
#[derive(Debug)]
pub(super) struct Batch {
    replies: Box<[PendingReply]>,
    groups: Vec<SendGroup>,
    table: Box<[Entry]>,
    round: u32,
}

/// The open train of a peer; void if `round` is not the batch's.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    round: u32,
    train: u16,
}

impl Batch {
    /// A batch of at most `slots` replies.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            replies: vec![PendingReply::default(); slots].into(),
            groups: Vec::with_capacity(slots),
            table: vec![Entry::default(); (2 * slots).next_power_of_two()].into(),
            round: 1,
        }
    }

    /// Adds the reply in `slot`; to its peer's train if `grouped` and it fits.
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
            let train = &mut self.groups[usize::from(self.table[at].train)];
            if train.accepts(reply.len) {
                self.replies[usize::from(train.tail)].next = Some(slot);
                train.tail = slot;
                train.count += 1;
                train.bytes += reply.len;
                train.open = reply.len == train.segment_bytes;
                return;
            }
        }
        self.table[at] = Entry {
            round: self.round,
            train: self.groups.len() as u16,
        };
        self.groups.push(new);
    }

    /// The table entry of the reply's peer: its own, or a void one.
    fn find(&self, reply: &PendingReply) -> Option<usize> {
        let mask = self.table.len() - 1;
        let start = (reply.peer.fold() >> 32) as usize;
        (start..start + PROBES_MAX).map(|at| at & mask).find(|at| {
            let entry = self.table[*at];
            entry.round != self.round || {
                let head = self.groups[usize::from(entry.train)].head;
                self.replies[usize::from(head)].has_same_route(reply)
            }
        })
    }

    /// The trains, in the order they are to leave.
    pub(super) fn groups(&self) -> &[SendGroup] {
        &self.groups
    }

    /// The reply in `slot`.
    pub(super) fn reply(&self, slot: u16) -> &PendingReply {
        &self.replies[usize::from(slot)]
    }

    /// The slot of the reply behind `slot` in its train.
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
            // Entries of four thousand million batches ago must not look current.
            self.table.fill(Entry::default());
            self.round = 1;
        }
    }
}

/// Whether trains are worth trying: remembers a refusal for a while, longer each time.
///
/// A refusal can come from one peer's path (a tunnel's MTU, IPsec) or from a device that serves them all, and the kernel
/// does not tell which. So nothing is off for ever, and nobody can switch trains off for the others but briefly.
#[derive(Debug)]
pub(super) struct GsoState {
    supported: bool,
    batches_to_skip: u32,
    penalty: u32,
}

impl GsoState {
    const PENALTY_MAX: u32 = 1_024;

    /// `supported`: whether the kernel knows `UDP_SEGMENT`.
    pub(super) fn new(supported: bool) -> Self {
        Self {
            supported,
            batches_to_skip: 0,
            penalty: 0,
        }
    }

    /// Whether the replies of this batch should be grouped; to be asked once per batch.
    pub(super) fn next_batch(&mut self) -> bool {
        let skipped = self.batches_to_skip > 0;
        self.batches_to_skip = self.batches_to_skip.saturating_sub(1);
        self.supported && !skipped
    }

    /// A train left.
    pub(super) fn accepted(&mut self) {
        self.penalty = 0;
    }

    /// A train was refused.
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

    /// Trains of replies given as (port, length), each as its members' slots.
    fn trains(replies: &[(u16, usize)], grouped: bool) -> Vec<Vec<u16>> {
        let mut batch = Batch::new(replies.len().max(4));
        for (slot, (port, len)) in replies.iter().enumerate() {
            let reply = PendingReply::new(peer(*port), LocalAddr::Any, *len);
            batch.push(slot as u16, reply, grouped);
        }
        batch
            .groups()
            .iter()
            .map(|train| batch.members(train.head, train.count).collect())
            .collect()
    }

    #[test]
    fn equal_replies_to_one_peer_leave_together() {
        assert_eq!(trains(&[(1, 9), (1, 9), (1, 9)], true), [[0, 1, 2]]);
        assert_eq!(trains(&[(1, 9), (2, 9), (1, 9)], true), [&[0, 2][..], &[1]]);
        assert_eq!(trains(&[(1, 9), (1, 9)], false), [[0], [1]]);
    }

    #[test]
    fn a_shorter_reply_is_the_last_of_its_train() {
        assert_eq!(
            trains(&[(1, 9), (1, 8), (1, 9), (1, 9)], true),
            [[0, 1], [2, 3]]
        );
        assert_eq!(trains(&[(1, 8), (1, 9)], true), [[0], [1]]);
    }

    #[test]
    fn a_longer_reply_opens_the_next_train_and_order_holds() {
        assert_eq!(
            trains(&[(1, 8), (1, 9), (1, 8), (1, 8)], true),
            [&[0][..], &[1, 2], &[3]]
        );
    }

    #[test]
    fn empty_and_long_replies_go_alone() {
        assert_eq!(trains(&[(1, 0), (1, 0)], true), [[0], [1]]);
        assert_eq!(trains(&[(1, 5), (1, 0)], true), [[0], [1]]);
        let long = SEGMENT_BYTES_MAX + 1;
        assert_eq!(trains(&[(1, long), (1, long)], true), [[0], [1]]);
    }

    #[test]
    fn a_train_is_bounded_in_segments_and_bytes() {
        let many = trains(&[(1, 9); 100], true);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [64, 36]);
        let big = trains(&[(1, SEGMENT_BYTES_MAX); 60], true);
        assert_eq!(big[0].len(), GROUP_BYTES_MAX / SEGMENT_BYTES_MAX);
    }

    #[test]
    fn another_source_is_another_train() {
        let mut batch = Batch::new(4);
        for (slot, host) in [2, 3, 2].into_iter().enumerate() {
            let source = LocalAddr::V4([127, 0, 0, host].into());
            batch.push(slot as u16, PendingReply::new(peer(1), source, 9), true);
        }
        assert_eq!(batch.groups().len(), 2);
    }

    #[test]
    fn every_reply_is_in_one_train_and_each_peer_keeps_its_order() {
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
                .flat_map(|train| batch.members(train.head, train.count))
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
    fn a_refusal_is_remembered_for_a_while() {
        let mut segmentation = GsoState::new(true);
        assert!(segmentation.next_batch());
        segmentation.refused();
        assert!(!segmentation.next_batch());
        assert!(segmentation.next_batch());
        for _ in 0..100 {
            segmentation.refused();
        }
        let skipped = (0..5_000)
            .take_while(|_| !segmentation.next_batch())
            .count();
        assert_eq!(skipped, GsoState::PENALTY_MAX as usize);
        assert!(!GsoState::new(false).next_batch());
    }
}

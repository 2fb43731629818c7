//! A sequence of operations on receive buffers and send slots, with the kernel's part played by a model: no buffer is handed out twice
//! or lost, each entry tells where its buffer is; no slot is in two states, replies leave in order, whole and once, and what the kernel
//! reads of a send is what was handed on, until the kernel is done with it.

use std::collections::VecDeque;
use std::net::IpAddr;

use ganeti_confd::engine::door::{self, Entry, ReceiveRing, SendSlots, Sent, Train};
use ganeti_confd::protocol::REPLY_BYTES_MAX;

use crate::choices::Choices;

/// Operations in one sequence.
const STEPS_MAX: usize = 200;

/// Batches in one sequence.
const BATCHES_MAX: usize = 8;

/// Rules of `UDP_SEGMENT` (udp(7)) that a train must keep.
const SEGMENTS_MAX: usize = 64;

/// The most payload that a segment may have on an Ethernet under IPv6.
const SEGMENT_BYTES_MAX: usize = 1_452;

/// Plays the sequence that `bytes` choose.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices::from_bytes(bytes);
    match choices.bool() {
        false => Receiving::new(&mut choices).play(&mut choices),
        true => Sending::new(&mut choices).play(&mut choices),
    }
}

/// Receive buffers, and where the model says each of them is.
struct Receiving {
    ring: ReceiveRing,
    count: u16,
    /// Published, in the order in which the kernel will take them.
    published: VecDeque<u16>,
    /// Taken by the kernel, not completed yet.
    taken: Vec<u16>,
    /// Completed and given back, not published yet.
    given_back: Vec<u16>,
    /// Completed and never given back.
    kept: Vec<u16>,
}

impl Receiving {
    fn new(choices: &mut Choices<'_>) -> Self {
        let count = 1 << choices.usize(0..7);
        Self {
            ring: ReceiveRing::new(count).expect("memory for a few buffers"),
            count,
            published: (0..count).collect(),
            taken: Vec::new(),
            given_back: Vec::new(),
            kept: Vec::new(),
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
                6 => self.complete_strange(choices),
                7 => self.go_round(choices),
                _ => {}
            }
            let kernels = self.published.len() + self.taken.len();
            let ours = self.given_back.len() + self.kept.len();
            assert_eq!(kernels + ours, usize::from(self.count), "a buffer is lost");
            if choices.is_at_end() {
                break;
            }
        }
        self.publish();
        for _ in 0..self.count {
            self.take();
        }
        self.taken.append(&mut self.kept);
        self.taken.sort_unstable();
        assert!(
            self.taken.iter().copied().eq(0..self.count),
            "{:?}",
            self.taken
        );
    }

    fn take(&mut self) {
        let expected = self.published.pop_front().map(|id| Entry {
            id,
            offset: usize::from(id) * ReceiveRing::STRIDE,
            len: 61_549,
        });
        assert_eq!(self.ring.take(), expected);
        self.taken.extend(expected.map(|entry| entry.id));
    }

    fn complete(&mut self, at: usize, written: usize) {
        let id = self.taken.swap_remove(at);
        let seen = self.ring.complete(id, written, |seen| seen.is_some());
        // Nobody wrote a sender's name to it.
        assert_eq!(seen, Some(false), "buffer {id}");
        self.given_back.push(id);
    }

    /// A completion for a buffer that there is not, or that the kernel does not have.
    fn complete_strange(&mut self, choices: &mut Choices<'_>) {
        let id = self.count.saturating_add(u16::from(choices.u8()) << 8);
        assert_eq!(self.ring.complete(id, 0, |_| ()), None);
        if choices.once_in(4)
            && let Some(id) = self.taken.pop()
        {
            assert_eq!(self.ring.keep(id), Some(()));
            self.kept.push(id);
        }
        for id in &self.kept {
            let again = self.ring.complete(*id, 0, |_| ());
            assert_eq!(again, None, "buffer {id} is ours already");
        }
    }

    fn publish(&mut self) {
        self.ring.publish();
        self.published.extend(self.given_back.drain(..));
    }

    /// Rounds of one buffer. So many that the tail wraps, which takes a second here, are in a unit test.
    fn go_round(&mut self, choices: &mut Choices<'_>) {
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

/// A reply as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Written {
    slot: u16,
    peer: usize,
    len: usize,
    /// What all its bytes are.
    fill: u8,
}

/// Send slots, and what the model says each of them is doing.
struct Sending {
    slots: SendSlots,
    count: usize,
    peers: usize,
    /// Replies whose trains the kernel has.
    sent: Vec<(Train, Vec<Written>)>,
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
        assert!(self.slots.is_quiet());
        let mut free: Vec<_> = std::iter::from_fn(|| self.slots.take()).collect();
        free.sort_unstable();
        assert!(free.into_iter().eq(0..self.count as u16), "a slot is lost");
    }

    /// Fills slots, and sends what is in them.
    fn batch(&mut self, choices: &mut Choices<'_>) {
        let busy: usize = self.sent.iter().map(|(_, replies)| replies.len()).sum();
        let mut written: Vec<Written> = Vec::new();
        let grouped = !choices.once_in(8);
        for _ in 0..choices.usize(0..self.count + 2) {
            let Some(slot) = self.slots.take() else {
                assert_eq!(busy + written.len(), self.count, "a slot is lost");
                break;
            };
            let in_use = self.sent.iter().flat_map(|(_, replies)| replies);
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
            let (name, source) = (name(reply.peer), source(reply.peer));
            self.slots.push(slot, &name, source, reply.len, grouped);
            written.push(reply);
        }
        self.send(&written, grouped);
        self.slots.clear();
    }

    /// Hands the batch's trains on to the kernel.
    fn send(&mut self, written: &[Written], grouped: bool) {
        let trains = self.slots.trains();
        let mut left = written.to_vec();
        for train in trains {
            let members = self.slots.members(train.head, train.count);
            assert_eq!(members.len(), train.count);
            let replies: Vec<_> = members
                .iter()
                .map(|slot| {
                    let at = left.iter().position(|reply| reply.slot == *slot);
                    let at = at.unwrap_or_else(|| panic!("slot {slot} leaves twice"));
                    // Nothing of this peer may be overtaken.
                    let peer = left[at].peer;
                    let first = left.iter().position(|reply| reply.peer == peer);
                    assert_eq!(first, Some(at), "peer {peer} gets its replies out of order");
                    left.remove(at)
                })
                .collect();
            assert!(grouped || train.count == 1);
            assert_train(&train, &replies);
            self.slots.pin(train.head, train.count);
            assert_eq!(self.slots.sending(train.head), Some(train.count));
            for slot in &members[1..] {
                assert_eq!(self.slots.sending(*slot), None, "slot {slot} is no head");
            }
            self.sent.push((train, replies));
        }
        assert_eq!(left, [], "replies that never leave");
        assert_eq!(self.slots.is_quiet(), self.sent.is_empty());
    }

    /// A completion may name any slot.
    fn look_up(&self, choices: &mut Choices<'_>) {
        let slot = choices.usize(0..self.count + 2) as u16;
        let sent = self.sent.iter().find(|(train, _)| train.head == slot);
        let count = sent.map(|(train, _)| train.count);
        assert_eq!(self.slots.sending(slot), count, "slot {slot}");
        assert_eq!(self.slots.sending(!slot), None);
    }

    /// The kernel is done with some sends, in any order; others stay, while the next batches are filled.
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

    /// There was no room in the socket's queue.
    fn send_again(&mut self, at: usize) {
        let (train, _) = self.sent[at];
        self.slots.pin(train.head, train.count);
    }

    /// The kernel does not take a train; its replies leave one by one.
    fn refuse(&mut self, at: usize) {
        let (_, replies) = self.sent.swap_remove(at);
        for reply in replies {
            self.slots.pin(reply.slot, 1);
            let train = Train {
                head: reply.slot,
                count: 1,
                segment_bytes: reply.len,
            };
            self.sent.push((train, vec![reply]));
        }
    }

    fn finish(&mut self, at: usize) {
        let (train, replies) = self.sent.swap_remove(at);
        assert_eq!(self.slots.sending(train.head), Some(train.count));
        assert_eq!(self.slots.read(train.head), Some(expected(&replies)));
        self.slots.release(train.head, train.count);
        assert_eq!(self.slots.sending(train.head), None);
    }
}

fn assert_train(train: &Train, replies: &[Written]) {
    let shown = || format!("{train:?}: {replies:?}");
    let (last, others) = replies.split_last().expect("a train has replies");
    assert!(
        replies.iter().all(|reply| reply.peer == last.peer),
        "{}",
        shown()
    );
    assert!(
        others.iter().all(|reply| reply.len == train.segment_bytes),
        "{}",
        shown()
    );
    assert!(last.len <= train.segment_bytes, "{}", shown());
    assert!(replies.len() <= SEGMENTS_MAX, "{}", shown());
    let bytes: usize = replies.iter().map(|reply| reply.len).sum();
    let alone = others.is_empty();
    assert!(
        alone || (train.segment_bytes <= SEGMENT_BYTES_MAX && last.len > 0),
        "{}",
        shown()
    );
    assert!(alone || bytes <= REPLY_BYTES_MAX, "{}", shown());
}

/// What the kernel must read of a send of these replies: a train tells the length of its segments.
fn expected(replies: &[Written]) -> Sent {
    let first = replies[0];
    let segment_bytes = (replies.len() > 1).then_some(first.len as u16);
    Sent {
        name: name(first.peer),
        control: door::sent_control(source(first.peer), segment_bytes),
        replies: replies.iter().map(|r| vec![r.fill; r.len]).collect(),
    }
}

/// The length of a reply; often one of a few, so that trains come to be.
fn length(choices: &mut Choices<'_>) -> usize {
    match choices.usize(0..8) {
        0..3 => 100,
        3 | 4 => 300,
        5 => choices.one_of(&[0, 1, 1_451, 1_452, 1_453, REPLY_BYTES_MAX]),
        _ => choices.usize(0..2_000),
    }
}

/// Where a peer's replies leave from: two peers in a row differ in nothing else.
fn source(peer: usize) -> Option<IpAddr> {
    [None, Some([127, 0, 0, 2].into())][peer % 2]
}

/// The `sockaddr` of a peer: of either family.
fn name(peer: usize) -> Vec<u8> {
    let peer = peer / 2;
    let port = (1_000 + peer as u16).to_be_bytes();
    match peer % 2 {
        0 => [&2_u16.to_ne_bytes()[..], &port, &[127, 0, 0, 1], &[0; 8]].concat(),
        _ => [&10_u16.to_ne_bytes()[..], &port, &[0; 4], &[7; 16], &[1; 4]].concat(),
    }
}

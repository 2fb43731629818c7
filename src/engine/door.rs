//! A door to what the kernel and the engines share, for `fuzz/` and the tests; not for use.
//!
//! Whoever comes in here plays the kernel's part: takes receive buffers from their ring, writes to them and completes them, and is
//! done with sends when it says so.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::batch::{Batch, Reply};
use super::control::{Control, Received, Source};
use super::peer::Peer;
use super::slots::Slots;

pub use super::uring::door::{Entry, ReceiveRing, Seen};

/// What control messages say: the local address that was asked, and the socket's drop counter.
pub fn control(bytes: &[u8]) -> (Option<IpAddr>, Option<u32>) {
    let Received { source, overruns } = Received::parse(bytes);
    (source_ip(source), overruns)
}

/// The control messages of a send from `source`, in segments of `segment_bytes`.
pub fn sent_control(source: Option<IpAddr>, segment_bytes: Option<u16>) -> Vec<u8> {
    let source = match source {
        None => Source::Any,
        Some(IpAddr::V4(address)) => Source::V4(address),
        Some(IpAddr::V6(address)) => Source::V6(address),
    };
    Control::new(source, segment_bytes).as_bytes().to_vec()
}

pub(super) fn source_ip(source: Source) -> Option<IpAddr> {
    match source {
        Source::Any => None,
        Source::V4(address) => Some(address.into()),
        Source::V6(address) => Some(address.into()),
    }
}

/// The peer that the kernel's `name` is; `None` if nothing could be sent there.
pub fn peer(name: &[u8]) -> Option<SocketAddr> {
    Peer::parse(name).map(|peer| peer.socket_addr())
}

/// Send slots, and the batch of replies that stand in them.
pub struct SendSlots {
    slots: Slots,
    batch: Batch,
}

/// Replies that leave in one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Train {
    /// The slot of the first reply.
    pub head: u16,
    /// How many replies.
    pub count: usize,
    /// The length of each, save the last.
    pub segment_bytes: usize,
}

impl SendSlots {
    /// Takes memory for `count` slots.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub fn new(count: usize) -> io::Result<Self> {
        Ok(Self {
            slots: Slots::new(count)?,
            batch: Batch::new(count),
        })
    }

    /// A free slot, now being filled.
    pub fn take(&mut self) -> Option<u16> {
        self.slots.take()
    }

    /// The bytes of a slot being filled.
    pub fn bytes_mut(&mut self, slot: u16) -> &mut [u8] {
        self.slots.bytes_mut(slot)
    }

    /// Frees a slot that was not filled after all.
    pub fn discard(&mut self, slot: u16) {
        self.slots.discard(slot);
    }

    /// Adds the reply of `len` bytes in `slot` to the batch; to its peer's train if `grouped` and it fits. `name` is the peer's
    /// `sockaddr`.
    ///
    /// # Panics
    ///
    /// If `name` is none that a reply can be sent to.
    pub fn push(&mut self, slot: u16, name: &[u8], len: usize, grouped: bool) {
        let peer = Peer::parse(name).expect("a peer's name");
        let reply = Reply::new(peer, Source::Any, len);
        self.batch.push(slot, reply, grouped);
    }

    /// The batch's trains, in the order in which they leave.
    pub fn trains(&self) -> Vec<Train> {
        let trains = self.batch.trains().iter();
        trains
            .map(|train| Train {
                head: train.head,
                count: train.count,
                segment_bytes: train.segment_bytes,
            })
            .collect()
    }

    /// The slots of the first `count` replies from `head` on.
    pub fn members(&self, head: u16, count: usize) -> Vec<u16> {
        self.batch.members(head, count).collect()
    }

    /// Hands the `count` replies from `head` on to the kernel, as one send.
    pub fn pin(&mut self, head: u16, count: usize) {
        self.slots.pin(&self.batch, head, count);
    }

    /// How many replies the send that starts with `head` carries; `None` if there is no such send.
    pub fn sending(&self, head: u16) -> Option<usize> {
        self.slots.sending(head)
    }

    /// The kernel is done with the send of `count` replies from `head` on.
    pub fn release(&mut self, head: u16, count: usize) {
        self.slots.release(&self.batch, head, count);
    }

    /// Starts the next batch.
    pub fn clear(&mut self) {
        self.batch.clear();
    }

    /// Whether the kernel has no slot.
    pub fn is_quiet(&self) -> bool {
        self.slots.is_quiet()
    }
}

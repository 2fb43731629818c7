//! A door to what the kernel and the engines share, for `fuzz/` and the tests; not for use.
//!
//! Whoever comes in here plays the kernel's part: takes receive buffers from their ring, writes to them and completes them, and is
//! done with sends when it says so.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::slice;

use super::batch::{Batch, PendingReply};
use super::control::{LocalAddr, RecvControl, SendControl};
use super::peer::Peer;
use super::slots::{SendTo, Slots};

pub use super::uring::door::{Entry, ReceiveRing, Seen};

/// What control messages say: the local address that was asked, and the socket's drop counter.
pub fn control(bytes: &[u8]) -> (Option<IpAddr>, Option<u32>) {
    let RecvControl { source, overruns } = RecvControl::parse(bytes);
    (source_ip(source), overruns)
}

/// The control messages of a send from `source`, in segments of `segment_bytes`.
pub fn sent_control(source: Option<IpAddr>, segment_bytes: Option<u16>) -> Vec<u8> {
    SendControl::new(source_of(source), segment_bytes)
        .as_bytes()
        .to_vec()
}

fn source_of(source: Option<IpAddr>) -> LocalAddr {
    match source {
        None => LocalAddr::Any,
        Some(IpAddr::V4(address)) => LocalAddr::V4(address),
        Some(IpAddr::V6(address)) => LocalAddr::V6(address),
    }
}

pub(super) fn source_ip(source: LocalAddr) -> Option<IpAddr> {
    match source {
        LocalAddr::Any => None,
        LocalAddr::V4(address) => Some(address.into()),
        LocalAddr::V6(address) => Some(address.into()),
    }
}

/// The peer that the kernel's `name` is, and the name that its reply is sent to; `None` if nothing could be sent there.
pub fn peer(name: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    Peer::parse(name).map(|peer| (peer.socket_addr(), peer.name().to_vec()))
}

/// Send slots, and the batch of replies that stand in them.
pub struct SendSlots {
    slots: Slots,
    batch: Batch,
    /// Where the kernel was told to look for the send that starts with each slot.
    pinned: Vec<Option<Pinned>>,
}

enum Pinned {
    Plain(SendTo),
    Message(*const libc::msghdr),
}

/// What the kernel reads of a send.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// The `sockaddr` it goes to.
    pub name: Vec<u8>,
    /// Its control messages.
    pub control: Vec<u8>,
    /// The replies in it.
    pub replies: Vec<Vec<u8>>,
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
            pinned: (0..count).map(|_| None).collect(),
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

    /// Adds the reply of `len` bytes in `slot` to the batch, to leave from `source`; to its peer's train if `grouped` and it fits.
    /// `name` is the peer's `sockaddr`.
    ///
    /// # Panics
    ///
    /// If `name` is none that a reply can be sent to.
    pub fn push(
        &mut self,
        slot: u16,
        name: &[u8],
        source: Option<IpAddr>,
        len: usize,
        grouped: bool,
    ) {
        let peer = Peer::parse(name).expect("a peer's name");
        let reply = PendingReply::new(peer, source_of(source), len);
        self.batch.push(slot, reply, grouped);
    }

    /// The batch's trains, in the order in which they leave.
    pub fn trains(&self) -> Vec<Train> {
        let trains = self.batch.groups().iter();
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

    /// Hands the `count` replies from `head` on to the kernel, as one send: a single one without control messages as `sendto`,
    /// others as `sendmsg`.
    pub fn pin(&mut self, head: u16, count: usize) {
        self.slots.pin(&self.batch, head, count);
        let plain = count == 1 && self.batch.reply(head).source == LocalAddr::Any;
        self.pinned[usize::from(head)] = Some(if plain {
            Pinned::Plain(self.slots.send_to(&self.batch, head))
        } else {
            Pinned::Message(self.slots.message(&self.batch, head, count))
        });
    }

    /// What the kernel would read now of the send that starts with `head`; `None` if there is no such send.
    pub fn read(&self, head: u16) -> Option<Sent> {
        self.slots.sending(head)?;
        Some(match self.pinned[usize::from(head)].as_ref()? {
            Pinned::Plain(plain) => Sent {
                // SAFETY: the name is pinned (slots invariant 2; `sending` has just said that it still is).
                name: unsafe { copy(plain.name.cast(), plain.name_len as usize) },
                control: Vec::new(),
                // SAFETY: so is the reply.
                replies: vec![unsafe { copy(plain.bytes, plain.len) }],
            },
            Pinned::Message(header) => {
                // SAFETY: the header is pinned (slots invariant 2; `sending` has just said that it still is).
                let header = unsafe { &**header };
                // SAFETY: so are the iovecs, of which the header tells the number.
                let iovecs = unsafe { slice::from_raw_parts(header.msg_iov, header.msg_iovlen) };
                let reply = |iovec: &libc::iovec| {
                    // SAFETY: so is each reply.
                    unsafe { copy(iovec.iov_base.cast(), iovec.iov_len) }
                };
                Sent {
                    // SAFETY: so is the name.
                    name: unsafe { copy(header.msg_name.cast(), header.msg_namelen as usize) },
                    // SAFETY: so are the control messages.
                    control: unsafe { copy(header.msg_control.cast(), header.msg_controllen) },
                    replies: iovecs.iter().map(reply).collect(),
                }
            }
        })
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
        self.slots.is_idle()
    }
}

/// The `len` bytes from `start` on.
///
/// # Safety
///
/// They must be there, and nobody may be writing to them.
unsafe fn copy(start: *const u8, len: usize) -> Vec<u8> {
    // SAFETY: the caller says so.
    unsafe { slice::from_raw_parts(start, len) }.to_vec()
}

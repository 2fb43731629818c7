//! The kernel's part in the engines' memory, for `fuzz/` and the tests (see [`crate::testing`]).
//!
//! The caller plays the kernel: it reads sends that were handed over, and completes them. No kernel
//! ever sees this memory.

use std::io;
use std::slice;

use super::batch::{Batch, PendingReply};
use super::slots::{SendTo, Slots};

pub use super::batch::SendGroup;
pub use super::control::{LocalAddr, RecvControl, SendControl};
pub use super::dispatch::Received;
pub use super::peer::Peer;
pub use super::uring::recv_buffers::{Published, RecvBuffers};

/// Send slots, and the batch of replies in them.
pub struct SendSlots {
    slots: Slots,
    batch: Batch,
    /// By head slot: what the kernel was given for the send.
    pinned: Vec<Option<Pinned>>,
}

enum Pinned {
    SendTo(SendTo),
    Message(*const libc::msghdr),
}

/// What the kernel reads of a send.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// The destination's `sockaddr`.
    pub name: Vec<u8>,
    /// The control messages.
    pub control: Vec<u8>,
    /// The replies.
    pub replies: Vec<Vec<u8>>,
}

impl SendSlots {
    /// Allocates `count` slots.
    ///
    /// # Errors
    ///
    /// The memory cannot be mapped.
    pub fn new(count: usize) -> io::Result<Self> {
        Ok(Self {
            slots: Slots::new(count)?,
            batch: Batch::new(count),
            pinned: (0..count).map(|_| None).collect(),
        })
    }

    /// Takes a free slot to be filled.
    pub fn take(&mut self) -> Option<u16> {
        self.slots.take()
    }

    /// The bytes of a slot that is being filled.
    pub fn bytes_mut(&mut self, slot: u16) -> &mut [u8] {
        self.slots.bytes_mut(slot)
    }

    /// Frees a slot that was taken and is not needed.
    pub fn discard(&mut self, slot: u16) {
        self.slots.discard(slot);
    }

    /// Adds the reply of `len` bytes in `slot` to the batch, and to an open group of its peer if
    /// `grouped`.
    pub fn push(&mut self, slot: u16, peer: Peer, source: LocalAddr, len: usize, grouped: bool) {
        let reply = PendingReply::new(peer, source, len);
        self.batch.push(slot, reply, grouped);
    }

    /// The batch's groups, in the order in which they are sent.
    pub fn groups(&self) -> &[SendGroup] {
        self.batch.groups()
    }

    /// The slots of the first `count` replies from `head`.
    pub fn members(&self, head: u16, count: usize) -> Vec<u16> {
        self.batch.members(head, count).collect()
    }

    /// Hands the `count` replies from `head` to the kernel as one send: a single reply without
    /// control messages by `sendto`, all others by `sendmsg`.
    pub fn pin(&mut self, head: u16, count: usize) {
        self.slots.pin(&self.batch, head, count);
        let is_send_to = count == 1 && self.batch.reply(head).local_addr == LocalAddr::Any;
        self.pinned[usize::from(head)] = Some(if is_send_to {
            Pinned::SendTo(self.slots.send_to(&self.batch, head))
        } else {
            Pinned::Message(self.slots.message(&self.batch, head, count))
        });
    }

    /// What the kernel would now read of the send that starts with `head`; `None` if there is no
    /// such send.
    pub fn read(&self, head: u16) -> Option<Sent> {
        self.slots.sending(head)?;
        Some(match self.pinned[usize::from(head)].as_ref()? {
            Pinned::SendTo(send) => Sent {
                // SAFETY: the name is pinned (`slots` invariant 2; `sending` has just confirmed
                // it).
                name: unsafe { copy(send.name.cast(), send.name_len as usize) },
                control: Vec::new(),
                // SAFETY: the reply is pinned with the name.
                replies: vec![unsafe { copy(send.bytes, send.len) }],
            },
            Pinned::Message(header) => {
                // SAFETY: the header is pinned (`slots` invariant 2; `sending` has just confirmed
                // it).
                let header = unsafe { &**header };
                // SAFETY: the iovecs are pinned with the header, which holds their number.
                let iovecs = unsafe { slice::from_raw_parts(header.msg_iov, header.msg_iovlen) };
                let reply = |iovec: &libc::iovec| {
                    // SAFETY: each reply is pinned with the header.
                    unsafe { copy(iovec.iov_base.cast(), iovec.iov_len) }
                };
                Sent {
                    // SAFETY: the name is pinned with the header.
                    name: unsafe { copy(header.msg_name.cast(), header.msg_namelen as usize) },
                    // SAFETY: the control messages are pinned with the header.
                    control: unsafe { copy(header.msg_control.cast(), header.msg_controllen) },
                    replies: iovecs.iter().map(reply).collect(),
                }
            }
        })
    }

    /// The number of replies in the send that starts with `head`; `None` if there is no such send.
    pub fn sending(&self, head: u16) -> Option<usize> {
        self.slots.sending(head)
    }

    /// Completes the send of `count` replies from `head`.
    pub fn release(&mut self, head: u16, count: usize) {
        self.slots.release(&self.batch, head, count);
    }

    /// Starts the next batch.
    pub fn clear(&mut self) {
        self.batch.clear();
    }

    /// Whether no send is in flight.
    pub fn is_idle(&self) -> bool {
        self.slots.is_idle()
    }
}

/// Copies `len` bytes from `start`.
///
/// # Safety
///
/// The bytes must be readable, and nothing may write to them during the call.
unsafe fn copy(start: *const u8, len: usize) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(start, len) }.to_vec()
}

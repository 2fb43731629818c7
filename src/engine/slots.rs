//! Send slots: the memory of replies from writing until the kernel has sent them.
//!
//! Each slot has room for the largest reply and for the message header of a send that starts with
//! it. Invariants:
//!
//! 1. A slot is free, being filled, or being sent. Its bytes may be written only while it is being
//!    filled, which [`Slots::bytes_mut`] checks.
//! 2. From [`Slots::pin`] to [`Slots::release`] the slot is being sent: neither its bytes nor its
//!    message change. The engine releases it when the kernel is done with it: uring at the
//!    completion, or for a send that posts a CQE only on failure when the kernel has taken the
//!    submission queue; mmsg when the call has returned.
//! 3. All memory is allocated at start and does not move.

use std::io;
use std::mem;

use super::batch::{Batch, SEGMENTS_MAX};
use super::control::SendControl;
use super::memory::{self, BufferMemory, Mapping};
use super::peer::Peer;
use crate::protocol::REPLY_BYTES_MAX;

const STRIDE: usize = memory::stride(REPLY_BYTES_MAX);

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Free,
    Filling,
    /// The first of this many replies that are being sent together.
    Head(usize),
    /// Being sent, not the first.
    Member,
}

/// The argument of `sendmsg`, pinned with its slot.
struct Message {
    header: libc::msghdr,
    name: Peer,
    control: SendControl,
    iovecs: [libc::iovec; SEGMENTS_MAX],
}

/// The arguments of `sendto` for a single reply, pinned with its slot.
#[derive(Clone, Copy)]
pub(super) struct SendTo {
    pub(super) bytes: *const u8,
    pub(super) len: usize,
    pub(super) name: *const libc::sockaddr,
    pub(super) name_len: libc::socklen_t,
}

/// The send slots of one worker.
pub(super) struct Slots {
    bytes: Mapping,
    messages: Box<[Message]>,
    states: Box<[SlotState]>,
    memory: BufferMemory,
    /// Last in, first out: the slot used last is still in the cache.
    free: Vec<u16>,
}

impl Slots {
    /// Allocates `count` slots.
    pub(super) fn new(count: usize) -> io::Result<Self> {
        assert!(count > 0 && count <= usize::from(u16::MAX));
        Ok(Self {
            bytes: Mapping::new(count * STRIDE)?,
            messages: (0..count).map(|_| Message::new()).collect(),
            states: vec![SlotState::Free; count].into(),
            memory: BufferMemory::new(count),
            free: (0..count as u16).rev().collect(),
        })
    }

    /// Takes a free slot to be filled.
    pub(super) fn take(&mut self) -> Option<u16> {
        let slot = self.free.pop()?;
        self.states[usize::from(slot)] = SlotState::Filling;
        Some(slot)
    }

    /// The number of free slots.
    pub(super) fn free_count(&self) -> usize {
        self.free.len()
    }

    /// The bytes of a slot that is being filled.
    ///
    /// # Panics
    ///
    /// If the slot is in another state.
    pub(super) fn bytes_mut(&mut self, slot: u16) -> &mut [u8] {
        let at = usize::from(slot);
        assert_eq!(self.states[at], SlotState::Filling, "slots invariant 1");
        let start = at * STRIDE;
        // SAFETY: the slot is being filled, so the kernel does not use its bytes (invariant 1, kept
        // by `states`).
        unsafe { self.bytes.bytes_mut(start..start + REPLY_BYTES_MAX) }
    }

    /// Frees a slot that was taken and is not needed.
    pub(super) fn discard(&mut self, slot: u16) {
        debug_assert_eq!(self.states[usize::from(slot)], SlotState::Filling);
        self.free(slot);
    }

    /// Pins the `count` replies from `head` on, which are about to be sent together.
    pub(super) fn pin(&mut self, batch: &Batch, head: u16, count: usize) {
        for slot in batch.members(head, count) {
            self.states[usize::from(slot)] = SlotState::Member;
        }
        self.states[usize::from(head)] = SlotState::Head(count);
    }

    /// The number of replies in the send that starts with `head`; `None` if there is no such send.
    pub(super) fn sending(&self, head: u16) -> Option<usize> {
        match self.states.get(usize::from(head))? {
            SlotState::Head(count) => Some(*count),
            _ => None,
        }
    }

    /// Frees all slots of the send that starts with `head`. The kernel must be done with them.
    pub(super) fn release(&mut self, batch: &Batch, head: u16, count: usize) {
        for slot in batch.members(head, count) {
            let at = usize::from(slot);
            let range = at * STRIDE..(at + 1) * STRIDE;
            let touched = batch.reply(slot).touched;
            // SAFETY: the caller has the kernel's word that it is done with the slot (invariant 2).
            unsafe { self.memory.freed(&mut self.bytes, at, range, touched) };
            self.free(slot);
        }
    }

    fn free(&mut self, slot: u16) {
        self.states[usize::from(slot)] = SlotState::Free;
        self.free.push(slot);
    }

    /// Whether no slot is being sent.
    pub(super) fn is_idle(&self) -> bool {
        self.states
            .iter()
            .all(|state| matches!(state, SlotState::Free | SlotState::Filling))
    }

    /// The arguments for sending the single reply in `slot` without control data.
    pub(super) fn send_to(&mut self, batch: &Batch, slot: u16) -> SendTo {
        let message = &mut self.messages[usize::from(slot)];
        let reply = batch.reply(slot);
        message.name = reply.peer;
        SendTo {
            bytes: self.bytes.at(usize::from(slot) * STRIDE),
            len: reply.len,
            name: message.name.name().as_ptr().cast(),
            name_len: message.name.name().len() as libc::socklen_t,
        }
    }

    /// Fills the message header for the send of `count` replies from `head` on.
    pub(super) fn message(&mut self, batch: &Batch, head: u16, count: usize) -> *mut libc::msghdr {
        let first = batch.reply(head);
        let message = &mut self.messages[usize::from(head)];
        for (iovec, slot) in message.iovecs.iter_mut().zip(batch.members(head, count)) {
            iovec.iov_base = self.bytes.at(usize::from(slot) * STRIDE).cast();
            iovec.iov_len = batch.reply(slot).len;
        }
        message.name = first.peer;
        // Fits 16 bits: `SendGroup::new` opens no group for longer replies.
        let segment_bytes = (count > 1).then_some(first.len as u16);
        message.control = SendControl::new(first.local_addr, segment_bytes);

        let control = message.control.as_bytes();
        let header = &mut message.header;
        header.msg_name = message.name.name().as_ptr().cast_mut().cast();
        header.msg_namelen = message.name.name().len() as libc::socklen_t;
        header.msg_iov = message.iovecs.as_mut_ptr();
        header.msg_iovlen = count as _;
        header.msg_control = control.as_ptr().cast_mut().cast();
        header.msg_controllen = control.len() as _;
        &raw mut message.header
    }

    /// Leaks all memory, because the kernel may still use it.
    pub(super) fn leak(&mut self) {
        self.bytes.leak();
        mem::forget(mem::take(&mut self.messages));
    }
}

impl Message {
    fn new() -> Self {
        Self {
            header: empty_header(),
            name: Peer::default(),
            control: SendControl::EMPTY,
            iovecs: [empty_iovec(); SEGMENTS_MAX],
        }
    }
}

/// A `msghdr` of zeros.
pub(super) fn empty_header() -> libc::msghdr {
    // SAFETY: all fields of a msghdr are integers and pointers, for which zero is valid. (Some C
    // libraries add padding fields, so it cannot be written as a literal.)
    unsafe { mem::zeroed() }
}

/// An empty `iovec`.
pub(super) fn empty_iovec() -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::PendingReply;
    use crate::engine::control::LocalAddr;

    #[test]
    fn slots_run_out_and_are_reused() {
        let mut slots = Slots::new(2).unwrap();
        let mut batch = Batch::new(2);
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!(slots.take(), None);
        for slot in [a, b] {
            slots.bytes_mut(slot).fill(1);
            batch.push(
                slot,
                PendingReply::new(Peer::default(), LocalAddr::Any, 3),
                true,
            );
        }
        assert_eq!(batch.groups().len(), 1);
        slots.pin(&batch, a, 2);
        assert_eq!((slots.sending(a), slots.sending(b)), (Some(2), None));
        assert!(!slots.is_idle());
        slots.release(&batch, a, 2);
        assert!(slots.is_idle());
        assert_eq!((slots.sending(a), slots.sending(999)), (None, None));
        assert!(slots.take().is_some() && slots.take().is_some());
    }

    #[test]
    #[should_panic(expected = "slots invariant 1")]
    fn a_slot_being_sent_is_not_writable() {
        let mut slots = Slots::new(1).unwrap();
        let mut batch = Batch::new(1);
        let slot = slots.take().unwrap();
        batch.push(slot, PendingReply::default(), false);
        slots.pin(&batch, slot, 1);
        slots.bytes_mut(slot);
    }

    #[test]
    #[should_panic(expected = "slots invariant 1")]
    fn a_later_slot_of_a_group_is_not_writable() {
        let mut slots = Slots::new(2).unwrap();
        let mut batch = Batch::new(2);
        let (head, member) = (slots.take().unwrap(), slots.take().unwrap());
        for slot in [head, member] {
            batch.push(
                slot,
                PendingReply::new(Peer::default(), LocalAddr::Any, 3),
                true,
            );
        }
        slots.pin(&batch, head, 2);
        slots.bytes_mut(member);
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let mut slots = Slots::new(2).unwrap();
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        slots.bytes_mut(a).fill(1);
        slots.bytes_mut(b).fill(2);
        assert!(slots.bytes_mut(a).iter().all(|byte| *byte == 1));
    }
}

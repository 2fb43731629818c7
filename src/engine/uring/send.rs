//! Sends: queueing them, handling failures, and releasing their slots.

use std::io;

use io_uring::{opcode, squeue};

use super::ring::UserData;
use super::{SOCKET, Worker};
use crate::engine::control::LocalAddr;
use crate::engine::errno;
use crate::engine::handler::Handler;

/// How a send behaves when the send buffer is full, and when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendMode {
    /// Fails with EAGAIN when the send buffer is full; posts a CQE only on failure.
    SkipCqe,
    /// Waits for room in the send buffer; always posts a CQE.
    Wait,
}

impl<A: Handler> Worker<A> {
    /// Queues the sends of the batch, in order.
    pub(super) fn send_batch(&mut self) -> io::Result<()> {
        for at in 0..self.batch.groups().len() {
            let group = self.batch.groups()[at];
            self.send(group.head, group.count, SendMode::SkipCqe)?;
        }
        Ok(())
    }

    /// Handles the completion of the send that starts with slot `head`: it failed, or its mode is
    /// [`SendMode::Wait`].
    pub(super) fn on_send(&mut self, head: u16, result: i32) -> io::Result<()> {
        let counters = self.dispatcher.counters();
        let Some(count) = self.slots.sending(head) else {
            counters.malformed.add(1);
            return Ok(());
        };
        let position = self.unconfirmed.iter().position(|other| *other == head);
        if let Some(at) = position {
            self.unconfirmed.swap_remove(at);
        }
        if result >= 0 {
            self.slots.release(&self.batch, head, count);
            return Ok(());
        }
        counters.replied.subtract(count as u64);
        if count > 1 {
            counters.gso_sends.subtract(1);
        }
        if count > 1 && errno::refuses_gso(-result) {
            counters.gso_refused.add(1);
            self.gso.refused();
            return self.send_singly(head);
        }
        if position.is_some() && -result == libc::EAGAIN {
            return self.send(head, count, SendMode::Wait);
        }
        counters.send_errors.add(count as u64);
        self.slots.release(&self.batch, head, count);
        Ok(())
    }

    /// Resends the replies of a refused GSO send one by one.
    fn send_singly(&mut self, head: u16) -> io::Result<()> {
        let mut member = Some(head);
        while let Some(slot) = member {
            self.send(slot, 1, SendMode::SkipCqe)?;
            member = self.batch.next_in_group(slot);
        }
        Ok(())
    }

    /// Queues the send of `count` replies from `head` on. They count as sent until the send fails.
    fn send(&mut self, head: u16, count: usize, mode: SendMode) -> io::Result<()> {
        let (message_flags, entry_flags) = match mode {
            SendMode::SkipCqe => (libc::MSG_DONTWAIT, squeue::Flags::SKIP_SUCCESS),
            SendMode::Wait => (0, squeue::Flags::empty()),
        };
        self.slots.pin(&self.batch, head, count);
        let entry = if count == 1 && self.batch.reply(head).local_addr == LocalAddr::Any {
            let target = self.slots.send_to(&self.batch, head);
            opcode::Send::new(SOCKET, target.bytes, target.len as u32)
                .dest_addr(target.name)
                .dest_addr_len(target.name_len)
                .flags(message_flags)
                .build()
        } else {
            let message = self.slots.message(&self.batch, head, count);
            opcode::SendMsg::new(SOCKET, message)
                .flags(message_flags as u32)
                .build()
        };
        let entry = entry
            .flags(entry_flags)
            .user_data(UserData::Send(head).encode());
        if mode == SendMode::SkipCqe {
            self.unconfirmed.push(head);
        }
        let counters = self.dispatcher.counters();
        counters.replied.add(count as u64);
        if count > 1 {
            counters.gso_sends.add(1);
        }
        // SAFETY: the replies, the name and the message are pinned with their slots until the
        // kernel is done with them (slots invariant 2, kept by `on_send` and
        // `release_unconfirmed`); `drop` leaks them if the kernel never reports that.
        unsafe { self.ring.push(&entry) }
    }
}

impl<A> Worker<A> {
    /// Releases all [`SendMode::SkipCqe`] sends that have not failed, if the kernel has taken the
    /// submission queue.
    pub(super) fn release_unconfirmed(&mut self) {
        if !self.ring.is_submitted() {
            return;
        }
        for head in self.unconfirmed.drain(..) {
            if let Some(count) = self.slots.sending(head) {
                if count > 1 {
                    self.gso.accepted();
                }
                self.slots.release(&self.batch, head, count);
            }
        }
    }
}

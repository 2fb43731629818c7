//! Sends: queueing them, handling failures, and releasing their slots.

use std::io;
use std::mem;
use std::time::Instant;

use io_uring::{opcode, squeue};
use socket2::Socket;

use super::ring::{Ring, UserData};
use super::{SOCKET, Worker};
use crate::engine::control::LocalAddr;
use crate::engine::errno;
use crate::engine::handler::Handler;
use crate::engine::send_queue::Admission;
use crate::engine::socket::send_buffer_in_use;

impl<A: Handler> Worker<A> {
    /// Sends the groups of the batch, in order, or lets them wait for room.
    pub(super) fn send_batch(&mut self) -> io::Result<()> {
        for at in 0..self.batch.groups().len() {
            let group = self.batch.groups()[at];
            self.slots.pin(&self.batch, group.head, group.count);
            let (head, count) = (group.head, group.count);
            let admission = match self.send_queue.admit(&self.batch, head, count) {
                Some(admission) => admission,
                None => {
                    let in_use = in_use(&self.ring, &self.socket);
                    self.send_queue
                        .admit_measured(&self.batch, head, count, in_use)
                }
            };
            self.follow(admission, head, count)?;
        }
        Ok(())
    }

    /// Sends what has waited for room, in order, and drops what has waited for too long.
    pub(super) fn retry_sends(&mut self) -> io::Result<()> {
        if self.send_queue.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        while let Some((head, count)) = self.send_queue.take_expired(now) {
            self.follow(Admission::Drop, head, count)?;
        }
        if let Some(in_use) = in_use(&self.ring, &self.socket) {
            let mut ready = mem::take(&mut self.ready);
            self.send_queue.take_ready(&self.batch, in_use, &mut ready);
            for (head, count) in ready.drain(..) {
                self.send(head, count)?;
            }
            self.ready = ready;
        }
        Ok(())
    }

    fn follow(&mut self, admission: Admission, head: u16, count: usize) -> io::Result<()> {
        match admission {
            Admission::Send => return self.send(head, count),
            Admission::Wait => {}
            Admission::Drop => {
                self.dispatcher.counters().send_timeouts.add(count as u64);
                self.slots.release(&self.batch, head, count);
            }
        }
        Ok(())
    }

    /// Handles the completion of the send that starts with slot `head`: it failed.
    pub(super) fn on_send(&mut self, head: u16, result: i32) -> io::Result<()> {
        let counters = self.dispatcher.counters();
        let Some(count) = self.slots.sending(head) else {
            counters.malformed.add(1);
            return Ok(());
        };
        self.unconfirmed.retain(|other| *other != head);
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
        if -result == libc::EAGAIN {
            let admission = self.send_queue.wait(&self.batch, head, count);
            return self.follow(admission, head, count);
        }
        counters.send_errors.add(count as u64);
        self.slots.release(&self.batch, head, count);
        Ok(())
    }

    /// Resends the replies of a refused GSO send one by one.
    fn send_singly(&mut self, head: u16) -> io::Result<()> {
        let mut member = Some(head);
        while let Some(slot) = member {
            self.slots.pin(&self.batch, slot, 1);
            self.send(slot, 1)?;
            member = self.batch.next_in_group(slot);
        }
        Ok(())
    }

    /// Queues the send of `count` pinned replies from `head` on. They count as sent until the send
    /// fails.
    fn send(&mut self, head: u16, count: usize) -> io::Result<()> {
        let entry = if count == 1 && self.batch.reply(head).local_addr == LocalAddr::Any {
            let target = self.slots.send_to(&self.batch, head);
            opcode::Send::new(SOCKET, target.bytes, target.len as u32)
                .dest_addr(target.name)
                .dest_addr_len(target.name_len)
                .flags(libc::MSG_DONTWAIT)
                .build()
        } else {
            let message = self.slots.message(&self.batch, head, count);
            opcode::SendMsg::new(SOCKET, message)
                .flags(libc::MSG_DONTWAIT as u32)
                .build()
        };
        let entry = entry
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(UserData::Send(head).encode());
        self.unconfirmed.push(head);
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
    /// Releases all sends that have not failed, if the kernel has taken the submission queue.
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

    /// Drops what waits for room.
    pub(super) fn drop_waiting(&mut self) {
        while let Some((head, count)) = self.send_queue.take_any() {
            self.dispatcher.counters().send_timeouts.add(count as u64);
            self.slots.release(&self.batch, head, count);
        }
    }
}

/// Submits what is queued, and returns how much of the send buffer is then in use; `None` if the
/// kernel did not take the queue.
fn in_use(ring: &Ring, socket: &Socket) -> Option<usize> {
    ring.submit().ok()?;
    Some(send_buffer_in_use(socket))
}

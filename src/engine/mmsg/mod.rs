//! The fallback engine: recvmmsg(2) and sendmmsg(2), for systems that refuse io_uring.
//!
//! One iteration of the loop receives a batch without waiting, answers it, and sends the replies.
//! When the socket is empty it polls the socket and the worker's event. The kernel uses no memory
//! after a call has returned, so nothing is in flight between calls. Pitfalls are handled in the
//! same places as for io_uring: [`errno`], [`BatchContext::answer`], [`super::batch`],
//! [`super::send_queue`].

//! The fallback engine: recvmmsg(2) and sendmmsg(2), for systems that refuse io_uring.
//!
//! One iteration of the loop receives a batch without waiting, answers it, and sends the replies.
//! When the socket is empty it polls the socket and the worker's event. The kernel uses no memory
//! after a call has returned, so nothing is in flight between calls. Pitfalls are handled in the
//! same places as for io_uring: [`errno`], [`BatchContext::answer`], [`super::batch`].

mod inbox;

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::batch::{Batch, GsoState, PendingReply, SendGroup};
use super::dispatch::{BATCH_BYTES, BatchContext, Dispatcher, Received};
use super::errno::{self, ErrorBackoff};
use super::handler::Handler;
use super::send_queue::{Admission, RETRY_INTERVAL, SendQueue};
use super::signal::Signal;
use super::slots::{Slots, empty_header};
use super::socket::send_buffer_in_use;
use crate::remedy::{Operation, failed};
use inbox::{Inbox, PER_CALL};

/// Send slots: those of one batch, and others for replies that wait for room.
const SLOTS: usize = 4 * PER_CALL;

/// How long a worker that ends answers what it has received.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// One worker.
pub(super) struct Worker<A> {
    socket: Arc<Socket>,
    inbox: Inbox,
    slots: Slots,
    batch: Batch,
    send_queue: SendQueue,
    /// Sends that need not wait any longer; empty between calls.
    ready: Vec<(u16, usize)>,
    outbox: Outbox,
    gso: GsoState,
    dispatcher: Dispatcher<A>,
    signal: Arc<Signal>,
    backoff: ErrorBackoff,
}

/// The sends of the next sendmmsg.
#[derive(Default)]
struct Outbox {
    /// The argument of sendmmsg: copies of the slots' messages.
    headers: Vec<libc::mmsghdr>,
    /// By header: the head slot, and the number of replies.
    sends: Vec<(u16, usize)>,
}

impl<A: Handler> Worker<A> {
    /// Allocates all memory, and tries the two system calls.
    ///
    /// # Errors
    ///
    /// What the kernel refused, and the remedy.
    pub(super) fn new(
        socket: Arc<Socket>,
        gso: bool,
        dispatcher: Dispatcher<A>,
        signal: Arc<Signal>,
    ) -> Result<Self, String> {
        let refused = |what: &str, error: &io::Error| failed(what, Operation::Other, error);
        let mut inbox = Inbox::new().map_err(|error| refused("mmap", &error))?;
        inbox
            .probe(socket.as_raw_fd())
            .map_err(|error| refused("recvmmsg", &error))?;
        send_messages(&socket, &mut []).map_err(|error| refused("sendmmsg", &error))?;
        let send_buffer = socket
            .send_buffer_size()
            .map_err(|error| refused("getsockopt", &error))?;
        Ok(Self {
            socket,
            inbox,
            slots: Slots::new(SLOTS).map_err(|error| refused("mmap", &error))?,
            batch: Batch::new(SLOTS),
            send_queue: SendQueue::new(send_buffer, SLOTS),
            ready: Vec::with_capacity(SLOTS),
            outbox: Outbox {
                headers: Vec::with_capacity(SLOTS),
                sends: Vec::with_capacity(SLOTS),
            },
            gso: GsoState::new(gso),
            dispatcher,
            signal,
            backoff: ErrorBackoff::default(),
        })
    }

    /// Serves until the signal says to stop.
    ///
    /// # Errors
    ///
    /// The socket itself failed; see [`errno`].
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.signal.is_stopping() {
            self.retry_sends();
            match self.receive() {
                Ok(count) => {
                    self.backoff.succeeded();
                    self.answer(count);
                    if count < PER_CALL {
                        self.wait()?;
                    }
                }
                Err(error) => match errno::errno(&error) {
                    libc::EINTR => {}
                    errno if errno::ends_worker(errno) => return Err(error),
                    _ => {
                        self.dispatcher.counters().receive_errors.add(1);
                        self.backoff.failed();
                    }
                },
            }
        }
        self.finish();
        Ok(())
    }

    /// Receives what is queued, as far as there are slots for the replies. Returns the number of
    /// datagrams.
    fn receive(&mut self) -> io::Result<usize> {
        if !self.can_receive() {
            return Ok(0);
        }
        match self.inbox.receive(self.socket.as_raw_fd()) {
            Err(error) if errno::errno(&error) == libc::EAGAIN => Ok(0),
            received => received,
        }
    }

    fn can_receive(&self) -> bool {
        self.slots.free_count() >= PER_CALL
    }

    /// Waits for something to do: a datagram, a wake-up, or the time to retry sends.
    fn wait(&mut self) -> io::Result<()> {
        if self.inbox.deferred() > 0 && self.slots.free_count() > 0 {
            return Ok(());
        }
        let timeout_ms = match self.send_queue.is_empty() {
            true => -1,
            false => RETRY_INTERVAL.as_millis() as i32,
        };
        // poll(2) ignores a negative descriptor.
        let socket = if self.can_receive() {
            self.socket.as_raw_fd()
        } else {
            -1
        };
        let mut fds = [
            poll_for(socket, libc::POLLIN),
            poll_for(self.signal.event.as_raw_fd(), libc::POLLIN),
        ];
        if let Err(error) = poll(&mut fds, timeout_ms) {
            if errno::ends_worker(errno::errno(&error)) {
                return Err(error);
            }
            self.backoff.failed();
        }
        if fds[1].revents != 0 {
            self.signal.event.clear();
            self.dispatcher.counters().wakes.add(1);
            self.dispatcher.refresh();
        }
        Ok(())
    }

    /// Answers what was received, within a bounded time.
    fn finish(&mut self) {
        let deadline = Instant::now() + FINISH_TIMEOUT;
        while Instant::now() < deadline {
            self.retry_sends();
            self.answer_deferred();
            if self.inbox.deferred() == 0 {
                if self.send_queue.is_empty() {
                    break;
                }
                thread::sleep(RETRY_INTERVAL);
            }
        }
    }

    /// Answers the `count` new datagrams of the inbox, short ones first, and after them some of the
    /// deferred ones. For the reason see [`LONG_BYTES`].
    fn answer(&mut self, count: usize) {
        let mut at = self.inbox.deferred();
        let end = at + count;
        while at < end {
            at = self.answer_batch(at..end, true);
        }
        self.answer_deferred();
    }

    fn answer_deferred(&mut self) {
        let count = self.inbox.due().min(self.slots.free_count());
        if count > 0 {
            let done = self.answer_batch(0..count, false);
            self.inbox.free_deferred(done);
        }
    }

    /// Answers the datagrams at `places`, and sends the replies, until the batch is large enough.
    /// Long datagrams are deferred if `may_defer`. Returns the place after the last that is done.
    fn answer_batch(&mut self, places: Range<usize>, may_defer: bool) -> usize {
        let mut context = self.dispatcher.begin_batch();
        let grouped = self.gso.next_batch();
        self.batch.clear();
        let (mut at, mut bytes) = (places.start, 0);
        while at < places.end && bytes < BATCH_BYTES {
            if may_defer && self.inbox.must_defer(at) {
                self.inbox.defer(at);
            } else {
                // `receive` and `answer_deferred` make sure that there are slots.
                let Some(slot) = self.slots.take() else { break };
                bytes += self.inbox.len(at);
                let out = self.slots.bytes_mut(slot);
                match answer_received(self.inbox.received(at), &mut context, out) {
                    Some(reply) => {
                        bytes += reply.len;
                        self.batch.push(slot, reply, grouped);
                    }
                    None => self.slots.discard(slot),
                }
                self.inbox.answered(at);
            }
            at += 1;
        }
        context.finish();
        self.send_batch();
        at
    }

    /// Sends the groups of the batch, in order, or lets them wait for room.
    fn send_batch(&mut self) {
        for at in 0..self.batch.groups().len() {
            let SendGroup { head, count, .. } = self.batch.groups()[at];
            self.slots.pin(&self.batch, head, count);
            let admission = match self.send_queue.admit(&self.batch, head, count) {
                Some(admission) => admission,
                None => {
                    self.flush();
                    let in_use = Some(send_buffer_in_use(&self.socket));
                    self.send_queue
                        .admit_measured(&self.batch, head, count, in_use)
                }
            };
            self.follow(admission, head, count);
        }
        self.flush();
    }

    /// Sends what has waited for room, in order, and drops what has waited for too long.
    fn retry_sends(&mut self) {
        if self.send_queue.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((head, count)) = self.send_queue.take_expired(now) {
            self.follow(Admission::Drop, head, count);
        }
        let in_use = send_buffer_in_use(&self.socket);
        let mut ready = mem::take(&mut self.ready);
        self.send_queue.take_ready(&self.batch, in_use, &mut ready);
        for (head, count) in ready.drain(..) {
            self.follow(Admission::Send, head, count);
        }
        self.ready = ready;
        self.flush();
    }

    fn follow(&mut self, admission: Admission, head: u16, count: usize) {
        match admission {
            Admission::Send => {
                let message = self.slots.message(&self.batch, head, count);
                let mut header = empty_message();
                // SAFETY: the message lives in its slot, and nothing else refers to it.
                header.msg_hdr = unsafe { *message };
                self.outbox.headers.push(header);
                self.outbox.sends.push((head, count));
            }
            Admission::Wait => {}
            Admission::Drop => {
                self.dispatcher.counters().send_timeouts.add(count as u64);
                self.slots.release(&self.batch, head, count);
            }
        }
    }

    /// Sends the outbox. Counts the replies that cannot be sent; those that the kernel has no room
    /// for wait.
    fn flush(&mut self) {
        let mut outbox = mem::take(&mut self.outbox);
        let mut at = 0;
        while at < outbox.sends.len() {
            match send_messages(&self.socket, &mut outbox.headers[at..]) {
                Ok(sent) => {
                    for &(head, count) in &outbox.sends[at..at + sent] {
                        self.sent(head, count);
                    }
                    at += sent;
                }
                Err(error) if errno::errno(&error) == libc::EAGAIN => {
                    // All of them, so that the order is kept.
                    for &(head, count) in &outbox.sends[at..] {
                        self.wait_for_room(head, count);
                    }
                    break;
                }
                Err(error) => {
                    let (head, count) = outbox.sends[at];
                    self.failed(head, count, &error);
                    at += 1;
                }
            }
        }
        outbox.headers.clear();
        outbox.sends.clear();
        self.outbox = outbox;
    }

    fn sent(&mut self, head: u16, count: usize) {
        let counters = self.dispatcher.counters();
        counters.replied.add(count as u64);
        if count > 1 {
            counters.gso_sends.add(1);
            self.gso.accepted();
        }
        self.slots.release(&self.batch, head, count);
    }

    fn wait_for_room(&mut self, head: u16, count: usize) {
        let admission = self.send_queue.wait(&self.batch, head, count);
        self.follow(admission, head, count);
    }

    /// Handles a send that the kernel refused for another reason than a lack of room.
    fn failed(&mut self, head: u16, count: usize, error: &io::Error) {
        let counters = self.dispatcher.counters();
        if count > 1 && errno::refuses_gso(errno::errno(error)) {
            counters.gso_refused.add(1);
            self.gso.refused();
            self.send_singly(head);
        } else {
            counters.send_errors.add(count as u64);
            self.slots.release(&self.batch, head, count);
        }
    }

    /// Sends the replies of a refused GSO send one by one.
    fn send_singly(&mut self, head: u16) {
        let mut member = Some(head);
        while let Some(slot) = member {
            member = self.batch.next_in_group(slot);
            self.slots.pin(&self.batch, slot, 1);
            let message = self.slots.message(&self.batch, slot, 1);
            let mut header = empty_message();
            // SAFETY: the message lives in its slot, and nothing else refers to it.
            header.msg_hdr = unsafe { *message };
            match send_messages(&self.socket, &mut [header]) {
                Ok(_) => self.sent(slot, 1),
                Err(error) if errno::errno(&error) == libc::EAGAIN => self.wait_for_room(slot, 1),
                Err(error) => self.failed(slot, 1, &error),
            }
        }
    }
}

/// Sends `messages`, whose memory is pinned in the worker's slots. Returns how many the kernel
/// accepted: at least one, unless `messages` is empty.
fn send_messages(socket: &Socket, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
    loop {
        let (start, count) = (messages.as_mut_ptr(), messages.len() as u32);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `count` headers, each pointing to memory that is pinned in its slot (slots
        // invariant 2) until the call returns.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), start, count, flags as _) };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(sent);
        }
        let error = io::Error::last_os_error();
        if errno::errno(&error) != libc::EINTR {
            return Err(error);
        }
    }
}

/// Answers one datagram and writes the reply to `out`.
fn answer_received<A: Handler>(
    received: Option<Received<'_>>,
    context: &mut BatchContext<'_, A>,
    out: &mut [u8],
) -> Option<PendingReply> {
    let Some(received) = received else {
        context.counters.malformed.add(1);
        return None;
    };
    let (peer, local_addr) = (received.peer, received.control.local_addr);
    let reply = context.answer(received, out)?;
    Some(PendingReply::written(peer, local_addr, reply))
}

fn empty_message() -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: empty_header(),
        msg_len: 0,
    }
}

fn poll_for(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        fd,
        events,
        revents: 0,
    }
}

/// Waits until one of `fds` is ready, a signal comes, or `timeout_ms` have passed (-1: no limit).
fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<()> {
    // SAFETY: the pointer and the count are those of a live slice.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) };
    if ready >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

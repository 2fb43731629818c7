//! The fallback engine: recvmmsg(2) and sendmmsg(2), for systems that refuse io_uring.
//!
//! One iteration of the loop receives a batch without waiting, answers it, and sends the replies.
//! When the socket is empty it polls the socket and the worker's event. The kernel uses no memory
//! after a call has returned, so nothing is in flight between calls. Pitfalls are handled in the
//! same places as for io_uring: [`errno`], [`BatchContext::answer`], [`super::batch`].

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;

use socket2::Socket;

use super::batch::{Batch, GsoState, PendingReply};
use super::control::{RECEIVED_BYTES, RecvControl};
use super::dispatch::{BatchContext, Dispatcher, Received};
use super::errno::{self, ErrorBackoff};
use super::handler::Handler;
use super::memory::{self, Mapping};
use super::peer::{NAME_BYTES, Peer};
use super::signal::Signal;
use super::slots::{Slots, empty_header, empty_iovec};
use crate::protocol::{PADDING, REQUEST_BYTES_MAX};

/// Datagrams per call. More bring no gain.
const BATCH: usize = 64;

/// Bytes of a datagram that the kernel may write: one more than a request may have, so that a
/// longer one is noticed.
const KERNEL_BYTES: usize = REQUEST_BYTES_MAX + 1;
const STRIDE: usize = memory::stride(KERNEL_BYTES + PADDING);

/// How long the replies of a batch wait for room in the send buffer before they are dropped.
const SEND_TIMEOUT_MS: i32 = 100;

/// The memory that recvmmsg writes to.
///
/// Invariant: every header points to its own name, control data and payload, all of which live and
/// do not move as long as the inbox does. The kernel uses them only within [`Inbox::receive`].
struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    names: Box<[NameBuffer]>,
    controls: Box<[ControlBuffer]>,
    /// The headers point to these; nothing else reads them.
    _iovecs: Box<[libc::iovec]>,
    data: Mapping,
}

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct NameBuffer([u8; NAME_BYTES]);

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlBuffer([u8; RECEIVED_BYTES]);

impl Inbox {
    fn new() -> io::Result<Self> {
        let data = Mapping::new(BATCH * STRIDE)?;
        let mut names: Box<[NameBuffer]> = [NameBuffer([0; NAME_BYTES]); BATCH].into();
        let mut controls: Box<[ControlBuffer]> = [ControlBuffer([0; RECEIVED_BYTES]); BATCH].into();
        let mut iovecs: Box<[libc::iovec]> = [empty_iovec(); BATCH].into();
        let mut headers: Box<[libc::mmsghdr]> = [empty_message(); BATCH].into();
        for (at, header) in headers.iter_mut().enumerate() {
            iovecs[at].iov_base = data.at(at * STRIDE).cast();
            iovecs[at].iov_len = KERNEL_BYTES;
            header.msg_hdr.msg_name = (&raw mut names[at]).cast();
            header.msg_hdr.msg_control = (&raw mut controls[at]).cast();
            header.msg_hdr.msg_iov = &raw mut iovecs[at];
            header.msg_hdr.msg_iovlen = 1;
        }
        Ok(Self {
            headers,
            names,
            controls,
            _iovecs: iovecs,
            data,
        })
    }

    /// Receives the datagrams that are queued, at most a batch. Returns how many.
    fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        for header in &mut self.headers {
            // The kernel has overwritten these with the lengths that it used.
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_hdr.msg_controllen = RECEIVED_BYTES as _;
            header.msg_hdr.msg_flags = 0;
        }
        let headers = self.headers.as_mut_ptr();
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: BATCH headers, each pointing to live memory of the length that it states (the
        // inbox's invariant).
        let received =
            unsafe { libc::recvmmsg(socket, headers, BATCH as u32, flags as _, ptr::null_mut()) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Datagram `at` of the last batch; `None` if its header is malformed or it has no address to
    /// reply to.
    fn received(&mut self, at: usize) -> Option<Received<'_>> {
        let header = &self.headers[at];
        let name_len = (header.msg_hdr.msg_namelen as usize).min(NAME_BYTES);
        let peer = Peer::parse(&self.names[at].0[..name_len])?;
        #[allow(
            clippy::unnecessary_cast,
            reason = "its type differs between C libraries"
        )]
        let control_len = (header.msg_hdr.msg_controllen as usize).min(RECEIVED_BYTES);
        let control = RecvControl::parse(&self.controls[at].0[..control_len]);
        let len = (header.msg_len as usize).min(KERNEL_BYTES);
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let start = at * STRIDE;
        // SAFETY: the kernel uses the data only within `receive`.
        let buffer = unsafe { self.data.bytes_mut(start..start + STRIDE) };
        Some(Received {
            peer,
            local_addr: control.local_addr,
            truncated,
            overruns: control.overruns,
            buffer,
            len,
        })
    }
}

/// One worker.
pub(super) struct Worker<A> {
    socket: Arc<Socket>,
    inbox: Inbox,
    slots: Slots,
    batch: Batch,
    /// The argument of sendmmsg, rebuilt from the slots' messages for each batch.
    outbox: Vec<libc::mmsghdr>,
    gso: GsoState,
    dispatcher: Dispatcher<A>,
    signal: Arc<Signal>,
    backoff: ErrorBackoff,
    /// The send buffer stayed full for [`SEND_TIMEOUT_MS`]: the rest of this batch does not wait.
    stuck: bool,
}

impl<A: Handler> Worker<A> {
    /// Allocates all memory.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn new(
        socket: Arc<Socket>,
        gso: bool,
        dispatcher: Dispatcher<A>,
        signal: Arc<Signal>,
    ) -> Result<Self, String> {
        let refused = |error: io::Error| format!("mmap: {error}; raise the memory limits");
        Ok(Self {
            socket,
            inbox: Inbox::new().map_err(refused)?,
            slots: Slots::new(BATCH).map_err(refused)?,
            batch: Batch::new(BATCH),
            outbox: Vec::with_capacity(BATCH),
            gso: GsoState::new(gso),
            dispatcher,
            signal,
            backoff: ErrorBackoff::default(),
            stuck: false,
        })
    }

    /// Serves until the signal says to stop.
    ///
    /// # Errors
    ///
    /// The socket itself failed; see [`errno`].
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.signal.is_stopping() {
            match self.inbox.receive(self.socket.as_raw_fd()) {
                Ok(count) => {
                    self.backoff.succeeded();
                    self.answer(count);
                    self.send();
                    if count < BATCH {
                        self.wait()?;
                    }
                }
                Err(error) => match errno::errno(&error) {
                    libc::EINTR => {}
                    libc::EAGAIN => self.wait()?,
                    errno if errno::ends_worker(errno) => return Err(error),
                    _ => {
                        self.dispatcher.counters().receive_errors.add(1);
                        self.backoff.failed();
                    }
                },
            }
        }
        Ok(())
    }

    /// Waits for a datagram or a wake-up.
    fn wait(&mut self) -> io::Result<()> {
        let mut fds = [
            poll_for(self.socket.as_raw_fd(), libc::POLLIN),
            poll_for(self.signal.event.as_raw_fd(), libc::POLLIN),
        ];
        if let Err(error) = poll(&mut fds, -1) {
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

    /// Answers the first `count` datagrams of the inbox.
    fn answer(&mut self, count: usize) {
        let mut context = self.dispatcher.begin_batch();
        let grouped = self.gso.next_batch();
        self.batch.clear();
        for at in 0..count {
            // There are as many slots as datagrams, and no send is in flight.
            let Some(slot) = self.slots.take() else { break };
            let out = self.slots.bytes_mut(slot);
            match answer_received(self.inbox.received(at), &mut context, out) {
                Some(reply) => self.batch.push(slot, reply, grouped),
                None => self.slots.discard(slot),
            }
        }
        context.finish();
    }

    /// Sends the batch's replies, and counts those that cannot be sent.
    fn send(&mut self) {
        for at in 0..self.batch.groups().len() {
            let group = self.batch.groups()[at];
            self.post(group.head, group.count);
        }
        self.stuck = false;
        let mut at = 0;
        while at < self.batch.groups().len() {
            let group = self.batch.groups()[at];
            match self.send_from(at) {
                Ok(sent) => at += sent,
                Err(error) => {
                    if group.count > 1 && errno::refuses_gso(errno::errno(&error)) {
                        self.dispatcher.counters().gso_refused.add(1);
                        self.gso.refused();
                        self.send_singly(group.head);
                    } else {
                        self.dispatcher
                            .counters()
                            .send_errors
                            .add(group.count as u64);
                    }
                    at += 1;
                }
            }
        }
        self.outbox.clear();
        for at in 0..self.batch.groups().len() {
            let group = self.batch.groups()[at];
            self.slots.release(&self.batch, group.head, group.count);
        }
    }

    /// Adds a send to the outbox.
    fn post(&mut self, head: u16, count: usize) {
        self.slots.pin(&self.batch, head, count);
        let message = self.slots.message(&self.batch, head, count);
        let mut header = empty_message();
        // SAFETY: the message lives in its slot, and nothing else refers to it.
        header.msg_hdr = unsafe { *message };
        self.outbox.push(header);
    }

    /// Sends the outbox from `at` on. Returns how many sends the kernel accepted, at least one.
    fn send_from(&mut self, at: usize) -> io::Result<usize> {
        let groups = &self.batch.groups()[at..];
        let sent = send_messages(&self.socket, &mut self.stuck, &mut self.outbox[at..])?;
        let counters = self.dispatcher.counters();
        for group in &groups[..sent] {
            counters.replied.add(group.count as u64);
            if group.count > 1 {
                counters.gso_sends.add(1);
                self.gso.accepted();
            }
        }
        Ok(sent)
    }

    /// Sends the replies of a refused GSO send one by one.
    fn send_singly(&mut self, head: u16) {
        let mut member = Some(head);
        while let Some(slot) = member {
            let message = self.slots.message(&self.batch, slot, 1);
            let mut header = empty_message();
            // SAFETY: the message lives in its slot, and nothing else refers to it.
            header.msg_hdr = unsafe { *message };
            let sent = send_messages(&self.socket, &mut self.stuck, &mut [header]);
            let counters = self.dispatcher.counters();
            match sent {
                Ok(_) => counters.replied.add(1),
                Err(_) => counters.send_errors.add(1),
            }
            member = self.batch.next_in_group(slot);
        }
    }
}

/// Sends `messages`, whose memory is pinned in the worker's slots. Returns how many the kernel
/// accepted, at least one.
fn send_messages(
    socket: &Socket,
    stuck: &mut bool,
    messages: &mut [libc::mmsghdr],
) -> io::Result<usize> {
    loop {
        let (start, count) = (messages.as_mut_ptr(), messages.len() as u32);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `count` headers, each pointing to memory that is pinned in its slot (slots
        // invariant 2) until the call returns.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), start, count, flags as _) };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(sent.max(1));
        }
        let error = io::Error::last_os_error();
        match errno::errno(&error) {
            libc::EINTR => {}
            libc::EAGAIN if !*stuck => {
                // The send buffer is full: the network is slower than this worker.
                let mut fds = [poll_for(socket.as_raw_fd(), libc::POLLOUT)];
                poll(&mut fds, SEND_TIMEOUT_MS)?;
                *stuck = fds[0].revents & libc::POLLOUT == 0;
            }
            _ => return Err(error),
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
    let (peer, local_addr) = (received.peer, received.local_addr);
    let len = context.answer(received, out)?;
    Some(PendingReply::new(peer, local_addr, len))
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

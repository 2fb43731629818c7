//! The fallback engine: recvmmsg(2) and sendmmsg(2), for where io_uring is refused.
//!
//! One turn of the loop receives a batch without waiting, answers it, and sends the replies; when the socket has no more it
//! polls the socket and the worker's event. The kernel is done with all memory when a call returns, so nothing is in
//! flight between calls. Pitfalls are decided in the same places as for uring: [`errno`],
//! [`BatchContext::answer`], [`super::batch`].

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::Arc;

use socket2::Socket;

use super::batch::{Batch, GsoState, PendingReply};
use super::control::{RECEIVED_BYTES, RecvControl};
use super::dispatch::{BatchContext, Dispatcher, Received};
use super::errno::{self, ErrorBackoff};
use super::memory::{self, Mapping};
use super::peer::{NAME_BYTES, Peer};
use super::slots::{Slots, empty_header, empty_iovec};
use super::{Handler, Signal};
use crate::protocol::{PADDING, REQUEST_BYTES_MAX};

/// Datagrams per call: more gain nothing.
const BATCH: usize = 64;

/// What the kernel may write of a datagram: one byte more than a request may have, to tell a longer one.
const KERNEL_BYTES: usize = REQUEST_BYTES_MAX + 1;
const STRIDE: usize = memory::stride(KERNEL_BYTES + PADDING);

/// How long the replies of a batch wait for room in the socket's send queue without any coming before they are given up.
const SEND_PATIENCE_MS: i32 = 100;

/// Where recvmmsg writes. Invariant: every header points to its own name, control and data, all of which live, unmoved, as
/// long as the inbox; the kernel uses them only within [`Inbox::receive`].
struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    names: Box<[NameBuffer]>,
    controls: Box<[ControlBuffer]>,
    /// Where the headers point; not looked at again.
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

    /// Takes the datagrams that are there, at most a batch.
    fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        for header in &mut self.headers {
            // The kernel wrote what it used of these.
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_hdr.msg_controllen = RECEIVED_BYTES as _;
            header.msg_hdr.msg_flags = 0;
        }
        let headers = self.headers.as_mut_ptr();
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: BATCH headers, each pointing to live memory of the lengths it says (the inbox's invariant).
        let received =
            unsafe { libc::recvmmsg(socket, headers, BATCH as u32, flags as _, ptr::null_mut()) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Datagram `at` of the last batch; `None` if it makes no sense or cannot be answered.
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
            source: control.source,
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
    /// What sendmmsg is told; rebuilt from the slots' messages for each batch.
    outbox: Vec<libc::mmsghdr>,
    segmentation: GsoState,
    desk: Dispatcher<A>,
    signal: Arc<Signal>,
    patience: ErrorBackoff,
    /// The send queue was full and stayed so: nothing more of this batch waits for it.
    stuck: bool,
}

impl<A: Handler> Worker<A> {
    /// Takes all memory.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn new(
        socket: Arc<Socket>,
        segmentation: bool,
        desk: Dispatcher<A>,
        signal: Arc<Signal>,
    ) -> Result<Self, String> {
        let refused = |error: io::Error| format!("mmap: {error}; raise the memory limits");
        Ok(Self {
            socket,
            inbox: Inbox::new().map_err(refused)?,
            slots: Slots::new(BATCH).map_err(refused)?,
            batch: Batch::new(BATCH),
            outbox: Vec::with_capacity(BATCH),
            segmentation: GsoState::new(segmentation),
            desk,
            signal,
            patience: ErrorBackoff::default(),
            stuck: false,
        })
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    ///
    /// What went wrong with the socket itself; see [`errno`].
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.signal.stopping() {
            match self.inbox.receive(self.socket.as_raw_fd()) {
                Ok(count) => {
                    self.patience.succeeded();
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
                        self.desk.counters().receive_errors.add(1);
                        self.patience.failed();
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
            self.patience.failed();
        }
        if fds[1].revents != 0 {
            self.signal.event.clear();
            self.desk.counters().wakes.add(1);
            self.desk.refresh();
        }
        Ok(())
    }

    /// Answers the first `count` datagrams of the inbox.
    fn answer(&mut self, count: usize) {
        let mut turn = self.desk.begin_batch();
        turn.counters.batches.add(1);
        let grouped = self.segmentation.next_batch();
        self.batch.clear();
        for at in 0..count {
            // As many slots as datagrams, and none is in flight here.
            let Some(slot) = self.slots.take() else { break };
            let out = self.slots.bytes_mut(slot);
            match answer_received(self.inbox.received(at), &mut turn, out) {
                Some(reply) => self.batch.push(slot, reply, grouped),
                None => self.slots.discard(slot),
            }
        }
    }

    /// Sends the batch's replies; those that cannot be sent are counted.
    fn send(&mut self) {
        for at in 0..self.batch.groups().len() {
            let train = self.batch.groups()[at];
            self.post(train.head, train.count);
        }
        self.stuck = false;
        let mut at = 0;
        while at < self.batch.groups().len() {
            let train = self.batch.groups()[at];
            match self.send_from(at) {
                Ok(sent) => at += sent,
                Err(error) => {
                    if train.count > 1 && errno::refuses_train(errno::errno(&error)) {
                        self.desk.counters().trains_refused.add(1);
                        self.segmentation.refused();
                        self.send_singly(train.head);
                    } else {
                        self.desk.counters().send_errors.add(train.count as u64);
                    }
                    at += 1;
                }
            }
        }
        self.outbox.clear();
        for at in 0..self.batch.groups().len() {
            let train = self.batch.groups()[at];
            self.slots.release(&self.batch, train.head, train.count);
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

    /// Sends the outbox from `at` on: how many sends the kernel took, at least one.
    fn send_from(&mut self, at: usize) -> io::Result<usize> {
        let trains = &self.batch.groups()[at..];
        let sent = send_messages(&self.socket, &mut self.stuck, &mut self.outbox[at..])?;
        let counters = self.desk.counters();
        for train in &trains[..sent] {
            counters.replied.add(train.count as u64);
            if train.count > 1 {
                counters.trains.add(1);
                self.segmentation.accepted();
            }
        }
        Ok(sent)
    }

    /// Sends the replies of a refused train one by one.
    fn send_singly(&mut self, head: u16) {
        let mut member = Some(head);
        while let Some(slot) = member {
            let message = self.slots.message(&self.batch, slot, 1);
            let mut header = empty_message();
            // SAFETY: the message lives in its slot, and nothing else refers to it.
            header.msg_hdr = unsafe { *message };
            let sent = send_messages(&self.socket, &mut self.stuck, &mut [header]);
            let counters = self.desk.counters();
            match sent {
                Ok(_) => counters.replied.add(1),
                Err(_) => counters.send_errors.add(1),
            }
            member = self.batch.next_in_group(slot);
        }
    }
}

/// Sends `messages`, whose memory is pinned in the worker's slots: how many the kernel took, at least one.
fn send_messages(
    socket: &Socket,
    stuck: &mut bool,
    messages: &mut [libc::mmsghdr],
) -> io::Result<usize> {
    loop {
        let (start, count) = (messages.as_mut_ptr(), messages.len() as u32);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `count` headers, each pointing to memory pinned in its slot (slots invariant 2) until the call returns.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), start, count, flags as _) };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(sent.max(1));
        }
        let error = io::Error::last_os_error();
        match errno::errno(&error) {
            libc::EINTR => {}
            libc::EAGAIN if !*stuck => {
                // The send queue is full: a network device that is slower than we are.
                let mut fds = [poll_for(socket.as_raw_fd(), libc::POLLOUT)];
                poll(&mut fds, SEND_PATIENCE_MS)?;
                *stuck = fds[0].revents & libc::POLLOUT == 0;
            }
            _ => return Err(error),
        }
    }
}

/// Answers one datagram into `out`.
fn answer_received<A: Handler>(
    arrival: Option<Received<'_>>,
    turn: &mut BatchContext<'_, A>,
    out: &mut [u8],
) -> Option<PendingReply> {
    let Some(arrival) = arrival else {
        turn.counters.garbled.add(1);
        return None;
    };
    let (peer, source) = (arrival.peer, arrival.source);
    let len = turn.answer(arrival, out)?;
    Some(PendingReply::new(peer, source, len))
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

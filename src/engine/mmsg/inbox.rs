//! The memory that recvmmsg writes to.

use std::io;
use std::os::fd::RawFd;
use std::ptr;

use super::empty_message;
use crate::engine::control::{RECEIVED_BYTES, RecvControl};
use crate::engine::dispatch::{LONG_BYTES, LONG_BYTES_PER_BATCH, Received};
use crate::engine::memory::{self, BufferMemory, Mapping};
use crate::engine::peer::{NAME_BYTES, Peer};
use crate::engine::slots::empty_iovec;
use crate::protocol::{PADDING, REQUEST_BYTES_MAX};

/// Datagrams per call. More bring no gain.
pub(super) const PER_CALL: usize = 64;

/// Datagrams in the inbox: those of one call, and deferred ones.
const CAPACITY: usize = 2 * PER_CALL;

/// Most deferred datagrams: some room is left for others.
const DEFERRED_MAX: usize = CAPACITY - PER_CALL / 8;

/// Bytes of a datagram that the kernel may write: one more than a request may have, so that a
/// longer one is noticed.
const KERNEL_BYTES: usize = REQUEST_BYTES_MAX + 1;
const STRIDE: usize = memory::stride(KERNEL_BYTES + PADDING);

/// Received datagrams until they are answered. In this order: deferred ones, new ones, free places.
///
/// Invariant: every header points to a name, control data and a payload of its own, all of which
/// live and do not move as long as the inbox does; headers only change places. The kernel uses them
/// only within [`Inbox::receive`].
pub(super) struct Inbox {
    headers: Box<[libc::mmsghdr]>,
    /// By header: the number of its name, control data and payload.
    buffers: Box<[u8]>,
    names: Box<[NameBuffer]>,
    controls: Box<[ControlBuffer]>,
    /// The headers point to these; nothing else reads them.
    _iovecs: Box<[libc::iovec]>,
    data: Mapping,
    memory: BufferMemory,
    deferred: usize,
}

const _: () = assert!(CAPACITY <= u8::MAX as usize);

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct NameBuffer([u8; NAME_BYTES]);

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlBuffer([u8; RECEIVED_BYTES]);

impl Inbox {
    pub(super) fn new() -> io::Result<Self> {
        let data = Mapping::new(CAPACITY * STRIDE)?;
        let mut names: Box<[NameBuffer]> = [NameBuffer([0; NAME_BYTES]); CAPACITY].into();
        let mut controls: Box<[ControlBuffer]> =
            [ControlBuffer([0; RECEIVED_BYTES]); CAPACITY].into();
        let mut iovecs: Box<[libc::iovec]> = [empty_iovec(); CAPACITY].into();
        let mut headers: Box<[libc::mmsghdr]> = [empty_message(); CAPACITY].into();
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
            buffers: (0..CAPACITY as u8).collect(),
            names,
            controls,
            _iovecs: iovecs,
            data,
            memory: BufferMemory::new(CAPACITY),
            deferred: 0,
        })
    }

    /// Receives the datagrams that are queued, at most [`PER_CALL`], to the places after the
    /// deferred ones. Returns how many.
    pub(super) fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        let end = (self.deferred + PER_CALL).min(CAPACITY);
        let free = &mut self.headers[self.deferred..end];
        for header in &mut *free {
            // The kernel has overwritten these with the lengths that it used.
            header.msg_hdr.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_hdr.msg_controllen = RECEIVED_BYTES as _;
            header.msg_hdr.msg_flags = 0;
        }
        let (headers, count) = (free.as_mut_ptr(), free.len() as u32);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `count` headers, each pointing to live memory of the length that it states (the
        // inbox's invariant).
        let received =
            unsafe { libc::recvmmsg(socket, headers, count, flags as _, ptr::null_mut()) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// Whether recvmmsg is allowed: a call that receives nothing.
    pub(super) fn probe(&mut self, socket: RawFd) -> io::Result<()> {
        let headers = self.headers.as_mut_ptr();
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: no header is used.
        let result = unsafe { libc::recvmmsg(socket, headers, 0, flags as _, ptr::null_mut()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The number of deferred datagrams, which are the first.
    pub(super) fn deferred(&self) -> usize {
        self.deferred
    }

    /// How many of the deferred datagrams the next batch answers: [`LONG_BYTES_PER_BATCH`], and
    /// more if they take the room of others.
    pub(super) fn due(&self) -> usize {
        let mut bytes = 0;
        let within_budget = (0..self.deferred).take_while(|at| {
            let is_first = bytes < LONG_BYTES_PER_BATCH;
            bytes += self.len(*at);
            is_first
        });
        let crowded = self.deferred.saturating_sub(DEFERRED_MAX);
        within_budget.count().max(crowded)
    }

    /// Whether the datagram at place `at` is answered after shorter ones: it is long, or an earlier
    /// one of its peer waits.
    pub(super) fn must_defer(&self, at: usize) -> bool {
        self.len(at) > LONG_BYTES
            || (self.deferred > 0 && self.peer(at).is_some_and(|peer| self.is_deferred(&peer)))
    }

    fn is_deferred(&self, peer: &Peer) -> bool {
        (0..self.deferred).any(|at| self.peer(at).as_ref() == Some(peer))
    }

    /// Defers the datagram at place `at`. All between the deferred ones and this one are done.
    pub(super) fn defer(&mut self, at: usize) {
        self.headers.swap(self.deferred, at);
        self.buffers.swap(self.deferred, at);
        self.deferred += 1;
    }

    /// Frees the places of the first `count` deferred datagrams, which are done.
    pub(super) fn free_deferred(&mut self, count: usize) {
        self.headers[..self.deferred].rotate_left(count);
        self.buffers[..self.deferred].rotate_left(count);
        self.deferred -= count;
    }

    /// The length of the datagram at place `at`.
    pub(super) fn len(&self, at: usize) -> usize {
        self.headers[at].msg_len as usize
    }

    /// The sender of the datagram at place `at`; `None` if there is no address to reply to.
    fn peer(&self, at: usize) -> Option<Peer> {
        let name_len = (self.headers[at].msg_hdr.msg_namelen as usize).min(NAME_BYTES);
        let buffer = usize::from(self.buffers[at]);
        Peer::parse(&self.names[buffer].0[..name_len])
    }

    /// The datagram at place `at`; `None` if its header is malformed or it has no address to reply
    /// to.
    pub(super) fn received(&mut self, at: usize) -> Option<Received<'_>> {
        let peer = self.peer(at)?;
        let header = &self.headers[at];
        let buffer = usize::from(self.buffers[at]);
        #[allow(
            clippy::unnecessary_cast,
            reason = "its type differs between C libraries"
        )]
        let control_len = (header.msg_hdr.msg_controllen as usize).min(RECEIVED_BYTES);
        let control = RecvControl::parse(&self.controls[buffer].0[..control_len]);
        let len = (header.msg_len as usize).min(KERNEL_BYTES);
        let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let start = buffer * STRIDE;
        // SAFETY: the kernel uses the data only within `receive`.
        let bytes = unsafe { self.data.bytes_mut(start..start + STRIDE) };
        Some(Received {
            peer,
            control,
            truncated,
            buffer: bytes,
            len,
        })
    }

    /// Returns memory after the datagram at place `at` was answered.
    pub(super) fn answered(&mut self, at: usize) {
        let buffer = usize::from(self.buffers[at]);
        let range = buffer * STRIDE..(buffer + 1) * STRIDE;
        let used = self.headers[at].msg_len as usize;
        // SAFETY: the kernel uses the data only within `receive`.
        unsafe { self.memory.freed(&mut self.data, buffer, range, used) };
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    /// Receives datagrams of one byte each until `count` are there.
    fn fill(inbox: &mut Inbox, socket: &UdpSocket, bytes: &[u8]) {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for byte in bytes {
            sender
                .send_to(&[*byte], socket.local_addr().unwrap())
                .unwrap();
        }
        // Loopback delivers before `send_to` returns.
        assert_eq!(inbox.receive(socket.as_raw_fd()).unwrap(), bytes.len());
    }

    fn first_byte(inbox: &mut Inbox, at: usize) -> u8 {
        inbox.received(at).unwrap().buffer[0]
    }

    #[test]
    fn deferred_datagrams_keep_their_order_and_their_bytes() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut inbox = Inbox::new().unwrap();
        inbox.probe(socket.as_raw_fd()).unwrap();
        fill(&mut inbox, &socket, &[1, 2, 3, 4, 5]);
        inbox.defer(1);
        inbox.defer(3);
        inbox.defer(4);
        assert_eq!(inbox.deferred(), 3);
        fill(&mut inbox, &socket, &[6, 7]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|at| first_byte(&mut inbox, at)),
            [2, 4, 5, 6, 7]
        );
        inbox.defer(4);
        inbox.free_deferred(2);
        fill(&mut inbox, &socket, &[8]);
        assert_eq!([0, 1, 2].map(|at| first_byte(&mut inbox, at)), [5, 7, 8]);
        assert!(!inbox.must_defer(2));
        inbox.defer(2);
        assert!(inbox.must_defer(2));
    }

    #[test]
    fn the_inbox_takes_as_many_as_it_has_places() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut inbox = Inbox::new().unwrap();
        while inbox.deferred() < CAPACITY {
            fill(&mut inbox, &socket, &[1]);
            inbox.defer(inbox.deferred());
        }
        assert_eq!(inbox.due(), CAPACITY);
        fill(&mut inbox, &socket, &[]);
        inbox.free_deferred(CAPACITY - 1);
        fill(&mut inbox, &socket, &[9]);
        assert_eq!(first_byte(&mut inbox, 1), 9);
    }
}

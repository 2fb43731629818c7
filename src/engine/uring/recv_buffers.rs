//! The provided-buffer ring of the multishot receive (io_uring_register_buf_ring(3)).
//!
//! Each buffer holds what the kernel writes for one datagram, `struct io_uring_recvmsg_out`, the peer's name, control
//! data and payload, and behind that the parser's padding, which the kernel is not told of. Invariants:
//!
//! 1. A buffer is either the kernel's, or ours under one [`Lease`]; `ours` tells which. A lease ends by giving the buffer back. The
//!    kernel is trusted to complete a buffer only once for each time that it takes it.
//! 2. What was given back is the kernel's from [`RecvBuffers::publish`] on, which the worker calls before it re-arms.
//! 3. All memory is taken at start, does not move, and outlives every receive: the worker frees it only when the receive has
//!    ended (see the drop order in the engine's documentation).

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, RecvMsgOut};

use super::ring::Ring;
use crate::engine::control::{self, RecvControl};
use crate::engine::dispatch::Received;
use crate::engine::memory::{self, Mapping};
use crate::engine::peer::{NAME_BYTES, Peer};
use crate::engine::slots::empty_header;
use crate::protocol::{PADDING, REQUEST_BYTES_MAX};

/// `struct io_uring_recvmsg_out` (include/uapi/linux/io_uring.h): four 32-bit lengths and flags.
const HEADER_BYTES: usize = 16;
/// Where the payload starts.
const PAYLOAD_AT: usize = HEADER_BYTES + NAME_BYTES + control::RECEIVED_BYTES;
/// What the kernel may write: one byte of payload more than a request may have, to tell a longer one.
const KERNEL_BYTES: usize = PAYLOAD_AT + REQUEST_BYTES_MAX + 1;
const STRIDE: usize = memory::stride(KERNEL_BYTES + PADDING);

const _: () = assert!(size_of::<BufRingEntry>() == 16);

/// The receive buffers of one worker.
pub struct RecvBuffers {
    entries: Mapping,
    data: Mapping,
    /// Tells the kernel how each buffer is laid out; read at every (re-)arming.
    header: Box<libc::msghdr>,
    /// Whether a buffer is under a lease.
    ours: Box<[bool]>,
    /// Buffers given to the kernel since start, modulo 2^16.
    tail: u16,
}

impl RecvBuffers {
    /// The group the multishot receive takes its buffers from; the ring has no other.
    pub(super) const GROUP: u16 = 0;

    /// Takes memory for `count` buffers, a power of two, and gives all to the kernel.
    pub fn new(count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let mut header = Box::new(empty_header());
        header.msg_namelen = NAME_BYTES as libc::socklen_t;
        header.msg_controllen = control::RECEIVED_BYTES as _;
        let mut buffers = Self {
            entries: Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?,
            data: Mapping::new(usize::from(count) * STRIDE)?,
            header,
            ours: vec![true; usize::from(count)].into(),
            tail: 0,
        };
        for id in 0..count {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Makes the buffers known to `ring`.
    pub(super) fn register(&self, ring: &Ring) -> io::Result<()> {
        let address = self.entries.at(0) as u64;
        let count = self.ours.len() as u16;
        // SAFETY: the entries are page-aligned, `count` of them are mapped, and they outlive the ring (invariant 3).
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, count, Self::GROUP, 0)
        }
    }

    /// What the receive's submission points to: only the lengths in it matter.
    pub(super) fn header(&self) -> *const libc::msghdr {
        &raw const *self.header
    }

    /// The datagram in buffer `id`, of which the kernel wrote `written` bytes; `None` if the kernel does not have that buffer.
    pub fn lease(&mut self, id: u16, written: usize) -> Option<Lease<'_>> {
        let ours = self.ours.get_mut(usize::from(id))?;
        if *ours {
            return None;
        }
        *ours = true;
        Some(Lease {
            buffers: self,
            id,
            written: written.min(KERNEL_BYTES),
        })
    }

    /// Lets the kernel see the buffers that were given back.
    pub fn publish(&mut self) {
        // SAFETY: the first entry is mapped and zeroed at least.
        let tail = unsafe { BufRingEntry::tail(self.entry(0)) };
        // SAFETY: the tail is an aligned 16-bit field inside the mapping, which lives as long as `self`; the kernel only
        // reads it, and we write it only here.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The kernel must not see the tail before the entries.
        tail.store(self.tail, Ordering::Release);
    }

    fn give_back(&mut self, id: u16) {
        let at = usize::from(id);
        let index = usize::from(self.tail) & (self.ours.len() - 1);
        let address = self.data.at(at * STRIDE) as u64;
        // SAFETY: the entry is mapped and aligned, and not published, so the kernel does not read it yet: there are as many
        // entries as buffers, so the one reused here is of a buffer the kernel has taken. The tail's bytes in entry 0 are
        // not touched by the setters.
        let entry = unsafe { &mut *self.entry(index) };
        entry.set_addr(address);
        entry.set_len(KERNEL_BYTES as u32);
        entry.set_bid(id);
        self.ours[at] = false;
        self.tail = self.tail.wrapping_add(1);
    }

    fn entry(&self, index: usize) -> *mut BufRingEntry {
        self.entries.at(index * size_of::<BufRingEntry>()).cast()
    }

    /// Gives all memory up without freeing it, for when the kernel may still be using it.
    pub(super) fn leak(&mut self) {
        self.entries.leak();
        self.data.leak();
    }
}

/// What the kernel sees of a published buffer.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, PartialEq)]
pub struct Published {
    /// The buffer's number.
    pub id: u16,
    /// Bytes from the first buffer to this one.
    pub offset: usize,
    /// Bytes that the kernel may write.
    pub len: usize,
}

/// The kernel's part, for buffers that were never registered with a ring.
#[cfg(any(test, feature = "testing"))]
impl RecvBuffers {
    /// Bytes from one buffer to the next.
    pub const STRIDE: usize = STRIDE;

    /// The entry behind `head` others, if it is published.
    pub fn published(&self, head: u16) -> Option<Published> {
        // SAFETY: the first entry is mapped and zeroed at least.
        let tail = unsafe { BufRingEntry::tail(self.entry(0)) };
        // SAFETY: the tail is an aligned 16-bit field inside the mapping; no kernel knows it, and `&self` keeps writers out.
        let tail = unsafe { *tail };
        if head == tail {
            return None;
        }
        let index = usize::from(head) & (self.ours.len() - 1);
        // SAFETY: the entry is mapped and aligned; no kernel knows it, and `&self` keeps writers out.
        let entry = unsafe { &*self.entry(index) };
        Some(Published {
            id: entry.bid(),
            offset: entry.addr() as usize - self.data.at(0) as usize,
            len: entry.len() as usize,
        })
    }

    /// Writes to the start of buffer `id`, as the kernel would.
    pub fn write(&mut self, id: u16, bytes: &[u8]) {
        let start = usize::from(id) * STRIDE;
        // SAFETY: no kernel knows these buffers, and `&mut self` keeps leases out.
        let buffer = unsafe { self.data.bytes_mut(start..start + STRIDE) };
        buffer[..bytes.len()].copy_from_slice(bytes);
    }
}

/// A received datagram; dropping it gives its buffer back.
pub struct Lease<'a> {
    buffers: &'a mut RecvBuffers,
    id: u16,
    written: usize,
}

impl Lease<'_> {
    /// What the kernel wrote; `None` if it makes no sense or cannot be answered.
    pub fn received(&mut self) -> Option<Received<'_>> {
        let start = usize::from(self.id) * STRIDE;
        // SAFETY: the buffer is ours while the lease lives (invariant 1, kept by `ours`).
        let buffer = unsafe { self.buffers.data.bytes_mut(start..start + STRIDE) };
        let out = RecvMsgOut::parse(&buffer[..self.written], &self.buffers.header).ok()?;
        let peer = Peer::parse(out.name_data())?;
        let RecvControl { source, overruns } = RecvControl::parse(out.control_data());
        let truncated = out.is_payload_truncated();
        let len = out.payload_data().len();
        Some(Received {
            peer,
            source,
            truncated,
            overruns,
            buffer: &mut buffer[PAYLOAD_AT..],
            len,
        })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.buffers.give_back(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes what the kernel would write into buffer `id`.
    fn write(buffers: &mut RecvBuffers, id: u16, fields: [u32; 4], name: &[u8]) {
        let header = fields.map(u32::to_ne_bytes).concat();
        buffers.write(id, &[&header, name].concat());
    }

    #[test]
    fn a_datagram_is_found_behind_the_header() {
        let mut buffers = RecvBuffers::new(2).unwrap();
        let peer = Peer::from_socket_addr("127.0.0.1:5".parse().unwrap());
        write(&mut buffers, 1, [16, 0, 7, 0], peer.name());
        let mut lease = buffers.lease(1, PAYLOAD_AT + 7).unwrap();
        let arrival = lease.received().unwrap();
        assert_eq!((arrival.peer, arrival.len), (peer, 7));
        assert!(!arrival.truncated && arrival.buffer.len() >= REQUEST_BYTES_MAX + PADDING);
    }

    #[test]
    fn a_short_or_garbled_header_is_no_datagram() {
        let mut buffers = RecvBuffers::new(2).unwrap();
        let peer = Peer::from_socket_addr("127.0.0.1:5".parse().unwrap());
        write(&mut buffers, 0, [16, 0, 7, 0], peer.name());
        for written in 0..PAYLOAD_AT {
            assert!(buffers.lease(0, written).unwrap().received().is_none());
        }
        write(&mut buffers, 0, [u32::MAX; 4], peer.name());
        let mut lease = buffers.lease(0, KERNEL_BYTES).unwrap();
        let arrival = lease.received().unwrap();
        assert!(arrival.truncated && arrival.len == REQUEST_BYTES_MAX + 1);
        drop(lease);
        write(&mut buffers, 0, [0; 4], &[]);
        assert!(buffers.lease(0, KERNEL_BYTES).unwrap().received().is_none());
        assert!(buffers.lease(0, usize::MAX).unwrap().received().is_none());
        assert!(buffers.lease(2, PAYLOAD_AT).is_none());
    }

    #[test]
    fn every_buffer_comes_back_once_and_in_order() {
        let mut buffers = RecvBuffers::new(4).unwrap();
        let mut kernel: std::collections::VecDeque<u16> = (0..4).collect();
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..70_000 {
            let at = random.usize(0..kernel.len());
            let id = kernel.remove(at).unwrap();
            // The kernel hands out from the front; here any order will do.
            drop(buffers.lease(id, 0).unwrap());
            kernel.push_back(id);
            let before = buffers.tail.wrapping_sub(1);
            assert_eq!(buffers.published(before), None);
            buffers.publish();
            let entry = Published {
                id,
                offset: usize::from(id) * STRIDE,
                len: KERNEL_BYTES,
            };
            assert_eq!(buffers.published(before), Some(entry));
        }
        assert!(buffers.ours.iter().all(|ours| !ours));
    }
}

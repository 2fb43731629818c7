//! The provided-buffer ring of the multishot receive (io_uring_register_buf_ring(3)).
//!
//! Each buffer holds what the kernel writes for one datagram (`struct io_uring_recvmsg_out`, the
//! peer's name, control data and payload) and after that the parser's padding, of which the kernel
//! does not know. Invariants:
//!
//! 1. A buffer belongs to the kernel, or to us under one [`Lease`], which may be [`Suspended`];
//!    `leased` says which. Dropping the lease returns the buffer. The kernel is trusted to complete
//!    a buffer only once each time that it takes it.
//! 2. A returned buffer is the kernel's from [`RecvBuffers::publish`] on, which the worker calls
//!    before it re-arms the receive.
//! 3. All memory is allocated at start, does not move, and outlives every receive: the worker frees
//!    it only when the receive has ended (see the drop order in the engine's documentation).

use std::io;
use std::mem;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, RecvMsgOut};

use super::ring::Ring;
use crate::engine::control::{self, RecvControl};
use crate::engine::dispatch::Received;
use crate::engine::memory::{self, BufferMemory, Mapping};
use crate::engine::peer::{NAME_BYTES, Peer};
use crate::engine::slots::empty_header;
use crate::protocol::{PADDING, REQUEST_BYTES_MAX};

/// `struct io_uring_recvmsg_out` (include/uapi/linux/io_uring.h): four 32-bit lengths and flags.
const HEADER_BYTES: usize = 16;
/// Where the payload starts.
const PAYLOAD_AT: usize = HEADER_BYTES + NAME_BYTES + control::RECEIVED_BYTES;
/// Bytes that the kernel may write: one byte of payload more than a request may have, so that a
/// longer one is noticed.
const KERNEL_BYTES: usize = PAYLOAD_AT + REQUEST_BYTES_MAX + 1;
const STRIDE: usize = memory::stride(KERNEL_BYTES + PADDING);

const _: () = assert!(size_of::<BufRingEntry>() == 16);

/// The receive buffers of one worker.
pub struct RecvBuffers {
    entries: Mapping,
    data: Mapping,
    /// Describes the layout of each buffer; the kernel reads it each time the receive is armed.
    header: Box<libc::msghdr>,
    /// Whether a buffer is under a lease.
    leased: Box<[bool]>,
    memory: BufferMemory,
    /// Buffers returned to the kernel since start, modulo 2^16.
    tail: u16,
}

impl RecvBuffers {
    /// The buffer group of the multishot receive, the only one of the ring.
    pub(super) const GROUP: u16 = 0;

    /// Allocates `count` buffers, a power of two, and returns all of them to the kernel.
    pub fn new(count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let mut header = Box::new(empty_header());
        header.msg_namelen = NAME_BYTES as libc::socklen_t;
        header.msg_controllen = control::RECEIVED_BYTES as _;
        let mut buffers = Self {
            entries: Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?,
            data: Mapping::new(usize::from(count) * STRIDE)?,
            header,
            leased: vec![true; usize::from(count)].into(),
            memory: BufferMemory::new(usize::from(count)),
            tail: 0,
        };
        for id in 0..count {
            buffers.return_to_kernel(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Registers the buffers with `ring`.
    pub(super) fn register(&self, ring: &Ring) -> io::Result<()> {
        let address = self.entries.at(0) as u64;
        let count = self.leased.len() as u16;
        // SAFETY: the entries are page-aligned, `count` of them are mapped, and they outlive the
        // ring (invariant 3).
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, count, Self::GROUP, 0)
        }
    }

    /// The header that the receive's submission points to. Only its lengths matter.
    pub(super) fn header(&self) -> *const libc::msghdr {
        &raw const *self.header
    }

    /// Takes buffer `id`, to which the kernel wrote `written` bytes; `None` if the kernel does not
    /// own that buffer.
    pub fn lease(&mut self, id: u16, written: usize) -> Option<Lease<'_>> {
        let leased = self.leased.get_mut(usize::from(id))?;
        if *leased {
            return None;
        }
        *leased = true;
        Some(Lease {
            buffers: self,
            id,
            written: written.min(KERNEL_BYTES),
        })
    }

    /// Continues a suspended lease.
    pub(super) fn resume(&mut self, suspended: Suspended) -> Lease<'_> {
        let Suspended { id, written } = suspended;
        assert!(self.leased[usize::from(id)], "recv_buffers invariant 1");
        Lease {
            buffers: self,
            id,
            written,
        }
    }

    /// Publishes the returned buffers to the kernel.
    pub fn publish(&mut self) {
        // SAFETY: the first entry is mapped, and initialized with zeros at least.
        let tail = unsafe { BufRingEntry::tail(self.entry(0)) };
        // SAFETY: the tail is an aligned 16-bit field inside the mapping, which lives as long as
        // `self`. The kernel only reads it, and only this function writes it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the kernel must see the entries before the tail.
        tail.store(self.tail, Ordering::Release);
    }

    fn return_to_kernel(&mut self, id: u16) {
        let at = usize::from(id);
        let index = usize::from(self.tail) & (self.leased.len() - 1);
        let address = self.data.at(at * STRIDE) as u64;
        // SAFETY: the entry is mapped and aligned. The kernel does not read it yet, because it is
        // not published: there are as many entries as buffers, so the entry reused here belonged to
        // a buffer that the kernel has taken. The setters do not touch the tail's bytes in entry 0.
        let entry = unsafe { &mut *self.entry(index) };
        entry.set_addr(address);
        entry.set_len(KERNEL_BYTES as u32);
        entry.set_bid(id);
        self.leased[at] = false;
        self.tail = self.tail.wrapping_add(1);
    }

    fn entry(&self, index: usize) -> *mut BufRingEntry {
        self.entries.at(index * size_of::<BufRingEntry>()).cast()
    }

    /// Leaks all memory, because the kernel may still use it.
    pub(super) fn leak(&mut self) {
        self.entries.leak();
        self.data.leak();
    }
}

/// A published buffer as the kernel sees it.
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

    /// The entry at index `head` (modulo 2^16), if it is published.
    pub fn published(&self, head: u16) -> Option<Published> {
        // SAFETY: the first entry is mapped, and initialized with zeros at least.
        let tail = unsafe { BufRingEntry::tail(self.entry(0)) };
        // SAFETY: the tail is an aligned 16-bit field inside the mapping. No kernel knows it, and
        // `&self` excludes writers.
        let tail = unsafe { *tail };
        if head == tail {
            return None;
        }
        let index = usize::from(head) & (self.leased.len() - 1);
        // SAFETY: the entry is mapped and aligned. No kernel knows it, and `&self` excludes
        // writers.
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
        // SAFETY: no kernel knows these buffers, and `&mut self` excludes leases.
        let buffer = unsafe { self.data.bytes_mut(start..start + STRIDE) };
        buffer[..bytes.len()].copy_from_slice(bytes);
    }
}

/// A received datagram. Dropping it returns its buffer.
pub struct Lease<'a> {
    buffers: &'a mut RecvBuffers,
    id: u16,
    written: usize,
}

impl Lease<'_> {
    /// What the kernel wrote; `None` if it is malformed or has no address to reply to.
    pub fn received(&mut self) -> Option<Received<'_>> {
        let start = usize::from(self.id) * STRIDE;
        // SAFETY: the buffer is not the kernel's while the lease lives (invariant 1, kept by
        // `leased`).
        let buffer = unsafe { self.buffers.data.bytes_mut(start..start + STRIDE) };
        let out = RecvMsgOut::parse(&buffer[..self.written], &self.buffers.header).ok()?;
        let peer = Peer::parse(out.name_data())?;
        let control = RecvControl::parse(out.control_data());
        let truncated = out.is_payload_truncated();
        let len = out.payload_data().len();
        Some(Received {
            peer,
            control,
            truncated,
            buffer: &mut buffer[PAYLOAD_AT..],
            len,
        })
    }
}

impl Lease<'_> {
    /// Bytes that the kernel wrote, its own header included.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Keeps the buffer from the kernel until [`RecvBuffers::resume`].
    pub(super) fn suspend(self) -> Suspended {
        let suspended = Suspended {
            id: self.id,
            written: self.written,
        };
        mem::forget(self);
        suspended
    }
}

/// A datagram that stays in its buffer, to be answered later.
#[derive(Debug)]
pub(super) struct Suspended {
    id: u16,
    written: usize,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let at = usize::from(self.id);
        let range = at * STRIDE..(at + 1) * STRIDE;
        let buffers = &mut *self.buffers;
        let (memory, data) = (&mut buffers.memory, &mut buffers.data);
        // SAFETY: the buffer is not the kernel's while the lease lives (invariant 1, kept by
        // `leased`).
        unsafe { memory.freed(data, at, range, self.written) };
        buffers.return_to_kernel(self.id);
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
    fn a_datagram_is_found_after_the_header() {
        let mut buffers = RecvBuffers::new(2).unwrap();
        let peer = Peer::from_socket_addr("127.0.0.1:5".parse().unwrap());
        write(&mut buffers, 1, [16, 0, 7, 0], peer.name());
        let mut lease = buffers.lease(1, PAYLOAD_AT + 7).unwrap();
        let received = lease.received().unwrap();
        assert_eq!((received.peer, received.len), (peer, 7));
        assert!(!received.truncated && received.buffer.len() >= REQUEST_BYTES_MAX + PADDING);
    }

    #[test]
    fn a_short_or_malformed_header_is_rejected() {
        let mut buffers = RecvBuffers::new(2).unwrap();
        let peer = Peer::from_socket_addr("127.0.0.1:5".parse().unwrap());
        write(&mut buffers, 0, [16, 0, 7, 0], peer.name());
        for written in 0..PAYLOAD_AT {
            assert!(buffers.lease(0, written).unwrap().received().is_none());
        }
        write(&mut buffers, 0, [u32::MAX; 4], peer.name());
        let mut lease = buffers.lease(0, KERNEL_BYTES).unwrap();
        let received = lease.received().unwrap();
        assert!(received.truncated && received.len == REQUEST_BYTES_MAX + 1);
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
            // The kernel takes buffers in order; here any order will do.
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
        assert!(buffers.leased.iter().all(|leased| !leased));
    }
}

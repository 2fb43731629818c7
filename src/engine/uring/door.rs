//! The receive buffers' ring, from the kernel's side.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};

use super::RecvBuffers;
use super::recv_buffers::Published;
use crate::engine::door::source_ip;

/// Receive buffers that no ring knows: the kernel's part is played by whoever holds this.
pub struct ReceiveRing {
    buffers: RecvBuffers,
    /// Entries taken since start, modulo 2^16.
    head: u16,
}

/// A buffer, as its entry tells the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The buffer's number.
    pub id: u16,
    /// Where it is, in bytes behind the first one.
    pub offset: usize,
    /// How much the kernel may write to it.
    pub len: usize,
}

/// A datagram that was found in a buffer.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Its sender.
    pub peer: SocketAddr,
    /// The address it was sent to, if that tells where to answer from.
    pub source: Option<IpAddr>,
    /// The socket's drop counter.
    pub overruns: Option<u32>,
    /// The kernel cut it.
    pub truncated: bool,
    /// The datagram in its first `len` bytes, and what may be read behind it.
    pub buffer: &'a mut [u8],
    /// Its length.
    pub len: usize,
}

impl ReceiveRing {
    /// The distance from one buffer to the next, in bytes.
    pub const STRIDE: usize = RecvBuffers::STRIDE;

    /// Takes memory for `count` buffers, a power of two, and publishes all.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub fn new(count: u16) -> io::Result<Self> {
        let buffers = RecvBuffers::new(count)?;
        Ok(Self { buffers, head: 0 })
    }

    /// The next buffer that was published, in the ring's order.
    pub fn take(&mut self) -> Option<Entry> {
        let Published { id, offset, len } = self.buffers.published(self.head)?;
        self.head = self.head.wrapping_add(1);
        Some(Entry { id, offset, len })
    }

    /// Writes `bytes` to the start of buffer `id`, which must have been taken.
    pub fn write(&mut self, id: u16, bytes: &[u8]) {
        self.buffers.write(id, bytes);
    }

    /// Completes buffer `id`, of which `written` bytes were written, and looks at what was found. `None` if the kernel does not have
    /// that buffer, else what `look` gives. The buffer is given back then.
    pub fn complete<R>(
        &mut self,
        id: u16,
        written: usize,
        look: impl FnOnce(Option<Seen<'_>>) -> R,
    ) -> Option<R> {
        let mut lease = self.buffers.lease(id, written)?;
        let seen = lease.received().map(|arrival| Seen {
            peer: arrival.peer.socket_addr(),
            source: source_ip(arrival.source),
            overruns: arrival.overruns,
            truncated: arrival.truncated,
            buffer: arrival.buffer,
            len: arrival.len,
        });
        Some(look(seen))
    }

    /// Completes buffer `id`, which is ours from then on and never given back. `None` if the kernel does not have that buffer.
    pub fn keep(&mut self, id: u16) -> Option<()> {
        self.buffers.lease(id, 0).map(mem::forget)
    }

    /// Publishes what was given back.
    pub fn publish(&mut self) {
        self.buffers.publish();
    }
}

//! The data plane: sockets, rings and batches. The only module with unsafe code.
//!
//! [`bind`] makes one socket per worker, [`start`] one thread per worker. Each thread owns its
//! socket, its ring or its `recvmmsg` arrays, all its buffers, and its [`Handler`], which is
//! [`Responder`](crate::responder::Responder) in the daemon; nothing else runs on it. A worker
//! takes a batch of datagrams, has each one answered, and sends the replies, with one system call
//! for several replies to one peer. It reads the published snapshot and the clock once per batch.
//!
//! What this module does not do: it knows nothing of the protocol except the sizes of datagrams; it
//! does not log (it counts, and the daemon logs); and it never frees a snapshot. **Whoever
//! publishes a snapshot must keep the one it replaces until it has called [`Workers::wake`] and
//! every worker has dropped its reference**, so that a worker never frees the memory of a snapshot.
//!
//! # Files, in reading order
//!
//! * `socket`: binding, and why a port is never shared with another daemon.
//! * `handler`, `dispatch`: what happens to a datagram, the same for both engines.
//! * `batch`: replies grouped for GSO. `slots`: the memory of replies until they are sent.
//! * `send_queue`: which replies wait for room in the send buffer, and which are dropped.
//! * `uring`: the io_uring engine, with a list of pitfalls. `mmsg`: the fallback engine.
//! * `workers`: starting, watching and stopping the threads.
//! * `errno`: which errors end a worker. `control`, `peer`: the kernel's data structures.
//! * `counters`, `event`, `memory`.
//!
//! # Drop order
//!
//! The kernel writes to receive buffers and reads send slots until the operation that uses them has
//! completed, even after the ring is closed: closing only starts the teardown. A uring worker that
//! ends, also by a panic, therefore cancels all operations first and waits for their completions,
//! for a bounded time. If one does not come, it leaks the memory. Then it unregisters the fixed
//! file, which frees the port at once, closes the ring, and unmaps buffers and slots. The fields of
//! `uring::Worker` are declared in this order.
//!
//! # Unsafe inventory
//!
//! Each entry: the file, what the unsafe code does, the invariant, and who keeps it.
//!
//! * `memory`: trims the allocator's heap, and limits the number of heaps. No invariant.
//! * `memory`: maps, slices and unmaps anonymous memory. Ranges are checked against the mapping;
//!   the caller of `bytes_mut` knows that the kernel is not using the range. `discard` and
//!   `BufferMemory::freed` return pages to the system: their callers know the same.
//! * `slots`: the bytes of a slot as a slice. Only while the slot is being filled: `states`,
//!   asserted.
//! * `slots`: a zeroed `msghdr`. Zero is a valid value of each of its fields.
//! * `uring::recv_buffers`: the bytes of a buffer as a slice. Only under a lease: `leased`.
//! * `uring::recv_buffers`: entries and tail of the buffer ring. Entries are written only before
//!   they are published, and the ring's memory outlives the ring: the drop order above.
//! * `uring`: queues receive, send and poll operations. What they point to is pinned until the
//!   kernel is done with it: `slots` invariant 2, `recv_buffers` invariant 3, and the drop order
//!   above.
//! * `mmsg`, `mmsg::inbox`: recvmmsg, sendmmsg and poll; the bytes of a datagram as a slice; copies
//!   of the slots' messages. The kernel uses nothing after the call has returned.
//! * `passed`: takes ownership of the service manager's descriptors. They were opened for this
//!   process, and `take_passed` takes them once.
//! * `socket`, `event`: setsockopt, getsockopt and eventfd. Live integers; a descriptor with no
//!   other owner.
//! * `testing`, and `recv_buffers` for tests: plays the kernel's part. No kernel knows this memory;
//!   what is read of a send is pinned: `slots` invariant 2, checked against `states`.

mod batch;
mod control;
mod counters;
mod dispatch;
mod errno;
mod event;
#[cfg(test)]
mod fixtures;
mod handler;
mod memory;
mod mmsg;
#[cfg(feature = "daemon")]
mod passed;
mod peer;
mod send_queue;
mod signal;
mod slots;
mod socket;
#[cfg(feature = "testing")]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod uring;
mod workers;

pub use counters::{BATCH_SIZES, Counters, SERVICE_TIMES, Totals};
pub use handler::Handler;
pub use memory::{release_freed_memory, use_one_heap};
#[cfg(feature = "daemon")]
pub(crate) use passed::take_passed;
pub use socket::{BufferSize, BufferSizes, Sockets, bind};
pub use workers::{EngineKind, StartError, Workers, start, start_confined};

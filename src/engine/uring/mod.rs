//! The io_uring engine: one ring, one socket, one multishot receive per worker.
//!
//! One iteration of the loop processes all completions, answers what was received, queues the
//! replies, returns the receive buffers, re-arms what has ended, and enters the kernel once: to
//! send, and to wait for the next batch.
//!
//! A CQE for every send would end that wait at once. So a send posts a CQE only if it fails
//! (`CQE_SKIP_SUCCESS`), and must not block (`MSG_DONTWAIT`). The kernel issues such sends while it
//! takes the submission queue, copies the replies (udp(7) has no zero-copy unless asked for) and
//! cannot defer them (`REQ_F_NOWAIT`: `io_queue_sqe` in io_uring.c, `io_sendmsg_prep` in net.c).
//! When the kernel has taken the queue, every send that has not failed is done. Sends for which the
//! send buffer has no room are not queued: see [`send_queue`](super::send_queue).
//!
//! Pitfalls, and where each is handled:
//!
//! * The receive ends (an empty datagram, no buffers left, an ICMP error): a completion without
//!   `IORING_CQE_F_MORE` leads to re-arming, whatever its result, after the buffers are returned
//!   ([`Worker::on_receive`], [`Worker::rearm`]).
//! * An error in place of a datagram: [`errno`].
//! * A datagram longer than a request: counted and dropped by
//!   [`BatchContext::answer`](crate::engine::dispatch::BatchContext::answer).
//! * A malformed header: [`Lease::received`](recv_buffers::Lease::received).
//! * No free send slot: [`Worker::answer`] leaves the datagrams in their buffers until a send
//!   completes.
//! * A full submission queue: impossible with the sizes below; [`Ring::push`] submits first.
//! * An overflowing completion queue: impossible with the sizes below; the kernel keeps what does
//!   not fit until the next enter.
//! * A GSO send that the kernel refuses: [`Worker::on_send`] sends its replies one by one.
//! * Operations in flight at the end: [`Worker`]'s `Drop`.

mod arrivals;
pub(super) mod recv_buffers;
mod ring;
mod send;
mod teardown;

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, Fixed};
use io_uring::{cqueue, opcode};
use socket2::Socket;

use super::batch::{Batch, GsoState, PendingReply};
use super::dispatch::{BATCH_BYTES, Dispatcher};
use super::errno::{self, ErrorBackoff};
use super::handler::Handler;
use super::send_queue::{RETRY_INTERVAL, SendQueue};
use super::signal::Signal;
use super::slots::Slots;
use arrivals::Arrivals;
use recv_buffers::RecvBuffers;
use ring::{Ring, UserData};

/// How many buffers and slots a worker has.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    buffers: u16,
    slots: u16,
}

/// A batch is at most as large as the number of buffers; the rest of a burst waits in the socket's
/// receive buffer.
const SIZES: Sizes = Sizes {
    buffers: 256,
    slots: 256,
};

/// Operations in flight other than sends: the receive and the poll.
const OTHER_OPERATIONS: u16 = 2;
const ENTRIES: u32 = 512;
const COMPLETIONS: u32 = 1_024;

/// The socket, as the ring's fixed file.
const SOCKET: Fixed = Fixed(0);

const _: () = assert!(SIZES.buffers.is_power_of_two());
// A batch finds slots for all its replies unless earlier sends still wait.
const _: () = assert!(SIZES.slots >= SIZES.buffers);
// Each slot is in at most one queued send.
const _: () = assert!(ENTRIES >= SIZES.slots as u32 + OTHER_OPERATIONS as u32);
// Each buffer, each send and each other operation has at most one completion; the receive has one
// more, its last.
const _: () =
    assert!(COMPLETIONS > SIZES.buffers as u32 + SIZES.slots as u32 + OTHER_OPERATIONS as u32);

/// One worker.
///
/// Fields are dropped in this order: the ring before the memory that its operations use.
pub(super) struct Worker<A> {
    ring: Ring,
    buffers: RecvBuffers,
    slots: Slots,
    batch: Batch,
    send_queue: SendQueue,
    /// Sends that need not wait any longer; empty between calls.
    ready: Vec<(u16, usize)>,
    gso: GsoState,
    dispatcher: Dispatcher<A>,
    signal: Arc<Signal>,
    /// The ring uses it as its fixed file.
    socket: Arc<Socket>,
    completions: Vec<cqueue::Entry>,
    arrivals: Arrivals,
    /// The head slots of the sends queued since the submission queue was last empty.
    unconfirmed: Vec<u16>,
    /// Whether the multishot receive is armed.
    receiving: bool,
    /// Whether the poll on the event is armed.
    polling: bool,
    backoff: ErrorBackoff,
    /// An error after which receiving is impossible.
    fatal: Option<io::Error>,
}

impl<A: Handler> Worker<A> {
    /// Allocates everything and arms the receive. Must be called on the thread that runs the worker
    /// (`IORING_SETUP_SINGLE_ISSUER`).
    ///
    /// # Errors
    ///
    /// What the kernel refused, why, and the remedy.
    pub(super) fn new(
        socket: Arc<Socket>,
        gso: bool,
        dispatcher: Dispatcher<A>,
        signal: Arc<Signal>,
    ) -> Result<Self, String> {
        Self::with_sizes(SIZES, socket, gso, dispatcher, signal)
    }

    fn with_sizes(
        sizes: Sizes,
        socket: Arc<Socket>,
        gso: bool,
        dispatcher: Dispatcher<A>,
        signal: Arc<Signal>,
    ) -> Result<Self, String> {
        let ring = Ring::new(ENTRIES, COMPLETIONS).map_err(|e| refused("io_uring_setup", &e))?;
        ring.register_file(socket.as_raw_fd())
            .map_err(|e| refused("registering the socket", &e))?;
        let buffers = RecvBuffers::new(sizes.buffers).map_err(|e| refused("mmap", &e))?;
        buffers
            .register(&ring)
            .map_err(|e| refused("registering the receive buffers", &e))?;
        let (slot_count, buffer_count) = (usize::from(sizes.slots), usize::from(sizes.buffers));
        let send_buffer = socket
            .send_buffer_size()
            .map_err(|e| refused("getsockopt", &e))?;
        let mut worker = Self {
            ring,
            buffers,
            slots: Slots::new(slot_count).map_err(|e| refused("mmap", &e))?,
            batch: Batch::new(slot_count),
            send_queue: SendQueue::new(send_buffer, slot_count),
            ready: Vec::with_capacity(slot_count),
            gso: GsoState::new(gso),
            dispatcher,
            signal,
            socket,
            completions: Vec::with_capacity(COMPLETIONS as usize),
            arrivals: Arrivals::new(buffer_count),
            unconfirmed: Vec::with_capacity(slot_count),
            receiving: false,
            polling: false,
            backoff: ErrorBackoff::default(),
            fatal: None,
        };
        worker
            .rearm()
            .and_then(|()| worker.ring.submit())
            .map_err(|e| refused("io_uring_enter", &e))?;
        worker
            .process_completions()
            .map_err(|e| refused("io_uring_enter", &e))?;
        // A kernel without multishot receive fails it at once.
        match worker.fatal.take() {
            Some(error) => Err(refused("multishot recvmsg", &error)),
            None => Ok(worker),
        }
    }

    /// Serves until the signal says to stop.
    ///
    /// # Errors
    ///
    /// The ring or the socket itself failed; see [`errno`].
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.signal.is_stopping() {
            self.retry_sends()?;
            self.answer()?;
            self.rearm()?;
            self.enter()?;
            self.process_completions()?;
            if let Some(error) = self.fatal.take() {
                return Err(error);
            }
        }
        self.finish()
    }

    /// Submits what is queued and waits for something to do.
    fn enter(&mut self) -> io::Result<()> {
        // Submitting the sends frees their slots.
        let has_slots = self.slots.free_count() > 0 || !self.unconfirmed.is_empty();
        let entered = if has_slots && !self.arrivals.is_empty() {
            self.ring.submit_and_wait_for(Duration::ZERO)
        } else if !self.send_queue.is_empty() {
            self.ring.submit_and_wait_for(RETRY_INTERVAL)
        } else {
            self.ring.submit_and_wait(1)
        };
        match entered {
            Ok(()) => Ok(()),
            Err(error) => match errno::errno(&error) {
                libc::EINTR => Ok(()),
                // The completion queue is full, or the kernel is out of memory for a moment.
                libc::EBUSY | libc::EAGAIN | libc::ENOMEM => {
                    self.backoff.failed();
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Processes all completions: sends free their slots at once, datagrams are queued.
    fn process_completions(&mut self) -> io::Result<()> {
        let mut completions = mem::take(&mut self.completions);
        self.ring.drain(&mut completions);
        for completion in completions.drain(..) {
            match UserData::decode(completion.user_data()) {
                Some(UserData::Receive) => self.on_receive(&completion),
                Some(UserData::Send(head)) => self.on_send(head, completion.result())?,
                Some(UserData::Wake) => self.on_wake(),
                None => self.dispatcher.counters().malformed.add(1),
            }
        }
        self.completions = completions;
        self.release_unconfirmed();
        Ok(())
    }

    fn on_receive(&mut self, completion: &cqueue::Entry) {
        let flags = completion.flags();
        if !cqueue::more(flags) {
            self.receiving = false;
        }
        let result = completion.result();
        if result < 0 && errno::ends_worker(-result) {
            self.fatal = Some(io::Error::from_raw_os_error(-result));
        }
        self.arrivals.push(completion);
    }

    fn on_wake(&mut self) {
        self.polling = false;
        self.signal.event.clear();
        self.dispatcher.counters().wakes.add(1);
    }

    /// Answers received datagrams while there are free slots, and queues the replies.
    fn answer(&mut self) -> io::Result<()> {
        if self.arrivals.is_empty() {
            // This may be a wake-up because a new snapshot was published.
            self.dispatcher.refresh();
            return Ok(());
        }
        let mut context = self.dispatcher.begin_batch();
        let grouped = self.gso.next_batch();
        self.batch.clear();
        self.arrivals.begin_batch();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(slot) = self.slots.take()
        {
            let (buffers, counters) = (&mut self.buffers, context.counters);
            let Some(datagram) = self.arrivals.next(buffers, &mut self.backoff, counters) else {
                self.slots.discard(slot);
                break;
            };
            let mut lease = self.buffers.resume(datagram);
            let Some(received) = lease.received() else {
                counters.malformed.add(1);
                self.slots.discard(slot);
                continue;
            };
            let (peer, local_addr) = (received.peer, received.control.local_addr);
            bytes += received.len;
            let Some(reply) = context.answer(received, self.slots.bytes_mut(slot)) else {
                self.slots.discard(slot);
                continue;
            };
            bytes += reply.len;
            let reply = PendingReply::written(peer, local_addr, reply);
            self.batch.push(slot, reply, grouped);
        }
        context.finish();
        self.send_batch()
    }

    /// Returns the receive buffers, and re-arms the receive and the poll if they have ended.
    fn rearm(&mut self) -> io::Result<()> {
        self.buffers.publish();
        // Datagrams that wait for a slot hold buffers; the others would only run out again.
        if !self.receiving && self.arrivals.are_examined() {
            let header = self.buffers.header();
            let entry = opcode::RecvMsgMulti::new(SOCKET, header, RecvBuffers::GROUP)
                .build()
                .user_data(UserData::Receive.encode());
            // SAFETY: the header and the buffers outlive the receive (recv_buffers invariant 3,
            // kept by `drop`).
            unsafe { self.ring.push(&entry) }?;
            self.receiving = true;
            self.dispatcher.counters().rearmed.add(1);
        }
        if !self.polling {
            let event = Fd(self.signal.event.as_raw_fd());
            let entry = opcode::PollAdd::new(event, libc::POLLIN as u32)
                .build()
                .user_data(UserData::Wake.encode());
            // SAFETY: a poll points to no memory.
            unsafe { self.ring.push(&entry) }?;
            self.polling = true;
        }
        Ok(())
    }
}

/// Describes why the engine cannot be used, and the remedy.
fn refused(what: &str, error: &io::Error) -> String {
    let remedy = match errno::errno(error) {
        libc::EPERM | libc::EACCES => {
            "set the sysctl kernel.io_uring_disabled to 0, and allow io_uring in the container's seccomp profile"
        }
        libc::ENOSYS => {
            "use a kernel with io_uring, and allow it in the container's seccomp profile"
        }
        libc::EINVAL | libc::EOPNOTSUPP => "use Linux 6.1 or later",
        libc::ENOMEM => "raise the memory limits (RLIMIT_MEMLOCK, the service's cgroup)",
        _ => crate::remedy::limit_or(error, "use the mmsg engine"),
    };
    format!("{what}: {error}; {remedy}")
}

#[cfg(test)]
mod tests;

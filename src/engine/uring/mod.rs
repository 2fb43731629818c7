//! The io_uring engine: one ring, one socket, one multishot receive, and sends batched with the wait for the next batch.
//!
//! One turn of the loop takes all completions, answers what was received, queues the replies, gives the receive buffers
//! back, re-arms what has ended, and enters the kernel once: to send, and to wait.
//!
//! A completion for every send would end that wait at once. So sends complete silently unless they fail (`CQE_SKIP_SUCCESS`), and
//! may not wait for anything (`MSG_DONTWAIT`): the kernel issues them while it takes the submission queue, copies the
//! replies (udp(7) has no zero-copy unless asked for) and cannot put them off (`REQ_F_NOWAIT`; `io_queue_sqe` in io_uring.c, `io_sendmsg_prep` in net.c).
//! When the queue has been taken, all that have not failed are sent. One that finds the send queue full is queued again, patiently: with a completion to wait for.
//!
//! Pitfalls, and where each is decided:
//!
//! * the receive ends (an empty datagram, used-up buffers, an ICMP error): whatever the result, a completion without the
//!   kernel's promise of more leads to re-arming ([`Worker::received`], [`Worker::rearm`]), after the buffers are back;
//! * an error in place of a datagram: [`errno`];
//! * a datagram longer than a request: [`BatchContext::answer`](crate::engine::dispatch::BatchContext::answer) counts and drops it;
//! * a header that makes no sense: [`Lease::received`](recv_buffers::Lease::received);
//! * no free send slot: [`Worker::answer`] leaves the datagrams in their buffers until a send completes;
//! * a full submission queue: cannot be by the sizes below; [`Ring::push`] submits first;
//! * an overflowing completion queue: cannot be by the sizes below; the kernel keeps what does not fit until the next enter;
//! * a train that the kernel refuses: [`Worker::sent`] sends its replies one by one;
//! * operations in flight at the end: [`Worker`]'s `Drop`.

pub(super) mod recv_buffers;
mod ring;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, Fixed};
use io_uring::{cqueue, opcode, squeue};
use socket2::Socket;

use super::batch::{Batch, GsoState, PendingReply};
use super::control::LocalAddr;
use super::dispatch::{BatchContext, Dispatcher};
use super::errno::{self, ErrorBackoff};
use super::slots::Slots;
use super::{Handler, Signal};
use recv_buffers::{Lease, RecvBuffers};
use ring::{Ring, UserData};

/// How much of everything a worker has.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    buffers: u16,
    slots: u16,
}

/// A batch is at most as large as the buffers; a burst beyond waits in the socket's queue.
const SIZES: Sizes = Sizes {
    buffers: 256,
    slots: 256,
};

/// Operations that are queued besides sends: the receive and the poll.
const OTHER_OPERATIONS: u16 = 2;
const ENTRIES: u32 = 512;
const COMPLETIONS: u32 = 1_024;

/// The socket, as the ring's fixed file.
const SOCKET: Fixed = Fixed(0);

/// How long the end may wait for the kernel to give the memory back.
const QUIET_ATTEMPTS: u32 = 100;
const QUIET_PAUSE: Duration = Duration::from_millis(10);

const _: () = assert!(SIZES.buffers.is_power_of_two());
// A batch finds slots for all its replies unless earlier sends are stuck.
const _: () = assert!(SIZES.slots >= SIZES.buffers);
// Each slot is in one queued send at most.
const _: () = assert!(ENTRIES >= SIZES.slots as u32 + OTHER_OPERATIONS as u32);
// Each buffer, each send and each other operation has one completion at most; the receive has a last one of its own.
const _: () =
    assert!(COMPLETIONS > SIZES.buffers as u32 + SIZES.slots as u32 + OTHER_OPERATIONS as u32);

/// How a send is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendMode {
    /// At once or not at all; a completion tells only a failure.
    SkipCqe,
    /// When there is room in the socket's send queue; a completion tells the end.
    Wait,
}

/// A datagram, or an error in its place, as the kernel told it.
#[derive(Clone, Copy, Debug)]
struct RecvCompletion {
    result: i32,
    buffer: Option<u16>,
}

/// One worker.
///
/// Fields are dropped in this order: the ring before the memory that its operations use.
pub(super) struct Worker<A> {
    ring: Ring,
    buffers: RecvBuffers,
    slots: Slots,
    batch: Batch,
    segmentation: GsoState,
    desk: Dispatcher<A>,
    signal: Arc<Signal>,
    /// Keeps the fixed file's socket; the ring has it by number.
    _socket: Arc<Socket>,
    completions: Vec<cqueue::Entry>,
    /// Not answered yet.
    receipts: VecDeque<RecvCompletion>,
    /// The heads of sends that complete silently, queued since the submission queue was last empty.
    silent: Vec<u16>,
    /// Whether the kernel has the multishot receive, and the poll on the event.
    receiving: bool,
    polling: bool,
    patience: ErrorBackoff,
    /// An error that receiving cannot go on after.
    fault: Option<io::Error>,
}

impl<A: Handler> Worker<A> {
    /// Sets everything up on the calling thread, which must be the one that runs the worker, and arms the receive.
    ///
    /// # Errors
    ///
    /// What the kernel refused, and why.
    pub(super) fn new(
        socket: Arc<Socket>,
        segmentation: bool,
        desk: Dispatcher<A>,
        signal: Arc<Signal>,
    ) -> Result<Self, String> {
        Self::with_sizes(SIZES, socket, segmentation, desk, signal)
    }

    fn with_sizes(
        sizes: Sizes,
        socket: Arc<Socket>,
        segmentation: bool,
        desk: Dispatcher<A>,
        signal: Arc<Signal>,
    ) -> Result<Self, String> {
        let ring = Ring::new(ENTRIES, COMPLETIONS).map_err(|e| refused("io_uring_setup", &e))?;
        ring.register_file(socket.as_raw_fd())
            .map_err(|e| refused("registering the socket", &e))?;
        let buffers = RecvBuffers::new(sizes.buffers).map_err(|e| refused("mmap", &e))?;
        buffers
            .register(&ring)
            .map_err(|e| refused("registering the receive buffers", &e))?;
        let mut worker = Self {
            ring,
            buffers,
            slots: Slots::new(usize::from(sizes.slots)).map_err(|e| refused("mmap", &e))?,
            batch: Batch::new(usize::from(sizes.slots)),
            segmentation: GsoState::new(segmentation),
            desk,
            signal,
            _socket: socket,
            completions: Vec::with_capacity(COMPLETIONS as usize),
            receipts: VecDeque::with_capacity(usize::from(sizes.buffers) + 1),
            silent: Vec::with_capacity(usize::from(sizes.slots)),
            receiving: false,
            polling: false,
            patience: ErrorBackoff::default(),
            fault: None,
        };
        worker
            .rearm()
            .and_then(|()| worker.ring.submit())
            .map_err(|e| refused("io_uring_enter", &e))?;
        worker
            .sort_completions()
            .map_err(|e| refused("io_uring_enter", &e))?;
        // A kernel that does not know the multishot receive says so at once.
        match worker.fault.take() {
            Some(error) => Err(refused("multishot recvmsg", &error)),
            None => Ok(worker),
        }
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    ///
    /// What went wrong with the ring or the socket themselves; see [`errno`].
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.signal.stopping() {
            self.answer()?;
            self.rearm()?;
            self.enter()?;
            self.sort_completions()?;
            if let Some(error) = self.fault.take() {
                return Err(error);
            }
        }
        self.finish()
    }

    /// Ends the receive and answers everything that was received, within a bounded time.
    ///
    /// Later datagrams stay in the socket's queue: for the next process, if the service manager
    /// holds the socket too.
    fn finish(&mut self) -> io::Result<()> {
        self.ring.cancel(UserData::Receive, QUIET_PAUSE);
        for _ in 0..QUIET_ATTEMPTS {
            self.sort_completions()?;
            self.answer()?;
            self.ring.submit()?;
            self.settle();
            if !self.receiving && self.receipts.is_empty() && self.slots.is_idle() {
                break;
            }
            self.ring.wait_for(QUIET_PAUSE);
        }
        Ok(())
    }

    /// Submits what is queued and waits for something to do.
    fn enter(&mut self) -> io::Result<()> {
        // Datagrams that wait for a slot can go on as soon as the silent sends are done.
        let is_stalled = !self.receipts.is_empty() && !self.silent.is_empty();
        match self.ring.submit_and_wait(usize::from(!is_stalled)) {
            Ok(()) => Ok(()),
            Err(error) => match errno::errno(&error) {
                libc::EINTR => Ok(()),
                // The kernel wants completions taken first, or is out of memory for a moment.
                libc::EBUSY | libc::EAGAIN | libc::ENOMEM => {
                    self.patience.failed();
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Takes all completions: sends free their slots at once, datagrams queue up.
    fn sort_completions(&mut self) -> io::Result<()> {
        let mut completions = mem::take(&mut self.completions);
        self.ring.drain(&mut completions);
        for completion in completions.drain(..) {
            match UserData::decode(completion.user_data()) {
                Some(UserData::Receive) => self.received(&completion),
                Some(UserData::Send(head)) => self.sent(head, completion.result())?,
                Some(UserData::Wake) => self.woken(),
                None => self.desk.counters().garbled.add(1),
            }
        }
        self.completions = completions;
        self.settle();
        Ok(())
    }

    fn received(&mut self, completion: &cqueue::Entry) {
        let flags = completion.flags();
        if !cqueue::more(flags) {
            self.receiving = false;
        }
        let result = completion.result();
        if result < 0 && errno::ends_worker(-result) {
            self.fault = Some(io::Error::from_raw_os_error(-result));
        }
        self.receipts.push_back(RecvCompletion {
            result,
            buffer: cqueue::buffer_select(flags),
        });
    }

    fn woken(&mut self) {
        self.polling = false;
        self.signal.event.clear();
        self.desk.counters().wakes.add(1);
    }

    /// The send that starts with slot `head` failed, or was a patient one.
    fn sent(&mut self, head: u16, result: i32) -> io::Result<()> {
        let counters = self.desk.counters();
        let Some(count) = self.slots.sending(head) else {
            counters.garbled.add(1);
            return Ok(());
        };
        let was_silent = self.silent.iter().position(|silent| *silent == head);
        if let Some(at) = was_silent {
            self.silent.swap_remove(at);
        }
        if result >= 0 {
            self.slots.release(&self.batch, head, count);
            return Ok(());
        }
        counters.replied.take_back(count as u64);
        if count > 1 {
            counters.trains.take_back(1);
        }
        if count > 1 && errno::refuses_train(-result) {
            counters.trains_refused.add(1);
            self.segmentation.refused();
            return self.send_singly(head);
        }
        if was_silent.is_some() && -result == libc::EAGAIN {
            return self.send(head, count, SendMode::Wait);
        }
        counters.send_errors.add(count as u64);
        self.slots.release(&self.batch, head, count);
        Ok(())
    }

    fn send_singly(&mut self, head: u16) -> io::Result<()> {
        let mut member = Some(head);
        while let Some(slot) = member {
            self.send(slot, 1, SendMode::SkipCqe)?;
            member = self.batch.next_in_group(slot);
        }
        Ok(())
    }

    /// Answers what was received, as far as there are slots, and queues the replies.
    fn answer(&mut self) -> io::Result<()> {
        if self.receipts.is_empty() {
            // Perhaps this is a wake-up, to look at what is published.
            self.desk.refresh();
            return Ok(());
        }
        let mut turn = self.desk.begin_batch();
        turn.counters.batches.add(1);
        let grouped = self.segmentation.next_batch();
        self.batch.clear();
        while let Some(slot) = self.slots.take() {
            let Some(receipt) = self.receipts.pop_front() else {
                self.slots.discard(slot);
                break;
            };
            let buffers = &mut self.buffers;
            let out = self.slots.bytes_mut(slot);
            match answer_completion(receipt, buffers, &mut self.patience, &mut turn, out) {
                Some(reply) => self.batch.push(slot, reply, grouped),
                None => self.slots.discard(slot),
            }
        }
        for at in 0..self.batch.groups().len() {
            let train = self.batch.groups()[at];
            self.send(train.head, train.count, SendMode::SkipCqe)?;
        }
        Ok(())
    }

    /// Queues one send: a single reply, or a train. It counts as sent until it fails.
    fn send(&mut self, head: u16, count: usize, manner: SendMode) -> io::Result<()> {
        let (message_flags, entry_flags) = match manner {
            SendMode::SkipCqe => (libc::MSG_DONTWAIT, squeue::Flags::SKIP_SUCCESS),
            SendMode::Wait => (0, squeue::Flags::empty()),
        };
        self.slots.pin(&self.batch, head, count);
        let entry = if count == 1 && self.batch.reply(head).source == LocalAddr::Any {
            let plain = self.slots.send_to(&self.batch, head);
            opcode::Send::new(SOCKET, plain.bytes, plain.len as u32)
                .dest_addr(plain.name)
                .dest_addr_len(plain.name_len)
                .flags(message_flags)
                .build()
        } else {
            let message = self.slots.message(&self.batch, head, count);
            opcode::SendMsg::new(SOCKET, message)
                .flags(message_flags as u32)
                .build()
        };
        let entry = entry
            .flags(entry_flags)
            .user_data(UserData::Send(head).encode());
        if manner == SendMode::SkipCqe {
            self.silent.push(head);
        }
        let counters = self.desk.counters();
        counters.replied.add(count as u64);
        if count > 1 {
            counters.trains.add(1);
        }
        // SAFETY: the replies, the name and the message are pinned with their slots until the kernel is done with them (slots
        // invariant 2, kept by `sent` and `settle`), or leaked by `drop` if that does not come.
        unsafe { self.ring.push(&entry) }
    }

    /// Gives the buffers back, and arms again what has ended.
    fn rearm(&mut self) -> io::Result<()> {
        self.buffers.publish();
        // Datagrams that wait for a slot hold buffers: the others would only run out again.
        if !self.receiving && self.receipts.is_empty() {
            let header = self.buffers.header();
            let entry = opcode::RecvMsgMulti::new(SOCKET, header, RecvBuffers::GROUP)
                .build()
                .user_data(UserData::Receive.encode());
            // SAFETY: header and buffers live until the receive has ended (recv_buffers invariant 3, kept by `drop`).
            unsafe { self.ring.push(&entry) }?;
            self.receiving = true;
            self.desk.counters().rearmed.add(1);
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

impl<A> Worker<A> {
    /// The silent sends that have not failed are done, if the kernel has taken the submission queue.
    fn settle(&mut self) {
        if !self.ring.is_submitted() {
            return;
        }
        for head in self.silent.drain(..) {
            if let Some(count) = self.slots.sending(head) {
                if count > 1 {
                    self.segmentation.accepted();
                }
                self.slots.release(&self.batch, head, count);
            }
        }
    }

    /// Cancels everything in flight and waits, for a bounded time, until the kernel is done with our memory.
    fn quiesce(&mut self) -> bool {
        // What is queued and was never submitted must not look like in flight for ever.
        let _ = self.ring.submit();
        self.ring.cancel_all(QUIET_PAUSE);
        for _ in 0..QUIET_ATTEMPTS {
            let mut completions = mem::take(&mut self.completions);
            completions.clear();
            self.ring.drain(&mut completions);
            for completion in &completions {
                match UserData::decode(completion.user_data()) {
                    Some(UserData::Receive) => self.receiving &= cqueue::more(completion.flags()),
                    Some(UserData::Wake) => self.polling = false,
                    Some(UserData::Send(head)) => {
                        self.silent.retain(|silent| *silent != head);
                        if let Some(count) = self.slots.sending(head) {
                            self.slots.release(&self.batch, head, count);
                        }
                    }
                    None => {}
                }
            }
            self.completions = completions;
            self.settle();
            if !self.receiving && !self.polling && self.slots.is_idle() {
                return true;
            }
            self.ring.wait_for(QUIET_PAUSE);
        }
        false
    }
}

impl<A> Drop for Worker<A> {
    fn drop(&mut self) {
        if self.quiesce() {
            self.ring.unregister_file();
        } else {
            // Closing the ring does not wait for the kernel either. Lost memory is better than memory written to later.
            self.buffers.leak();
            self.slots.leak();
        }
    }
}

/// Answers one datagram into `out`, or counts the error in its place. Its buffer is given back.
fn answer_completion<A: Handler>(
    receipt: RecvCompletion,
    buffers: &mut RecvBuffers,
    patience: &mut ErrorBackoff,
    turn: &mut BatchContext<'_, A>,
    out: &mut [u8],
) -> Option<PendingReply> {
    let written = usize::try_from(receipt.result);
    let mut lease = receipt
        .buffer
        .and_then(|id| buffers.lease(id, written.unwrap_or(0)));
    if written.is_err() {
        // The buffers are back before the receive is armed again, so running out of them repeats only with datagrams between.
        patience.failed();
        if receipt.result == -libc::ENOBUFS {
            turn.counters.starved.add(1);
        } else {
            turn.counters.receive_errors.add(1);
        }
        return None;
    }
    patience.succeeded();
    let Some(arrival) = lease.as_mut().and_then(Lease::received) else {
        turn.counters.garbled.add(1);
        return None;
    };
    let (peer, source) = (arrival.peer, arrival.source);
    let len = turn.answer(arrival, out)?;
    Some(PendingReply::new(peer, source, len))
}

/// Why the engine cannot be had, and what an administrator can do about it.
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
        libc::EMFILE | libc::ENFILE => "raise the limit of open files",
        _ => "use the mmsg engine",
    };
    format!("{what}: {error}; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::counters::{Counters, Totals};
    use crate::engine::tests::{Echo, PATIENCE, client_of, published, uring_or_skip};
    use crate::engine::{Sockets, bind};

    /// Runs a worker of the given sizes while `test` talks to it; its counters at the end.
    fn serve(sizes: Sizes, echo: Echo, test: impl FnOnce(&Sockets)) -> Option<Totals> {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let counters = Arc::new(Counters::default());
        let signal = Arc::new(Signal::new().unwrap());
        let desk = Dispatcher::new(echo, published(), Arc::clone(&counters));
        let socket = Arc::clone(&sockets.sockets[0]);
        std::thread::scope(|scope| {
            let (ready, started) = std::sync::mpsc::channel();
            let told = Arc::clone(&signal);
            let worker = scope.spawn(move || {
                // The ring belongs to the thread that makes it.
                let worker = Worker::with_sizes(sizes, socket, true, desk, told);
                ready
                    .send(worker.as_ref().map(drop).map_err(String::clone))
                    .unwrap();
                worker.map_or(Ok(()), Worker::run)
            });
            uring_or_skip(started.recv().unwrap())?;
            test(&sockets);
            signal
                .stop
                .store(true, std::sync::atomic::Ordering::Release);
            signal.event.signal();
            worker.join().unwrap().unwrap();
            Some(counters.snapshot())
        })
    }

    /// Bursts of 100 datagrams to a worker of these sizes, empty ones between them if asked for: all come back, in order.
    fn bursts(sizes: Sizes, with_empty: bool) -> Option<Totals> {
        let (echo, is_held, let_on) = Echo::new();
        let totals = serve(sizes, echo, |sockets| {
            let client = client_of(sockets.local_addr());
            let mut reply = [0; 8];
            for round in 0..5 {
                client.send(b"hold").unwrap();
                is_held.recv_timeout(PATIENCE).unwrap();
                let numbers = (0..100u32).map(|i| (round * 100 + i).to_le_bytes());
                for number in numbers.clone() {
                    client.send(&number).unwrap();
                    if with_empty {
                        client.send(&[]).unwrap();
                    }
                }
                let_on.send(()).unwrap();
                assert_eq!(client.recv(&mut reply).unwrap(), 4);
                for number in numbers {
                    assert_eq!(client.recv(&mut reply).unwrap(), 4);
                    assert_eq!(reply[..4], number);
                    if with_empty {
                        assert_eq!(client.recv(&mut reply).unwrap(), 0);
                    }
                }
            }
        })?;
        let received = if with_empty { 5 * 201 } else { 5 * 101 };
        assert_eq!(totals.received, received);
        assert_eq!((totals.garbled, totals.send_errors), (0, 0), "{totals:?}");
        Some(totals)
    }

    /// The receive ends with `ENOBUFS`, and is armed again when the buffers are back: once each time, without spinning.
    #[test]
    fn buffers_run_out() {
        for buffers in [1, 2, 8, 16] {
            let Some(totals) = bursts(Sizes { buffers, slots: 16 }, false) else {
                return;
            };
            assert!(totals.starved > 0, "{totals:?}");
            assert!(totals.starved <= totals.received, "{totals:?}");
            assert_eq!(totals.rearmed, totals.starved + 1, "{totals:?}");
        }
    }

    /// Fewer slots than a batch has datagrams: the rest waits in the receive buffers for the sends to complete.
    #[test]
    fn slots_run_out() {
        for (buffers, slots) in [(8, 1), (8, 3), (16, 16), (1, 1)] {
            for with_empty in [false, true] {
                if bursts(Sizes { buffers, slots }, with_empty).is_none() {
                    return;
                }
            }
        }
    }

    /// An empty datagram ends the receive each time.
    #[test]
    fn empty_datagrams_rearm() {
        let sizes = Sizes {
            buffers: 8,
            slots: 8,
        };
        if let Some(totals) = bursts(sizes, true) {
            assert!(totals.rearmed >= 500, "{totals:?}");
        }
    }

    /// The kernel must be done with the memory before it is unmapped, whatever is in flight.
    #[test]
    fn a_worker_ends_with_datagrams_in_its_buffers() {
        for _ in 0..20 {
            let start = std::time::Instant::now();
            let (echo, is_held, let_on) = Echo::new();
            let served = serve(
                Sizes {
                    buffers: 8,
                    slots: 2,
                },
                echo,
                |sockets| {
                    let client = client_of(sockets.local_addr());
                    client.send(b"hold").unwrap();
                    is_held.recv_timeout(PATIENCE).unwrap();
                    for _ in 0..50 {
                        client.send(b"more").unwrap();
                    }
                    let_on.send(()).unwrap();
                },
            );
            if served.is_none() {
                return;
            }
            // Had the kernel not let go of everything, the end would have waited for it in vain.
            assert!(start.elapsed() < QUIET_PAUSE * QUIET_ATTEMPTS);
        }
    }

    #[test]
    fn a_refusal_names_the_remedy() {
        for (errno, remedy) in [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOSYS, "seccomp"),
            (libc::EINVAL, "Linux 6.1"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
        ] {
            let text = refused("io_uring_setup", &io::Error::from_raw_os_error(errno));
            assert!(text.contains(remedy), "{text}");
        }
    }
}

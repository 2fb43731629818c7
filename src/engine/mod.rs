//! The data plane: sockets, rings and batches; the only module with unsafe code.
//!
//! [`bind`] makes one socket per worker, [`start`] one thread per worker. Each thread owns its socket, its ring or its
//! `recvmmsg` arrays, all its buffers, and what answers; nothing else runs on it. A worker takes a batch of datagrams, has each
//! answered ([`Handler`], which is [`Responder`] in the daemon), and sends the replies, several to one peer in one
//! go. It looks at what is published, and at the clock, once per batch.
//!
//! What this module does not do: it does not know the protocol beyond the sizes of datagrams, does not log (it counts, and
//! the daemon logs), and never frees a snapshot: **whoever publishes must keep the snapshot it replaces until it has called
//! [`Workers::wake`] and seen the workers let go of it**, so that its memory is never freed on a worker.
//!
//! # Parts, in reading order
//!
//! * `socket`: binding, and why a port is never shared with another daemon.
//! * `desk`: what is done with a datagram, the same for both engines.
//! * `batch`: replies grouped into trains. `slots`: where replies stand until they are sent.
//! * `uring`: the engine, with the table of pitfalls. `mmsg`: the fallback.
//! * `errno`: which errors end a worker. `control`, `peer`: the kernel's bytes. `counters`, `event`, `memory`.
//!
//! # Drop order
//!
//! The kernel writes to receive buffers and reads send slots until the completion of the operation that has them, even after
//! the ring is closed: closing only starts the end. So a uring worker that ends, also by a panic, first cancels all
//! operations and waits for their completions (bounded); if one does not come, it leaks the memory. Then the fixed file is let
//! go of, which frees the port at once, then the ring is closed, then buffers and slots are unmapped. The
//! fields of `uring::Worker` stand in this order.
//!
//! # Unsafe inventory
//!
//! | where | what | invariant, and who keeps it |
//! |---|---|---|
//! | `memory` | trim the allocator's heap | none: it is the allocator's own affair |
//! | `memory` | map, slice and unmap anonymous memory | ranges are checked against the mapping; who asks for a slice knows that the kernel is not using it |
//! | `slots` | bytes of a slot as a slice; a `msghdr` of zeros | only while the slot is being filled: `states`, asserted; zeros are values of integers and pointers |
//! | `uring::recv_buffers` | bytes of a buffer as a slice; entries and tail of the buffer ring, and making them known | only under a lease: `ours`; entries are rewritten only before they are published, and outlive the ring: the drop order above |
//! | `uring` | queueing receive, send and poll | what they point to is pinned until the kernel is done with it, which it tells by a completion, or for a silent send by having taken the submission queue: `slots` invariant 2, `recv_buffers` invariant 3, and the drop order above |
//! | `mmsg` | recvmmsg, sendmmsg, poll; bytes of a datagram as a slice; copies of the slots' messages | the kernel is done with everything when the call returns |
//! | `passed` | owning the service manager's descriptors | opened for this process and taken once: `take_passed` |
//! | `socket`, `event` | setsockopt, eventfd | one live integer; a descriptor nobody else has |
//! | `testing`, `uring::recv_buffers` | for `fuzz/` and tests: the kernel's part, reading what it is pointed to, writing to buffers | no kernel knows this memory; what is read of a send is pinned: `slots` invariant 2, asked of `states` |

mod batch;
mod control;
mod counters;
mod dispatch;
mod errno;
mod event;
mod memory;
mod mmsg;
#[cfg(feature = "daemon")]
mod passed;
mod peer;
mod slots;
mod socket;
#[cfg(feature = "testing")]
pub(crate) mod testing;
mod uring;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

pub use counters::{Counters, Totals};
pub use memory::release_freed_memory;
#[cfg(feature = "daemon")]
pub(crate) use passed::take_passed;
pub use socket::{Sockets, bind};

use crate::protocol::Reject;
use crate::responder::{Datagram, ReplyInfo, Responder, Served};
use dispatch::Dispatcher;
use event::Event;

/// Answers datagrams: the whole of a worker that is not I/O.
pub trait Handler {
    /// Answers `datagram` from `served` into `out`, which holds [`crate::protocol::REPLY_BYTES_MAX`] bytes; `now` is in
    /// whole seconds since the epoch.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    fn handle(
        &mut self,
        datagram: Datagram<'_>,
        now: u64,
        served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject>;
}

impl Handler for Responder {
    fn handle(
        &mut self,
        datagram: Datagram<'_>,
        now: u64,
        served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject> {
        self.respond(datagram, now, served, out)
    }
}

/// Which engine is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// io_uring, or `recvmmsg` where that is refused.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

/// Which engine is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring.
    Uring,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        })
    }
}

/// Why no worker was started: what was refused, and what an administrator can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    kind: EngineKind,
    reason: String,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} engine cannot start: {}", self.kind, self.reason)?;
        if self.kind == EngineKind::Uring {
            f.write_str(" (or start with --engine=mmsg)")?;
        }
        Ok(())
    }
}

impl std::error::Error for StartError {}

/// Starts one worker per socket, each with an answerer of its own. Returns when all of them are serving.
///
/// With [`Choice::Auto`] the real workers are the probe: if io_uring, its multishot receive or its buffer rings are refused
/// to any of them, all are started over with the other engine.
///
/// # Errors
///
/// The engine asked for cannot be had.
pub fn start<A: Handler + Send + 'static>(
    sockets: Sockets,
    choice: Choice,
    served: &Arc<ArcSwap<Served>>,
    mut make_answer: impl FnMut() -> A,
) -> Result<Workers, StartError> {
    let kind = match choice {
        Choice::Auto | Choice::Uring => EngineKind::Uring,
        Choice::Mmsg => EngineKind::Mmsg,
    };
    match start_all(&sockets, kind, served, &mut make_answer) {
        Err(error) if choice == Choice::Auto => {
            let mut workers = start_all(&sockets, EngineKind::Mmsg, served, &mut make_answer)?;
            workers.fallback_reason = Some(error.reason);
            Ok(workers)
        }
        started => started,
    }
}

fn start_all<A: Handler + Send + 'static>(
    sockets: &Sockets,
    kind: EngineKind,
    served: &Arc<ArcSwap<Served>>,
    make_answer: &mut impl FnMut() -> A,
) -> Result<Workers, StartError> {
    let refused = |reason| StartError { kind, reason };
    let failure = WorkerFailure::new().map_err(|e| refused(format!("eventfd: {e}")))?;
    let mut workers = Workers {
        kind,
        fallback_reason: None,
        local_addr: sockets.local_addr,
        counters: Vec::new(),
        threads: Vec::new(),
        failure: Arc::new(failure),
    };
    // An error drops `workers`, which stops those already started.
    for (index, socket) in sockets.sockets.iter().enumerate() {
        let name = format!("confd-{index}");
        let signal = Signal::new().map_err(|e| refused(format!("eventfd: {e}")))?;
        let signal = Arc::new(signal);
        let counters = Arc::new(Counters::default());
        let desk = Dispatcher::new(make_answer(), Arc::clone(served), Arc::clone(&counters));
        let parts = Parts {
            kind,
            socket: Arc::clone(socket),
            segmentation: sockets.segmentation,
            desk,
            signal: Arc::clone(&signal),
        };
        let obituary = ExitReporter {
            name: name.clone(),
            cause: Some("panicked".into()),
            failure: Arc::clone(&workers.failure),
        };
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || parts.work(&ready, obituary))
            .map_err(|e| refused(format!("starting a thread: {e}")))?;
        workers.threads.push((thread, signal));
        workers.counters.push(counters);
        started
            .recv()
            .unwrap_or_else(|_| Err("the worker panicked".into()))
            .map_err(refused)?;
    }
    Ok(workers)
}

/// What a worker is made of; the rest it makes itself, on its own thread.
struct Parts<A> {
    kind: EngineKind,
    socket: Arc<socket2::Socket>,
    segmentation: bool,
    desk: Dispatcher<A>,
    signal: Arc<Signal>,
}

impl<A: Handler> Parts<A> {
    /// The thread of a worker, from its set-up, which it reports to `ready`, to its end.
    fn work(self, ready: &mpsc::SyncSender<Result<(), String>>, obituary: ExitReporter) {
        let (socket, signal) = (self.socket, self.signal);
        match self.kind {
            EngineKind::Uring => {
                let worker = uring::Worker::new(socket, self.segmentation, self.desk, signal);
                run(worker, uring::Worker::run, ready, obituary);
            }
            EngineKind::Mmsg => {
                let worker = mmsg::Worker::new(socket, self.segmentation, self.desk, signal);
                run(worker, mmsg::Worker::run, ready, obituary);
            }
        }
    }
}

fn run<W>(
    worker: Result<W, String>,
    run: impl FnOnce(W) -> io::Result<()>,
    ready: &mpsc::SyncSender<Result<(), String>>,
    mut obituary: ExitReporter,
) {
    // Nobody waits for the report any more: then nobody wants the worker either, and it is told to stop.
    let (report, worker) = match worker {
        Ok(worker) => (Ok(()), Some(worker)),
        Err(reason) => (Err(reason), None),
    };
    let _ = ready.send(report);
    obituary.cause = worker.and_then(|worker| run(worker).err().map(|e| e.to_string()));
}

/// How a worker is told something.
struct Signal {
    stop: AtomicBool,
    event: Event,
}

impl Signal {
    fn new() -> io::Result<Self> {
        Ok(Self {
            stop: AtomicBool::new(false),
            event: Event::new()?,
        })
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The first worker that ended without being told to.
#[derive(Debug)]
struct WorkerFailure {
    text: Mutex<Option<String>>,
    event: Event,
}

impl WorkerFailure {
    fn new() -> io::Result<Self> {
        Ok(Self {
            text: Mutex::new(None),
            event: Event::new()?,
        })
    }
}

/// Reports the end of a worker, however it comes, unless it has no cause.
struct ExitReporter {
    name: String,
    cause: Option<String>,
    failure: Arc<WorkerFailure>,
}

impl Drop for ExitReporter {
    fn drop(&mut self) {
        if let Some(cause) = self.cause.take() {
            let mut text = self
                .failure
                .text
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            text.get_or_insert_with(|| format!("worker {}: {cause}", self.name));
            self.failure.event.signal();
        }
    }
}

/// The running workers. Dropping them stops them.
pub struct Workers {
    kind: EngineKind,
    fallback_reason: Option<String>,
    local_addr: SocketAddr,
    counters: Vec<Arc<Counters>>,
    threads: Vec<(JoinHandle<()>, Arc<Signal>)>,
    failure: Arc<WorkerFailure>,
}

impl Workers {
    /// How long [`Workers::stop`] waits for a worker.
    const STOP_PATIENCE: Duration = Duration::from_secs(5);

    /// The engine that is running.
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Why io_uring is not used, if it was tried and refused.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// The address that is served, the port filled in.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Each worker's counters; they can be kept beyond the workers.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// All workers' counters, added up.
    pub fn totals(&self) -> Totals {
        self.counters
            .iter()
            .map(|counters| counters.snapshot())
            .sum()
    }

    /// Makes each worker look at what is published again, also one that has nothing to do, so that it lets go of what was
    /// published before. Returns at once.
    pub fn wake(&self) {
        for (_, signal) in &self.threads {
            signal.event.signal();
        }
    }

    /// Why a worker has ended without being told to, if one has. The daemon must not live on with fewer workers: what the
    /// kernel hands to the dead worker's socket is lost.
    pub fn failed(&self) -> Option<String> {
        let text = self.failure.text.lock();
        text.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Readable as soon as [`Workers::failed`] says something; to be polled, not read.
    pub fn failure_fd(&self) -> BorrowedFd<'_> {
        self.failure.event.as_fd()
    }

    /// Stops all workers and waits for their ends. Datagrams not yet answered get no answer.
    ///
    /// # Errors
    ///
    /// `TimedOut` if a worker has not ended within five seconds; it is left behind.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop_all()
    }

    fn stop_all(&mut self) -> io::Result<()> {
        for (_, signal) in &self.threads {
            signal.stop.store(true, Ordering::Release);
            signal.event.signal();
        }
        let deadline = Instant::now() + Self::STOP_PATIENCE;
        let mut stopped = Ok(());
        for (thread, _) in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // A panic was reported by the worker's obituary.
                let _ = thread.join();
            } else {
                stopped = Err(io::ErrorKind::TimedOut.into());
            }
        }
        stopped
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // A worker left behind cannot be helped here; `stop` tells.
        let _ = self.stop_all();
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("kind", &self.kind)
            .field("local_addr", &self.local_addr)
            .field("workers", &self.counters.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::protocol::Key;
    use crate::snapshot::Snapshot;

    pub(super) const PATIENCE: Duration = Duration::from_secs(20);

    /// What was made, or `None` with a printed reason where io_uring is refused. Under CI=true that is a failure.
    pub(super) fn uring_or_skip<T, E: fmt::Display>(made: Result<T, E>) -> Option<T> {
        match made {
            Ok(made) => Some(made),
            Err(error) if std::env::var("CI").as_deref() == Ok("true") => {
                panic!("no io_uring: {error}")
            }
            Err(error) => {
                eprintln!("skipped, no io_uring: {error}");
                None
            }
        }
    }

    /// Sends datagrams back; at each "hold" it first says so and waits to be let on.
    pub(super) struct Echo {
        pub(super) held: mpsc::Sender<()>,
        pub(super) on: mpsc::Receiver<()>,
    }

    impl Echo {
        /// An echo, what tells that it is held, and what lets it on.
        pub(super) fn new() -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
            let (held, is_held) = mpsc::channel();
            let (let_on, on) = mpsc::channel();
            (Self { held, on }, is_held, let_on)
        }
    }

    impl Handler for Echo {
        fn handle(
            &mut self,
            datagram: Datagram<'_>,
            _now: u64,
            _served: &Served,
            out: &mut [u8],
        ) -> Result<ReplyInfo, Reject> {
            if datagram.bytes() == b"hold" {
                self.held.send(()).unwrap();
                self.on.recv_timeout(PATIENCE).unwrap();
            }
            let len = datagram.len();
            out[..len].copy_from_slice(datagram.bytes());
            Ok(ReplyInfo {
                len,
                kind: 0,
                too_large: false,
            })
        }
    }

    pub(super) fn published() -> Arc<ArcSwap<Served>> {
        Arc::new(ArcSwap::from_pointee(Served {
            key: Arc::new(Key::new(b"key").unwrap()),
            snapshot: Arc::new(Snapshot::unavailable("test")),
        }))
    }

    pub(super) fn client_of(addr: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Without checksums the kernel does not segment (`EINVAL`, net/ipv4/udp.c), as it does not over a path too narrow.
    fn make_trains_refused(socket: &socket2::Socket) {
        let on: i32 = 1;
        // SAFETY: the pointer and the length are those of a live integer.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const on).cast(),
                4,
            )
        };
        assert_eq!(result, 0);
    }

    #[test]
    fn a_refused_train_is_sent_one_by_one() {
        for choice in [Choice::Uring, Choice::Mmsg] {
            let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            make_trains_refused(&sockets.sockets[0]);
            let (echo, is_held, let_on) = Echo::new();
            let mut echo = Some(echo);
            let started = start(sockets, choice, &published(), || echo.take().unwrap());
            let Some(workers) = (match choice {
                Choice::Mmsg => Some(started.unwrap()),
                _ => uring_or_skip(started),
            }) else {
                continue;
            };
            let client = client_of(workers.local_addr());
            client.send(b"hold").unwrap();
            is_held.recv_timeout(PATIENCE).unwrap();
            for i in 0..20u32 {
                client.send(&i.to_le_bytes()).unwrap();
            }
            let_on.send(()).unwrap();
            let mut reply = [0; 4];
            client.recv(&mut reply).unwrap();
            assert_eq!(&reply, b"hold");
            for i in 0..20u32 {
                client.recv(&mut reply).unwrap();
                assert_eq!(reply, i.to_le_bytes());
            }
            let counters = Arc::clone(&workers.counters()[0]);
            workers.stop().unwrap();
            let totals = counters.snapshot();
            assert!(totals.trains_refused > 0, "{totals:?}");
            assert_eq!((totals.trains, totals.send_errors), (0, 0));
        }
    }

    /// The kernel tells an unconnected socket nothing of the ICMP errors that its replies cause; it does tell a connected one, at
    /// the next receive or send. So this worker's socket is connected, to a client that comes and goes.
    #[test]
    fn icmp_errors_are_survived() {
        for choice in [Choice::Uring, Choice::Mmsg] {
            let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            let mut client = client_of(sockets.local_addr());
            let client_addr = client.local_addr().unwrap();
            sockets.sockets[0].connect(&client_addr.into()).unwrap();
            let (echo, is_held, let_on) = Echo::new();
            let mut echo = Some(echo);
            let started = start(sockets, choice, &published(), || echo.take().unwrap());
            let Some(workers) = (match choice {
                Choice::Mmsg => Some(started.unwrap()),
                _ => uring_or_skip(started),
            }) else {
                continue;
            };
            let errors = || workers.totals().receive_errors + workers.totals().send_errors;
            for _ in 0..50 {
                let before = errors();
                client.send(b"hold").unwrap();
                is_held.recv_timeout(PATIENCE).unwrap();
                client.send(b"more").unwrap();
                drop(client);
                let_on.send(()).unwrap();
                let deadline = Instant::now() + PATIENCE;
                while errors() == before {
                    assert!(Instant::now() < deadline, "no ICMP error came back");
                    thread::sleep(Duration::from_millis(1));
                }
                client = UdpSocket::bind(client_addr).unwrap();
                client.connect(workers.local_addr()).unwrap();
                client
                    .set_read_timeout(Some(Duration::from_millis(100)))
                    .unwrap();
                // A reply may still meet an error that was not told yet; soon one does not.
                let mut attempts = 0..100;
                while client.send(b"ping").is_err() || client.recv(&mut [0; 8]).is_err() {
                    attempts.next().expect("an answer after the errors");
                }
            }
            assert_eq!(workers.failed(), None);
            workers.stop().unwrap();
        }
    }

    /// Refuses io_uring to this thread and those it starts, as a container does.
    fn refuse_io_uring() {
        // Load the system call's number; if it is io_uring_setup, EPERM; else allow. (seccomp(2), bpf in linux/filter.h)
        let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        let jump_if_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let end = (libc::BPF_RET | libc::BPF_K) as u16;
        let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
        let mut filter = [
            step(load, 0, 0),
            step(jump_if_equal, 1, libc::SYS_io_uring_setup as u32),
            step(end, 0, libc::SECCOMP_RET_ALLOW),
            step(end, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        ];
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: this takes no pointers.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(result, 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: the program and its filter live; the kernel copies both.
        let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn where_io_uring_is_refused_auto_falls_back_and_says_why() {
        let in_container = || {
            refuse_io_uring();
            let bind = || bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
            let refused = start(bind(), Choice::Uring, &published(), || Echo::new().0);
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("Operation not permitted"), "{text}");
            assert!(text.contains("kernel.io_uring_disabled"), "{text}");

            let workers = start(bind(), Choice::Auto, &published(), || Echo::new().0).unwrap();
            assert_eq!(workers.kind(), EngineKind::Mmsg);
            let reason = workers.fallback_reason().unwrap();
            assert!(reason.contains("Operation not permitted"), "{reason}");
            let client = client_of(workers.local_addr());
            client.send(b"ping").unwrap();
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 4);
            workers.stop().unwrap();
        };
        thread::spawn(in_container).join().unwrap();
    }

    #[test]
    fn a_start_error_names_the_remedy() {
        let error = StartError {
            kind: EngineKind::Uring,
            reason: "io_uring_setup: Operation not permitted".into(),
        };
        assert!(error.to_string().contains("--engine=mmsg"));
    }
}

//! Tests of the running workers, on both engines.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::fixtures::{Echo, TIMEOUT, client_of, published, uring_or_skip};
use super::workers::{EngineKind, Workers, start};
use super::{Sockets, bind};

const ENGINES: [EngineKind; 2] = [EngineKind::Uring, EngineKind::Mmsg];

/// Starts workers with one `echo`; `None` where io_uring is refused.
fn start_echo(kind: EngineKind, sockets: Sockets, echo: Echo) -> Option<Workers> {
    let mut echo = Some(echo);
    let started = start(sockets, Some(kind), &published(), || echo.take().unwrap());
    match kind {
        EngineKind::Mmsg => Some(started.unwrap()),
        EngineKind::Uring => uring_or_skip(started),
    }
}

/// Without checksums the kernel refuses GSO (`EINVAL`, net/ipv4/udp.c), as it does on a path whose
/// MTU is too small.
fn make_gso_refused(socket: &socket2::Socket) {
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
fn replies_of_a_refused_gso_send_are_sent_one_by_one() {
    for kind in ENGINES {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        make_gso_refused(&sockets.sockets[0]);
        let (echo, is_held, resume) = Echo::new();
        let Some(workers) = start_echo(kind, sockets, echo) else {
            continue;
        };
        let client = client_of(workers.local_addr());
        client.send(b"hold").unwrap();
        is_held.recv_timeout(TIMEOUT).unwrap();
        for i in 0..20u32 {
            client.send(&i.to_le_bytes()).unwrap();
        }
        resume.send(()).unwrap();
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
        assert!(totals.gso_refused > 0, "{totals:?}");
        assert_eq!((totals.gso_sends, totals.send_errors), (0, 0));
    }
}

/// The kernel does not report ICMP errors to an unconnected socket. It does report them to a
/// connected one, at the next receive or send. So this worker's socket is connected, to a client
/// that comes and goes.
#[test]
fn icmp_errors_are_survived() {
    for kind in ENGINES {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let mut client = client_of(sockets.local_addr());
        let client_addr = client.local_addr().unwrap();
        sockets.sockets[0].connect(&client_addr.into()).unwrap();
        let (echo, is_held, resume) = Echo::new();
        let Some(workers) = start_echo(kind, sockets, echo) else {
            continue;
        };
        let errors = || workers.totals().receive_errors + workers.totals().send_errors;
        for _ in 0..50 {
            let before = errors();
            client.send(b"hold").unwrap();
            is_held.recv_timeout(TIMEOUT).unwrap();
            client.send(b"more").unwrap();
            drop(client);
            resume.send(()).unwrap();
            let deadline = Instant::now() + TIMEOUT;
            while errors() == before {
                assert!(Instant::now() < deadline, "no ICMP error came back");
                thread::sleep(Duration::from_millis(1));
            }
            client = UdpSocket::bind(client_addr).unwrap();
            client.connect(workers.local_addr()).unwrap();
            client
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            // A reply may still fail with an error that is pending; soon one does not.
            let mut attempts = 0..100;
            while client.send(b"ping").is_err() || client.recv(&mut [0; 8]).is_err() {
                attempts.next().expect("an answer after the errors");
            }
        }
        assert_eq!(workers.failed(), None);
        workers.stop().unwrap();
    }
}

/// Refuses io_uring to this thread and the threads that it starts, as a container does.
fn refuse_io_uring() {
    // Load the system call's number; if it is io_uring_setup, EPERM; else allow. (seccomp(2), and
    // bpf in linux/filter.h)
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
    // SAFETY: this call takes no pointers.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the program and its filter are live; the kernel copies both.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn without_a_choice_of_engine_a_refused_io_uring_falls_back_and_says_why() {
    let in_container = || {
        refuse_io_uring();
        let bind = || bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let uring = Some(EngineKind::Uring);
        let refused = start(bind(), uring, &published(), || Echo::new().0);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("Operation not permitted"), "{text}");
        assert!(text.contains("kernel.io_uring_disabled"), "{text}");
        assert!(text.contains("--engine=mmsg"), "{text}");

        let workers = start(bind(), None, &published(), || Echo::new().0).unwrap();
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

/// One worker that echoes, held by its first datagram.
struct Held {
    workers: Workers,
    answered: Arc<Mutex<Vec<u8>>>,
    is_held: mpsc::Receiver<()>,
    resume: mpsc::Sender<()>,
}

impl Held {
    /// `None` where io_uring is refused.
    fn start(kind: EngineKind) -> Option<Self> {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let (echo, is_held, resume) = Echo::new();
        let answered = echo.answered();
        let workers = start_echo(kind, sockets, echo)?;
        client_of(workers.local_addr()).send(b"hold").unwrap();
        is_held.recv_timeout(TIMEOUT).unwrap();
        Some(Self {
            workers,
            answered,
            is_held,
            resume,
        })
    }
}

/// A worker answers short datagrams before long ones that are queued before them, except to a peer
/// whose long one waits: its replies keep their order.
#[test]
fn short_datagrams_are_answered_before_long_ones() {
    const LONG: usize = 20;
    for kind in ENGINES {
        let Some(Held {
            workers,
            answered,
            resume,
            ..
        }) = Held::start(kind)
        else {
            continue;
        };
        let [slow, quick] = [(); 2].map(|()| client_of(workers.local_addr()));
        let mut long = vec![0; 3_000];
        for number in 0..LONG as u8 {
            long[0] = number;
            slow.send(&long).unwrap();
        }
        slow.send(b"s").unwrap();
        quick.send(b"q").unwrap();
        resume.send(()).unwrap();

        let mut reply = vec![0; 65_536];
        assert_eq!(quick.recv(&mut reply).unwrap(), 1);
        for number in 0..LONG as u8 {
            assert_eq!(slow.recv(&mut reply).unwrap(), long.len());
            assert_eq!(reply[0], number);
        }
        assert_eq!(slow.recv(&mut reply).unwrap(), 1);
        workers.stop().unwrap();
        let mut expected = vec![b'h', b'q'];
        expected.extend(0..LONG as u8);
        expected.push(b's');
        assert_eq!(*answered.lock().unwrap(), expected, "{kind:?}");
    }
}

/// Between long datagrams a worker looks for new short ones.
#[test]
fn a_short_datagram_that_arrives_between_long_ones_is_answered_next() {
    const LONG: usize = 20;
    for kind in ENGINES {
        let Some(Held {
            workers,
            answered,
            is_held,
            resume,
        }) = Held::start(kind)
        else {
            continue;
        };
        let [slow, quick] = [(); 2].map(|()| client_of(workers.local_addr()));
        // The first long datagram holds the worker again.
        let mut long = vec![b'l'; 61_000];
        long[..4].copy_from_slice(b"hold");
        slow.send(&long).unwrap();
        long[..4].copy_from_slice(b"long");
        for _ in 1..LONG {
            slow.send(&long).unwrap();
        }
        resume.send(()).unwrap();
        is_held.recv_timeout(TIMEOUT).unwrap();
        quick.send(b"q").unwrap();
        resume.send(()).unwrap();
        let mut reply = vec![0; 65_536];
        assert_eq!(quick.recv(&mut reply).unwrap(), 1);
        // The replies to the long ones exceed the client's receive buffer.
        let deadline = Instant::now() + TIMEOUT;
        while answered.lock().unwrap().len() < LONG + 2 {
            assert!(Instant::now() < deadline, "{kind:?}: {answered:?}");
            thread::sleep(Duration::from_millis(1));
        }
        workers.stop().unwrap();
        let answered = answered.lock().unwrap();
        let at = answered.iter().position(|first| *first == b'q').unwrap();
        // The two that held the worker, and at most one more of the same batch.
        assert!(at <= 3, "{kind:?}: {answered:?}");
    }
}

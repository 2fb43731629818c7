//! Both engines on real loopback sockets, with an echo in place of the responder.
//!
//! A [`Gate`] can stop the echo, so that a test controls how many datagrams queue up. Nothing
//! depends on timing, except that everything must happen within [`TIMEOUT`].

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ganeti_confd::engine::{self, EngineKind, Handler, Workers};
use ganeti_confd::protocol::{Key, REQUEST_BYTES_MAX, Reject};
use ganeti_confd::responder::{Datagram, ReplyInfo, Served};
use ganeti_confd::snapshot::Snapshot;
use nix::sched::{CloneFlags, unshare};

use super::common::skip;

const TIMEOUT: Duration = Duration::from_secs(20);

/// While closed, it stops every worker at its next datagram.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    waiting: usize,
}

impl Gate {
    fn close(&self) {
        self.state.lock().unwrap().closed = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Waits until `workers` workers are stopped.
    fn wait_for(&self, workers: usize) {
        let state = self.state.lock().unwrap();
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, TIMEOUT, |state| state.waiting < workers)
            .unwrap();
        assert!(!timeout.timed_out(), "no worker reached the gate");
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if !state.closed {
            return;
        }
        state.waiting += 1;
        self.changed.notify_all();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, TIMEOUT, |state| state.closed)
            .unwrap();
        state.waiting -= 1;
    }
}

/// Sends datagrams back. It rejects an empty one, as the responder would. "served" returns the
/// address of the served snapshot, "panic" panics, "long N" returns N bytes.
struct Echo(Arc<Gate>);

impl Handler for Echo {
    fn handle(
        &mut self,
        datagram: Datagram<'_>,
        _now: u64,
        served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject> {
        self.0.pass();
        let request = datagram.bytes().to_vec();
        let reply = match std::str::from_utf8(&request) {
            Ok("") => return Err(Reject::BadFourcc),
            Ok("served") => identity(served).into_bytes(),
            Ok("panic") => panic!("a panic was requested"),
            Ok(text) if text.starts_with("long ") => vec![b'x'; text[5..].parse().unwrap()],
            _ => request,
        };
        out[..reply.len()].copy_from_slice(&reply);
        Ok(ReplyInfo {
            len: reply.len(),
            kind: 3,
            is_error: false,
            too_large: reply.len() == 4,
        })
    }
}

fn identity(served: &Served) -> String {
    format!("{:p}", Arc::as_ptr(&served.snapshot))
}

fn served() -> Arc<Served> {
    Arc::new(Served {
        key: Arc::new(Key::new(b"key").unwrap()),
        snapshot: Arc::new(Snapshot::unavailable("test")),
    })
}

/// Running workers, and what the tests need of them.
struct Subject {
    workers: Workers,
    gate: Arc<Gate>,
    published: Arc<ArcSwap<Served>>,
    addr: SocketAddr,
}

impl Subject {
    fn start(
        kind: Option<EngineKind>,
        bind: &str,
        workers: usize,
    ) -> Result<Self, engine::StartError> {
        let sockets = engine::bind(bind.parse().unwrap(), workers).unwrap();
        let gate = Arc::new(Gate::default());
        let published = Arc::new(ArcSwap::new(served()));
        let workers = engine::start(sockets, kind, &published, || Echo(Arc::clone(&gate)))?;
        Ok(Self {
            addr: workers.local_addr(),
            workers,
            gate,
            published,
        })
    }

    /// Sends datagrams and checks the echo.
    fn ping(&self) {
        let client = client_of(self.addr);
        for _ in 0..3 {
            assert_eq!(ask(&client, b"ping"), b"ping");
        }
        assert_eq!(self.workers.failed(), None);
    }

    /// Waits until `seen` is true of the totals.
    fn wait_for(&self, what: &str, seen: impl Fn(&engine::Totals) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !seen(&self.workers.totals()) {
            assert!(
                Instant::now() < deadline,
                "{what}: {:?}",
                self.workers.totals()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A socket connected to `addr`.
fn client_of(addr: SocketAddr) -> UdpSocket {
    let local: IpAddr = match addr {
        SocketAddr::V4(_) => [127, 0, 0, 1].into(),
        SocketAddr::V6(_) => "::1".parse().unwrap(),
    };
    let client = UdpSocket::bind((local, 0)).unwrap();
    let mut to = addr;
    if to.ip().is_unspecified() {
        to.set_ip(local);
    }
    client.connect(to).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket2::SockRef::from(&client)
        .set_recv_buffer_size(4 << 20)
        .unwrap();
    client
}

fn ask(client: &UdpSocket, request: &[u8]) -> Vec<u8> {
    client.send(request).unwrap();
    receive(client)
}

fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 1 << 16];
    let len = client.recv(&mut reply).expect("a reply in time");
    reply.truncate(len);
    reply
}

/// Runs `test` on both engines, with one worker on `bind`.
fn on_both(bind: &str, test: impl Fn(&Subject)) {
    for kind in [Some(EngineKind::Uring), Some(EngineKind::Mmsg)] {
        if let Some(subject) = start_or_skip(kind, bind, 1) {
            test(&subject);
            assert_eq!(subject.workers.failed(), None);
            subject.workers.stop().unwrap();
        }
    }
}

fn start_or_skip(kind: Option<EngineKind>, bind: &str, workers: usize) -> Option<Subject> {
    match Subject::start(kind, bind, workers) {
        Ok(subject) => Some(subject),
        Err(error)
            if kind == Some(EngineKind::Uring) && std::env::var("CI").as_deref() != Ok("true") =>
        {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn one_datagram() {
    on_both("127.0.0.1:0", |subject| {
        subject.ping();
        subject.wait_for("replies", |t| t.replied == 3 && t.received == 3);
        assert_eq!(subject.workers.totals().too_large[3], 3);
    });
}

#[test]
fn thousands_of_datagrams() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        for round in 0..300u32 {
            for i in 0..32 {
                client.send(&(round * 32 + i).to_le_bytes()).unwrap();
            }
            for i in 0..32 {
                assert_eq!(receive(&client), (round * 32 + i).to_le_bytes());
            }
        }
        subject.wait_for("replies", |t| t.replied == 9_600);
    });
}

#[test]
fn replies_of_every_size() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        for len in [1, 400, 1_232, 1_233, 1_452, 1_453, 9_000, 65_506, 65_507] {
            assert_eq!(ask(&client, format!("long {len}").as_bytes()).len(), len);
        }
        let largest = vec![b'y'; REQUEST_BYTES_MAX];
        assert_eq!(ask(&client, &largest), largest);
    });
}

/// An empty datagram, which anybody can send, ends the multishot receive.
#[test]
fn empty_datagrams_between() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        for i in 0..200u32 {
            client.send(&[]).unwrap();
            assert_eq!(ask(&client, &i.to_le_bytes()), i.to_le_bytes());
        }
        for _ in 0..300 {
            client.send(&[]).unwrap();
        }
        subject.wait_for("empty ones", |t| t.rejected(Reject::BadFourcc) == 500);
        subject.ping();
        let last = subject.workers.counters()[0].last_rejected(Reject::BadFourcc);
        assert_eq!(last, Some(client.local_addr().unwrap()));
    });
}

#[test]
fn a_datagram_longer_than_a_request_is_dropped_and_counted() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        for len in [REQUEST_BYTES_MAX + 1, REQUEST_BYTES_MAX + 2, 65_507] {
            client.send(&vec![b'x'; len]).unwrap();
            subject.ping();
        }
        subject.wait_for("long ones", |t| {
            t.truncated == 3 && t.rejected(Reject::TooLong) == 3
        });
    });
}

/// More datagrams than receive buffers and send slots, while the worker is stopped: they wait in
/// the socket's queue, and all are answered.
#[test]
fn more_than_the_buffers_hold() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        for _ in 0..3 {
            subject.gate.close();
            client.send(b"first").unwrap();
            subject.gate.wait_for(1);
            for i in 0..1_500u32 {
                client.send(&i.to_le_bytes()).unwrap();
            }
            subject.gate.open();
            assert_eq!(receive(&client), b"first");
            for i in 0..1_500u32 {
                assert_eq!(receive(&client), i.to_le_bytes());
            }
        }
        assert_eq!(subject.workers.totals().received, 4_503);
        subject.ping();
    });
}

/// More datagrams than the socket's queue holds: the lost ones are counted, and the worker
/// continues.
#[test]
fn more_than_the_socket_holds() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        subject.gate.close();
        client.send(b"first").unwrap();
        subject.gate.wait_for(1);
        let flood = vec![b'x'; 8_000];
        let sent = 3_000;
        for _ in 0..sent {
            client.send(&flood).unwrap();
        }
        subject.gate.open();
        // The drop counter arrives with the first datagram after the drops.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            subject.ping();
            let totals = subject.workers.totals();
            if totals.overruns > 0 {
                break;
            }
            assert!(Instant::now() < deadline, "no overruns: {totals:?}");
        }
    });
}

/// A burst from one peer is sent in GSO batches, and arrives as single datagrams in order.
#[test]
fn a_burst_from_one_peer() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        subject.gate.close();
        client.send(b"first").unwrap();
        subject.gate.wait_for(1);
        let requests: Vec<Vec<u8>> = (0..200u32)
            .map(|i| {
                let len = match i % 50 {
                    0..30 => 400,
                    30 => 399,
                    31..40 => 1_232,
                    40..44 => 2_000,
                    _ => 8 + i as usize,
                };
                let mut request = vec![b'x'; len];
                request[..4].copy_from_slice(&i.to_le_bytes());
                request
            })
            .collect();
        for request in &requests {
            client.send(request).unwrap();
        }
        subject.gate.open();
        assert_eq!(receive(&client), b"first");
        for request in &requests {
            assert_eq!(&receive(&client), request);
        }
        subject.wait_for("replies", |t| t.replied == 201);
        let totals = subject.workers.totals();
        assert!(totals.gso_sends > 0, "{totals:?}");
        assert_eq!((totals.gso_refused, totals.send_errors), (0, 0));
    });
}

#[test]
fn five_hundred_peers() {
    on_both("127.0.0.1:0", |subject| {
        let clients: Vec<_> = (0..500).map(|_| client_of(subject.addr)).collect();
        for round in 0..3 {
            if round == 1 {
                subject.gate.close();
                clients[0].send(b"first").unwrap();
                subject.gate.wait_for(1);
            }
            for (i, client) in clients.iter().enumerate() {
                client.send(format!("{round} {i}").as_bytes()).unwrap();
            }
            subject.gate.open();
            if round == 1 {
                assert_eq!(receive(&clients[0]), b"first");
            }
            for (i, client) in clients.iter().enumerate() {
                assert_eq!(receive(client), format!("{round} {i}").as_bytes());
            }
        }
    });
}

/// Replies to a client that has exited cause ICMP errors, which affect nobody else.
#[test]
fn a_client_that_closes_its_socket() {
    on_both("127.0.0.1:0", |subject| {
        let stays = client_of(subject.addr);
        for _ in 0..20 {
            subject.gate.close();
            stays.send(b"stays").unwrap();
            subject.gate.wait_for(1);
            for _ in 0..5 {
                let goes = client_of(subject.addr);
                for _ in 0..5 {
                    goes.send(b"goes").unwrap();
                }
            }
            subject.gate.open();
            assert_eq!(receive(&stays), b"stays");
            assert_eq!(ask(&stays, b"again"), b"again");
        }
        subject.wait_for("all datagrams", |t| t.received == 20 * 27);
        subject.ping();
    });
}

/// A reply that cannot be sent is counted, and nothing else happens.
#[test]
fn a_reply_that_cannot_be_sent_is_counted() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        client.send(format!("long {}", 65_507).as_bytes()).unwrap();
        assert_eq!(receive(&client).len(), 65_507);
        // More than the send queue takes at once: all are sent or counted, and the worker
        // continues.
        for _ in 0..100 {
            client.send(b"long 65507").unwrap();
        }
        subject.wait_for("replies", |t| t.replied + t.send_errors == 101);
        let mut rest = vec![0; 1 << 16];
        client.set_nonblocking(true).unwrap();
        while client.recv(&mut rest).is_ok() {}
        subject.ping();
    });
}

/// A network that is slower than the replies: they wait for room in the send queue, and none is
/// lost.
///
/// The test's network namespace has a slow loopback interface.
#[test]
fn replies_wait_for_a_slow_network() {
    // Twice as many as the send queue takes.
    const REPLIES: u64 = 60;
    let in_namespace = || {
        if let Err(why) = slow_namespace() {
            skip(&why);
            return;
        }
        on_both("127.0.0.1:0", |subject| {
            let client = client_of(subject.addr);
            subject.gate.close();
            for _ in 0..REPLIES {
                client.send(b"long 60000").unwrap();
            }
            subject.gate.wait_for(1);
            subject.gate.open();
            for _ in 0..REPLIES {
                assert_eq!(receive(&client).len(), 60_000);
            }
            let totals = subject.workers.totals();
            assert_eq!((totals.replied, totals.send_errors), (REPLIES, 0));
        });
    };
    // The namespace belongs to this thread and to the threads that it starts.
    std::thread::spawn(in_namespace).join().unwrap();
}

fn slow_namespace() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("a network namespace cannot be made: {error}"))?;
    for command in [
        "ip link set lo up",
        "tc qdisc add dev lo root tbf rate 200mbit burst 100kb limit 16mb",
    ] {
        let mut words = command.split(' ');
        let program = words.next().unwrap_or_default();
        let done = std::process::Command::new(program).args(words).status();
        if !done.is_ok_and(|status| status.success()) {
            return Err(format!("{command:?} does not work here"));
        }
    }
    Ok(())
}

#[test]
fn a_wildcard_socket_answers_from_the_requested_address() {
    on_both("0.0.0.0:0", |subject| {
        for host in [1, 2, 77] {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(TIMEOUT)).unwrap();
            let asked = SocketAddr::from(([127, 0, 0, host], subject.addr.port()));
            // A burst, so that GSO batches are tested too.
            for _ in 0..40 {
                client.send_to(b"who", asked).unwrap();
            }
            let mut reply = [0; 8];
            for _ in 0..40 {
                let (len, from) = client.recv_from(&mut reply).unwrap();
                assert_eq!((&reply[..len], from), (&b"who"[..], asked));
            }
        }
        assert_eq!(subject.workers.totals().send_errors, 0);
    });
}

#[test]
fn dual_stack() {
    on_both("[::]:0", |subject| {
        let port = subject.addr.port();
        for (local, asked) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("127.0.0.1:0", "127.0.0.2"),
            ("[::1]:0", "::1"),
        ] {
            let client = UdpSocket::bind(local).unwrap();
            client.set_read_timeout(Some(TIMEOUT)).unwrap();
            let asked = SocketAddr::new(asked.parse().unwrap(), port);
            for _ in 0..10 {
                client.send_to(b"who", asked).unwrap();
            }
            let mut reply = [0; 8];
            for _ in 0..10 {
                let (len, from) = client.recv_from(&mut reply).unwrap();
                assert_eq!((&reply[..len], from), (&b"who"[..], asked));
            }
            client.send_to(b"", asked).unwrap();
            subject.wait_for("the empty one", |_| {
                subject.workers.counters()[0].last_rejected(Reject::BadFourcc)
                    == client.local_addr().ok()
            });
        }
        assert_eq!(subject.workers.totals().send_errors, 0);
    });
}

#[test]
fn ipv6_loopback() {
    on_both("[::1]:0", |subject| {
        subject.ping();
        let client = client_of(subject.addr);
        for i in 0..100u32 {
            client.send(&i.to_le_bytes()).unwrap();
        }
        for i in 0..100u32 {
            assert_eq!(receive(&client), i.to_le_bytes());
        }
    });
}

#[test]
fn a_port_in_use_is_an_error() {
    on_both("127.0.0.1:0", |subject| {
        for workers in [1, 2] {
            let error = engine::bind(subject.addr, workers).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains("Address already in use"));
        }
        subject.ping();
    });
}

/// Binds a socket without the engine. While another test starts a process, that process has copies
/// of this one's sockets until it executes its program.
fn bind_soon(addr: SocketAddr) -> UdpSocket {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match UdpSocket::bind(addr) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            bound => return bound.expect("the port is free"),
        }
    }
}

#[test]
fn a_port_can_be_served_again_immediately() {
    for kind in [Some(EngineKind::Uring), Some(EngineKind::Mmsg)] {
        let Some(mut subject) = start_or_skip(kind, "127.0.0.1:0", 2) else {
            continue;
        };
        for _ in 0..10 {
            let addr = subject.addr;
            subject.ping();
            subject.workers.stop().unwrap();
            drop(bind_soon(addr));
            subject = Subject::start(kind, &addr.to_string(), 2).unwrap();
        }
    }
}

#[test]
fn a_new_snapshot_is_used_for_the_next_datagram_and_the_old_one_released() {
    on_both("127.0.0.1:0", |subject| {
        let client = client_of(subject.addr);
        for _ in 0..20 {
            let old = subject.published.load_full();
            assert_eq!(ask(&client, b"served"), identity(&old).as_bytes());
            let new = served();
            drop(subject.published.swap(Arc::clone(&new)));
            assert_eq!(ask(&client, b"served"), identity(&new).as_bytes());
            // The test has the last reference.
            assert_eq!(Arc::strong_count(&old), 1);

            // The same without a datagram, by a wake-up.
            let newer = served();
            drop(subject.published.swap(newer));
            assert!(Arc::strong_count(&new) > 1, "the idle worker has it");
            subject.workers.wake();
            subject.wait_for("letting go", |_| Arc::strong_count(&new) == 1);
        }
        assert!(subject.workers.totals().wakes >= 20);
    });
}

#[test]
fn stopping_is_prompt() {
    for kind in [Some(EngineKind::Uring), Some(EngineKind::Mmsg)] {
        for busy in [false, true] {
            let Some(subject) = start_or_skip(kind, "127.0.0.1:0", 2) else {
                continue;
            };
            let client = client_of(subject.addr);
            if busy {
                for _ in 0..1_000 {
                    client.send(b"busy").unwrap();
                }
            }
            let start = Instant::now();
            subject.workers.stop().unwrap();
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "{:?}",
                start.elapsed()
            );
        }
    }
}

#[test]
fn several_workers_share_the_load() {
    for kind in [Some(EngineKind::Uring), Some(EngineKind::Mmsg)] {
        let Some(subject) = start_or_skip(kind, "127.0.0.1:0", 4) else {
            continue;
        };
        for _ in 0..200 {
            let client = client_of(subject.addr);
            assert_eq!(ask(&client, b"hello"), b"hello");
        }
        subject.wait_for("replies", |t| t.replied == 200);
        let busy: Vec<u64> = subject
            .workers
            .counters()
            .iter()
            .map(|counters| counters.snapshot().received)
            .collect();
        assert!(busy.iter().all(|received| *received > 0), "{busy:?}");
        let names: HashSet<String> = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect();
        assert!(
            (0..4).all(|i| names.contains(&format!("confd-{i}"))),
            "{names:?}"
        );
        subject.workers.stop().unwrap();
    }
}

/// A worker that ends for any reason is noticed.
#[test]
fn a_worker_that_dies_is_noticed() {
    for kind in [Some(EngineKind::Uring), Some(EngineKind::Mmsg)] {
        let Some(subject) = start_or_skip(kind, "127.0.0.1:0", 1) else {
            continue;
        };
        assert_eq!(subject.workers.failed(), None);
        client_of(subject.addr).send(b"panic").unwrap();
        let event = subject.workers.failure_fd().try_clone_to_owned().unwrap();
        let mut event = std::fs::File::from(event);
        let deadline = Instant::now() + TIMEOUT;
        while event.read(&mut [0; 8]).is_err() {
            assert!(Instant::now() < deadline, "the descriptor becomes readable");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(
            subject.workers.failed().as_deref(),
            Some("worker confd-0: panicked")
        );
        subject.workers.stop().unwrap();
    }
}

#[test]
fn auto_uses_io_uring_where_it_is_allowed() {
    let subject = start_or_skip(None, "127.0.0.1:0", 1).unwrap();
    subject.ping();
    match subject.workers.kind() {
        EngineKind::Uring => assert_eq!(subject.workers.fallback_reason(), None),
        EngineKind::Mmsg => {
            let reason = subject.workers.fallback_reason().expect("a reason");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
            eprintln!("fell back: {reason}");
        }
    }
}

/// The scanner needs its padding after the longest request.
#[test]
fn padding_follows_the_longest_request() {
    struct Padded;
    impl Handler for Padded {
        fn handle(
            &mut self,
            datagram: Datagram<'_>,
            _now: u64,
            _served: &Served,
            out: &mut [u8],
        ) -> Result<ReplyInfo, Reject> {
            // `Datagram::new` checks the padding; a panic here would end the worker.
            out[..2].copy_from_slice(&(datagram.len() as u16).to_le_bytes());
            Ok(ReplyInfo {
                len: 2,
                kind: 0,
                is_error: false,
                too_large: false,
            })
        }
    }
    for kind in [None, Some(EngineKind::Mmsg)] {
        let sockets = engine::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let published = Arc::new(ArcSwap::new(served()));
        let workers = engine::start(sockets, kind, &published, || Padded).unwrap();
        let client = client_of(workers.local_addr());
        let reply = ask(&client, &vec![0; REQUEST_BYTES_MAX]);
        assert_eq!(reply, (REQUEST_BYTES_MAX as u16).to_le_bytes());
        assert_eq!(workers.failed(), None);
    }
}

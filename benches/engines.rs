//! What a request costs the server beyond a bare echo, by engine: CPU time and rate.
//!
//! All servers run in turns in one process, each on a thread of its own on the first core; the client is on the second. A round
//! sends a number of requests and takes their replies; the median of the rounds counts. CPU time is that of the server's
//! thread, user and system, as the scheduler accounts it. On loopback it contains the delivery of the reply to the client's
//! socket, as the sender does that work there.
//!
//! The echoes send every datagram back as it came. `ring echo` is this crate's engine with an answerer that copies, sending one by one;
//! `ring echo, trains` is the same as it is used, with one send for several replies to one peer;
//! `blocking`, `mmsg` and `tokio-uring` are written here, as plainly as they can be, so that the engines are not measured against
//! themselves alone.
//!
//! `cargo bench --bench engines`; it takes about a minute. With Debian's `ganeti-haskell-3.0` it measures the reference daemon as well.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use ganeti_confd::demo;
use ganeti_confd::engine::{self, Answer, Choice, Workers};
use ganeti_confd::protocol::{Key, Reject, signed_message};
use ganeti_confd::responder::{Datagram, Reply, Responder, Served};
use ganeti_confd::snapshot::Snapshot;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use nix::unistd::{Pid, gettid};
use tokio_uring::buf::BoundedBuf as _;

const KEY: &[u8] = b"a key for benchmarks";
const REFERENCE: &str = "/usr/lib/ganeti/3.0/usr/sbin/ganeti-confd";
/// The server that the others are compared with: an echo on this crate's ring that sends one by one.
const FLOOR: &str = "ring echo";
const ROUNDS: usize = 7;
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What does not come back within this time is lost, and asked again.
const LOST: Duration = Duration::from_millis(200);
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// The client sends several requests in one call, cut into datagrams by the kernel: or it would be slower than the servers.
const TRAIN_MAX: usize = 64;

/// What the client does.
struct Load {
    name: &'static str,
    sockets: usize,
    in_flight: usize,
    requests: usize,
}

const LOADS: [Load; 4] = [
    Load {
        name: "many clients (512 sockets, one request each in flight)",
        sockets: 512,
        in_flight: 512,
        requests: 100_000,
    },
    Load {
        name: "scattered clients (64 sockets, 512 in flight)",
        sockets: 64,
        in_flight: 512,
        requests: 100_000,
    },
    Load {
        name: "one client (1 socket, 512 in flight)",
        sockets: 1,
        in_flight: 512,
        requests: 100_000,
    },
    Load {
        name: "one request at a time",
        sockets: 1,
        in_flight: 1,
        requests: 10_000,
    },
];

/// A server, ready to be asked.
struct Server {
    name: &'static str,
    address: SocketAddr,
    tasks: Tasks,
}

/// Where its CPU time is read.
enum Tasks {
    Thread(Pid),
    Process(
        Child,
        #[expect(dead_code, reason = "removed when dropped")] tempfile::TempDir,
    ),
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Self::Process(child, _) = self {
            // It may have ended already; there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Server {
    fn cpu(&self) -> Duration {
        let (process, only) = match &self.tasks {
            Tasks::Thread(thread) => ("self".to_owned(), Some(thread.to_string())),
            Tasks::Process(child, _) => (child.id().to_string(), None),
        };
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
        let nanoseconds = tasks
            .flatten()
            .filter(|task| {
                only.as_ref()
                    .is_none_or(|only| task.file_name() == only.as_str())
            })
            .filter_map(|task| {
                let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
                text.split_whitespace().next()?.parse::<u64>().ok()
            });
        Duration::from_nanos(nanoseconds.sum())
    }
}

/// A loopback socket that holds all that is in flight.
fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a port");
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
    }
    socket
}

fn pin(thread: Pid, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a small number");
    if let Err(error) = sched_setaffinity(thread, &cores) {
        eprintln!("cannot use core {core} alone: {error}");
    }
}

/// Runs an echo on a thread of its own.
fn on_thread(
    name: &'static str,
    serve: impl FnOnce(UdpSocket, &dyn Fn()) + Send + 'static,
) -> Server {
    let (ready, started) = channel();
    thread::spawn(move || {
        let socket = bind();
        let address = socket.local_addr().expect("it is bound");
        let tell = move || announce(&ready, address);
        serve(socket, &tell);
    });
    let (thread, address) = started.recv().expect("it starts");
    pin(thread, SERVER_CORE);
    Server {
        name,
        address,
        tasks: Tasks::Thread(thread),
    }
}

fn announce(ready: &Sender<(Pid, SocketAddr)>, address: SocketAddr) {
    ready.send((gettid(), address)).expect("main waits");
}

/// One datagram after the other.
fn blocking(socket: UdpSocket, ready: &dyn Fn()) {
    ready();
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).expect("loopback works");
        socket
            .send_to(&buffer[..len], from)
            .expect("loopback works");
    }
}

/// Up to 64 datagrams with each call.
fn mmsg(socket: UdpSocket, ready: &dyn Fn()) {
    const BATCH: usize = 64;
    ready();
    let mut buffers = vec![[0_u8; 2048]; BATCH];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut answers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    loop {
        let mut received = Vec::with_capacity(BATCH);
        {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers
                .iter_mut()
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let flags = MsgFlags::MSG_WAITFORONE;
            let messages = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, flags, None);
            for message in messages.expect("loopback works") {
                received.push((message.bytes, message.address));
            }
        }
        let slices: Vec<[IoSlice<'_>; 1]> = buffers
            .iter()
            .zip(&received)
            .map(|(buffer, (len, _))| [IoSlice::new(&buffer[..*len])])
            .collect();
        let addresses: Vec<_> = received.iter().map(|(_, address)| *address).collect();
        let flags = MsgFlags::empty();
        sendmmsg(
            socket.as_raw_fd(),
            &mut answers,
            &slices,
            &addresses,
            [],
            flags,
        )
        .expect("loopback works")
        .for_each(drop);
    }
}

/// As many receives in flight as a batch has datagrams.
fn tokio_uring(socket: UdpSocket, ready: &dyn Fn()) {
    const TASKS: usize = 64;
    tokio_uring::start(async {
        let socket = Rc::new(tokio_uring::net::UdpSocket::from_std(socket));
        for _ in 0..TASKS {
            let socket = Rc::clone(&socket);
            tokio_uring::spawn(async move {
                let mut buffer = vec![0; 2048];
                loop {
                    let (received, all) = socket.recv_from(buffer).await;
                    let (len, from) = received.expect("loopback works");
                    let (sent, slice) = socket.send_to(all.slice(..len), from).await;
                    sent.expect("loopback works");
                    buffer = slice.into_inner();
                }
            });
        }
        ready();
        std::future::pending::<()>().await;
    });
}

/// Sends every datagram back.
struct Echo;

impl Answer for Echo {
    fn answer(
        &mut self,
        datagram: Datagram<'_>,
        _now: u64,
        _served: &Served,
        out: &mut [u8],
    ) -> Result<Reply, Reject> {
        let len = datagram.len();
        out[..len].copy_from_slice(datagram.bytes());
        Ok(Reply {
            len,
            kind: 0,
            too_large: false,
        })
    }
}

/// Whether several replies to one peer leave in one send (`UDP_SEGMENT`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trains {
    Yes,
    No,
}

/// One worker of an engine; `None` if this kernel refuses it.
fn worker<A: Answer + Send + 'static>(
    name: &'static str,
    choice: Choice,
    trains: Trains,
    served: &Arc<ArcSwap<Served>>,
    make: fn() -> A,
) -> Option<(Server, Workers)> {
    let before = threads();
    let address = "127.0.0.1:0".parse().expect("an address");
    let mut sockets = engine::bind(address, 1).expect("loopback has a port");
    if trains == Trains::No {
        sockets = sockets.one_by_one();
    }
    let workers = match engine::start(sockets, choice, served, make) {
        Ok(workers) => workers,
        Err(error) => {
            eprintln!("{name}: {error}");
            return None;
        }
    };
    let thread = threads()
        .into_iter()
        .find(|thread| !before.contains(thread));
    let thread = Pid::from_raw(thread.expect("the worker's thread"));
    pin(thread, SERVER_CORE);
    let server = Server {
        name,
        address: workers.local_addr(),
        tasks: Tasks::Thread(thread),
    };
    Some((server, workers))
}

fn threads() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

/// The reference daemon on the same cluster, if it is installed.
fn reference(configuration: &str) -> Option<Server> {
    if !Path::new(REFERENCE).exists() {
        return None;
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    for directory in ["var/lib/ganeti", "var/run/ganeti", "var/log/ganeti"] {
        std::fs::create_dir_all(root.path().join(directory)).expect("a directory");
    }
    let data = root.path().join("var/lib/ganeti");
    std::fs::write(data.join("config.data"), configuration).expect("a file");
    std::fs::write(data.join("hmac.key"), KEY).expect("a file");
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = free.expect("a free port");
    let child = Command::new(REFERENCE)
        .args(["-f", "--no-user-checks", "-b", "127.0.0.1", "-p"])
        .arg(address.port().to_string())
        .env("GANETI_ROOTDIR", root.path())
        .env("GANETI_HOSTNAME", "localhost")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the daemon starts");
    pin(Pid::from_raw(child.id() as i32), SERVER_CORE);
    let server = Server {
        name: "reference",
        address,
        tasks: Tasks::Process(child, root),
    };
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a port");
    socket.connect(address).expect("loopback works");
    let patience = Some(Duration::from_millis(50));
    socket.set_read_timeout(patience).expect("not zero");
    let ready = (0..200).any(|_| {
        let sent = socket.send(&request());
        let answered = sent.is_ok() && socket.recv(&mut [0; 2048]).is_ok();
        if !answered {
            thread::sleep(Duration::from_millis(10));
        }
        answered
    });
    ready.then_some(server)
}

/// A ping, signed now.
fn request() -> Vec<u8> {
    let key = Key::new(KEY).expect("not empty");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("a clock after 1970").as_secs();
    let message =
        r#"{"protocol":1,"type":0,"query":null,"rsalt":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}"#;
    signed_message::request(&key, now, message)
}

/// What a round of a load gave.
struct Round {
    /// The server's CPU time for each request, in microseconds.
    cpu: f64,
    /// Requests answered in a second.
    rate: f64,
    /// The median round trip in microseconds, if requests went one by one.
    round_trip: f64,
    /// Lost datagrams, in percent of the requests.
    lost: f64,
}

fn round(server: &Server, load: &Load) -> Round {
    let sockets: Vec<UdpSocket> = (0..load.sockets)
        .map(|_| {
            let socket = bind();
            socket.connect(server.address).expect("loopback works");
            socket
                .set_nonblocking(load.in_flight > 1)
                .expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
            socket
        })
        .collect();
    let request = request();
    let (before, begin) = (server.cpu(), Instant::now());
    let (round_trip, lost) = if load.in_flight == 1 {
        (one_at_a_time(&sockets[0], &request, load.requests), 0)
    } else {
        (f64::NAN, keep_in_flight(&sockets, &request, load))
    };
    let (cpu, took) = (server.cpu() - before, begin.elapsed());
    let requests = load.requests as f64;
    Round {
        cpu: cpu.as_secs_f64() * 1e6 / requests,
        rate: requests / took.as_secs_f64(),
        round_trip,
        lost: lost as f64 / requests * 100.0,
    }
}

fn one_at_a_time(socket: &UdpSocket, request: &[u8], count: usize) -> f64 {
    let mut reply = [0; 2048];
    let mut round_trips: Vec<f64> = (0..count)
        .map(|_| {
            let begin = Instant::now();
            socket.send(request).expect("loopback works");
            let len = socket.recv(&mut reply).expect("a reply");
            let took = begin.elapsed();
            assert!(reply[..len].starts_with(b"plj0{"));
            took.as_secs_f64() * 1e6
        })
        .collect();
    median(&mut round_trips)
}

/// Sends a request for every reply, until all are answered.
///
/// Gives the number of those that were asked again, as nothing came.
fn keep_in_flight(sockets: &[UdpSocket], request: &[u8], load: &Load) -> usize {
    let each = load.in_flight / sockets.len();
    let train = request.repeat(TRAIN_MAX);
    let send = |socket: &UdpSocket, mut count: usize| {
        while count > 0 {
            let now = count.min(TRAIN_MAX);
            let bytes = &train[..now * request.len()];
            socket.send(bytes).expect("loopback works");
            count -= now;
        }
    };
    let (mut sent, mut answered, mut lost) = (0, 0, 0);
    for socket in sockets {
        setsockopt(socket, sockopt::UdpGsoSegment, &(request.len() as i32)).expect("Linux 4.18");
        send(socket, each);
        sent += each;
    }
    let mut reply = [0; 2048];
    let mut last = Instant::now();
    while answered < load.requests {
        let mut any = false;
        for socket in sockets {
            let mut free = 0;
            loop {
                match socket.recv(&mut reply) {
                    Ok(len) => {
                        assert!(reply[..len].starts_with(b"plj0{"));
                        free += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            answered += free;
            any |= free > 0;
            let next = free.min(load.requests.saturating_sub(sent));
            send(socket, next);
            sent += next;
        }
        if any {
            last = Instant::now();
        } else if last.elapsed() > LOST {
            // A socket's queue was full.
            assert!(lost < load.requests, "the server does not answer");
            for socket in sockets.iter().cycle().take(sent - answered) {
                socket.send(request).expect("loopback works");
                lost += 1;
            }
            last = Instant::now();
        }
    }
    lost
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    pin(gettid(), CLIENT_CORE);
    let configuration = demo::configuration(3, 10, 1);
    let loaded = Snapshot::load(configuration.as_bytes()).expect("a sample cluster is valid");
    let served = Arc::new(ArcSwap::from_pointee(Served {
        key: Arc::new(Key::new(KEY).expect("not empty")),
        snapshot: Arc::new(loaded.snapshot),
    }));
    let engines: Vec<_> = [
        worker(FLOOR, Choice::Uring, Trains::No, &served, || Echo),
        worker(
            "ring echo, trains",
            Choice::Uring,
            Trains::Yes,
            &served,
            || Echo,
        ),
        worker("uring", Choice::Uring, Trains::Yes, &served, Responder::new),
        worker("mmsg", Choice::Mmsg, Trains::Yes, &served, Responder::new),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (engines, workers): (Vec<Server>, Vec<Workers>) = engines.into_iter().unzip();
    let mut servers = vec![
        on_thread("blocking echo", blocking),
        on_thread("mmsg echo", mmsg),
        on_thread("tokio-uring echo", tokio_uring),
    ];
    servers.extend(engines);
    servers.extend(reference(&configuration));

    for load in &LOADS {
        let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (server, rounds) in servers.iter().zip(&mut rounds) {
                let is_slow = server.name == "reference";
                // Its socket holds no more in flight, and it takes its time.
                let share = if is_slow { 20 } else { 1 };
                let load = Load {
                    requests: load.requests / share,
                    in_flight: (load.in_flight / share.min(8)).max(1),
                    sockets: if is_slow {
                        load.sockets.min(64)
                    } else {
                        load.sockets
                    },
                    ..*load
                };
                rounds.push(round(server, &load));
            }
        }
        print(load, &servers, &rounds);
    }
    drop(workers);
}

fn print(load: &Load, servers: &[Server], rounds: &[Vec<Round>]) {
    let of = |index: usize, value: fn(&Round) -> f64| {
        median(&mut rounds[index].iter().map(value).collect::<Vec<_>>())
    };
    let floor = servers.iter().position(|server| server.name == FLOOR);
    let floor = floor.map_or(f64::NAN, |index| of(index, |round| round.cpu));
    println!("\n{}", load.name);
    let last = if load.in_flight == 1 {
        "round trip, us"
    } else {
        "lost, %"
    };
    println!(
        "{:20}{:>12}{:>14}{:>12}{last:>16}",
        "", "CPU, us", "/ ring echo", "per second"
    );
    for (index, server) in servers.iter().enumerate() {
        let cpu = of(index, |round| round.cpu);
        let rate = of(index, |round| round.rate);
        print!(
            "{:20}{cpu:12.2}{:14.2}{rate:12.0}",
            server.name,
            cpu / floor
        );
        if load.in_flight == 1 {
            print!("{:16.1}", of(index, |round| round.round_trip));
        } else {
            print!("{:16.2}", of(index, |round| round.lost));
        }
        println!();
    }
}

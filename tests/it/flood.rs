//! Hostile traffic on running daemons, with a legitimate client beside it. The client is answered,
//! nobody unauthenticated is, and the floods leave nothing but counts.
//!
//! A flood has one of two paces. In step, the senders wait regularly until the daemon has caught
//! up, so no queue overflows and every datagram is accounted for, by reason. At full speed the
//! kernel drops datagrams at a full socket queue, including the client's. The client repeats these,
//! and there must not be more missing replies than dropped datagrams.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ganeti_confd::demo;
use ganeti_confd::protocol::Reject;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::{Kind, Reply, Subject, now, request_datagram, subjects};

const KEY: &[u8] = b"flood\n";
const SENDERS: u64 = 2;

/// Datagrams of one sender in a flood in step.
const DATAGRAMS_IN_STEP: usize = 1_000;
/// Requests that are replayed, and addresses that replay them.
const REPLAYED: usize = 100;
const REPLAYERS: u8 = 10;
/// Duration of a flood at full speed.
const FULL_SPEED: Duration = Duration::from_millis(150);
const FULL_SPEED_MIX: Duration = Duration::from_millis(1_000);

/// Distinct datagrams of one sort per sender.
const VARIANTS: usize = 32;

/// Senders of long datagrams that touch all memory that the daemon has allocated, and the duration
/// for each.
const WARM_SENDERS: u64 = 12;
const WARM: Duration = Duration::from_millis(100);

/// Sockets for which every worker receives at least one: the kernel distributes sockets by their
/// port.
const SOCKETS: usize = 64;

/// Interval between two requests of the legitimate client.
const PAUSE: Duration = Duration::from_millis(2);
/// Its timeout before it repeats a request, and the number of attempts.
const REPLY_TIMEOUT: Duration = Duration::from_millis(200);
const TRIES_MAX: usize = 100;

/// Timeout for everything that must happen; generous, because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Growth of the daemon's memory that is allowed in a repeated flood, for rounding by allocator and
/// kernel.
const RSS_GROWTH_KIB_MAX: u64 = 1_024;

/// Sorts of invalid datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Garbage,
    Fourcc,
    Empty,
    Huge,
    Envelope,
    Forged,
    Stale,
    Future,
    NoRequest,
}

impl Sort {
    const ALL: [Self; 9] = [
        Self::Garbage,
        Self::Fourcc,
        Self::Empty,
        Self::Huge,
        Self::Envelope,
        Self::Forged,
        Self::Stale,
        Self::Future,
        Self::NoRequest,
    ];

    const fn reject(self) -> Reject {
        match self {
            Self::Garbage | Self::Fourcc | Self::Empty => Reject::BadFourcc,
            Self::Huge => Reject::TooLong,
            Self::Envelope => Reject::BadEnvelope,
            Self::Forged => Reject::BadHmac,
            Self::Stale | Self::Future => Reject::ClockSkew,
            Self::NoRequest => Reject::BadRequest,
        }
    }

    /// Datagrams that one sender may have queued. Those of all senders fit into Linux's default
    /// receive buffer of 208 KiB.
    const fn window(self) -> usize {
        match self {
            Self::Huge => 1,
            _ => 32,
        }
    }

    fn datagram(self, rng: &mut Rng) -> Vec<u8> {
        let ping = ping("attacker");
        let good = |key: &[u8], salt: u64, message: &str| {
            request_datagram(key, &salt.to_string(), message)
        };
        match self {
            Self::Garbage => (0..rng.usize(1..1_500)).map(|_| rng.u8(..b'p')).collect(),
            Self::Fourcc => {
                let mut datagram = good(KEY, now(), &ping);
                datagram[rng.usize(..4)] ^= 1 << rng.u8(..8);
                datagram
            }
            Self::Empty => Vec::new(),
            Self::Huge => {
                let mut datagram = good(KEY, now(), &ping);
                datagram.resize(rng.usize(61_441..=65_507), b' ');
                datagram
            }
            Self::Envelope => {
                let mut datagram = good(KEY, now(), &ping);
                datagram.truncate(rng.usize(4..datagram.len()));
                datagram
            }
            Self::Forged if rng.bool() => good(b"other key", now(), &ping),
            Self::Forged => {
                // A signed ping that was changed afterwards.
                let datagram = String::from_utf8(good(KEY, now(), &ping)).expect("it is ASCII");
                datagram.replace("attacker", "foo").into_bytes()
            }
            // Both remain outside of the clock window for the duration of the test.
            Self::Stale => good(KEY, now() - 301 - rng.u64(..1_000), &ping),
            Self::Future => good(KEY, now() + 400 + rng.u64(..1_000), &ping),
            Self::NoRequest => good(KEY, now(), r#"{"protocol":1,"type":12,"rsalt":"attacker"}"#),
        }
    }
}

fn ping(rsalt: &str) -> String {
    format!(r#"{{"protocol":1,"type":0,"rsalt":"{rsalt}"}}"#)
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    InStep(usize),
    FullSpeed(Duration),
}

/// What a sender has sent and received.
#[derive(Debug, Default)]
struct Account {
    sent: u64,
    replies: u64,
    /// The number of sent datagrams that must be rejected, by reason.
    rejects: [u64; Reject::ALL.len()],
}

impl Account {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.replies += other.replies;
        for (sum, count) in self.rejects.iter_mut().zip(other.rejects) {
            *sum += count;
        }
    }
}

/// A sender: its socket and its account.
struct Caller {
    socket: UdpSocket,
    account: Account,
    /// Salts of requests without a reply so far.
    open: HashSet<String>,
    asked: usize,
}

impl Caller {
    fn new(subject: &Subject) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        socket.connect(subject.address()).expect("it is loopback");
        Self {
            socket,
            account: Account::default(),
            open: HashSet::new(),
            asked: 0,
        }
    }

    fn send(&mut self, datagram: &[u8]) {
        self.socket.send(datagram).expect("loopback takes it");
        self.account.sent += 1;
    }

    /// Sends a request. Returns the salt of its reply.
    fn ask(&mut self, mut question: Value) -> String {
        self.asked += 1;
        let rsalt = format!("{}", self.asked);
        question["protocol"] = json!(1);
        question["rsalt"] = json!(rsalt);
        self.send(&request_datagram(
            KEY,
            &now().to_string(),
            &question.to_string(),
        ));
        self.open.insert(rsalt.clone());
        rsalt
    }

    /// Receives until the reply with this salt arrives, or until the timeout. Everything received
    /// must be the first reply to one of the requests.
    fn reply(&mut self, rsalt: &str, timeout: Duration) -> Option<Value> {
        let deadline = Instant::now() + timeout;
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .expect("a time that is not zero");
            let len = match self.socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("receive: {error}"),
            };
            let reply =
                Reply::read(KEY, &buffer[..len]).expect("everything received is a signed reply");
            self.account.replies += 1;
            assert!(
                self.open.remove(&reply.salt),
                "an unsolicited or second reply with the salt {:?}",
                reply.salt
            );
            if reply.salt == rsalt {
                return Some(serde_json::from_str(&reply.message).expect("JSON"));
            }
        }
    }

    /// Waits until everything sent on this socket is processed: a worker takes datagrams in order.
    fn catch_up(&mut self) {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            let rsalt = self.ask(json!({"type": 0}));
            if self.reply(&rsalt, REPLY_TIMEOUT).is_some() {
                return;
            }
        }
        panic!("the daemon no longer answers");
    }

    /// Sends datagrams of these sorts. Only pings may be answered.
    fn flood(&mut self, sorts: &[Sort], pace: Pace, rng: &mut Rng) {
        let variants: Vec<_> = (0..VARIANTS * sorts.len())
            .map(|at| {
                let sort = sorts[at % sorts.len()];
                (sort, sort.datagram(rng))
            })
            .collect();
        let begin = Instant::now();
        let mut waiting = 0;
        for (count, (sort, datagram)) in variants.iter().cycle().enumerate() {
            match pace {
                Pace::InStep(datagrams) if count == datagrams => break,
                Pace::FullSpeed(time) if begin.elapsed() > time => break,
                _ => {}
            }
            self.send(datagram);
            self.account.rejects[sort.reject() as usize] += 1;
            waiting += 1;
            if matches!(pace, Pace::InStep(_)) && waiting >= sort.window() {
                self.catch_up();
                waiting = 0;
            }
        }
        self.catch_up();
    }

    /// Sends requests, replays each from one of several other addresses, and retransmits it, which
    /// is answered as well.
    fn ask_and_replay(&mut self, count: usize) {
        let replayers = (2..2 + REPLAYERS)
            .map(|host| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)))
            .map(|socket| socket.expect("all of 127/8 is here"))
            .collect::<Vec<_>>();
        let daemon = self.socket.peer_addr().expect("it is connected");
        for number in 0..count {
            let rsalt = format!("overheard {number}");
            let datagram = request_datagram(KEY, &now().to_string(), &ping(&rsalt));
            self.open.insert(rsalt.clone());
            self.send(&datagram);
            assert!(
                self.reply(&rsalt, TIMEOUT).is_some(),
                "the first is answered"
            );
            replayers[number % replayers.len()]
                .send_to(&datagram, daemon)
                .expect("loopback takes it");
            self.account.sent += 1;
            self.open.insert(rsalt.clone());
            self.send(&datagram);
            assert!(
                self.reply(&rsalt, TIMEOUT).is_some(),
                "a retransmission is answered"
            );
        }
    }
}

/// The legitimate client: sends one request after the other until `done`. Returns the number of
/// repetitions.
fn ask_until(caller: &mut Caller, timeout: Duration, done: impl Fn() -> bool) -> usize {
    let master = demo::node_name(1);
    let questions = [
        (json!({"type": 0}), json!(3_000_000)),
        (json!({"type": 1, "query": master}), json!(0)),
        (json!({"type": 3}), json!(master)),
        (
            json!({"type": 10, "query": "/cluster/tags"}),
            json!(["demo"]),
        ),
    ];
    let mut again = 0;
    for (question, answer) in questions.iter().cycle() {
        let reply = (0..TRIES_MAX).find_map(|attempt| {
            again += usize::from(attempt > 0);
            let rsalt = caller.ask(question.clone());
            caller.reply(&rsalt, timeout)
        });
        let reply = reply.expect("every request is answered after some attempts");
        assert_eq!((&reply["status"], &reply["answer"]), (&json!(0), answer));
        if done() {
            return again;
        }
        // The client's pace; nothing waits for the daemon here.
        thread::sleep(PAUSE);
    }
    unreachable!("a cycle does not end")
}

/// The daemon's counters, summed over all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    received: u64,
    replied: u64,
    send_errors: u64,
    malformed: u64,
    overruns: u64,
    rejects: [u64; Reject::ALL.len()],
}

impl Totals {
    /// Adds the counters of one worker from a log line.
    fn add(&mut self, line: &str) {
        // A drop reason that is not listed has the count 0.
        let value = |name: &str| -> u64 {
            let (_, after) = line.split_once(&format!(" {name}=")).unwrap_or(("", "0"));
            let digits = after.split_whitespace().next();
            digits.and_then(|d| d.parse().ok()).expect("a number")
        };
        self.received += value("received");
        self.replied += value("replied");
        self.send_errors += value("send_errors");
        self.malformed += value("malformed");
        self.overruns += value("overruns");
        for (sum, reason) in self.rejects.iter_mut().zip(Reject::ALL) {
            *sum += value(&format!("dropped_{}", reason.name()));
        }
    }

    /// Whether every received datagram was answered or rejected.
    fn add_up(&self) -> bool {
        self.received == self.replied + self.rejects.iter().sum::<u64>()
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received - before.received,
            replied: self.replied - before.replied,
            send_errors: self.send_errors - before.send_errors,
            malformed: self.malformed - before.malformed,
            overruns: self.overruns - before.overruns,
            rejects: std::array::from_fn(|at| self.rejects[at] - before.rejects[at]),
        }
    }
}

/// The daemon as its administrator sees it: log, signals and memory.
struct Observed<'a> {
    subject: &'a Subject,
    pid: i32,
    log_file: PathBuf,
    workers: usize,
}

impl<'a> Observed<'a> {
    fn new(subject: &'a Subject) -> Self {
        let root = Path::new(subject.root());
        let pid = fs::read_to_string(root.join("var/run/ganeti/ganeti-confd.pid"));
        let pid = pid.expect("a running daemon has a pid file");
        let mut observed = Self {
            subject,
            pid: pid.trim_end().parse().expect("a pid"),
            log_file: root.join("var/log/ganeti/conf-daemon.log"),
            workers: 0,
        };
        // The daemon may answer before it logs this line.
        let mut workers = None;
        observed.wait_for(|log| {
            let serving = log.split_once("/udp, ");
            workers = serving
                .and_then(|(_, serving)| serving.split_once(" workers"))
                .map(|(workers, _)| workers.parse().expect("a number"));
            workers.is_some()
        });
        observed.workers = workers.expect("the line was awaited");
        observed.await_rest();
        observed
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log_file).expect("the log is readable")
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("it runs");
    }

    fn wait_for(&self, mut condition: impl FnMut(&str) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !condition(&self.log()) {
            assert!(Instant::now() < deadline, "no such log line");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn totals(&self) -> Totals {
        let before = self.log().len();
        self.signal(Signal::SIGUSR1);
        let mut totals = Totals::default();
        self.wait_for(|log| {
            let new = log[before..].split_inclusive('\n');
            let lines: Vec<_> = new
                .filter(|line| line.contains("Counters of worker") && line.ends_with('\n'))
                .collect();
            totals = Totals::default();
            lines.iter().for_each(|line| totals.add(line));
            lines.len() >= self.workers
        });
        totals
    }

    /// Waits until the pings from the daemon's start are processed and counted. Each worker takes
    /// its datagrams in order, and every worker has one of these sockets.
    fn await_rest(&self) {
        for _ in 0..SOCKETS {
            Caller::new(self.subject).catch_up();
        }
        self.at_rest();
    }

    /// The totals once every received datagram is counted as answered or rejected. A reply may
    /// arrive before it is counted.
    fn at_rest(&self) -> Totals {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let totals = self.totals();
            if totals.add_up() {
                return totals;
            }
            assert!(Instant::now() < deadline, "the counters do not add up");
        }
    }

    /// The growth of the totals once every received datagram and `replies` replies are counted.
    fn settled(&self, before: &Totals, replies: u64) -> Totals {
        self.settled_at(before, |growth| growth.replied == replies)
    }

    /// As [`Observed::settled`], for the growth that `complete` recognizes.
    fn settled_at(&self, before: &Totals, complete: impl Fn(&Totals) -> bool) -> Totals {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let growth = self.totals().since(before);
            if growth.add_up() && complete(&growth) {
                return growth;
            }
            assert!(
                Instant::now() < deadline,
                "{:?} counted {growth:?}",
                self.subject.kind
            );
        }
    }

    fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// Fills every receive buffer with long datagrams: their memory is allocated at the start, but
    /// resident only once it is used. All datagrams of a socket go to the same worker.
    fn warm_up(&self) {
        for seed in 0..WARM_SENDERS {
            let mut attacker = Caller::new(self.subject);
            let pace = Pace::FullSpeed(WARM);
            attacker.flood(&[Sort::Huge], pace, &mut Rng::with_seed(seed));
        }
    }

    /// Runs floods of `sorts` beside the legitimate client, and checks all accounts.
    fn flood(&self, sorts: &[Sort], pace: Pace) {
        let before = self.at_rest();
        let mut client = Caller::new(self.subject);
        let timeout = match pace {
            Pace::InStep(_) => TIMEOUT,
            Pace::FullSpeed(_) => REPLY_TIMEOUT,
        };
        let (mut account, again) = thread::scope(|scope| {
            let attackers: Vec<_> = (0..SENDERS)
                .map(|seed| {
                    scope.spawn(move || {
                        let mut attacker = Caller::new(self.subject);
                        attacker.flood(sorts, pace, &mut Rng::with_seed(seed));
                        attacker
                    })
                })
                .collect();
            let over = || attackers.iter().all(thread::ScopedJoinHandle::is_finished);
            let again = ask_until(&mut client, timeout, over);
            client.catch_up();
            let mut account = Account::default();
            for attacker in attackers {
                account.add(&attacker.join().expect("attackers receive no reply").account);
            }
            (account, again)
        });
        account.add(&client.account);
        let growth = self.settled(&before, account.replies);
        let shown = || {
            format!(
                "{:?} {sorts:?} {pace:?}: {account:?}, {growth:?}",
                self.subject.kind
            )
        };
        assert_eq!(
            (growth.send_errors, growth.malformed),
            (0, 0),
            "{}",
            shown()
        );
        let dropped = account.sent.checked_sub(growth.received);
        let dropped = dropped.unwrap_or_else(|| panic!("more received than sent: {}", shown()));
        let rejects = account.rejects.iter().sum::<u64>();
        let unanswered = account.sent - rejects - account.replies;
        assert!(unanswered <= dropped, "{unanswered} lost: {}", shown());
        assert!(growth.overruns <= dropped, "{}", shown());
        let fewer = growth.rejects.iter().zip(account.rejects);
        assert!(fewer.clone().all(|(got, sent)| *got <= sent), "{}", shown());
        if let Pace::InStep(_) = pace {
            assert_eq!(growth.rejects, account.rejects, "{}", shown());
            assert_eq!((dropped, again), (0, 0), "{}", shown());
        }
    }
}

/// A cluster whose serial number is `generation`.
fn configuration(generation: u64) -> String {
    let text = demo::configuration(3, 10, 1);
    let mut config: Value = serde_json::from_str(&text).expect("sample clusters are JSON");
    config["cluster"]["serial_no"] = json!(generation);
    config.to_string()
}

/// This project's daemons, each with a small cluster.
fn daemons() -> impl Iterator<Item = Subject> {
    let ours = |kind: &Kind| matches!(kind, Kind::Uring | Kind::Mmsg);
    let config = configuration(1);
    let kinds = subjects().into_iter().filter(ours);
    kinds.map(move |kind| Subject::start(kind, Some(config.as_bytes()), KEY))
}

#[test]
fn in_step_every_datagram_is_accounted_for() {
    for subject in daemons() {
        let observed = Observed::new(&subject);
        for sort in Sort::ALL {
            observed.flood(&[sort], Pace::InStep(DATAGRAMS_IN_STEP));
        }
        observed.flood(&Sort::ALL, Pace::InStep(DATAGRAMS_IN_STEP));

        let before = observed.totals();
        let mut client = Caller::new(&subject);
        client.ask_and_replay(REPLAYED);
        let (asked, replayed) = (2 * REPLAYED as u64, REPLAYED as u64);
        let growth = observed.settled_at(&before, |growth| growth.received == asked + replayed);
        let dropped = growth.rejects[Reject::Replayed as usize];
        assert_eq!(growth.replied - asked, replayed - dropped);
        // One address in 65,536 is not distinguished from the first.
        let of_one_address = replayed / u64::from(REPLAYERS);
        assert!(dropped >= replayed - of_one_address, "{growth:?}");
    }
}

#[test]
fn at_full_speed_the_client_is_answered_and_memory_does_not_grow() {
    for subject in daemons() {
        let observed = Observed::new(&subject);
        let begin = Instant::now();
        observed.warm_up();
        let warm = observed.rss_kib();
        for sort in Sort::ALL {
            observed.flood(&[sort], Pace::FullSpeed(FULL_SPEED));
        }
        let new = Path::new(subject.root()).join("new");
        fs::write(&new, configuration(2)).expect("the directory is writable");
        let file = Path::new(subject.root()).join("var/lib/ganeti/config.data");
        fs::rename(new, file).expect("the directory is writable");
        observed.flood(&Sort::ALL, Pace::FullSpeed(FULL_SPEED_MIX));
        let grown = observed.rss_kib().saturating_sub(warm);
        assert!(
            grown <= RSS_GROWTH_KIB_MAX,
            "{:?}: {grown} KiB",
            subject.kind
        );

        let mut client = Caller::new(&subject);
        let rsalt = client.ask(json!({"type": 3}));
        let reply = client
            .reply(&rsalt, TIMEOUT)
            .expect("a reply after the flood");
        assert_eq!(
            reply["serial"], 2,
            "the configuration is reloaded during a flood"
        );

        let totals = observed.totals();
        observed.signal(Signal::SIGTERM);
        observed.wait_for(|log| log.contains("daemon shutdown"));
        check_log(&observed.log(), &totals, begin.elapsed());
    }
}

/// Checks that the log has at most one line per reason and interval, and that their counts add up.
fn check_log(log: &str, totals: &Totals, time: Duration) {
    // One report at the start and one at the end.
    let reports = 2 + time.as_secs() / 10;
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("Ignored "))
        .collect();
    let lines_max = reports as usize * Reject::ALL.len();
    assert!(lines.len() <= lines_max, "{} lines", lines.len());
    for reason in Reject::ALL {
        let counts = lines
            .iter()
            .filter(|line| line.contains(&reason.to_string()));
        let count = |line: &&&str| -> u64 {
            let (_, after) = line.split_once("Ignored ").expect("the line contains it");
            let digits = after.split(' ').next();
            digits.and_then(|d| d.parse().ok()).expect("a number")
        };
        let sum: u64 = counts.map(|line| count(&line)).sum();
        assert_eq!(sum, totals.rejects[reason as usize], "{reason:?}");
    }
    let others = log.lines().filter(|line| {
        !line.contains("Ignored ") && !line.contains("Counters of worker") && !line.is_empty()
    });
    let others: Vec<_> = others.collect();
    assert!(others.len() < 20, "{others:#?}");
}

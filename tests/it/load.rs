//! The load generator, by its command line: against our daemon on both engines, against the reference, and against servers that make
//! mistakes on purpose, to see each mistake counted. Loads are small: a second or so.

use crate::common::{Kind, Subject, reply_datagram, skip, subjects};
use ganeti_confd::demo;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KEY: &[u8] = b"a key for load tests\n";

const ALL_TYPES: &str =
    "ping,role,node-of,master,nodes,candidates,ips,drbd,instances-on,disks,config,collectors";

/// A generator that hangs is a failure, not a hanging test.
const RUN_SECONDS_MAX: u64 = 60;

/// A directory with a key file, and what runs of the generator write.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self::with_key(KEY)
    }

    fn with_key(key: &[u8]) -> Self {
        let desk = tempfile::tempdir().expect("a temporary directory");
        fs::write(desk.path().join("hmac.key"), key).expect("a fresh directory is writable");
        Self(desk)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn start(&self, servers: &[SocketAddr], arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confdctl"));
        command
            .arg("bench")
            .arg("--key-file")
            .arg(self.path().join("hmac.key"));
        for server in servers {
            command.args(["--server", &server.to_string()]);
        }
        command
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the generator can be run")
    }

    fn run(&self, servers: &[SocketAddr], arguments: &[&str]) -> Output {
        finish(self.start(servers, arguments))
    }

    /// The results of a run that must end well.
    fn json(&self, servers: &[SocketAddr], arguments: &[&str]) -> Value {
        let output = self.run(servers, &[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        parse(&output)
    }
}

fn finish(child: Child) -> Output {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if end
            .recv_timeout(Duration::from_secs(RUN_SECONDS_MAX))
            .is_err()
        {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
        }
    });
    let output = child.wait_with_output().expect("our child");
    let _ = ended.send(());
    guard.join().expect("the guard does not panic");
    output
}

fn parse(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no JSON: {error}: {output:?}"))
}

fn count(results: &Value, name: &str) -> u64 {
    results["load"]["counts"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} is counted in {results}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Our daemon on each engine, and the reference.
fn daemons() -> impl Iterator<Item = Subject> {
    let mut kinds = subjects();
    if !kinds.contains(&Kind::Reference) && Kind::Reference.is_here() {
        kinds.push(Kind::Reference);
    }
    let config = demo::configuration(3, 10, 1);
    kinds
        .into_iter()
        .filter(|kind| !matches!(kind, Kind::Address(_)))
        .map(move |kind| Subject::start(kind, Some(config.as_bytes()), KEY))
}

/// Ours, on whichever engine there is.
fn daemon() -> Subject {
    let config = demo::configuration(3, 10, 1);
    Subject::start(Kind::Mmsg, Some(config.as_bytes()), KEY)
}

#[test]
fn a_closed_loop_loses_nothing() {
    let desk = Desk::new();
    for daemon in daemons() {
        let arguments = [
            "--in-flight",
            "16",
            "--requests",
            "600",
            "--warm-up",
            "50ms",
            "--mix",
            ALL_TYPES,
        ];
        let results = desk.json(&[daemon.address()], &arguments);
        let kind = daemon.kind;
        assert_eq!(count(&results, "sent"), 600, "{kind:?}");
        assert_eq!(count(&results, "answered"), 600, "{kind:?}");
        for never in [
            "errors",
            "lost",
            "duplicated",
            "stray",
            "damaged",
            "refused",
        ] {
            assert_eq!(count(&results, never), 0, "{kind:?}: {never}");
        }
        assert_eq!(results["load"]["wrong"], 0, "{kind:?}");
        let types = results["load"]["types"].as_object().expect("types");
        assert_eq!(types.len(), 12, "each type was asked for");
        assert_histogram(&results["load"]["latency"], 600);
    }
}

/// The histogram holds as many requests as were answered, and agrees with the percentiles.
fn assert_histogram(latency: &Value, requests: u64) {
    let steps: Vec<(u64, u64)> =
        serde_json::from_value(latency["histogram"].clone()).expect("pairs of numbers");
    assert_eq!(steps.iter().map(|(_, count)| count).sum::<u64>(), requests);
    assert!(steps.is_sorted());
    let mut seen = 0;
    let median = steps.iter().find(|(_, count)| {
        seen += count;
        2 * seen >= requests
    });
    assert_eq!(latency["percentiles_ns"]["50"], median.expect("some").0);
    assert_eq!(latency["count"], requests);
}

#[test]
fn several_threads_and_segments_lose_nothing() {
    let daemon = daemon();
    for more in [
        &["--segment", "--sockets", "2"][..],
        &["--threads", "3", "--sockets", "7"],
        &["--batch", "1", "--verify", "1/4"],
    ] {
        let arguments = [
            &["--in-flight", "64", "--requests", "1000", "--warm-up", "0s"],
            more,
        ]
        .concat();
        let results = Desk::new().json(&[daemon.address()], &arguments);
        assert_eq!(count(&results, "answered"), 1000, "{more:?}");
        assert_eq!(results["load"]["wrong"], 0, "{more:?}");
        assert_eq!(results["load"]["counts"]["unsendable"], 0, "{more:?}");
    }
}

#[test]
fn silence_is_right_for_damaged_requests() {
    let desk = Desk::new();
    for daemon in daemons() {
        for shares in [
            &["--malformed", "0.5"][..],
            &["--bad-signature", "50%"],
            &["--stale", "0.5"],
            &[
                "--malformed",
                "0.2",
                "--bad-signature",
                "0.2",
                "--stale",
                "0.2",
            ],
        ] {
            let arguments = [
                shares,
                &["--in-flight", "8", "--requests", "200", "--warm-up", "0s"],
                &["--lost-after", "300ms", "--mix", "role,ping"],
            ]
            .concat();
            let results = desk.json(&[daemon.address()], &arguments);
            let kind = daemon.kind;
            let damaged = count(&results, "damaged");
            assert!(
                (50..180).contains(&damaged),
                "{kind:?} {shares:?}: {damaged}"
            );
            assert_eq!(count(&results, "silent"), damaged, "{kind:?} {shares:?}");
            assert_eq!(
                count(&results, "sent") + damaged,
                200,
                "{kind:?} {shares:?}"
            );
            assert_eq!(count(&results, "lost"), 0, "{kind:?} {shares:?}");
            assert_eq!(results["load"]["wrong"], 0, "{kind:?} {shares:?}");
        }
    }
}

#[test]
fn an_open_loop_holds_its_rate() {
    let daemon = daemon();
    for (arrivals, range) in [("constant", 500..=500), ("poisson", 400..=600)] {
        let arguments = [
            "--rate",
            "500",
            "--arrivals",
            arrivals,
            "--duration",
            "1s",
            "--warm-up",
            "100ms",
            "--threads",
            "2",
            "--measure",
            "50",
            "--seed",
            "7",
        ];
        let results = Desk::new().json(&[daemon.address()], &arguments);
        let sent = count(&results, "sent");
        assert!(
            range.contains(&(sent + count(&results, "unsent"))),
            "{sent}"
        );
        assert_eq!(count(&results, "answered") + count(&results, "lost"), sent);
        assert_eq!(results["offered_rate"], 500.0);
        let measured = &results["measure"]["counts"]["sent"];
        assert!(
            (45..=50).contains(&measured.as_u64().expect("a number")),
            "{measured}"
        );
        assert_eq!(results["load"]["schedule_lag"]["count"], sent);
        assert!(!results["series"].as_array().expect("points").is_empty());
    }
}

#[test]
fn names_come_from_a_file_or_from_the_cluster() {
    // Too large for a datagram: nodes are found by their DRBD peers, instances by their nodes.
    let config = demo::configuration(60, 200, 1);
    let daemon = Subject::start(Kind::Mmsg, Some(config.as_bytes()), KEY);
    let desk = Desk::new();
    fs::write(desk.path().join("config.data"), &config).expect("the directory is writable");
    for (source, queries) in [(&["--names-from", "config.data"][..], 460), (&[][..], 300)] {
        let arguments = [
            source,
            &["--mix", "role,disks,instances-on,node-of"],
            &["--in-flight", "4", "--requests", "200", "--warm-up", "0s"],
        ]
        .concat();
        let results = desk.json(&[daemon.address()], &arguments);
        assert_eq!(count(&results, "answered"), 200, "{source:?}");
        assert_eq!(count(&results, "errors"), 0, "{source:?}");
        let asked = results["queries"].as_u64().expect("a number");
        assert!(asked >= queries, "{source:?}: {asked} different questions");
    }
}

#[test]
fn recorded_requests_are_asked_again() {
    let daemon = daemon();
    let desk = Desk::new();
    let lines = [
        r#"{"protocol": 1, "type": 0, "query": null, "rsalt": "R"}"#,
        r#"{"request": "{\"protocol\": 1, \"type\": 1, \"query\": \"node2\", \"rsalt\": \"R\"}"}"#,
        r#"{"config": "no request"}"#,
        r#"plj0{"msg": "{\"protocol\": 1, \"type\": 9, \"query\": \"instance9.nowhere\", \"rsalt\": \"R\"}", "salt": "1", "hmac": "x"}"#,
    ];
    fs::write(desk.path().join("requests"), lines.join("\n")).expect("the directory is writable");
    let arguments = words("--replay requests --requests 30 --in-flight 3 --warm-up 0s");
    let results = desk.json(&[daemon.address()], &arguments);
    for kind in ["ping", "role", "disks"] {
        assert_eq!(results["load"]["types"][kind]["answered"], 10, "{kind}");
    }
    assert_eq!(count(&results, "errors"), 10, "of the instance nobody has");
    let notes = results["notes"].to_string();
    assert!(notes.contains("1 lines of the recording"), "{notes}");
}

#[test]
fn requirements_set_the_exit_status() {
    let daemon = daemon();
    let run = |requirement: &str| {
        let arguments = [
            "--in-flight",
            "2",
            "--requests",
            "50",
            "--warm-up",
            "0s",
            "--require",
            requirement,
        ];
        Desk::new().run(&[daemon.address()], &arguments)
    };
    let output = run("p99<30s,loss=0,wrong=0,rate>1");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = run("loss=0,p50<1ns");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output).contains("DOES NOT HOLD"), "{output:?}");
    let output = run("p50<1");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn the_report_is_one_page_that_fetches_nothing() {
    let daemon = daemon();
    let desk = Desk::new();
    let arguments =
        words("--rate 300 --duration 400ms --warm-up 0s --measure 50 --report bench.html");
    let output = desk.run(&[daemon.address()], &arguments);
    assert!(output.status.success(), "{output:?}");
    let page = fs::read_to_string(desk.path().join("bench.html")).expect("the page is written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<svg").count(), 3);
    for fetching in [
        "http:", "https:", "//", "src=", "href=", "@import", "url(", "<script", "<link",
    ] {
        assert!(!page.contains(fetching), "the page has {fetching}");
    }
    for shown in [
        "Latency by percentile",
        "Rate over time",
        "p99.99",
        "measuring client",
    ] {
        assert!(page.contains(shown), "the page lacks {shown}");
    }
}

#[test]
fn what_cannot_be_done_is_said_before_the_load() {
    let mut server = Server::start("127.0.0.1:0", honest);
    for (arguments, why) in [
        (["--report", "missing/bench.html"], "missing/bench.html"),
        (["--names-from", "missing.data"], "missing.data"),
        (["--replay", "missing.jsonl"], "missing.jsonl"),
        (["--malformed", "0.95"], "--rate"),
        (["--require", "measure.p99<1ms"], "--measure"),
    ] {
        let output = Desk::new().run(&[server.address], &arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output).contains(why), "{output:?}");
    }
    server.stop();
    assert_eq!(server.received(), 0);
}

#[test]
fn another_key_is_all_loss_and_says_so() {
    let daemon = daemon();
    let desk = Desk::with_key(b"another key");
    let arguments = words("--mix ping --in-flight 2 --requests 6 --warm-up 0s --lost-after 100ms");
    let output = desk.run(&[daemon.address()], &[&arguments[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let results = parse(&output);
    assert_eq!(count(&results, "lost"), 6);
    assert_eq!(results["load"]["loss"], 1.0);
    let output = desk.run(&[daemon.address()], &arguments);
    assert!(text(&output).contains("another key"), "{output:?}");
    // With names to be asked for, there is no run at all.
    let output = desk.run(&[daemon.address()], &["--requests", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("another key"), "{output:?}");
}

#[test]
fn a_port_that_refuses_is_named() {
    let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let arguments = words("--mix ping --in-flight 1 --requests 3 --warm-up 0s --lost-after 50ms");
    let output = Desk::new().run(&[address], &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output).contains("no confd listens there"),
        "{output:?}"
    );
}

/// What a server of the test's own does with its requests.
type Behaviour = fn(number: usize, request: &Request, post: &mut Post);

/// One request, as far as a server needs it.
struct Request {
    rsalt: String,
    peer: SocketAddr,
}

impl Request {
    fn read(datagram: &[u8], peer: SocketAddr) -> Option<Self> {
        let envelope: Value = serde_json::from_slice(datagram.strip_prefix(b"plj0")?).ok()?;
        let message: Value = serde_json::from_str(envelope["msg"].as_str()?).ok()?;
        let rsalt = message["rsalt"].as_str()?.to_owned();
        Some(Self { rsalt, peer })
    }

    fn reply(&self, answer: &str) -> Vec<u8> {
        self.reply_signed(KEY, answer)
    }

    fn reply_signed(&self, key: &[u8], answer: &str) -> Vec<u8> {
        let message = format!(r#"{{"protocol":1,"status":0,"answer":"{answer}","serial":7}}"#);
        reply_datagram(key, &message, &self.rsalt)
    }
}

/// Replies, and when they leave.
#[derive(Default)]
struct Post {
    queue: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    overtaken: Option<(SocketAddr, Vec<u8>)>,
}

impl Post {
    fn send(&mut self, request: &Request, reply: Vec<u8>) {
        self.send_in(Duration::ZERO, request, reply);
        if let Some((peer, reply)) = self.overtaken.take() {
            self.queue.push_back((Instant::now(), peer, reply));
        }
    }

    fn send_in(&mut self, delay: Duration, request: &Request, reply: Vec<u8>) {
        let when = Instant::now() + delay;
        self.queue.push_back((when, request.peer, reply));
    }

    /// Keeps a reply until the next one is sent.
    fn send_behind_the_next(&mut self, request: &Request, reply: Vec<u8>) {
        self.overtaken = Some((request.peer, reply));
    }

    /// The replies whose time has come, in the order in which they were posted.
    fn due(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let now = Instant::now();
        let (due, waiting) = self.queue.drain(..).partition(|(when, ..)| *when <= now);
        self.queue = waiting;
        let due: VecDeque<(Instant, SocketAddr, Vec<u8>)> = due;
        due.into_iter()
            .map(|(_, peer, reply)| (peer, reply))
            .collect()
    }
}

/// A server on a real socket that behaves as it is told; ends when dropped.
struct Server {
    address: SocketAddr,
    received: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(address: &str, behaviour: Behaviour) -> Self {
        let socket = UdpSocket::bind(address).expect("loopback has a free port");
        let (received, end) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let server = Self {
            address: socket.local_addr().expect("bound"),
            received: Arc::clone(&received),
            end: Arc::clone(&end),
            thread: None,
        };
        let serve = move || {
            // The granularity of delays, and of the end.
            socket
                .set_read_timeout(Some(Duration::from_millis(5)))
                .expect("a time that is not zero");
            let mut post = Post::default();
            let mut buffer = vec![0; 65_536];
            while !end.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = socket.recv_from(&mut buffer)
                    && let Some(request) = Request::read(&buffer[..len], peer)
                {
                    let number = received.fetch_add(1, Ordering::Relaxed);
                    behaviour(number, &request, &mut post);
                }
                for (peer, reply) in post.due() {
                    let _ = socket.send_to(&reply, peer);
                }
            }
        };
        Self {
            thread: Some(std::thread::spawn(serve)),
            ..server
        }
    }

    fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }
}

impl Server {
    /// Taken apart on purpose: `Drop` forbids moving fields out.
    fn stop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

fn honest(_: usize, request: &Request, post: &mut Post) {
    post.send(request, request.reply("yes"));
}

/// Each tenth request meets the same fate, until there were a hundred; then all is well, so that late replies are still heard.
fn faulty(number: usize, request: &Request, post: &mut Post) {
    let good = request.reply("yes");
    match if number < 100 { number % 10 } else { 0 } {
        1 => {}
        2 => {
            post.send(request, good.clone());
            post.send(request, good);
        }
        3 => post.send_in(LATE, request, good),
        4 => post.send_behind_the_next(request, good),
        5 => post.send(request, request.reply_signed(b"another key", "yes")),
        6 => post.send(request, request.reply("no")),
        7 => post.send(request, reply_datagram(KEY, "{}", &request.rsalt)),
        8 => {
            post.send(request, good);
            let rsalt = "00000000-0000-0000-0000-000000000000".to_owned();
            let foreign = Request { rsalt, ..*request };
            post.send(request, foreign.reply("yes"));
        }
        _ => post.send(request, good),
    }
}

const LOST_AFTER: &str = "800ms";
const LATE: Duration = Duration::from_millis(1000);

#[test]
fn each_fault_is_counted_as_what_it_is() {
    let mut server = Server::start("127.0.0.1:0", faulty);
    let arguments = [
        "--rate",
        "100",
        "--requests",
        "250",
        "--sockets",
        "1",
        "--warm-up",
        "0s",
        "--mix",
        "master",
        "--lost-after",
        LOST_AFTER,
    ];
    let results = Desk::new().json(&[server.address], &arguments);
    server.stop();
    let expected = json!({
        "sent": 250, "answered": 200, "lost": 20, "late": 10, "duplicated": 10, "reordered": 10,
        "bad_hmac": 10, "inconsistent": 10, "malformed": 10, "stray": 10, "unexpected": 0,
    });
    for (name, number) in expected.as_object().expect("an object") {
        assert_eq!(results["load"]["counts"][name], *number, "{name}");
    }
    assert_eq!(results["load"]["wrong"], 30);
}

#[test]
fn an_answer_to_a_damaged_request_is_wrong() {
    let mut server = Server::start("127.0.0.1:0", honest);
    let arguments =
        words("--stale 0.5 --in-flight 1 --requests 100 --warm-up 0s --mix ping --require wrong=0");
    let output = Desk::new().run(&[server.address], &[&arguments[..], &["--json"]].concat());
    server.stop();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let results = parse(&output);
    assert!(count(&results, "damaged") > 0);
    assert_eq!(count(&results, "unexpected"), count(&results, "damaged"));
    assert_eq!(count(&results, "lost"), 0);
}

#[test]
fn all_servers_are_asked_over_both_families() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return skip("IPv6 on loopback");
    }
    let mut servers = [
        Server::start("127.0.0.1:0", honest),
        Server::start("[::1]:0", honest),
        Server::start("127.0.0.1:0", honest),
    ];
    let addresses = [0, 1, 2].map(|index| servers[index].address);
    let arguments =
        words("--in-flight 9 --sockets 6 --threads 2 --requests 300 --warm-up 0s --mix ping");
    let results = Desk::new().json(&addresses, &arguments);
    assert_eq!(count(&results, "answered"), 300);
    for (index, server) in servers.iter_mut().enumerate() {
        server.stop();
        assert!(server.received() > 20, "{}", server.received());
        let tally = &results["load"]["by_target"][index];
        assert_eq!(tally["answered"], server.received());
    }
}

/// A stall makes all wait that should have asked meanwhile; a generator that waits with the server would not notice.
#[test]
fn a_stall_is_not_omitted() {
    fn stalls_once(number: usize, request: &Request, post: &mut Post) {
        if number == 50 {
            std::thread::sleep(Duration::from_millis(300));
        }
        honest(number, request, post);
    }
    let mut server = Server::start("127.0.0.1:0", stalls_once);
    let arguments = words("--rate 500 --requests 500 --warm-up 0s --mix ping --sockets 1");
    let results = Desk::new().json(&[server.address], &arguments);
    server.stop();
    // 150 requests fell into it; half of them waited for more than half of it.
    let latency = &results["load"]["latency"]["percentiles_ns"]["90"];
    assert!(
        latency.as_u64().expect("a number") > 75_000_000,
        "{latency}"
    );
}

/// The generator itself is stopped for a while: its requests leave late, and their latency counts from when they should have left.
#[test]
fn a_generator_that_falls_behind_says_so_and_counts_it() {
    use nix::sys::signal::{Signal, kill};
    let mut server = Server::start("127.0.0.1:0", honest);
    let arguments = words("--rate 500 --requests 500 --warm-up 0s --mix ping --json");
    let desk = Desk::new();
    let child = desk.start(&[server.address], &arguments);
    await_requests(&server, 50);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("our child");
    // This is the fault, not a wait for something.
    std::thread::sleep(Duration::from_millis(300));
    kill(pid, Signal::SIGCONT).expect("our child");
    let output = finish(child);
    server.stop();
    let results = parse(&output);
    assert_eq!(count(&results, "answered"), 500, "{output:?}");
    // 150 requests fell into it; half of them were late by more than half of it.
    for late in ["latency", "schedule_lag"] {
        let p90 = &results["load"][late]["percentiles_ns"]["90"];
        assert!(p90.as_u64().expect("a number") > 75_000_000, "{late} {p90}");
    }
    let notes = results["notes"].to_string();
    assert!(notes.contains("behind its time"), "{notes}");
}

/// A command line's words.
fn words(line: &'static str) -> Vec<&'static str> {
    line.split(' ').collect()
}

fn await_requests(server: &Server, requests: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.received() < requests && Instant::now() < deadline {
        // There is no event for what another thread has counted so far.
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_highest_rate_is_found() {
    /// At most 500 answers a second.
    fn slow(number: usize, request: &Request, post: &mut Post) {
        std::thread::sleep(Duration::from_millis(2));
        honest(number, request, post);
    }
    let mut server = Server::start("127.0.0.1:0", slow);
    let arguments = words(
        "--search p99<50ms,loss=0 --rate 50 --duration 200ms --warm-up 0s --lost-after 100ms --mix ping --quiet",
    );
    let results = Desk::new().json(&[server.address], &arguments);
    server.stop();
    let search = &results["search"];
    let rate = search["rate"].as_f64().expect("a rate that holds");
    assert!((1.0..800.0).contains(&rate), "{rate}");
    let trials = search["trials"].as_array().expect("trials");
    assert!(trials.iter().any(|trial| trial["held"] == false));
    assert_eq!(
        results["offered_rate"], rate,
        "the results are those at that rate"
    );
}

#[test]
fn an_interrupt_ends_a_run_with_its_results() {
    let mut server = Server::start("127.0.0.1:0", honest);
    let desk = Desk::new();
    let arguments = words("--duration 50s --warm-up 0s --mix ping --json");
    let child = desk.start(&[server.address], &arguments);
    await_requests(&server, 100);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).expect("our child");
    let output = finish(child);
    server.stop();
    assert!(output.status.success(), "{output:?}");
    let results = parse(&output);
    assert!(count(&results, "answered") >= 90);
    assert_eq!(count(&results, "lost"), 0);
    assert!(results["notes"].to_string().contains("interrupted"));
}

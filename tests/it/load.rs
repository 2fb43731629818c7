//! Tests of `confdctl bench`: against our daemon on both engines, against the reference, and
//! against servers with deliberate faults, each of which must be counted. Loads are small, about a
//! second.

use crate::common::{Kind, Subject, reply_datagram, skip, subjects};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ganeti_confd::demo;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
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

/// A generator that runs longer is killed, so that the test fails.
const RUN_SECONDS_MAX: u64 = 60;

/// Runs the generator in a directory with a key file.
pub(crate) struct Generator(TempDir);

impl Generator {
    pub(crate) fn new() -> Self {
        Self::with_key(KEY)
    }

    fn with_key(key: &[u8]) -> Self {
        let generator = tempfile::tempdir().expect("a temporary directory");
        fs::write(generator.path().join("hmac.key"), key).expect("a fresh directory is writable");
        Self(generator)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn start(&self, servers: &[SocketAddr], arguments: &[&str]) -> Child {
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

    pub(crate) fn run(&self, servers: &[SocketAddr], arguments: &[&str]) -> Output {
        finish(self.start(servers, arguments))
    }

    /// The results of a run that must succeed.
    pub(crate) fn json(&self, servers: &[SocketAddr], arguments: &[&str]) -> Value {
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
    let output = child.wait_with_output().expect("the child exists");
    let _ = ended.send(());
    guard.join().expect("the guard does not panic");
    output
}

pub(crate) fn parse(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no JSON: {error}: {output:?}"))
}

pub(crate) fn count(results: &Value, name: &str) -> u64 {
    results["load"]["counts"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} is counted in {results}"))
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Our daemon on each engine, and the reference if it is available.
fn daemons() -> impl Iterator<Item = Subject> {
    let mut kinds = subjects();
    if !kinds.contains(&Kind::Reference) && Kind::Reference.is_available() {
        kinds.push(Kind::Reference);
    }
    let config = demo::configuration(3, 10, 1);
    kinds
        .into_iter()
        .filter(|kind| !matches!(kind, Kind::Address(_)))
        .map(move |kind| Subject::start(kind, Some(config.as_bytes()), KEY))
}

/// Our daemon on the engine that every kernel has.
pub(crate) fn daemon() -> Subject {
    let config = demo::configuration(3, 10, 1);
    Subject::start(Kind::Mmsg, Some(config.as_bytes()), KEY)
}

#[test]
fn a_closed_loop_loses_nothing() {
    let generator = Generator::new();
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
        let results = generator.json(&[daemon.address()], &arguments);
        let kind = daemon.kind;
        assert_eq!(count(&results, "sent"), 600, "{kind:?}");
        assert_eq!(count(&results, "answered"), 600, "{kind:?}");
        for never in [
            "errors",
            "lost",
            "duplicated",
            "stray",
            "corrupted",
            "refused",
        ] {
            assert_eq!(count(&results, never), 0, "{kind:?}: {never}");
        }
        assert_eq!(results["load"]["wrong"], 0, "{kind:?}");
        let types = results["load"]["types"].as_object().expect("types");
        assert_eq!(types.len(), 12, "each type was sent");
        assert_histogram(&results["load"]["latency"], 600);
    }
}

/// Checks that the histogram contains all answered requests and agrees with the percentiles.
fn assert_histogram(latency: &Value, requests: u64) {
    let histogram = histogram(latency["histogram"].as_str().expect("text"));
    assert_eq!(histogram.len(), requests);
    let median = histogram.value_at_quantile(0.5);
    assert_eq!(latency["percentiles_ns"]["50"], median);
    assert_eq!(latency["count"], requests);
}

/// A histogram in the V2 format, compressed and as Base64.
fn histogram(text: &str) -> Histogram<u64> {
    let bytes = BASE64_STANDARD.decode(text).expect("Base64");
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    deserializer
        .deserialize(&mut bytes.as_slice())
        .expect("the V2 format")
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
        let results = Generator::new().json(&[daemon.address()], &arguments);
        assert_eq!(count(&results, "answered"), 1000, "{more:?}");
        assert_eq!(results["load"]["wrong"], 0, "{more:?}");
        assert_eq!(results["load"]["counts"]["unsendable"], 0, "{more:?}");
    }
}

/// The last requests are in flight when sending ends, in a small run all of them.
#[test]
fn a_closed_loop_is_timed_until_its_last_answer() {
    /// One answer every 40 ms.
    fn slow(number: usize, request: &Request, outbox: &mut Outbox) {
        let delay = Duration::from_millis(40 * (number as u64 + 1));
        outbox.send_in(delay, request, request.reply("yes"));
    }
    let mut server = Server::start("127.0.0.1:0", slow);
    let arguments = words("--in-flight 20 --requests 10 --warm-up 0s --mix ping");
    let results = Generator::new().json(&[server.address], &arguments);
    server.stop();
    assert_eq!(count(&results, "answered"), 10);
    let rate = results["answered_rate"].as_f64().expect("a number");
    assert!((1.0..=26.0).contains(&rate), "{rate} answers a second");
}

/// All counted requests may leave in the moment in which the warm-up ends.
#[test]
fn a_burst_after_the_warm_up_takes_time() {
    let daemon = daemon();
    let arguments = words("--in-flight 64 --requests 8 --warm-up 3ms --mix ping");
    for _ in 0..20 {
        let results = Generator::new().json(&[daemon.address()], &arguments);
        let rate = results["answered_rate"].as_f64().expect("a number");
        assert!(rate > 0.0, "{results}");
    }
}

#[test]
fn threads_can_be_pinned_to_processors() {
    let daemon = daemon();
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("a set");
    let is_allowed = |cpu: &usize| allowed.is_set(*cpu).unwrap_or_default();
    let cpu = (0..nix::sched::CpuSet::count()).find(is_allowed);
    let cpu = cpu.expect("this thread runs").to_string();
    let run = |cpus: &str| {
        let arguments = words("--in-flight 4 --requests 50 --warm-up 0s --mix ping --threads 2");
        Generator::new().run(
            &[daemon.address()],
            &[&arguments[..], &["--cpus", cpus]].concat(),
        )
    };
    let output = run(&cpu);
    assert!(output.status.success(), "{output:?}");
    for missing in ["1000000", "1023"] {
        let output = run(missing);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output).contains("check --cpus"), "{output:?}");
    }
}

#[test]
fn corrupted_requests_get_no_reply() {
    let generator = Generator::new();
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
            let results = generator.json(&[daemon.address()], &arguments);
            let kind = daemon.kind;
            let corrupted = count(&results, "corrupted");
            assert!(
                (50..180).contains(&corrupted),
                "{kind:?} {shares:?}: {corrupted}"
            );
            assert_eq!(count(&results, "silent"), corrupted, "{kind:?} {shares:?}");
            assert_eq!(
                count(&results, "sent") + corrupted,
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
            "--probe",
            "50",
            "--seed",
            "7",
        ];
        let results = Generator::new().json(&[daemon.address()], &arguments);
        let sent = count(&results, "sent");
        assert!(
            range.contains(&(sent + count(&results, "unsent"))),
            "{sent}"
        );
        assert_eq!(count(&results, "answered") + count(&results, "lost"), sent);
        assert_eq!(results["offered_rate"], 500.0);
        let probed = &results["probe"]["counts"]["sent"];
        assert!(
            (45..=50).contains(&probed.as_u64().expect("a number")),
            "{probed}"
        );
        assert_eq!(results["load"]["schedule_lag"]["count"], sent);
        assert!(!results["series"].as_array().expect("points").is_empty());
    }
}

/// A step of 200 requests, then a ramp of 300, then one of 100.
#[test]
fn stages_change_the_rate() {
    let daemon = daemon();
    for arrivals in ["constant", "poisson"] {
        let arguments = [
            &words("--stages 400:500ms,400-800:500ms,800-0:250ms --warm-up 200ms --threads 2")[..],
            &["--mix", "ping", "--seed", "1", "--arrivals", arrivals],
        ]
        .concat();
        let results = Generator::new().json(&[daemon.address()], &arguments);
        let scheduled = count(&results, "sent") + count(&results, "unsent");
        let range = match arrivals {
            "constant" => 600..=600,
            _ => 500..=700,
        };
        assert!(range.contains(&scheduled), "{arrivals}: {scheduled}");
        assert_eq!(results["offered_rate"], 480.0);
        assert_eq!(count(&results, "lost"), 0, "{arrivals}");
    }
}

#[test]
fn names_come_from_a_file_or_from_the_cluster() {
    // The lists do not fit a datagram: nodes are found by DRBD peers, instances by their nodes.
    let config = demo::configuration(60, 200, 1);
    let daemon = Subject::start(Kind::Mmsg, Some(config.as_bytes()), KEY);
    let generator = Generator::new();
    fs::write(generator.path().join("config.data"), &config).expect("the directory is writable");
    for (source, queries) in [(&["--names-from", "config.data"][..], 460), (&[][..], 300)] {
        let arguments = [
            source,
            &["--mix", "role,disks,instances-on,node-of"],
            &["--in-flight", "4", "--requests", "200", "--warm-up", "0s"],
        ]
        .concat();
        let results = generator.json(&[daemon.address()], &arguments);
        assert_eq!(count(&results, "answered"), 200, "{source:?}");
        assert_eq!(count(&results, "errors"), 0, "{source:?}");
        let asked = results["queries"].as_u64().expect("a number");
        assert!(asked >= queries, "{source:?}: {asked} different questions");
    }
}

#[test]
fn recorded_requests_are_replayed() {
    let daemon = daemon();
    let generator = Generator::new();
    let lines = [
        r#"{"protocol": 1, "type": 0, "query": null, "rsalt": "R"}"#,
        r#"{"request": "{\"protocol\": 1, \"type\": 1, \"query\": \"node2\", \"rsalt\": \"R\"}"}"#,
        r#"{"config": "no request"}"#,
        r#"plj0{"msg": "{\"protocol\": 1, \"type\": 9, \"query\": \"instance9.nowhere\", \"rsalt\": \"R\"}", "salt": "1", "hmac": "x"}"#,
    ];
    // The last line is not even text.
    let recording = [lines.join("\n").as_bytes(), b"\nplj0\xff\n"].concat();
    fs::write(generator.path().join("requests"), recording).expect("the directory is writable");
    let arguments = words("--replay requests --requests 30 --in-flight 3 --warm-up 0s");
    let results = generator.json(&[daemon.address()], &arguments);
    for kind in ["ping", "role", "disks"] {
        assert_eq!(results["load"]["types"][kind]["answered"], 10, "{kind}");
    }
    assert_eq!(count(&results, "errors"), 10, "of the unknown instance");
    let notes = results["notes"].to_string();
    assert!(
        notes.contains("2 lines of the recording were skipped") && notes.contains("no reply: 3, 5"),
        "{notes}"
    );
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
        Generator::new().run(&[daemon.address()], &arguments)
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
fn the_report_is_one_page_without_external_resources() {
    let daemon = daemon();
    let generator = Generator::new();
    let arguments = words(
        "--rate 300 --duration 400ms --warm-up 0s --probe 50 --report bench.html --csv t.csv --hdr t.hlog --mix ping,role",
    );
    let output = generator.run(&[daemon.address()], &arguments);
    assert!(output.status.success(), "{output:?}");
    let page =
        fs::read_to_string(generator.path().join("bench.html")).expect("the page is written");
    let csv = fs::read_to_string(generator.path().join("t.csv")).expect("the series is written");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "time_s,sent_rate,answered_rate,lost_rate,p50_ms,p99_ms,max_ms"
    );
    assert!(lines.len() >= 5, "{csv}");
    assert!(
        lines.iter().all(|line| line.split(',').count() == 7),
        "{csv}"
    );
    let log = fs::read(generator.path().join("t.hlog")).expect("the log is written");
    let intervals: Vec<(Option<String>, u64)> = IntervalLogIterator::new(&log)
        .filter_map(|entry| match entry.expect("a valid line") {
            LogEntry::Interval(interval) => {
                let tag = interval.tag().map(|tag| tag.as_str().to_owned());
                Some((tag, histogram(interval.encoded_histogram()).len()))
            }
            _ => None,
        })
        .collect();
    let [all, ping, role] = intervals.as_slice() else {
        panic!("one interval in all and one per type: {intervals:?}");
    };
    assert_eq!((&all.0, all.1), (&None, ping.1 + role.1));
    assert_eq!(ping.0.as_deref(), Some("ping"));
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert_eq!(page.matches("<svg").count(), 3);
    for resource in [
        "http:", "https:", "//", "src=", "href=", "@import", "url(", "<script", "<link",
    ] {
        assert!(!page.contains(resource), "the page has {resource}");
    }
    for shown in [
        "Latency by percentile",
        "Rate over time",
        "p99.99",
        "probe client",
    ] {
        assert!(page.contains(shown), "the page lacks {shown}");
    }
}

#[test]
fn errors_are_reported_before_the_load_starts() {
    let mut server = Server::start("127.0.0.1:0", honest);
    for (arguments, why) in [
        (["--report", "missing/bench.html"], "missing/bench.html"),
        (["--names-from", "missing.data"], "missing.data"),
        (["--replay", "missing.jsonl"], "missing.jsonl"),
        (["--malformed", "0.95"], "--rate"),
        (["--require", "probe.p99<1ms"], "--probe"),
    ] {
        let output = Generator::new().run(&[server.address], &arguments);
        let is_usage = why.starts_with("--");
        let status = if is_usage { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(text(&output).contains(why), "{output:?}");
    }
    server.stop();
    assert_eq!(server.received(), 0);
}

#[test]
fn with_another_key_everything_is_lost_and_the_report_names_the_key() {
    let daemon = daemon();
    let generator = Generator::with_key(b"another key");
    let arguments = words("--mix ping --in-flight 2 --requests 6 --warm-up 0s --lost-after 100ms");
    let output = generator.run(&[daemon.address()], &[&arguments[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let results = parse(&output);
    assert_eq!(count(&results, "lost"), 6);
    assert_eq!(results["load"]["loss"], 1.0);
    let output = generator.run(&[daemon.address()], &arguments);
    assert!(text(&output).contains("another key"), "{output:?}");
    // If names must be asked for, the run does not start.
    let output = generator.run(&[daemon.address()], &["--requests", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("another key"), "{output:?}");
}

#[test]
fn a_refused_port_is_reported() {
    let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let arguments = words("--mix ping --in-flight 1 --requests 3 --warm-up 0s");
    let output = Generator::new().run(&[address], &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output).contains("no confd is listening there"),
        "{output:?}"
    );
}

/// A kill in the middle of a closed loop loses only the requests in flight, so the loss is small
/// and the other figures are those of the first half.
#[test]
fn a_server_that_is_killed_fails_the_run() {
    let daemon = daemon();
    let generator = Generator::new();
    let arguments = words(
        "--in-flight 8 --duration 2s --warm-up 100ms --mix ping --lost-after 400ms --require p50<30s",
    );
    let child = generator.start(&[daemon.address()], &arguments);
    // This is the time of the fault, not a wait for an event.
    std::thread::sleep(Duration::from_millis(1000));
    drop(daemon);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = text(&output);
    let headline = text.lines().next().expect("a line");
    assert!(
        headline.starts_with("FAILED: 127.0.0.1:") && headline.contains("stopped answering"),
        "{text}"
    );
}

#[test]
fn a_server_that_never_answers_fails_the_run() {
    let daemon = daemon();
    // It receives requests and sends no replies, so its port is not refused.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addresses = [daemon.address(), silent.local_addr().expect("bound")];
    let arguments = words(
        "--in-flight 8 --duration 1s --warm-up 0s --mix ping --lost-after 300ms --require loss<99% --json",
    );
    let output = Generator::new().run(&addresses, &arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let results = parse(&output);
    let failures = results["failures"].to_string();
    assert!(
        failures.contains(&format!("{} never answered", addresses[1])),
        "{failures}"
    );
    let [alive, dead] = [0, 1].map(|index| &results["load"]["by_target"][index]);
    assert_eq!(
        (&dead["answered"], &dead["sent"]),
        (&json!(0), &dead["lost"])
    );
    assert_eq!(alive["lost"], 0);
    assert!(dead["stall_ns"].as_u64() >= Some(500_000_000), "{dead}");
}

#[test]
fn a_backlog_of_the_warm_up_is_dropped() {
    let daemon = daemon();
    let rate = |warm_up: &str| {
        let arguments = [
            &words("--rate 5M --duration 300ms --mix ping --lost-after 300ms --quiet")[..],
            &["--warm-up", warm_up],
        ]
        .concat();
        let results = Generator::new().json(&[daemon.address()], &arguments);
        assert!(count(&results, "unsent") > 0, "no generator sends 5M");
        count(&results, "sent")
    };
    let (without, with) = (rate("0s"), rate("600ms"));
    assert!(
        with * 10 > without,
        "{with} after a warm-up, {without} without"
    );
}

#[test]
fn a_run_that_measured_nothing_fails_every_requirement() {
    let daemon = daemon();
    // The first request is due after the end.
    let arguments = words(
        "--rate 0.1 --arrivals poisson --seed 3 --duration 100ms --warm-up 0s --mix ping --require loss=0,wrong=0",
    );
    let output = Generator::new().run(&[daemon.address()], &[&arguments[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let results = parse(&output);
    assert_eq!(count(&results, "sent"), 0);
    for requirement in results["requirements"].as_array().expect("a list") {
        assert_eq!(requirement["held"], false, "{requirement}");
    }
}

/// A refused port is known at once, so the run does not last until `--lost-after`.
#[test]
fn refused_requests_are_lost_at_once() {
    let free = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound");
    drop(free);
    let arguments =
        words("--mix ping --in-flight 4 --requests 100 --warm-up 0s --lost-after 30s --json");
    let started = Instant::now();
    let output = Generator::new().run(&[address], &arguments);
    assert!(started.elapsed() < Duration::from_secs(20));
    let results = parse(&output);
    assert_eq!(count(&results, "lost"), 100);
    assert_eq!(count(&results, "refused"), 100);
}

/// How a test's own server reacts to a request.
pub(crate) type Behavior = fn(number: usize, request: &Request, outbox: &mut Outbox);

/// The parts of a request that a server needs.
pub(crate) struct Request {
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

/// Replies to send, each with its time.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    deferred: Option<(SocketAddr, Vec<u8>)>,
}

impl Outbox {
    fn send(&mut self, request: &Request, reply: Vec<u8>) {
        self.send_in(Duration::ZERO, request, reply);
        if let Some((peer, reply)) = self.deferred.take() {
            self.queue.push_back((Instant::now(), peer, reply));
        }
    }

    fn send_in(&mut self, delay: Duration, request: &Request, reply: Vec<u8>) {
        let when = Instant::now() + delay;
        self.queue.push_back((when, request.peer, reply));
    }

    /// Sends a reply after the next one.
    fn send_after_the_next(&mut self, request: &Request, reply: Vec<u8>) {
        self.deferred = Some((request.peer, reply));
    }

    /// The replies that are due, in the order in which they were queued.
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

/// A server on a real socket with a given behavior, in a thread until [`Server::stop`].
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    received: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(address: &str, behavior: Behavior) -> Self {
        let socket = UdpSocket::bind(address).expect("loopback has a free port");
        let (received, end) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let server = Self {
            address: socket.local_addr().expect("bound"),
            received: Arc::clone(&received),
            end: Arc::clone(&end),
            thread: None,
        };
        let serve = move || {
            // The granularity of delays and of stopping.
            socket
                .set_read_timeout(Some(Duration::from_millis(5)))
                .expect("the timeout is not zero");
            let mut outbox = Outbox::default();
            let mut buffer = vec![0; 65_536];
            while !end.load(Ordering::Relaxed) {
                if let Ok((len, peer)) = socket.recv_from(&mut buffer)
                    && let Some(request) = Request::read(&buffer[..len], peer)
                {
                    let number = received.fetch_add(1, Ordering::Relaxed);
                    behavior(number, &request, &mut outbox);
                }
                for (peer, reply) in outbox.due() {
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
    pub(crate) fn stop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

pub(crate) fn honest(_: usize, request: &Request, outbox: &mut Outbox) {
    outbox.send(request, request.reply("yes"));
}

/// Treats each tenth of the first hundred requests in the same way. After these there are no more
/// faults, so that the run lasts until the late replies have arrived.
fn faulty(number: usize, request: &Request, outbox: &mut Outbox) {
    let good = request.reply("yes");
    match if number < 100 { number % 10 } else { 0 } {
        1 => {}
        2 => {
            outbox.send(request, good.clone());
            outbox.send(request, good);
        }
        3 => outbox.send_in(LATE, request, good),
        4 => outbox.send_after_the_next(request, good),
        5 => outbox.send(request, request.reply_signed(b"another key", "yes")),
        6 => outbox.send(request, request.reply("no")),
        7 => outbox.send(request, reply_datagram(KEY, "{}", &request.rsalt)),
        8 => {
            outbox.send(request, good);
            let rsalt = "00000000-0000-0000-0000-000000000000".to_owned();
            let foreign = Request { rsalt, ..*request };
            outbox.send(request, foreign.reply("yes"));
        }
        _ => outbox.send(request, good),
    }
}

const LOST_AFTER: &str = "800ms";
const LATE: Duration = Duration::from_millis(1000);

#[test]
fn each_fault_is_counted_as_such() {
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
    let results = Generator::new().json(&[server.address], &arguments);
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
fn an_answer_to_a_corrupted_request_is_wrong() {
    let mut server = Server::start("127.0.0.1:0", honest);
    let arguments =
        words("--stale 0.5 --in-flight 1 --requests 100 --warm-up 0s --mix ping --require wrong=0");
    let output = Generator::new().run(&[server.address], &[&arguments[..], &["--json"]].concat());
    server.stop();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let results = parse(&output);
    assert!(count(&results, "corrupted") > 0);
    assert_eq!(count(&results, "unexpected"), count(&results, "corrupted"));
    assert_eq!(count(&results, "lost"), 0);
}

#[test]
fn all_servers_get_requests_over_both_address_families() {
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
    let results = Generator::new().json(&addresses, &arguments);
    assert_eq!(count(&results, "answered"), 300);
    for (index, server) in servers.iter_mut().enumerate() {
        server.stop();
        assert!(server.received() > 20, "{}", server.received());
        let tally = &results["load"]["by_target"][index];
        assert_eq!(tally["answered"], server.received());
    }
}

/// A stall delays all requests that are due during it. A generator that waits for the server would
/// not send them, and would not see the delay.
#[test]
fn a_stall_of_the_server_shows_in_the_latencies() {
    fn stalls_once(number: usize, request: &Request, outbox: &mut Outbox) {
        if number == 50 {
            std::thread::sleep(Duration::from_millis(300));
        }
        honest(number, request, outbox);
    }
    let mut server = Server::start("127.0.0.1:0", stalls_once);
    let arguments = words("--rate 500 --requests 500 --warm-up 0s --mix ping --sockets 1");
    let results = Generator::new().json(&[server.address], &arguments);
    server.stop();
    // 150 requests were due during the stall, and half of them waited for more than half of it.
    let latency = &results["load"]["latency"]["percentiles_ns"]["90"];
    assert!(
        latency.as_u64().expect("a number") > 75_000_000,
        "{latency}"
    );
}

#[test]
fn a_stall_can_be_required_to_be_short() {
    fn stalls_once(number: usize, request: &Request, outbox: &mut Outbox) {
        if number == 50 {
            std::thread::sleep(Duration::from_millis(300));
        }
        honest(number, request, outbox);
    }
    let mut server = Server::start("127.0.0.1:0", stalls_once);
    let arguments = words(
        "--rate 500 --requests 300 --warm-up 0s --mix ping --require stall<100ms,stall<60s --json",
    );
    let output = Generator::new().run(&[server.address], &arguments);
    server.stop();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let results = parse(&output);
    let held = |index: usize| results["requirements"][index]["held"].clone();
    assert_eq!((held(0), held(1)), (json!(false), json!(true)));
    let stall = results["load"]["stall_ns"].as_u64().expect("a number");
    assert!(stall > 250_000_000, "{stall}");
    assert_eq!(results["load"]["by_target"][0]["stall_ns"], stall);
}

/// Every second of a hundred requests in the middle of a run is lost.
#[test]
fn losses_count_in_percentiles_and_when_they_happened() {
    fn drops(number: usize, request: &Request, outbox: &mut Outbox) {
        if (100..200).contains(&number) && number.is_multiple_of(2) {
            return;
        }
        honest(number, request, outbox);
    }
    let run = |more: &[&str]| {
        let mut server = Server::start("127.0.0.1:0", drops);
        let arguments = [
            &words("--rate 500 --requests 400 --warm-up 0s --mix ping --lost-after 900ms")[..],
            more,
        ]
        .concat();
        let results = Generator::new().json(&[server.address], &arguments);
        server.stop();
        results
    };
    let results = run(&[]);
    assert_eq!(count(&results, "lost"), 50);
    assert_eq!(results["load"]["latency"]["count"], 400);
    let p90 = |results: &Value| {
        let p90 = &results["load"]["latency"]["percentiles_ns"]["90"];
        p90.as_u64().expect("a number")
    };
    assert!(p90(&results) >= 900_000_000, "{}", p90(&results));
    let points = results["series"].as_array().expect("points");
    let lost_until = |seconds: f64| -> f64 {
        let points = points.iter();
        let early = points.filter(|point| point["time_seconds"].as_f64() <= Some(seconds));
        // Slices of a run of unknown length take 0.1 s.
        early
            .map(|point| 0.1 * point["lost_rate"].as_f64().expect("a rate"))
            .sum()
    };
    // Requests 100 to 199 are sent from 0.2 s to 0.4 s, and expire 0.9 s later.
    assert!(lost_until(0.8) > 49.0, "{}", lost_until(0.8));

    let without = run(&["--lost-in-percentiles", "no"]);
    assert_eq!(without["load"]["latency"]["count"], 350);
}

/// The generator itself is stopped for a while: its requests are late, and their latency is
/// measured from the time when they were due.
#[test]
fn lateness_of_the_generator_is_measured_and_reported() {
    use nix::sys::signal::{Signal, kill};
    let mut server = Server::start("127.0.0.1:0", honest);
    let arguments = words("--rate 500 --requests 500 --warm-up 0s --mix ping --json");
    let generator = Generator::new();
    let child = generator.start(&[server.address], &arguments);
    await_requests(&server, 50);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("the child exists");
    // This is the fault itself, not a wait for an event.
    std::thread::sleep(Duration::from_millis(300));
    kill(pid, Signal::SIGCONT).expect("the child exists");
    let output = finish(child);
    server.stop();
    let results = parse(&output);
    assert_eq!(count(&results, "answered"), 500, "{output:?}");
    // 150 requests were due during the stop, and half of them were late by more than half of it.
    for late in ["latency", "schedule_lag"] {
        let p90 = &results["load"][late]["percentiles_ns"]["90"];
        assert!(p90.as_u64().expect("a number") > 75_000_000, "{late} {p90}");
    }
    // The server answered at once, which the time from sending shows.
    let service = &results["load"]["service"]["percentiles_ns"]["90"];
    assert!(
        service.as_u64().expect("a number") < 75_000_000,
        "{service}"
    );
    let notes = results["notes"].to_string();
    assert!(notes.contains("behind schedule"), "{notes}");
}

/// Splits a command line at spaces.
pub(crate) fn words(line: &'static str) -> Vec<&'static str> {
    line.split(' ').collect()
}

fn await_requests(server: &Server, requests: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.received() < requests && Instant::now() < deadline {
        // The counter of another thread can only be polled.
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_highest_rate_is_found() {
    /// At most 500 answers a second.
    fn slow(number: usize, request: &Request, outbox: &mut Outbox) {
        std::thread::sleep(Duration::from_millis(2));
        honest(number, request, outbox);
    }
    let mut server = Server::start("127.0.0.1:0", slow);
    let arguments = words(
        "--search p99<50ms,loss=0 --rate 50 --duration 200ms --warm-up 0s --lost-after 100ms --mix ping --quiet",
    );
    let results = Generator::new().json(&[server.address], &arguments);
    server.stop();
    let search = &results["search"];
    let rate = search["rate"].as_f64().expect("a rate that holds");
    assert!((1.0..800.0).contains(&rate), "{rate}");
    let trials = search["trials"].as_array().expect("trials");
    assert!(trials.iter().any(|trial| trial["result"] == "failed"));
    assert_eq!(search["lower"]["rate"], rate);
    let upper = search["upper"]["rate"].as_f64().expect("a rate that fails");
    assert!(upper > rate && upper / rate < 1.06, "{rate} to {upper}");
    let confidence = search["confidence"].as_f64().expect("a number");
    assert!((0.5..1.0).contains(&confidence), "{confidence}");
    assert_eq!(
        results["offered_rate"], rate,
        "the results are those at that rate"
    );
}

#[test]
fn an_interrupt_ends_the_run_with_its_results() {
    let mut server = Server::start("127.0.0.1:0", honest);
    let generator = Generator::new();
    let arguments = words("--duration 50s --warm-up 0s --mix ping --json");
    let child = generator.start(&[server.address], &arguments);
    await_requests(&server, 100);
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).expect("the child exists");
    let output = finish(child);
    server.stop();
    assert!(output.status.success(), "{output:?}");
    let results = parse(&output);
    assert!(count(&results, "answered") >= 90);
    assert_eq!(count(&results, "lost"), 0);
    assert!(results["notes"].to_string().contains("interrupted"));
}

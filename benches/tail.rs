//! The tail of latency, at rest and while a large configuration is loaded repeatedly; and the
//! activity of an idle daemon.
//!
//! The daemon runs on one core, the load generator (`confdctl bench`) on the other. First the bench
//! searches for the highest rate at which at most one percent of the requests wait longer than a
//! millisecond and none is lost. Then it sends requests at 70 % of that rate, at random times
//! (Poisson), with latency counted from the intended time: once at rest, and once while config.data
//! is replaced every second. Loading uses the daemon's one core as well, so the second figure shows
//! how much loading delays answers.
//!
//! For comparison it measures the tail of a bare echo, asked 10,000 times a second: that of the
//! machine itself.
//!
//! `cargo bench --bench tail` takes about a minute. With a number, as in `-- 20000`, it uses that
//! rate and does not search.

mod cores;
mod node;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cores::{CLIENT_CORE, SERVER_CORE, pin};
use ganeti_confd::client::{ConfdClient, Settings};
use ganeti_confd::demo;
use nix::unistd::gettid;
use node::KEY;

const RELOAD_PERIOD: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(20);

/// The daemon on a cluster. Dropping it ends the daemon.
struct Daemon {
    process: Child,
    root: tempfile::TempDir,
    port: u16,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Daemon {
    fn start(configuration: &str) -> Self {
        let root = node::root(configuration);
        let port = node::free_address().port();
        // The daemon inherits the core.
        pin(gettid(), SERVER_CORE);
        let process = Command::new(env!("CARGO_BIN_EXE_ganeti-confd"))
            .args([
                "-f",
                "--no-user-checks",
                "-b",
                "127.0.0.1",
                "--workers",
                "1",
                "-p",
            ])
            .arg(port.to_string())
            .env("GANETI_ROOTDIR", root.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon starts");
        pin(gettid(), CLIENT_CORE);
        let daemon = Self {
            process,
            root,
            port,
        };
        let client = ConfdClient::new(KEY, [daemon.address()]).expect("a socket");
        let client =
            client.with_settings(Settings::default().with_deadline(Duration::from_millis(100)));
        let begin = Instant::now();
        while client.ping().is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "it does not answer"
            );
        }
        daemon
    }

    fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("var/lib/ganeti").join(name)
    }

    /// Runs `confdctl bench` with these options, and returns its results.
    fn bench(&self, options: &[&str]) -> serde_json::Value {
        let output = Command::new(env!("CARGO_BIN_EXE_confdctl"))
            .arg("--server")
            .arg(self.address().to_string())
            .arg("--key-file")
            .arg(self.file("hmac.key"))
            .args([
                "--json",
                "bench",
                "--quiet",
                "--mix",
                "role=4,master=2,ping=1",
            ])
            // Serials change, and the answers with them.
            .args(["--config-changes", "--verify", "1/16", "--sockets", "64"])
            .args(options)
            .stderr(Stdio::inherit())
            .output()
            .expect("confdctl starts");
        serde_json::from_slice(&output.stdout).expect("it prints JSON")
    }
}

/// Replaces the configuration every second, by rename as Ganeti does, until `stop` is set. Returns
/// how often.
///
/// Two files exchange their names, so that nothing is written during the measurement: the generator
/// runs on this core.
fn replace(file: &Path, configuration: &str, stop: &AtomicBool) -> usize {
    let two = ["one", "two"].map(|name| file.with_extension(name));
    for one in &two {
        fs::write(one, configuration).expect("a file");
    }
    let mut next = Instant::now();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let new = file.with_extension("new");
        fs::hard_link(&two[count % 2], &new).expect("the same directory");
        fs::rename(&new, file).expect("the same directory");
        count += 1;
        next += RELOAD_PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    count
}

/// The highest rate at which at most one percent of the requests wait longer than a millisecond and
/// none is lost.
fn highest(daemon: &Daemon) -> f64 {
    let options = [
        "--search",
        "p99<1ms,loss=0",
        "--rate",
        "50k",
        "--duration",
        "1s",
    ];
    let search = daemon.bench(&options);
    let highest = search["search"]["rate"].as_f64().expect("some rate holds");
    println!("highest rate with p99 < 1 ms and no loss: {highest:.0} a second");
    highest
}

fn tail(configuration: &str, given: Option<u32>) {
    let daemon = Daemon::start(configuration);
    let rate = given.map_or_else(|| highest(&daemon) * 0.7, f64::from);
    let rate = format!("{rate:.0}");
    let measure = |what: &str| {
        let options = [
            "--rate",
            rate.as_str(),
            "--arrivals",
            "poisson",
            "--duration",
            "15s",
        ];
        let results = daemon.bench(&options);
        let load = &results["load"];
        let percentile = |p: &str| {
            let nanoseconds = load["latency"]["percentiles_ns"][p].as_f64();
            nanoseconds.unwrap_or(f64::NAN) / 1e3
        };
        let (p50, p999) = (percentile("50"), percentile("99.9"));
        println!(
            "{what:24}{p50:10.0}{:10.0}{p999:10.0}{:14.1}{:>10}{:>10}",
            percentile("99"),
            p999 / p50,
            load["counts"]["lost"].to_string(),
            load["wrong"].to_string()
        );
        for note in results["notes"].as_array().into_iter().flatten() {
            println!("    {note}");
        }
        p999
    };
    println!(
        "at {rate} a second{:>9}{:>11}{:>10}{:>14}{:>10}{:>10}",
        "p50, us", "p99", "p99.9", "p99.9 / p50", "lost", "wrong"
    );
    echo();
    let at_rest = measure("at rest");
    let stop = AtomicBool::new(false);
    let file = daemon.file("config.data");
    let reloading = thread::scope(|scope| {
        let replacing = scope.spawn(|| replace(&file, configuration, &stop));
        let reloading = measure("loading every second");
        stop.store(true, Ordering::Relaxed);
        let count = replacing.join().expect("files can be written");
        println!("    replaced {count} times");
        reloading
    });
    println!("p99.9 while loading / at rest: {:.1}", reloading / at_rest);
}

/// The tail of the machine itself: an echo on the daemon's core, asked at a steady rate, one
/// datagram after the other.
fn echo() {
    const RATE: u32 = 10_000;
    const SECONDS: u32 = 8;
    let server = UdpSocket::bind("127.0.0.1:0").expect("loopback has a port");
    let address = server.local_addr().expect("it is bound");
    let echo = thread::spawn(move || {
        pin(gettid(), SERVER_CORE);
        let mut buffer = [0; 64];
        loop {
            let (len, from) = server.recv_from(&mut buffer).expect("loopback works");
            if len == 0 {
                return;
            }
            server
                .send_to(&buffer[..len], from)
                .expect("loopback works");
        }
    });
    let client = UdpSocket::bind("127.0.0.1:0").expect("loopback has a port");
    client.connect(address).expect("loopback works");
    client.set_nonblocking(true).expect("a socket");
    let count = RATE * SECONDS;
    let begin = Instant::now();
    let intended = |number: u32| begin + Duration::from_secs(1) * number / RATE;
    let mut times = Vec::new();
    let (mut sent, mut buffer) = (0, [0; 64]);
    while times.len() < count as usize && begin.elapsed() < Duration::from_secs(1) * (2 * SECONDS) {
        if sent < count && Instant::now() >= intended(sent) {
            client.send(&sent.to_le_bytes()).expect("loopback works");
            sent += 1;
        }
        while client.recv(&mut buffer).is_ok() {
            let number = u32::from_le_bytes(*buffer.first_chunk().expect("it is long enough"));
            times.push(intended(number).elapsed().as_secs_f64() * 1e6);
        }
    }
    client.send(&[]).expect("loopback works");
    echo.join().expect("the echo ends");
    times.sort_by(f64::total_cmp);
    let percentile = |share: f64| times[(times.len() as f64 * share) as usize];
    let (p50, p999) = (percentile(0.5), percentile(0.999));
    println!(
        "{:24}{p50:10.0}{:10.0}{p999:10.0}{:14.1}",
        "a bare echo, 10,000",
        percentile(0.99),
        p999 / p50
    );
}

fn idle() {
    let daemon = Daemon::start(&demo::configuration(3, 10, 1));
    let process = daemon.process.id();
    let tasks = || fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let wakes = || -> u64 {
        let counts = tasks()
            .flatten()
            .map(|task| field(&task.path(), "voluntary_ctxt_switches:"));
        counts.sum()
    };
    let before = wakes();
    thread::sleep(IDLE);
    println!(
        "idle, 3 nodes and 10 instances: woken {} times in {} s; {:.1} MB resident",
        wakes() - before,
        IDLE.as_secs(),
        field(Path::new(&format!("/proc/{process}")), "VmRSS:") as f64 * 1024.0 / 1e6
    );
}

/// A number in a process's or a thread's status; 0 if it has ended.
fn field(task: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(task.join("status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.map(|line| line.trim_matches(|c: char| !c.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn main() {
    let configuration = demo::configuration(1_000, 20_000, demo::SEED);
    println!("config.data of {:.1} MB", configuration.len() as f64 / 1e6);
    let given = std::env::args().find_map(|argument| argument.parse().ok());
    tail(&configuration, given);
    idle();
}

//! The cost of an answer and of loading a configuration, compared with the reference daemon.
//!
//! All daemons serve the same sample cluster on loopback and are queried in turn, several rounds
//! each. The median round counts. CPU time is the scheduler's account of all the server's threads,
//! user and system. It contains the kernel's work for the datagram, and on loopback also the
//! delivery of the reply to the client's socket. It does not contain the client's own time.
//! Ganeti's daemon must be installed (Debian: `ganeti-haskell-3.0`); without it only this project's
//! engines are measured.
//!
//! `cargo bench --bench reference` takes about two minutes. `-- small` omits the large cluster.

mod node;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, REPLY_BYTES_MAX, envelope};
use node::{KEY, REFERENCE};

const ROUNDS: usize = 5;
/// Requests in flight, one per socket. The reference's socket buffer holds this many.
const SOCKETS: usize = 64;
/// Timeout for a daemon to start and load its configuration.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon under test, killed when dropped.
struct Server {
    name: &'static str,
    process: Child,
    address: SocketAddr,
    /// Time from the start of the process to the first answer from the configuration.
    started: Duration,
    _root: tempfile::TempDir,
}

impl Server {
    fn start(name: &'static str, program: &Path, arguments: &[&str], configuration: &str) -> Self {
        let root = node::root(configuration);
        let address = node::free_address();
        let begin = Instant::now();
        let process = Command::new(program)
            .args(["-f", "--no-user-checks", "-b", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .args(arguments)
            .env("GANETI_ROOTDIR", root.path())
            .env("GANETI_HOSTNAME", "localhost")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon starts");
        let mut server = Self {
            name,
            process,
            address,
            started: Duration::ZERO,
            _root: root,
        };
        let client = Client::new(address);
        while !client.answers(Duration::from_millis(20)) {
            assert!(begin.elapsed() < START_TIMEOUT, "{name} does not answer");
        }
        server.started = begin.elapsed();
        server
    }

    /// CPU time of the process including ended threads, in steps of 10 ms.
    fn process_cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()));
        let stat = stat.expect("the daemon runs");
        let (_, fields) = stat.rsplit_once(')').expect("a command in parentheses");
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|text| text.parse::<u64>());
        Duration::from_millis(ticks.map(|ticks| ticks.expect("a number") * 10).sum())
    }

    /// CPU time of all running threads, in nanoseconds.
    fn threads_cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let nanoseconds = |task: PathBuf| -> Option<u64> {
            let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        let tasks = tasks
            .expect("the daemon runs")
            .flatten()
            .map(|entry| entry.path());
        Duration::from_nanos(tasks.filter_map(nanoseconds).sum())
    }

    /// Current and peak resident memory, in MB.
    fn memory(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("the daemon runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|line| line.split_whitespace().next());
            kilobytes
                .and_then(|text| text.parse().ok())
                .unwrap_or(f64::NAN)
                * 1024.0
                / 1e6
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that the daemon has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client with several sockets, with one request in flight on each.
struct Client {
    key: Key,
    sockets: Vec<UdpSocket>,
}

impl Client {
    fn new(server: SocketAddr) -> Self {
        let socket = || {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok::<_, std::io::Error>(socket)
        };
        let sockets = (0..SOCKETS).map(|_| socket().expect("a socket")).collect();
        Self {
            key: Key::new(KEY).expect("the key has bytes"),
            sockets,
        }
    }

    fn request(&self, query: &Query, rsalt: &str) -> Vec<u8> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock after 1970")
            .as_secs();
        let Query { kind, argument, .. } = query;
        let message = format!(
            r#"{{"protocol": 1, "type": {kind}, "query": {argument}, "rsalt": "{rsalt}"}}"#
        );
        envelope::request(&self.key, now, &message)
    }

    /// Whether the daemon answers a ping from its configuration within `timeout`.
    fn answers(&self, timeout: Duration) -> bool {
        let socket = &self.sockets[0];
        socket.set_read_timeout(Some(timeout)).expect("a timeout");
        let ping = self.request(
            &Query {
                name: "",
                kind: 0,
                argument: "null".into(),
            },
            "R",
        );
        let mut reply = [0; 1024];
        let answered = socket.send(&ping).is_ok()
            && socket.recv(&mut reply).is_ok_and(|len| {
                reply[..len]
                    .windows(11)
                    .any(|window| window == br#"status\":0,"#)
            });
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        answered
    }

    /// `count` requests that cycle through `queries`; the salt is the request's number.
    fn requests(&self, queries: &[Query], count: usize) -> Vec<Vec<u8>> {
        let numbered = queries.iter().cycle().zip(0..count);
        numbered
            .map(|(query, number)| self.request(query, &format!("{number:032x}")))
            .collect()
    }

    /// Sends all `requests` and receives their replies.
    fn ask(&self, requests: &[Vec<u8>]) {
        let mut reply = vec![0; REPLY_BYTES_MAX];
        for (round, batch) in requests.chunks(self.sockets.len()).enumerate() {
            for (socket, request) in self.sockets.iter().zip(batch) {
                socket.send(request).expect("a request is sent");
            }
            for (socket, index) in self.sockets.iter().zip(0..batch.len()) {
                let number = round * self.sockets.len() + index;
                let len = socket.recv(&mut reply).expect("an answer");
                let salt = format!(r#""salt":"{number:032x}"}}"#);
                assert!(
                    reply[..len].ends_with(salt.as_bytes()),
                    "the reply belongs to another request"
                );
            }
        }
    }
}

struct Query {
    name: &'static str,
    kind: u8,
    argument: String,
}

fn queries() -> Vec<Query> {
    let node = format!("\"{}\"", demo::node_name(2));
    let instance = format!("\"{}\"", demo::instance_name(7));
    [
        ("ping", 0, "null".to_owned()),
        ("node role", 1, node.clone()),
        ("cluster master", 3, "null".to_owned()),
        ("DRBD minors", 7, node.clone()),
        ("node's instances", 8, node),
        ("instance's disks", 9, instance),
    ]
    .map(|(name, kind, argument)| Query {
        name,
        kind,
        argument,
    })
    .into()
}

/// Each server's CPU time per query in microseconds: the median of several rounds, for which the
/// servers take turns.
fn cpu_per_query(servers: &[Server], queries: &[Query], counts: &[usize]) -> Vec<f64> {
    let clients: Vec<_> = servers
        .iter()
        .map(|server| Client::new(server.address))
        .collect();
    let mut rounds = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (index, server) in servers.iter().enumerate() {
            let requests = clients[index].requests(queries, counts[index]);
            let before = server.threads_cpu();
            clients[index].ask(&requests);
            let spent = (server.threads_cpu() - before).as_nanos() as f64 / 1e3;
            rounds[index].push(spent / counts[index] as f64);
        }
    }
    for round in &mut rounds {
        round.sort_by(f64::total_cmp);
    }
    rounds.iter().map(|round| round[ROUNDS / 2]).collect()
}

/// Starts every daemon that is available on `configuration`.
fn servers(configuration: &str) -> Vec<Server> {
    let ours = Path::new(env!("CARGO_BIN_EXE_ganeti-confd"));
    let start = |engine| {
        let arguments = ["--engine", engine, "--workers", "1"];
        Server::start(engine, ours, &arguments, configuration)
    };
    let mut servers = vec![start("uring"), start("mmsg")];
    let reference = Path::new(REFERENCE);
    if reference.exists() {
        servers.push(Server::start("reference", reference, &[], configuration));
    }
    servers
}

/// Prints one line of the table.
fn row(name: &str, unit: &str, values: &[f64]) {
    print!("{name:22}{unit:8}");
    for value in values {
        print!("{value:12.2}");
    }
    match values {
        [ours, _, reference] => println!("{:18.1}", reference / ours),
        _ => println!("{:>18}", "not installed"),
    }
}

fn table(title: &str, configuration: &str, rows: &[(&str, Vec<Query>, [usize; 3])]) {
    let servers = servers(configuration);
    println!(
        "\n{title}: config.data of {:.1} MB",
        configuration.len() as f64 / 1e6
    );
    print!("{:30}", "");
    for server in &servers {
        print!("{:>12}", server.name);
    }
    println!("{:>18}", "reference / uring");
    let each = |value: fn(&Server) -> f64| servers.iter().map(value).collect::<Vec<_>>();
    let started = |server: &Server| server.started.as_secs_f64();
    row("start to first answer", "s", &each(started));
    let cpu = |server: &Server| server.process_cpu().as_secs_f64();
    row("CPU until then", "s", &each(cpu));
    row("resident", "MB", &each(|server| server.memory().0));
    row("resident, peak", "MB", &each(|server| server.memory().1));
    for (name, queries, counts) in rows {
        row(name, "us CPU", &cpu_per_query(&servers, queries, counts));
    }
}

fn main() {
    let small_only = std::env::args().any(|argument| argument == "small");
    let mix = || vec![("mix of six queries", queries(), [24_000, 24_000, 3_840])];
    let each = |counts: [usize; 3]| {
        queries()
            .into_iter()
            .map(move |query| (query.name, vec![query], counts))
            .collect::<Vec<_>>()
    };
    let small: Vec<_> = mix()
        .into_iter()
        .chain(each([12_800, 12_800, 1_280]))
        .collect();
    table(
        "3 nodes, 10 instances",
        &demo::configuration(3, 10, 1),
        &small,
    );
    if !small_only {
        let large = each([6_400, 6_400, 32]);
        table(
            "1,000 nodes, 20,000 instances",
            &demo::configuration(1_000, 20_000, 1),
            &large,
        );
    }
}

//! What an answer costs here and in the reference daemon, side by side: the server's CPU time for each query, and what it
//! takes to load a configuration.
//!
//! Both daemons serve the same sample cluster on loopback and are asked in turns, a few rounds each; the median round
//! counts. CPU time is that of all the server's threads, user and system, as the scheduler accounts it: it contains the
//! kernel's work for the datagram, and on loopback also that for delivering the reply to the client's socket. The
//! client's own time, signing included, is not in it. Ganeti's daemon must be installed (Debian: `ganeti-haskell-3.0`);
//! without it only ours is measured.
//!
//! `cargo bench --bench reference`; it takes some two minutes. `-- small` leaves the large cluster out.

mod node;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, REPLY_BYTES_MAX, envelope};
use node::{KEY, REFERENCE};

const ROUNDS: usize = 5;
/// Requests in flight, one on each socket: as many as the reference's socket buffer holds.
const SOCKETS: usize = 64;
const STARTING: Duration = Duration::from_secs(60);

/// A daemon under test; ended when dropped.
struct Server {
    name: &'static str,
    process: Child,
    address: SocketAddr,
    /// From the start of the process to the first good answer.
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
            assert!(begin.elapsed() < STARTING, "{name} does not answer");
        }
        server.started = begin.elapsed();
        server
    }

    /// CPU time of the process so far, ended threads included, to a hundredth of a second.
    fn cpu_of_all(&self) -> Duration {
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

    /// CPU time of all threads that still run.
    fn cpu(&self) -> Duration {
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

    /// Resident memory now and at its peak, in MB.
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
        // It may have ended already; there is nobody to tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks over several sockets, one request in flight on each.
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

    /// Whether a configuration is served.
    fn answers(&self, patience: Duration) -> bool {
        let socket = &self.sockets[0];
        socket.set_read_timeout(Some(patience)).expect("a time-out");
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
            .expect("a time-out");
        answered
    }

    /// Requests for `queries` in turns, `count` in all, each with its number for a salt.
    fn requests(&self, queries: &[Query], count: usize) -> Vec<Vec<u8>> {
        let turns = queries.iter().cycle().zip(0..count);
        turns
            .map(|(query, number)| self.request(query, &format!("{number:032x}")))
            .collect()
    }

    /// Sends all `requests` and takes all replies, one request in flight on each socket.
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
                    "the answer is to another request"
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

/// The server's CPU time for each of `count` queries, the median of several rounds of each server in turns.
fn cpu_per_query(servers: &[Server], queries: &[Query], counts: &[usize]) -> Vec<f64> {
    let clients: Vec<_> = servers
        .iter()
        .map(|server| Client::new(server.address))
        .collect();
    let mut rounds = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (index, server) in servers.iter().enumerate() {
            let requests = clients[index].requests(queries, counts[index]);
            let before = server.cpu();
            clients[index].ask(&requests);
            let spent = (server.cpu() - before).as_nanos() as f64 / 1e3;
            rounds[index].push(spent / counts[index] as f64);
        }
    }
    for round in &mut rounds {
        round.sort_by(f64::total_cmp);
    }
    rounds.iter().map(|round| round[ROUNDS / 2]).collect()
}

fn table(title: &str, configuration: &str, rows: &[(&str, Vec<Query>, [usize; 3])]) {
    let ours = Path::new(env!("CARGO_BIN_EXE_ganeti-confd"));
    let mut servers = vec![
        Server::start(
            "uring",
            ours,
            &["--engine", "uring", "--workers", "1"],
            configuration,
        ),
        Server::start(
            "mmsg",
            ours,
            &["--engine", "mmsg", "--workers", "1"],
            configuration,
        ),
    ];
    let reference = Path::new(REFERENCE);
    if reference.exists() {
        servers.push(Server::start("reference", reference, &[], configuration));
    }
    println!(
        "\n{title}: config.data of {:.1} MB",
        configuration.len() as f64 / 1e6
    );
    print!("{:28}", "");
    for server in &servers {
        print!("{:>12}", server.name);
    }
    println!("{:>18}", "reference / uring");
    let line = |name: &str, unit: &str, values: Vec<f64>| {
        print!("{name:20}{unit:8}");
        for value in &values {
            print!("{value:12.2}");
        }
        match values.as_slice() {
            [ours, _, reference] => println!("{:18.1}", reference / ours),
            _ => println!("{:>18}", "not installed"),
        }
    };
    line(
        "start to answer",
        "s",
        servers
            .iter()
            .map(|server| server.started.as_secs_f64())
            .collect(),
    );
    line(
        "CPU until then",
        "s",
        servers
            .iter()
            .map(|server| server.cpu_of_all().as_secs_f64())
            .collect(),
    );
    line(
        "resident",
        "MB",
        servers.iter().map(|server| server.memory().0).collect(),
    );
    line(
        "resident, peak",
        "MB",
        servers.iter().map(|server| server.memory().1).collect(),
    );
    for (name, queries, counts) in rows {
        line(name, "us CPU", cpu_per_query(&servers, queries, counts));
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

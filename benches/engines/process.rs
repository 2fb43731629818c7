//! Servers of other projects, if they are installed: the reference daemon, and two DNS servers,
//! with one worker each.
//!
//! The DNS servers look up a name and copy an answer; they neither verify nor sign. So they do less
//! work, and are a goal rather than a comparison of equals.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::gettid;
use tempfile::TempDir;

use super::cores::{CLIENT_CORE, SERVER_CORE, pin};
use super::node::{self, REFERENCE};
use super::server::{Protocol, Server, Tasks};

const KNOT: &str = "/usr/sbin/knotd";
const NSD: &str = "/usr/sbin/nsd";

const ZONE: &str = "\
$ORIGIN example.com.
$TTL 3600
@ IN SOA ns1 admin 1 3600 600 86400 3600
@ IN NS ns1
ns1 IN A 192.0.2.1
node1 IN A 192.0.2.11
";

/// Starts all servers that are installed and run.
pub(crate) fn all(configuration: &str) -> Vec<Server> {
    [reference(configuration), knot(), nsd()]
        .into_iter()
        .flatten()
        .collect()
}

fn reference(configuration: &str) -> Option<Server> {
    let root = node::root(configuration);
    let port = node::free_address().port();
    let mut command = Command::new(REFERENCE);
    command
        .args(["-f", "--no-user-checks", "-b", "127.0.0.1", "-p"])
        .arg(port.to_string())
        .env("GANETI_ROOTDIR", root.path())
        .env("GANETI_HOSTNAME", "localhost");
    start("reference", command, port, Protocol::Confd, root)
}

fn knot() -> Option<Server> {
    let (root, port) = (zone(), node::free_address().port());
    let directory = root.path().display();
    let text = format!(
        "server:
    rundir: \"{directory}\"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: \"{directory}\"
zone:
  - domain: example.com
    file: \"{directory}/zone\"
    zonefile-sync: -1
    journal-content: none
"
    );
    let file = root.path().join("knot.conf");
    fs::write(&file, text).expect("a file");
    let mut command = Command::new(KNOT);
    command.arg("-c").arg(file);
    start("Knot DNS", command, port, Protocol::Dns, root)
}

fn nsd() -> Option<Server> {
    let (root, port) = (zone(), node::free_address().port());
    let directory = root.path().display();
    // No rate limit: by default it answers a client 200 times a second.
    let text = format!(
        "server:
    server-count: 1
    ip-address: 127.0.0.1@{port}
    rrl-ratelimit: 0
    username: \"\"
    database: \"\"
    pidfile: \"{directory}/pid\"
    zonelistfile: \"{directory}/list\"
    xfrdfile: \"{directory}/xfrd\"
    xfrdir: \"{directory}\"
remote-control:
    control-enable: no
zone:
    name: example.com
    zonefile: \"{directory}/zone\"
"
    );
    let file = root.path().join("nsd.conf");
    fs::write(&file, text).expect("a file");
    let mut command = Command::new(NSD);
    command.arg("-d").arg("-c").arg(file);
    start("NSD", command, port, Protocol::Dns, root)
}

fn zone() -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::write(root.path().join("zone"), ZONE).expect("a file");
    root
}

/// Starts the server on its core, and waits for its first answer.
fn start(
    name: &'static str,
    mut command: Command,
    port: u16,
    speaks: Protocol,
    root: TempDir,
) -> Option<Server> {
    if !Path::new(command.get_program()).exists() {
        eprintln!("{name} is not installed");
        return None;
    }
    pin(gettid(), SERVER_CORE);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    pin(gettid(), CLIENT_CORE);
    let server = Server {
        name,
        address: ([127, 0, 0, 1], port).into(),
        speaks,
        tasks: Tasks::Process(child.expect("it is executable"), root),
    };
    if !answers(&server) {
        eprintln!("{name} does not answer");
        return None;
    }
    Some(server)
}

fn answers(server: &Server) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a port");
    socket.connect(server.address).expect("loopback works");
    let patience = Some(Duration::from_millis(50));
    socket.set_read_timeout(patience).expect("not zero");
    let mut reply = [0; 2048];
    (0..200).any(|_| {
        let sent = socket.send(&server.speaks.request());
        let answered = sent
            .and_then(|_| socket.recv(&mut reply))
            .is_ok_and(|len| server.speaks.is_reply(&reply[..len]));
        if !answered {
            std::thread::sleep(Duration::from_millis(10));
        }
        answered
    })
}

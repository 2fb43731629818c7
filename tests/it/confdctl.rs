//! Tests of the `confdctl` binary against real daemons: ours and the reference.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ganeti_confd::demo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::common::{Kind, Subject, skip};

pub(crate) const CONFDCTL: &str = env!("CARGO_BIN_EXE_confdctl");
const DAEMON: &str = env!("CARGO_BIN_EXE_ganeti-confd");
pub(crate) const KEY: &[u8] = b"0123456789abcdef\n";
/// A limit for every wait; much longer than anything here takes, even on a busy machine.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

pub(crate) fn configuration() -> Vec<u8> {
    demo::configuration(3, 10, demo::SEED).into_bytes()
}

/// The sample cluster with some values changed, by JSON pointer.
fn changed(changes: &[(&str, Value)]) -> Vec<u8> {
    let mut configuration: Value = serde_json::from_slice(&configuration()).unwrap();
    for (pointer, value) in changes {
        *configuration.pointer_mut(pointer).expect(pointer) = value.clone();
    }
    configuration.to_string().into_bytes()
}

/// `confdctl` without the environment variables that it reads.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(CONFDCTL);
    command
        .args(args)
        .env("GANETI_ROOTDIR", "/nonexistent")
        .env_remove("CONFD_SERVERS")
        .env_remove("CONFD_KEY")
        .env_remove("CONFD_KEY_FILE")
        .stdin(Stdio::null());
    command
}

/// The output of a run, and its exit status.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn first_line(&self) -> &str {
        self.out.lines().next().unwrap_or_default()
    }
}

pub(crate) fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Ran {
        status: output.status.code().expect("it ends by itself"),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

pub(crate) fn run(args: &[&str]) -> Ran {
    ran(&command(args).output().unwrap())
}

/// A key file, and the servers to use.
pub(crate) struct Servers {
    dir: TempDir,
    options: Vec<String>,
}

impl Servers {
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hmac.key"), KEY).unwrap();
        let servers = servers.iter().map(|address| format!("--server={address}"));
        Self {
            dir,
            options: servers.collect(),
        }
    }

    pub(crate) fn run(&self, args: &str) -> Ran {
        self.run_args(&args.split_whitespace().collect::<Vec<_>>())
    }

    /// As [`Servers::run`], with each argument as it is.
    pub(crate) fn run_args(&self, args: &[&str]) -> Ran {
        let key = format!("--key-file={}", self.dir.path().join("hmac.key").display());
        let mut all: Vec<&str> = self.options.iter().map(String::as_str).collect();
        all.push(&key);
        all.extend(args);
        run(&all)
    }
}

/// An address on which nothing listens until this is dropped: the port is in use on another
/// address.
pub(crate) struct Dead(UdpSocket);

impl Dead {
    pub(crate) fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let port = self.0.local_addr().unwrap().port();
        ([127, 66, 66, 66], port).into()
    }
}

/// Our daemon on both engines, and the reference, as far as they are available.
pub(crate) fn kinds() -> impl Iterator<Item = Kind> {
    let kinds = [Kind::Uring, Kind::Mmsg, Kind::Reference];
    kinds.into_iter().filter(Kind::is_available)
}

/// Every query, and its output if standard output is not a terminal.
const QUERIES: &[(&str, &str)] = &[
    ("master", "node1.example.com\n"),
    (
        "master --addresses",
        "node1.example.com\t10.0.0.1\t10.1.0.1\n",
    ),
    ("role node1.example.com", "master\n"),
    ("role node2", "regular\n"),
    ("nodes --addresses", "10.1.0.3\n10.1.0.2\n10.1.0.1\n"),
    (
        "nodes",
        "node1.example.com\t10.1.0.1\tcandidate\t1a0c8aae-ec67-458e-9a16-a2eefb32555e\n\
         node2.example.com\t10.1.0.2\tregular\t60044f9c-b5b9-4101-8d8d-0bff90150280\n\
         node3.example.com\t10.1.0.3\tregular\tb7d02912-8575-4227-b0f1-18de357e3da8\n",
    ),
    (
        "instances -o name",
        "instance1.example.com\ninstance10.example.com\ninstance2.example.com\n\
         instance3.example.com\ninstance4.example.com\ninstance5.example.com\n\
         instance6.example.com\ninstance7.example.com\ninstance8.example.com\n\
         instance9.example.com\n",
    ),
    ("config /nodes/node2.example.com/primary_ip", "10.1.0.2\n"),
    ("config /nodes/node2/primary_ip", "10.1.0.2\n"),
    ("candidates", "10.1.0.1\n"),
    (
        "instances-on node2",
        "instance5.example.com\tprimary\tdown\tkvm\ninstance8.example.com\tprimary\tup\tkvm\ninstance9.example.com\tsecondary\tup\tkvm\n",
    ),
    (
        "disks instance1",
        "disk/0\tdrbd\t1024\trw\t08da5ee1-c379-4811-a403-b26dfe81f26e\t\
         1a0c8aae-ec67-458e-9a16-a2eefb32555e b7d02912-8575-4227-b0f1-18de357e3da8 28018 0 0\n",
    ),
    (
        "drbd node2",
        "node2.example.com\t0\tinstance5.example.com\tdisk/0\tprimary\tnode3.example.com\n\
         node2.example.com\t1\tinstance9.example.com\tdisk/0\tsecondary\tnode1.example.com\n",
    ),
    ("node-of 10.64.0.0", "10.1.0.1\n"),
    (
        "node-of 10.64.0.0 192.0.2.7",
        "10.64.0.0\t10.1.0.1\n192.0.2.7\t-\n",
    ),
    ("config /cluster/cluster_name", "demo.example.com\n"),
    ("config /cluster/enabled_hypervisors", "[\n  \"kvm\"\n]\n"),
    ("config /serial_no", "34\n"),
    (
        "collectors",
        "cpu-avg-load\tyes\t5\ndiskstats\tyes\t5\ndrbd\tyes\t5\ninst-status-xen\tno\t5\nlv\tyes\t5\nxen-cpu-avg-load\tyes\t5\n",
    ),
    ("ping", "3.0.0\n"),
];

#[test]
fn every_query_prints_text_and_json() {
    for kind in kinds() {
        let subject = Subject::start(kind, Some(&configuration()), KEY);
        let servers = Servers::new(&[subject.address()]);
        for (query, expected) in QUERIES {
            let plain = servers.run(&format!("query {query}"));
            assert_eq!(
                (plain.out.as_str(), plain.status),
                (*expected, 0),
                "{kind:?} {query}: {}",
                plain.err
            );
            assert_eq!(plain.err, "", "{kind:?} {query}");
            let json = servers.run(&format!("query {} --json", query.replace(" -o name", "")));
            assert_eq!(
                (json.status, json.err.as_str()),
                (0, ""),
                "{kind:?} {query}"
            );
            let json = json.json();
            assert_eq!(json["from"], json!(subject.address().to_string()));
            for (field, value) in [("replies", 1), ("needed", 1), ("asked", 1)] {
                assert_eq!(json[field], value, "{kind:?} {query}");
            }
            assert_eq!(json["consistent"], true);
            assert!(
                json["serial"].is_i64() && !json["answer"].is_null() && json.get("error").is_none()
            );
        }
        let link = servers.run("query config /cluster/nicparams/default/link");
        let on_link = servers.run(&format!("query ips --link {}", link.out.trim()));
        assert_eq!(on_link.out.lines().count(), 10, "{on_link:?}");
        assert_eq!(on_link.out, servers.run("query ips").out);
    }
}

#[test]
fn json_output_has_the_answer_as_received() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let servers = Servers::new(&[subject.address()]);
    let line = servers.run("--json query master --addresses").out;
    assert!(
        line.starts_with(
            r#"{"answer":["node1.example.com","10.0.0.1","10.1.0.1"],"serial":4,"replies":1,"#
        ),
        "{line}"
    );
}

#[test]
fn errors_of_the_cluster_exit_with_1() {
    for kind in kinds() {
        let subject = Subject::start(kind, Some(&configuration()), KEY);
        let servers = Servers::new(&[subject.address()]);
        for (query, expected) in [
            ("role node9", "confdctl: Node name node9 not found\n"),
            (
                "disks nothing",
                "confdctl: Instance name nothing not found\n",
            ),
            (
                "node-of 192.0.2.7",
                "confdctl: address 192.0.2.7: the cluster has no such entry\n",
            ),
            (
                "config /nothing",
                "confdctl: path \"/nothing\": there is no \"nothing\" in /, which has cluster, ctime, disks, filters, instances, maintenance, mtime, networks, nodegroups, nodes, serial_no, version\n",
            ),
        ] {
            let ran = servers.run(&format!("query {query}"));
            assert_eq!((ran.status, ran.out.as_str()), (1, ""), "{kind:?} {query}");
            assert_eq!(ran.err, expected, "{kind:?}");
            let json = servers.run(&format!("--json query {query}"));
            assert_eq!(json.status, 1);
            assert!(json.json()["error"].is_string(), "{json:?}");
        }
        let deep = servers.run("query config /nodes/node1/bogus/deeper");
        assert_eq!(deep.status, 1);
        let expected = "confdctl: path \"/nodes/node1/bogus/deeper\": there is no \"bogus\" in \
                        /nodes/1a0c8aae-ec67-458e-9a16-a2eefb32555e, which has name, primary_ip, ";
        assert!(deep.err.starts_with(expected), "{kind:?}: {deep:?}");
    }
}

#[test]
fn all_shows_the_answer_and_how_each_candidate_compares() {
    let one = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let other = changed(&[
        ("/serial_no", json!(40)),
        ("/cluster/cluster_name", json!("x")),
    ]);
    let two = Subject::start(Kind::Mmsg, Some(&other), KEY);
    let dead = Dead::new();
    let servers = Servers::new(&[one.address(), dead.address(), two.address()]);
    let ran = servers.run("query --all master");
    assert_eq!((ran.status, ran.err.as_str()), (0, ""));
    let lines: Vec<Vec<&str>> = ran
        .out
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let [answer, empty, first, second, third] = lines.as_slice() else {
        panic!("{ran:?}");
    };
    assert_eq!((answer[0], empty[0]), ("node1.example.com", ""));
    let address = one.address().to_string();
    assert_eq!(
        (first[0], first[1], first[2], first[4]),
        (&*address, "4", "34", "agrees")
    );
    assert!(first[3].ends_with(" ms"), "{ran:?}");
    let address = dead.address().to_string();
    let down = "down: connection refused, no daemon listens there";
    assert_eq!(*second, [&*address, "-", "-", "-", down]);
    assert_eq!((third[2], third[4]), ("40", "agrees"));

    let differing = servers.run("query --all config /cluster/cluster_name");
    let last = differing.out.lines().last().expect("a line");
    let answer = differing.first_line();
    assert!(
        ["demo.example.com", "x"].contains(&answer) && differing.out.contains("\tdiffers: "),
        "{last} {differing:?}"
    );

    let json = servers.run("query --all --json master").json();
    assert_eq!(
        (&json["replies"], &json["needed"], &json["asked"]),
        (&json!(2), &json!(2), &json!(3))
    );
    let statuses: Vec<&Value> = json["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["status"])
        .collect();
    assert_eq!(statuses, ["answered", "unreachable", "answered"]);
    assert_eq!(json["candidates"][0]["answer"], "node1.example.com");
    assert!(json["candidates"][0]["round_trip_ms"].is_f64());
}

#[test]
fn strict_needs_the_safe_number_of_replies() {
    let [one, two] =
        [Kind::Mmsg, Kind::Mmsg].map(|kind| Subject::start(kind, Some(&configuration()), KEY));
    let dead = Dead::new();
    let enough = Servers::new(&[one.address(), two.address(), dead.address()]);
    assert_eq!(enough.run("query --strict master").status, 0);
    let too_few = Servers::new(&[one.address(), dead.address()]);
    let ran = too_few.run("query --strict master");
    assert_eq!((ran.status, ran.out.as_str()), (5, "node1.example.com\n"));
    assert_eq!(too_few.run("query master").status, 0);
    // An address that is named twice is one candidate.
    let twice = Servers::new(&[one.address(), one.address()]);
    let json = twice.run("query --strict --json master");
    assert_eq!((json.status, &json.json()["asked"]), (0, &json!(1)));
}

#[test]
fn a_name_without_an_address_is_a_candidate_that_is_down() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let mut servers = Servers::new(&[subject.address()]);
    servers.options.push("--server=no.such.host.invalid".into());
    let ran = servers.run("query master");
    assert_eq!((ran.status, ran.out.as_str()), (0, "node1.example.com\n"));
    assert!(
        ran.err
            .contains("warning: 1 of 2 candidates answered, the safe number is 2;")
            && ran.err.contains("\n  no.such.host.invalid: unreachable: "),
        "{}",
        ran.err
    );
    assert_eq!(servers.run("query --strict master").status, 5);
    let probed = servers.run("probe");
    assert_eq!(probed.status, 2, "{probed:?}");
    assert!(
        probed
            .first_line()
            .contains("; no.such.host.invalid: down ("),
        "{probed:?}"
    );
}

#[test]
fn output_formats() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let servers = Servers::new(&[subject.address()]);
    let drbd = |options: &str| servers.run(&format!("query drbd node2 {options}")).out;
    assert_eq!(
        drbd("-o csv").lines().next(),
        Some("NODE,MINOR,INSTANCE,DISK,ROLE,PEER")
    );
    assert!(drbd("-o csv --no-headers").starts_with("node2.example.com,0,instance5"));
    assert_eq!(drbd("-o name"), "node2.example.com\nnode2.example.com\n");
    assert!(drbd("-o wide").starts_with("NODE               MINOR  INSTANCE"));
    assert!(drbd("-o wide --no-headers").starts_with("node2.example.com  0  instance5"));
    assert_eq!(drbd("-o json"), drbd("--json"));
    let yaml = drbd("-o yaml");
    assert!(
        yaml.starts_with("\"answer\":\n  -\n    - \"node2.example.com\"\n    - 0\n"),
        "{yaml}"
    );
    assert_eq!(
        servers.run("query candidates -o csv").out.lines().next(),
        Some("IP")
    );
    let colored = servers
        .run("query instances-on node2 -o wide --color always")
        .out;
    assert!(colored.contains("\u{1b}[31mdown\u{1b}[0m"), "{colored:?}");
    assert!(colored.contains("\u{1b}[32mup\u{1b}[0m"), "{colored:?}");
    for (options, status) in [("-o json --json", 2), ("-o xml", 2)] {
        assert_eq!(
            servers.run(&format!("query nodes {options}")).status,
            status
        );
    }
}

#[test]
fn control_characters_of_the_cluster_are_never_printed() {
    let hostile = "evil\u{1b}[31m\u{9b}2J|\n\u{7f}";
    let config = changed(&[("/cluster/cluster_name", json!(hostile))]);
    let subject = Subject::start(Kind::Mmsg, Some(&config), KEY);
    let servers = Servers::new(&[subject.address()]);
    for args in [
        "query config /cluster/cluster_name",
        "query config /cluster",
        "query config /cluster/cluster_name -o csv",
        "query config /cluster/cluster_name -o name",
        "query config /cluster --json",
        "query config /cluster -o yaml",
        "query config /cluster/cluster_name --all",
        "query config /\u{1b}[31m",
        "query role \u{1b}[31m",
        "probe --checks",
    ] {
        let ran = servers.run(args);
        for text in [&ran.out, &ran.err] {
            let is_raw = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            assert!(!text.contains(is_raw), "{args}: {ran:?}");
        }
        if !args.contains("31m") {
            assert_eq!(ran.status, 0, "{args}: {ran:?}");
        }
    }
    let json = servers
        .run("query config /cluster/cluster_name --json")
        .json();
    assert_eq!(json["answer"], hostile);
}

#[test]
fn tables_fit_the_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script (Debian package bsdutils)");
    }
    let shown = |width: usize, query: &str| {
        let command = format!("stty cols {width}; {CONFDCTL} --demo query {query}");
        let mut script = Command::new("script");
        script
            .args(["-qec", &command, "/dev/null"])
            .env("NO_COLOR", "1");
        let output = script.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().replace('\r', "")
    };
    for query in ["drbd node2", "disks instance1", "instances-on node2"] {
        for width in [80, 60] {
            let text = shown(width, query);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {text}");
            }
            assert!(text.lines().count() > 1, "{text}");
        }
    }
    let disks = shown(80, "disks instance1");
    assert!(
        disks.contains("LOGICAL ID") && !disks.contains("UUID"),
        "{disks}"
    );
    assert!(shown(200, "disks instance1").contains("UUID"));
    assert!(shown(60, "disks instance1 -o wide").contains("UUID"));
}

#[test]
fn too_few_answers_are_printed_with_a_warning() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let dead = Dead::new();
    let ran = Servers::new(&[subject.address(), dead.address()]).run("query master");
    assert_eq!((ran.status, ran.out.as_str()), (0, "node1.example.com\n"));
    let expected = format!(
        "confdctl: warning: 1 of 2 candidates answered, the safe number is 2; the answer may be old\n  {}: unreachable: connection refused",
        dead.address()
    );
    assert!(ran.err.starts_with(&expected), "{}", ran.err);
}

#[test]
fn a_wrong_key_is_diagnosed() {
    for kind in kinds() {
        let subject = Subject::start(kind, Some(&configuration()), b"another");
        let servers = Servers::new(&[subject.address()]);
        let ran = servers.run("query nodes --timeout 0.5");
        assert_eq!((ran.status, ran.out.as_str()), (3, ""));
        for part in [
            "confdctl: no answer within 0.5 s\n",
            &format!("  {}: no reply to 2 requests\n", subject.address()),
            "confd does not answer requests signed with another key.",
            "\"confdctl probe\" compares them",
            "too large for a datagram",
        ] {
            assert!(ran.err.contains(part), "{part} in {}", ran.err);
        }
        // On loopback, the port would be refused if no daemon were listening.
        assert!(!ran.err.contains("is not running"), "{}", ran.err);
        let probed = servers.run("probe --timeout 0.5");
        assert_eq!(probed.status, 2);
        assert!(
            probed
                .first_line()
                .starts_with("CONFD CRITICAL - 0 of 1 candidates answer, 1 are needed; ")
        );
        assert!(
            probed.out.contains("not running, firewall, or wrong key"),
            "{probed:?}"
        );
    }
}

#[test]
fn a_refused_port_is_reported_at_once() {
    let dead = Dead::new();
    let started = Instant::now();
    let ran = Servers::new(&[dead.address()]).run("--json query master");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(ran.status, 3);
    assert_eq!(ran.json()["error"], "no answer");
    assert!(
        ran.err.contains("unreachable: connection refused"),
        "{}",
        ran.err
    );
    assert!(
        !ran.err.contains("The key"),
        "the key does not matter: {}",
        ran.err
    );
}

#[test]
fn servers_and_key_come_from_options_environment_and_node_files() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let server = subject.address().to_string();
    let master = |command: &mut Command| {
        let ran = ran(&command.output().unwrap());
        assert_eq!(
            (ran.out.as_str(), ran.status),
            ("node1.example.com\n", 0),
            "{ran:?}"
        );
    };
    let query = ["query", "master"];
    let key_file = format!("{}/var/lib/ganeti/hmac.key", subject.root());
    master(
        command(&query)
            .env("CONFD_SERVERS", format!("{server},"))
            .env("CONFD_KEY_FILE", &key_file),
    );
    master(
        command(&query)
            .env("CONFD_SERVERS", &server)
            .env("CONFD_KEY", "0123456789abcdef\n"),
    );
    // The node's key, with a server that is named.
    master(
        command(&query)
            .args(["--server", &server])
            .env("GANETI_ROOTDIR", subject.root()),
    );

    // The key without its final newline, as $(cat FILE) would set it.
    let cut = command(&["query", "ping", "--timeout=0.3"])
        .env("CONFD_SERVERS", &server)
        .env("CONFD_KEY", "0123456789abcdef")
        .output();
    let cut = ran(&cut.unwrap());
    assert_eq!(cut.status, 3);
    assert!(
        cut.err
            .contains("drops its final newline: set CONFD_KEY_FILE"),
        "{}",
        cut.err
    );

    let list = format!(
        "{}/var/lib/ganeti/ssconf_master_candidates_ips",
        subject.root()
    );
    fs::write(&list, "127.77.77.77\n").unwrap();
    let listed = ran(&command(&query)
        .env("GANETI_ROOTDIR", subject.root())
        .output()
        .unwrap());
    assert_eq!(listed.status, 3);
    assert!(
        listed.err.contains("  127.77.77.77: unreachable"),
        "{}",
        listed.err
    );
}

#[test]
fn usage_errors_and_local_failures_have_their_own_status() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("hmac.key");
    fs::write(&empty, "").unwrap();
    let empty = format!("--key-file={}", empty.display());
    for (args, status, expected) in [
        (&["query", "bogus"][..], 2, "unrecognized subcommand"),
        (&["query", "role"], 2, "<NODE>"),
        (
            &["--timeout=x", "query", "ping"],
            2,
            "expected a time like 10, 10s or 500ms",
        ),
        (
            &["--demo", "--server=::1", "query", "ping"],
            2,
            "--demo uses a cluster of its own",
        ),
        (&["query", "master"], 4, "not a node of a Ganeti cluster"),
        (
            &["--server=::1", "query", "master"],
            4,
            "/nonexistent/var/lib/ganeti/hmac.key does not exist",
        ),
        (
            &["--server=::1", &empty, "query", "master"],
            4,
            "is empty, anybody could sign with it",
        ),
        (
            &["--server=a b", "query", "master"],
            2,
            "name a server as ADDR",
        ),
        (&["--server=", "query", "master"], 2, "names no server"),
        (
            &["--server=127.0.0.1:0", "query", "master"],
            2,
            "is not a server's address",
        ),
        (
            &["--server=127.0.0.1:99999", "query", "master"],
            2,
            "is not a server's address",
        ),
        (
            &["--json", "completions", "bash"],
            2,
            "--json has no effect on completions",
        ),
        (
            &["--demo", "bench", "--timeout=1"],
            2,
            "--timeout has no effect on bench",
        ),
        (&["probe", "--watch", "--checks"], 3, "cannot be used with"),
        // To a monitoring system, 2 would be CRITICAL.
        (&["probe", "--bogus"], 3, "--bogus"),
    ] {
        let ran = run(args);
        assert_eq!(
            (ran.status, ran.out.as_str()),
            (status, ""),
            "{args:?}: {}",
            ran.err
        );
        assert!(ran.err.contains(expected), "{args:?}: {}", ran.err);
    }
    let unknown = run(&["probe"]);
    assert_eq!(unknown.status, 3);
    assert!(
        unknown
            .first_line()
            .starts_with("CONFD UNKNOWN - cannot read the master candidates from ")
    );
}

#[test]
fn the_demo_example_of_the_help_works() {
    let help = run(&["--help"]);
    assert_eq!(help.status, 0);
    assert!(help.out.contains("  confdctl --demo query master  "));
    let ran = run(&["--demo", "query", "master"]);
    assert_eq!(
        (ran.out.as_str(), ran.err.as_str(), ran.status),
        ("node1.example.com\n", "", 0)
    );
}

#[test]
fn the_lines_that_the_daemons_demo_prints_work() {
    let child = Command::new(DAEMON)
        .args(["--demo", "-p", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut demo = Killed(child.unwrap());
    let lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let mut script = Vec::new();
    for line in lines.map(Result::unwrap) {
        let is_last = line.ends_with(" query master");
        if is_last || line.starts_with("  export ") {
            script.push(line);
        }
        if is_last {
            break;
        }
    }
    let script = script.join("\n");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.stdout, b"node1.example.com\n", "{script}");
    // So that it removes its files.
    kill(Pid::from_raw(demo.0.id() as i32), Signal::SIGTERM).unwrap();
    demo.0.wait().unwrap();
}

#[test]
fn probe_of_healthy_candidates_is_ok() {
    for kind in kinds() {
        let [one, two] = [kind, kind].map(|kind| Subject::start(kind, Some(&configuration()), KEY));
        let servers = Servers::new(&[one.address(), two.address()]);
        let ran = servers.run("probe --checks");
        assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{ran:?}");
        let (text, performance) = ran.first_line().split_once('|').expect("performance data");
        assert_eq!(text, "CONFD OK - 2 of 2 candidates answer, serial 34");
        assert!(
            performance.starts_with("up=2;2:;2:;0;2 lag=0;0;;0; skew="),
            "{performance}"
        );
        let lines: Vec<&str> = ran.out.lines().collect();
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(
            words[..4],
            [&*one.address().to_string(), "up", "34", "0"],
            "{ran:?}"
        );
        assert_eq!(lines[4..].len(), 8, "{ran:?}");
        assert!(
            lines[4..].iter().all(|line| line.starts_with("OK      ")),
            "{ran:?}"
        );
        let json = servers.run("probe --json").json();
        assert_eq!(
            (&json["verdict"], &json["up"], &json["serial"]),
            (&json!("OK"), &json!(2), &json!(34))
        );
        assert!(json["candidates"][1]["skew_s"].as_i64().unwrap().abs() <= 1);
    }
}

#[test]
fn probe_warns_if_a_candidate_is_down_and_is_critical_below_the_safe_number() {
    let [one, two] =
        [Kind::Mmsg, Kind::Mmsg].map(|kind| Subject::start(kind, Some(&configuration()), KEY));
    let [dead, dead_too] = [Dead::new(), Dead::new()];
    let warning = Servers::new(&[one.address(), two.address(), dead.address()]).run("probe");
    assert_eq!(warning.status, 1);
    let expected = format!(
        "CONFD WARNING - 2 of 3 candidates answer, serial 34; {}: down (connection refused",
        dead.address()
    );
    assert!(warning.first_line().starts_with(&expected), "{warning:?}");
    let critical = Servers::new(&[one.address(), dead.address(), dead_too.address()]).run("probe");
    assert_eq!(critical.status, 2);
    assert!(
        critical
            .first_line()
            .starts_with("CONFD CRITICAL - 1 of 3 candidates answer, 2 are needed, serial 34; ")
    );
}

#[test]
fn probe_warns_if_a_serial_is_behind() {
    let new = Subject::start(
        Kind::Mmsg,
        Some(&changed(&[("/serial_no", json!(40))])),
        KEY,
    );
    let old = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let ran = Servers::new(&[new.address(), old.address()]).run("probe");
    assert_eq!(ran.status, 1);
    let expected = format!(
        "CONFD WARNING - 2 of 2 candidates answer, serial 40; {}: serial 6 behind|",
        old.address()
    );
    assert!(ran.first_line().starts_with(&expected), "{ran:?}");
}

/// Both daemons refuse the new file and serve the old one, so their serials agree.
#[test]
fn probe_warns_if_the_file_on_disk_is_not_served() {
    let [one, two] =
        [Kind::Mmsg, Kind::Mmsg].map(|kind| Subject::start(kind, Some(&configuration()), KEY));
    let replace = |config: &[u8]| {
        for subject in [&one, &two] {
            let data = Path::new(subject.root()).join("var/lib/ganeti");
            fs::write(data.join("new"), config).unwrap();
            fs::rename(data.join("new"), data.join("config.data")).unwrap();
        }
    };
    let probe = |args: &[&str]| {
        let mut command = command(args);
        command.env("GANETI_ROOTDIR", one.root());
        for address in [one.address(), two.address()] {
            command.args(["--server", &address.to_string()]);
        }
        ran(&command.output().unwrap())
    };
    let ok = probe(&["probe"]);
    assert_eq!(ok.status, 0, "{ok:?}");
    replace(br#"{"serial_no": 42, "cluster": "not an object"}"#);
    let warning = probe(&["probe"]);
    assert_eq!(warning.status, 1, "{warning:?}");
    assert!(
        warning
            .first_line()
            .contains("/config.data has serial 42, but serial 34 is served|"),
        "{warning:?}"
    );
    let json = probe(&["probe", "--json"]).json();
    assert_eq!(json["config_file"]["serial"], 42, "{json}");

    // With a key that is not this node's, the servers may be another cluster's.
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), KEY).unwrap();
    let elsewhere = probe(&["probe", "--key-file", key.path().to_str().unwrap()]);
    assert_eq!(elsewhere.status, 0, "{elsewhere:?}");

    // A new file that is loaded is no difference.
    replace(&changed(&[("/serial_no", json!(43))]));
    let ok = probe(&["probe"]);
    assert_eq!(ok.status, 0, "{ok:?}");
    assert!(ok.first_line().contains("serial 43|"), "{ok:?}");
}

#[test]
fn thresholds_of_the_probe_are_options() {
    let new = Subject::start(
        Kind::Mmsg,
        Some(&changed(&[("/serial_no", json!(40))])),
        KEY,
    );
    let old = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let servers = Servers::new(&[new.address(), old.address()]);
    // The lag is 6; the configuration is years old.
    for (options, status, part) in [
        ("", 1, "serial 6 behind"),
        ("-w lag=6", 0, "CONFD OK - 2 of 2"),
        ("-w lag=6 -c rtt=1ns", 2, ": round trip "),
        (
            "-c lag=5",
            2,
            "CONFD CRITICAL - 2 of 2 candidates answer, serial 40; ",
        ),
        (
            "-w lag=6,age=1d",
            1,
            "; the configuration was changed 2years ",
        ),
        ("-w lag=6,age=1d -c age=1d", 2, " age="),
        ("-w lag=x", 3, ""),
    ] {
        let ran = servers.run(&format!("probe {options}"));
        assert_eq!(ran.status, status, "{options}: {ran:?}");
        assert!(ran.first_line().contains(part), "{options}: {ran:?}");
    }
    let performance = servers.run("probe -w lag=7,rtt=1s -c skew=5m").out;
    assert!(performance.contains(" lag=6;7;;0; skew="), "{performance}");
    assert!(performance.contains("s;60;300;0; rtt="), "{performance}");
    assert!(performance.contains("s;1;;0;"), "{performance}");
}

/// The daemon replies from another address of this host than the one that was queried, as the
/// reference does on 0.0.0.0.
#[test]
fn replies_from_another_address_are_named_and_accepted_on_request() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    // A relay that passes requests on and replies from another socket.
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (server, other) = (subject.address(), back.local_addr().unwrap());
    for socket in [&front, &back] {
        let timeout = Duration::from_millis(500);
        socket.set_read_timeout(Some(timeout)).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let is_stopped = Arc::clone(&stop);
    let relay = std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while !is_stopped.load(Ordering::Relaxed) {
            let Ok((len, client)) = front.recv_from(&mut buffer) else {
                continue;
            };
            back.send_to(&buffer[..len], server).unwrap();
            if let Ok((len, _)) = back.recv_from(&mut buffer) {
                back.send_to(&buffer[..len], client).unwrap();
            }
        }
    });
    let servers = Servers::new(&[address]);
    let warning =
        format!("warning: a reply of {address} came from {other}, with the right signature");
    let accepted = servers.run("query master --any-source");
    assert_eq!(
        (accepted.status, accepted.out.as_str()),
        (0, "node1.example.com\n"),
        "{accepted:?}"
    );
    assert!(accepted.err.contains(&warning), "{accepted:?}");
    let refused = servers.run("query master --timeout 2");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(refused.status, 3, "{refused:?}");
    assert!(refused.err.contains(&warning), "{refused:?}");
    relay.join().unwrap();
}

#[test]
fn disagreeing_candidates_are_named() {
    let configuration = configuration();
    let parsed: Value = serde_json::from_slice(&configuration).unwrap();
    let master = &parsed["cluster"]["master_node"];
    let mut nodes = parsed["nodes"].as_object().unwrap().values();
    let other = nodes
        .find(|node| node["uuid"] != *master)
        .expect("three nodes");
    let split = changed(&[("/cluster/master_node", other["uuid"].clone())]);
    let one = Subject::start(Kind::Mmsg, Some(&configuration), KEY);
    let two = Subject::start(Kind::Mmsg, Some(&split), KEY);
    let servers = Servers::new(&[one.address(), two.address()]);
    let ran = servers.run("query master");
    assert_eq!(ran.status, 0);
    for (address, name) in [
        (one.address(), "node1.example.com"),
        (two.address(), other["name"].as_str().unwrap()),
    ] {
        assert!(
            ran.err.contains(&format!("\n  {address}: \"{name}\"")),
            "{}",
            ran.err
        );
    }
    assert!(
        ran.err
            .starts_with("confdctl: warning: candidates give different answers with serial 4;")
    );
    assert_eq!(
        servers.run("query master --json").json()["consistent"],
        false
    );
    let probed = servers.run("probe");
    assert_eq!(probed.status, 1);
    assert!(
        probed
            .first_line()
            .contains("reports node1.example.com as the master, others do not"),
        "{probed:?}"
    );
}

/// A child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Our daemon with a wrong clock.
struct OffClock {
    address: SocketAddr,
    daemon: Killed,
    _root: TempDir,
}

impl Drop for OffClock {
    fn drop(&mut self) {
        // The library removes these files only if the process ends by itself.
        let pid = self.daemon.0.id();
        for name in [
            format!("faketime_shm_{pid}"),
            format!("sem.faketime_sem_{pid}"),
        ] {
            let _ = fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }
}

impl OffClock {
    /// Starts it with a clock that is ahead by a time in the syntax of faketime(1).
    fn start(ahead: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for part in ["lib", "run", "log"] {
            fs::create_dir_all(root.path().join(format!("var/{part}/ganeti"))).unwrap();
        }
        let data = root.path().join("var/lib/ganeti");
        fs::write(data.join("hmac.key"), KEY).unwrap();
        fs::write(data.join("config.data"), configuration()).unwrap();
        // The environment that faketime(1) sets up. Running faketime would add a process.
        let child = Command::new(DAEMON)
            .args(["-f", "--no-user-checks", "-b", "127.0.0.1", "-p", "0"])
            .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
            .env("FAKETIME", ahead)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("GANETI_ROOTDIR", root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut daemon = Killed(child.unwrap());
        let mut output = String::new();
        let lines = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            output += &line;
            let (_, after) = line.split_once("Serving ")?;
            after.split('/').next()?.parse().ok()
        });
        Self {
            address: address.unwrap_or_else(|| panic!("the daemon does not serve: {output}")),
            daemon,
            _root: root,
        }
    }
}

#[test]
fn probe_distinguishes_a_wrong_clock_from_a_wrong_key() {
    if Command::new("faketime").arg("--version").output().is_err() {
        return skip("faketime (Debian package faketime)");
    }
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let ahead = ["+90s", "+605s", "-7200s"].map(OffClock::start);
    let addresses = ahead.each_ref().map(|daemon| daemon.address);

    let warning = Servers::new(&[subject.address(), addresses[0]]).run("probe");
    assert_eq!(warning.status, 1, "{warning:?}");
    let line = warning.first_line();
    assert!(
        line.contains(&format!("; {}: clock 1m ", addresses[0])),
        "{line}"
    );

    let silent = Servers::new(&[subject.address(), addresses[1], addresses[2]])
        .run("probe --timeout 1 --json");
    assert_eq!(silent.status, 2, "{silent:?}");
    let json = silent.json();
    for (index, expected) in [(0, 0), (1, 605), (2, -7200)] {
        let skew = json["candidates"][index]["skew_s"]
            .as_i64()
            .unwrap_or(i64::MAX);
        assert!(skew.abs_diff(expected) <= 2, "{json}");
    }
    let explained = Servers::new(&[addresses[1]]).run("probe --timeout 1");
    assert!(
        explained.out.contains("key correct, clock wrong"),
        "{explained:?}"
    );
}

#[test]
fn watch_ends_on_a_signal_or_a_closed_pipe() {
    let watch = || {
        let mut command = command(&["--demo", "probe", "--watch=0.2"]);
        let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut out = BufReader::new(child.0.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with("CONFD OK - "), "{line}");
        (child, out)
    };
    let (mut child, mut out) = watch();
    kill(Pid::from_raw(child.0.id() as i32), Signal::SIGINT).unwrap();
    out.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(130));

    let (mut child, out) = watch();
    drop(out);
    assert_eq!(wait(&mut child.0), Some(0));
}

#[test]
fn a_query_can_be_watched() {
    let mut command = command(&["--demo", "query", "master", "--watch=0.2"]);
    let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        assert_eq!(lines.next().unwrap().unwrap(), "node1.example.com");
    }
    // It notices the closed pipe when it prints next.
    drop(lines);
    assert_eq!(wait(&mut child.0), Some(0));
}

#[test]
fn watch_shows_a_candidate_going_down() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let mut command = command(&["probe", "--watch=0.2", "--json", "--server"]);
    command
        .arg(subject.address().to_string())
        .env("CONFD_KEY", "0123456789abcdef\n");
    let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!(first["verdict"], "OK", "{first}");
    drop(subject);
    let deadline = Instant::now() + WAIT_MAX;
    let last = loop {
        let line = next();
        if line["verdict"] == "CRITICAL" {
            break line;
        }
        assert!(Instant::now() < deadline, "{line}");
    };
    assert_eq!(last["candidates"][0]["state"], "down");
    assert_eq!(last["candidates"][0]["skew_s"], Value::Null);
}

/// The exit status or the signal, if the child ends in time.
fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + WAIT_MAX;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().or(status.signal());
        }
        // std cannot wait for a child with a timeout.
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

#[test]
fn a_terminal_gets_tables_and_a_view_that_q_ends() {
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script (Debian package bsdutils)");
    }
    let on_terminal = |command: &str| {
        let mut script = Command::new("script");
        script
            .args(["-qec", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Killed(script.spawn().unwrap())
    };
    let mut table = on_terminal(&format!("{CONFDCTL} --demo query drbd node2"));
    let mut text = String::new();
    table
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.starts_with("NODE               MINOR  INSTANCE"),
        "{text}"
    );

    let mut view = on_terminal(&format!("{CONFDCTL} --demo probe --watch"));
    let mut out = BufReader::new(view.0.stdout.take().unwrap());
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(": 1 of 1 candidates answer") {
        assert_ne!(
            out.read_until(b'\n', &mut seen).unwrap(),
            0,
            "it ended too early: {seen:?}"
        );
    }
    view.0.stdin.as_mut().unwrap().write_all(b"q").unwrap();
    assert_eq!(wait(&mut view.0), Some(0));
}

//! `confdctl status`, and the daemon's status socket.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;

use super::common::skip;
use super::daemon::Root;

const TIMEOUT: Duration = Duration::from_secs(60);

fn confdctl(root: &Root, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confdctl"));
    command.args(args).env("GANETI_ROOTDIR", root.path(""));
    command
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

fn socket(root: &Root) -> PathBuf {
    root.path("var/run/ganeti/ganeti-confd.sock")
}

#[test]
fn status_shows_engine_serial_last_load_and_counters() {
    let root = Root::new();
    let mut daemon = root.start(&["--workers=2", "--engine=mmsg"]);
    let output = confdctl(&root, &["status", "--json"])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["pid"], daemon.pid().as_raw());
    assert_eq!(status["engine"]["name"], "mmsg");
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(2));
    let features = status["engine"]["features"].as_array().expect("a list");
    assert_eq!(features[0], "recvmmsg");
    for buffer in ["receive", "send"] {
        for size in ["requested_bytes", "granted_bytes"] {
            assert!(
                status["buffers"][buffer][size].as_u64() > Some(4_096),
                "{status:#}"
            );
        }
    }
    assert_eq!(status["config"]["objects"]["nodes"], 3);
    assert_eq!(status["config"]["loads"], 1);
    assert_eq!(status["config"]["last_error"], Value::Null);
    // The daemon has asked itself.
    let pings = status["counters"]["requests"]["ping"].as_u64();
    assert!(pings.is_some_and(|pings| pings > 0), "{status:#}");

    let output = confdctl(&root, &["status"]).output().expect("it runs");
    let shown = text(&output);
    for part in ["engine:\n  name: mmsg\n", "\n  nodes: 3\n", "workers: 2\n"] {
        let part = part.trim_start_matches('\n');
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }

    // The error's place, and since when the answers are stale.
    let name = "a \u{1b}[31m name";
    fs::write(root.config(), format!("{{\"cluster\": {{\"{name}\": }}")).expect("it is writable");
    daemon.wait_for("Failed to load config: ");
    let output = confdctl(&root, &["status", "--json"])
        .output()
        .expect("it runs");
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(status["config"]["last_error"].is_string(), "{status:#}");
    assert!(status["config"]["stale_since"].is_number(), "{status:#}");
    assert_eq!(status["config"]["failures"], 1);
    let output = confdctl(&root, &["status"]).output().expect("it runs");
    assert!(!text(&output).contains('\u{1b}'));

    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    assert!(!socket(&root).exists(), "the socket is removed");
    let output = confdctl(&root, &["status"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("no daemon runs on this host"));
}

#[test]
fn a_socket_that_a_killed_daemon_left_is_replaced() {
    let root = Root::new();
    let mut daemon = root.start(&[]);
    daemon.stop(Signal::SIGKILL);
    assert!(socket(&root).exists());
    let output = confdctl(&root, &["status"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let _daemon = root.start(&[]);
    let output = confdctl(&root, &["status"]).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn only_the_owner_and_the_group_may_ask() {
    if !geteuid().is_root() {
        skip("running as another user takes root");
        return;
    }
    let root = Root::new();
    let _daemon = root.start(&[]);
    let mode = fs::metadata(socket(&root))
        .expect("it exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    // Every directory above is open, so the socket's own mode decides.
    fs::set_permissions(root.path(""), fs::Permissions::from_mode(0o755)).expect("ours");
    // The program is not reachable for another user; the connection is what matters.
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])";
    let connect = |uid: u32, gid: u32| {
        Command::new("python3")
            .args(["-c", script])
            .arg(socket(&root))
            .uid(uid)
            .gid(gid)
            .output()
            .expect("python3 runs")
    };
    let refused = connect(65_534, 65_534);
    assert!(
        text(&refused).contains("PermissionError"),
        "{}",
        text(&refused)
    );
    let admitted = connect(65_534, 0);
    assert!(admitted.status.success(), "{}", text(&admitted));
}

#[test]
fn clients_that_send_nothing_or_nonsense_do_not_keep_others_out() {
    let root = Root::new();
    let _daemon = root.start(&[]);
    let connect = || UnixStream::connect(socket(&root)).expect("it listens");
    // More than the daemon admits at the same time.
    let idle: Vec<_> = (0..20).map(|_| connect()).collect();
    let output = confdctl(&root, &["status", "--timeout=60s"])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
    drop(idle);

    let mut stream = connect();
    stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
    // The daemon reads a bounded part, and closes the connection.
    let _ = stream.write_all(&[b'x'; 100_000]);
    let mut reply = String::new();
    let _ = stream.read_to_string(&mut reply);
    assert!(
        reply.is_empty() || reply.contains("unknown request"),
        "{reply}"
    );
    let mut stream = connect();
    stream.write_all(b"reboot\n").expect("it reads");
    reply.clear();
    stream.read_to_string(&mut reply).expect("it answers");
    assert!(reply.contains("unknown request"), "{reply}");
}

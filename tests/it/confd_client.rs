//! Ganeti's own client, unchanged, against our daemon on the port that it cannot be talked out of.
//!
//! The client is Debian's package `ganeti-3.0`, unpacked: `GANETI_PYTHON_ROOT` names the directory (`.ci/run` makes it). It speaks
//! to port 1814 only, so that client and daemon run in a network namespace of their own, which takes root.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use ganeti_confd::demo;

use super::common::skip;

/// Starts a daemon in this network namespace, waits for its readiness, runs the client, ends the daemon.
const SCRIPT: &str = r#"
set -eu
ip link set lo up
"$CONFD" -f --no-user-checks -b 127.0.0.1 --engine "$ENGINE" 2>"$GANETI_ROOTDIR/stderr" &
daemon=$!
trap 'kill $daemon; wait $daemon || true' EXIT
for _ in $(seq 500); do
    if grep -q Serving "$GANETI_ROOTDIR/stderr"; then break; fi
    sleep 0.02
done
env -u GANETI_ROOTDIR timeout 60 /usr/bin/python3 "$CLIENT/confd-client" -a 127.0.0.1 --hmac "$KEY" --requests 50
"#;

/// Where the client's Python files are, if everything it needs is here.
fn client() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("GANETI_PYTHON_ROOT") else {
        skip("GANETI_PYTHON_ROOT does not name Ganeti's Python files");
        return None;
    };
    let client = PathBuf::from(root).join("usr/share/ganeti/3.0");
    let help = Command::new("/usr/bin/python3")
        .arg(client.join("confd-client"))
        .arg("--help")
        .env("PYTHONPATH", &client)
        .stdout(Stdio::null())
        .status();
    if !help.is_ok_and(|status| status.success()) {
        skip("Ganeti's confd-client does not run here");
        return None;
    }
    let namespace = Command::new("unshare")
        .args(["--net", "ip", "link", "set", "lo", "up"])
        .status();
    if !namespace.is_ok_and(|status| status.success()) {
        skip("a network namespace cannot be made (it takes root and iproute2)");
        return None;
    }
    Some(client)
}

#[test]
fn confd_client_passes() {
    let Some(client) = client() else { return };
    for engine in ["uring", "mmsg"] {
        let root = tempfile::tempdir().expect("a temporary directory");
        for directory in ["var/lib/ganeti", "var/run/ganeti", "var/log/ganeti"] {
            std::fs::create_dir_all(root.path().join(directory))
                .expect("a fresh directory is writable");
        }
        let data = root.path().join("var/lib/ganeti");
        let key = "confd-client";
        std::fs::write(data.join("hmac.key"), key).expect("a fresh directory is writable");
        std::fs::write(data.join("config.data"), demo::configuration(5, 20, 1)).expect("writable");
        let output = Command::new("unshare")
            .args(["--net", "sh", "-c", SCRIPT])
            .env("CONFD", env!("CARGO_BIN_EXE_ganeti-confd"))
            .env("GANETI_ROOTDIR", root.path())
            .env("ENGINE", engine)
            .env("CLIENT", &client)
            .env("PYTHONPATH", &client)
            .env("KEY", key)
            .output()
            .expect("unshare runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{engine}: {said}{errors}");
        for line in [
            "Ping: OK",
            "Master: OK (node1.example.com)",
            "Master: OK (['node1.example.com', ",
            "Node role for master: OK",
            "Node primary ip query: OK",
            "Master candidates primary IP query: OK",
            "Instance primary IP query: OK",
            "Instance IP to node IP query: OK",
            "per ping request",
        ] {
            assert!(
                said.contains(line),
                "{engine}: no '{line}' in: {said}{errors}"
            );
        }
    }
}

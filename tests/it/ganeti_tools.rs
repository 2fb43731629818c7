//! Ganeti's own tools, unmodified, with this daemon: `confd-client`, and `daemon-util`, which
//! starts and stops daemons.
//!
//! They come from Debian's package `ganeti-3.0`, unpacked in the directory `GANETI_PYTHON_ROOT`
//! (`.ci/run` creates it). The client uses port 1814 only, and `daemon-util` requires a fixed path
//! of the daemon and certain accounts. So both run in their own network and mount namespaces, which
//! requires root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ganeti_confd::demo;

use super::common::skip;

/// Starts a daemon in this network namespace, waits until it is ready, runs the client and stops
/// the daemon.
const SCRIPT: &str = r#"
set -eux
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

/// Creates the accounts and files that daemon-util expects, and starts, checks, rotates and stops
/// the daemon with it.
const NODE: &str = r#"
set -eux
mount --make-rprivate /
ip link set lo up

# Accounts, and the daemon at its place.
for file in passwd group; do cp /etc/$file "$GANETI_ROOTDIR/$file"; done
id=7001
for name in gnt-masterd gnt-confd gnt-luxid gnt-rapi gnt-metad gnt-daemons gnt-admin; do
    echo "$name:x:$id:$id::/:/bin/false" >>"$GANETI_ROOTDIR/passwd"
    echo "$name:x:$id:" >>"$GANETI_ROOTDIR/group"
    id=$((id + 1))
done
for file in passwd group; do mount --bind "$GANETI_ROOTDIR/$file" /etc/$file; done
cp -a /usr/sbin "$GANETI_ROOTDIR/sbin"
cp "$CONFD" "$GANETI_ROOTDIR/sbin/ganeti-confd"
mount --bind "$GANETI_ROOTDIR/sbin" /usr/sbin
# daemon-util has directories made by a tool that knows no other root; here they are made already.
mkdir "$GANETI_ROOTDIR/lib"
ln -s /bin/true "$GANETI_ROOTDIR/lib/ensure-dirs"
mount --bind "$GANETI_ROOTDIR/lib" /usr/lib/ganeti
touch "$GANETI_ROOTDIR/var/lib/ganeti/server.pem"
chown -R gnt-confd:gnt-confd "$GANETI_ROOTDIR/var"
chmod 755 "$GANETI_ROOTDIR"

util() { bash "$UTIL" "$@"; }
log=$GANETI_ROOTDIR/var/log/ganeti/conf-daemon.log
pid=$GANETI_ROOTDIR/var/run/ganeti/ganeti-confd.pid

! util check ganeti-confd
util start ganeti-confd
trap 'util stop ganeti-confd' EXIT
util check ganeti-confd
test "$(stat -c %U /proc/"$(cat "$pid")")" = gnt-confd
env -u GANETI_ROOTDIR timeout 60 /usr/bin/python3 "$CLIENT/confd-client" -a 127.0.0.1 --hmac "$KEY" --requests 5

mv "$log" "$log.1"
util rotate-logs ganeti-confd
for _ in $(seq 500); do if grep -q reopened "$log" 2>/dev/null; then break; fi; sleep 0.02; done
grep -q reopened "$log"

util stop ganeti-confd
! util check ganeti-confd
test ! -e "$pid"
grep -q shutdown "$log"
echo "the whole cycle"
"#;

/// The folder with the client's Python files, if everything that it needs is available.
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

/// A root directory with a sample cluster, and a command that runs `script` in new namespaces.
fn in_namespaces(script: &str, client: &Path, engine: &str) -> (tempfile::TempDir, Command) {
    const KEY: &str = "confd-client";
    let root = tempfile::tempdir().expect("a temporary directory");
    for directory in ["var/lib/ganeti", "var/run/ganeti", "var/log/ganeti"] {
        std::fs::create_dir_all(root.path().join(directory))
            .expect("a fresh directory is writable");
    }
    let data = root.path().join("var/lib/ganeti");
    std::fs::write(data.join("hmac.key"), KEY).expect("a fresh directory is writable");
    std::fs::write(data.join("config.data"), demo::configuration(5, 20, 1)).expect("writable");
    let mut command = Command::new("unshare");
    command
        // As the first process of its namespace, the script reaps the daemon; a zombie would count
        // as running.
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ])
        .args(["sh", "-c", script])
        .env("CONFD", env!("CARGO_BIN_EXE_ganeti-confd"))
        .env("GANETI_ROOTDIR", root.path())
        .env("ENGINE", engine)
        .env("CLIENT", client)
        .env("PYTHONPATH", client)
        .env("KEY", KEY);
    (root, command)
}

/// Runs `command`, which must succeed. Returns its output.
fn run(mut command: Command) -> String {
    let output = command.output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    said
}

#[test]
fn confd_client_passes() {
    let Some(client) = client() else { return };
    for engine in ["uring", "mmsg"] {
        let (_root, command) = in_namespaces(SCRIPT, &client, engine);
        let said = run(command);
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
            assert!(said.contains(line), "{engine}: no '{line}' in: {said}");
        }
    }
}

#[test]
fn daemon_util_starts_rotates_and_stops_it() {
    let Some(client) = client() else { return };
    let util = client.join("../../../lib/ganeti/3.0/usr/lib/ganeti/daemon-util");
    let (_root, mut command) = in_namespaces(NODE, &client, "auto");
    command.env("UTIL", util);
    let said = run(command);
    assert!(said.ends_with("the whole cycle\n"), "{said}");
}

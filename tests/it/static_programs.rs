//! The programs linked statically with musl, in a root directory that has nothing else but the
//! daemon's files.
//!
//! Needs root, and `rustup target add x86_64-unknown-linux-musl`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ganeti_confd::demo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::common::skip;

const TARGET: &str = "x86_64-unknown-linux-musl";
/// The port in the daemon's own network namespace.
const PORT: &str = "1814";
/// Much longer than a start takes.
const START_MAX: Duration = Duration::from_secs(20);

/// Builds the programs; `None` if the standard library for musl is not installed.
fn build() -> Option<PathBuf> {
    let installed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .expect("rustc runs");
    let library = String::from_utf8(installed.stdout).expect("a path in UTF-8");
    if !Path::new(library.trim()).exists() {
        skip(&format!("rustup target add {TARGET}"));
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("musl");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--bins", "--target", TARGET])
        // tokio-uring does not compile for musl.
        .args(["--no-default-features", "--features", "daemon,ctl,bench"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{errors}");
    Some(target.join(TARGET).join("debug"))
}

/// The daemon; it ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn static_programs_run_in_a_root_directory_without_anything_else() {
    if !geteuid().is_root() {
        return skip("chroot takes root");
    }
    let Some(programs) = build() else { return };
    let root = tempfile::tempdir().expect("a temporary directory");
    for directory in ["var/lib/ganeti", "var/run/ganeti", "var/log/ganeti"] {
        fs::create_dir_all(root.path().join(directory)).expect("it is writable");
    }
    for program in ["ganeti-confd", "confdctl"] {
        fs::copy(programs.join(program), root.path().join(program)).expect("it was built");
    }
    let data = root.path().join("var/lib/ganeti");
    fs::write(data.join("hmac.key"), "0123456789abcdef\n").expect("it is writable");
    fs::write(
        data.join("config.data"),
        demo::configuration(3, 10, demo::SEED),
    )
    .expect("as before");

    // A network namespace of its own, so that the port is free. unshare and ip are the host's.
    let script = format!(
        "ip link set lo up && exec chroot {} /ganeti-confd --foreground --no-user-checks \
         --bind 127.0.0.1 --port {PORT}",
        root.path().display()
    );
    let daemon = Command::new("unshare")
        .args(["--net", "sh", "-c", &script])
        .stderr(Stdio::null())
        .spawn()
        .expect("unshare runs");
    let mut daemon = Daemon(daemon);
    let query = || {
        let output = Command::new("nsenter")
            .args(["--net", "--target", &daemon.0.id().to_string()])
            .arg("chroot")
            .arg(root.path())
            .args(["/confdctl", "--server", "127.0.0.1", "--timeout", "1s"])
            .args(["query", "master"])
            .output()
            .expect("nsenter runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let start = Instant::now();
    while query() != "node1.example.com\n" {
        let log = fs::read_to_string(root.path().join("var/log/ganeti/conf-daemon.log"));
        assert!(start.elapsed() < START_MAX, "{log:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let pid = Pid::from_raw(i32::try_from(daemon.0.id()).expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    let status = daemon.0.wait().expect("it is a child");
    assert!(status.success(), "{status}");
}

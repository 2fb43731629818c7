//! The containment of a running daemon: what its threads may do, and that reloads and rotation
//! still work. What must fail is tried from inside by the unit tests of `daemon::sandbox`.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::common::skip;
use super::daemon::{Daemon, Root};

/// A field of `/proc/PID/task/TID/status` of each thread.
fn of_threads(daemon: &Daemon, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let value = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.expect("the kernel prints it").trim().to_owned()
    };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .map(value)
        .collect()
}

fn status(root: &Root) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_confdctl"))
        .args(["status", "--json"])
        .env("GANETI_ROOTDIR", root.path(""))
        .output()
        .expect("it runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_strict_daemon_has_no_rights_and_loads_and_rotates_nevertheless() {
    for engine in ["uring", "mmsg"] {
        if engine == "uring" && io_uring::IoUring::new(2).is_err() {
            skip("io_uring (refused by this kernel)");
            continue;
        }
        let root = Root::new();
        let mut daemon = root.start(&["--sandbox=strict", "--workers=3", "--engine", engine]);
        let threads = of_threads(&daemon, "Seccomp:");
        assert!(threads.len() >= 5, "{threads:?}");
        for (field, value) in [
            ("Seccomp:", "2"),
            ("NoNewPrivs:", "1"),
            ("CapEff:", "0000000000000000"),
            ("CapPrm:", "0000000000000000"),
            ("CapAmb:", "0000000000000000"),
        ] {
            for found in of_threads(&daemon, field) {
                assert_eq!(found, value, "{field}");
            }
        }
        let active = &status(&root)["sandbox"];
        assert_eq!(active["capabilities"], "none");
        assert_eq!(active["landlock"], "all rules");
        assert_eq!(active["seccomp"], "other calls end the process");
        assert!(
            daemon
                .seen
                .iter()
                .any(|line| line.contains("Sandbox: no_dumps: yes, "))
        );

        let new = root.path("var/lib/ganeti/new");
        fs::write(&new, ganeti_confd::demo::configuration(4, 10, 2)).expect("it is writable");
        fs::rename(&new, root.config()).expect("it can be replaced");
        daemon.wait_for("4 nodes, ");
        fs::write(&new, "another key\n").expect("it is writable");
        fs::rename(&new, root.key()).expect("it can be replaced");
        daemon.wait_for("the new key is in use");
        let log = root.path("var/log/ganeti/conf-daemon.log");
        fs::rename(&log, log.with_extension("old")).expect("it can be rotated");
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for("Log file reopened");
        assert!(log.exists());
        assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
        assert!(!root.path("var/run/ganeti/ganeti-confd.pid").exists());
    }
}

#[test]
fn a_contained_daemon_dumps_no_core() {
    let root = Root::new();
    // Inherited by the daemon.
    let unlimited = setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY);
    if unlimited.is_err() {
        skip("core dumps are limited for this user");
        return;
    }
    let mut daemon = root.start(&[]);
    let ended = daemon.stop(Signal::SIGABRT);
    assert_eq!(ended.signal(), Some(libc::SIGABRT));
    assert!(!ended.core_dumped());
}

#[test]
fn without_a_sandbox_the_daemon_keeps_its_rights() {
    let root = Root::new();
    let daemon = root.start(&["--sandbox=off"]);
    assert!(
        daemon
            .seen
            .iter()
            .any(|line| line.ends_with("Sandbox: off"))
    );
    let filtered = of_threads(&daemon, "Seccomp:");
    // The signal thread has no rights in any case, but no filter.
    assert!(filtered.iter().all(|mode| mode == "0"), "{filtered:?}");
}

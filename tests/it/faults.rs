//! Faults of the kernel, the disk and memory: the daemon serves or ends with an error, and signals
//! act at all times.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ganeti_confd::demo;
use nix::sys::signal::Signal;

use crate::common::skip;
use crate::daemon::{Daemon, Root};

/// Timeout for everything that must happen; generous, because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Time from a signal to the end of the process, with room for a busy machine.
const STOP_MAX: Duration = Duration::from_secs(2);

const ARGS: [&str; 6] = ["-f", "--no-user-checks", "-b", "127.0.0.1", "-p", "0"];

/// Whether `command` succeeds; if not, the test is reported as skipped.
fn runs(command: &[&str], package: &str) -> bool {
    let status = Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let runs = status.is_ok_and(|status| status.success());
    if !runs {
        skip(&format!("{command:?} (Debian package {package})"));
    }
    runs
}

/// Sends `signal` and checks that the daemon ends soon.
fn check_stop(daemon: &mut Daemon, signal: Signal, what: &str) {
    let start = Instant::now();
    let status = daemon.stop(signal);
    let took = start.elapsed();
    assert!(took < STOP_MAX, "{what}, {signal}: {took:?}");
    use std::os::unix::process::ExitStatusExt as _;
    match signal {
        Signal::SIGTERM => assert_eq!(status.code(), Some(0), "{what}"),
        _ => assert_eq!(status.signal(), Some(signal as i32), "{what}"),
    }
}

// ---- The kernel ----

/// One refused `io_uring_enter` per thread at the start, or all: the daemon answers its own pings
/// and says that it serves, and can be stopped.
#[test]
fn it_serves_although_io_uring_enter_fails() {
    if !runs(&["strace", "-V"], "strace") {
        return;
    }
    thread::scope(|scope| {
        for errno in ["EAGAIN", "ENOMEM", "EBUSY", "EINTR"] {
            scope.spawn(move || {
                for when in ["1", "2", "3", "1+"] {
                    let root = Root::new();
                    let fault = format!("inject=io_uring_enter:error={errno}:when={when}");
                    let strace = ["-D", "-f", "-qq", "-o", "/dev/null"];
                    let mut args: Vec<&str> = strace.into();
                    args.extend(["-e", "trace=io_uring_enter", "-e", &fault]);
                    args.push(env!("CARGO_BIN_EXE_ganeti-confd"));
                    args.extend(ARGS);
                    let mut daemon = Daemon::spawn(root.command("strace", &args));
                    daemon.wait_for("Serving 127.0.0.1");
                    check_stop(&mut daemon, Signal::SIGTERM, &fault);
                }
            });
        }
    });
}

// ---- The disk ----

/// A mounted [file system](../faults/hanging_fs.py) that hangs on request.
struct HangingDisk {
    server: Child,
    dir: tempfile::TempDir,
}

impl HangingDisk {
    /// Mounts it; `None`, with a message, if this machine cannot.
    fn mount(content: &Path) -> Option<Self> {
        let python = "/usr/bin/python3";
        if !Path::new("/dev/fuse").exists() {
            skip("/dev/fuse");
            return None;
        }
        if !runs(&[python, "-c", "import fusepy"], "python3-fusepy, libfuse2") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["mount", "switches"] {
            fs::create_dir(dir.path().join(name)).expect("created");
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/hanging_fs.py");
        let mut command = Command::new(python);
        command.args([script.as_ref(), dir.path().join("mount").as_os_str()]);
        command.args([content.as_os_str(), dir.path().join("switches").as_os_str()]);
        let server = command.process_group(0).spawn().expect("Python");
        let disk = Self { server, dir };
        let start = Instant::now();
        while !disk.config().exists() {
            assert!(start.elapsed() < TIMEOUT, "not mounted");
            thread::sleep(Duration::from_millis(10));
        }
        Some(disk)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("mount/config.data")
    }

    fn hang(&self, operation: &str) {
        fs::write(self.dir.path().join("switches").join(operation), "").expect("written");
    }

    fn recover(&self) {
        for operation in ["getattr", "open", "read"] {
            let _ = fs::remove_file(self.dir.path().join("switches").join(operation));
        }
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        self.recover();
        let mount = self.dir.path().join("mount");
        let _ = Command::new("umount").arg("-l").arg(mount).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Storage that hangs in each operation, after the start: the daemon serves what it has, says so,
/// takes a renewed key, and ends at once. When the storage is back, a change is loaded.
#[test]
fn hanging_storage_delays_neither_signals_nor_the_key() {
    for (operation, signal) in [
        ("getattr", Signal::SIGTERM),
        ("open", Signal::SIGINT),
        ("read", Signal::SIGTERM),
    ] {
        let root = Root::new();
        let Some(disk) = HangingDisk::mount(&root.config()) else {
            return;
        };
        let config = disk.config();
        let mut daemon = root.start(&["--config", config.to_str().expect("UTF-8")]);
        disk.hang(operation);
        daemon.wait_for("takes longer than 5 s");
        fs::write(root.key(), "another key\n").expect("written");
        daemon.wait_for("changed; the new key is in use");
        if operation == "open" {
            disk.recover();
            daemon.wait_for("Loaded new config");
            disk.hang(operation);
            daemon.wait_for("takes longer than 5 s");
        }
        check_stop(&mut daemon, signal, operation);
    }
}

/// Storage that hangs in the first load: the daemon ends at once, or serves errors after a while.
#[test]
fn hanging_storage_delays_no_signal_during_the_first_load() {
    for operation in ["open", "read"] {
        let root = Root::new();
        let Some(disk) = HangingDisk::mount(&root.config()) else {
            return;
        };
        let config = disk.config();
        let args = [&ARGS[..], &["--config", config.to_str().expect("UTF-8")]].concat();
        disk.hang(operation);
        let command = || root.command(env!("CARGO_BIN_EXE_ganeti-confd"), &args);
        let mut daemon = Daemon::spawn(command());
        daemon.wait_for("Sandbox: ");
        check_stop(&mut daemon, Signal::SIGTERM, operation);

        let mut daemon = Daemon::spawn(command());
        daemon.wait_for("takes longer than 5 s");
        daemon.wait_for("Serving 127.0.0.1");
        disk.recover();
        daemon.wait_for("Loaded new config");
        check_stop(&mut daemon, Signal::SIGTERM, operation);
    }
}

// ---- Memory ----

/// A file that does not fit the limit on address space: the last good configuration is served, the
/// log names need and limit, and a file that fits is loaded again.
#[test]
fn a_load_that_does_not_fit_the_memory_is_not_tried() {
    let large = demo::configuration(1_000, 30_000, 1);
    assert!(large.len() > 30_000_000, "{} bytes", large.len());
    for megabytes in [100, 140, 180] {
        let root = Root::new();
        let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", megabytes * 1_024);
        let binary = env!("CARGO_BIN_EXE_ganeti-confd");
        let args = [&["-c", &script, binary], &ARGS[..], &["--workers=1"]].concat();
        let mut daemon = Daemon::spawn(root.command("sh", &args));
        daemon.wait_for("Serving 127.0.0.1");
        replace(&root, &large);
        let line = daemon.wait_for("of memory");
        assert!(line.contains("the limit on address space"), "{line}");
        assert!(
            line.contains("serving the last good configuration"),
            "{line}"
        );
        replace(&root, &demo::configuration(4, 20, 1));
        daemon.wait_for("4 nodes, 20 instances");
        check_stop(&mut daemon, Signal::SIGTERM, "memory");
    }
}

fn replace(root: &Root, content: &str) {
    let new = root.config().with_extension("new");
    fs::write(&new, content).expect("written");
    fs::rename(&new, root.config()).expect("renamed");
}

//! The daemon under a service manager: messages and the watchdog.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::common::skip;
use super::daemon::{Daemon, Root};

const BINARY: &str = env!("CARGO_BIN_EXE_ganeti-confd");
const TIMEOUT: Duration = Duration::from_secs(60);

/// The thread of the process `pid` with this name.
fn thread(pid: Pid, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let thread = tasks.flatten().find(|task| {
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        comm.trim_end() == name
    });
    let name = thread.expect("the thread exists").file_name();
    Pid::from_raw(name.to_string_lossy().parse().expect("a number"))
}

/// Waits for a message that starts with `start`.
fn wait_for(socket: &UnixDatagram, start: &str) {
    let deadline = Instant::now() + TIMEOUT;
    let mut buffer = [0; 1_024];
    while Instant::now() < deadline {
        let len = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            received => received.expect(start),
        };
        if buffer[..len].starts_with(start.as_bytes()) {
            return;
        }
    }
    panic!("no {start}");
}

#[test]
fn the_watchdog_is_fed_only_while_every_worker_answers() {
    for engine in ["uring", "mmsg"] {
        if engine == "uring" && io_uring::IoUring::new(2).is_err() {
            skip("io_uring (refused by this kernel)");
            continue;
        }
        let root = Root::new();
        let path = root.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        let args = [
            "-f",
            "--no-user-checks",
            "--bind=127.0.0.1",
            "--port=0",
            "--workers=3",
            "--engine",
            engine,
        ];
        let mut command = root.command(BINARY, &args);
        command.env("NOTIFY_SOCKET", &path);
        command.env("WATCHDOG_USEC", "900000");
        let mut daemon = Daemon::spawn(command);
        wait_for(&socket, "READY=1");
        for _ in 0..3 {
            wait_for(&socket, "WATCHDOG=1");
        }

        let worker = thread(daemon.pid(), "confd-1");
        if let Err(error) = ptrace::seize(worker, ptrace::Options::empty()) {
            skip(&format!("stopping a thread with ptrace: {error}"));
            return;
        }
        ptrace::interrupt(worker).expect("the thread is traced");
        daemon.wait_for("Worker 1 does not answer the daemon's own pings");
        // From here on, messages that were sent before are gone.
        socket.set_nonblocking(true).expect("a socket");
        while socket.recv(&mut [0; 1_024]).is_ok() {}
        daemon.wait_for("Worker 1 does not answer the daemon's own pings");
        assert!(socket.recv(&mut [0; 1_024]).is_err(), "it was fed");

        socket.set_nonblocking(false).expect("a socket");
        nix::sys::wait::waitpid(worker, Some(nix::sys::wait::WaitPidFlag::__WALL))
            .expect("the thread has stopped");
        ptrace::detach(worker, None).expect("the thread is stopped");
        wait_for(&socket, "WATCHDOG=1");
        assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    }
}

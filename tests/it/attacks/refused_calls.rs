//! System calls that a seccomp filter refuses, as in a container.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ganeti_confd::demo;

use super::client::{is_reply_to, ping};
use super::{KEY, PORT, filters};
use crate::common::namespace::{Entered, IP, Namespace, namespaces_available};
use crate::common::{Layout, program};

/// Timeout for the daemon to answer or to exit.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A daemon for which some system calls are refused; killed when dropped.
struct Restricted {
    child: Child,
    root: Layout,
    _entered: Entered,
}

impl Drop for Restricted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Restricted {
    /// Starts a daemon for which `calls` fail, in a namespace that this thread enters.
    fn start(options: &[&str], calls: &[i64]) -> Self {
        let namespace = Namespace::new().expect("namespaces are available");
        namespace.ip("link set lo up\n");
        let entered = namespace.enter();
        let root = Layout::new(Some(demo::configuration(3, 10, 1).as_bytes()), KEY);
        let log = File::create(root.0.path().join("stderr")).expect("a writable directory");
        let mut command = Command::new(program());
        command
            .args(["-f", "--no-user-checks", "-b", "127.0.0.1", "-p"])
            .arg(PORT.to_string())
            .args(options)
            .env("GANETI_ROOTDIR", root.0.path())
            .env("GANETI_HOSTNAME", "localhost")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // The filter applies to one thread and to what it starts.
        let child = thread::scope(|scope| {
            let thread = scope.spawn(move || {
                filters::refuse(calls);
                command.spawn().expect("the daemon can be started")
            });
            thread.join().expect("no panic")
        });
        Self {
            child,
            root,
            _entered: entered,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.root.0.path().join("stderr")).expect("UTF-8")
    }

    /// Waits until the log contains `text`, or until the daemon exits.
    fn logs(&mut self, text: &str) -> bool {
        let deadline = Instant::now() + TIMEOUT;
        while !self.log().contains(text) {
            if self.status().is_some() || Instant::now() > deadline {
                return self.log().contains(text);
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    /// Whether a ping is answered.
    fn answers(&mut self) -> bool {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("not zero");
        let deadline = Instant::now() + TIMEOUT;
        let mut buffer = [0; 1_024];
        while Instant::now() < deadline && self.status().is_none() {
            let _ = socket.send_to(&ping("q"), ("127.0.0.1", PORT));
            if let Ok(len) = socket.recv(&mut buffer) {
                return is_reply_to(&buffer[..len], "q");
            }
        }
        false
    }

    /// Waits for the daemon's exit; `None` if it goes on.
    fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + TIMEOUT;
        while self.status().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        self.status()
    }
}

#[test]
fn without_io_uring_it_serves_with_recvmmsg() {
    if !namespaces_available(&[IP]) {
        return;
    }
    let mut daemon = Restricted::start(&[], &[libc::SYS_io_uring_setup]);
    assert!(daemon.answers(), "{}", daemon.log());
    assert!(daemon.logs("engine mmsg"), "{}", daemon.log());
    assert!(daemon.log().contains("io_uring"), "{}", daemon.log());
}

#[test]
fn without_any_engine_it_does_not_start() {
    if !namespaces_available(&[IP]) {
        return;
    }
    let refused = [libc::SYS_io_uring_setup, libc::SYS_recvmmsg];
    for options in [&[][..], &["--engine", "mmsg"]] {
        let mut daemon = Restricted::start(options, &refused);
        let status = daemon.wait();
        let log = daemon.log();
        println!("{options:?}: {status:?}\n{log}");
        let failed = status.is_some_and(|status| !status.success());
        assert!(failed, "{options:?}: {status:?}\n{log}");
        assert!(!log.contains("Serving"), "{log}");
        assert!(log.contains("recvmmsg"), "{log}");
        assert!(!options.is_empty() || log.contains("io_uring"), "{log}");
    }
}

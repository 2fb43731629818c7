//! A daemon in a namespace.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{is_reply_to, ping};
use super::{KEY, PORT};
use crate::common::namespace::Namespace;
use crate::common::{Kind, Layout};

/// Timeout for the daemon to answer its first ping.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running daemon, killed when dropped.
pub(super) struct Server {
    child: Child,
    root: Layout,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a daemon in `namespace`, bound to `bind`, and waits until it answers.
    pub(super) fn start(
        namespace: &Namespace,
        kind: Kind,
        config: &str,
        bind: IpAddr,
        options: &[&str],
    ) -> Self {
        let _entered = namespace.enter();
        let root = Layout::new(Some(config.as_bytes()), KEY);
        let daemon = kind.command();
        let log = File::create(root.0.path().join("stderr")).expect("a writable directory");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .args(["-f", "--no-user-checks", "-b", &bind.to_string()])
            .args(["-p", &PORT.to_string()])
            .args(options)
            .env("GANETI_ROOTDIR", root.0.path())
            .env("GANETI_HOSTNAME", "localhost")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv (Debian package util-linux)");
        let mut server = Self { child, root };
        server.await_first_answer(bind);
        server
    }

    fn await_first_answer(&mut self, bind: IpAddr) {
        let (local, target) = match bind {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => (Ipv4Addr::LOCALHOST.into(), None),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => (Ipv6Addr::LOCALHOST.into(), None),
            address => (address, Some(address)),
        };
        let socket = UdpSocket::bind((local, 0)).expect("the address exists");
        let address = SocketAddr::from((target.unwrap_or(local), PORT));
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("not zero");
        let deadline = Instant::now() + START_TIMEOUT;
        let mut buffer = [0; 1_024];
        loop {
            let sent = socket.send_to(&ping("start"), address);
            if sent.is_ok()
                && let Ok(len) = socket.recv(&mut buffer)
                && is_reply_to(&buffer[..len], "start")
            {
                return;
            }
            let exited = self.child.try_wait().expect("our child");
            assert!(
                exited.is_none() && Instant::now() < deadline,
                "the daemon does not serve: {exited:?}\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the daemon has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.root.0.path().join("stderr")).unwrap_or_default()
    }

    /// Its resident memory in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|text| text.parse().ok())
            .expect("a number of KiB")
    }
}

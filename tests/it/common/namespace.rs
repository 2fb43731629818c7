//! Network namespaces for tests.
//!
//! They have no names: open files of this process, and processes and threads in them, keep them
//! alive.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

use super::skip;

/// A program that a test needs: its name, an option with which it succeeds, and its Debian package.
pub(crate) type Tool = (&'static str, &'static str, &'static str);

pub(crate) const IP: Tool = ("ip", "-V", "iproute2");
pub(crate) const TC: Tool = ("tc", "-V", "iproute2");
pub(crate) const NFT: Tool = ("nft", "-v", "nftables");

/// Whether this machine has network namespaces and these tools; if not, the test is reported as
/// skipped.
pub(crate) fn namespaces_available(tools: &[Tool]) -> bool {
    if Namespace::new().is_err() {
        skip("network namespaces (need root)");
        return false;
    }
    tools.iter().all(|(program, option, package)| {
        let command = Command::new(program)
            .arg(option)
            .stdout(Stdio::null())
            .status();
        let runs = command.is_ok_and(|status| status.success());
        if !runs {
            skip(&format!("{program} (Debian package {package})"));
        }
        runs
    })
}

/// A network namespace. It exists as long as this value or a process in it.
pub(crate) struct Namespace(File);

impl Namespace {
    /// The namespace of this thread.
    pub(crate) fn current() -> Self {
        Self(File::open("/proc/thread-self/ns/net").expect("every thread has a network namespace"))
    }

    /// A new namespace, with only a loopback interface that is down.
    pub(crate) fn new() -> nix::Result<Self> {
        let before = Self::current();
        unshare(CloneFlags::CLONE_NEWNET)?;
        let _back = Entered { before };
        Ok(Self::current())
    }

    /// Moves this thread into it. Sockets, processes and threads that it creates then belong to it.
    pub(crate) fn enter(&self) -> Entered {
        let entered = Entered {
            before: Self::current(),
        };
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the namespace exists");
        entered
    }

    /// A path to it that other processes can use.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `ip` in it with these lines as input.
    pub(crate) fn ip(&self, lines: &str) {
        self.run(&["ip", "-batch", "-"], lines);
    }

    /// Runs `nft` in it with these lines as input.
    pub(crate) fn nft(&self, lines: &str) {
        self.run(&["nft", "-f", "-"], lines);
    }

    /// Sets a file below `/proc/sys` in it.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        let _entered = self.enter();
        let path = format!("/proc/sys/{name}");
        std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Runs `tc` in it with these lines as input.
    pub(crate) fn tc(&self, lines: &str) {
        self.run(&["tc", "-batch", "-"], lines);
    }

    fn run(&self, command: &[&str], lines: &str) {
        let _entered = self.enter();
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(lines.as_bytes()).expect("it reads");
        drop(stdin);
        let status = child.wait().expect("our child");
        assert!(status.success(), "{command:?} failed: {lines}");
    }
}

/// Returns the thread to its previous namespace when dropped.
pub(crate) struct Entered {
    before: Namespace,
}

impl Drop for Entered {
    fn drop(&mut self) {
        setns(&self.before.0, CloneFlags::CLONE_NEWNET).expect("the namespace exists");
    }
}

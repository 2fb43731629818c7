//! A server under test: what it is asked, which answers are valid, and its CPU time.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::process::Child;
use std::time::{Duration, SystemTime};

use ganeti_confd::protocol::{Key, envelope};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use super::node::KEY;

/// Socket buffers large enough for all requests in flight.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A running server.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) speaks: Protocol,
    pub(crate) tasks: Tasks,
}

/// The protocol of a server. An echo accepts anything, and gets a ping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Confd,
    Dns,
}

/// Where the CPU time is read.
pub(crate) enum Tasks {
    /// A thread of this process.
    Thread(Pid),
    /// A process and its children, with a directory that is removed at the end.
    Process(
        Child,
        #[expect(dead_code, reason = "removed when dropped")] tempfile::TempDir,
    ),
}

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Self::Process(child, _) = self {
            // With SIGTERM it ends its own children too. It may have ended already.
            let process = Pid::from_raw(child.id() as i32);
            let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

impl Server {
    /// CPU time used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let nanoseconds = match &self.tasks {
            Tasks::Thread(thread) => spent(&format!("/proc/self/task/{thread}")),
            Tasks::Process(child, _) => family(child.id())
                .into_iter()
                .flat_map(|process| std::fs::read_dir(format!("/proc/{process}/task")))
                .flatten()
                .flatten()
                .map(|task| spent(&task.path().to_string_lossy()))
                .sum(),
        };
        Duration::from_nanos(nanoseconds)
    }
}

/// CPU time of a task in nanoseconds; 0 if it has ended.
fn spent(task: &str) -> u64 {
    let text = std::fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A process and all its descendants.
fn family(process: u32) -> HashSet<u32> {
    let mut family = HashSet::from([process]);
    loop {
        let children: Vec<u32> = std::fs::read_dir("/proc")
            .expect("procfs")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|process| parent(*process).is_some_and(|parent| family.contains(&parent)))
            .filter(|process| !family.contains(process))
            .collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

fn parent(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

impl Protocol {
    /// A small request: a ping that is signed now, or the address of a name.
    pub(crate) fn request(self) -> Vec<u8> {
        match self {
            Self::Confd => {
                let key = Key::new(KEY).expect("not empty");
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let now = now.expect("a clock after 1970").as_secs();
                let message = r#"{"protocol":1,"type":0,"query":null,"rsalt":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}"#;
                envelope::request(&key, now, message)
            }
            Self::Dns => DNS_QUERY.to_vec(),
        }
    }

    /// Whether this is an answer and not an error.
    pub(crate) fn is_reply(self, datagram: &[u8]) -> bool {
        match self {
            Self::Confd => datagram.starts_with(b"plj0{"),
            // A response without an error and with at least one answer.
            Self::Dns => {
                datagram.len() > DNS_QUERY.len()
                    && datagram[2] & 0x80 != 0
                    && datagram[3] & 0x0f == 0
                    && datagram[7] > 0
            }
        }
    }
}

/// `node1.example.com A`, without EDNS (RFC 1035, 4.1).
const DNS_QUERY: &[u8] =
    b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05node1\x07example\x03com\x00\x00\x01\x00\x01";

/// A loopback socket that can hold all requests in flight.
pub(crate) fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a port");
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES);
    }
    socket
}

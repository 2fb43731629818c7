//! The servers that run on this machine: the processor time of their processes, and the requests
//! that the kernel dropped because their receive buffers were full.
//!
//! A server is found by its port: the tables of UDP sockets in `/proc/net` have the inode, and the
//! process with that inode among its files is the server. Other processes can be examined by root
//! only, so that a server may not be found; then it is left out.

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};

use serde::Serialize;

use super::nanos::Nanos;
use super::sockets;

/// A server on this machine.
#[derive(Clone, Debug)]
pub(super) struct Server {
    target: SocketAddr,
    pid: Option<u32>,
    inodes: HashSet<u64>,
    before: Reading,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    cpu_ns: Option<Nanos>,
    dropped: u64,
}

/// What a server used from the start of a run, including the warm-up, to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ServerUse {
    pub(super) target: SocketAddr,
    /// `None` if the process was not found, or is the generator itself.
    pub(super) pid: Option<u32>,
    /// The processor time of its threads.
    pub(super) cpu_ns: Option<Nanos>,
    /// Requests that the kernel dropped because the receive buffer was full.
    pub(super) dropped: u64,
}

impl Server {
    /// The servers among `targets` that are on this machine, with their values before a run. `pid`
    /// is the process of the first one, if the user names it.
    pub(super) fn find(targets: &[SocketAddr], pid: Option<u32>) -> Vec<Self> {
        let local = targets
            .iter()
            .zip(std::iter::once(pid).chain(std::iter::repeat(None)));
        let local = local.filter(|(target, _)| is_local(**target));
        local
            .map(|(&target, pid)| {
                let inodes = sockets::inodes_of_port(target.port());
                let pid = pid.or_else(|| process_of(&inodes));
                let mut server = Self {
                    target,
                    pid: pid.filter(|&pid| pid != std::process::id()),
                    inodes,
                    before: Reading::default(),
                };
                server.before = server.read();
                server
            })
            .filter(|server| !server.inodes.is_empty() || server.pid.is_some())
            .collect()
    }

    fn read(&self) -> Reading {
        Reading {
            cpu_ns: self.pid.and_then(cpu_of),
            dropped: sockets::dropped(&self.inodes),
        }
    }

    /// The difference to the values before the run.
    pub(super) fn used(&self) -> ServerUse {
        let after = self.read();
        let cpu = after.cpu_ns.zip(self.before.cpu_ns);
        ServerUse {
            target: self.target,
            pid: self.pid,
            cpu_ns: cpu.map(|(after, before)| after.saturating_sub(before)),
            dropped: after.dropped.saturating_sub(self.before.dropped),
        }
    }
}

/// Whether the address is one of this machine.
fn is_local(target: SocketAddr) -> bool {
    UdpSocket::bind((target.ip(), 0)).is_ok()
}

/// The first process that has one of these sockets open.
fn process_of(inodes: &HashSet<u64>) -> Option<u32> {
    let links: HashSet<String> = inodes.iter().map(|it| format!("socket:[{it}]")).collect();
    let has_socket = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        files.flatten().any(|file| {
            let link = fs::read_link(file.path()).unwrap_or_default();
            link.to_str().is_some_and(|link| links.contains(link))
        })
    };
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(has_socket)
}

/// The processor time of the threads that a process has now; `None` if there is no such process.
///
/// Source: `/proc/PID/task/TID/schedstat`, Documentation/scheduler/sched-stats.rst.
fn cpu_of(pid: u32) -> Option<Nanos> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let times = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<Nanos>().ok()
    });
    Some(times.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_of_a_socket_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        let inodes = sockets::inodes_of_port(address.port());
        assert_eq!(process_of(&inodes), Some(std::process::id()));
        assert!(cpu_of(std::process::id()) > Some(0));
        // The use of the generator's own process is not that of a server.
        let servers = Server::find(&[address], None);
        assert_eq!(servers[0].used().pid, None);
        let elsewhere = "192.0.2.1:1814".parse().expect("an address");
        assert!(Server::find(&[elsewhere], None).is_empty());
    }
}

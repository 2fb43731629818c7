//! The error queue of a socket of the generator: datagrams that were refused, and the times at
//! which datagrams left.
//!
//! The kernel puts a time stamp there for each datagram of a stamped socket. Stamps that are not
//! read fill the receive buffer, so the queue is read after each send. Both kinds of entries make a
//! socket ready with `EPOLLERR`.
//!
//! Source: Documentation/networking/timestamping.rst; `ip_recv_error` in net/ipv4/ip_sockglue.c.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, recvmmsg};

use super::sockets::{BATCH_MAX, control_space};

/// Entries that are read by one system call.
const ENTRIES: usize = 16;

/// The part of a refused datagram that is read; an ICMP message rarely quotes more.
const RETURNED_BYTES_MAX: usize = 1_024;

/// `ee_origin` of a time stamp. Source: include/uapi/linux/errqueue.h, as the next one.
const ORIGIN_TIMESTAMPING: u8 = 4;

/// `ee_info` of the time at which a datagram was passed to the device (`SCM_TSTAMP_SND`).
const STAMP_OF_SENDING: u32 = 0;

/// An entry of the error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// An ICMP message refused a datagram; its start.
    Refused(&'a [u8]),
    /// A datagram left.
    Left {
        /// The number of datagrams sent through this socket before, modulo 2^32.
        number: u32,
        /// When, since the epoch.
        at: Duration,
    },
}

/// Reads error queues.
#[derive(Debug)]
pub(super) struct ErrorQueue {
    headers: MultiHeaders<()>,
    buffers: Box<[u8]>,
}

impl ErrorQueue {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(ENTRIES, Some(control_space())),
            buffers: vec![0; ENTRIES * RETURNED_BYTES_MAX].into(),
        }
    }

    /// Passes the entries in the queue of `socket` to `take`, about [`BATCH_MAX`] at most.
    pub(super) fn read(&mut self, socket: &UdpSocket, mut take: impl FnMut(Entry<'_>)) {
        for _ in 0..BATCH_MAX / ENTRIES {
            if self.read_some(socket, &mut take) < ENTRIES {
                return;
            }
        }
    }

    /// Reads by one system call; returns the number of entries.
    fn read_some(&mut self, socket: &UdpSocket, mut take: impl FnMut(Entry<'_>)) -> usize {
        let mut buffers = self.buffers.chunks_exact_mut(RETURNED_BYTES_MAX);
        let mut slices: [[IoSliceMut<'_>; 1]; ENTRIES] = std::array::from_fn(|_| {
            let buffer = buffers.next().expect("there is a buffer for each");
            [IoSliceMut::new(buffer)]
        });
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let entries = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            &mut slices,
            flags,
            None,
        );
        let Ok(entries) = entries else {
            return 0;
        };
        let mut count = 0;
        for entry in entries {
            count += 1;
            let start = entry.iovs().next().unwrap_or_default();
            let start = &start[..entry.bytes.min(start.len())];
            if let Ok(controls) = entry.cmsgs()
                && let Some(entry) = read_controls(controls, start)
            {
                take(entry);
            }
        }
        count
    }
}

/// What the control messages of an entry say about the datagram that begins with `start`.
fn read_controls(
    controls: impl Iterator<Item = ControlMessageOwned>,
    start: &[u8],
) -> Option<Entry<'_>> {
    let (mut error, mut stamp) = (None, None);
    for control in controls {
        match control {
            ControlMessageOwned::Ipv4RecvErr(it, _) | ControlMessageOwned::Ipv6RecvErr(it, _) => {
                error = Some(it);
            }
            ControlMessageOwned::ScmTimestampsns(times) => {
                stamp = Some(Duration::from(times.system));
            }
            _ => {}
        }
    }
    let error = error?;
    match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => Some(Entry::Refused(start)),
        ORIGIN_TIMESTAMPING if error.ee_info == STAMP_OF_SENDING => Some(Entry::Left {
            number: error.ee_data,
            at: stamp?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::super::sockets::{Batch, Channel, Inbox, Outbox};
    use super::*;

    #[test]
    fn a_refused_port_returns_the_datagrams() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(peer) = UdpSocket::bind(address) else {
                continue;
            };
            let target = peer.local_addr().expect("bound");
            drop(peer);
            let channel = Channel::open(target, 0, false).expect("a channel");
            let sent = Outbox::new(false).send(&channel.socket, &Batch::of(&["aa", "b", "ccc"]));
            assert_eq!(sent.unsendable, 0);
            let mut refused = Vec::new();
            ErrorQueue::new().read(&channel.socket, |entry| match entry {
                Entry::Refused(start) => refused.push(start.to_vec()),
                Entry::Left { .. } => panic!("no stamps were asked for"),
            });
            assert_eq!(refused, [&b"aa"[..], b"b", b"ccc"]);
            assert_eq!(Inbox::new().receive(&channel.socket, 1), 0);
        }
    }

    #[test]
    fn the_kernel_numbers_and_stamps_what_is_sent() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(peer) = UdpSocket::bind(address) else {
                continue;
            };
            let target = peer.local_addr().expect("bound");
            let channel = Channel::open(target, 0, true).expect("a channel");
            assert!(channel.is_stamped, "every kernel since 3.17 has them");
            let now = || {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.expect("after 1970")
            };
            let before = now();
            // More than one system call returns.
            let texts = ["datagram"; 40];
            let sent = Outbox::new(false).send(&channel.socket, &Batch::of(&texts));
            assert!(sent.is_clean);
            let after = now();
            let mut stamps = Vec::new();
            ErrorQueue::new().read(&channel.socket, |entry| match entry {
                Entry::Left { number, at } => stamps.push((number, at)),
                Entry::Refused(_) => panic!("the port is open"),
            });
            let numbers: Vec<u32> = stamps.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, (0..40).collect::<Vec<_>>());
            assert!(stamps.is_sorted());
            for (_, at) in stamps {
                assert!(before <= at && at <= after, "{before:?} {at:?} {after:?}");
            }
        }
    }
}

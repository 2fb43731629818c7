//! The sockets of the generator; sends and receives in batches (`sendmmsg`, `recvmmsg`,
//! `UDP_SEGMENT`).
//!
//! Each socket is connected to one target, so that the kernel drops datagrams from other peers and
//! reports a refused port. Sending blocks while the socket's send buffer is full, which shows as
//! schedule lag. Receiving never blocks.

use std::collections::HashSet;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, TimestampingFlag, recvmmsg,
    sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Socket, Type};

use super::error::Error;
use crate::protocol::{PADDING, REPLY_BYTES_MAX};

/// The largest batch. This is `UDP_MAX_SEGMENTS` of include/linux/udp.h before Linux 6.9 doubled
/// it.
pub(super) const BATCH_MAX: usize = 64;

/// Longer requests are sent one by one: a GSO segment must not be fragmented, which leaves 1,500
/// bytes less the IPv6 and UDP headers on a usual network.
pub(super) const SEGMENT_BYTES_MAX: usize = 1_452;

/// The number of times in a row that a send is retried after a refused port.
const REFUSED_MAX: u32 = 3;

/// A datagram is not longer in the receive buffer, or on its way, than this.
pub(super) const AGE_MAX: Duration = Duration::from_secs(10);

/// The timeout of a send that waits for room in the send buffer.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The receive buffer requested; without privileges, the kernel limits it to `rmem_max`.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// The wildcard address of `peer`'s family with port 0.
pub(super) fn any_address(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// A socket of the generator.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) socket: UdpSocket,
    /// Index of the target that it is connected to.
    pub(super) target: usize,
    /// Its inode, which identifies it in `/proc/net/udp`.
    pub(super) inode: u64,
    /// The kernel reports when each datagram left.
    pub(super) is_stamped: bool,
}

impl Channel {
    /// Opens a socket with its own source port, connected to `address`. `target` is the index of
    /// that target. `stamp`: the kernel shall report when each datagram left, if it can.
    ///
    /// # Errors
    ///
    /// There are no more sockets or ports, or no route to the target.
    pub(super) fn open(address: SocketAddr, target: usize, stamp: bool) -> Result<Self, Error> {
        Self::try_open(address, target, stamp)
            .map_err(|error| Error::new(format!("cannot open a socket to {address}: {error}")))
    }

    fn try_open(address: SocketAddr, target: usize, stamp: bool) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        // Exceeding rmem_max needs CAP_NET_ADMIN.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        }
        // The error queue returns the start of a refused datagram, which identifies the request.
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        // Without it, the time at which the generator wakes up would count as the server's. A
        // kernel that refuses it leaves that time.
        let _ = setsockopt(&socket, sockopt::ReceiveTimestampns, &true);
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        socket.bind(&any_address(address).into())?;
        socket.connect(&address.into())?;
        let is_stamped = stamp && stamp_sends(&socket);
        let descriptor = std::fs::File::from(socket.as_fd().try_clone_to_owned()?);
        Ok(Self {
            inode: descriptor.metadata()?.ino(),
            socket: socket.into(),
            target,
            is_stamped,
        })
    }
}

/// Asks the kernel for the time at which it passes each datagram to the device; returns whether it
/// does that.
fn stamp_sends(socket: &Socket) -> bool {
    let flags = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
    setsockopt(socket, sockopt::Timestamping, &flags).is_ok()
}

/// Space for the control messages of a received datagram or an entry of the error queue: time
/// stamps of both kinds, an error, and the address that reported it.
pub(super) fn control_space() -> Vec<u8> {
    nix::cmsg_space!(
        nix::sys::time::TimeSpec,
        nix::sys::socket::Timestamps,
        libc::sock_extended_err,
        libc::sockaddr_in6
    )
}

/// Datagrams to send through one socket, stored one after the other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The offset at which the next datagram starts.
    pub(super) fn start(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Ends the datagram that was appended to `bytes`.
    pub(super) fn close(&mut self) {
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    fn datagram(&self, index: usize) -> &[u8] {
        &self.bytes[self.start_of(index)..self.ends[index]]
    }

    /// The number of datagrams from `first` on that can be sent as segments of one GSO send: those
    /// of the same length.
    fn gso_len(&self, first: usize) -> usize {
        let len = self.datagram(first).len();
        if len == 0 || len > SEGMENT_BYTES_MAX {
            return 1;
        }
        (first..self.len())
            .take_while(|&index| {
                self.datagram(index).len() == len
                    && self.ends[index] - self.start_of(first) <= REPLY_BYTES_MAX
            })
            .count()
    }
}

/// How a batch was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Datagrams that the kernel did not accept.
    pub(super) unsendable: u64,
    /// There was no error at all.
    pub(super) is_clean: bool,
}

/// Sends batches.
#[derive(Debug)]
pub(super) struct Outbox {
    headers: MultiHeaders<()>,
    segment: bool,
}

impl Outbox {
    /// `segment`: send datagrams of equal length as one `UDP_SEGMENT` send.
    pub(super) fn new(segment: bool) -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH_MAX, None),
            segment,
        }
    }

    /// Sends all of `batch`, which has at most [`BATCH_MAX`] datagrams. Datagrams that the kernel
    /// does not accept are skipped after a bounded number of attempts.
    pub(super) fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> Sent {
        let mut outcome = Sent {
            unsendable: 0,
            is_clean: true,
        };
        let (mut first, mut attempts) = (0, 0);
        while first < batch.len() {
            let result = if self.segment {
                Self::send_gso(socket, batch, first)
            } else {
                self.send_many(socket, batch, first)
            };
            match result {
                Ok(sent) => {
                    first += sent.max(1);
                    attempts = 0;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    outcome.is_clean = false;
                    if is_about_a_datagram(errno) && attempts < REFUSED_MAX {
                        // Reports an earlier datagram; this one was not sent.
                        attempts += 1;
                    } else if self.segment && matches!(errno, Errno::EINVAL | Errno::EIO) {
                        // The device or the kernel does not support it.
                        self.segment = false;
                    } else {
                        outcome.unsendable += 1;
                        first += 1;
                        attempts = 0;
                    }
                }
            }
        }
        outcome
    }

    fn send_many(&mut self, socket: &UdpSocket, batch: &Batch, first: usize) -> nix::Result<usize> {
        let count = (batch.len() - first).min(BATCH_MAX);
        let mut slices = [[IoSlice::new(&[])]; BATCH_MAX];
        for (slice, index) in slices.iter_mut().zip(first..first + count) {
            *slice = [IoSlice::new(batch.datagram(index))];
        }
        let addresses = [None; BATCH_MAX];
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            &slices[..count],
            &addresses[..count],
            [],
            MsgFlags::empty(),
        )?;
        Ok(sent.count())
    }

    fn send_gso(socket: &UdpSocket, batch: &Batch, first: usize) -> nix::Result<usize> {
        let count = batch.gso_len(first);
        let bytes = &batch.bytes[batch.start_of(first)..batch.ends[first + count - 1]];
        // With more than one datagram, their length is at most SEGMENT_BYTES_MAX.
        let segment = batch.datagram(first).len() as u16;
        let control = [ControlMessage::UdpGsoSegments(&segment)];
        let control = if count > 1 { &control[..] } else { &[] };
        let slices = [IoSlice::new(bytes)];
        sendmsg::<()>(
            socket.as_raw_fd(),
            &slices,
            control,
            MsgFlags::empty(),
            None,
        )?;
        Ok(count)
    }
}

/// Receives batches.
#[derive(Debug)]
pub(super) struct Inbox {
    headers: MultiHeaders<()>,
    buffers: Box<[u8]>,
    lengths: [usize; BATCH_MAX],
    /// When the kernel received each datagram, since the epoch.
    stamps: [Option<Duration>; BATCH_MAX],
}

impl Inbox {
    /// The longest datagram and the padding that the parser needs.
    const STRIDE: usize = REPLY_BYTES_MAX + PADDING;

    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH_MAX, Some(control_space())),
            buffers: vec![0; Self::STRIDE * BATCH_MAX].into(),
            lengths: [0; BATCH_MAX],
            stamps: [None; BATCH_MAX],
        }
    }

    /// Receives up to `count` datagrams without waiting; returns their number.
    pub(super) fn receive(&mut self, socket: &UdpSocket, count: usize) -> usize {
        let count = count.min(BATCH_MAX);
        match self.try_receive(socket, count) {
            // The error is about a datagram sent earlier; replies may have arrived as well.
            Err(errno) if is_about_a_datagram(errno) => {
                self.try_receive(socket, count).unwrap_or(0)
            }
            received => received.unwrap_or(0),
        }
    }

    fn try_receive(&mut self, socket: &UdpSocket, count: usize) -> nix::Result<usize> {
        let mut buffers = self.buffers.chunks_exact_mut(Self::STRIDE);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH_MAX] = std::array::from_fn(|_| {
            let buffer = buffers.next().expect("there is a buffer for each");
            [IoSliceMut::new(&mut buffer[..REPLY_BYTES_MAX])]
        });
        let flags = MsgFlags::MSG_DONTWAIT;
        let socket = socket.as_raw_fd();
        let replies = recvmmsg(socket, &mut self.headers, &mut slices[..count], flags, None)?;
        let mut received = 0;
        for (reply, (len, stamp)) in replies.zip(self.lengths.iter_mut().zip(&mut self.stamps)) {
            *len = reply.bytes;
            *stamp = reply.cmsgs().ok().and_then(|mut controls| {
                controls.find_map(|control| match control {
                    ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                    _ => None,
                })
            });
            received += 1;
        }
        Ok(received)
    }

    /// When the kernel received a datagram of the last batch, since the epoch.
    pub(super) fn stamp(&self, index: usize) -> Option<Duration> {
        self.stamps[index]
    }

    /// How long before `now`, which is since the epoch, that was; zero if it is not known.
    pub(super) fn age(&self, index: usize, now: Duration) -> Duration {
        let age = self.stamps[index].map(|stamp| now.saturating_sub(stamp));
        // More means that the clock was set in between.
        age.filter(|age| *age < AGE_MAX).unwrap_or_default()
    }

    /// A datagram of the last batch followed by [`PADDING`] bytes, and its length.
    pub(super) fn datagram(&mut self, index: usize) -> (&mut [u8], usize) {
        let start = index * Self::STRIDE;
        let buffer = &mut self.buffers[start..start + Self::STRIDE];
        (buffer, self.lengths[index])
    }
}

/// Whether the error is about a datagram that was sent earlier, and not a failure of this call.
fn is_about_a_datagram(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENOPROTOOPT
    )
}

/// The number of datagrams that the kernel dropped because the receive buffers of these sockets
/// were full.
pub(super) fn dropped(inodes: &HashSet<u64>) -> u64 {
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .map(|table| dropped_in(&table, inodes))
        .sum()
}

/// The inodes of the sockets that receive from any peer on this port.
pub(super) fn inodes_of_port(port: u16) -> HashSet<u64> {
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| inodes_in(&table, port))
        .collect()
}

/// The unconnected sockets of this port in one table of the kernel. The second field is the local
/// address, the third one that of the peer, in hexadecimal digits.
fn inodes_in(table: &str, port: u16) -> HashSet<u64> {
    let suffix = format!(":{port:04X}");
    let inodes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_server = fields.get(1)?.ends_with(&suffix) && fields.get(2)?.ends_with(":0000");
        is_server.then(|| fields.get(9)?.parse().ok()).flatten()
    });
    inodes.collect()
}

/// The drops of these sockets in one table of the kernel. The tenth field is the inode, the last
/// one the drops.
///
/// Source: `udp4_format_sock` in net/ipv4/udp.c.
fn dropped_in(table: &str, inodes: &HashSet<u64>) -> u64 {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let inode = fields.nth(9)?.parse().ok()?;
            let drops: u64 = fields.last()?.parse().ok()?;
            inodes.contains(&inode).then_some(drops)
        })
        .sum()
}

#[cfg(test)]
impl Batch {
    /// A batch of these datagrams, for tests of this file and others.
    pub(super) fn of(datagrams: &[&str]) -> Self {
        let mut batch = Self::default();
        for datagram in datagrams {
            batch.bytes.extend_from_slice(datagram.as_bytes());
            batch.close();
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_have_equal_lengths() {
        let batch = Batch::of(&["aaa", "bbb", "cc", "dd", "e"]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|first| batch.gso_len(first)),
            [2, 1, 2, 1, 1]
        );
    }

    #[test]
    fn batches_arrive_with_and_without_segments() {
        let peer = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let channel =
            Channel::open(peer.local_addr().expect("bound"), 0, false).expect("a channel");
        let texts = ["aaa", "bbb", "ccc", "d", ""];
        for segment in [false, true] {
            let mut outbox = Outbox::new(segment);
            assert_eq!(
                outbox.send(&channel.socket, &Batch::of(&texts)).unsendable,
                0
            );
            assert_eq!(outbox.segment, segment, "loopback supports segments");
            peer.connect(channel.socket.local_addr().expect("bound"))
                .expect("loopback is reachable");
            peer.set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .expect("a valid timeout");
            let mut inbox = Inbox::new();
            let mut arrived = Vec::new();
            while arrived.len() < texts.len() {
                // Waits for the first datagram, then receives all.
                peer.peek(&mut [0; 8]).expect("a datagram in time");
                let count = inbox.receive(&peer, BATCH_MAX);
                for index in 0..count {
                    let (buffer, len) = inbox.datagram(index);
                    arrived.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
                }
            }
            assert_eq!(arrived, texts);
        }
    }

    #[test]
    fn drops_are_read_from_the_table_of_sockets() {
        let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  311: 0100007F:A4F6 0100007F:0716 01 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 12
  312: 0100007F:A4F7 0100007F:0716 01 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 5
";
        assert_eq!(dropped_in(table, &HashSet::from([4711, 4713])), 12);
        assert_eq!(dropped_in("", &HashSet::from([1])), 0);
        assert_eq!(inodes_in(table, 0xa4f6), HashSet::new(), "it is connected");
        let table = table.replace("0100007F:0716", "00000000:0000");
        assert_eq!(inodes_in(&table, 0xa4f6), HashSet::from([4711]));
    }
}

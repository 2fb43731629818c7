//! A client's sockets, one per address family, and the kernel's reports of undelivered datagrams.
//!
//! One socket serves all candidates, so it is not connected. To learn that nothing listens at an
//! address, it enables the error queue (`IP_RECVERR`, ip(7)), whose entries name the destination.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Socket, Type};

use super::calls::{Calls, Id};
use super::observer::{Observer, Packet};

/// The number of datagrams, and of error queue entries, that are taken at once.
const BATCH: usize = 64;
/// More than the longest datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// The part that is read of a datagram in the error queue, in bytes.
const RETURNED_BYTES: usize = 64;
/// Six candidates of a large cluster can send 60 KB each at the same time.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The socket of one address family.
#[derive(Debug)]
pub(super) struct FamilySocket {
    socket: UdpSocket,
    observer: Observer,
}

/// Whether datagrams are left in a socket.
pub(super) enum Received {
    /// None is left.
    All,
    /// Some may be left.
    Some,
}

impl AsFd for FamilySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl FamilySocket {
    fn open(domain: Domain, observer: &Observer) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        // The kernel limits the size to `net.core.rmem_max`.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        let any: SocketAddr = if domain == Domain::IPV4 {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        socket.bind(&any.into())?;
        Ok(Self {
            socket: socket.into(),
            observer: observer.clone(),
        })
    }

    /// A duplicate of the socket whose readiness tokio reports.
    #[cfg(feature = "async")]
    pub(super) fn watched(&self) -> io::Result<tokio::net::UdpSocket> {
        tokio::net::UdpSocket::from_std(self.socket.try_clone()?)
    }

    /// Passes datagrams and errors from the socket to `calls`, and the call of each reply to
    /// `arrived`.
    ///
    /// # Errors
    ///
    /// The socket is unusable.
    pub(super) fn take(
        &self,
        calls: &mut Calls,
        buffer: &mut [u8],
        mut arrived: impl FnMut(Id),
    ) -> io::Result<Received> {
        for _ in 0..BATCH {
            match self.socket.recv_from(buffer) {
                // A datagram that is not accepted is ignored: anyone can send one.
                Ok((len, from)) => {
                    let datagram = &buffer[..len];
                    let taken = calls.receive(datagram, from, Instant::now());
                    let result = taken.map(|_| ());
                    self.observer
                        .report(&Packet::Received(result, datagram, from));
                    if let Ok(id) = taken {
                        arrived(id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.take_errors(calls);
                    return Ok(Received::All);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // This may be about a datagram sent before; then the queue has its destination.
                Err(error) => {
                    if !self.take_errors(calls) && !is_about_a_datagram(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(Received::Some)
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        match self.socket.send_to(datagram, to) {
            // The error may be about an earlier datagram. It is reported once, and this datagram
            // was not sent.
            Err(error) if is_about_a_datagram(&error) => {
                self.socket.send_to(datagram, to).map(drop)
            }
            // Like a datagram that is lost on the way: it is sent again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// Passes entries of the error queue to `calls`. Returns whether there were any.
    fn take_errors(&self, calls: &mut Calls) -> bool {
        let mut any = false;
        for _ in 0..BATCH {
            let Some((to, error)) = self.next_error() else {
                break;
            };
            any = true;
            if let (Some(to), Some(error)) = (to, error) {
                self.observer.report(&Packet::Undelivered(&error, to));
                calls.unreachable(to, &error);
            }
        }
        any
    }

    /// The next entry of the error queue: the datagram's destination, and the error if it means
    /// that nothing can be reached there.
    fn next_error(&self) -> Option<(Option<SocketAddr>, Option<io::Error>)> {
        let mut returned = [0; RETURNED_BYTES];
        let mut slices = [IoSliceMut::new(&mut returned)];
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
        )
        .ok()?;
        let to = message.address.as_ref().and_then(socket_address);
        let errno = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(error, _) => Some(error.ee_errno),
            ControlMessageOwned::Ipv6RecvErr(error, _) => Some(error.ee_errno),
            _ => None,
        });
        let error = errno
            .and_then(|errno| i32::try_from(errno).ok())
            .map(io::Error::from_raw_os_error)
            // A packet was too large for a link: the kernel fragments the next ones.
            .filter(|error| error.raw_os_error() != Some(libc::EMSGSIZE));
        Some((to, error))
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let ipv4 = address
        .as_sockaddr_in()
        .map(|a| SocketAddr::V4((*a).into()));
    ipv4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|a| SocketAddr::V6((*a).into()))
    })
}

/// Whether an error may be about a datagram sent before, not about the socket or the current call.
fn is_about_a_datagram(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
    ) || matches!(
        error.raw_os_error(),
        Some(libc::EMSGSIZE | libc::EPROTO | libc::ENOPROTOOPT)
    )
}

/// A client's sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    ipv4: Option<Arc<FamilySocket>>,
    ipv6: Option<Arc<FamilySocket>>,
}

impl Sockets {
    /// Opens both sockets. One family may be disabled on this host.
    ///
    /// # Errors
    ///
    /// Neither can be opened.
    pub(super) fn open(observer: &Observer) -> io::Result<Self> {
        let (ipv4, ipv6) = (
            FamilySocket::open(Domain::IPV4, observer),
            FamilySocket::open(Domain::IPV6, observer),
        );
        match (ipv4, ipv6) {
            (Err(error), Err(_)) => Err(error),
            (ipv4, ipv6) => Ok(Self {
                ipv4: ipv4.ok().map(Arc::new),
                ipv6: ipv6.ok().map(Arc::new),
            }),
        }
    }

    /// Files that are not sockets, so that every operation fails.
    #[cfg(test)]
    pub(super) fn broken() -> io::Result<Self> {
        let file = std::fs::File::open("/dev/null")?;
        let socket = UdpSocket::from(std::os::fd::OwnedFd::from(file));
        let observer = Observer::default();
        Ok(Self {
            ipv4: Some(Arc::new(FamilySocket { socket, observer })),
            ipv6: None,
        })
    }

    /// The sockets of both families, as far as they are enabled.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<FamilySocket>> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// Sends a datagram.
    ///
    /// # Errors
    ///
    /// It cannot be sent to this address from this host.
    pub(super) fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let family = if to.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        let socket = family
            .as_ref()
            .ok_or_else(|| io::Error::from(ErrorKind::Unsupported))?;
        let sent = socket.send(datagram, to);
        let result = sent.as_ref().copied();
        socket.observer.report(&Packet::Sent(result, datagram, to));
        sent
    }

    /// Passes datagrams and errors from both sockets to `calls`. If some are left, the next
    /// [`wait`](Self::wait) returns at once.
    ///
    /// # Errors
    ///
    /// A socket is unusable.
    pub(super) fn take(&self, calls: &mut Calls, buffer: &mut [u8]) -> io::Result<()> {
        for socket in self.all() {
            socket.take(calls, buffer, |_| {})?;
        }
        Ok(())
    }

    /// Waits for both sockets; see [`wait`].
    pub(super) fn wait(&self, until: Instant) -> io::Result<()> {
        wait(self.all().map(|socket| socket.as_fd()), until)
    }
}

/// Waits until a socket is readable, until the time `until`, or for a signal.
///
/// # Errors
///
/// The errors of poll(2).
pub(super) fn wait<'s>(
    sockets: impl Iterator<Item = BorrowedFd<'s>>,
    until: Instant,
) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = sockets
        .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
        .collect();
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up to milliseconds: waking too early would mean polling again.
    let left = left.saturating_add(Duration::from_micros(999));
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Memory for one datagram.
pub(super) fn buffer() -> Box<[u8]> {
    vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice()
}

//! A client's sockets: one per address family, and what the kernel says about datagrams that did not arrive.
//!
//! The sockets are not connected, as one serves all candidates. So that the kernel still tells when nobody listens at
//! an address, they ask for its error queue (`IP_RECVERR`, ip(7)); each word there names the address that it is about.

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

/// Datagrams taken before anything else is looked at.
const BATCH: usize = 64;
/// The longest datagram, of any kind.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// The start of a datagram that came back with an error.
const RETURNED_BYTES: usize = 64;
/// Replies of large clusters are 60 KB each, from six candidates at once.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// One family's socket.
#[derive(Debug)]
pub(super) struct FamilySocket {
    socket: UdpSocket,
}

/// How much of what had come was taken.
pub(super) enum Received {
    /// All.
    All,
    /// As much as is taken in one go.
    Some,
}

impl AsFd for FamilySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl FamilySocket {
    fn open(domain: Domain) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        // The kernel gives what it allows.
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
        })
    }

    /// The same socket, for tokio to watch.
    #[cfg(feature = "async")]
    pub(super) fn watched(&self) -> io::Result<tokio::net::UdpSocket> {
        tokio::net::UdpSocket::from_std(self.socket.try_clone()?)
    }

    /// Takes what has come; tells `calls`, and `arrived` which call each reply belongs to.
    ///
    /// # Errors
    ///
    /// The socket fails for good.
    pub(super) fn take(
        &self,
        calls: &mut Calls,
        buffer: &mut [u8],
        mut arrived: impl FnMut(Id),
    ) -> io::Result<Received> {
        for _ in 0..BATCH {
            match self.socket.recv_from(buffer) {
                // A datagram that is refused is as good as none.
                Ok((len, from)) => {
                    if let Ok(id) = calls.receive(&buffer[..len], from, Instant::now()) {
                        arrived(id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.take_errors(calls);
                    return Ok(Received::All);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // An error about some datagram sent before: the queue tells which.
                Err(error) => {
                    if !self.take_errors(calls) && !is_about_a_datagram(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(Received::Some)
    }

    /// Takes what the error queue holds; whether it held anything.
    fn take_errors(&self, calls: &mut Calls) -> bool {
        let mut any = false;
        for _ in 0..BATCH {
            let Some((to, error)) = self.next_error() else {
                break;
            };
            any = true;
            if let (Some(to), Some(error)) = (to, error) {
                calls.unreachable(to, &error);
            }
        }
        any
    }

    /// The next word of the error queue: what address it is about, if it says so, and the error, if it means that nobody is there.
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
            // A packet was too large for some link: the kernel cuts the next ones smaller.
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

/// Whether the error may stem from a datagram sent before, to anybody, and says nothing about the socket.
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
    /// Opens both sockets; one family may be switched off on this host.
    ///
    /// # Errors
    ///
    /// No socket can be had.
    pub(super) fn open() -> io::Result<Self> {
        let (ipv4, ipv6) = (
            FamilySocket::open(Domain::IPV4),
            FamilySocket::open(Domain::IPV6),
        );
        match (ipv4, ipv6) {
            (Err(error), Err(_)) => Err(error),
            (ipv4, ipv6) => Ok(Self {
                ipv4: ipv4.ok().map(Arc::new),
                ipv6: ipv6.ok().map(Arc::new),
            }),
        }
    }

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
        match socket.socket.send_to(datagram, to) {
            // The error may be an earlier datagram's, which is told once; then this one was not sent.
            Err(error) if is_about_a_datagram(&error) => {
                socket.socket.send_to(datagram, to).map(drop)
            }
            // As good as lost on the way: it is sent again in time.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => sent.map(drop),
        }
    }

    /// Takes what has come on all sockets; what is left makes the next wait a short one.
    ///
    /// # Errors
    ///
    /// A socket fails for good.
    pub(super) fn take(&self, calls: &mut Calls, buffer: &mut [u8]) -> io::Result<()> {
        for socket in self.all() {
            socket.take(calls, buffer, |_| {})?;
        }
        Ok(())
    }

    /// As [`wait`] for all sockets.
    ///
    /// # Errors
    ///
    /// As there.
    pub(super) fn wait(&self, until: Instant) -> io::Result<()> {
        wait(self.all().map(|socket| socket.as_fd()), until)
    }
}

/// Waits until something has come on one of the sockets, or until `until`, or for a signal.
///
/// # Errors
///
/// As of poll(2).
pub(super) fn wait<'s>(
    sockets: impl Iterator<Item = BorrowedFd<'s>>,
    until: Instant,
) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = sockets
        .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
        .collect();
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up, so that nobody wakes a moment too early and asks again.
    let left = left + Duration::from_micros(999);
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

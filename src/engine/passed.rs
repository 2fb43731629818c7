//! Sockets that the service manager bound and passed to this process (socket activation).
//!
//! The kernel distributes datagrams over all sockets of a port, so each passed socket needs a
//! worker: datagrams on a socket that nobody reads would be lost.
//!
//! Source: sd_listen_fds(3), systemd.socket(5).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use super::socket::{Sockets, configure, supports_gso};

/// The most sockets that are accepted: each takes a thread, a ring and its buffers.
const PASSED_MAX: usize = 256;

/// Why passed descriptors cannot be served. The message names the remedy in the socket unit.
#[derive(Debug)]
pub(crate) enum PassedError {
    /// The variables of the service manager are invalid, or a descriptor is not open.
    Environment(io::Error),
    /// The descriptor is not an IPv4 or IPv6 UDP socket.
    NotUdp { descriptor: i32 },
    /// The descriptor is bound to another address than the first one.
    OtherAddress {
        descriptor: i32,
        address: SocketAddr,
        first: SocketAddr,
    },
    /// More than [`PASSED_MAX`] descriptors.
    TooMany(usize),
    /// The kernel refused an option of the descriptor.
    Option { descriptor: i32, error: io::Error },
}

impl fmt::Display for PassedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot use the sockets of the service manager: ")?;
        match self {
            Self::Environment(error) => write!(f, "LISTEN_FDS: {error}"),
            Self::NotUdp { descriptor } => write!(
                f,
                "descriptor {descriptor} is not a bound UDP socket; use ListenDatagram= with an IP address and a \
                 port in the socket unit"
            ),
            Self::OtherAddress {
                descriptor,
                address,
                first,
            } => write!(
                f,
                "descriptor {descriptor} has the address {address}, but the first one {first}; use \
                 equal ListenDatagram= lines in the socket unit"
            ),
            Self::TooMany(count) => write!(
                f,
                "{count} are more than {PASSED_MAX}; remove ListenDatagram= lines from the socket unit"
            ),
            Self::Option { descriptor, error } => write!(f, "descriptor {descriptor}: {error}"),
        }
    }
}

impl std::error::Error for PassedError {}

/// Takes the sockets that the service manager passed; `None` if it passed none.
///
/// The first call takes them, and later calls return `None`. It must come before the process opens
/// descriptors of its own, because the service manager's start at number 3.
///
/// # Errors
///
/// A descriptor is not a UDP socket, or the addresses differ.
pub(crate) fn take_passed() -> Result<Option<Sockets>, PassedError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);

    let passed = sd_notify::listen_fds().map_err(PassedError::Environment)?;
    if passed.len() == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    let own = passed.map(|descriptor| {
        // SAFETY: the service manager opened this descriptor for this process (LISTEN_PID is ours,
        // and sd-notify found it open). Nobody else owns it: `TAKEN` admits one caller, and
        // `daemon::main` calls first.
        unsafe { OwnedFd::from_raw_fd(descriptor) }
    });
    from_descriptors(own.collect()).map(Some)
}

/// Checks the descriptors and sets the options that [`super::bind`] sets.
fn from_descriptors(descriptors: Vec<OwnedFd>) -> Result<Sockets, PassedError> {
    if descriptors.len() > PASSED_MAX {
        return Err(PassedError::TooMany(descriptors.len()));
    }
    let sockets: Vec<Socket> = descriptors.into_iter().map(Socket::from).collect();
    let mut first = None;
    for socket in &sockets {
        let descriptor = socket.as_raw_fd();
        let address = udp_address(socket).ok_or(PassedError::NotUdp { descriptor })?;
        let first = *first.get_or_insert(address);
        if address != first {
            return Err(PassedError::OtherAddress {
                descriptor,
                address,
                first,
            });
        }
        prepare(socket, address).map_err(|error| PassedError::Option { descriptor, error })?;
    }
    let (Some(local_addr), Some(socket)) = (first, sockets.first()) else {
        return Err(PassedError::Environment(io::ErrorKind::InvalidInput.into()));
    };
    let gso = supports_gso(socket);
    Ok(Sockets {
        sockets: sockets.into_iter().map(Arc::new).collect(),
        local_addr,
        gso,
    })
}

/// The address of a bound UDP socket; `None` for any other descriptor.
fn udp_address(socket: &Socket) -> Option<SocketAddr> {
    let is_ip = matches!(socket.domain().ok()?, Domain::IPV4 | Domain::IPV6);
    let is_udp =
        socket.r#type().ok()? == Type::DGRAM && socket.protocol().ok()? == Some(Protocol::UDP);
    let address = socket.local_addr().ok()?.as_socket()?;
    (is_ip && is_udp && address.port() != 0).then_some(address)
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // A non-blocking socket would end io_uring's receive with EAGAIN instead of waiting.
    socket.set_nonblocking(false)?;
    configure(socket, address)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    use std::sync::mpsc::TryRecvError;
    use std::thread;

    use super::super::fixtures::{Echo, TIMEOUT, client_of, published, uring_or_skip};
    use super::super::{EngineKind, start};
    use super::*;

    /// `count` sockets on one port, as a socket unit with `ReusePort=yes` makes them.
    fn group(count: usize) -> Vec<OwnedFd> {
        let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let sockets = (0..count).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.bind(&address.into()).unwrap();
            address = socket.local_addr().unwrap().as_socket().unwrap();
            socket.into()
        });
        sockets.collect()
    }

    #[test]
    fn each_passed_socket_becomes_a_workers() {
        let sockets = from_descriptors(group(3)).unwrap();
        assert_eq!(sockets.sockets.len(), 3);
        for socket in &sockets.sockets {
            assert!(!socket.nonblocking().unwrap());
            let address = socket.local_addr().unwrap().as_socket();
            assert_eq!(address, Some(sockets.local_addr()));
        }
    }

    #[test]
    fn a_larger_receive_queue_is_kept() {
        let sockets = group(1);
        let before = Socket::from(sockets[0].try_clone().unwrap());
        before.set_recv_buffer_size(16 << 20).unwrap();
        let granted = before.recv_buffer_size().unwrap();
        let sockets = from_descriptors(sockets).unwrap();
        assert!(sockets.sockets[0].recv_buffer_size().unwrap() >= granted);
    }

    #[test]
    fn other_descriptors_are_refused_with_the_remedy() {
        let message =
            |descriptors: Vec<OwnedFd>| from_descriptors(descriptors).unwrap_err().to_string();
        let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        for other in [
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            UnixDatagram::unbound().unwrap().into(),
            std::fs::File::open("/dev/null").unwrap().into(),
            unbound.into(),
        ] {
            let text = message(vec![other]);
            assert!(
                text.contains("is not a bound UDP socket; use ListenDatagram="),
                "{text}"
            );
        }
        let one = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let text = message(vec![one.into(), other.into()]);
        assert!(text.contains("use equal ListenDatagram= lines"), "{text}");
        let many = UdpSocket::bind("127.0.0.1:0").unwrap();
        let many = (0..=PASSED_MAX).map(|_| many.try_clone().unwrap().into());
        let text = message(many.collect());
        assert!(text.contains("257 are more than 256"), "{text}");
    }

    /// Each datagram is answered or still in the socket's queue, for the next process.
    #[test]
    fn a_worker_that_stops_loses_no_datagram() {
        for kind in [Some(EngineKind::Uring), Some(EngineKind::Mmsg)] {
            let passed = group(1);
            let kept = Socket::from(passed[0].try_clone().unwrap());
            let (echo, is_held, let_on) = Echo::new();
            let mut echo = Some(echo);
            let sockets = from_descriptors(passed).unwrap();
            let started = start(sockets, kind, &published(), || echo.take().unwrap());
            let Some(workers) = (match kind {
                Some(EngineKind::Mmsg) => Some(started.unwrap()),
                _ => uring_or_skip(started),
            }) else {
                continue;
            };

            // The worker is held while more datagrams arrive and the order to stop does.
            let client = client_of(workers.local_addr());
            client.send(b"hold").unwrap();
            is_held.recv_timeout(TIMEOUT).unwrap();
            for _ in 0..50 {
                client.send(b"more").unwrap();
            }
            thread::scope(|scope| {
                let counters = Arc::clone(&workers.counters()[0]);
                let stopping = scope.spawn(|| workers.stop().unwrap());
                thread::sleep(std::time::Duration::from_millis(50));
                let_on.send(()).unwrap();
                stopping.join().unwrap();
                assert_eq!(counters.snapshot().received, counters.snapshot().replied);
            });
            assert_eq!(is_held.try_recv(), Err(TryRecvError::Disconnected));

            client.set_nonblocking(true).unwrap();
            kept.set_nonblocking(true).unwrap();
            let kept = UdpSocket::from(kept);
            let mut buffer = [0; 8];
            let replies =
                std::iter::repeat_with(|| client.recv(&mut buffer)).take_while(Result::is_ok);
            let replies = replies.count();
            let waiting =
                std::iter::repeat_with(|| kept.recv(&mut buffer)).take_while(Result::is_ok);
            assert_eq!(replies + waiting.count(), 51, "{kind:?}: {replies} replies");
        }
    }

    #[test]
    fn without_a_service_manager_there_is_nothing_to_take() {
        assert!(take_passed().unwrap().is_none());
    }
}

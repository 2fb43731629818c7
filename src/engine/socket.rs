//! The workers' UDP sockets.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Asked for, and cut by the kernel to `net.core.rmem_max`: room for the bursts that arrive while a worker is busy.
const RECEIVE_QUEUE_BYTES: usize = 4 << 20;
/// Asked for, and cut by the kernel to `net.core.wmem_max`: room for the replies of a few batches.
const SEND_QUEUE_BYTES: usize = 1 << 20;

/// How long a port may stay busy before that is an error: the kernel closes the sockets of a killed daemon's rings some 40 ms
/// after the process is gone. (A daemon that is stopped frees its port before it ends.)
const BUSY_PORT_PATIENCE: Duration = Duration::from_millis(250);
const BUSY_PORT_PAUSE: Duration = Duration::from_millis(10);

/// One bound socket per worker, all on one address and port.
#[derive(Debug)]
pub struct Sockets {
    pub(super) sockets: Vec<Arc<Socket>>,
    pub(super) local_addr: SocketAddr,
    /// Whether the kernel can cut one send into many datagrams.
    pub(super) segmentation: bool,
}

impl Sockets {
    /// The address all sockets are bound to, the port filled in.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How many sockets there are: one for each worker.
    pub fn count(&self) -> usize {
        self.sockets.len()
    }

    /// The same sockets, whose replies are sent one by one even if several go to one peer: to measure what trains gain.
    #[must_use]
    pub fn without_gso(mut self) -> Self {
        self.segmentation = false;
        self
    }
}

/// Binds one socket per worker to `addr`; with port 0 the kernel picks one port for all.
///
/// The first socket is bound without any option that shares a port, so a port that any other process has, whatever its
/// options, is an error; only then is it opened to its siblings (`SO_REUSEPORT`, which only sockets of this user that ask for
/// it can join). The reference sets `SO_REUSEADDR`, with which two daemons would serve one port unnoticed.
///
/// # Errors
///
/// What the kernel says: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`...
///
/// # Panics
///
/// If `workers` is 0.
pub fn bind(addr: SocketAddr, workers: usize) -> io::Result<Sockets> {
    assert!(workers > 0, "there is at least one worker");
    let first = bind_alone(addr)?;
    let local_addr = first
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the kernel bound a UDP socket to no IP address"))?;
    let segmentation = supports_segmentation(&first);
    let mut sockets = vec![Arc::new(first)];
    if workers > 1 {
        sockets[0].set_reuse_port(true)?;
    }
    for _ in 1..workers {
        let socket = open(local_addr)?;
        socket.set_reuse_port(true)?;
        socket.bind(&local_addr.into())?;
        sockets.push(Arc::new(socket));
    }
    Ok(Sockets {
        sockets,
        local_addr,
        segmentation,
    })
}

fn bind_alone(addr: SocketAddr) -> io::Result<Socket> {
    let deadline = Instant::now() + BUSY_PORT_PATIENCE;
    let socket = open(addr)?;
    loop {
        match socket.bind(&addr.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(BUSY_PORT_PAUSE);
            }
            bound => return bound.map(|()| socket),
        }
    }
}

/// A socket with all its options but those about sharing a port.
fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    configure(&socket, addr)?;
    Ok(socket)
}

/// Sets the options that do not decide about binding.
pub(super) fn configure(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    // The kernel cuts these silently; what it grants is enough to work with. A service manager may
    // have asked for more, as root. The kernel reports twice what was set.
    if socket.recv_buffer_size()? < 2 * RECEIVE_QUEUE_BYTES {
        socket.set_recv_buffer_size(RECEIVE_QUEUE_BYTES)?;
    }
    if socket.send_buffer_size()? < 2 * SEND_QUEUE_BYTES {
        socket.set_send_buffer_size(SEND_QUEUE_BYTES)?;
    }
    set_flag(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    if addr.ip().is_unspecified() {
        // Replies must leave from the address that was asked, so the kernel has to say which one it was.
        match addr {
            SocketAddr::V4(_) => set_flag(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
        }
    }
    Ok(())
}

/// Whether the kernel knows `UDP_SEGMENT`; 0 is its default, no segmentation.
pub(super) fn supports_segmentation(socket: &Socket) -> bool {
    set_flag(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// Sets an integer socket option that socket2 does not know.
fn set_flag(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live integer, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_one_port() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(sockets.sockets.len(), 3);
        for socket in &sockets.sockets {
            let address = socket.local_addr().unwrap().as_socket();
            assert_eq!(address, Some(sockets.local_addr()));
        }
    }

    /// Two daemons on one port would answer at random; so no option of the other one may let us in, nor ours let it in.
    #[test]
    fn a_port_is_never_shared_with_another_process() {
        type Prepare = fn(&Socket) -> io::Result<()>;
        let options: [Prepare; 3] = [
            |_| Ok(()),
            |socket| socket.set_reuse_address(true),
            |socket| {
                socket
                    .set_reuse_address(true)
                    .and_then(|()| socket.set_reuse_port(true))
            },
        ];
        for prepare in options {
            for (theirs, ours) in [
                ("127.0.0.1:0", "127.0.0.1"),
                ("127.0.0.1:0", "::"),
                ("0.0.0.0:0", "127.0.0.1"),
            ] {
                let theirs: SocketAddr = theirs.parse().unwrap();
                let other = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
                prepare(&other).unwrap();
                other.bind(&theirs.into()).unwrap();
                let port = other.local_addr().unwrap().as_socket().unwrap().port();
                let ours = SocketAddr::new(ours.parse().unwrap(), port);
                let error = bind(ours, 2).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{ours}");
            }
        }
        for workers in [1, 2] {
            let ours = bind("127.0.0.1:0".parse().unwrap(), workers).unwrap();
            let again = bind(ours.local_addr(), workers).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
            let reference = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            reference.set_reuse_address(true).unwrap();
            assert!(reference.bind(&ours.local_addr().into()).is_err());
        }
    }
}

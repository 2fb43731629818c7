//! The workers' UDP sockets.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Receive buffer to request: room for the bursts that arrive while a worker is busy.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Send buffer to request. Half of what the kernel makes of it (twice as much) holds the replies of
/// 47 KB that 35 requests per second from addresses that do not resolve keep in the kernel for
/// three seconds (see `send_queue`).
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// Size of IPv6 fragments: every path takes it (RFC 8200 section 5).
const IPV6_MTU_BYTES: i32 = 1_280;

/// How long to retry a busy port: the kernel closes the sockets of a killed daemon's rings some 40
/// ms after the process is gone. (A daemon that is stopped frees its port before it ends.)
const BUSY_PORT_TIMEOUT: Duration = Duration::from_millis(250);
const BUSY_PORT_PAUSE: Duration = Duration::from_millis(10);

/// One bound socket per worker, all on one address and port.
#[derive(Debug)]
pub struct Sockets {
    pub(super) sockets: Vec<Arc<Socket>>,
    pub(super) local_addr: SocketAddr,
    /// Whether the kernel supports `UDP_SEGMENT`.
    pub(super) gso: bool,
}

impl Sockets {
    /// The address that all sockets are bound to, with the port that the kernel chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The number of sockets, one for each worker.
    pub fn count(&self) -> usize {
        self.sockets.len()
    }

    /// The sizes of the first socket's buffers; the others have the same options.
    pub fn buffer_sizes(&self) -> BufferSizes {
        let socket = &self.sockets[0];
        let granted = |size: io::Result<usize>, requested| BufferSize {
            requested,
            granted: size.unwrap_or(0) / 2,
        };
        BufferSizes {
            receive: granted(socket.recv_buffer_size(), RECEIVE_BUFFER_BYTES),
            send: granted(socket.send_buffer_size(), SEND_BUFFER_BYTES),
        }
    }

    /// Disables GSO: each reply is sent alone, even if several go to one peer. For measuring what
    /// GSO gains.
    #[must_use]
    pub fn without_gso(mut self) -> Self {
        self.gso = false;
        self
    }
}

/// The sizes of a socket's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// The receive buffer, which the kernel limits to `net.core.rmem_max`.
    pub receive: BufferSize,
    /// The send buffer, which the kernel limits to `net.core.wmem_max`.
    pub send: BufferSize,
}

/// The size of a buffer in bytes, as set by setsockopt. The kernel doubles it for its own overhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSize {
    /// What the engine works best with.
    pub requested: usize,
    /// What the kernel granted, or the service manager has set.
    pub granted: usize,
}

impl BufferSize {
    /// Whether the kernel granted less than requested.
    pub fn is_cut(&self) -> bool {
        self.granted < self.requested
    }
}

/// Binds one socket per worker to `addr`. With port 0 the kernel chooses one port for all.
///
/// The first socket is bound without any option that shares a port, so a port that another process
/// has bound, with any options, is an error. Only then is it shared with the other sockets by
/// `SO_REUSEPORT`, which only sockets of the same user that set it can join. The reference sets
/// `SO_REUSEADDR`, with which two daemons would serve one port unnoticed.
///
/// # Errors
///
/// The kernel's: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` and so on.
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
    let gso = supports_gso(&first);
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
        gso,
    })
}

fn bind_alone(addr: SocketAddr) -> io::Result<Socket> {
    let deadline = Instant::now() + BUSY_PORT_TIMEOUT;
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

/// Opens a socket and sets all options except those that share a port.
fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    configure(&socket, addr)?;
    Ok(socket)
}

/// Sets all options that do not concern binding.
pub(super) fn configure(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    // A service manager may have set more, as root. The kernel reports twice what was set.
    if socket.recv_buffer_size()? < 2 * RECEIVE_BUFFER_BYTES {
        // With CAP_NET_ADMIN beyond net.core.rmem_max; otherwise the kernel limits it silently.
        let size = RECEIVE_BUFFER_BYTES as i32;
        if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        }
    }
    if socket.send_buffer_size()? < 2 * SEND_BUFFER_BYTES {
        let size = SEND_BUFFER_BYTES as i32;
        if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, size).is_err() {
            socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        }
    }
    set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    set_fragmentation(socket, addr)?;
    if addr.ip().is_unspecified() || addr.ip().is_multicast() {
        // Replies must be sent from the address that was asked, and a datagram to a group answered
        // once, so the kernel must report the address. An IPv6 socket serves IPv4 as well; only
        // IP_PKTINFO has the local address of a datagram to a group.
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        if addr.is_ipv6() {
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
    }
    Ok(())
}

/// Makes replies arrive on paths with a smaller MTU, as far as the kernel can.
///
/// Over IPv4 replies do not depend on the path MTU, which anyone can forge and a firewall can keep
/// from us: routers fragment them (ip(7), `IP_PMTUDISC_OMIT`). Over IPv6 only the sender fragments.
/// Linux does so if a datagram exceeds the MTU that it knows, into what every path takes
/// (`IPV6_MTU`). So a reply of 1,233 to 1,452 bytes needs the ICMPv6 message of a narrower path.
fn set_fragmentation(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    let omit = libc::IP_PMTUDISC_OMIT;
    set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, omit)?;
    if addr.is_ipv6() {
        let dont = libc::IPV6_PMTUDISC_DONT;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, dont)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU, IPV6_MTU_BYTES)?;
    }
    Ok(())
}

/// The bytes of the send buffer that are in use (`SO_MEMINFO`, `sk_get_meminfo` in
/// net/core/sock.c); 0 if the kernel does not report them: then a full buffer shows when a send
/// fails.
pub(super) fn send_buffer_in_use(socket: &Socket) -> usize {
    // SK_MEMINFO_VARS and SK_MEMINFO_WMEM_ALLOC of include/uapi/linux/sock_diag.h.
    const VARIABLES: usize = 9;
    const WMEM_ALLOC: usize = 2;

    let mut info = [0u32; VARIABLES];
    let mut len = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to a live array, and the length to a live
    // integer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        info[WMEM_ALLOC] as usize
    } else {
        0
    }
}

/// Whether the kernel supports `UDP_SEGMENT`; 0, the default, means no segmentation.
pub(super) fn supports_gso(socket: &Socket) -> bool {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

impl Sockets {
    /// Whether several replies to one peer are sent with one call (`UDP_SEGMENT`).
    pub fn has_gso(&self) -> bool {
        self.gso
    }
}

/// Sets an integer socket option that socket2 does not have.
fn set_option(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
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
    fn a_reply_that_is_not_delivered_occupies_the_send_buffer() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        assert_eq!(send_buffer_in_use(&socket), 0);
        // With MSG_MORE the kernel keeps the datagram.
        let target: SocketAddr = "127.0.0.1:9".parse().unwrap();
        socket
            .send_to_with_flags(&[0; 9_000], &target.into(), libc::MSG_MORE)
            .unwrap();
        assert!(send_buffer_in_use(&socket) >= 9_000);
    }

    #[test]
    fn workers_share_one_port() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_eq!(sockets.sockets.len(), 3);
        for socket in &sockets.sockets {
            let address = socket.local_addr().unwrap().as_socket();
            assert_eq!(address, Some(sockets.local_addr()));
        }
    }

    /// With two daemons on one port, the kernel would choose which one answers. So no option of the
    /// other daemon may let us bind, and no option of ours may let it bind.
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

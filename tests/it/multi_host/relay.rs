//! A relay that makes a host slow: it delays every request, and passes its reply on at once.

use std::net::{SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Timeout for a daemon's reply; there may be none.
const REPLY_SECONDS_MAX: u64 = 5;

/// A relay. It stops when dropped, except for requests that are still delayed.
pub(super) struct Relay {
    front: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays datagrams from `front`, in this thread's network namespace.
    pub(super) fn start(front: SocketAddr, daemon: SocketAddr, delay: Duration) -> Self {
        let front = UdpSocket::bind(front).expect("the port is free");
        let socket = front.try_clone().expect("a file descriptor");
        Self {
            front,
            thread: Some(thread::spawn(move || relay(&socket, daemon, delay))),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // An empty datagram stops it; no test sends one otherwise.
        let sent = self
            .front
            .local_addr()
            .and_then(|own| self.front.send_to(b"", own));
        if let (Ok(_), Some(thread)) = (sent, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn relay(front: &UdpSocket, daemon: SocketAddr, delay: Duration) {
    let mut buffer = [0; 4096];
    while let Ok((length @ 1.., peer)) = front.recv_from(&mut buffer) {
        let request = buffer[..length].to_vec();
        let Ok(front) = front.try_clone() else { return };
        thread::spawn(move || {
            thread::sleep(delay);
            let _ = pass_on(&front, &request, daemon, peer);
        });
    }
}

fn pass_on(
    front: &UdpSocket,
    request: &[u8],
    daemon: SocketAddr,
    peer: SocketAddr,
) -> std::io::Result<()> {
    let socket = UdpSocket::bind((daemon.ip(), 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(REPLY_SECONDS_MAX)))?;
    socket.send_to(request, daemon)?;
    let mut reply = vec![0; 65_536];
    let length = socket.recv(&mut reply)?;
    front.send_to(&reply[..length], peer)?;
    Ok(())
}

//! A UDP client that tells silence from slowness without waiting: it sends pings behind a request.
//!
//! The reference answers out of order (a thread per request), so one ping answered is no proof. Three in turn are, unless a reply was
//! expected; then the client listens a while longer before it calls it silence.

use super::{now, request_datagram};
use socket2::{Domain, Socket, Type};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Pings that must be answered, one after the other, behind a request that got no reply.
const PINGS_BEHIND: usize = 3;

/// Requests in flight before the client waits: their replies fit a socket's default buffer, if they are not very long.
const WINDOW: usize = 24;

/// A daemon that does not answer a ping within this time is dead.
const PING_SECONDS_MAX: u64 = 10;

/// Tells the replies of one batch apart: it stands at the front of a request's `rsalt`, as `q<TAG>.`.
pub(crate) type Tag = usize;

/// One socket, connected to one daemon.
pub(crate) struct Client {
    socket: UdpSocket,
    key: Vec<u8>,
    pings: Cell<usize>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, key: &[u8]) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a UDP socket");
        let _ = socket.set_recv_buffer_size(8 << 20);
        let socket = UdpSocket::from(socket);
        socket.connect(address).expect("loopback is reachable");
        assert!(
            address.ip() == Ipv4Addr::LOCALHOST,
            "tests speak to loopback only"
        );
        Self {
            socket,
            key: key.to_vec(),
            pings: Cell::new(0),
        }
    }

    /// Whether one ping is answered in time.
    pub(crate) fn answers_within(&self, time: Duration) -> bool {
        let salt = self.send_ping();
        self.receive_until(Instant::now() + time, |reply| ends_with_salt(reply, &salt))
    }

    /// The reply to `datagram`, which must be the first on this client; `patience` is how long to listen after all signs of silence.
    pub(crate) fn ask(&self, datagram: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let mut answer = None;
        self.send(datagram);
        for _ in 0..PINGS_BEHIND {
            self.ping_collecting(&mut |reply| answer = Some(reply));
            if answer.is_some() {
                return answer;
            }
        }
        self.receive_until(Instant::now() + patience, |reply| {
            if !is_ping(reply) {
                answer = Some(reply.to_vec());
            }
            answer.is_some()
        });
        answer
    }

    /// The first datagram that comes back for `datagram`, without pings.
    pub(crate) fn ask_once(&self, datagram: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let mut answer = None;
        self.send(datagram);
        self.receive_until(Instant::now() + patience, |reply| {
            answer = Some(reply.to_vec());
            true
        });
        answer
    }

    /// Sends all requests, many at a time, and gives the replies by tag.
    pub(crate) fn exchange(&self, requests: &[(Tag, Vec<u8>)]) -> HashMap<Tag, Vec<u8>> {
        let mut replies = HashMap::new();
        let mut collect = |reply: Vec<u8>| {
            if let Some(tag) = tag_of(&reply) {
                assert!(
                    replies.insert(tag, reply).is_none(),
                    "request {tag} was answered twice"
                );
            } else {
                panic!("a reply to nothing: {}", reply.escape_ascii());
            }
        };
        for window in requests.chunks(WINDOW) {
            for (_, datagram) in window {
                self.send(datagram);
            }
            self.ping_collecting(&mut collect);
        }
        for _ in 0..PINGS_BEHIND {
            self.ping_collecting(&mut collect);
        }
        replies
    }

    /// Sends a ping and hands out everything else that arrives until its reply.
    fn ping_collecting(&self, collect: &mut dyn FnMut(Vec<u8>)) {
        let salt = self.send_ping();
        let deadline = Instant::now() + Duration::from_secs(PING_SECONDS_MAX);
        let answered = self.receive_until(deadline, |reply| {
            if !is_ping(reply) {
                collect(reply.to_vec());
            }
            ends_with_salt(reply, &salt)
        });
        assert!(answered, "the daemon no longer answers a ping");
    }

    fn send_ping(&self) -> String {
        self.pings.set(self.pings.get() + 1);
        let salt = format!("ping-{}", self.pings.get());
        let message = format!(r#"{{"protocol":1,"type":0,"rsalt":"{salt}"}}"#);
        self.send(&request_datagram(&self.key, &now().to_string(), &message));
        salt
    }

    /// A refused port shows at the next call on the socket; it is the daemon's silence, not our error.
    fn send(&self, datagram: &[u8]) {
        match self.socket.send(datagram) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => panic!("send: {error}"),
            _ => {}
        }
    }

    /// Receives until `done` says so of a reply (true) or the time is over or the port refuses (false).
    fn receive_until(&self, deadline: Instant, mut done: impl FnMut(&[u8]) -> bool) -> bool {
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket
                .set_read_timeout(Some(left))
                .expect("a time that is not zero");
            match self.socket.recv(&mut buffer) {
                Ok(length) if done(&buffer[..length]) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return false,
                Err(_) => {}
            }
        }
    }
}

fn ends_with_salt(reply: &[u8], salt: &str) -> bool {
    reply.ends_with(format!(r#","salt":"{salt}"}}"#).as_bytes())
}

fn is_ping(reply: &[u8]) -> bool {
    salt_of(reply).is_some_and(|salt| salt.starts_with(b"ping-"))
}

fn tag_of(reply: &[u8]) -> Option<Tag> {
    let salt = salt_of(reply)?.strip_prefix(b"q")?;
    let end = salt.iter().position(|&byte| byte == b'.')?;
    std::str::from_utf8(&salt[..end]).ok()?.parse().ok()
}

/// The text of the reply's last key; no message contains its name unescaped.
fn salt_of(reply: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = br#"","salt":""#;
    let at = reply
        .windows(NAME.len())
        .rposition(|window| window == NAME)?;
    Some(&reply[at + NAME.len()..])
}

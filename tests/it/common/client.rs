//! A UDP client that detects a dropped request without a long timeout: it sends pings after it.
//!
//! The reference uses a thread per request and answers out of order, so a single answered ping
//! proves nothing. Three consecutive ones do, unless a reply is expected: then the client waits
//! longer before it reports none.

use super::{now, request_datagram};
use socket2::{Domain, Socket, Type};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Pings that must be answered, one after the other, after a request without a reply.
const PINGS_AFTER: usize = 3;

/// Requests in flight at most: replies of usual length fit a socket's default buffer.
const WINDOW: usize = 24;

/// A daemon that does not answer a ping within this time has failed.
const PING_SECONDS_MAX: u64 = 10;

/// Identifies a request of a batch; its `rsalt` starts with `q<TAG>.`.
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
            "tests use loopback only"
        );
        Self {
            socket,
            key: key.to_vec(),
            pings: Cell::new(0),
        }
    }

    /// Whether one ping is answered within `time`.
    pub(crate) fn answers_within(&self, time: Duration) -> bool {
        let salt = self.send_ping();
        self.receive_until(Instant::now() + time, |reply| ends_with_salt(reply, &salt))
    }

    /// The reply to `datagram`, which must be the first datagram on this client. `grace` is the
    /// time to wait for it after the pings.
    pub(crate) fn ask(&self, datagram: &[u8], grace: Duration) -> Option<Vec<u8>> {
        let mut answer = None;
        self.send(datagram);
        for _ in 0..PINGS_AFTER {
            self.ping_collecting(&mut |reply| answer = Some(reply));
            if answer.is_some() {
                return answer;
            }
        }
        self.receive_until(Instant::now() + grace, |reply| {
            if !is_ping(reply) {
                answer = Some(reply.to_vec());
            }
            answer.is_some()
        });
        answer
    }

    /// The first datagram received within `grace` after sending `datagram`, without pings.
    pub(crate) fn ask_once(&self, datagram: &[u8], grace: Duration) -> Option<Vec<u8>> {
        let mut answer = None;
        self.send(datagram);
        self.receive_until(Instant::now() + grace, |reply| {
            answer = Some(reply.to_vec());
            true
        });
        answer
    }

    /// Sends all requests, many at a time. Returns the replies by tag.
    pub(crate) fn exchange(&self, requests: &[(Tag, Vec<u8>)]) -> HashMap<Tag, Vec<u8>> {
        let mut replies = HashMap::new();
        let mut collect = |reply: Vec<u8>| {
            if let Some(tag) = tag_of(&reply) {
                assert!(
                    replies.insert(tag, reply).is_none(),
                    "request {tag} was answered twice"
                );
            } else {
                panic!("an unsolicited reply: {}", reply.escape_ascii());
            }
        };
        for window in requests.chunks(WINDOW) {
            for (_, datagram) in window {
                self.send(datagram);
            }
            self.ping_collecting(&mut collect);
        }
        for _ in 0..PINGS_AFTER {
            self.ping_collecting(&mut collect);
        }
        replies
    }

    /// Sends a ping, and passes everything that arrives before its reply to `collect`.
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

    /// Sends a datagram. A refused port is reported by the next call on the socket, and means no
    /// answer.
    fn send(&self, datagram: &[u8]) {
        match self.socket.send(datagram) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => panic!("send: {error}"),
            _ => {}
        }
    }

    /// Receives until `done` is true of a reply (true), or until the deadline or a refused port
    /// (false).
    fn receive_until(&self, deadline: Instant, mut done: impl FnMut(&[u8]) -> bool) -> bool {
        let mut buffer = vec![0; 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket
                .set_read_timeout(Some(left))
                .expect("the timeout is not zero");
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

/// The value of the reply's last key, whose name no message contains unescaped.
fn salt_of(reply: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = br#"","salt":""#;
    let at = reply
        .windows(NAME.len())
        .rposition(|window| window == NAME)?;
    Some(&reply[at + NAME.len()..])
}

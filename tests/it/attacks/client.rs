//! The legitimate client: queries at a fixed rate, and what became of them.

use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::KEY;
use crate::common::{now, request_datagram};

/// Time to wait for replies after the last query. A query that is not answered by then is lost.
const LAST_REPLIES: Duration = Duration::from_secs(4);

/// The latencies of answered queries, and the number of all.
#[derive(Clone, Default)]
pub(super) struct Traffic {
    pub(super) sent: usize,
    pub(super) latencies: Vec<Duration>,
    /// Replies that arrived after the reply to a later request of the same socket.
    pub(super) reordered: usize,
}

impl Traffic {
    pub(super) fn lost(&self) -> usize {
        self.sent - self.latencies.len()
    }

    /// The latency that `percent` % of the answered queries do not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(Duration::MAX)
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.sent += other.sent;
        self.latencies.extend(other.latencies);
        self.reordered += other.reordered;
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latencies.is_empty() {
            return write!(f, "all {} lost", self.sent);
        }
        write!(
            f,
            "{} of {} lost, {} reordered, median {:.3} ms, p99 {:.3} ms",
            self.lost(),
            self.sent,
            self.reordered,
            self.percentile(50).as_secs_f64() * 1e3,
            self.percentile(99).as_secs_f64() * 1e3,
        )
    }
}

/// A signed request.
pub(super) fn request(kind: u8, query: &Value, rsalt: &str) -> Vec<u8> {
    let message = json!({"protocol": 1, "type": kind, "query": query, "rsalt": rsalt});
    request_datagram(KEY, &now().to_string(), &message.to_string())
}

/// A signed ping.
pub(super) fn ping(rsalt: &str) -> Vec<u8> {
    request(0, &Value::Null, rsalt)
}

/// Whether a reply has the salt `rsalt`.
pub(super) fn is_reply_to(reply: &[u8], rsalt: &str) -> bool {
    salt_of(reply) == Some(rsalt)
}

/// The salt of a reply: its last key.
pub(super) fn salt_of(reply: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(reply).ok()?;
    let (_, salt) = text.rsplit_once("\"salt\":\"")?;
    salt.strip_suffix("\"}")
}

/// Sends pings to `server` at `rate` per second for `time`, and receives their replies.
pub(super) fn ping_at_rate(server: SocketAddr, rate: u32, time: Duration) -> Traffic {
    query_at_rate(server, rate, time, |_, rsalt| ping(rsalt))
}

/// Sends requests to `server` at `rate` per second for `time`, and receives their replies.
/// `request` makes a request from its number and `rsalt`.
pub(super) fn query_at_rate(
    server: SocketAddr,
    rate: u32,
    time: Duration,
    request: impl Fn(usize, &str) -> Vec<u8>,
) -> Traffic {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None);
    let socket = socket.expect("a socket");
    // Room for many large replies.
    socket.set_recv_buffer_size(4 << 20).expect("a number");
    socket.connect(&server.into()).expect("a route");
    let socket = UdpSocket::from(socket);
    let start = Instant::now();
    let (end, interval) = (start + time, time_per(rate));
    let mut sent: Vec<Instant> = Vec::new();
    let mut traffic = Traffic::default();
    let (mut newest, mut answered) = (0, HashSet::new());
    let mut buffer = vec![0; 65_536];
    loop {
        let now = Instant::now();
        let due = start + interval * u32::try_from(sent.len()).expect("few queries");
        if due < end && due <= now {
            let number = sent.len();
            sent.push(now);
            let request = request(number, &format!("q{number}"));
            socket.send(&request).expect("the daemon's host is up");
            continue;
        }
        let until = if due < end { due } else { end + LAST_REPLIES };
        if due >= end && (answered.len() == sent.len() || now >= until) {
            break;
        }
        let timeout = (until - now).max(Duration::from_micros(50));
        socket.set_read_timeout(Some(timeout)).expect("not zero");
        match socket.recv(&mut buffer) {
            Ok(len) => {
                let salt = salt_of(&buffer[..len]).and_then(|salt| salt.strip_prefix('q'));
                let number: usize = salt.and_then(|n| n.parse().ok()).expect("our salt");
                assert!(answered.insert(number), "two replies to one request");
                traffic.latencies.push(sent[number].elapsed());
                traffic.reordered += usize::from(number < newest);
                newest = newest.max(number);
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => panic!("receive: {e}"),
        }
    }
    traffic.sent = sent.len();
    traffic
}

/// Calls `send` with increasing numbers, `rate` times per second, until `end`.
pub(super) fn repeat_at_rate(rate: u32, end: Instant, mut send: impl FnMut(usize)) {
    let (start, interval) = (Instant::now(), time_per(rate));
    for number in 0.. {
        let due = start + interval * u32::try_from(number).expect("few datagrams");
        if due >= end {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        send(number);
    }
}

fn time_per(rate: u32) -> Duration {
    Duration::from_secs(1) / rate
}

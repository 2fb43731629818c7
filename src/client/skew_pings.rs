//! Sends and receives the pings that [`super::skew`] plans, to all candidates at the same time.
//!
//! There is one connected socket per address: the kernel drops datagrams from elsewhere, and
//! reports at once if nothing listens. Bursts are sent in slices, so that they fit the receive
//! buffer of a busy daemon.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::call::nonce;
use super::candidate::Candidate;
use super::skew::{Skew, SkewSearch};
use super::{question, reply, socket};
use crate::clock;
use crate::protocol::{Key, envelope};

/// The number of pings in a slice to one address, and the time between two slices.
const SLICE: usize = 8;
const SLICE_INTERVAL: Duration = Duration::from_millis(5);
/// The time to wait for answers to a burst: this many round trips, within these bounds. Later
/// answers still count.
const WINDOW_ROUND_TRIPS: u32 = 6;
const WINDOW_MIN: Duration = Duration::from_millis(20);
const WINDOW_MAX: Duration = Duration::from_millis(250);
/// The number of errors after which an address counts as unreachable.
const UNREACHABLE_FINAL: usize = 2;
/// More than the length of a ping's reply, in bytes.
const REPLY_BYTES: usize = 2048;
/// Datagrams received from one address before the next address is looked at.
const RECEIVE_MAX: usize = 1024;

/// An address of a candidate.
struct Address {
    socket: UdpSocket,
    refused: usize,
}

/// A candidate and the search for its clock.
struct Clock {
    addresses: Vec<Address>,
    search: SkewSearch,
    /// The offsets of the current burst that are not sent yet, in reverse order.
    burst: Vec<i64>,
}

impl Clock {
    fn new(candidate: &Candidate) -> Self {
        // An address without a socket is one that does not answer.
        let addresses = candidate.addresses().iter().copied();
        let addresses = addresses.filter_map(|address| Address::connect(address).ok());
        Self {
            addresses: addresses.collect(),
            search: SkewSearch::default(),
            burst: Vec::new(),
        }
    }

    fn is_reachable(&self) -> bool {
        let refused = |address: &Address| address.refused >= UNREACHABLE_FINAL;
        !self.addresses.iter().all(refused)
    }

    fn is_settled(&self) -> bool {
        self.search.is_sharp() || !self.is_reachable()
    }
}

impl Address {
    fn connect(to: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = if to.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        Ok(Self { socket, refused: 0 })
    }

    fn send(&mut self, datagram: &[u8]) {
        if let Err(error) = self.socket.send(datagram) {
            self.failed(&error);
        }
    }

    /// Receives a datagram; `None` if none is there.
    fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        match self.socket.recv(buffer) {
            Ok(len) => Some(&buffer[..len]),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Counts an error if it means that nothing answers there.
    fn failed(&mut self, error: &io::Error) {
        self.refused += usize::from(matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
        ));
    }
}

/// The searches for the clocks of all candidates.
struct Clocks<'a> {
    key: &'a Key,
    nonce: String,
    clocks: Vec<Clock>,
    round_trip_max: Option<Duration>,
}

/// Estimates the skew of each candidate's clock; `None` for those that do not answer.
///
/// # Errors
///
/// The kernel has no random bytes; the errors of poll(2).
pub(super) fn estimate(key: &Key, candidates: &[Candidate]) -> io::Result<Vec<Option<Skew>>> {
    let mut all = Clocks {
        key,
        nonce: nonce()?,
        clocks: candidates.iter().map(Clock::new).collect(),
        round_trip_max: None,
    };
    while all.begin_burst() {
        all.run_burst()?;
    }
    Ok(all.clocks.iter().map(|clock| clock.search.skew()).collect())
}

impl Clocks<'_> {
    /// Plans the next burst. Returns whether there is anything to send.
    fn begin_burst(&mut self) -> bool {
        for clock in &mut self.clocks {
            if clock.is_reachable() {
                clock.burst = clock.search.next_burst();
                clock.burst.reverse();
            }
        }
        self.clocks.iter().any(|clock| !clock.burst.is_empty())
    }

    /// Sends the burst, slice by slice, and waits for the answers.
    fn run_burst(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let mut last_sent = started;
        loop {
            if self.send_slice() {
                last_sent = Instant::now();
                self.receive_until(last_sent + SLICE_INTERVAL, started)?;
                continue;
            }
            let ends = last_sent + self.window();
            if Instant::now() >= ends || self.is_settled() {
                return Ok(());
            }
            self.receive_until(ends, started)?;
        }
    }

    fn window(&self) -> Duration {
        self.round_trip_max.map_or(WINDOW_MAX, |round_trip| {
            (round_trip * WINDOW_ROUND_TRIPS).clamp(WINDOW_MIN, WINDOW_MAX)
        })
    }

    fn is_settled(&self) -> bool {
        self.clocks.iter().all(Clock::is_settled)
    }

    /// Sends a slice to each candidate. Returns whether there was anything to send.
    fn send_slice(&mut self) -> bool {
        let mut any = false;
        let now = clock::unix_seconds();
        for clock in &mut self.clocks {
            if clock.is_settled() {
                clock.burst.clear();
            }
            let rest = clock.burst.len().saturating_sub(SLICE);
            for offset in clock.burst.split_off(rest).into_iter().rev() {
                any = true;
                let datagram = ping(self.key, &self.nonce, now, offset);
                for address in &mut clock.addresses {
                    address.send(&datagram);
                }
            }
        }
        any
    }

    /// Receives until the time `until`, or until nothing more is needed.
    fn receive_until(&mut self, until: Instant, started: Instant) -> io::Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_settled() {
                return Ok(());
            }
            let addresses = self.clocks.iter().flat_map(|clock| &clock.addresses);
            socket::wait(addresses.map(|address| address.socket.as_fd()), until)?;
            self.receive(started);
        }
    }

    /// Receives what is there, at most [`RECEIVE_MAX`] datagrams from each address.
    fn receive(&mut self, started: Instant) {
        let mut buffer = [0; REPLY_BYTES];
        for clock in &mut self.clocks {
            for address in &mut clock.addresses {
                for _ in 0..RECEIVE_MAX {
                    let Some(datagram) = address.receive(&mut buffer) else {
                        break;
                    };
                    let Some(offset) = offset(self.key, &self.nonce, datagram) else {
                        continue;
                    };
                    clock.search.answered(offset);
                    self.round_trip_max = self.round_trip_max.max(Some(started.elapsed()));
                }
            }
        }
    }
}

/// A ping whose clock is `offset` seconds from `now`. Its `rsalt` is `NONCE.OFFSET`.
fn ping(key: &Key, nonce: &str, now: u64, offset: i64) -> Vec<u8> {
    let message = question::ping()
        .untyped()
        .message(&format!("{nonce}.{offset}"));
    envelope::request(key, now.saturating_add_signed(offset), &message)
}

/// The offset of the ping that a datagram answers.
fn offset(key: &Key, nonce: &str, datagram: &[u8]) -> Option<i64> {
    let signed = reply::open(key, datagram).ok()?;
    let offset = signed.rsalt.strip_prefix(nonce)?.strip_prefix('.')?;
    offset.parse().ok()
}

//! The sockets behind [`super::skew`]: pings with wrong clocks to all candidates at once.
//!
//! One connected socket per address: the kernel drops what others send, and says at once if nobody listens. Bursts are sent in
//! slices, so that they fit the receive buffer of a daemon that is busy.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::calls::nonce;
use super::question;
use super::skew::{Skew, SkewSearch};
use super::{Candidate, reply, socket};
use crate::clock;
use crate::protocol::{Key, envelope};

/// Pings to one address at once, and the time between two such slices.
const SLICE: usize = 8;
const SLICE_INTERVAL: Duration = Duration::from_millis(5);
/// How long answers to a burst are waited for: some round trips as seen, within these bounds. Later ones still count.
const WINDOW_MIN: Duration = Duration::from_millis(20);
const WINDOW_MAX: Duration = Duration::from_millis(250);
const WINDOW_ROUND_TRIPS: u32 = 6;
/// As often must an address be found unreachable to be believed so.
const UNREACHABLE_FINAL: usize = 2;
/// A ping's reply is much shorter.
const REPLY_BYTES: usize = 2048;

/// An address of a candidate.
struct Address {
    socket: UdpSocket,
    refused: usize,
}

/// A candidate under search.
struct Clock {
    addresses: Vec<Address>,
    search: SkewSearch,
    /// What is to be sent of the current burst.
    burst: Vec<i64>,
}

impl Clock {
    fn new(candidate: &Candidate) -> Self {
        // An address that no socket can be had for is one that does not answer.
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
}

/// All candidates under search.
struct Clocks<'a> {
    key: &'a Key,
    nonce: String,
    clocks: Vec<Clock>,
    round_trip_max: Option<Duration>,
}

/// Finds the skew of each candidate's clock; none for those that do not answer.
///
/// # Errors
///
/// The kernel gives no random bytes; as of poll(2).
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
    /// Lets every search say what it sends next; whether any does.
    fn begin_burst(&mut self) -> bool {
        for clock in &mut self.clocks {
            if clock.is_reachable() {
                clock.burst = clock.search.next_burst();
                // The nearest are sent first.
                clock.burst.reverse();
            }
        }
        self.clocks.iter().any(|clock| !clock.burst.is_empty())
    }

    /// Sends the burst, slice by slice, and waits for what comes of it.
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
        let settled = |clock: &Clock| clock.search.is_sharp() || !clock.is_reachable();
        self.clocks.iter().all(settled)
    }

    /// Sends a slice of what is left; whether there was anything.
    fn send_slice(&mut self) -> bool {
        let mut any = false;
        let now = clock::unix_seconds();
        for clock in &mut self.clocks {
            if clock.search.is_sharp() || !clock.is_reachable() {
                clock.burst.clear();
            }
            let rest = clock.burst.len().saturating_sub(SLICE);
            for offset in clock.burst.split_off(rest).into_iter().rev() {
                any = true;
                let rsalt = format!("{}.{offset}", self.nonce);
                let message = question::ping().raw().message(&rsalt);
                let salt = now.saturating_add_signed(offset);
                let datagram = envelope::request(self.key, salt, &message);
                for address in &mut clock.addresses {
                    if let Err(error) = address.socket.send(&datagram) {
                        address.refused += usize::from(is_refusal(&error));
                    }
                }
            }
        }
        any
    }

    /// Takes what comes until `until`, or until nothing more is needed.
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

    /// Takes what has come, as many datagrams as the kernel holds for each address.
    fn receive(&mut self, started: Instant) {
        let mut buffer = [0; REPLY_BYTES];
        for clock in &mut self.clocks {
            for address in &mut clock.addresses {
                // Bounded by the socket's buffer, as long as nobody floods; the next turn takes the rest.
                for _ in 0..1024 {
                    match address.socket.recv(&mut buffer) {
                        Ok(len) => {
                            if let Some(offset) = offset(self.key, &self.nonce, &buffer[..len]) {
                                clock.search.answered(offset);
                                let trip = started.elapsed();
                                self.round_trip_max = self.round_trip_max.max(Some(trip));
                            }
                        }
                        Err(error) => {
                            address.refused += usize::from(is_refusal(&error));
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// The offset of the ping that a datagram answers.
fn offset(key: &Key, nonce: &str, datagram: &[u8]) -> Option<i64> {
    let (rsalt, _) = reply::open(key, datagram).ok()?;
    let offset = rsalt.strip_prefix(nonce)?.strip_prefix('.')?;
    offset.parse().ok()
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
}

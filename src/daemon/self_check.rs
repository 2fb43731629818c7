//! Asks this daemon signed pings over its own sockets, as a client on this host would.
//!
//! Any rightly signed reply counts, also an error answer: the question is whether datagrams arrive,
//! are answered with the current key, and leave again. With several workers, the kernel chooses the
//! socket by the source port, and no port reaches a given worker for certain. So several ports ask,
//! and every one of them must get a reply. A worker that does not answer is missed with a
//! probability of `(1 - 1/n)^(8n)`, which is 0.03 % at most.
//!
//! The pings are ordinary requests: they are counted, and replay protection applies to them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::clock::unix_seconds;
use crate::protocol::envelope::{self, Envelope};
use crate::protocol::{FOURCC, Key, PADDING};
use crate::remedy::{Operation, errno_of, limit};
use crate::responder::Served;

/// Time after which an unanswered ping is sent again.
const RESEND: Duration = Duration::from_millis(100);

/// Source ports per worker, if there are several workers.
const PORTS_PER_WORKER: usize = 8;

/// Sockets that are open at the same time.
const SOCKETS_MAX: usize = 32;

/// Bytes that hold the reply to a ping. The reply to a ping is an error text of at most some
/// thousand bytes if no configuration is served.
const REPLY_BYTES: usize = 16 * 1024;

/// The daemon did not answer its own pings.
#[derive(Debug)]
pub(super) struct Unanswered {
    address: SocketAddr,
    limit: Duration,
    /// The error of the last system call that failed, if one did.
    error: Option<io::Error>,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |error| limit(Operation::Other, errno_of(error));
        if let Some(error) = &self.error
            && let Some(remedy) = limit(error)
        {
            let address = self.address;
            return write!(
                f,
                "cannot send a ping to itself, at {address}/udp: {error}; {remedy}"
            );
        }
        write!(
            f,
            "no answer to a ping that the daemon sent to itself, at {}/udp, within {} s",
            self.address,
            self.limit.as_secs_f32()
        )?;
        if let Some(error) = &self.error {
            write!(f, " ({error})")?;
        }
        f.write_str(
            "; make sure that no firewall rule (nft list ruleset) drops datagrams from this host \
             to itself",
        )
    }
}

impl std::error::Error for Unanswered {}

/// Asks the `workers` workers that serve `address`, and waits until every ping is answered.
///
/// Pings are signed with the key in `served` at that time. Takes at most `limit`. Can be cancelled
/// at any time.
///
/// # Errors
///
/// A ping was not answered in time.
pub(super) async fn ask(
    address: SocketAddr,
    workers: usize,
    served: &ArcSwap<Served>,
    limit: Duration,
) -> Result<(), Unanswered> {
    let deadline = Instant::now() + limit;
    let address = reachable(address);
    let mut left = match workers {
        0 | 1 => 1,
        several => several * PORTS_PER_WORKER,
    };
    while left > 0 {
        let count = left.min(SOCKETS_MAX);
        ask_from_ports(count, address, served, deadline)
            .await
            .map_err(|error| Unanswered {
                address,
                limit,
                error,
            })?;
        left -= count;
    }
    Ok(())
}

/// Asks from `count` new ports at once. The error is that of the last failed system call.
async fn ask_from_ports(
    count: usize,
    address: SocketAddr,
    served: &ArcSwap<Served>,
    deadline: Instant,
) -> Result<(), Option<io::Error>> {
    let mut pings = Vec::new();
    for _ in 0..count {
        let mut ping = Ping::new(address).await.map_err(Some)?;
        ping.send(served, deadline).await;
        pings.push(ping);
    }
    for mut ping in pings {
        ping.answered(served, deadline).await?;
    }
    Ok(())
}

/// The address that reaches a socket bound to `bound` from this host.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let mut address = bound;
    match bound.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// One port that asks.
struct Ping {
    socket: UdpSocket,
    /// Binds the reply to this ping.
    rsalt: String,
    /// The key that signed the last transmission.
    key: Arc<Key>,
    error: Option<io::Error>,
}

impl Ping {
    async fn new(address: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(address).await?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        Ok(Self {
            socket,
            rsalt: format!("{:032x}", u128::from_ne_bytes(nonce)),
            key: Arc::new(Key::new(b"none yet").expect("not empty")),
            error: None,
        })
    }

    /// Sends the ping, at most until `until`. An error is kept for the end.
    async fn send(&mut self, served: &ArcSwap<Served>, until: Instant) {
        self.key = Arc::clone(&served.load().key);
        let message = format!(
            r#"{{"protocol":1,"type":0,"query":null,"rsalt":"{}"}}"#,
            self.rsalt
        );
        let request = envelope::request(&self.key, unix_seconds(), &message);
        // `try_send` would fail: tokio does not know yet that a new socket is writable.
        if let Ok(Err(error)) = timeout_at(until, self.socket.send(&request)).await {
            self.error = Some(error);
        }
    }

    /// Waits for the reply, and sends the ping again from time to time.
    async fn answered(
        &mut self,
        served: &ArcSwap<Served>,
        deadline: Instant,
    ) -> Result<(), Option<io::Error>> {
        let mut buffer = vec![0; REPLY_BYTES + PADDING];
        loop {
            let until = deadline.min(Instant::now() + RESEND);
            loop {
                let received = self.socket.recv(&mut buffer[..REPLY_BYTES]);
                match timeout_at(until, received).await {
                    Ok(Ok(len)) if self.is_reply(&mut buffer, len) => return Ok(()),
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        // For example a port that nobody serves. Errors come at once.
                        self.error = Some(error);
                        sleep_until(until).await;
                        break;
                    }
                    Err(_elapsed) => break,
                }
            }
            if until == deadline {
                return Err(self.error.take());
            }
            self.send(served, deadline).await;
        }
    }

    /// Whether the first `len` bytes of `buffer` are a signed reply to this ping.
    fn is_reply(&self, buffer: &mut [u8], len: usize) -> bool {
        let Some(text_len) = len.checked_sub(FOURCC.len()) else {
            return false;
        };
        let (fourcc, text) = buffer.split_at_mut(FOURCC.len());
        let mut message = vec![0; text_len + PADDING];
        let envelope = Envelope::parse(text, text_len, &mut message);
        *fourcc == FOURCC
            && envelope.is_ok_and(|envelope| {
                envelope.salt == self.rsalt.as_bytes() && envelope.verify(&self.key).is_ok()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{self, EngineKind, Workers};
    use crate::responder::{ReplayTable, Responder};
    use crate::snapshot::Snapshot;

    fn served() -> Arc<ArcSwap<Served>> {
        Arc::new(ArcSwap::from_pointee(Served {
            key: Arc::new(Key::new(b"a key").expect("not empty")),
            snapshot: Arc::new(Snapshot::unavailable("no configuration")),
        }))
    }

    fn start(bind: IpAddr, workers: usize, served: &Arc<ArcSwap<Served>>) -> Workers {
        let sockets = engine::bind((bind, 0).into(), workers).expect("a free port");
        let replays = Arc::new(ReplayTable::default());
        let responder = || Responder::new().with_replay_protection(Arc::clone(&replays));
        engine::start(sockets, Some(EngineKind::Mmsg), served, responder).expect("workers")
    }

    fn run(
        address: SocketAddr,
        workers: usize,
        served: &ArcSwap<Served>,
        limit: Duration,
    ) -> Result<(), String> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(ask(address, workers, served, limit))
            .map_err(|error| error.to_string())
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn workers_answer_on_every_kind_of_address_although_no_configuration_is_served() {
        for bind in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            for count in [1, 5] {
                let served = served();
                let workers = start(bind.parse().expect("an address"), count, &served);
                let result = run(workers.local_addr(), count, &served, LONG);
                assert_eq!(result, Ok(()), "{bind}, {count} workers");
            }
        }
    }

    #[test]
    fn the_first_transmission_is_sent() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        server.set_read_timeout(Some(LONG)).expect("a timeout");
        let address = server.local_addr().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut ping = Ping::new(address).await.expect("a ping");
            ping.send(&served(), Instant::now() + LONG).await;
            assert!(ping.error.is_none());
        });
        assert!(server.recv(&mut [0; 1024]).expect("a datagram") > 100);
    }

    #[test]
    fn a_socket_that_nobody_reads_is_an_error_that_names_the_address() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address");
        let result = run(address, 1, &served(), Duration::from_millis(250));
        let error = result.expect_err("nobody answers");
        assert!(
            error.contains(&format!("{address}/udp, within 0.25 s")),
            "{error}"
        );
    }

    #[test]
    fn a_reply_signed_with_another_key_does_not_count() {
        let (own, other) = (served(), served());
        let workers = start("127.0.0.1".parse().expect("an address"), 1, &other);
        let served = Served {
            key: Arc::new(Key::new(b"another").expect("not empty")),
            snapshot: Arc::clone(&own.load().snapshot),
        };
        own.store(Arc::new(served));
        let result = run(workers.local_addr(), 1, &own, Duration::from_millis(250));
        assert!(result.is_err());
    }
}

//! The counters of a worker.
//!
//! Every [`Counters`] has one writer, the worker, and any number of readers. All accesses are
//! relaxed. So numbers that belong together may be seen one datagram apart, and the address of a
//! last peer may be seen with the port of another: the numbers are for logs and metrics.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::peer::Peer;
use crate::protocol::Reject;
use crate::protocol::request::RequestType;
use crate::responder::ReplyInfo;

const REJECTS: usize = Reject::ALL.len();

/// Upper limits of the size classes of batches, in datagrams. One class more has larger batches.
pub const BATCH_SIZES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const BATCH_CLASSES: usize = BATCH_SIZES.len() + 1;

/// Upper limits of the classes of service times. One class more has longer times.
pub const SERVICE_TIMES: [Duration; 8] = [
    Duration::from_micros(3),
    Duration::from_micros(10),
    Duration::from_micros(30),
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
];
const SERVICE_CLASSES: usize = SERVICE_TIMES.len() + 1;

/// The service time of one batch in this many is measured: reading the clock twice for each would
/// be noticeable when a batch is one datagram.
const SERVICE_SAMPLE: u64 = 16;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The counters of one worker, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(pub(super) $name: Counter,)*
            rejects: [Counter; REJECTS],
            requests: [Counter; RequestType::COUNT],
            too_large: [Counter; RequestType::COUNT],
            batch_sizes: [Counter; BATCH_CLASSES],
            service_times: [Counter; SERVICE_CLASSES],
            service_ns: Counter,
            last_rejected: [LastPeer; REJECTS],
        }

        /// The values of one worker's counters, or the sums of several workers'.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[doc = $doc])* pub $name: u64,)*
            /// Datagrams that got no reply, indexed by [`Reject`].
            pub rejects: [u64; REJECTS],
            /// Requests that were answered, also with an error, by request type.
            pub requests: [u64; RequestType::COUNT],
            /// Batches by their size: one for each of [`BATCH_SIZES`], then those that are larger.
            pub batch_sizes: [u64; BATCH_CLASSES],
            /// Measured batches by the time to answer them: one for each of [`SERVICE_TIMES`], then
            /// those that took longer.
            pub service_times: [u64; SERVICE_CLASSES],
            /// Sum of the measured times, in nanoseconds.
            pub service_ns: u64,
            /// Answers too large for a datagram, replaced by an error, by request type.
            pub too_large: [u64; RequestType::COUNT],
        }

        impl Counters {
            /// The current values.
            pub fn snapshot(&self) -> Totals {
                Totals {
                    $($name: self.$name.value(),)*
                    rejects: std::array::from_fn(|i| self.rejects[i].value()),
                    requests: std::array::from_fn(|i| self.requests[i].value()),
                    batch_sizes: std::array::from_fn(|i| self.batch_sizes[i].value()),
                    service_times: std::array::from_fn(|i| self.service_times[i].value()),
                    service_ns: self.service_ns.value(),
                    too_large: std::array::from_fn(|i| self.too_large[i].value()),
                }
            }
        }

        impl std::ops::AddAssign for Totals {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
                add_each(&mut self.rejects, other.rejects);
                add_each(&mut self.requests, other.requests);
                add_each(&mut self.batch_sizes, other.batch_sizes);
                add_each(&mut self.service_times, other.service_times);
                self.service_ns += other.service_ns;
                add_each(&mut self.too_large, other.too_large);
            }
        }

        impl Totals {
            /// The counters that are single numbers, with their names.
            pub fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            /// What each of [`Totals::numbers`] counts.
            pub fn descriptions() -> impl Iterator<Item = &'static str> {
                [$(concat!($($doc),*).trim_ascii(),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Datagrams received, answered or not.
    received,
    /// Bytes of the datagrams received.
    received_bytes,
    /// Replies that were written, answers and errors.
    written,
    /// Bytes of the replies written.
    written_bytes,
    /// Replies written that are errors.
    errors,
    /// Replies that the kernel accepted.
    replied,
    /// Replies that the kernel refused: no route, a firewall.
    send_errors,
    /// Replies dropped because the send buffer had no room for them for a second, or because too
    /// many large ones waited for room, in all or for one peer.
    send_timeouts,
    /// Copies of datagrams to a broadcast or multicast address. The kernel delivers one to each
    /// worker; only the first worker answers. Not counted as received.
    group_copies,
    /// Datagrams longer than any request, truncated by the kernel.
    truncated,
    /// Datagrams with no address to reply to (source port 0) or a malformed header.
    malformed,
    /// Errors in place of a datagram, for example a returned ICMP error.
    receive_errors,
    /// Times that a burst used all buffers of the ring. Further datagrams wait in the socket's
    /// receive buffer.
    no_buffers,
    /// Times that the multishot receive was armed. Empty datagrams and a lack of buffers end it.
    rearmed,
    /// Datagrams lost because the socket's receive buffer was full (as the kernel last reported
    /// with a datagram, modulo 2^32).
    overruns,
    /// Batches of datagrams answered.
    batches,
    /// Sends that carried more than one reply (`UDP_SEGMENT`).
    gso_sends,
    /// Such sends that the kernel refused. Their replies were sent one by one.
    gso_refused,
    /// Times that the control plane woke a worker.
    wakes,
}

impl Totals {
    /// Datagrams that got no reply for this reason.
    pub fn rejected(&self, reason: Reject) -> u64 {
        self.rejects[reason as usize]
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        let mut sum = Self::default();
        for totals in iter {
            sum += totals;
        }
        sum
    }
}

impl Counters {
    /// The sender of the last datagram that was rejected for this reason.
    pub fn last_rejected(&self, reason: Reject) -> Option<SocketAddr> {
        self.last_rejected[reason as usize].load()
    }

    pub(super) fn reject(&self, reason: Reject, peer: &Peer) {
        self.rejects[reason as usize].add(1);
        self.last_rejected[reason as usize].store(peer.socket_addr());
    }

    /// Records the drop counter that the kernel reported with a datagram. A smaller one, modulo
    /// 2^32, is older: the datagram waited until others were answered.
    pub(super) fn note_overruns(&self, overruns: u32) {
        let known = self.overruns.value() as u32;
        if overruns.wrapping_sub(known) < 1 << 31 {
            self.overruns.set(u64::from(overruns));
        }
    }

    /// Counts a datagram of `bytes` bytes.
    pub(super) fn receive(&self, bytes: usize) {
        self.received.add(1);
        self.received_bytes.add(bytes as u64);
    }

    /// Counts a reply.
    pub(super) fn write(&self, reply: &ReplyInfo) {
        self.written.add(1);
        self.written_bytes.add(reply.len as u64);
        self.errors.add(u64::from(reply.is_error));
        let kind = usize::from(reply.kind);
        if let Some(counter) = self.requests.get(kind) {
            counter.add(1);
        }
        if reply.too_large
            && let Some(counter) = self.too_large.get(kind)
        {
            counter.add(1);
        }
    }

    /// Counts a batch of `datagrams` datagrams.
    pub(super) fn batch(&self, datagrams: u64) {
        self.batches.add(1);
        let class = BATCH_SIZES
            .iter()
            .position(|size| datagrams <= *size as u64);
        self.batch_sizes[class.unwrap_or(BATCH_CLASSES - 1)].add(1);
    }

    /// Whether to measure the service time of the next batch.
    pub(super) fn measures_next_batch(&self) -> bool {
        self.batches.value().is_multiple_of(SERVICE_SAMPLE)
    }

    /// Counts a batch that took this long to answer.
    pub(super) fn service_time(&self, time: Duration) {
        self.service_ns.add(time.as_nanos() as u64);
        let class = SERVICE_TIMES.iter().position(|limit| time <= *limit);
        self.service_times[class.unwrap_or(SERVICE_CLASSES - 1)].add(1);
    }

    /// How many datagrams have been received.
    pub(super) fn received(&self) -> u64 {
        self.received.value()
    }
}

fn add_each<const N: usize>(sums: &mut [u64; N], others: [u64; N]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
}

/// A counter with one writer, which needs no locked instruction.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(super) fn subtract(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A socket address in three words: an IPv6 or IPv4-mapped address, and the port; port 0 means none
/// yet.
#[derive(Debug, Default)]
struct LastPeer {
    address: [AtomicU64; 2],
    port: AtomicU64,
}

impl LastPeer {
    fn store(&self, peer: SocketAddr) {
        let address = match peer.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let bits = address.to_bits();
        self.address[0].store((bits >> 64) as u64, Relaxed);
        self.address[1].store(bits as u64, Relaxed);
        self.port.store(u64::from(peer.port()), Relaxed);
    }

    fn load(&self) -> Option<SocketAddr> {
        let port = self.port.load(Relaxed) as u16;
        let high = u128::from(self.address[0].load(Relaxed));
        let low = u128::from(self.address[1].load(Relaxed));
        let address = Ipv6Addr::from_bits(high << 64 | low);
        (port != 0).then(|| SocketAddr::new(address.to_canonical(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_are_counted_with_their_last_peer() {
        let counters = Counters::default();
        assert_eq!(counters.last_rejected(Reject::BadHmac), None);
        for text in ["127.0.0.1:5", "[2001:db8::7]:65535"] {
            let peer = text.parse().unwrap();
            counters.reject(Reject::BadHmac, &Peer::from_socket_addr(peer));
            assert_eq!(counters.last_rejected(Reject::BadHmac), Some(peer));
        }
        assert_eq!(counters.snapshot().rejected(Reject::BadHmac), 2);
        assert_eq!(counters.snapshot().rejected(Reject::BadRequest), 0);
    }

    #[test]
    fn totals_add_up() {
        let counters = Counters::default();
        counters.received.add(3);
        for kind in [11, 200] {
            counters.write(&ReplyInfo {
                len: 9,
                kind,
                is_error: true,
                too_large: true,
            });
        }
        let sum: Totals = [counters.snapshot(), counters.snapshot()].into_iter().sum();
        assert_eq!(
            (sum.received, sum.requests[11], sum.too_large[11]),
            (6, 2, 2)
        );
        assert_eq!((sum.written, sum.written_bytes, sum.errors), (4, 36, 4));
        assert!(sum.numbers().any(|number| number == ("written_bytes", 36)));
    }

    #[test]
    fn service_times_are_classified_and_summed() {
        let counters = Counters::default();
        assert!(counters.measures_next_batch());
        for micros in [0, 3, 4, 10_000, 10_001] {
            counters.service_time(Duration::from_micros(micros));
            counters.batch(1);
            assert!(!counters.measures_next_batch());
        }
        let totals = counters.snapshot();
        assert_eq!(totals.service_times, [2, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(totals.service_ns, 20_008_000);
    }

    #[test]
    fn the_drop_counter_never_goes_back_but_wraps() {
        let counters = Counters::default();
        for (reported, known) in [(5, 5), (3, 5), (6, 6), (1 << 30, 1 << 30)] {
            counters.note_overruns(reported);
            assert_eq!(counters.snapshot().overruns, known);
        }
        for reported in [5 << 29, u32::MAX, 2] {
            counters.note_overruns(reported);
            assert_eq!(counters.snapshot().overruns, u64::from(reported));
        }
    }

    #[test]
    fn batches_are_classified_by_size() {
        let counters = Counters::default();
        for datagrams in [0, 1, 2, 3, 4, 256, 257, 1_000] {
            counters.batch(datagrams);
        }
        let totals = counters.snapshot();
        assert_eq!(totals.batches, 8);
        assert_eq!(totals.batch_sizes, [2, 1, 2, 0, 0, 0, 0, 0, 1, 2]);
    }
}

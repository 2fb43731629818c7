//! Remembers to which address each signature was answered, so that a captured request cannot be
//! replayed with the addresses of others.
//!
//! A signed request is valid for [`SKEW_SECONDS_MAX`] seconds before and after its clock, and a
//! reply is up to 400 times as large. Whoever captured one could otherwise have it answered to any
//! number of victims. Clients do not use one signature from several addresses: Ganeti's send one
//! datagram to several daemons, and retransmit it from the same address (perhaps from another port,
//! so ports are ignored).
//!
//! # The table
//!
//! A hash table of fixed size in buckets of [`WAYS`] entries, each one 64-bit word:
//!
//! ```text
//! | 38 bits of the tag | 16 bits of the address's hash | 10 bits of time in seconds |
//! ```
//!
//! Other bits of the tag select the bucket. The tag is an HMAC, so nobody without the key can
//! choose its bits. The hash is seeded at start, so nobody can find addresses that it does not
//! distinguish. A new entry replaces the oldest of its bucket. Nothing expires: a stale request is
//! rejected before the table is asked.
//!
//! # What remains possible
//!
//! * [`ENTRIES`] in the 600 seconds for which a request is valid are 218 queries a second. Above
//!   this rate entries are replaced while their request is valid. Each request can then be replayed
//!   to another address once for each time that its entry is replaced: at 10,000 queries a second,
//!   once in 13 seconds.
//! * A request can be replayed once to a daemon that never received it: another master candidate,
//!   or one that was restarted.
//! * A request can be replayed with its own client's address any number of times.
//! * One address in 65,536 is taken for the one that was answered.
//! * A request is taken for a replay by mistake if its bucket has an entry with the same 38 bits,
//!   once in 3 * 10^10 queries.
//!
//! # Concurrency
//!
//! All workers share the table without locks. Every access is a single relaxed atomic operation on
//! one word, so an entry is never half written. Of two workers that receive a new tag at the same
//! time from two addresses, exactly one answers:
//!
//! If both added it, they chose different slots X and Y, for an entry that another worker changed
//! makes [`AtomicU64::compare_exchange`] fail. The worker that chose X read Y before the other
//! replaced it, so it read the value replaced, or an earlier one. Slots are only replaced by newer
//! entries: X was at least as old as Y. By the same argument Y was at least as old as X. Of two
//! slots of one age the first is chosen: X and Y are the same, which contradicts the assumption.
//! (If the clock is set back at that moment, both may answer.)

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::quality::{FixedState, RandomState};

use crate::protocol::SKEW_SECONDS_MAX;

/// Entries in a bucket: it fills a cache line.
const WAYS: usize = 8;

/// Buckets: a power of two. The table takes 1 MB.
const BUCKETS: usize = 1 << 14;

/// Signatures that are remembered.
pub const ENTRIES: usize = BUCKETS * WAYS;

/// The bits of an entry, from the lowest.
const TIME_BITS: u32 = 10;
const ADDRESS_BITS: u32 = 16;
const TAG_SHIFT: u32 = TIME_BITS + ADDRESS_BITS;

/// Ages are computed modulo this many seconds.
const AGES: u64 = 1 << TIME_BITS;

// Entries of valid requests are ordered by age.
const _: () = assert!(2 * SKEW_SECONDS_MAX < AGES);

/// Attempts to add an entry. Each failure is another worker's success in the same bucket.
const ATTEMPTS_MAX: usize = 64;

/// A bounded table of recently answered signatures, shared by all workers.
pub struct ReplayTable {
    buckets: Box<[Bucket]>,
    hasher: FixedState,
}

/// Entries with the same bits of the tag. Zero is free.
#[derive(Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

impl std::fmt::Debug for ReplayTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplayTable")
    }
}

impl Default for ReplayTable {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplayTable {
    /// Allocates an empty table.
    pub fn new() -> Self {
        Self::with_seed(RandomState::default().hash_one(()))
    }

    /// As [`ReplayTable::new`], with a known seed for the hash of addresses, for repeatable tests.
    pub fn with_seed(seed: u64) -> Self {
        Self {
            buckets: std::iter::repeat_with(Bucket::default)
                .take(BUCKETS)
                .collect(),
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Returns whether a request signed with `tag` may be answered to `peer`: whether the tag is
    /// new, or was first seen from the same address. Remembers a new one.
    ///
    /// `now` is in seconds since the epoch. The request must be valid at that time.
    pub fn admit(&self, tag: &[u8; 20], peer: IpAddr, now: u64) -> bool {
        let Bucket(slots) = self.bucket(tag);
        let low = tag[8..].first_chunk().expect("a tag has 20 bytes");
        let low = u64::from_ne_bytes(*low);
        let time = now % AGES;
        let entry = low << TAG_SHIFT | self.address(peer) << TIME_BITS | time;
        for _ in 0..ATTEMPTS_MAX {
            let mut oldest = (0, 0, &slots[0]);
            for slot in slots {
                let value = slot.load(Relaxed);
                if value >> TAG_SHIFT == entry >> TAG_SHIFT && value != 0 {
                    return (value ^ entry) >> TIME_BITS == 0;
                }
                let age = match value {
                    0 => AGES + 1,
                    _ => 1 + time.wrapping_sub(value) % AGES,
                };
                if age > oldest.0 {
                    oldest = (age, value, slot);
                }
            }
            let (_, value, slot) = oldest;
            if slot
                .compare_exchange(value, entry, Relaxed, Relaxed)
                .is_ok()
            {
                return true;
            }
        }
        false
    }

    /// Loads the entries for `tag` into the cache, without waiting for them.
    ///
    /// The tag need not be authentic: verifying it takes longer than this load.
    pub fn prefetch(&self, tag: &[u8; 20]) {
        let Bucket([first, ..]) = self.bucket(tag);
        // Relaxed, and nothing depends on the value.
        std::hint::black_box(first.load(Relaxed));
    }

    /// The bucket of `tag`.
    fn bucket(&self, tag: &[u8; 20]) -> &Bucket {
        let high = tag.first_chunk().expect("a tag has 20 bytes");
        &self.buckets[u64::from_ne_bytes(*high) as usize % BUCKETS]
    }

    /// The hash of an address, in [`ADDRESS_BITS`] bits.
    fn address(&self, peer: IpAddr) -> u64 {
        let address = match peer {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        self.hasher.hash_one(address.to_bits()) >> (u64::BITS - ADDRESS_BITS)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Barrier;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn tag(random: &mut fastrand::Rng) -> [u8; 20] {
        std::array::from_fn(|_| random.u8(..))
    }

    /// A tag in bucket 0.
    fn tag_of_one_bucket(random: &mut fastrand::Rng) -> [u8; 20] {
        let mut tag = tag(random);
        tag[..8].fill(0);
        tag
    }

    /// Addresses that the table distinguishes.
    fn peers(table: &ReplayTable) -> [IpAddr; 4] {
        let mut peers = Vec::<IpAddr>::new();
        for bits in 0.. {
            let peer = match bits % 2 {
                0 => Ipv4Addr::from_bits(bits).into(),
                _ => Ipv6Addr::from_bits(bits.into()).into(),
            };
            if peers
                .iter()
                .all(|&other| table.address(other) != table.address(peer))
            {
                peers.push(peer);
            }
            if let Ok(peers) = peers.as_slice().try_into() {
                return peers;
            }
        }
        unreachable!("addresses have different hashes")
    }

    #[test]
    fn one_address_is_answered() {
        let table = ReplayTable::with_seed(1);
        let [client, others @ ..] = peers(&table);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1_000 {
            let tag = tag(&mut random);
            assert!(table.admit(&tag, client, NOW));
            for other in others {
                assert!(!table.admit(&tag, other, NOW + 1));
            }
            // A retransmission.
            assert!(table.admit(&tag, client, NOW + 600));
            assert!(!table.admit(&tag, others[0], NOW + 600));
        }
    }

    /// Addresses are hashed to 16 bits: of 1,000, few are taken for another.
    #[test]
    fn addresses_are_distinguished() {
        let table = ReplayTable::with_seed(1);
        let hashes: std::collections::BTreeSet<u64> = (0..1_000)
            .flat_map(|bits: u32| {
                let v6 = Ipv6Addr::from_bits(u128::from(bits) << 64 | 1);
                [
                    table.address(Ipv4Addr::from_bits(bits).into()),
                    table.address(v6.into()),
                ]
            })
            .collect();
        // Some 30 of 2,000 are expected to be alike.
        assert!(hashes.len() > 1_900, "{} different hashes", hashes.len());
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let table = ReplayTable::with_seed(1);
        let tag = [7; 20];
        assert!(table.admit(&tag, "192.0.2.1".parse().expect("an address"), NOW));
        assert!(table.admit(&tag, "::ffff:192.0.2.1".parse().expect("an address"), NOW));
    }

    #[test]
    fn the_oldest_entry_of_a_full_bucket_is_replaced() {
        let table = ReplayTable::with_seed(1);
        let mut random = fastrand::Rng::with_seed(2);
        let tags: Vec<_> = std::iter::repeat_with(|| tag_of_one_bucket(&mut random))
            .take(WAYS + 1)
            .collect();
        let [client, other, ..] = peers(&table);
        // The entries' time wraps between them.
        let time = |index: usize| NOW / AGES * AGES - 3 + index as u64;
        for (index, tag) in tags.iter().enumerate() {
            assert!(table.admit(tag, client, time(index)));
        }
        for tag in &tags[1..] {
            assert!(!table.admit(tag, other, time(WAYS)), "still remembered");
        }
        assert!(table.admit(&tags[0], other, time(WAYS)), "was replaced");
        assert!(table.admit(&tags[1], other, time(WAYS)), "was replaced");
    }

    /// At half of the documented rate, few entries are replaced while their request is valid.
    #[test]
    fn a_table_is_large_enough_for_its_rate() {
        let table = ReplayTable::with_seed(1);
        let mut random = fastrand::Rng::with_seed(3);
        let [client, other, ..] = peers(&table);
        let rate = ENTRIES as u64 / (2 * SKEW_SECONDS_MAX) / 2;
        let mut tags = Vec::new();
        for second in 0..2 * SKEW_SECONDS_MAX {
            for _ in 0..rate {
                let tag = tag(&mut random);
                assert!(table.admit(&tag, client, NOW + second));
                tags.push(tag);
            }
        }
        let replayed = |tag: &&[u8; 20]| table.admit(tag, other, NOW + 2 * SKEW_SECONDS_MAX);
        let count = tags.iter().filter(replayed).count();
        assert!(count * 10 < tags.len(), "{count} of {}", tags.len());
    }

    /// In each round, every thread receives one of two new tags, from an address of its own. Both
    /// tags are for the same full bucket.
    #[test]
    fn of_simultaneous_replays_one_is_answered() {
        const THREADS: usize = 4;
        const ROUNDS: usize = 5_000;
        let table = ReplayTable::with_seed(1);
        let peers = peers(&table);
        let barrier = Barrier::new(THREADS);
        let answered: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (table, barrier) = (&table, &barrier);
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(4);
                        let mut round = |round: usize| {
                            let tags = [(); 2].map(|()| tag_of_one_bucket(&mut random));
                            barrier.wait();
                            let now = NOW + round as u64;
                            table.admit(&tags[thread % 2], peers[thread], now)
                        };
                        (0..ROUNDS).map(&mut round).collect()
                    })
                })
                .collect();
            let results = threads.into_iter().map(|thread| thread.join());
            results.map(|result| result.expect("no panic")).collect()
        });
        for round in 0..ROUNDS {
            let answered = |thread: usize| usize::from(answered[thread][round]);
            assert_eq!(answered(0) + answered(2), 1, "round {round}");
            assert_eq!(answered(1) + answered(3), 1, "round {round}");
        }
    }
}

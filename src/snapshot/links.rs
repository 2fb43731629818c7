//! Addresses of instances on links, and the nodes behind them.
//!
//! Source: `Ganeti.Config` (`buildLinkIpInstnameMap`, `getInstPrimaryNode`), `Ganeti.Confd.Server` (`nodePipByInstPip`, `instIpsList`).

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::text::{self, Span};

/// One address of one NIC. Link and address are canonical, without quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) link: Span,
    pub(super) ip: Span,
    /// The index of the primary node of the instance, if it has one.
    pub(super) node: Option<u32>,
}

#[derive(Debug)]
struct Link {
    name: Span,
    /// All its addresses, as a JSON list.
    ips: Box<[u8]>,
}

/// Link, then address, to node.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: HashTable<Link>,
    ips: HashTable<Registration>,
    hasher: RandomState,
}

impl Links {
    /// Indexes `registrations`, which come in map order of their instances: the last one of a link and address counts.
    pub(super) fn new(text: &[u8], mut registrations: Vec<Registration>) -> Self {
        let key =
            |registration: &Registration| (registration.link.of(text), registration.ip.of(text));
        registrations.sort_by(|left, right| {
            let ((left_link, left_ip), (right_link, right_ip)) = (key(left), key(right));
            left_link
                .cmp(right_link)
                .then_with(|| text::compare(left_ip, right_ip))
        });
        // The sort is stable: of equal ones, the last came last.
        registrations.reverse();
        registrations.dedup_by(|later, kept| key(later) == key(kept));
        registrations.reverse();

        let mut links = Self::default();
        for group in registrations.chunk_by(|left, right| left.link.of(text) == right.link.of(text))
        {
            let mut ips = b"[".to_vec();
            for registration in group {
                if ips.len() > 1 {
                    ips.push(b',');
                }
                let Span { start, end } = registration.ip;
                ips.extend_from_slice(
                    Span {
                        start: start - 1,
                        end: end + 1,
                    }
                    .of(text),
                );
            }
            ips.push(b']');
            let link = Link {
                name: group[0].link,
                ips: ips.into(),
            };
            let hash = |link: &Link| links.hasher.hash_one(link.name.of(text));
            links.links.insert_unique(hash(&link), link, hash);
        }
        let hash = |known: &Registration| links.hasher.hash_one(key(known));
        links.ips.reserve(registrations.len(), hash);
        for registration in registrations {
            links
                .ips
                .insert_unique(hash(&registration), registration, hash);
        }
        links
    }

    /// The addresses on `link`, as a JSON list.
    pub(super) fn ips(&self, text: &[u8], link: &[u8]) -> &[u8] {
        let found = self.links.find(self.hasher.hash_one(link), |known| {
            known.name.of(text) == link
        });
        found.map_or(b"[]", |link| &link.ips)
    }

    /// The index of the primary node of the instance with `ip` on `link`.
    pub(super) fn node(&self, text: &[u8], link: &[u8], ip: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one((link, ip));
        let same = |known: &Registration| known.ip.of(text) == ip && known.link.of(text) == link;
        self.ips.find(hash, same)?.node.map(|node| node as usize)
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        let lists: usize = self.links.iter().map(|link| link.ips.len()).sum();
        self.links.allocation_size() + self.ips.allocation_size() + lists
    }
}

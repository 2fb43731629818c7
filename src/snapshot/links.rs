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
    ips: Vec<u8>,
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
    pub(super) fn new(text: &[u8], registrations: Vec<Registration>) -> Self {
        let mut by_address: Vec<_> = registrations
            .into_iter()
            .map(|registration| (first_bytes(registration.ip.of(text)), registration))
            .collect();
        by_address.sort_by(|(left_bytes, left), (right_bytes, right)| {
            let whole = || text::compare(left.ip.of(text), right.ip.of(text));
            left_bytes.cmp(right_bytes).then_with(whole)
        });
        let mut links = Self::default();
        for (_, registration) in by_address {
            links.insert(text, registration);
        }
        for link in links.links.iter_mut() {
            link.ips.push(b']');
            link.ips.shrink_to_fit();
        }
        links
    }

    /// Adds an address that is not less than those before it.
    fn insert(&mut self, text: &[u8], registration: Registration) {
        let Registration { link, ip, .. } = registration;
        let (link, ip) = (link.of(text), ip.of(text));
        let hash = |known: &Registration| {
            self.hasher
                .hash_one((known.link.of(text), known.ip.of(text)))
        };
        let same = |known: &Registration| known.ip.of(text) == ip && known.link.of(text) == link;
        if let Some(known) = self.ips.find_mut(hash(&registration), same) {
            // The sort is stable: this one came later.
            *known = registration;
            return;
        }
        self.ips
            .insert_unique(hash(&registration), registration, hash);

        let hash = |known: &Link| self.hasher.hash_one(known.name.of(text));
        let same = |known: &Link| known.name.of(text) == link;
        let entry = self.links.entry(self.hasher.hash_one(link), same, hash);
        let list = &mut entry
            .or_insert_with(|| Link {
                name: registration.link,
                ips: Vec::new(),
            })
            .into_mut()
            .ips;
        list.push(if list.is_empty() { b'[' } else { b',' });
        list.extend_from_slice(registration.ip.quoted().of(text));
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

/// The first bytes of an address: they decide most comparisons without a look at the text.
fn first_bytes(ip: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    for (byte, first) in bytes.iter_mut().zip(text::unescape(ip)) {
        *byte = first;
    }
    u128::from_be_bytes(bytes)
}

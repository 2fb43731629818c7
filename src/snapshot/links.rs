//! Addresses of instances by link, with the primary node of each instance.
//!
//! Source: `Ganeti.Config` (`buildLinkIpInstnameMap`, `getInstPrimaryNode`), `Ganeti.Confd.Server`
//! (`nodePipByInstPip`, `instIpsList`).

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::directory::Directory;
use super::objects::{ByText, InstanceFields};
use crate::config::Document;
use crate::text::{self, Span};

/// One address of one NIC. Link and address are canonical, without quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub(super) link: Span,
    pub(super) ip: Span,
    /// The index of the primary node of the instance, if it has one.
    pub(super) node: Option<u32>,
}

/// One link.
#[derive(Debug)]
struct Link {
    name: Span,
    /// All its addresses, as a JSON list.
    ips: Vec<u8>,
}

/// Finds nodes by link and address, and addresses by link.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: HashTable<Link>,
    ips: HashTable<Registration>,
    hasher: RandomState,
}

impl Links {
    /// Indexes `registrations`, which are in map order of their instances. If a link and address
    /// occur more than once, the last one counts.
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

    /// Adds an address. They come in ascending order.
    fn insert(&mut self, text: &[u8], registration: Registration) {
        let Registration { link, ip, .. } = registration;
        let (link, ip) = (link.of(text), ip.of(text));
        let hash = |known: &Registration| {
            self.hasher
                .hash_one((known.link.of(text), known.ip.of(text)))
        };
        let same = |known: &Registration| known.ip.of(text) == ip && known.link.of(text) == link;
        if let Some(known) = self.ips.find_mut(hash(&registration), same) {
            // The sort is stable, so that this one is later in map order.
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

/// The first 16 bytes of an address as a number. Comparing these decides most comparisons.
fn first_bytes(ip: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    for (byte, first) in bytes.iter_mut().zip(text::unescape(ip)) {
        *byte = first;
    }
    u128::from_be_bytes(bytes)
}

/// Every address of every NIC, in map order of the instances. `None` if there is an address but no
/// default link, which the reference looks up for every address, even for one with its own link.
pub(super) fn registrations(
    document: &Document,
    instances: &[InstanceFields],
    default_link: Option<Span>,
    nodes: &Directory,
) -> Option<Vec<Registration>> {
    let text = document.text();
    // The reference registers the instance's name, and later takes the first instance of that name.
    let mut first_named = ByText::default();
    for (index, instance) in instances.iter().enumerate() {
        if let Some(name) = instance.name {
            first_named.entry(name.of(text)).or_insert(index as u32);
        }
    }
    let node_of = |instance: &InstanceFields| {
        let registered = instance.name.unwrap_or(instance.uuid);
        let found = &instances[*first_named.get(registered.of(text))? as usize];
        nodes
            .find(text, found.primary_node?.of(text))
            .ok()
            .map(|node| node as u32)
    };
    let mut registrations = Vec::new();
    for instance in instances {
        let mut node = None;
        for nic in text::elements(text, instance.nics.start as usize) {
            let [ip, nicparams] = document.fields(Span::new(nic), ["ip", "nicparams"]);
            let Some(ip) = ip else { continue };
            let default_link = default_link?;
            let link =
                nicparams.and_then(|params| text::member(text, params.start as usize, b"link"));
            registrations.push(Registration {
                link: link.map_or(default_link, |link| Span::new(link).unquoted()),
                ip: ip.unquoted(),
                node: *node.get_or_insert_with(|| node_of(instance)),
            });
        }
    }
    Some(registrations)
}

//! Addresses of instances by link, with the primary node of each instance.
//!
//! Source: `Ganeti.Config` (`buildLinkIpInstnameMap`, `getInstPrimaryNode`), `Ganeti.Confd.Server`
//! (`nodePipByInstPip`, `instIpsList`).

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::directory::Directory;
use super::objects::{InstanceFields, Numbered};
use crate::config::Document;
use crate::json::{self, Span};

/// One address of one NIC.
#[derive(Clone, Copy, Debug)]
struct Registration {
    /// The number of the link.
    link: u32,
    /// Canonical, without quotes.
    ip: Span,
    /// The index of the primary node of the instance, if it has one.
    node: Option<u32>,
}

/// One link.
#[derive(Debug)]
struct Link {
    /// Canonical, without quotes.
    name: Span,
    /// All its addresses, as a JSON list.
    ips: Vec<u8>,
}

/// Finds nodes by link and address, and addresses by link.
#[derive(Debug)]
pub(super) struct Links {
    links: Box<[Link]>,
    /// Indexes of links, by name.
    by_name: HashTable<u32>,
    ips: HashTable<Registration>,
    hasher: RandomState,
}

impl Links {
    /// Indexes the addresses of all NICs. `None` if there is an address but no default link, which
    /// the reference looks up for every address, even for one with its own link.
    pub(super) fn new(
        document: &Document,
        instances: &[InstanceFields],
        default_link: Option<Span>,
        nodes: &Directory,
    ) -> Option<Self> {
        let text = document.text();
        let (links, registrations) = registrations(document, instances, default_link, nodes)?;
        let mut by_address: Vec<_> = registrations
            .into_iter()
            .map(|registration| (first_bytes(registration.ip.of(text)), registration))
            .collect();
        by_address.sort_by(|(left_bytes, left), (right_bytes, right)| {
            let whole = || json::compare(left.ip.of(text), right.ip.of(text));
            left_bytes.cmp(right_bytes).then_with(whole)
        });
        let mut indexed = Self {
            by_name: HashTable::with_capacity(links.len()),
            ips: HashTable::new(),
            hasher: RandomState::default(),
            links,
        };
        for (link, number) in indexed.links.iter().zip(0..) {
            let hash = |&known: &u32| {
                let name = indexed.links[known as usize].name;
                indexed.hasher.hash_one(name.of(text))
            };
            let name = indexed.hasher.hash_one(link.name.of(text));
            indexed.by_name.insert_unique(name, number, hash);
        }
        for (_, registration) in by_address {
            indexed.insert(text, registration);
        }
        for link in &mut indexed.links {
            link.ips.push(b']');
            link.ips.shrink_to_fit();
        }
        Some(indexed)
    }

    /// Adds an address. They come in ascending order, equal ones in map order of their instances.
    fn insert(&mut self, text: &[u8], registration: Registration) {
        let Registration { link, ip, .. } = registration;
        let hash = |known: &Registration| self.hasher.hash_one((known.link, known.ip.of(text)));
        let same = |known: &Registration| known.link == link && known.ip.of(text) == ip.of(text);
        if let Some(known) = self.ips.find_mut(hash(&registration), same) {
            // If a link and address occur more than once, the last one counts.
            *known = registration;
            return;
        }
        self.ips
            .insert_unique(hash(&registration), registration, hash);
        let list = &mut self.links[link as usize].ips;
        list.push(if list.is_empty() { b'[' } else { b',' });
        list.extend_from_slice(ip.quoted().of(text));
    }

    /// The number of the link `name` (canonical), if an instance has an address on it.
    pub(super) fn find(&self, text: &[u8], name: &[u8]) -> Option<u32> {
        let same = |&known: &u32| self.links[known as usize].name.of(text) == name;
        self.by_name.find(self.hasher.hash_one(name), same).copied()
    }

    /// The addresses on a link, as a JSON list.
    pub(super) fn ips(&self, link: u32) -> &[u8] {
        &self.links[link as usize].ips
    }

    /// The index of the primary node of the instance with `ip` (canonical) on a link.
    pub(super) fn node(&self, text: &[u8], link: u32, ip: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one((link, ip));
        let same = |known: &Registration| known.link == link && known.ip.of(text) == ip;
        self.ips.find(hash, same)?.node.map(|node| node as usize)
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        let lists: usize = self.links.iter().map(|link| link.ips.len()).sum();
        size_of_val::<[Link]>(&self.links)
            + self.by_name.allocation_size()
            + self.ips.allocation_size()
            + lists
    }
}

/// The first 16 bytes of an address as a number. Comparing these decides most comparisons.
fn first_bytes(ip: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    for (byte, first) in bytes.iter_mut().zip(json::unescape(ip)) {
        *byte = first;
    }
    u128::from_be_bytes(bytes)
}

/// Every address of every NIC, in map order of the instances, with all links that have one. `None`
/// if there is an address but no default link.
fn registrations(
    document: &Document,
    instances: &[InstanceFields],
    default_link: Option<Span>,
    nodes: &Directory,
) -> Option<(Box<[Link]>, Vec<Registration>)> {
    let text = document.text();
    let primary_nodes = primary_nodes(text, instances, nodes);
    let mut numbers = Numbered::default();
    let mut links = Vec::new();
    let mut number = |name: Span| {
        let number = numbers.insert(name.of(text));
        if number as usize == links.len() {
            links.push(Link {
                name,
                ips: Vec::new(),
            });
        }
        number
    };
    let mut default_number = None;
    let mut registrations = Vec::new();
    let mut has_no_default = false;
    for (instance, node) in instances.iter().zip(primary_nodes) {
        document.for_each_element(instance.nics, |nic| {
            let [ip, nicparams] = document.fields(nic, ["ip", "nicparams"]);
            let (Some(ip), Some(default_link)) = (ip, default_link) else {
                has_no_default |= ip.is_some();
                return;
            };
            let own = nicparams.and_then(|nicparams| document.fields(nicparams, ["link"])[0]);
            let link = match own {
                Some(link) => number(link.unquoted()),
                None => *default_number.get_or_insert_with(|| number(default_link)),
            };
            registrations.push(Registration {
                link,
                ip: ip.unquoted(),
                node,
            });
        });
    }
    (!has_no_default).then(|| (links.into(), registrations))
}

/// The primary node of each instance's addresses. The reference registers the instance's name, and
/// later takes the first instance of that name.
fn primary_nodes(text: &[u8], instances: &[InstanceFields], nodes: &Directory) -> Vec<Option<u32>> {
    let mut first_named = Numbered::default();
    let mut firsts = Vec::new();
    for instance in instances {
        if let Some(name) = instance.name
            && first_named.insert(name.of(text)) as usize == firsts.len()
        {
            let node = instance
                .primary_node
                .and_then(|node| nodes.find(text, node.of(text)).ok());
            firsts.push(node.map(|node| node as u32));
        }
    }
    let node = |instance: &InstanceFields| {
        let registered = instance.name.unwrap_or(instance.uuid);
        firsts[first_named.get(registered.of(text))? as usize]
    };
    instances.iter().map(node).collect()
}

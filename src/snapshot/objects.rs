//! Fields of nodes and instances, read once from the canonical text.
//!
//! Objects refer to each other by index, in map order, and to their text by [`Span`]. Texts that
//! are compared more often than they occur in the file are numbered first ([`Numbered`]), so that
//! the cost of a comparison does not depend on their length.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::config::{Document, Section};
use crate::json::{self, Span};

/// Texts with numbers: equal texts have the same.
#[derive(Default)]
pub(super) struct Numbered<'t>(HashMap<&'t [u8], u32, RandomState>);

impl<'t> Numbered<'t> {
    /// The number of `text`, the next one if it is new.
    pub(super) fn insert(&mut self, text: &'t [u8]) -> u32 {
        let next = self.0.len() as u32;
        *self.0.entry(text).or_insert(next)
    }

    /// The number of `text`, if it has one.
    pub(super) fn get(&self, text: &[u8]) -> Option<u32> {
        self.0.get(text).copied()
    }
}

/// The role of a node on the wire (`ConfdNodeRole`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum NodeRole {
    Master = 0,
    Candidate = 1,
    Offline = 2,
    Drained = 3,
    Regular = 4,
}

/// What queries need of a node.
#[derive(Debug)]
pub(super) struct Node {
    /// Without quotes.
    pub(super) name: Span,
    pub(super) primary_ip: Span,
    pub(super) serial: Span,
    /// Its role by its flags alone: never [`NodeRole::Master`].
    pub(super) role: NodeRole,
    /// The number of the value of its uuid field. Instances and disks refer to that value.
    pub(super) uuid: u32,
}

/// Fields of an instance that indexes are made from. Strings are without quotes.
pub(super) struct InstanceFields {
    pub(super) name: Option<Span>,
    pub(super) primary_node: Option<Span>,
    pub(super) nics: Span,
    pub(super) disks: Span,
    pub(super) uuid: Span,
    pub(super) serial: Span,
}

/// Reads all nodes, in map order, and the values of their uuid fields, by their numbers from 0 on.
pub(super) fn nodes<'t>(
    document: &'t Document,
    uuids: &mut Numbered<'t>,
) -> (Vec<Node>, Vec<Span>) {
    const NAMES: [&str; 7] = [
        "name",
        "primary_ip",
        "master_candidate",
        "offline",
        "drained",
        "uuid",
        "serial_no",
    ];
    let text = document.text();
    let mut spans = Vec::new();
    let node = |at: Span| {
        let [name, primary_ip, candidate, offline, drained, uuid, serial] =
            document.fields(at, NAMES).map(expect_field);
        let flag = |field: Span| field.of(text) == b"true";
        let role = match (flag(drained), flag(offline), flag(candidate)) {
            (true, _, _) => NodeRole::Drained,
            (_, true, _) => NodeRole::Offline,
            (_, _, true) => NodeRole::Candidate,
            _ => NodeRole::Regular,
        };
        let uuid = uuid.unquoted();
        let number = uuids.insert(uuid.of(text));
        if number as usize == spans.len() {
            spans.push(uuid);
        }
        Node {
            name: name.unquoted(),
            primary_ip,
            serial,
            role,
            uuid: number,
        }
    };
    let nodes = values(document, Section::Nodes).map(node).collect();
    (nodes, spans)
}

/// Reads all instances, in map order.
pub(super) fn instances(document: &Document) -> Vec<InstanceFields> {
    let instance = |at: Span| {
        let [name, primary_node, nics, disks, uuid, serial] = document.fields(
            at,
            ["name", "primary_node", "nics", "disks", "uuid", "serial_no"],
        );
        InstanceFields {
            name: name.map(Span::unquoted),
            primary_node: primary_node.map(Span::unquoted),
            nics: expect_field(nics),
            disks: expect_field(disks),
            uuid: expect_field(uuid).unquoted(),
            serial: expect_field(serial),
        }
    };
    values(document, Section::Instances).map(instance).collect()
}

/// The keys of a section, in map order.
pub(super) fn keys(document: &Document, section: Section) -> impl ExactSizeIterator<Item = Span> {
    document.entries(section).iter().map(|entry| entry.key)
}

/// The values of a section, in map order.
pub(super) fn values(document: &Document, section: Section) -> impl ExactSizeIterator<Item = Span> {
    document.entries(section).iter().map(|entry| entry.value)
}

/// A field that is mandatory or has a default in the field tables.
///
/// # Panics
///
/// If it is absent.
pub(super) fn expect_field(field: Option<Span>) -> Span {
    field.expect("the field tables give every object this field")
}

/// The text that a canonical string represents.
pub(super) fn unescaped(text: &[u8], string: Span) -> String {
    let bytes: Vec<u8> = json::unescape(string.of(text)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

//! Fields of nodes and instances, read once from the canonical text.
//!
//! Objects refer to each other by index, in map order, and to their text by [`Span`].

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::config::{Document, Section};
use crate::text::{self, Span};

/// Numbers by text: where each value of a key or field first occurs.
pub(super) type ByText<'t> = HashMap<&'t [u8], u32, RandomState>;

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

/// Fields of an instance that indexes are made from.
pub(super) struct InstanceFields {
    /// Without quotes.
    pub(super) name: Option<Span>,
    /// Without quotes.
    pub(super) primary_node: Option<Span>,
    pub(super) nics: Span,
    pub(super) disks: Span,
    /// Without quotes.
    pub(super) uuid: Span,
    pub(super) serial: Span,
}

/// Reads all nodes, in map order. Also returns the values of their uuid fields, numbered from 0.
pub(super) fn nodes(document: &Document) -> (Vec<Node>, ByText<'_>) {
    let text = document.text();
    let mut by_uuid = ByText::default();
    let node = |at: Span| {
        let [name, primary_ip, candidate, offline, drained, uuid, serial] = document.fields(
            at,
            [
                "name",
                "primary_ip",
                "master_candidate",
                "offline",
                "drained",
                "uuid",
                "serial_no",
            ],
        );
        let flag = |field: Option<Span>| expect_field(field).of(text) == b"true";
        let role = match (flag(drained), flag(offline), flag(candidate)) {
            (true, _, _) => NodeRole::Drained,
            (_, true, _) => NodeRole::Offline,
            (_, _, true) => NodeRole::Candidate,
            _ => NodeRole::Regular,
        };
        let next = by_uuid.len() as u32;
        let uuid = *by_uuid
            .entry(expect_field(uuid).unquoted().of(text))
            .or_insert(next);
        Node {
            name: expect_field(name).unquoted(),
            primary_ip: expect_field(primary_ip),
            serial: expect_field(serial),
            role,
            uuid,
        }
    };
    let nodes = document
        .entries(Section::Nodes)
        .iter()
        .map(|entry| entry.value)
        .map(node)
        .collect();
    (nodes, by_uuid)
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
    document
        .entries(Section::Instances)
        .iter()
        .map(|entry| instance(entry.value))
        .collect()
}

/// The keys of a section, in map order.
pub(super) fn keys(document: &Document, section: Section) -> impl ExactSizeIterator<Item = Span> {
    document.entries(section).iter().map(|entry| entry.key)
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
    let bytes: Vec<u8> = text::unescape(string.of(text)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

//! DRBD disks, and the list of DRBD minors of each node.
//!
//! Invariant: lists are in the order of instances, their disks, and the trees of these disks (a
//! disk first, then its children).
//!
//! Source: `Ganeti.Config` (`getInstMinorsForNode`, `getDrbdMinorsForNode`).

use super::directory::{Directory, NotFound};
use super::error_text::prereq_error_text;
use super::objects::{ByText, InstanceFields, Node, expect_field, unescaped};
use crate::config::{Document, Section};
use crate::text::{self, Span};

/// The parts of a DRBD disk's logical id.
pub(super) struct Drbd {
    /// Without quotes.
    pub(super) nodes: [Span; 2],
    /// The numbers of these nodes' uuids, if there are nodes with them.
    pub(super) uuids: [Option<u32>; 2],
    minors: [Span; 2],
}

/// The DRBD disks of one disk entry: itself first, if it is one, then those among its children.
#[derive(Default)]
pub(super) struct DrbdTree {
    is_drbd: bool,
    all: Vec<Drbd>,
}

impl DrbdTree {
    /// The entry itself, if it is DRBD.
    pub(super) fn own(&self) -> Option<&Drbd> {
        self.all.first().filter(|_| self.is_drbd)
    }
}

/// For each disk entry, the DRBD disks in its tree.
pub(super) fn trees(document: &Document, by_uuid: &ByText<'_>) -> Vec<DrbdTree> {
    let tree = |at: Span| {
        let mut tree = DrbdTree::default();
        tree.is_drbd = collect(document, at, by_uuid, &mut tree.all);
        tree
    };
    document
        .entries(Section::Disks)
        .iter()
        .map(|entry| tree(entry.value))
        .collect()
}

/// Collects `disk` and its children, depth first. Returns whether it is DRBD itself.
fn collect(document: &Document, disk: Span, by_uuid: &ByText<'_>, found: &mut Vec<Drbd>) -> bool {
    let text = document.text();
    let [logical_id, dev_type, children] =
        document.fields(disk, ["logical_id", "dev_type", "children"]);
    let is_drbd = dev_type.is_some_and(|dev_type| dev_type.of(text) == b"\"drbd\"");
    if let Some(logical_id) = logical_id.filter(|_| is_drbd) {
        found.push(drbd(text, logical_id.start as usize, by_uuid));
    }
    if let Some(children) = children {
        document.for_each_element(children, |child| {
            collect(document, child, by_uuid, found);
        });
    }
    is_drbd
}

/// Reads `[node A, node B, port, minor A, minor B, secret]`.
fn drbd(text: &[u8], logical_id: usize, by_uuid: &ByText<'_>) -> Drbd {
    let mut parts = text::elements(text, logical_id).map(Span::new);
    let mut next = || expect_field(parts.next());
    let nodes = [next().unquoted(), next().unquoted()];
    next();
    Drbd {
        nodes,
        uuids: nodes.map(|uuid| by_uuid.get(uuid.of(text)).copied()),
        minors: [next(), next()],
    }
}

/// Writes the DRBD minors of the nodes with each uuid as a JSON list, or the error that the query
/// gets.
///
/// `instances` are those whose disks can all be found, with the indexes of these disks.
pub(super) fn minors<'t>(
    text: &'t [u8],
    by_uuid: &ByText<'_>,
    nodes: &[Node],
    names: &Directory,
    instances: impl Iterator<Item = (&'t InstanceFields, &'t [u32])>,
    trees: &[DrbdTree],
) -> Vec<Result<Vec<u8>, Box<str>>> {
    // The reference looks nodes up by their uuids as if these were the names in a request.
    let look_up = |uuid: &[u8]| names.find(text, uuid).map(|node| nodes[node].name.of(text));
    let mut known: Vec<_> = by_uuid.values().map(|_| Err(NotFound::Unknown)).collect();
    for (uuid, &number) in by_uuid {
        known[number as usize] = look_up(uuid);
    }
    let name = |drbd: &Drbd, end: usize| {
        let uuid = drbd.nodes[end];
        let found = match drbd.uuids[end] {
            Some(number) => known[number as usize],
            None => look_up(uuid.of(text)),
        };
        found.map_err(|why| prereq_error_text("Node name", &unescaped(text, uuid), why))
    };
    let mut lists: Vec<Result<Vec<u8>, Box<str>>> =
        by_uuid.values().map(|_| Ok(b"[".to_vec())).collect();
    let placed = instances.flat_map(|(instance, disks)| {
        let disks = disks.iter().zip(0..);
        disks.flat_map(move |(disk, position)| {
            let tree = trees[*disk as usize].all.iter();
            tree.map(move |drbd| (instance, position, drbd))
        })
    });
    for (instance, position, drbd) in placed {
        for (number, end, peer) in drbd.ends(text) {
            let Ok(out) = &mut lists[number as usize] else {
                continue;
            };
            match (name(drbd, end), name(drbd, peer)) {
                (Ok(node), Ok(peer)) => {
                    let minor = Minor {
                        node,
                        minor: drbd.minors[end].of(text),
                        position,
                        peer,
                    };
                    minor.write(text, instance, drbd.nodes[end], out);
                }
                (Err(why), _) | (_, Err(why)) => lists[number as usize] = Err(why),
            }
        }
    }
    for list in lists.iter_mut().flatten() {
        list.push(b']');
        list.shrink_to_fit();
    }
    lists
}

impl Drbd {
    /// The ends that are nodes of the cluster: the number of the node's uuid, the index of the end,
    /// and that of its peer. If one node is at both ends, only the first counts.
    fn ends(&self, text: &[u8]) -> impl Iterator<Item = (u32, usize, usize)> {
        let [a, b] = self.nodes.map(|node| node.of(text));
        let second = self.uuids[1].filter(|_| a != b);
        let first = self.uuids[0].map(|number| (number, 0, 1));
        first.into_iter().chain(second.map(|number| (number, 1, 0)))
    }
}

/// One DRBD minor of a node.
struct Minor<'t> {
    node: &'t [u8],
    minor: &'t [u8],
    /// The position of the disk in its instance.
    position: usize,
    peer: &'t [u8],
}

impl Minor<'_> {
    /// Appends `[node name, minor, instance name, "disk/N", role, peer name]`; `uuid` is the
    /// node's.
    fn write(&self, text: &[u8], instance: &InstanceFields, uuid: Span, out: &mut Vec<u8>) {
        let is_primary = instance
            .primary_node
            .is_some_and(|primary| primary.of(text) == uuid.of(text));
        for piece in [
            if out.len() > 1 { &b",[\""[..] } else { b"[\"" },
            self.node,
            b"\",",
            self.minor,
            b",\"",
            instance.name.map_or(&[], |name| name.of(text)),
            b"\",\"disk/",
            itoa::Buffer::new().format(self.position).as_bytes(),
            b"\",\"",
            if is_primary { b"primary" } else { b"secondary" },
            b"\",\"",
            self.peer,
            b"\"]",
        ] {
            out.extend_from_slice(piece);
        }
    }
}

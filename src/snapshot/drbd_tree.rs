//! The DRBD disks in the tree of each disk entry.
//!
//! Source: `Ganeti.Objects.Disk` (`LogicalVolume`, `LIDDrbd8`).

use super::objects::{Numbered, expect_field, values};
use crate::config::{Document, Section};
use crate::json::{self, Span};

/// The parts of a DRBD disk's logical id.
pub(super) struct Drbd {
    /// The nodes' uuids, without quotes.
    pub(super) nodes: [Span; 2],
    /// The numbers of these texts.
    pub(super) uuids: [u32; 2],
    pub(super) minors: [Span; 2],
}

/// The DRBD disks of one disk entry: itself first, if it is one, then those among its children.
#[derive(Default)]
pub(super) struct DrbdTree {
    is_drbd: bool,
    pub(super) all: Vec<Drbd>,
}

impl DrbdTree {
    /// The entry itself, if it is DRBD.
    pub(super) fn own(&self) -> Option<&Drbd> {
        self.all.first().filter(|_| self.is_drbd)
    }
}

/// For each disk entry, the DRBD disks in its tree. Gives numbers to the nodes' uuids.
pub(super) fn trees<'t>(document: &'t Document, uuids: &mut Numbered<'t>) -> Vec<DrbdTree> {
    let tree = |at: Span| {
        let mut tree = DrbdTree::default();
        tree.is_drbd = collect(document, at, uuids, &mut tree.all);
        tree
    };
    values(document, Section::Disks).map(tree).collect()
}

/// Collects `disk` and its children, depth first. Returns whether it is DRBD itself.
fn collect<'t>(
    document: &'t Document,
    disk: Span,
    uuids: &mut Numbered<'t>,
    found: &mut Vec<Drbd>,
) -> bool {
    let text = document.text();
    let [logical_id, dev_type, children] =
        document.fields(disk, ["logical_id", "dev_type", "children"]);
    let is_drbd = dev_type.is_some_and(|dev_type| dev_type.of(text) == b"\"drbd\"");
    if let Some(logical_id) = logical_id.filter(|_| is_drbd) {
        found.push(drbd(text, logical_id.start as usize, uuids));
    }
    if let Some(children) = children {
        document.for_each_element(children, |child| {
            collect(document, child, uuids, found);
        });
    }
    is_drbd
}

/// Reads `[node A, node B, port, minor A, minor B, secret]`.
fn drbd<'t>(text: &'t [u8], logical_id: usize, uuids: &mut Numbered<'t>) -> Drbd {
    let mut parts = json::elements(text, logical_id).map(Span::new);
    let mut next = || expect_field(parts.next());
    let nodes = [next().unquoted(), next().unquoted()];
    next();
    Drbd {
        nodes,
        uuids: nodes.map(|uuid| uuids.insert(uuid.of(text))),
        minors: [next(), next()],
    }
}

impl Drbd {
    /// The indexes of its ends, each with that of its peer. If one node is at both ends, only the
    /// first counts.
    pub(super) fn ends(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = if self.uuids[0] == self.uuids[1] { 1 } else { 2 };
        [(0, 1), (1, 0)].into_iter().take(count)
    }
}

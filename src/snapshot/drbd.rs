//! The DRBD minors of each node.
//!
//! A file may list one disk in any number of instances, and a disk may have any number of DRBD
//! disks below it, so the lists of all nodes together may be far longer than the file. They are not
//! stored: an answer is put together from the DRBD disks of its node, the lists that have these
//! disks, and the instances that have these lists. Each step leads to at least one element of the
//! answer, and an answer with more elements than a reply can hold is given up.
//!
//! Source: `Ganeti.Config` (`getInstMinorsForNode`, `getDrbdMinorsForNode`).

use super::answer_writer::{AnswerWriter, MINORS_MAX, Minor};
use super::directory::{Directory, NotFound};
use super::drbd_tree::{Drbd, DrbdTree};
use super::groups::Groups;
use super::objects::Node;
use super::placement::{Disks, Instance, Place};
use crate::json::Span;

/// One end of a DRBD disk that is a node of the cluster.
#[derive(Clone, Copy, Debug)]
struct End {
    /// The index of the disk entry.
    disk: u32,
    minor: Span,
    /// The uuid of the other end, without quotes, and the node that it means.
    peer: Span,
    peer_node: Result<u32, NotFound>,
}

/// The DRBD minors of all nodes.
#[derive(Debug)]
pub(super) struct Minors {
    /// By the number of the node's uuid, in the order of disk entries and of their trees.
    ends: Groups<End>,
    /// By the number of a node's uuid: the node that this uuid means as a name.
    nodes: Box<[Result<u32, NotFound>]>,
    /// By the number of a node's uuid: the first uuid in its list whose node is not found.
    unknown: Box<[Option<Unknown>]>,
}

/// The uuid of a node that is not found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unknown {
    /// Without quotes.
    pub(super) uuid: Span,
    pub(super) why: NotFound,
}

/// What an answer is put together from.
#[derive(Clone, Copy)]
pub(super) struct Objects<'a> {
    pub(super) text: &'a [u8],
    pub(super) nodes: &'a [Node],
    pub(super) instances: &'a [Instance],
    pub(super) disks: &'a Disks,
}

impl Minors {
    /// Indexes the DRBD disks of `trees`. `uuids` are the texts of the nodes' uuids by number; the
    /// numbers of other texts follow.
    pub(super) fn new(
        text: &[u8],
        uuids: &[Span],
        names: &Directory,
        disks: &Disks,
        trees: &[DrbdTree],
    ) -> Self {
        // The reference looks nodes up by their uuids as if these were the names in a request.
        let look_up = |uuid: Span| names.find(text, uuid.of(text)).map(|node| node as u32);
        let nodes: Box<[_]> = uuids.iter().map(|&uuid| look_up(uuid)).collect();
        let peer_node = |drbd: &Drbd, peer: usize| {
            let known = nodes.get(drbd.uuids[peer] as usize).copied();
            known.unwrap_or_else(|| look_up(drbd.nodes[peer]))
        };
        let mut ends = Vec::new();
        for (tree, disk) in trees.iter().zip(0..) {
            for drbd in &tree.all {
                for (end, peer) in drbd.ends() {
                    let number = drbd.uuids[end];
                    if (number as usize) < uuids.len() {
                        let end = End {
                            disk,
                            minor: drbd.minors[end],
                            peer: drbd.nodes[peer],
                            peer_node: peer_node(drbd, peer),
                        };
                        ends.push((number, end));
                    }
                }
            }
        }
        let ends = Groups::new(uuids.len(), ends.into_iter());
        let first_places = disks.first_places();
        let unknown = (0..)
            .zip(uuids.iter().zip(&nodes))
            .map(|(number, (&uuid, node))| {
                let own = node.err().map(|why| Unknown { uuid, why });
                first_unknown(own, ends.of(number), &first_places)
            })
            .collect();
        Self {
            ends,
            nodes,
            unknown,
        }
    }

    /// Writes the DRBD minors of the nodes whose uuid has `number` into `answer`, as a JSON list.
    ///
    /// # Errors
    ///
    /// If a node in the list is not found; nothing is written then.
    pub(super) fn write(
        &self,
        number: u32,
        objects: Objects<'_>,
        answer: &mut AnswerWriter,
    ) -> Result<(), Unknown> {
        if let Some(unknown) = self.unknown[number as usize] {
            return Err(unknown);
        }
        let mut minors = std::mem::take(answer.minors());
        minors.clear();
        if !self.collect(number, objects.disks, &mut minors) {
            answer.set_too_large();
        }
        minors.sort_unstable();
        answer.push(b"[");
        let mut separator = &b"[\""[..];
        for minor in &minors {
            let first = minor.end as usize;
            let ends = &self.ends.items()[first..self.ends.range(number).end];
            for end in ends.iter().take_while(|end| end.disk == ends[0].disk) {
                answer.push(separator);
                self.write_end(number, *minor, end, objects, answer);
                separator = b",[\"";
            }
            if answer.is_too_large() {
                break;
            }
        }
        answer.push(b"]");
        *answer.minors() = minors;
        Ok(())
    }

    /// Collects the disks with DRBD minors of a node, once for each place in an instance. Returns
    /// whether all fit.
    fn collect(&self, number: u32, disks: &Disks, minors: &mut Vec<Minor>) -> bool {
        let ends = self.ends.items();
        let mut range = self.ends.range(number);
        while let Some(first) = range.next() {
            let disk = ends[first].disk;
            while range.start < range.end && ends[range.start].disk == disk {
                range.start += 1;
            }
            for (instance, position) in disks.places_of(disk) {
                if minors.len() == MINORS_MAX {
                    return false;
                }
                minors.push(Minor {
                    instance,
                    position,
                    end: first as u32,
                });
            }
        }
        true
    }

    /// Appends `node name", minor, "instance name", "disk/N", "role", "peer name"]`.
    fn write_end(
        &self,
        number: u32,
        minor: Minor,
        end: &End,
        objects: Objects<'_>,
        answer: &mut AnswerWriter,
    ) {
        let text = objects.text;
        let name = |node: Result<u32, NotFound>| {
            node.map_or(&b""[..], |node| objects.nodes[node as usize].name.of(text))
        };
        let instance = &objects.instances[minor.instance as usize];
        let is_primary = instance.primary == Some(number);
        for piece in [
            name(self.nodes[number as usize]),
            b"\",",
            end.minor.of(text),
            b",\"",
            instance.name.map_or(&b""[..], |name| name.of(text)),
            b"\",\"disk/",
            itoa::Buffer::new().format(minor.position).as_bytes(),
            b"\",\"",
            if is_primary { b"primary" } else { b"secondary" },
            b"\",\"",
            name(end.peer_node),
            b"\"]",
        ] {
            answer.push(piece);
        }
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        self.ends.bytes()
            + size_of_val::<[Result<u32, NotFound>]>(&self.nodes)
            + size_of_val::<[Option<Unknown>]>(&self.unknown)
    }
}

/// The first node of a list that is not found. `own` is the node of the list itself if it is not
/// found, `first_places` has the first place of each disk in an instance.
fn first_unknown(
    own: Option<Unknown>,
    ends: &[End],
    first_places: &[Option<Place>],
) -> Option<Unknown> {
    ends.iter()
        .filter_map(|end| {
            let place = first_places[end.disk as usize]?;
            let peer = || {
                end.peer_node.err().map(|why| Unknown {
                    uuid: end.peer,
                    why,
                })
            };
            Some((place, own.or_else(peer)?))
        })
        .min_by_key(|(place, _)| *place)
        .map(|(_, unknown)| unknown)
}

//! Which instances are on which node, and which disks they have.
//!
//! Source: `Ganeti.Config` (`getNodeInstances`, `getInstDisks`).

use std::ops::Range;

use super::directory::{Directory, NotFound};
use super::drbd::{Drbd, DrbdTree};
use super::error_text::prereq_error_text;
use super::objects::{ByText, InstanceFields, keys, unescaped};
use crate::config::{Document, Section};
use crate::text::{self, Span};

/// What is on the nodes with one value of the uuid field. Instances are indexes, in map order.
#[derive(Debug)]
pub(super) struct NodeInstances {
    pub(super) primary: Vec<u32>,
    pub(super) secondary: Vec<u32>,
    /// DRBD minors as JSON, or the error of a node that is not found.
    pub(super) minors: Result<Vec<u8>, Box<str>>,
}

/// What queries need of an instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) serial: Span,
    /// The range of its disks in the list of all disks, or the error that the query gets.
    pub(super) disks: Result<Range<u32>, Box<str>>,
}

/// For each instance, its list of disks: indexes of disk entries, or the key of one that is
/// missing.
pub(super) fn own_disks(
    document: &Document,
    instances: &[InstanceFields],
) -> Vec<Vec<Result<u32, Span>>> {
    let text = document.text();
    let by_key: ByText<'_> = keys(document, Section::Disks)
        .map(|key| key.of(text))
        .zip(0..)
        .collect();
    let find = |disk: Range<usize>| {
        let key = Span::new(disk).unquoted();
        by_key.get(key.of(text)).copied().ok_or(key)
    };
    instances
        .iter()
        .map(|instance| {
            text::elements(text, instance.disks.start as usize)
                .map(find)
                .collect()
        })
        .collect()
}

/// The instances on the nodes with each uuid; `minors` are the DRBD minors of the same nodes.
pub(super) fn node_instances(
    text: &[u8],
    by_uuid: &ByText<'_>,
    minors: Vec<Result<Vec<u8>, Box<str>>>,
    instances: &[InstanceFields],
    disks: &[Vec<Result<u32, Span>>],
    drbd: &[DrbdTree],
) -> Vec<NodeInstances> {
    let mut on_nodes: Vec<_> = minors
        .into_iter()
        .map(|minors| NodeInstances {
            primary: Vec::new(),
            secondary: Vec::new(),
            minors,
        })
        .collect();
    for (index, instance) in instances.iter().enumerate() {
        let Some(primary) = instance.primary_node else {
            continue;
        };
        let primary = primary.of(text);
        if let Some(&number) = by_uuid.get(primary) {
            on_nodes[number as usize].primary.push(index as u32);
        }
        // A disk counts if it is DRBD itself, not if only its children are.
        for disk in disks[index].iter().flatten() {
            let Some(Drbd { nodes, uuids, .. }) = drbd[*disk as usize].own() else {
                continue;
            };
            let other = usize::from(nodes[0].of(text) == primary);
            let Some(number) = uuids[other] else { continue };
            let secondary = &mut on_nodes[number as usize].secondary;
            if secondary.last() != Some(&(index as u32)) {
                secondary.push(index as u32);
            }
        }
    }
    for on_node in &mut on_nodes {
        on_node.primary.shrink_to_fit();
        on_node.secondary.shrink_to_fit();
    }
    on_nodes
}

/// The instances with the disks that queries find, and the list of all disks: indexes of entries.
///
/// The reference fetches an instance's disks by the value of its uuid field, as if that were the
/// name in a request.
pub(super) fn instances(
    text: &[u8],
    fields: &[InstanceFields],
    own_disks: &[Vec<Result<u32, Span>>],
    names: &Directory,
) -> (Vec<Instance>, Vec<u32>) {
    let mut lists = Vec::new();
    let mut list = |disks: &Vec<Result<u32, Span>>| {
        let start = lists.len();
        for disk in disks {
            match disk {
                Ok(disk) => lists.push(*disk),
                Err(key) => {
                    lists.truncate(start);
                    return Err(*key);
                }
            }
        }
        Ok(start as u32..lists.len() as u32)
    };
    let own: Vec<Result<Range<u32>, Span>> = own_disks.iter().map(&mut list).collect();
    let disks = |instance: &InstanceFields| {
        let found = names.find(text, instance.uuid.of(text)).map_err(|why| {
            prereq_error_text("Instance name", &unescaped(text, instance.uuid), why)
        })?;
        own[found]
            .clone()
            .map_err(|key| prereq_error_text("Disk uuid", &unescaped(text, key), NotFound::Unknown))
    };
    let instances = fields
        .iter()
        .map(|instance| Instance {
            serial: instance.serial,
            disks: disks(instance),
        })
        .collect();
    (instances, lists)
}

//! Which disks an instance has, and which instances are on a node.
//!
//! Source: `Ganeti.Config` (`getNodeInstances`, `getInstDisks`).

use std::ops::Range;

use super::directory::{Directory, NotFound};
use super::drbd_tree::DrbdTree;
use super::groups::Groups;
use super::objects::{InstanceFields, Numbered, keys};
use crate::config::{Document, Section};
use crate::json::{self, Span};

/// What queries need of an instance.
#[derive(Debug)]
pub(super) struct Instance {
    /// Without quotes.
    pub(super) name: Option<Span>,
    pub(super) serial: Span,
    /// Its uuid field, without quotes.
    pub(super) uuid: Span,
    /// Whether it has a primary node.
    has_primary: bool,
    /// The number of its primary node's uuid, if any node or DRBD disk has that uuid.
    pub(super) primary: Option<u32>,
    /// The instance whose list of disks queries return: the reference fetches the disks by the
    /// value of the uuid field, as if that were the name in a request.
    pub(super) list: Result<u32, NotFound>,
}

/// A place in the lists of disks: an instance, and the position in its list.
pub(super) type Place = (u32, u32);

/// The disks of each instance. Disks are indexes of entries.
#[derive(Debug)]
pub(super) struct Disks {
    /// All lists without a missing disk, one after another.
    lists: Box<[u32]>,
    /// For each instance its own list, or the key of the first disk that is missing.
    own: Box<[Result<Range<u32>, Span>]>,
    /// By disk: its places in those lists that queries return.
    places: Groups<Place>,
    /// By instance: the instances for which queries return its list.
    users: Groups<u32>,
}

/// What the lists of all instances say: indexes of disk entries, or the key of one that is missing.
pub(super) struct OwnDisks {
    starts: Vec<u32>,
    disks: Vec<Result<u32, Span>>,
}

impl OwnDisks {
    /// Reads the lists of all instances.
    pub(super) fn new(document: &Document, instances: &[InstanceFields]) -> Self {
        let text = document.text();
        let mut by_key = Numbered::default();
        for key in keys(document, Section::Disks) {
            by_key.insert(key.of(text));
        }
        let find = |disk: Range<usize>| {
            let key = Span::new(disk).unquoted();
            by_key.get(key.of(text)).ok_or(key)
        };
        let mut own = Self {
            starts: vec![0],
            disks: Vec::new(),
        };
        for instance in instances {
            let disks = json::elements(text, instance.disks.start as usize);
            own.disks.extend(disks.map(find));
            own.starts.push(own.disks.len() as u32);
        }
        own
    }

    fn of(&self, instance: usize) -> &[Result<u32, Span>] {
        &self.disks[self.starts[instance] as usize..self.starts[instance + 1] as usize]
    }
}

/// What queries need of all instances.
pub(super) fn instances(
    text: &[u8],
    fields: &[InstanceFields],
    uuids: &Numbered<'_>,
    names: &Directory,
) -> Vec<Instance> {
    let instance = |fields: &InstanceFields| Instance {
        name: fields.name,
        serial: fields.serial,
        uuid: fields.uuid,
        has_primary: fields.primary_node.is_some(),
        primary: fields
            .primary_node
            .and_then(|node| uuids.get(node.of(text))),
        list: names
            .find(text, fields.uuid.of(text))
            .map(|found| found as u32),
    };
    fields.iter().map(instance).collect()
}

impl Disks {
    pub(super) fn new(own_disks: &OwnDisks, instances: &[Instance], disk_count: usize) -> Self {
        let mut lists = Vec::new();
        let list = |instance: usize| {
            let start = lists.len();
            for disk in own_disks.of(instance) {
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
        let own: Box<[_]> = (0..instances.len()).map(list).collect();
        let users = instances
            .iter()
            .zip(0..)
            .filter_map(|(instance, user)| Some((instance.list.ok()?, user)));
        let users = Groups::new(instances.len(), users);
        let used = own
            .iter()
            .zip(0..)
            .filter(|(_, owner)| !users.of(*owner).is_empty())
            .filter_map(|(list, owner)| Some((owner, list.clone().ok()?)));
        let places = used.flat_map(|(owner, list)| {
            let disks = lists[list.start as usize..list.end as usize].iter();
            disks
                .zip(0..)
                .map(move |(disk, position)| (*disk, (owner, position)))
        });
        Self {
            places: Groups::new(disk_count, places),
            users,
            own,
            lists: lists.into(),
        }
    }

    /// The disks that queries return for an instance.
    ///
    /// # Errors
    ///
    /// The key of a disk that is missing, without quotes.
    pub(super) fn of(&self, list: u32) -> Result<&[u32], Span> {
        let range = self.own[list as usize].clone()?;
        Ok(&self.lists[range.start as usize..range.end as usize])
    }

    /// The places of a disk in the instances for which queries return it.
    pub(super) fn places_of(&self, disk: u32) -> impl Iterator<Item = Place> {
        self.places.of(disk).iter().flat_map(|&(owner, position)| {
            let users = self.users.of(owner).iter();
            users.map(move |&user| (user, position))
        })
    }

    /// For each disk, its first place.
    pub(super) fn first_places(&self) -> Vec<Option<Place>> {
        let first = |disk: u32| {
            let places = self.places.of(disk).iter();
            // The users of a list are in ascending order, and there is at least one.
            places
                .map(|&(owner, position)| (self.users.of(owner)[0], position))
                .min()
        };
        (0..self.places.count()).map(first).collect()
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        size_of_val::<[u32]>(&self.lists)
            + size_of_val::<[Result<Range<u32>, Span>]>(&self.own)
            + self.places.bytes()
            + self.users.bytes()
    }
}

/// The instances on each node, by the number of the node's uuid. Instances are indexes, in map
/// order.
#[derive(Debug)]
pub(super) struct NodeInstances {
    pub(super) primary: Groups<u32>,
    pub(super) secondary: Groups<u32>,
}

impl NodeInstances {
    /// `uuid_count` is the number of nodes' uuids, whose numbers come first.
    pub(super) fn new(
        uuid_count: usize,
        instances: &[Instance],
        own_disks: &OwnDisks,
        trees: &[DrbdTree],
    ) -> Self {
        let is_node = |number: u32| (number as usize) < uuid_count;
        let mut primary = Vec::new();
        let mut secondary = Vec::new();
        // The last instance that was added for each node: it counts once for all its disks.
        let mut last = vec![None; uuid_count];
        for (instance, index) in instances.iter().zip(0..) {
            if !instance.has_primary {
                continue;
            }
            primary.extend(
                instance
                    .primary
                    .filter(|&node| is_node(node))
                    .map(|node| (node, index)),
            );
            // A disk counts if it is DRBD itself, not if only its children are. Missing disks do
            // not.
            let disks = own_disks.of(index as usize).iter().flatten();
            for drbd in disks.filter_map(|disk| trees[*disk as usize].own()) {
                let other = usize::from(Some(drbd.uuids[0]) == instance.primary);
                let node = drbd.uuids[other];
                if is_node(node) && last[node as usize] != Some(index) {
                    last[node as usize] = Some(index);
                    secondary.push((node, index));
                }
            }
        }
        Self {
            primary: Groups::new(uuid_count, primary.into_iter()),
            secondary: Groups::new(uuid_count, secondary.into_iter()),
        }
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        self.primary.bytes() + self.secondary.bytes()
    }
}

//! The indexes over one configuration's canonical text.
//!
//! Everything here is built once, when a configuration is loaded. Objects refer to each other by
//! index and to their text by [`Span`].

use super::directory::Directory;
use super::drbd;
use super::links::{self, Links};
use super::objects::{self, Node, keys, unescaped};
use super::placement::{self, Instance, NodeInstances};
use super::ready::{ReadyAnswers, UnknownMaster};
use crate::config::{Document, Section};
use crate::text::Span;

/// A document with its indexes.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) document: Document,
    /// `cluster.serial_no`.
    pub(super) serial: Span,
    pub(super) nodes: Box<[Node]>,
    pub(super) node_names: Directory,
    /// By the number of the nodes' uuid ([`Node::uuid`]).
    pub(super) node_instances: Box<[NodeInstances]>,
    pub(super) instances: Box<[Instance]>,
    pub(super) instance_names: Directory,
    /// The disks of all instances, one list after another: indexes of disk entries.
    disk_lists: Box<[u32]>,
    /// The master's index, or the name that is not found.
    pub(super) master: Result<usize, UnknownMaster>,
    pub(super) master_ip: Span,
    /// `None` if instances have addresses but there is no default link, which the reference needs.
    pub(super) links: Option<Links>,
    /// `cluster.nicparams.default.link`.
    pub(super) default_link: Option<Span>,
    pub(super) ready: ReadyAnswers,
}

impl Index {
    /// Builds all indexes of `document`.
    pub(super) fn new(document: Document) -> Self {
        let text = document.text();
        let serial = document.mandatory(&["cluster", "serial_no"]);
        let (nodes, by_uuid) = objects::nodes(&document);
        let names: Vec<_> = nodes.iter().map(|node| Some(node.name)).collect();
        let node_names = Directory::new(text, keys(&document, Section::Nodes), &names);

        let fields = objects::instances(&document);
        let names: Vec<_> = fields
            .iter()
            .map(|fields| fields.name.filter(|name| name.start < name.end))
            .collect();
        let instance_names = Directory::new(text, keys(&document, Section::Instances), &names);

        let drbd = drbd::trees(&document, &by_uuid);
        let own_disks = placement::own_disks(&document, &fields);
        let (instances, disk_lists) =
            placement::instances(text, &fields, &own_disks, &instance_names);
        let with_disks = fields
            .iter()
            .zip(&instances)
            .filter_map(|(fields, instance)| {
                let range = instance.disks.as_ref().ok()?;
                let disks = &disk_lists[range.start as usize..range.end as usize];
                Some((fields, disks))
            });
        let minors = drbd::minors(text, &by_uuid, &nodes, &node_names, with_disks, &drbd);
        let node_instances =
            placement::node_instances(text, &by_uuid, minors, &fields, &own_disks, &drbd);

        let default_link = document.find(&["cluster", "nicparams", "default", "link"]);
        let default_link = default_link.map(Span::unquoted);
        let links = links::registrations(&document, &fields, default_link, &node_names)
            .map(|registrations| Links::new(text, registrations));
        let master_name = document.mandatory(&["cluster", "master_node"]).unquoted();
        let master = node_names
            .find(text, master_name.of(text))
            .map_err(|why| UnknownMaster {
                name: unescaped(text, master_name),
                why,
            });
        let ready = ReadyAnswers::new(&document, serial, &nodes, &master);
        let master_ip = document.mandatory(&["cluster", "master_ip"]);
        Self {
            serial,
            nodes: nodes.into(),
            node_names,
            node_instances: node_instances.into(),
            instances: instances.into(),
            instance_names,
            disk_lists: disk_lists.into(),
            master,
            master_ip,
            links,
            default_link,
            ready,
            document,
        }
    }

    /// The canonical text that all spans refer to.
    pub(super) fn text(&self) -> &[u8] {
        self.document.text()
    }

    /// The disks of an instance as indexes of disk entries.
    ///
    /// # Errors
    ///
    /// The error text of the answer, if the instance or a disk is not found.
    pub(super) fn disks<'a>(&'a self, instance: &'a Instance) -> Result<&'a [u32], &'a str> {
        match &instance.disks {
            Ok(range) => Ok(&self.disk_lists[range.start as usize..range.end as usize]),
            Err(why) => Err(why),
        }
    }

    /// Bytes of memory that this holds, without the overhead of the allocator.
    pub(super) fn bytes(&self) -> usize {
        let on_node = |on_node: &NodeInstances| {
            let instances = on_node.primary.capacity() + on_node.secondary.capacity();
            let minors = on_node
                .minors
                .as_ref()
                .map_or_else(|why| why.len(), Vec::capacity);
            size_of::<NodeInstances>() + instances * size_of::<u32>() + minors
        };
        self.document.bytes()
            + size_of_val::<[Node]>(&self.nodes)
            + self.node_instances.iter().map(on_node).sum::<usize>()
            + size_of_val::<[Instance]>(&self.instances)
            + size_of_val::<[u32]>(&self.disk_lists)
            + self.node_names.bytes()
            + self.instance_names.bytes()
            + self.links.as_ref().map_or(0, Links::bytes)
            + self.ready.bytes()
    }
}

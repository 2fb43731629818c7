//! The indexes over one configuration's canonical text.
//!
//! Everything here is built once, when a configuration is loaded, in time and memory linear in the
//! length of the text. Objects refer to each other by index and to their text by [`Span`].

use super::directory::Directory;
use super::drbd::{Minors, Objects};
use super::drbd_tree;
use super::links::Links;
use super::objects::{self, Node, Numbered, keys, unescaped};
use super::placement::{self, Disks, Instance, NodeInstances, OwnDisks};
use super::ready::{ReadyAnswers, UnknownMaster};
use crate::config::{Document, Section};
use crate::json::Span;

/// A document with its indexes.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) document: Document,
    /// `cluster.serial_no`.
    pub(super) serial: Span,
    pub(super) nodes: Box<[Node]>,
    pub(super) node_names: Directory,
    /// By the number of the nodes' uuid ([`Node::uuid`]).
    pub(super) node_instances: NodeInstances,
    /// By the same number.
    pub(super) minors: Minors,
    pub(super) instances: Box<[Instance]>,
    pub(super) instance_names: Directory,
    pub(super) disks: Disks,
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
        let mut uuids = Numbered::default();
        let (nodes, node_uuids) = objects::nodes(&document, &mut uuids);
        let names: Vec<_> = nodes.iter().map(|node| Some(node.name)).collect();
        let node_names = Directory::new(text, keys(&document, Section::Nodes), &names);

        let fields = objects::instances(&document);
        let names: Vec<_> = fields
            .iter()
            .map(|fields| fields.name.filter(|name| name.start < name.end))
            .collect();
        let instance_names = Directory::new(text, keys(&document, Section::Instances), &names);

        let trees = drbd_tree::trees(&document, &mut uuids);
        let own_disks = OwnDisks::new(&document, &fields);
        let instances = placement::instances(text, &fields, &uuids, &instance_names);
        let disks = Disks::new(&own_disks, &instances, trees.len());
        let minors = Minors::new(text, &node_uuids, &node_names, &disks, &trees);
        let node_instances = NodeInstances::new(node_uuids.len(), &instances, &own_disks, &trees);

        let default_link = document.find(&["cluster", "nicparams", "default", "link"]);
        let default_link = default_link.map(Span::unquoted);
        let links = Links::new(&document, &fields, default_link, &node_names);
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
            node_instances,
            minors,
            instances: instances.into(),
            instance_names,
            disks,
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

    /// What lists of DRBD minors are put together from.
    pub(super) fn objects(&self) -> Objects<'_> {
        Objects {
            text: self.text(),
            nodes: &self.nodes,
            instances: &self.instances,
            disks: &self.disks,
        }
    }

    /// Bytes of memory that this holds, without the overhead of the allocator.
    pub(super) fn bytes(&self) -> usize {
        self.document.bytes()
            + size_of_val::<[Node]>(&self.nodes)
            + self.node_names.bytes()
            + self.node_instances.bytes()
            + self.minors.bytes()
            + size_of_val::<[Instance]>(&self.instances)
            + self.instance_names.bytes()
            + self.disks.bytes()
            + self.links.as_ref().map_or(0, Links::bytes)
            + self.ready.bytes()
    }
}

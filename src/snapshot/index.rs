//! What is known about one configuration, and how it is found out.
//!
//! Everything here is made once from the document's text. Objects refer to one another by index, and to their text by span.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use super::answer_writer::ReadyAnswer;
use super::directory::{Directory, NotFound};
use super::haskell_show;
use super::links::{Links, Registration};
use crate::config::{Document, Section};
use crate::protocol::reply::{NO_SERIAL, Status};
use crate::text::{self, Span};

/// A document with its indexes.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) document: Document,
    pub(super) serial: Span,
    pub(super) nodes: Box<[Node]>,
    pub(super) node_names: Directory,
    pub(super) hosted: Box<[NodeInstances]>,
    pub(super) instances: Box<[Instance]>,
    pub(super) instance_names: Directory,
    /// The disks of all instances, one list after another: indexes of disk entries.
    disk_lists: Box<[u32]>,
    /// The master's index, or why there is none.
    pub(super) master: Result<usize, UnknownMaster>,
    pub(super) master_ip: Span,
    /// None if there are addresses, and no default link that the reference would look up for each of them.
    pub(super) links: Option<Links>,
    /// `cluster.nicparams.default.link`.
    pub(super) default_link: Option<Span>,
    pub(super) ready: ReadyAnswers,
}

/// A name that leads nowhere.
#[derive(Debug)]
pub(super) struct UnknownMaster {
    pub(super) name: String,
    pub(super) why: NotFound,
}

/// Answers that are the same for every request of their type.
#[derive(Debug)]
pub(super) struct ReadyAnswers {
    pub(super) ping: ReadyAnswer,
    pub(super) cluster_master: ReadyAnswer,
    pub(super) node_pip_list: ReadyAnswer,
    pub(super) mc_pip_list: ReadyAnswer,
    pub(super) data_collectors: ReadyAnswer,
}

#[derive(Debug)]
pub(super) struct Node {
    /// Without quotes.
    pub(super) name: Span,
    pub(super) primary_ip: Span,
    pub(super) serial: Span,
    /// `ConfdNodeRole` by its flags alone.
    pub(super) role: u8,
    /// What is on the nodes with its uuid field.
    pub(super) hosted: u32,
}

/// What is on the nodes with one value of the uuid field. Instances are indexes, in map order.
#[derive(Debug)]
pub(super) struct NodeInstances {
    pub(super) primary: Vec<u32>,
    pub(super) secondary: Vec<u32>,
    /// DRBD minors as JSON, or the error of a node that cannot be found.
    pub(super) minors: Result<Vec<u8>, Box<str>>,
}

#[derive(Debug)]
pub(super) struct Instance {
    pub(super) serial: Span,
    disks: Result<Range<u32>, Box<str>>,
}

/// Roles as numbers on the wire (`ConfdNodeRole`).
pub(super) mod role {
    pub(in crate::snapshot) const MASTER: u8 = 0;
    pub(super) const CANDIDATE: u8 = 1;
    pub(super) const OFFLINE: u8 = 2;
    pub(super) const DRAINED: u8 = 3;
    pub(super) const REGULAR: u8 = 4;
}

type Index<'t> = HashMap<&'t [u8], u32, RandomState>;

/// Fields of an instance that indexes are made from.
struct InstanceFields {
    /// Without quotes.
    name: Option<Span>,
    /// Without quotes.
    primary_node: Option<Span>,
    nics: Span,
    disks: Span,
    /// Without quotes.
    uuid: Span,
    serial: Span,
}

/// A DRBD disk: what its logical id says.
struct Drbd {
    /// Without quotes.
    nodes: [Span; 2],
    /// The nodes' numbers among the values of the uuid field, if they have one.
    groups: [Option<u32>; 2],
    minors: [Span; 2],
}

/// The DRBD disks of one disk entry: itself first, if it is one, then its children's.
#[derive(Default)]
struct DrbdTree {
    is_drbd: bool,
    all: Vec<Drbd>,
}

impl DrbdTree {
    /// The entry itself, if it is DRBD.
    fn own(&self) -> Option<&Drbd> {
        self.all.first().filter(|_| self.is_drbd)
    }
}

impl Cluster {
    pub(super) fn new(document: Document) -> Self {
        let text = document.text();
        let serial = document.mandatory(&["cluster", "serial_no"]);
        let (nodes, by_uuid) = nodes(&document);
        let names: Vec<_> = nodes.iter().map(|node| Some(node.name)).collect();
        let node_names = Directory::new(text, keys(&document, Section::Nodes), &names);

        let fields = instance_fields(&document);
        let named = |fields: &InstanceFields| fields.name.filter(|name| name.start < name.end);
        let names: Vec<_> = fields.iter().map(named).collect();
        let instance_names = Directory::new(text, keys(&document, Section::Instances), &names);

        let drbd = drbd_trees(&document, &by_uuid);
        let own_disks = own_disks(&document, &fields);
        let (instances, disk_lists) = instances(text, &fields, &own_disks, &instance_names);
        let with_disks = instances
            .iter()
            .zip(&fields)
            .filter_map(|(instance, fields)| {
                let range = instance.disks.as_ref().ok()?;
                Some((
                    fields,
                    &disk_lists[range.start as usize..range.end as usize],
                ))
            });
        let minors = minors(text, &by_uuid, &nodes, &node_names, with_disks, &drbd);
        let hosted = host(text, &by_uuid, minors, &fields, &own_disks, &drbd);

        let default_link = document.find(&["cluster", "nicparams", "default", "link"]);
        let default_link = default_link.map(Span::unquoted);
        let links = registrations(text, &fields, default_link, &node_names)
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
            hosted: hosted.into(),
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

    /// The canonical text that all spans are of.
    pub(super) fn text(&self) -> &[u8] {
        self.document.text()
    }

    /// The disks of an instance as indexes of disk entries, or the error of one that cannot be found.
    pub(super) fn disks<'a>(&'a self, instance: &'a Instance) -> Result<&'a [u32], &'a str> {
        match &instance.disks {
            Ok(range) => Ok(&self.disk_lists[range.start as usize..range.end as usize]),
            Err(why) => Err(why),
        }
    }

    /// Bytes of memory that this holds, but for what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        let hosted = |hosted: &NodeInstances| {
            let instances = hosted.primary.capacity() + hosted.secondary.capacity();
            let minors = hosted
                .minors
                .as_ref()
                .map_or_else(|why| why.len(), Vec::capacity);
            size_of::<NodeInstances>() + instances * size_of::<u32>() + minors
        };
        self.document.bytes()
            + size_of_val::<[Node]>(&self.nodes)
            + self.hosted.iter().map(hosted).sum::<usize>()
            + size_of_val::<[Instance]>(&self.instances)
            + size_of_val::<[u32]>(&self.disk_lists)
            + self.node_names.bytes()
            + self.instance_names.bytes()
            + self.links.as_ref().map_or(0, Links::bytes)
            + self.ready.bytes()
    }
}

/// The text of a reference's `OpPrereqError` for a name that leads nowhere.
pub(super) fn prereq_error(what: &str, name: &str, why: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"OpPrereqError ");
    haskell_show::string([what, " ", name, " ", why], out);
    out.extend_from_slice(b" ECodeNoEnt");
}

fn prereq_error_text(what: &str, name: &str, why: &str) -> Box<str> {
    let mut out = Vec::new();
    prereq_error(what, name, why, &mut out);
    String::from_utf8_lossy(&out).into()
}

/// What a canonical string stands for.
fn unescaped(text: &[u8], string: Span) -> String {
    let bytes: Vec<u8> = text::unescape(string.of(text)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn keys(document: &Document, section: Section) -> impl ExactSizeIterator<Item = Span> {
    document.entries(section).iter().map(|entry| entry.key)
}

/// The values of `names` in the object at `at`, in one pass.
fn fields<const N: usize>(text: &[u8], at: Span, names: [&str; N]) -> [Option<Span>; N] {
    let mut found = [None; N];
    for (key, value) in text::members(text, at.start as usize) {
        let key = &text[key];
        if let Some(index) = names.iter().position(|name| name.as_bytes() == key) {
            found[index] = Some(Span::new(value));
        }
    }
    found
}

/// A field that the tables give every object: needed, or with a default.
fn expect_field(field: Option<Span>) -> Span {
    field.expect("the tables give every object this field")
}

/// The nodes in map order; and the values of their uuid fields, numbered.
fn nodes(document: &Document) -> (Vec<Node>, Index<'_>) {
    let text = document.text();
    let mut by_uuid = Index::default();
    let node = |at: Span| {
        let [name, primary_ip, candidate, offline, drained, uuid, serial] = fields(
            text,
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
            (true, _, _) => role::DRAINED,
            (_, true, _) => role::OFFLINE,
            (_, _, true) => role::CANDIDATE,
            _ => role::REGULAR,
        };
        let next = by_uuid.len() as u32;
        let hosted = *by_uuid
            .entry(expect_field(uuid).unquoted().of(text))
            .or_insert(next);
        Node {
            name: expect_field(name).unquoted(),
            primary_ip: expect_field(primary_ip),
            serial: expect_field(serial),
            role,
            hosted,
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

fn instance_fields(document: &Document) -> Vec<InstanceFields> {
    let text = document.text();
    let instance = |at: Span| {
        let [name, primary_node, nics, disks, uuid, serial] = fields(
            text,
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

/// For each disk entry, the DRBD disks in its tree.
fn drbd_trees(document: &Document, by_uuid: &Index<'_>) -> Vec<DrbdTree> {
    let collect = |at: Span| {
        let mut tree = DrbdTree::default();
        tree.is_drbd = collect_drbd(document.text(), at, by_uuid, &mut tree.all);
        tree
    };
    document
        .entries(Section::Disks)
        .iter()
        .map(|entry| collect(entry.value))
        .collect()
}

/// Collects `disk` and what is below it, depth first; says whether it is DRBD itself.
fn collect_drbd(text: &[u8], disk: Span, by_uuid: &Index<'_>, found: &mut Vec<Drbd>) -> bool {
    let mut logical_id = None;
    let mut is_drbd = false;
    for (key, value) in text::members(text, disk.start as usize) {
        match &text[key] {
            b"logical_id" => logical_id = Some(value.start),
            b"dev_type" if &text[value.clone()] == b"\"drbd\"" => {
                found.extend(logical_id.map(|at| drbd(text, at, by_uuid)));
                is_drbd = true;
            }
            b"children" => {
                for child in text::elements(text, value.start) {
                    collect_drbd(text, Span::new(child), by_uuid, found);
                }
                // The fields come in the table's order, and these are all that matter here.
                break;
            }
            _ => {}
        }
    }
    is_drbd
}

/// Reads `[node A, node B, port, minor A, minor B, secret]`.
fn drbd(text: &[u8], logical_id: usize, by_uuid: &Index<'_>) -> Drbd {
    let mut parts = text::elements(text, logical_id).map(Span::new);
    let mut next = || expect_field(parts.next());
    let nodes = [next().unquoted(), next().unquoted()];
    next();
    Drbd {
        nodes,
        groups: nodes.map(|uuid| by_uuid.get(uuid.of(text)).copied()),
        minors: [next(), next()],
    }
}

/// For each instance, its own list of disks: indexes of disk entries, or the key of one that is not there.
fn own_disks(document: &Document, instances: &[InstanceFields]) -> Vec<Vec<Result<u32, Span>>> {
    let text = document.text();
    let by_key: Index<'_> = keys(document, Section::Disks)
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

/// Which instances are on which nodes.
fn host(
    text: &[u8],
    by_uuid: &Index<'_>,
    minors: Vec<Result<Vec<u8>, Box<str>>>,
    instances: &[InstanceFields],
    disks: &[Vec<Result<u32, Span>>],
    drbd: &[DrbdTree],
) -> Vec<NodeInstances> {
    let hosted = minors.into_iter().map(|minors| NodeInstances {
        primary: Vec::new(),
        secondary: Vec::new(),
        minors,
    });
    let mut hosted: Vec<NodeInstances> = hosted.collect();
    for (index, instance) in instances.iter().enumerate() {
        let Some(primary) = instance.primary_node else {
            continue;
        };
        let primary = primary.of(text);
        if let Some(&group) = by_uuid.get(primary) {
            hosted[group as usize].primary.push(index as u32);
        }
        // Only disks that are DRBD themselves count, not those with DRBD children.
        for disk in disks[index].iter().flatten() {
            let Some(Drbd { nodes, groups, .. }) = drbd[*disk as usize].own() else {
                continue;
            };
            let other = usize::from(nodes[0].of(text) == primary);
            let Some(group) = groups[other] else { continue };
            let secondary = &mut hosted[group as usize].secondary;
            if secondary.last() != Some(&(index as u32)) {
                secondary.push(index as u32);
            }
        }
    }
    for group in &mut hosted {
        group.primary.shrink_to_fit();
        group.secondary.shrink_to_fit();
    }
    hosted
}

/// The instances with the disks that queries find, and all these lists in one.
///
/// The reference fetches the disks by the instance's uuid field, as if it were a name that somebody asked for.
fn instances(
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
            let uuid = unescaped(text, instance.uuid);
            prereq_error_text("Instance name", &uuid, why.words())
        })?;
        own[found].clone().map_err(|key| {
            let why = NotFound::Unknown.words();
            prereq_error_text("Disk uuid", &unescaped(text, key), why)
        })
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

/// Writes the DRBD minors of all nodes, in the order of instances, their disks, and the disks' trees.
fn minors<'t>(
    text: &'t [u8],
    by_uuid: &Index<'_>,
    nodes: &[Node],
    names: &Directory,
    instances: impl Iterator<Item = (&'t InstanceFields, &'t [u32])>,
    drbd: &[DrbdTree],
) -> Vec<Result<Vec<u8>, Box<str>>> {
    let mut written: Vec<Result<Vec<u8>, Box<str>>> =
        by_uuid.values().map(|_| Ok(b"[".to_vec())).collect();
    // The reference looks both nodes up by their uuids, as if these were names that somebody asked for.
    let look_up = |uuid: &[u8]| names.find(text, uuid).map(|node| nodes[node].name.of(text));
    let mut known: Vec<_> = by_uuid.values().map(|_| Err(NotFound::Unknown)).collect();
    for (uuid, &group) in by_uuid {
        known[group as usize] = look_up(uuid);
    }
    for (instance, disks) in instances {
        for (position, disk) in disks.iter().enumerate() {
            for Drbd {
                nodes: ends,
                groups,
                minors,
            } in &drbd[*disk as usize].all
            {
                // A node at both ends has only the first one's minor.
                let ends_count = if ends[0].of(text) == ends[1].of(text) {
                    1
                } else {
                    2
                };
                let name = |end: usize| {
                    let uuid = ends[end];
                    let found = groups[end]
                        .map_or_else(|| look_up(uuid.of(text)), |group| known[group as usize]);
                    found.map_err(|why| {
                        prereq_error_text("Node name", &unescaped(text, uuid), why.words())
                    })
                };
                for (end, peer) in [(0, 1), (1, 0)].into_iter().take(ends_count) {
                    let Some(group) = groups[end].map(|group| group as usize) else {
                        continue;
                    };
                    let Ok(out) = &mut written[group] else {
                        continue;
                    };
                    match (name(end), name(peer)) {
                        (Ok(node), Ok(peer)) => {
                            let minor = Minor {
                                node,
                                minor: minors[end].of(text),
                                position,
                                peer,
                            };
                            minor.write(text, instance, ends[end], out);
                        }
                        (Err(why), _) | (_, Err(why)) => written[group] = Err(why),
                    }
                }
            }
        }
    }
    for out in written.iter_mut().flatten() {
        out.push(b']');
        out.shrink_to_fit();
    }
    written
}

/// One DRBD minor of a node.
struct Minor<'t> {
    node: &'t [u8],
    minor: &'t [u8],
    /// Of the disk in its instance.
    position: usize,
    peer: &'t [u8],
}

impl Minor<'_> {
    /// Appends `[node name, minor, instance name, "disk/N", role, peer name]`; `uuid` is the node's.
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

/// Every address of every NIC, in map order; `None` without a default link, if there is any address. The reference looks the
/// default up for every address, also for one that has a link of its own.
fn registrations(
    text: &[u8],
    instances: &[InstanceFields],
    default_link: Option<Span>,
    nodes: &Directory,
) -> Option<Vec<Registration>> {
    // The reference registers the instance's name, and looks for the first instance of that name afterwards.
    let mut first_named = Index::default();
    for (index, instance) in instances.iter().enumerate() {
        if let Some(name) = instance.name {
            first_named.entry(name.of(text)).or_insert(index as u32);
        }
    }
    let node_of = |instance: &InstanceFields| {
        let registered = instance.name.unwrap_or(instance.uuid);
        let found = &instances[*first_named.get(registered.of(text))? as usize];
        nodes
            .find(text, found.primary_node?.of(text))
            .ok()
            .map(|node| node as u32)
    };
    let mut registrations = Vec::new();
    for instance in instances {
        let mut node = None;
        for nic in text::elements(text, instance.nics.start as usize) {
            let [ip, nicparams] = fields(text, Span::new(nic), ["ip", "nicparams"]);
            let Some(ip) = ip else { continue };
            let default_link = default_link?;
            let link =
                nicparams.and_then(|params| text::member(text, params.start as usize, b"link"));
            registrations.push(Registration {
                link: link.map_or(default_link, |link| Span::new(link).unquoted()),
                ip: ip.unquoted(),
                node: *node.get_or_insert_with(|| node_of(instance)),
            });
        }
    }
    Some(registrations)
}

impl ReadyAnswers {
    fn new(
        document: &Document,
        serial: Span,
        nodes: &[Node],
        master: &Result<usize, UnknownMaster>,
    ) -> Self {
        let text = document.text();
        let serial = serial.of(text);
        let cluster_master = match master {
            Ok(master) => {
                ReadyAnswer::new(Status::Ok, nodes[*master].name.quoted().of(text), serial)
            }
            Err(missing) => ReadyAnswer::error(&failure(&missing.name, missing.why)),
        };
        let pip_list = |wanted: &dyn Fn(usize) -> bool| {
            let mut list = b"[".to_vec();
            for node in (0..nodes.len()).rev().filter(|&node| wanted(node)) {
                if list.len() > 1 {
                    list.push(b',');
                }
                list.extend_from_slice(nodes[node].primary_ip.of(text));
            }
            list.push(b']');
            ReadyAnswer::new(Status::Ok, &list, serial)
        };
        let entries = document.entries(Section::Nodes);
        let is_candidate = |node: usize| {
            let flag = document.member(entries[node].value.start as usize, b"master_candidate");
            expect_field(flag).of(text) == b"true"
        };
        Self {
            ping: ReadyAnswer::new(
                Status::Ok,
                document.mandatory(&["version"]).of(text),
                NO_SERIAL,
            ),
            cluster_master,
            node_pip_list: pip_list(&|_| true),
            mc_pip_list: pip_list(&is_candidate),
            data_collectors: ReadyAnswer::new(Status::Ok, &data_collectors(document), serial),
        }
    }

    fn bytes(&self) -> usize {
        let all = [
            &self.ping,
            &self.cluster_master,
            &self.node_pip_list,
            &self.mc_pip_list,
            &self.data_collectors,
        ];
        all.iter().map(|ready| ready.bytes()).sum()
    }
}

/// The reference's text for an administrator when a node that a query needs is not there.
fn failure(name: &str, why: NotFound) -> String {
    [FAILURE, name, " ", why.words()].concat()
}

/// What [`failure`] starts with.
pub(super) const FAILURE: &str = "Failure: prerequisites not met for this operation:\n\
    error type: ECodeNoEnt, error details:\nNode name ";

/// The six data collectors that the reference knows, as its answer lists them.
fn data_collectors(document: &Document) -> Vec<u8> {
    const NAMES: [&str; 6] = [
        "cpu-avg-load",
        "diskstats",
        "drbd",
        "inst-status-xen",
        "lv",
        "xen-cpu-avg-load",
    ];
    const XEN_STATUS: &str = "inst-status-xen";
    let text = document.text();
    let hypervisors = document.mandatory(&["cluster", "enabled_hypervisors"]);
    let has_xen = text::elements(text, hypervisors.start as usize)
        .any(|name| matches!(&text[name], b"\"xen-pvm\"" | b"\"xen-hvm\""));
    let mut json = b"{".to_vec();
    for name in NAMES {
        let value = |key, default: &'static [u8]| {
            let value = document.find(&["cluster", "data_collectors", name, key]);
            value.map_or(default, |value| value.of(text))
        };
        let active = value("active", b"true") == b"true" && (name != XEN_STATUS || has_xen);
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(
            format!("\"{name}\":{{\"active\":{active},\"interval\":").as_bytes(),
        );
        json.extend_from_slice(value("interval", b"5000000"));
        json.push(b'}');
    }
    json.push(b'}');
    json
}

//! The simulation's model of a cluster: plain maps, from which both `config.data` and the answer to
//! every question are written. It shares no code with the daemon.
//!
//! Every value that a question can return names its cluster's generation, so that an answer that
//! mixes two generations equals the model's answer for neither.
//!
//! Source: the reference's queries (`Ganeti.Confd.Server`) and name lookup (`Ganeti.Config`).

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde_json::{Value, json};

use properties::generate::values::pick;

const NODES_MAX: usize = 5;
const INSTANCES_MAX: usize = 5;
/// Changes from one generation to the next, and before the first.
const CHANGES_MAX: usize = 12;
/// The cluster's default link, and another.
const LINKS: [&str; 2] = ["br0", "br1"];
/// Few addresses, so that instances sometimes share one.
const IPS: [&str; 6] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.10",
    "fe80::1",
    "fe80::2",
];
const NEVER: [&str; 6] = [
    "",
    "node",
    "node1.",
    "nod",
    "NODE1.a.example",
    "instance9.x",
];

/// An inner message: status, answer as JSON text, serial.
pub(super) type Answer = (u8, String, u64);

#[derive(Clone, Debug)]
struct Node {
    name: String,
    candidate: bool,
    offline: bool,
    drained: bool,
    serial: u64,
}

#[derive(Clone, Debug)]
struct Instance {
    name: String,
    /// A node's key; the node may no longer exist.
    primary: String,
    /// The nodes of its DRBD disk.
    drbd: Option<[String; 2]>,
    link: Option<&'static str>,
    ip: Option<&'static str>,
    serial: u64,
}

/// One generation of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    generation: u64,
    nodes: BTreeMap<String, Node>,
    instances: BTreeMap<String, Instance>,
    /// A node's key.
    master: String,
    xen: bool,
}

/// A question, as the protocol's type and query.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) kind: u8,
    pub(super) query: Query,
}

#[derive(Clone, Debug)]
pub(super) enum Query {
    Empty,
    Plain(String),
    Dict {
        link: Option<String>,
        ip: Option<String>,
        ips: Vec<String>,
        fields: Vec<u8>,
    },
}

fn node_key(number: usize) -> String {
    format!("n{number}-key")
}

/// Some names have the same abbreviation.
fn node_name(number: usize) -> String {
    format!("node{}.{}.example", number / 2, ["a", "b"][number % 2])
}

fn instance_key(number: usize) -> String {
    format!("i{number}-key")
}

fn instance_name(number: usize) -> String {
    format!("instance{}.{}.example", number / 2, ["a", "b"][number % 2])
}

impl Cluster {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut cluster = Self {
            generation: 1,
            nodes: BTreeMap::new(),
            instances: BTreeMap::new(),
            master: node_key(0),
            xen: false,
        };
        for _ in 0..CHANGES_MAX {
            cluster.change(rng);
        }
        cluster
    }

    /// The next generation: objects are added, removed or changed; perhaps only the serial changes.
    pub(super) fn advance(&mut self, rng: &mut Rng) {
        self.generation += 1;
        for _ in 0..rng.usize(..CHANGES_MAX) {
            self.change(rng);
        }
    }

    fn change(&mut self, rng: &mut Rng) {
        let serial = self.generation * 100 + rng.u64(..100);
        let node = rng.usize(..NODES_MAX);
        let instance = rng.usize(..INSTANCES_MAX);
        match rng.u8(..10) {
            0..=2 => {
                let [candidate, offline, drained] =
                    [rng.bool(), rng.u8(..4) == 0, rng.u8(..4) == 0];
                let changed = Node {
                    name: node_name(node),
                    candidate,
                    offline,
                    drained,
                    serial,
                };
                self.nodes.insert(node_key(node), changed);
            }
            3..=6 => {
                let any_node = |rng: &mut Rng| node_key(rng.usize(..NODES_MAX));
                let nodes = [any_node(rng), any_node(rng)];
                let changed = Instance {
                    name: instance_name(instance),
                    primary: nodes[rng.usize(..2)].clone(),
                    drbd: rng.bool().then_some(nodes),
                    link: rng.bool().then(|| pick(rng, &LINKS)),
                    ip: (rng.u8(..4) > 0).then(|| pick(rng, &IPS)),
                    serial,
                };
                self.instances.insert(instance_key(instance), changed);
            }
            7 => drop(self.nodes.remove(&node_key(node))),
            8 => drop(self.instances.remove(&instance_key(instance))),
            _ => {
                // Usually an existing node; a cluster without its master is served as well.
                let there: Vec<_> = self.nodes.keys().cloned().collect();
                self.master = match there.is_empty() || rng.u8(..8) == 0 {
                    true => node_key(node),
                    false => rng.choice(&there).expect("there is one").clone(),
                };
                self.xen = rng.bool();
            }
        }
    }

    fn tag(&self, what: &str) -> String {
        format!("{what}-g{}", self.generation)
    }

    fn primary_ip(&self, key: &str) -> String {
        self.tag(&format!("ip-of-{key}"))
    }

    fn master_ip(&self) -> String {
        self.tag("master-ip")
    }

    /// `config.data` with only what queries need. No text in it needs an escape.
    pub(super) fn text(&self) -> String {
        fn entries<'a>(
            keys: impl Iterator<Item = &'a String>,
            value: impl Fn(&str) -> String,
        ) -> String {
            let each: Vec<_> = keys
                .map(|key| format!("\"{key}\":{}", value(key)))
                .collect();
            each.join(",")
        }
        let instances = || self.instances.keys();
        format!(
            concat!(
                r#"{{"version":3000000,"cluster":{{"master_node":"{master}","master_ip":"{master_ip}","#,
                r#""enabled_hypervisors":["{hypervisor}"],"nicparams":{{"default":{{"link":"{link}"}}}},"#,
                r#""data_collectors":{{"lv":{{"active":false,"interval":{generation}}}}},"#,
                r#""serial_no":{generation},"tags":["{tag}"]}},"nodes":{{{nodes}}},"nodegroups":{{}},"#,
                r#""instances":{{{instances}}},"networks":{{}},"disks":{{{disks}}},"filters":{{}},"#,
                r#""serial_no":{generation}}}"#,
            ),
            master = self.master,
            master_ip = self.master_ip(),
            hypervisor = if self.xen { "xen-pvm" } else { "kvm" },
            link = LINKS[0],
            generation = self.generation,
            tag = self.tag("tag"),
            nodes = entries(self.nodes.keys(), |key| self.node(key)),
            instances = entries(instances(), |key| self.instance(key)),
            disks = entries(instances(), |key| self.disk(key)),
        )
    }

    fn node(&self, key: &str) -> String {
        let node = &self.nodes[key];
        format!(
            concat!(
                r#"{{"name":"{name}","primary_ip":"{primary_ip}","master_candidate":{candidate},"#,
                r#""offline":{offline},"drained":{drained},"uuid":"{key}","serial_no":{serial}}}"#,
            ),
            name = node.name,
            primary_ip = self.primary_ip(key),
            candidate = node.candidate,
            offline = node.offline,
            drained = node.drained,
            key = key,
            serial = node.serial,
        )
    }

    /// An instance in canonical form: keys in the order of `Ganeti.Objects`, defaults included.
    fn instance(&self, key: &str) -> String {
        let instance = &self.instances[key];
        let ip = instance.ip.map(|ip| format!(r#","ip":"{ip}""#));
        let link = instance.link.map(|link| format!(r#""link":"{link}""#));
        format!(
            concat!(
                r#"{{"name":"{name}","primary_node":"{primary}","hvparams":{{}},"beparams":{{}},"osparams":{{}},"#,
                r#""osparams_private":{{}},"nics":[{{"mac":"{mac}"{ip},"nicparams":{{{link}}}}}],"#,
                r#""disks":["{key}"],"ctime":0,"mtime":0,"uuid":"{key}","serial_no":{serial},"tags":["{tag}"]}}"#,
            ),
            name = instance.name,
            primary = instance.primary,
            mac = self.tag("mac"),
            ip = ip.unwrap_or_default(),
            link = link.unwrap_or_default(),
            key = key,
            serial = instance.serial,
            tag = self.tag("tag"),
        )
    }

    /// The instance's only disk, under the same key, in canonical form.
    fn disk(&self, key: &str) -> String {
        let (dev_type, logical_id) = match &self.instances[key].drbd {
            Some([a, b]) => {
                let [minor_a, minor_b] = minors_of(key);
                let secret = self.tag("secret");
                let id = format!(r#""{a}","{b}",11000,{minor_a},{minor_b},"{secret}""#);
                ("drbd", id)
            }
            None => ("plain", format!(r#""vg","{}""#, self.tag("volume"))),
        };
        format!(
            concat!(
                r#"{{"logical_id":[{logical_id}],"dev_type":"{dev_type}","children":[],"nodes":[],"#,
                r#""iv_name":"disk/0","mode":"rw","uuid":"{key}","ctime":0,"mtime":0}}"#,
            ),
            logical_id = logical_id,
            dev_type = dev_type,
            key = key,
        )
    }

    /// The answer to `question`.
    pub(super) fn answer(&self, question: &Question) -> Answer {
        let query = &question.query;
        match (question.kind, query) {
            (0, _) => (0, "3000000".to_owned(), 0),
            (1, Query::Plain(name)) => self.role(name),
            (2, Query::Dict { link, ip, ips, .. }) => self.pips_by_ip(link.as_deref(), ip, ips),
            (3, Query::Empty) => match self.find_node(&self.master) {
                Ok(key) => self.ok(json!(self.nodes[key].name)),
                Err(why) => failure(&self.master, why),
            },
            (3, Query::Dict { fields, .. }) => self.master_fields(fields),
            (2 | 3, _) => error(json!(2)),
            (4, _) => self.ok(self.pips(|_| true)),
            (5, _) => self.ok(self.pips(|node| node.candidate)),
            (6, Query::Empty) => self.ok(self.ips(LINKS[0])),
            (6, Query::Plain(link)) => self.ok(self.ips(link)),
            (6, Query::Dict { .. }) => error(json!("Invalid query type")),
            (7, Query::Plain(name)) => self.minors(name),
            (8, Query::Plain(name)) => self.hosted(name),
            (9, Query::Plain(name)) => match self.find_instance(name) {
                Ok(key) => (
                    0,
                    format!("[{}]", self.disk(key)),
                    self.instances[key].serial,
                ),
                Err(why) => not_found(
                    "Instance not found in the configuration: ",
                    "Instance",
                    name,
                    why,
                ),
            },
            (10, Query::Plain(path)) => match self.value_at(path) {
                Some(value) => (0, value, self.generation),
                None => error(json!(2)),
            },
            (11, _) => self.ok(self.collectors()),
            (_, Query::Empty) => error(json!("Invalid query type EmptyQuery")),
            (_, Query::Dict { .. }) => error(json!(shown(query))),
            (kind, _) => unreachable!("there is no type {kind}"),
        }
    }

    fn ok(&self, answer: Value) -> Answer {
        (0, answer.to_string(), self.generation)
    }

    fn find_node(&self, name: &str) -> Result<&str, &'static str> {
        let names = self.nodes.iter().map(|(key, node)| (&**key, &*node.name));
        find(names, name)
    }

    fn find_instance(&self, name: &str) -> Result<&str, &'static str> {
        let names = self.instances.iter();
        find(names.map(|(key, instance)| (&**key, &*instance.name)), name)
    }

    fn role(&self, name: &str) -> Answer {
        let master = match self.find_node(&self.master) {
            Ok(key) => key,
            Err(why) => return failure(&self.master, why),
        };
        let key = match self.find_node(name) {
            Ok(key) => key,
            Err(why) => return failure(name, why),
        };
        let node = &self.nodes[key];
        let role = match node {
            _ if self.nodes[master].name == name => 0,
            Node { drained: true, .. } => 3,
            Node { offline: true, .. } => 2,
            Node {
                candidate: true, ..
            } => 1,
            _ => 4,
        };
        self.ok(json!(role))
    }

    /// The last instance that has `ip` on `link`.
    fn holder(&self, link: &str, ip: &str) -> Option<&Instance> {
        self.instances
            .values()
            .rfind(|instance| instance.ip == Some(ip) && instance.link.unwrap_or(LINKS[0]) == link)
    }

    fn pips_by_ip(&self, link: Option<&str>, ip: &Option<String>, ips: &[String]) -> Answer {
        let find = |ip: &str| {
            let holder = self.holder(link.unwrap_or(LINKS[0]), ip)?;
            let node = self.find_node(&holder.primary).ok()?;
            Some(self.primary_ip(node))
        };
        if let Some(ip) = ip {
            return match find(ip) {
                Some(primary_ip) => self.ok(json!(primary_ip)),
                None => error(json!(0)),
            };
        }
        let each = ips.iter().map(|ip| match find(ip) {
            Some(primary_ip) => json!([0, primary_ip, self.generation]),
            None => json!([1, 0, 0]),
        });
        self.ok(each.collect())
    }

    fn master_fields(&self, fields: &[u8]) -> Answer {
        let key = match self.find_node(&self.master) {
            Ok(key) => key,
            Err(why) => return not_found("", "Node", &self.master, why),
        };
        let each = fields.iter().map(|field| match field {
            0 => json!(self.nodes[key].name),
            1 => json!(self.master_ip()),
            _ => json!(self.primary_ip(key)),
        });
        self.ok(each.collect())
    }

    fn pips(&self, which: impl Fn(&Node) -> bool) -> Value {
        let nodes = self.nodes.iter().rev().filter(|(_, node)| which(node));
        nodes.map(|(key, _)| json!(self.primary_ip(key))).collect()
    }

    fn ips(&self, link: &str) -> Value {
        let there = self.instances.values();
        let on_link = there.filter(|instance| instance.link.unwrap_or(LINKS[0]) == link);
        let ips: BTreeSet<_> = on_link.filter_map(|instance| instance.ip).collect();
        json!(ips)
    }

    fn minors(&self, name: &str) -> Answer {
        let key = match self.find_node(name) {
            Ok(key) => key,
            Err(why) => return not_found("", "Node", name, why),
        };
        let mut minors = Vec::new();
        for (instance_key, instance) in &self.instances {
            let [minor_a, minor_b] = minors_of(instance_key);
            let Some([a, b]) = &instance.drbd else {
                continue;
            };
            let (minor, peer) = match (a == key, b == key) {
                (true, _) => (minor_a, b),
                (false, true) => (minor_b, a),
                _ => continue,
            };
            let peer = match self.find_node(peer) {
                Ok(peer) => &self.nodes[peer].name,
                Err(why) => return not_found("", "Node", peer, why),
            };
            let role = if instance.primary == key {
                "primary"
            } else {
                "secondary"
            };
            minors.push(json!([
                self.nodes[key].name,
                minor,
                instance.name,
                "disk/0",
                role,
                peer
            ]));
        }
        (0, json!(minors).to_string(), self.nodes[key].serial)
    }

    fn hosted(&self, name: &str) -> Answer {
        let key = match self.find_node(name) {
            Ok(key) => key,
            Err(why) => {
                return not_found("Node not found in the configuration: ", "Node", name, why);
            }
        };
        let is_secondary = |instance: &Instance| match &instance.drbd {
            Some([a, b]) => key == if instance.primary == *a { b } else { a },
            None => false,
        };
        let which = |is: &dyn Fn(&Instance) -> bool| {
            let there = self.instances.iter().filter(|(_, instance)| is(instance));
            let texts: Vec<_> = there.map(|(key, _)| self.instance(key)).collect();
            texts.join(",")
        };
        let primary = which(&|instance| instance.primary == key);
        let answer = format!("[[{primary}],[{}]]", which(&is_secondary));
        (0, answer, self.nodes[key].serial)
    }

    /// The value at one of the paths of [`any_path`].
    fn value_at(&self, path: &str) -> Option<String> {
        let tokens: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        let tag = json!(self.tag("tag"));
        let value = match tokens[..] {
            ["serial_no"] | ["cluster", "serial_no"] => json!(self.generation),
            ["cluster", "master_node"] => json!(self.master),
            ["cluster", "tags"] => json!([tag]),
            ["cluster", "tags", "0"] => tag,
            ["nodes", key, "primary_ip"] if self.nodes.contains_key(key) => {
                json!(self.primary_ip(key))
            }
            ["instances", key] if self.instances.contains_key(key) => {
                return Some(self.instance(key));
            }
            ["disks", key] if self.instances.contains_key(key) => return Some(self.disk(key)),
            _ => return None,
        };
        Some(value.to_string())
    }

    fn collectors(&self) -> Value {
        let usual = json!({"active": true, "interval": 5_000_000});
        json!({
            "cpu-avg-load": usual,
            "diskstats": usual,
            "drbd": usual,
            "inst-status-xen": {"active": self.xen, "interval": 5_000_000},
            "lv": {"active": false, "interval": self.generation},
            "xen-cpu-avg-load": usual,
        })
    }
}

/// The minors of an instance's DRBD disk on its two nodes.
fn minors_of(key: &str) -> [u64; 2] {
    let number = key.bytes().map(u64::from).sum();
    [number, number + 1]
}

/// The key of the object that `name` refers to: a key, a name, or a name's unique prefix up to a
/// dot.
fn find<'a>(
    names: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    name: &str,
) -> Result<&'a str, &'static str> {
    let exact = names
        .clone()
        .find(|(key, _)| *key == name)
        .or_else(|| names.clone().find(|(_, known)| *known == name));
    if let Some((key, _)) = exact {
        return Ok(key);
    }
    let beginning = format!("{name}.");
    let partial: Vec<_> = names
        .filter(|(_, known)| known.starts_with(&beginning))
        .collect();
    match partial[..] {
        [] => Err("not found"),
        [(key, _)] => Ok(key),
        _ => Err("has multiple matches"),
    }
}

fn error(answer: Value) -> Answer {
    (1, answer.to_string(), 0)
}

fn failure(name: &str, why: &str) -> Answer {
    error(json!(format!(
        "Failure: prerequisites not met for this operation:\n\
         error type: ECodeNoEnt, error details:\nNode name {name} {why}"
    )))
}

fn not_found(before: &str, what: &str, name: &str, why: &str) -> Answer {
    error(json!(format!(
        "{before}OpPrereqError \"{what} name {name} {why}\" ECodeNoEnt"
    )))
}

/// An object query in place of a string, in Haskell's `show` format.
fn shown(query: &Query) -> String {
    let Query::Dict {
        link,
        ip,
        ips,
        fields,
    } = query
    else {
        unreachable!("only objects are shown");
    };
    let maybe = |text: &Option<String>| match text {
        Some(text) => format!("Just \"{text}\""),
        None => "Nothing".to_owned(),
    };
    let ips: Vec<_> = ips.iter().map(|ip| format!("\"{ip}\"")).collect();
    let names = ["ReqFieldName", "ReqFieldIp", "ReqFieldMNodePip"];
    let fields: Vec<_> = fields
        .iter()
        .map(|&field| names[usize::from(field)])
        .collect();
    format!(
        "Invalid query type DictQuery (ConfdReqQ {{confdReqQIp = {}, confdReqQIpList = [{}], \
         confdReqQLink = {}, confdReqQFields = [{}]}})",
        maybe(ip),
        ips.join(","),
        maybe(link),
        fields.join(","),
    )
}

impl Question {
    /// A question about an object that exists, existed, will exist or never does.
    pub(super) fn any(rng: &mut Rng) -> Self {
        let kind = rng.u8(..12);
        let query = match rng.u8(..8) {
            0 => Query::Empty,
            1 => any_dict(rng),
            _ => match kind {
                2 | 3 => any_dict(rng),
                6 => Query::Plain(pick(rng, &["br0", "br1", "br2", ""]).to_owned()),
                10 => Query::Plain(any_path(rng)),
                0 | 4 | 5 | 11 => Query::Empty,
                9 => Query::Plain(any_name(rng, instance_key, instance_name)),
                _ => Query::Plain(any_name(rng, node_key, node_name)),
            },
        };
        Self { kind, query }
    }

    /// The inner message of a request.
    pub(super) fn message(&self, rsalt: &str) -> Value {
        let mut message = json!({"protocol": 1, "type": self.kind, "rsalt": rsalt});
        message["query"] = match &self.query {
            Query::Empty => Value::Null,
            Query::Plain(text) => json!(text),
            Query::Dict {
                link,
                ip,
                ips,
                fields,
            } => {
                json!({"0": link, "1": ip, "2": ips, "3": fields})
            }
        };
        message
    }
}

fn any_name(rng: &mut Rng, key: fn(usize) -> String, name: fn(usize) -> String) -> String {
    let number = rng.usize(..NODES_MAX.max(INSTANCES_MAX) + 1);
    match rng.u8(..8) {
        0 => pick(rng, &NEVER).to_owned(),
        1 => key(number),
        2 | 3 => {
            let name = name(number);
            let dots: Vec<_> = name.match_indices('.').collect();
            name[..pick(rng, &dots).0].to_owned()
        }
        _ => name(number),
    }
}

fn any_dict(rng: &mut Rng) -> Query {
    let link = rng
        .bool()
        .then(|| pick(rng, &["br0", "br1", "br2"]).to_owned());
    let ip = rng.bool().then(|| pick(rng, &IPS).to_owned());
    let ips = (0..rng.usize(..4)).map(|_| pick(rng, &IPS).to_owned());
    Query::Dict {
        link,
        ip,
        ips: ips.collect(),
        fields: (0..rng.usize(..4)).map(|_| rng.u8(..3)).collect(),
    }
}

fn any_path(rng: &mut Rng) -> String {
    let node = node_key(rng.usize(..NODES_MAX));
    let instance = instance_key(rng.usize(..INSTANCES_MAX));
    let paths = [
        "/serial_no".to_owned(),
        "/cluster/serial_no".to_owned(),
        "/cluster/master_node".to_owned(),
        "/cluster/tags".to_owned(),
        "/cluster/tags/0".to_owned(),
        "/cluster/tags/1".to_owned(),
        "cluster".to_owned(),
        "/cluster/nothing".to_owned(),
        format!("/nodes/{node}/primary_ip"),
        format!("/instances/{instance}"),
        format!("/disks/{instance}"),
    ];
    rng.choice(&paths).expect("there are some").clone()
}

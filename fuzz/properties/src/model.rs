//! A second, slow implementation of the twelve queries, which scans the whole printed configuration
//! for each.
//!
//! It takes values as the daemon prints them, so it does not model defaults. It models which
//! objects a name refers to, in which order they are listed, and the answers when there are none.
//! It was written from the protocol and the reference daemon, not from `snapshot`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::reference_parser::{Dict, Query};

/// Status, answer and serial.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// 0, or 1 for an error.
    pub status: u8,
    /// As JSON.
    pub answer: String,
    /// As JSON.
    pub serial: String,
}

/// A printed object, with its key.
#[derive(Debug)]
struct Object {
    key: String,
    text: String,
    fields: Value,
}

/// A printed configuration.
#[derive(Debug)]
pub struct Cluster {
    version: String,
    fields: Value,
    collectors: BTreeMap<String, Collector>,
    nodes: Vec<Object>,
    instances: Vec<Object>,
    disks: Vec<Object>,
}

/// The entries of `cluster.data_collectors`.
#[derive(Debug, serde::Deserialize)]
struct Collector {
    active: bool,
    interval: Box<RawValue>,
}

/// The parts of `cluster` that are needed as text.
#[derive(serde::Deserialize)]
struct Raw {
    #[serde(default)]
    data_collectors: BTreeMap<String, Collector>,
}

/// Why a name refers to no object.
type NotFound = &'static str;

impl Object {
    fn text(&self, field: &str) -> Option<&str> {
        self.fields[field].as_str()
    }

    fn name(&self) -> &str {
        self.text("name").unwrap_or_default()
    }

    fn flag(&self, field: &str) -> bool {
        self.fields[field] == true
    }

    fn serial(&self) -> String {
        self.fields["serial_no"].to_string()
    }
}

impl Cluster {
    /// The configuration with the printed sections that `section` returns by name.
    pub fn new(section: impl Fn(&str) -> String) -> Self {
        let objects = |name: &str| {
            let objects: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(&section(name)).expect("sections are objects");
            let object = |(key, text): (String, Box<RawValue>)| Object {
                key,
                fields: parsed(text.get()),
                text: text.get().to_owned(),
            };
            objects.into_iter().map(object).collect()
        };
        let Raw { data_collectors } =
            serde_json::from_str(&section("cluster")).expect("printed values are JSON");
        Self {
            version: section("version"),
            collectors: data_collectors,
            fields: parsed(&section("cluster")),
            nodes: objects("nodes"),
            instances: objects("instances"),
            disks: objects("disks"),
        }
    }

    /// Arguments for queries: names, keys, addresses, links and prefixes of names.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![String::new(), "no-such-name".to_owned()];
        for object in self.nodes.iter().chain(&self.instances) {
            words.push(object.key.clone());
            for field in ["name", "uuid", "primary_ip", "primary_node"] {
                let text = object.text(field).unwrap_or_default();
                words.push(text.to_owned());
                words.extend(text.split_once('.').map(|(first, _)| first.to_owned()));
            }
        }
        for nic in self.instances.iter().flat_map(nics) {
            words.extend(nic["ip"].as_str().map(str::to_owned));
            words.extend(nic["nicparams"]["link"].as_str().map(str::to_owned));
        }
        words.extend(self.default_link().map(str::to_owned));
        words.sort();
        words.dedup();
        words
    }

    /// The questions with the longest answers: the instances and minors of each node, and all
    /// addresses on each link.
    pub fn thorough_questions(&self) -> Vec<(u8, Query)> {
        let on_nodes = self
            .nodes
            .iter()
            .flat_map(|node| [7, 8].map(|kind| (kind, Query::Plain(node.key.clone()))));
        let nics = || self.instances.iter().flat_map(nics);
        let texts = |text: &dyn Fn(&Value) -> Option<&str>| -> BTreeSet<String> {
            let there = nics().filter_map(|nic| text(nic).map(str::to_owned));
            there.collect()
        };
        let ips = texts(&|nic| nic["ip"].as_str());
        let links = texts(&|nic| nic["nicparams"]["link"].as_str());
        let on_links = links.into_iter().map(Some).chain([None]).map(|link| {
            let ips = ips.iter().cloned().collect();
            let dict = Dict {
                link,
                ips,
                ..Dict::default()
            };
            (2, Query::Dict(dict))
        });
        on_nodes.chain(on_links).collect()
    }

    /// The answer to a query of type `kind`, which must not be a path query.
    pub fn answer(&self, kind: u8, query: &Query) -> Answer {
        match (kind, query) {
            (0, _) => answered(self.version.clone(), "0".to_owned()),
            (1, Query::Plain(name)) => self.role(name),
            (2, Query::Dict(dict)) => self.pips_by_ip(dict),
            (3, Query::Empty) => match find(&self.nodes, self.master_node()) {
                Ok(master) => self.cluster(json!(master.name())),
                Err(why) => failure(self.master_node(), why),
            },
            (3, Query::Dict(dict)) => self.master_fields(dict),
            (2 | 3, _) => error(json!(2)),
            (4, _) => self.cluster(self.pips(|_| true)),
            (5, _) => self.cluster(self.pips(|node| node.flag("master_candidate"))),
            (6, Query::Empty) => self.ips(self.default_link()),
            (6, Query::Plain(link)) => self.ips(Some(link)),
            (6, Query::Dict(_)) => error(json!("Invalid query type")),
            (7, Query::Plain(name)) => self.minors(name),
            (8, Query::Plain(name)) => self.hosted(name),
            (9, Query::Plain(name)) => self.disks_of(name),
            (11, _) => answered(self.collectors(), self.serial()),
            (_, Query::Empty) => error(json!("Invalid query type EmptyQuery")),
            (_, Query::Dict(dict)) => error(json!(shown_query(dict))),
            (kind, Query::Plain(_)) => unreachable!("type {kind} is not modelled"),
        }
    }

    /// An answer with the cluster's serial.
    fn cluster(&self, answer: Value) -> Answer {
        answered(answer.to_string(), self.serial())
    }

    fn serial(&self) -> String {
        self.fields["serial_no"].to_string()
    }

    fn master_node(&self) -> &str {
        self.fields["master_node"].as_str().unwrap_or_default()
    }

    fn default_link(&self) -> Option<&str> {
        self.fields["nicparams"]["default"]["link"].as_str()
    }

    fn role(&self, name: &str) -> Answer {
        let master = match find(&self.nodes, self.master_node()) {
            Ok(master) => master,
            Err(why) => return failure(self.master_node(), why),
        };
        let node = match find(&self.nodes, name) {
            Ok(node) => node,
            Err(why) => return failure(name, why),
        };
        let role = if master.name() == name {
            0
        } else if node.flag("drained") {
            3
        } else if node.flag("offline") {
            2
        } else if node.flag("master_candidate") {
            1
        } else {
            4
        };
        self.cluster(json!(role))
    }

    /// The instance name by link and address, over all NICs that have an address; on duplicates the
    /// last in map order. `None` if the reference would look up a default link that does not exist.
    fn registered(&self) -> Option<BTreeMap<(&str, &str), &str>> {
        let mut registered = BTreeMap::new();
        for instance in &self.instances {
            for nic in nics(instance) {
                let Some(ip) = nic["ip"].as_str() else {
                    continue;
                };
                let own = nic["nicparams"]["link"].as_str();
                // The reference looks the default up even where it is not used.
                let link = self.default_link().map(|default| own.unwrap_or(default))?;
                let name = instance.text("name").or(instance.text("uuid"));
                registered.insert((link, ip), name.unwrap_or_default());
            }
        }
        Some(registered)
    }

    fn pips_by_ip(&self, dict: &Dict) -> Answer {
        if dict.ip.is_none() && dict.ips.is_empty() {
            return self.cluster(json!([]));
        }
        let link = dict.link.as_deref().or(self.default_link());
        let (Some(link), Some(registered)) = (link, self.registered()) else {
            return error(json!(1));
        };
        let find_pip = |ip: &String| {
            let name = registered.get(&(link, ip.as_str()))?;
            let is_named = |instance: &&Object| instance.text("name") == Some(name);
            let instance = self.instances.iter().find(is_named)?;
            let node = find(&self.nodes, instance.text("primary_node")?).ok()?;
            node.text("primary_ip")
        };
        if let Some(ip) = &dict.ip {
            return match find_pip(ip) {
                Some(pip) => self.cluster(json!(pip)),
                None => error(json!(0)),
            };
        }
        let each = dict.ips.iter().map(|ip| match find_pip(ip) {
            Some(pip) => json!([0, pip, self.fields["serial_no"]]),
            None => json!([1, 0, 0]),
        });
        self.cluster(each.collect())
    }

    fn master_fields(&self, dict: &Dict) -> Answer {
        let master = match find(&self.nodes, self.master_node()) {
            Ok(master) => master,
            Err(why) => return error(json!(no_entry("Node name", self.master_node(), why))),
        };
        let field = |field: &i64| match field {
            0 => json!(master.name()),
            1 => self.fields["master_ip"].clone(),
            _ => master.fields["primary_ip"].clone(),
        };
        self.cluster(dict.fields.iter().map(field).collect())
    }

    fn pips(&self, which: impl Fn(&Object) -> bool) -> Value {
        let nodes = self.nodes.iter().rev().filter(|node| which(node));
        nodes
            .map(|node| node.fields["primary_ip"].clone())
            .collect()
    }

    fn ips(&self, link: Option<&str>) -> Answer {
        let (Some(link), Some(registered)) = (link, self.registered()) else {
            return error(json!(1));
        };
        let on_link = registered.keys().filter(|(of, _)| *of == link);
        let ips: BTreeSet<_> = on_link.map(|(_, ip)| ip).collect();
        self.cluster(json!(ips))
    }

    fn disk(&self, key: &str) -> Option<&Object> {
        self.disks.iter().find(|disk| disk.key == key)
    }

    fn minors(&self, name: &str) -> Answer {
        let node = match find(&self.nodes, name) {
            Ok(node) => node,
            Err(why) => return error(json!(no_entry("Node name", name, why))),
        };
        let uuid = node.text("uuid").unwrap_or_default();
        let mut minors = Vec::new();
        for instance in &self.instances {
            // Either all of its disks or none.
            let Ok(same) = find(&self.instances, instance.text("uuid").unwrap_or_default()) else {
                continue;
            };
            let disks: Option<Vec<_>> = disk_keys(same).map(|key| self.disk(key)).collect();
            for (at, disk) in disks.into_iter().flatten().enumerate() {
                let mut found = Vec::new();
                drbd_on(&disk.fields, uuid, &mut found);
                for (minor, peer) in found {
                    // Both ends are looked up by what the disk contains: a `uuid` field, which may
                    // be the key or name of another node.
                    let [here, peer] = match [uuid, &peer].map(|name| find(&self.nodes, name)) {
                        [Ok(here), Ok(peer)] => [here.name(), peer.name()],
                        [Err(why), _] => return error(json!(no_entry("Node name", uuid, why))),
                        [_, Err(why)] => return error(json!(no_entry("Node name", &peer, why))),
                    };
                    let is_primary = instance.text("primary_node") == node.text("uuid");
                    let role = if is_primary { "primary" } else { "secondary" };
                    let disk = format!("disk/{at}");
                    minors.push(json!([here, minor, instance.name(), disk, role, peer]));
                }
            }
        }
        answered(json!(minors).to_string(), node.serial())
    }

    fn hosted(&self, name: &str) -> Answer {
        let node = match find(&self.nodes, name) {
            Ok(node) => node,
            Err(why) => {
                let why = no_entry("Node name", name, why);
                return error(json!(format!("Node not found in the configuration: {why}")));
            }
        };
        let uuid = node.text("uuid");
        let other_is_here = |primary: &str, disk: &Object| {
            let [a, b] = [0, 1].map(|at| disk.fields["logical_id"][at].as_str());
            disk.text("dev_type") == Some("drbd") && uuid == if a == Some(primary) { b } else { a }
        };
        let is_secondary = |instance: &Object| {
            let Some(primary) = instance.text("primary_node") else {
                return false;
            };
            let mut disks = disk_keys(instance).filter_map(|key| self.disk(key));
            disks.any(|disk| other_is_here(primary, disk))
        };
        let list = |which: &dyn Fn(&Object) -> bool| {
            let there = self.instances.iter().filter(|instance| which(instance));
            there
                .map(|instance| instance.text.as_str())
                .collect::<Vec<_>>()
                .join(",")
        };
        let primary = list(&|instance| instance.text("primary_node") == uuid);
        let secondary = list(&is_secondary);
        answered(format!("[[{primary}],[{secondary}]]"), node.serial())
    }

    fn disks_of(&self, name: &str) -> Answer {
        let instance = match find(&self.instances, name) {
            Ok(instance) => instance,
            Err(why) => {
                let why = no_entry("Instance name", name, why);
                return error(json!(format!(
                    "Instance not found in the configuration: {why}"
                )));
            }
        };
        let lost = |why: String| error(json!(format!("Could not retrieve disks: {why}")));
        let uuid = instance.text("uuid").unwrap_or_default();
        let same = match find(&self.instances, uuid) {
            Ok(same) => same,
            Err(why) => return lost(no_entry("Instance name", uuid, why)),
        };
        let mut texts = Vec::new();
        for key in disk_keys(same) {
            match self.disk(key) {
                Some(disk) => texts.push(disk.text.as_str()),
                None => return lost(no_entry("Disk uuid", key, "not found")),
            }
        }
        answered(format!("[{}]", texts.join(",")), instance.serial())
    }

    /// As text, because the numbers may have any size.
    fn collectors(&self) -> String {
        const NAMES: [&str; 6] = [
            "cpu-avg-load",
            "diskstats",
            "drbd",
            "inst-status-xen",
            "lv",
            "xen-cpu-avg-load",
        ];
        let hypervisors = self.fields["enabled_hypervisors"].as_array();
        let has_xen = hypervisors
            .is_some_and(|all| all.iter().any(|one| one == "xen-pvm" || one == "xen-hvm"));
        let each = NAMES.map(|name| {
            let (active, interval) = match self.collectors.get(name) {
                Some(collector) => (collector.active, collector.interval.get()),
                None => (true, "5000000"),
            };
            let active = active && (name != "inst-status-xen" || has_xen);
            format!(r#""{name}":{{"active":{active},"interval":{interval}}}"#)
        });
        format!("{{{}}}", each.join(","))
    }
}

/// Parses printed JSON. Numbers beyond the range of doubles, which serde_json rejects, become null:
/// no query uses them.
pub(crate) fn parsed(text: &str) -> Value {
    let is_number = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
    let mut finite = String::new();
    // Splits at quotes that no backslash escapes.
    for (at, piece) in text
        .replace("\\\\", "\u{1}")
        .replace("\\\"", "\u{2}")
        .split('"')
        .enumerate()
    {
        if at > 0 {
            finite.push('"');
        }
        if at % 2 == 1 {
            finite.push_str(piece);
            continue;
        }
        for word in piece.split_inclusive(|c| !is_number(c)) {
            let number = word.trim_end_matches(|c| !is_number(c));
            if number.is_empty() || serde_json::from_str::<Value>(number).is_ok() {
                finite.push_str(word);
            } else {
                finite.push_str("null");
                finite.push_str(&word[number.len()..]);
            }
        }
    }
    let text = finite.replace('\u{2}', "\\\"").replace('\u{1}', "\\\\");
    serde_json::from_str(&text).expect("printed values are JSON")
}

/// The object that `name` refers to: its key, its name, or a name's unique prefix up to a dot. Of
/// several objects with the same name only the last is found; an instance without a name cannot be
/// found by name.
fn find<'a>(objects: &'a [Object], name: &str) -> Result<&'a Object, NotFound> {
    if let Some(object) = objects.iter().find(|object| object.key == name) {
        return Ok(object);
    }
    let has_name = |object: &&Object| {
        let is_instance = object.fields.get("primary_ip").is_none();
        object
            .text("name")
            .is_some_and(|name| !is_instance || !name.is_empty())
    };
    let named = objects.iter().filter(has_name);
    let by_name: BTreeMap<_, _> = named.map(|object| (object.name(), object)).collect();
    if let Some(object) = by_name.get(name) {
        return Ok(object);
    }
    let beginning = format!("{name}.");
    let partial = by_name
        .iter()
        .filter(|(known, _)| known.starts_with(&beginning));
    match partial.map(|(_, object)| *object).collect::<Vec<_>>()[..] {
        [] => Err("not found"),
        [object] => Ok(object),
        _ => Err("has multiple matches"),
    }
}

fn nics(instance: &Object) -> impl Iterator<Item = &Value> {
    instance.fields["nics"].as_array().into_iter().flatten()
}

fn disk_keys(instance: &Object) -> impl Iterator<Item = &str> {
    let keys = instance.fields["disks"].as_array().into_iter().flatten();
    keys.filter_map(Value::as_str)
}

/// Minor and peer of `disk`, and of its children, on the node `uuid`.
fn drbd_on(disk: &Value, uuid: &str, found: &mut Vec<(Value, String)>) {
    let id = &disk["logical_id"];
    if disk["dev_type"] == "drbd" {
        let peer = |at: usize| id[at].as_str().unwrap_or_default().to_owned();
        if id[0] == uuid {
            found.push((id[3].clone(), peer(1)));
        } else if id[1] == uuid {
            found.push((id[4].clone(), peer(0)));
        }
    }
    for child in disk["children"].as_array().into_iter().flatten() {
        drbd_on(child, uuid, found);
    }
}

fn answered(answer: String, serial: String) -> Answer {
    Answer {
        status: 0,
        answer,
        serial,
    }
}

fn error(answer: Value) -> Answer {
    Answer {
        status: 1,
        answer: answer.to_string(),
        serial: "0".to_owned(),
    }
}

fn failure(name: &str, why: NotFound) -> Answer {
    error(json!(format!(
        "Failure: prerequisites not met for this operation:\n\
         error type: ECodeNoEnt, error details:\nNode name {name} {why}"
    )))
}

fn no_entry(what: &str, name: &str, why: NotFound) -> String {
    let shown = shown(&format!("{what} {name} {why}"));
    format!("OpPrereqError {shown} ECodeNoEnt")
}

/// A text in Haskell's `show` format.
fn shown(text: &str) -> String {
    const CONTROLS: [&str; 32] = [
        "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "a", "b", "t", "n", "v", "f", "r", "SO",
        "SI", "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC",
        "FS", "GS", "RS", "US",
    ];
    let mut out = String::from("\"");
    let mut before = None;
    for c in text.chars() {
        // `\\&` separates an escape from a digit that could be read as part of it.
        let digit_after_code = before.is_some_and(|c| c > '\u{7f}') && c.is_ascii_digit();
        if digit_after_code || (before == Some('\u{e}') && c == 'H') {
            out.push_str("\\&");
        }
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{7f}' => out.push_str("\\DEL"),
            '\0'..' ' => {
                write!(out, "\\{}", CONTROLS[c as usize]).expect("writing to a string cannot fail")
            }
            ' '..'\u{7f}' => out.push(c),
            _ => write!(out, "\\{}", u32::from(c)).expect("writing to a string cannot fail"),
        }
        before = Some(c);
    }
    out.push('"');
    out
}

/// An object query in place of a string, in Haskell's `show` format.
fn shown_query(dict: &Dict) -> String {
    let maybe = |text: &Option<String>| match text {
        Some(text) => format!("Just {}", shown(text)),
        None => "Nothing".to_owned(),
    };
    let ips: Vec<_> = dict.ips.iter().map(|ip| shown(ip)).collect();
    let field = |field: &i64| ["ReqFieldName", "ReqFieldIp", "ReqFieldMNodePip"][*field as usize];
    let fields: Vec<_> = dict.fields.iter().map(field).collect();
    format!(
        "Invalid query type DictQuery (ConfdReqQ {{confdReqQIp = {}, confdReqQIpList = [{}], \
         confdReqQLink = {}, confdReqQFields = [{}]}})",
        maybe(&dict.ip),
        ips.join(","),
        maybe(&dict.link),
        fields.join(","),
    )
}

//! Generates a `config.data` of any size, in the form that `ganeti-wconfd` 3.0 writes.
//!
//! The text is a function of the arguments, so that two hosts can have the same cluster. Time and
//! memory are linear in its length, about 1.85 KB for each instance with its disks. Fields are in
//! the order of `Ganeti.Objects`, and maps in key order, as there. All addresses are private, and
//! all names end in `example.com`. It does no I/O.

use std::fmt::Write as _;

use super::cluster_fields;
use super::random::Random;

/// The number of nodes in a node group.
const GROUP_NODES: usize = 40;
/// The most master candidates, `candidate_pool_size`.
const CANDIDATES_MAX: usize = 10;
/// The most disks of an instance.
const INSTANCE_DISKS_MAX: usize = 2;
/// The earliest creation time in a sample cluster, 2023-11-14, in seconds since the epoch.
const CREATED_SECONDS: u64 = 1_700_000_000;

/// The name of a node of a sample cluster. Numbers start at 1; node 1 is the master.
pub fn node_name(number: usize) -> String {
    format!("node{number}.example.com")
}

/// The name of an instance of a sample cluster. Numbers start at 1.
pub fn instance_name(number: usize) -> String {
    format!("instance{number}.example.com")
}

/// Returns a `config.data` of `nodes` nodes (at least one) and `instances` instances.
///
/// Equal arguments result in equal texts.
pub fn configuration(nodes: usize, instances: usize, seed: u64) -> String {
    Cluster::new(nodes.max(1), instances, seed).write()
}

/// The values that several parts of the text contain, and the text so far.
struct Cluster {
    random: Random,
    nodes: Vec<Node>,
    groups: Vec<String>,
    networks: [String; 2],
    instances: usize,
    out: String,
}

struct Node {
    uuid: String,
    /// The next free DRBD minor.
    minor: usize,
}

/// The part of an instance that its disks depend on.
struct Placement {
    primary: usize,
    secondary: usize,
    template: Template,
    disks: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Template {
    Drbd,
    Plain,
    File,
    Rbd,
}

/// Appends formatted text to a `String`.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        write!($out, $($arg)*).expect("writing to a String cannot fail")
    };
}

impl Cluster {
    fn new(nodes: usize, instances: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let groups = nodes.div_ceil(GROUP_NODES);
        Self {
            nodes: (0..nodes)
                .map(|i| Node {
                    uuid: random.uuid(i, nodes),
                    minor: 0,
                })
                .collect(),
            groups: (0..groups).map(|i| random.uuid(i, groups)).collect(),
            networks: [random.uuid(0, 2), random.uuid(1, 2)],
            instances,
            out: String::with_capacity(16 * 1024 + nodes * 600 + instances * 2_100),
            random,
        }
    }

    fn write(mut self) -> String {
        self.out.push_str(r#"{"version":3000000,"cluster":"#);
        self.cluster();
        self.out.push_str(r#","nodes":{"#);
        self.each(self.nodes.len(), Self::node);
        self.out.push_str(r#"},"nodegroups":{"#);
        self.each(self.groups.len(), Self::group);
        self.out.push_str(r#"},"instances":{"#);
        let placements: Vec<_> = (0..self.instances).map(|i| self.place(i)).collect();
        for (i, placement) in placements.iter().enumerate() {
            self.comma(i);
            self.instance(i, placement);
        }
        self.out.push_str(r#"},"networks":{"#);
        self.each(2, Self::network);
        self.out.push_str(r#"},"disks":{"#);
        let mut count = 0;
        for placement in &placements {
            for (index, uuid) in placement.disks.iter().enumerate() {
                self.comma(count);
                self.disk(uuid, index, placement);
                count += 1;
            }
        }
        self.out.push_str(r#"},"filters":{"#);
        self.each(2, Self::filter);
        self.out.push_str("},");
        self.times();
        let serial = 1 + self.nodes.len() + 3 * self.instances;
        put!(self.out, r#","serial_no":{serial}}}"#);
        self.out
    }

    /// Writes `count` members of a map or list, with commas between them.
    fn each(&mut self, count: usize, member: fn(&mut Self, usize)) {
        for i in 0..count {
            self.comma(i);
            member(self, i);
        }
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.out.push(',');
        }
    }

    /// `ctime` and `mtime`, in seconds with microseconds.
    fn times(&mut self) {
        let created = CREATED_SECONDS + self.random.below(50_000_000);
        let changed = created + self.random.below(20_000_000);
        let micros = [self.random.below(1_000_000), self.random.below(1_000_000)];
        put!(
            self.out,
            r#""ctime":{created}.{:06},"mtime":{changed}.{:06}"#,
            micros[0],
            micros[1]
        );
    }

    fn candidates(&self) -> usize {
        self.nodes.len().div_ceil(5).min(CANDIDATES_MAX)
    }

    fn cluster(&mut self) {
        let uuid = self.random.uuid(0, 1);
        let master = self.nodes[0].uuid.clone();
        let highest_port = 11_000 + self.instances % 50_000;
        self.out
            .push_str(r#"{"rsahostkeypub":"AAAAB3NzaC1yc2EAAAADAQABAAABgQ","#);
        put!(
            self.out,
            r#""highest_used_port":{highest_port},"tcpudp_port_pool":[],"mac_prefix":"aa:00:00","#
        );
        self.out.push_str(
            r#""volume_group_name":"xenvg","reserved_lvs":[],"drbd_usermode_helper":"/bin/true","#,
        );
        put!(
            self.out,
            r#""master_node":"{master}","master_ip":"10.0.0.1","master_netdev":"eth0","master_netmask":32,"#
        );
        self.out.push_str(cluster_fields::MIDDLE);
        self.out.push_str(r#","candidate_certs":{"#);
        for i in 0..self.candidates() {
            self.comma(i);
            let digest = self.random.hex(40);
            put!(self.out, r#""{}":"{digest}""#, self.nodes[i].uuid);
        }
        self.out.push_str("},");
        self.out.push_str(cluster_fields::END);
        self.times();
        put!(
            self.out,
            r#","uuid":"{uuid}","serial_no":{},"tags":["demo"]}}"#,
            1 + self.nodes.len()
        );
    }

    fn node(&mut self, i: usize) {
        let uuid = &self.nodes[i].uuid;
        let group = &self.groups[i / GROUP_NODES];
        let name = node_name(i + 1);
        let (high, low) = (i / 250, i % 250 + 1);
        let candidate = i < self.candidates();
        // Every 25th node is offline and every 20th drained, except candidates.
        let offline = !candidate && i % 25 == 24;
        let drained = !candidate && !offline && i % 20 == 19;
        put!(
            self.out,
            r#""{uuid}":{{"name":"{name}","primary_ip":"10.1.{high}.{low}","secondary_ip":"10.2.{high}.{low}","#
        );
        put!(
            self.out,
            r#""master_candidate":{candidate},"offline":{offline},"drained":{drained},"group":"{group}","#
        );
        put!(
            self.out,
            r#""master_capable":true,"vm_capable":true,"ndparams":{{}},"powered":{},"#,
            !offline
        );
        let uuid = uuid.clone();
        self.times();
        let tags = if i.is_multiple_of(3) {
            r#""rack:a""#
        } else {
            ""
        };
        put!(
            self.out,
            r#","uuid":"{uuid}","serial_no":{},"tags":[{tags}]}}"#,
            1 + i % 7
        );
    }

    fn group(&mut self, i: usize) {
        let uuid = self.groups[i].clone();
        let name = match i {
            0 => "default".to_owned(),
            _ => format!("group{i}"),
        };
        put!(
            self.out,
            r#""{uuid}":{{"name":"{name}","members":[],"ndparams":{{}},"alloc_policy":"preferred","ipolicy":{{}},"#
        );
        put!(
            self.out,
            r#""diskparams":{{}},"networks":{{"{}":{{"mode":"bridged","link":"br1"}}}},"#,
            self.networks[1]
        );
        self.times();
        put!(self.out, r#","uuid":"{uuid}","serial_no":2,"tags":[]}}"#);
    }

    /// Chooses an instance's nodes and disks. Both nodes are in the same group.
    fn place(&mut self, i: usize) -> Placement {
        let primary = self.random.index(self.nodes.len());
        let first = primary / GROUP_NODES * GROUP_NODES;
        let peers = GROUP_NODES.min(self.nodes.len() - first);
        let step = 1 + self.random.index(peers.saturating_sub(1).max(1));
        let secondary = first + (primary - first + step) % peers;
        let template = match self.random.below(100) {
            0..80 if peers > 1 => Template::Drbd,
            0..90 => Template::Plain,
            90..95 => Template::File,
            _ => Template::Rbd,
        };
        let disks = 1 + usize::from(self.random.below(100) < 12);
        Placement {
            primary,
            secondary,
            template,
            disks: (0..disks)
                .map(|d| {
                    let place = i * INSTANCE_DISKS_MAX + d;
                    self.random.uuid(place, self.instances * INSTANCE_DISKS_MAX)
                })
                .collect(),
        }
    }

    fn instance(&mut self, i: usize, placement: &Placement) {
        let uuid = self.random.uuid(i, self.instances);
        let name = instance_name(i + 1);
        let up = self.random.below(10) > 0;
        let memory = 512 << self.random.below(5);
        let vcpus = 1 + self.random.below(8);
        put!(
            self.out,
            r#""{uuid}":{{"name":"{name}","primary_node":"{}","os":"debootstrap+default","hypervisor":"kvm","#,
            self.nodes[placement.primary].uuid
        );
        let hvparams = if i.is_multiple_of(4) {
            r#""boot_order":"disk","kernel_path":"","vnc_bind_address":"0.0.0.0""#
        } else {
            ""
        };
        put!(
            self.out,
            r#""hvparams":{{{hvparams}}},"beparams":{{"minmem":{memory},"maxmem":{memory},"vcpus":{vcpus}}},"#
        );
        put!(
            self.out,
            r#""osparams":{{}},"osparams_private":{{}},"admin_state":"{}","admin_state_source":"admin","nics":["#,
            if up { "up" } else { "down" }
        );
        for nic in 0..1 + usize::from(self.random.below(4) == 0) {
            self.comma(nic);
            self.nic(i, nic);
        }
        put!(
            self.out,
            r#"],"disks":["{}"],"disks_active":{up},"network_port":{},"#,
            placement.disks.join(r#"",""#),
            11_000 + i % 50_000
        );
        self.times();
        let tags = match i % 5 {
            0 => r#""env:production","owner:web""#,
            1 => r#""env:test""#,
            _ => "",
        };
        put!(
            self.out,
            r#","uuid":"{uuid}","serial_no":{},"tags":[{tags}]}}"#,
            1 + i % 9
        );
    }

    /// The first NIC is on the default link `br0`. The second, which a quarter of the instances
    /// have, is on `br1`.
    fn nic(&mut self, i: usize, nic: usize) {
        let uuid = self.random.uuid(0, 1);
        let (a, b, c) = (i >> 16, i >> 8 & 0xff, i & 0xff);
        let net = if nic == 0 { 64 } else { 128 } + a % 64;
        put!(
            self.out,
            r#"{{"mac":"aa:00:0{nic}:{a:02x}:{b:02x}:{c:02x}","ip":"10.{net}.{b}.{c}","#
        );
        if nic == 0 {
            self.out.push_str(r#""nicparams":{},"#);
        } else {
            let network = &self.networks[1];
            put!(
                self.out,
                r#""nicparams":{{"mode":"bridged","link":"br1"}},"network":"{network}","#
            );
        }
        put!(self.out, r#""uuid":"{uuid}"}}"#);
    }

    fn network(&mut self, i: usize) {
        let uuid = self.networks[i].clone();
        let net = 64 * (i + 1);
        let bits = "1".to_owned() + &"0".repeat(254) + "1";
        put!(
            self.out,
            r#""{uuid}":{{"name":"network{i}","mac_prefix":"aa:00:0{i}","network":"10.{net}.0.0/24","#
        );
        put!(
            self.out,
            r#""gateway":"10.{net}.0.1","reservations":"{}","ext_reservations":"{bits}","uuid":"{uuid}","#,
            "0".repeat(256)
        );
        self.times();
        self.out.push_str(r#","serial_no":1,"tags":[]}"#);
    }

    fn disk(&mut self, uuid: &str, index: usize, placement: &Placement) {
        let size = 1024 << self.random.below(8);
        put!(self.out, r#""{uuid}":{{"logical_id":"#);
        let lv = self.random.uuid(0, 1);
        let nodes = [placement.primary, placement.secondary];
        match placement.template {
            Template::Drbd => {
                self.drbd_id(nodes);
                self.out.push_str(r#","dev_type":"drbd","children":["#);
                self.child(&lv, &format!("disk{index}_data"), size, nodes);
                self.out.push(',');
                self.child(&lv, &format!("disk{index}_meta"), 128, nodes);
                self.out.push_str("],");
            }
            Template::Plain => put!(
                self.out,
                r#"["xenvg","{lv}.disk{index}"],"dev_type":"plain","children":[],"#
            ),
            Template::File => put!(
                self.out,
                r#"["loop","/srv/ganeti/file-storage/{lv}/disk{index}"],"dev_type":"file","children":[],"#
            ),
            Template::Rbd => put!(
                self.out,
                r#"["rbd","{lv}.rbd.disk{index}"],"dev_type":"rbd","children":[],"#
            ),
        }
        let count = match placement.template {
            Template::Drbd => 2,
            Template::Plain | Template::File => 1,
            Template::Rbd => 0,
        };
        self.disk_nodes(&nodes[..count]);
        put!(
            self.out,
            r#","iv_name":"disk/{index}","size":{size},"mode":"rw","params":{{}},"uuid":"{uuid}","serial_no":1,"#
        );
        self.times();
        self.out.push('}');
    }

    fn drbd_id(&mut self, nodes: [usize; 2]) {
        let port = 11_000 + self.random.below(50_000);
        let secret = self.random.hex(40);
        let minors = nodes.map(|node| {
            let minor = self.nodes[node].minor;
            self.nodes[node].minor += 1;
            minor
        });
        put!(
            self.out,
            r#"["{}","{}",{port},{},{},"{secret}"]"#,
            self.nodes[nodes[0]].uuid,
            self.nodes[nodes[1]].uuid,
            minors[0],
            minors[1]
        );
    }

    /// A logical volume of a DRBD disk.
    fn child(&mut self, lv: &str, name: &str, size: u64, nodes: [usize; 2]) {
        let uuid = self.random.uuid(0, 1);
        put!(
            self.out,
            r#"{{"logical_id":["xenvg","{lv}.{name}"],"dev_type":"plain","children":[],"#
        );
        self.disk_nodes(&nodes);
        put!(
            self.out,
            r#","iv_name":"","size":{size},"mode":"rw","params":{{}},"uuid":"{uuid}","serial_no":1,"#
        );
        self.times();
        self.out.push('}');
    }

    fn disk_nodes(&mut self, nodes: &[usize]) {
        self.out.push_str(r#""nodes":["#);
        for (i, &node) in nodes.iter().enumerate() {
            self.comma(i);
            put!(self.out, r#""{}""#, self.nodes[node].uuid);
        }
        self.out.push(']');
    }

    fn filter(&mut self, i: usize) {
        let uuid = self.random.uuid(i, 2);
        let (predicate, action) = match i {
            0 => (r#"["jobid",[">","id",0]]"#, r#""CONTINUE""#),
            _ => (
                r#"["opcode",["=","OP_ID","OP_INSTANCE_CREATE"]]"#,
                r#"["RATE_LIMIT",5]"#,
            ),
        };
        put!(
            self.out,
            r#""{uuid}":{{"watermark":0,"priority":{i},"predicates":[{predicate}],"action":{action},"#
        );
        put!(
            self.out,
            r#""reason_trail":[["gnt:client","demo",{CREATED_SECONDS}000000000]],"uuid":"{uuid}"}}"#
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parse(nodes: usize, instances: usize) -> Value {
        serde_json::from_str(&configuration(nodes, instances, 1)).expect("valid JSON")
    }

    #[test]
    fn equal_arguments_result_in_equal_texts() {
        assert_eq!(configuration(3, 10, 7), configuration(3, 10, 7));
        assert_ne!(configuration(3, 10, 7), configuration(3, 10, 8));
    }

    #[test]
    fn maps_have_the_requested_size_and_are_sorted() {
        for (nodes, instances) in [(1, 0), (1, 3), (3, 10), (50, 500), (81, 700)] {
            let config = parse(nodes, instances);
            for (map, count) in [("nodes", nodes), ("instances", instances), ("filters", 2)] {
                let keys: Vec<_> = config[map].as_object().unwrap().keys().collect();
                assert_eq!(keys.len(), count, "{map}");
                assert!(keys.is_sorted(), "{map}");
            }
            assert!(config["disks"].as_object().unwrap().keys().is_sorted());
        }
    }

    #[test]
    fn references_lead_to_objects() {
        let config = parse(81, 700);
        for instance in config["instances"].as_object().unwrap().values() {
            assert!(config["nodes"][instance["primary_node"].as_str().unwrap()].is_object());
            for disk in instance["disks"].as_array().unwrap() {
                assert!(config["disks"][disk.as_str().unwrap()].is_object());
            }
        }
        for disk in config["disks"].as_object().unwrap().values() {
            let nodes = disk["nodes"].as_array().unwrap();
            assert!(
                nodes
                    .iter()
                    .all(|n| config["nodes"][n.as_str().unwrap()].is_object())
            );
            assert!(
                nodes.len() < 2 || nodes[0] != nodes[1],
                "a DRBD disk has two nodes"
            );
        }
        assert!(config["nodes"][config["cluster"]["master_node"].as_str().unwrap()].is_object());
    }

    #[test]
    fn the_documented_length_of_an_instance_is_right() {
        let bytes = configuration(50, 1_000, 1).len();
        let per_instance = (bytes - configuration(50, 0, 1).len()) / 1_000;
        assert!(
            (1_700..2_000).contains(&per_instance),
            "{per_instance} bytes"
        );
    }
}

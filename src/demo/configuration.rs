//! A `config.data` of any size, as `ganeti-wconfd` 3.0 would have written it.
//!
//! The text is a function of its arguments alone, so that two hosts see the same
//! cluster; it takes time and memory linear in its length (about 1.85 KB per instance, disks included). Fields stand
//! in the order of `Ganeti.Objects`, and maps are sorted by key, as there. All addresses are private ones, all names
//! end in `example.com`. It does no I/O.

use std::fmt::Write as _;

/// Nodes in one node group.
const GROUP_NODES: usize = 40;
/// `candidate_pool_size`, and so the most master candidates.
const CANDIDATES_MAX: usize = 10;
/// Disks of one instance at most; disk uuids are cut from this many per instance.
const INSTANCE_DISKS_MAX: usize = 2;
/// 2023-11-14, the moment the sample cluster was set up, in seconds since the epoch.
const BIRTH_SECONDS: u64 = 1_700_000_000;

/// The name of a sample cluster's node, counted from 1; node 1 is the master.
pub fn node_name(number: usize) -> String {
    format!("node{number}.example.com")
}

/// The name of a sample cluster's instance, counted from 1.
pub fn instance_name(number: usize) -> String {
    format!("instance{number}.example.com")
}

/// A whole `config.data` of `nodes` nodes (at least one is made) and `instances` instances.
///
/// Equal arguments give equal text.
pub fn configuration(nodes: usize, instances: usize, seed: u64) -> String {
    Cluster::new(nodes.max(1), instances, seed).write()
}

/// What the parts of the text have to agree on, and the text so far.
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

/// One instance, as far as its disks must know it.
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

/// Writes formatted text; a `String` takes all there is.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        write!($out, $($arg)*).expect("a String takes any text")
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
        let created = BIRTH_SECONDS + self.random.below(50_000_000);
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
        self.out.push_str(CLUSTER_MIDDLE);
        self.out.push_str(r#","candidate_certs":{"#);
        for i in 0..self.candidates() {
            self.comma(i);
            let digest = self.random.hex(40);
            put!(self.out, r#""{}":"{digest}""#, self.nodes[i].uuid);
        }
        self.out.push_str("},");
        self.out.push_str(CLUSTER_END);
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
        // Every 25th node is broken, every 20th is being emptied; never a candidate.
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

    /// Chooses nodes and disks of an instance; the secondary node is in the primary one's group.
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

    /// The first NIC is on `br0`, the cluster's default; the second, of every fourth instance, on `br1`.
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

    /// A logical volume under a DRBD disk.
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
            r#""reason_trail":[["gnt:client","demo",{BIRTH_SECONDS}000000000]],"uuid":"{uuid}"}}"#
        );
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the text must not depend on the version of a crate.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`, which is far below 2^64: the bias does not matter.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// A version 4 UUID that sorts as number `i` of `n`, so that maps are written sorted without sorting.
    fn uuid(&mut self, i: usize, n: usize) -> String {
        let share = (1 << 32) / n as u64;
        let first = i as u64 * share + self.below(share);
        let (a, b) = (self.next(), self.next());
        format!(
            "{first:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a & 0xffff,
            a >> 16 & 0xfff,
            0x8000 | a >> 28 & 0x3fff,
            b & 0xffff_ffff_ffff
        )
    }

    /// `digits` random hexadecimal digits.
    fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| char::from(b"0123456789abcdef"[self.index(16)]))
            .collect()
    }
}

/// From `use_external_mip_script` to `enabled_disk_templates`, the same in every sample cluster.
const CLUSTER_MIDDLE: &str = concat!(
    r#""use_external_mip_script":false,"cluster_name":"demo.example.com","#,
    r#""file_storage_dir":"/srv/ganeti/file-storage","shared_file_storage_dir":"/srv/ganeti/shared-file-storage","#,
    r#""gluster_storage_dir":"/var/run/ganeti/gluster","enabled_hypervisors":["kvm"],"#,
    r#""hvparams":{"kvm":{"acpi":true,"boot_order":"disk","disk_cache":"default","disk_type":"paravirtual","#,
    r#""kernel_args":"ro","kernel_path":"/boot/vmlinuz-3-kvmU","kvm_path":"/usr/bin/kvm","migration_bandwidth":32,"#,
    r#""migration_downtime":30,"migration_port":8102,"nic_type":"paravirtual","root_path":"/dev/vda1","#,
    r#""serial_console":true,"serial_speed":38400,"vhost_net":false,"vnc_bind_address":""}},"#,
    r#""os_hvp":{},"beparams":{"default":{"minmem":128,"maxmem":128,"vcpus":1,"auto_balance":true,"#,
    r#""always_failover":false,"spindle_use":1}},"osparams":{},"osparams_private_cluster":{},"#,
    r#""nicparams":{"default":{"mode":"bridged","link":"br0","vlan":""}},"#,
    r#""ndparams":{"oob_program":"","spindle_count":1,"exclusive_storage":false,"ovs":false,"ovs_name":"switch1","#,
    r#""ovs_link":"","ssh_port":22,"cpu_speed":1},"#,
    r#""diskparams":{"blockdev":{},"diskless":{},"drbd":{"c-delay-target":1,"c-fill-target":0,"c-max-rate":61440,"#,
    r#""c-min-rate":4096,"c-plan-ahead":20,"data-stripes":1,"disk-barriers":"n","disk-custom":"","#,
    r#""dynamic-resync":false,"meta-barriers":false,"meta-stripes":1,"metavg":"xenvg","net-custom":"","#,
    r#""protocol":"C","resync-rate":61440},"ext":{"access":"kernelspace"},"file":{},"#,
    r#""gluster":{"access":"kernelspace","host":"127.0.0.1","port":24007,"volume":"gv0"},"plain":{"stripes":1},"#,
    r#""rbd":{"access":"kernelspace","pool":"rbd"},"sharedfile":{}},"#,
    r#""candidate_pool_size":10,"modify_etc_hosts":true,"modify_ssh_setup":true,"maintain_node_health":false,"#,
    r#""uid_pool":[],"default_iallocator":"hail","default_iallocator_params":{},"hidden_os":[],"#,
    r#""blacklisted_os":[],"primary_ip_family":2,"prealloc_wipe_disks":false,"#,
    r#""ipolicy":{"minmax":[{"min":{"memory-size":128,"cpu-count":1,"disk-size":1024,"disk-count":1,"nic-count":1,"#,
    r#""spindle-use":1},"max":{"memory-size":32768,"cpu-count":8,"disk-size":1048576,"disk-count":16,"#,
    r#""nic-count":8,"spindle-use":12}}],"std":{"memory-size":128,"cpu-count":1,"disk-size":1024,"#,
    r#""disk-count":1,"nic-count":1,"spindle-use":1},"spindle-ratio":32,"vcpu-ratio":4,"#,
    r#""disk-templates":["drbd","plain","file","rbd"]},"hv_state_static":{},"disk_state_static":{},"#,
    r#""enabled_disk_templates":["drbd","plain","file","rbd"]"#,
);

/// From `max_running_jobs` to `ssh_key_bits`, the same in every sample cluster.
const CLUSTER_END: &str = concat!(
    r#""max_running_jobs":20,"max_tracked_jobs":25,"install_image":"","instance_communication_network":"","#,
    r#""zeroing_image":"","compression_tools":["gzip","gzip-fast","gzip-slow"],"enabled_user_shutdown":false,"#,
    r#""data_collectors":{"cpu-avg-load":{"active":true,"interval":5000000},"#,
    r#""diskstats":{"active":true,"interval":5000000},"drbd":{"active":true,"interval":5000000},"#,
    r#""inst-status-xen":{"active":true,"interval":5000000},"lv":{"active":true,"interval":5000000},"#,
    r#""xen-cpu-avg-load":{"active":true,"interval":5000000}},"ssh_key_type":"rsa","ssh_key_bits":2048,"#,
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parse(nodes: usize, instances: usize) -> Value {
        serde_json::from_str(&configuration(nodes, instances, 1)).expect("valid JSON")
    }

    #[test]
    fn equal_arguments_give_equal_text() {
        assert_eq!(configuration(3, 10, 7), configuration(3, 10, 7));
        assert_ne!(configuration(3, 10, 7), configuration(3, 10, 8));
    }

    #[test]
    fn everything_asked_for_is_there_and_sorted() {
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
    fn references_hold() {
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
    fn an_instance_takes_its_share_of_the_file() {
        let bytes = configuration(50, 1_000, 1).len();
        let per_instance = (bytes - configuration(50, 0, 1).len()) / 1_000;
        assert!(
            (1_700..2_000).contains(&per_instance),
            "{per_instance} bytes"
        );
    }
}

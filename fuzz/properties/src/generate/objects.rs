//! Configurations from field tables: every family of objects, every optional field present, absent and null.
//!
//! The tables are those of `Ganeti.Objects` (3.0.2): what a field may hold, and whether it may be missing.

use super::json::Json;
use super::values::{self, pick};
use fastrand::Rng;

/// What a field may hold.
enum Type {
    Text,
    NonEmpty,
    Bool,
    Int,
    Natural,
    Integer,
    Double,
    Time,
    Tags,
    Size,
    Bits,
    Address,
    Network,
    JobId,
    Action,
    Predicate,
    Reason,
    LogicalId,
    Any,
    OneOf(&'static [&'static str]),
    Family,
    List(&'static Self),
    Pair(&'static Self),
    Map(&'static Self),
    Hypervisors(&'static Self),
    /// A map that has the key `default` most of the time.
    Defaults(&'static Self),
    Collectors,
    Record(&'static [Field]),
    /// A record, real or forthcoming.
    Promised(&'static [Field]),
    /// A disk below another.
    Child,
    /// A name, key or address from a small pool, so that objects meet, or do not.
    From(Pool),
    /// A map of so many objects at most, under keys from a pool.
    Objects(Pool, usize, &'static Self),
}

/// Texts that refer to one another across objects.
#[derive(Clone, Copy, PartialEq)]
enum Pool {
    Nodes,
    NodeNames,
    Groups,
    Instances,
    InstanceNames,
    Disks,
    Others,
    Ips,
    Links,
}

impl Pool {
    fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Nodes => &["n-1", "n-10", "n-2", "N-3", "node1.example.com", "n-9", ""],
            Self::NodeNames => &[
                "node1.example.com",
                "node1.example.org",
                "node2.example.com",
                "node2",
                "node10.example.com",
                "n-2",
                "x.y.z",
                "odd \"name\"\\.a",
            ],
            Self::Groups => &["g-1", "g-2"],
            Self::Instances => &[
                "i-1",
                "i-2",
                "i-10",
                "I-3",
                "i-20",
                "web.example.com",
                "i-0",
            ],
            Self::InstanceNames => &[
                "web.example.com",
                "web.example.net",
                "db.example.com",
                "db",
                "mail.example.com",
                "i-1",
                "odd/~name",
                "",
            ],
            Self::Disks => &["d-1", "d-2", "d-3", "d-4", "d-5", "d-6", "D-7"],
            Self::Others => &["o-1", "o-2", "O-3"],
            Self::Ips => &[
                "192.0.2.1",
                "192.0.2.10",
                "192.0.2.2",
                "198.51.100.7",
                "2001:db8::1",
                "FE80::1",
                "fe80::1",
                "",
            ],
            Self::Links => &["br0", "br1", "xen-br0", "", "odd \"link\""],
        }
    }
}

/// Whether a field must be there.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    Required,
    /// Absent, null or a value.
    Optional,
    /// Required in real objects, optional in forthcoming ones.
    IfReal,
}

struct Field {
    name: &'static str,
    kind: Type,
    need: Need,
}

impl Field {
    fn is_required(&self, forthcoming: bool) -> bool {
        match self.need {
            Need::Required => true,
            Need::Optional => false,
            Need::IfReal => !forthcoming,
        }
    }
}

const fn required(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        kind,
        need: Need::Required,
    }
}

const fn optional(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        kind,
        need: Need::Optional,
    }
}

const fn if_real(name: &'static str, kind: Type) -> Field {
    Field {
        name,
        kind,
        need: Need::IfReal,
    }
}

const HYPERVISORS: &[&str] = &["kvm", "xen-pvm", "chroot", "xen-hvm", "lxc", "fake"];
const HYPERVISOR: Type = Type::OneOf(HYPERVISORS);
const DISK_TEMPLATE: Type = Type::OneOf(&[
    "diskless",
    "file",
    "sharedfile",
    "plain",
    "blockdev",
    "drbd",
    "rbd",
    "ext",
    "gluster",
]);
const REAL_DISK_TEMPLATES: &[&str] = &[
    "plain",
    "drbd",
    "file",
    "sharedfile",
    "gluster",
    "blockdev",
    "rbd",
    "ext",
];
const NIC_MODE: Type = Type::OneOf(&["bridged", "routed", "openvswitch", "pool"]);
const COLLECTORS: &[&str] = &[
    "cpu-avg-load",
    "diskstats",
    "drbd",
    "inst-status-xen",
    "lv",
    "xen-cpu-avg-load",
    "unknown-one",
];
const TEXTS: Type = Type::List(&Type::Text);
const ANYTHING: Type = Type::Map(&Type::Any);

const CONFIG: &[Field] = &[
    required("version", Type::Int),
    required("cluster", Type::Record(CLUSTER)),
    required("nodes", Type::Objects(Pool::Nodes, 6, &Type::Record(NODE))),
    required(
        "nodegroups",
        Type::Objects(Pool::Groups, 2, &Type::Record(GROUP)),
    ),
    required(
        "instances",
        Type::Objects(Pool::Instances, 6, &Type::Promised(INSTANCE)),
    ),
    required(
        "networks",
        Type::Objects(Pool::Others, 2, &Type::Record(NETWORK)),
    ),
    required(
        "disks",
        Type::Objects(Pool::Disks, 7, &Type::Promised(DISK)),
    ),
    required(
        "filters",
        Type::Objects(Pool::Others, 2, &Type::Record(FILTER)),
    ),
    optional("ctime", Type::Time),
    optional("mtime", Type::Time),
    required("serial_no", Type::Int),
];

const CLUSTER: &[Field] = &[
    required("rsahostkeypub", Type::Text),
    optional("dsahostkeypub", Type::Text),
    required("highest_used_port", Type::Int),
    required("tcpudp_port_pool", Type::List(&Type::Int)),
    required("mac_prefix", Type::Text),
    optional("volume_group_name", Type::Text),
    required("reserved_lvs", TEXTS),
    optional("drbd_usermode_helper", Type::Text),
    required("master_node", Type::From(Pool::Nodes)),
    required("master_ip", Type::From(Pool::Ips)),
    required("master_netdev", Type::Text),
    required("master_netmask", Type::Int),
    required("use_external_mip_script", Type::Bool),
    required("cluster_name", Type::Text),
    required("file_storage_dir", Type::Text),
    required("shared_file_storage_dir", Type::Text),
    required("gluster_storage_dir", Type::Text),
    required("enabled_hypervisors", Type::List(&HYPERVISOR)),
    required("hvparams", Type::Hypervisors(&ANYTHING)),
    required("os_hvp", Type::Map(&Type::Hypervisors(&ANYTHING))),
    required("beparams", Type::Defaults(&Type::Record(BEPARAMS))),
    required("osparams", Type::Map(&Type::Map(&Type::Text))),
    required(
        "osparams_private_cluster",
        Type::Map(&Type::Map(&Type::Text)),
    ),
    required("nicparams", Type::Defaults(&Type::Record(NICPARAMS))),
    required("ndparams", Type::Record(NDPARAMS)),
    required("diskparams", Type::Map(&ANYTHING)),
    required("candidate_pool_size", Type::Int),
    required("modify_etc_hosts", Type::Bool),
    required("modify_ssh_setup", Type::Bool),
    required("maintain_node_health", Type::Bool),
    required("uid_pool", Type::List(&Type::Pair(&Type::Int))),
    required("default_iallocator", Type::Text),
    required("default_iallocator_params", ANYTHING),
    required("hidden_os", TEXTS),
    required("blacklisted_os", TEXTS),
    required("primary_ip_family", Type::Family),
    required("prealloc_wipe_disks", Type::Bool),
    required("ipolicy", Type::Record(IPOLICY)),
    optional("hv_state_static", ANYTHING),
    optional("disk_state_static", ANYTHING),
    required("enabled_disk_templates", Type::List(&DISK_TEMPLATE)),
    required("candidate_certs", Type::Map(&Type::Text)),
    required("max_running_jobs", Type::Int),
    required("max_tracked_jobs", Type::Int),
    required("install_image", Type::Text),
    required("instance_communication_network", Type::Text),
    required("zeroing_image", Type::Text),
    required("compression_tools", TEXTS),
    required("enabled_user_shutdown", Type::Bool),
    required("data_collectors", Type::Collectors),
    required("ssh_key_type", Type::OneOf(&["rsa", "dsa", "ecdsa"])),
    required("ssh_key_bits", Type::Int),
    optional("ctime", Type::Time),
    optional("mtime", Type::Time),
    required("uuid", Type::Text),
    required("serial_no", Type::Int),
    optional("tags", Type::Tags),
];

const COLLECTOR: &[Field] = &[
    required("active", Type::Bool),
    required("interval", Type::Integer),
];

const NODE: &[Field] = &[
    required("name", Type::From(Pool::NodeNames)),
    required("primary_ip", Type::From(Pool::Ips)),
    required("secondary_ip", Type::From(Pool::Ips)),
    required("master_candidate", Type::Bool),
    required("offline", Type::Bool),
    required("drained", Type::Bool),
    required("group", Type::From(Pool::Groups)),
    required("master_capable", Type::Bool),
    required("vm_capable", Type::Bool),
    required("ndparams", Type::Record(PARTIAL_NDPARAMS)),
    required("powered", Type::Bool),
    optional("hv_state_static", ANYTHING),
    optional("disk_state_static", ANYTHING),
    optional("ctime", Type::Time),
    optional("mtime", Type::Time),
    required("uuid", Type::From(Pool::Nodes)),
    required("serial_no", Type::Int),
    optional("tags", Type::Tags),
];

const GROUP: &[Field] = &[
    required("name", Type::Text),
    optional("members", TEXTS),
    required("ndparams", Type::Record(PARTIAL_NDPARAMS)),
    required(
        "alloc_policy",
        Type::OneOf(&["preferred", "last_resort", "unallocable"]),
    ),
    required("ipolicy", Type::Record(PARTIAL_IPOLICY)),
    required("diskparams", Type::Map(&ANYTHING)),
    required("networks", Type::Map(&Type::Record(PARTIAL_NICPARAMS))),
    optional("hv_state_static", ANYTHING),
    optional("disk_state_static", ANYTHING),
    optional("ctime", Type::Time),
    optional("mtime", Type::Time),
    required("uuid", Type::Text),
    required("serial_no", Type::Int),
    optional("tags", Type::Tags),
];

const INSTANCE: &[Field] = &[
    if_real("name", Type::From(Pool::InstanceNames)),
    if_real("primary_node", Type::From(Pool::Nodes)),
    if_real("os", Type::Text),
    if_real("hypervisor", HYPERVISOR),
    optional("hvparams", ANYTHING),
    optional("beparams", Type::Record(PARTIAL_BEPARAMS)),
    optional("osparams", Type::Map(&Type::Text)),
    optional("osparams_private", Type::Map(&Type::Text)),
    if_real("admin_state", Type::OneOf(&["offline", "down", "up"])),
    if_real("admin_state_source", Type::OneOf(&["admin", "user"])),
    optional("nics", Type::List(&Type::Record(NIC))),
    optional("disks", Type::List(&Type::From(Pool::Disks))),
    if_real("disks_active", Type::Bool),
    optional("network_port", Type::Int),
    optional("ctime", Type::Time),
    optional("mtime", Type::Time),
    required("uuid", Type::From(Pool::Instances)),
    required("serial_no", Type::Int),
    optional("tags", Type::Tags),
];

const NIC: &[Field] = &[
    required("mac", Type::Text),
    optional("ip", Type::From(Pool::Ips)),
    required("nicparams", Type::Record(PARTIAL_NICPARAMS)),
    optional("network", Type::Text),
    optional("name", Type::Text),
    required("uuid", Type::Text),
];

/// `dev_type` and `logical_id` depend on each other: see [`Generator::disk_id`].
const DISK: &[Field] = &[
    if_real("logical_id", Type::LogicalId),
    optional("children", Type::List(&Type::Child)),
    optional("nodes", Type::List(&Type::From(Pool::Nodes))),
    optional("iv_name", Type::Text),
    if_real("size", Type::Int),
    optional("mode", Type::OneOf(&["ro", "rw"])),
    optional("name", Type::Text),
    optional("spindles", Type::Int),
    optional("params", ANYTHING),
    required("uuid", Type::From(Pool::Disks)),
    required("serial_no", Type::Int),
    optional("ctime", Type::Time),
    optional("mtime", Type::Time),
];

const NETWORK: &[Field] = &[
    required("name", Type::NonEmpty),
    optional("mac_prefix", Type::Text),
    required("network", Type::Network),
    optional("network6", Type::Text),
    optional("gateway", Type::Address),
    optional("gateway6", Type::Text),
    optional("reservations", Type::Bits),
    optional("ext_reservations", Type::Bits),
    required("uuid", Type::Text),
    optional("ctime", Type::Time),
    optional("mtime", Type::Time),
    required("serial_no", Type::Int),
    optional("tags", Type::Tags),
];

const FILTER: &[Field] = &[
    required("watermark", Type::JobId),
    required("priority", Type::Natural),
    required("predicates", Type::List(&Type::Predicate)),
    required("action", Type::Action),
    required("reason_trail", Type::List(&Type::Reason)),
    required("uuid", Type::Text),
];

/// A record twice: with all fields required (the cluster's), and with all optional.
macro_rules! filled_and_partial {
    ($filled:ident, $partial:ident: $($name:literal $kind:expr),*) => {
        const $filled: &[Field] = &[$(required($name, $kind)),*];
        const $partial: &[Field] = &[$(optional($name, $kind)),*];
    };
}

filled_and_partial!(NDPARAMS, PARTIAL_NDPARAMS:
    "oob_program" Type::Text, "spindle_count" Type::Int, "exclusive_storage" Type::Bool, "ovs" Type::Bool,
    "ovs_name" Type::Text, "ovs_link" Type::Text, "ssh_port" Type::Int, "cpu_speed" Type::Double);
filled_and_partial!(BEPARAMS, PARTIAL_BEPARAMS:
    "minmem" Type::Size, "maxmem" Type::Size, "vcpus" Type::Int, "auto_balance" Type::Bool,
    "always_failover" Type::Bool, "spindle_use" Type::Int);
filled_and_partial!(NICPARAMS, PARTIAL_NICPARAMS:
    "mode" NIC_MODE, "link" Type::From(Pool::Links), "vlan" Type::Text);
filled_and_partial!(ISPEC, PARTIAL_ISPEC:
    "memory-size" Type::Int, "disk-size" Type::Int, "disk-count" Type::Int, "cpu-count" Type::Int,
    "nic-count" Type::Int, "spindle-use" Type::Int);

const MINMAX: Type = Type::List(&Type::Record(&[
    required("min", Type::Record(ISPEC)),
    required("max", Type::Record(ISPEC)),
]));

const IPOLICY: &[Field] = &[
    required("minmax", MINMAX),
    required("std", Type::Record(ISPEC)),
    required("spindle-ratio", Type::Double),
    required("vcpu-ratio", Type::Double),
    required("disk-templates", Type::List(&DISK_TEMPLATE)),
];

const PARTIAL_IPOLICY: &[Field] = &[
    optional("minmax", MINMAX),
    optional("std", Type::Record(PARTIAL_ISPEC)),
    optional("spindle-ratio", Type::Double),
    optional("vcpu-ratio", Type::Double),
    optional("disk-templates", Type::List(&DISK_TEMPLATE)),
];

/// Required fields that no query needs, so that a file without one is served (fidelity, not the reference's rule).
const UNNEEDED: &[&str] = &[
    "rsahostkeypub",
    "highest_used_port",
    "tcpudp_port_pool",
    "mac_prefix",
    "reserved_lvs",
    "master_netdev",
    "master_netmask",
    "use_external_mip_script",
    "cluster_name",
    "file_storage_dir",
    "hvparams",
    "os_hvp",
    "beparams",
    "osparams",
    "ndparams",
    "candidate_pool_size",
    "modify_etc_hosts",
    "uid_pool",
    "ipolicy",
    "candidate_certs",
    "max_running_jobs",
    "ssh_key_type",
    "ssh_key_bits",
    "secondary_ip",
    "group",
    "master_capable",
    "vm_capable",
    "powered",
    "alloc_policy",
    "os",
    "hypervisor",
    "admin_state",
    "admin_state_source",
    "disks_active",
    "mac",
    "size",
    "network",
    "watermark",
    "priority",
    "predicates",
    "oob_program",
    "spindle_count",
    "minmem",
    "vcpus",
    "memory-size",
    "std",
    "minmax",
    "vcpu-ratio",
    "nodegroups",
    "filters",
];

/// Required fields without which no query can be answered, in the cluster and the nodes.
const NEEDED: &[&str] = &[
    "version",
    "cluster",
    "nodes",
    "instances",
    "disks",
    "master_node",
    "master_ip",
    "primary_ip",
    "master_candidate",
    "offline",
    "drained",
    "enabled_hypervisors",
    "data_collectors",
    "active",
    "interval",
];

/// One thing done wrong in one record of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A field of the wrong type: rejected by everybody.
    WrongType,
    /// A required field that is null: rejected by everybody.
    Null,
    /// A word that is not in a field's list: rejected by everybody.
    WrongWord,
    /// A required field that a query needs is missing: rejected by everybody.
    Needed,
    /// A required field that no query needs is missing: we serve the rest.
    Unneeded,
    /// A key of no table: we serve it.
    Unknown,
    /// A key twice: rejected by us.
    Twice,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 7] = [
        Self::WrongType,
        Self::Null,
        Self::WrongWord,
        Self::Needed,
        Self::Unneeded,
        Self::Unknown,
        Self::Twice,
    ];

    /// Whether it can be in a required field like `field`.
    fn fits(self, field: &Field) -> bool {
        match self {
            Self::WrongType | Self::Null => matches!(
                field.kind,
                Type::Text
                    | Type::Bool
                    | Type::Int
                    | Type::From(_)
                    | Type::Record(_)
                    | Type::List(_)
                    | Type::Map(_)
            ),
            Self::WrongWord => matches!(field.kind, Type::OneOf(_)),
            Self::Needed => NEEDED.contains(&field.name),
            Self::Unneeded => UNNEEDED.contains(&field.name),
            Self::Unknown | Self::Twice => true,
        }
    }

    /// The key and value of [`Fault::Unknown`].
    pub const UNKNOWN: (&'static str, &'static str) = ("zz_unknown", "12345");
}

/// A fault, and where it will be: how many records that could have it are passed over, and which of the fields that fit.
struct Trap {
    fault: Fault,
    records_left: usize,
    choice: usize,
}

/// Makes configurations; the same seed makes the same one, with or without a fault.
pub struct Generator {
    rng: Rng,
    trap: Option<Trap>,
}

impl Generator {
    /// The generator of one configuration.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            trap: None,
        }
    }

    /// A configuration that the reference loads.
    pub fn config(&mut self) -> Json {
        self.record(CONFIG, false, 2)
    }

    /// The configuration of `seed` with one fault in the `at`th record that can have it; `None` if there are not so many.
    pub fn faulty(seed: u64, fault: Fault, at: usize) -> Option<Json> {
        let mut generator = Self {
            trap: Some(Trap {
                fault,
                records_left: at,
                choice: seed as usize,
            }),
            ..Self::new(seed)
        };
        let config = generator.config();
        generator.trap.is_none().then_some(config)
    }

    fn record(&mut self, fields: &'static [Field], forthcoming: bool, depth: u8) -> Json {
        let mut members = Vec::new();
        for field in fields {
            let required = field.is_required(forthcoming);
            if !required && self.rng.bool() {
                continue;
            }
            if matches!(field.kind, Type::LogicalId) {
                self.disk_id(&mut members);
                continue;
            }
            let null = !required && self.rng.u8(..5) == 0;
            let value = if null {
                Json::Null
            } else {
                self.value(&field.kind, depth)
            };
            members.push((field.name.to_owned(), value));
        }
        self.rng.shuffle(&mut members);
        self.spoil(fields, forthcoming, &mut members);
        Json::Object(members)
    }

    /// Makes the fault, if it is this record's turn. Draws nothing, so that everything else stays as it is.
    fn spoil(&mut self, fields: &[Field], forthcoming: bool, members: &mut Vec<(String, Json)>) {
        let Some(Trap {
            fault,
            records_left,
            choice,
        }) = &mut self.trap
        else {
            return;
        };
        let fits: Vec<_> = fields
            .iter()
            .filter(|field| field.is_required(forthcoming) && fault.fits(field))
            .collect();
        let place = fits
            .get(*choice % fits.len().max(1))
            .and_then(|field| members.iter().position(|(name, _)| name == field.name));
        let Some(at) = place else { return };
        if *records_left > 0 {
            *records_left -= 1;
            return;
        }
        match fault {
            Fault::WrongType => members[at].1 = wrong_type(&members[at].1),
            Fault::Null => members[at].1 = Json::Null,
            Fault::WrongWord => members[at].1 = Json::text("no-such-word"),
            Fault::Needed | Fault::Unneeded => drop(members.remove(at)),
            Fault::Unknown => members.insert(
                at,
                (Fault::UNKNOWN.0.to_owned(), Json::number(Fault::UNKNOWN.1)),
            ),
            Fault::Twice => members.push(members[at].clone()),
        }
        self.trap = None;
    }

    fn value(&mut self, kind: &Type, depth: u8) -> Json {
        let rng = &mut self.rng;
        match kind {
            Type::Text => Json::Text(values::text(rng)),
            Type::NonEmpty => Json::Text(format!("n{}", values::text(rng))),
            Type::Bool => Json::Bool(rng.bool()),
            Type::Int => values::int(rng),
            Type::Natural => Json::number(pick(rng, &["0", "7", "-0.5", "2.5", "1e3", "7.0"])),
            Type::Integer => Json::number(pick(
                rng,
                &["5000000", "5000000.0", "2.5", "-3.5", "0", "1e7", "1e30"],
            )),
            Type::Double => values::double(rng),
            Type::Time => values::time(rng),
            Type::Tags => Json::List(
                (0..rng.usize(..5))
                    .map(|_| Json::Text(values::text(rng)))
                    .collect(),
            ),
            Type::Size if rng.bool() => values::int(rng),
            Type::Size => Json::text(pick(
                rng,
                &[
                    "128", "512m", "1 GiB", "5gb", "0x10", "-5", " 7", "(12)M", "2TiB", "0o17",
                    "3  t", "1G", "9 mib",
                ],
            )),
            Type::Bits => Json::Text(
                (0..rng.usize(..20))
                    .map(|_| if rng.bool() { '1' } else { '0' })
                    .collect(),
            ),
            Type::Address => Json::text(address(rng)),
            Type::Network => {
                let mask = pick(rng, &["24", "0", "32", "08", "0x10", "280", " 8"]);
                Json::text(format!("{}/{mask}", address(rng)))
            }
            Type::JobId if rng.bool() => {
                Json::number(pick(rng, &["7", "7.0", "0", "1e3", "70e-1"]))
            }
            Type::JobId => Json::text(pick(rng, &["7", " 7", "0x7", "00"])),
            Type::Action if rng.bool() => {
                let number = pick(rng, &["1", "5.0", "20"]);
                Json::List(vec![Json::text("RATE_LIMIT"), Json::number(number)])
            }
            Type::Action => Json::text(pick(rng, &["ACCEPT", "PAUSE", "REJECT", "CONTINUE"])),
            Type::Predicate => {
                let name = pick(rng, &["jobid", "opcode", "reason"]);
                Json::List(vec![Json::text(name), expression(rng, 3)])
            }
            Type::Reason => Json::List(vec![
                Json::Text(values::text(rng)),
                Json::Text(values::text(rng)),
                Json::number(pick(rng, &["0", "1.5", "2.5", "1400000000000000000", "-1"])),
            ]),
            Type::LogicalId => unreachable!("written by disk_id"),
            Type::Any => values::any(rng, 3),
            Type::OneOf(words) => Json::text(pick(rng, words)),
            Type::Family => Json::number(pick(rng, &["2", "10", "2.0", "1e1"])),
            Type::List(kind) => {
                // Children of children end somewhere.
                let size_max = if depth == 0 && matches!(kind, Type::Child) {
                    0
                } else {
                    3
                };
                let size = self.rng.usize(..=size_max);
                Json::List(
                    (0..size)
                        .map(|_| self.value(kind, depth.saturating_sub(1)))
                        .collect(),
                )
            }
            Type::Pair(kind) => Json::List((0..2).map(|_| self.value(kind, depth)).collect()),
            Type::Map(kind) => {
                let keys = values::map(&mut self.rng, 3, |_| Json::Null);
                self.fill(keys, kind, depth)
            }
            Type::Hypervisors(kind) => self.some_of(HYPERVISORS, HYPERVISORS.len(), kind, depth),
            Type::Collectors => self.some_of(
                COLLECTORS,
                COLLECTORS.len(),
                &Type::Record(COLLECTOR),
                depth,
            ),
            Type::Defaults(kind) => {
                let names = if rng.u8(..8) == 0 {
                    &["other"][..]
                } else {
                    &["default", "other"]
                };
                let Json::Object(mut members) = self.some_of(names, 2, kind, depth) else {
                    unreachable!("some_of makes objects")
                };
                if names.len() > 1 && !members.iter().any(|(name, _)| name == "default") {
                    members.push(("default".into(), self.value(kind, depth)));
                }
                Json::Object(members)
            }
            Type::Record(fields) => self.record(fields, false, depth),
            Type::Promised(fields) => self.promised(fields, depth),
            Type::Child => self.promised(DISK, depth),
            Type::From(pool) => Json::text(pick(rng, pool.texts())),
            Type::Objects(pool, size_max, kind) => {
                self.some_of(pool.texts(), *size_max, kind, depth)
            }
        }
    }

    /// An object of up to `size_max` members with keys out of `names`.
    fn some_of(&mut self, names: &[&str], size_max: usize, kind: &Type, depth: u8) -> Json {
        let mut names = names.to_vec();
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.usize(..=size_max));
        let keys = names
            .into_iter()
            .map(|name| (name.to_owned(), Json::Null))
            .collect();
        self.fill(Json::Object(keys), kind, depth)
    }

    fn fill(&mut self, keys: Json, kind: &Type, depth: u8) -> Json {
        let Json::Object(mut members) = keys else {
            unreachable!("only objects have keys")
        };
        for (_, value) in &mut members {
            *value = self.value(kind, depth);
        }
        Json::Object(members)
    }

    /// Only `"forthcoming": true` makes an object forthcoming; any other value is a real one's.
    fn promised(&mut self, fields: &'static [Field], depth: u8) -> Json {
        let forthcoming = self.rng.u8(..4) == 0;
        let Json::Object(mut members) = self.record(fields, forthcoming, depth) else {
            unreachable!("records are objects")
        };
        let flag = match self.rng.u8(..12) {
            _ if forthcoming => Some(Json::Bool(true)),
            0 => Some(Json::Bool(false)),
            1 => Some(Json::Null),
            2 => Some(Json::number(1)),
            3 => Some(Json::text("yes")),
            _ => None,
        };
        if let Some(flag) = flag {
            let at = self.rng.usize(..=members.len());
            members.insert(at, ("forthcoming".into(), flag));
        }
        Json::Object(members)
    }

    /// `dev_type` and the `logical_id` that goes with it.
    fn disk_id(&mut self, members: &mut Vec<(String, Json)>) {
        let rng = &mut self.rng;
        let kind = pick(rng, REAL_DISK_TEMPLATES);
        // Half of all disks are DRBD: the two queries about them have the most to say.
        let kind = if rng.bool() { "drbd" } else { kind };
        let mut pair =
            |driver: &[&str]| vec![Json::text(pick(rng, driver)), Json::Text(values::text(rng))];
        let id = match kind {
            "file" | "sharedfile" | "gluster" => pair(&["loop", "blktap", "blktap2"]),
            "blockdev" => pair(&["manual"]),
            "drbd" => vec![
                self.value(&Type::From(Pool::Nodes), 0),
                self.value(&Type::From(Pool::Nodes), 0),
                self.value(&Type::Int, 0),
                self.value(&Type::Int, 0),
                self.value(&Type::Int, 0),
                self.value(&Type::Text, 0),
            ],
            _ => pair(&["xenvg", "pool/1", ""]),
        };
        members.push(("dev_type".into(), Json::text(kind)));
        members.push(("logical_id".into(), Json::List(id)));
    }
}

fn address(rng: &mut Rng) -> &'static str {
    rng.choice(&[
        "192.0.2.0",
        "10.0.0.255",
        "1.2.3.300",
        "01.02.03.04",
        "-1.2.3.4",
        "0x10.0.0.1",
        " 1.2.3.4",
        "(1).2.3.4",
    ])
    .expect("not empty")
}

/// A filter's expression: every operator, nested up to `depth`.
fn expression(rng: &mut Rng, depth: u8) -> Json {
    let field = || Json::text("status");
    let leaf_only = depth == 0;
    let items = match rng.u8(if leaf_only { 4..13 } else { 0..13 }) {
        0 => return Json::Null,
        1 | 2 => {
            let mut items = vec![Json::text(if rng.bool() { "&" } else { "|" })];
            items.extend((0..rng.usize(..4)).map(|_| expression(rng, depth - 1)));
            items
        }
        3 => vec![Json::text("!"), expression(rng, depth - 1)],
        4 => vec![Json::text("?"), field()],
        5 => vec![
            Json::text("=~"),
            field(),
            Json::text(pick(rng, &["^a", "a|b", "[0-9]+\\.", "", "(x)(y)?"])),
        ],
        _ => {
            let operator = pick(rng, &["==", "=", "!=", "<", ">", "<=", ">=", "=[]"]);
            let value = if rng.bool() {
                Json::Text(values::text(rng))
            } else {
                Json::number(pick(
                    rng,
                    &["1", "1.0", "-3", "0", "1e3", "12345678901234567890"],
                ))
            };
            vec![Json::text(operator), field(), value]
        }
    };
    Json::List(items)
}

/// A value that is of another type than `value`, and of none that a field of its type would take.
fn wrong_type(value: &Json) -> Json {
    match value {
        Json::Number(_) => Json::text("12"),
        Json::Bool(_) => Json::number(1),
        _ => Json::Bool(true),
    }
}

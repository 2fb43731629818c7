//! Field tables of all objects in a configuration, after `Ganeti.Objects` (3.0.2): what a field may
//! hold, and whether it may be absent.

/// What a field may hold.
pub(super) enum Type {
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
    /// A map that usually has the key `default`.
    Defaults(&'static Self),
    Collectors,
    Record(&'static [Field]),
    /// A record that may be forthcoming.
    Promised(&'static [Field]),
    /// A child disk.
    Child,
    /// A name, key or address from a small pool, so that references between objects often resolve.
    From(Pool),
    /// A map of at most this many objects, under keys from a pool.
    Objects(Pool, usize, &'static Self),
}

/// Texts by which objects refer to each other.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Pool {
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
    pub(super) fn texts(self) -> &'static [&'static str] {
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

/// Whether a field must be present.
#[derive(Clone, Copy, PartialEq)]
enum Need {
    Required,
    /// Absent, null or a value.
    Optional,
    /// Required in real objects, optional in forthcoming ones.
    IfReal,
}

pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    need: Need,
}

impl Field {
    pub(super) fn is_required(&self, forthcoming: bool) -> bool {
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

pub(super) const HYPERVISORS: &[&str] = &["kvm", "xen-pvm", "chroot", "xen-hvm", "lxc", "fake"];
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
pub(super) const REAL_DISK_TEMPLATES: &[&str] = &[
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
pub(super) const COLLECTORS: &[&str] = &[
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

pub(super) const CONFIG: &[Field] = &[
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

pub(super) const COLLECTOR: &[Field] = &[
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

/// `dev_type` and `logical_id` depend on each other, so `Generator::disk_id` writes both.
pub(super) const DISK: &[Field] = &[
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

/// Two tables of the same fields: all required (the cluster's), and all optional.
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

/// Required fields that no query needs. A file without them is served, unlike by the reference.
pub(super) const UNNEEDED: &[&str] = &[
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

/// Required fields that queries need.
pub(super) const NEEDED: &[&str] = &[
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
];

//! Field table of the cluster object.
//!
//! Source: `Ganeti.Objects` (`Cluster`, `DataCollectorConfig`).

use super::error::Problem;
use super::params::{
    ANY_MAP, BEPARAMS, DISK_TEMPLATE, HVPARAMS, HYPERVISOR, IPOLICY, LINK_NICPARAMS, NDPARAMS,
    NICPARAMS, STRING_MAP,
};
use super::schema::{Entry, FieldType, Place, Record, default, expected, mandatory, optional};
use super::value::Value;
use super::writer::{Writer, int};

/// A data collector that type 11 reports.
static REPORTED_COLLECTOR: Record = Record {
    name: "DataCollectorConfig",
    fields: &[
        mandatory("active", FieldType::Bool, "type 11"),
        mandatory("interval", FieldType::Integer, "type 11"),
    ],
};

/// Any other data collector.
static OTHER_COLLECTOR: Record = Record {
    name: "DataCollectorConfig",
    fields: &[
        expected("active", FieldType::Bool),
        expected("interval", FieldType::Integer),
    ],
};

const fn reported(key: &'static str) -> Entry {
    Entry {
        key,
        ty: FieldType::Record(&REPORTED_COLLECTOR),
        needed_by: "type 11",
    }
}

/// The data collectors that type 11 reports. If the file has none of them, it reports defaults.
static REPORTED_COLLECTORS: [Entry; 6] = [
    reported("cpu-avg-load"),
    reported("diskstats"),
    reported("drbd"),
    reported("inst-status-xen"),
    reported("lv"),
    reported("xen-cpu-avg-load"),
];

/// The NIC parameters that types 2 and 6 read.
static DEFAULT_NICPARAMS: Entry = Entry {
    key: "default",
    ty: FieldType::Record(&LINK_NICPARAMS),
    needed_by: "types 2 and 6",
};

pub(super) static CLUSTER: Record = Record {
    name: "Cluster",
    fields: &[
        expected("rsahostkeypub", FieldType::String),
        optional("dsahostkeypub", FieldType::String),
        expected("highest_used_port", FieldType::Int),
        expected("tcpudp_port_pool", FieldType::List(&FieldType::Int)),
        expected("mac_prefix", FieldType::String),
        optional("volume_group_name", FieldType::String),
        expected("reserved_lvs", FieldType::List(&FieldType::String)),
        optional("drbd_usermode_helper", FieldType::String),
        mandatory("master_node", FieldType::String, "types 1 and 3"),
        mandatory("master_ip", FieldType::String, "type 3"),
        expected("master_netdev", FieldType::String),
        expected("master_netmask", FieldType::Int),
        expected("use_external_mip_script", FieldType::Bool),
        expected("cluster_name", FieldType::String),
        expected("file_storage_dir", FieldType::String),
        expected("shared_file_storage_dir", FieldType::String),
        expected("gluster_storage_dir", FieldType::String),
        mandatory(
            "enabled_hypervisors",
            FieldType::List(&HYPERVISOR),
            "type 11",
        ),
        expected("hvparams", HVPARAMS),
        expected("os_hvp", FieldType::Map(&HVPARAMS)),
        expected("beparams", FieldType::Map(&FieldType::Record(&BEPARAMS))),
        expected("osparams", FieldType::Map(&STRING_MAP)),
        expected("osparams_private_cluster", FieldType::Map(&STRING_MAP)),
        mandatory(
            "nicparams",
            FieldType::MapWith(
                std::slice::from_ref(&DEFAULT_NICPARAMS),
                &FieldType::Record(&NICPARAMS),
            ),
            "types 2 and 6",
        ),
        expected("ndparams", FieldType::Record(&NDPARAMS)),
        expected("diskparams", FieldType::Map(&ANY_MAP)),
        expected("candidate_pool_size", FieldType::Int),
        expected("modify_etc_hosts", FieldType::Bool),
        expected("modify_ssh_setup", FieldType::Bool),
        expected("maintain_node_health", FieldType::Bool),
        expected(
            "uid_pool",
            FieldType::List(&FieldType::Tuple(&[FieldType::Int, FieldType::Int])),
        ),
        expected("default_iallocator", FieldType::String),
        expected("default_iallocator_params", ANY_MAP),
        expected("hidden_os", FieldType::List(&FieldType::String)),
        expected("blacklisted_os", FieldType::List(&FieldType::String)),
        expected("primary_ip_family", FieldType::Custom(ip_family)),
        expected("prealloc_wipe_disks", FieldType::Bool),
        expected("ipolicy", FieldType::Record(&IPOLICY)),
        default("hv_state_static", ANY_MAP, "{}"),
        default("disk_state_static", ANY_MAP, "{}"),
        expected("enabled_disk_templates", FieldType::List(&DISK_TEMPLATE)),
        expected("candidate_certs", STRING_MAP),
        expected("max_running_jobs", FieldType::Int),
        expected("max_tracked_jobs", FieldType::Int),
        expected("install_image", FieldType::String),
        expected("instance_communication_network", FieldType::String),
        expected("zeroing_image", FieldType::String),
        expected("compression_tools", FieldType::List(&FieldType::String)),
        expected("enabled_user_shutdown", FieldType::Bool),
        expected(
            "data_collectors",
            FieldType::MapWith(&REPORTED_COLLECTORS, &FieldType::Record(&OTHER_COLLECTOR)),
        ),
        expected(
            "ssh_key_type",
            FieldType::Enum("SshKeyType", &["rsa", "dsa", "ecdsa"]),
        ),
        expected("ssh_key_bits", FieldType::Int),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        expected("uuid", FieldType::Uuid),
        mandatory("serial_no", FieldType::Int, "types 1 to 6, 10 and 11"),
        default("tags", FieldType::Set, "[]"),
    ],
};

/// Writes an address family as Python numbers it: 2 for IPv4, 10 for IPv6.
fn ip_family(writer: &mut Writer<'_>, value: Value<'_>, _: &Place<'_>) -> Result<(), Problem> {
    match int(value)? {
        family @ (2 | 10) => {
            writer.int(family);
            Ok(())
        }
        other => Err(Problem::Mismatch(format!(
            "{other} is not an address family (2 is IPv4, 10 is IPv6)"
        ))),
    }
}

//! The cluster object.
//!
//! Source: the reference's object model, 4.2; `Ganeti.Objects` (`Cluster`, `DataCollectorConfig`).

use super::Error;
use super::params::{
    ANY_MAP, BEPARAMS, DISK_TEMPLATE, HVPARAMS, HYPERVISOR, IPOLICY, NDPARAMS, NICPARAMS,
    STRING_MAP,
};
use super::schema::{Record, Type, Writer, default, int, needed, optional, required};
use super::value::Value;

static DATA_COLLECTOR_CONFIG: Record = Record {
    name: "DataCollectorConfig",
    fields: &[
        needed("active", Type::Bool),
        needed("interval", Type::Integer),
    ],
};

pub(super) static CLUSTER: Record = Record {
    name: "Cluster",
    fields: &[
        required("rsahostkeypub", Type::String),
        optional("dsahostkeypub", Type::String),
        required("highest_used_port", Type::Int),
        required("tcpudp_port_pool", Type::List(&Type::Int)),
        required("mac_prefix", Type::String),
        optional("volume_group_name", Type::String),
        required("reserved_lvs", Type::List(&Type::String)),
        optional("drbd_usermode_helper", Type::String),
        needed("master_node", Type::String),
        needed("master_ip", Type::String),
        required("master_netdev", Type::String),
        required("master_netmask", Type::Int),
        required("use_external_mip_script", Type::Bool),
        required("cluster_name", Type::String),
        required("file_storage_dir", Type::String),
        required("shared_file_storage_dir", Type::String),
        required("gluster_storage_dir", Type::String),
        needed("enabled_hypervisors", Type::List(&HYPERVISOR)),
        required("hvparams", HVPARAMS),
        required("os_hvp", Type::Map(&HVPARAMS)),
        required("beparams", Type::Map(&Type::Record(&BEPARAMS))),
        required("osparams", Type::Map(&STRING_MAP)),
        required("osparams_private_cluster", Type::Map(&STRING_MAP)),
        needed("nicparams", Type::Map(&Type::Record(&NICPARAMS))),
        required("ndparams", Type::Record(&NDPARAMS)),
        required("diskparams", Type::Map(&ANY_MAP)),
        required("candidate_pool_size", Type::Int),
        required("modify_etc_hosts", Type::Bool),
        required("modify_ssh_setup", Type::Bool),
        required("maintain_node_health", Type::Bool),
        required(
            "uid_pool",
            Type::List(&Type::Tuple(&[Type::Int, Type::Int])),
        ),
        required("default_iallocator", Type::String),
        required("default_iallocator_params", ANY_MAP),
        required("hidden_os", Type::List(&Type::String)),
        required("blacklisted_os", Type::List(&Type::String)),
        required("primary_ip_family", Type::Custom(ip_family)),
        required("prealloc_wipe_disks", Type::Bool),
        required("ipolicy", Type::Record(&IPOLICY)),
        default("hv_state_static", ANY_MAP, "{}"),
        default("disk_state_static", ANY_MAP, "{}"),
        required("enabled_disk_templates", Type::List(&DISK_TEMPLATE)),
        required("candidate_certs", STRING_MAP),
        required("max_running_jobs", Type::Int),
        required("max_tracked_jobs", Type::Int),
        required("install_image", Type::String),
        required("instance_communication_network", Type::String),
        required("zeroing_image", Type::String),
        required("compression_tools", Type::List(&Type::String)),
        required("enabled_user_shutdown", Type::Bool),
        needed(
            "data_collectors",
            Type::Map(&Type::Record(&DATA_COLLECTOR_CONFIG)),
        ),
        required(
            "ssh_key_type",
            Type::Enum("SshKeyType", &["rsa", "dsa", "ecdsa"]),
        ),
        required("ssh_key_bits", Type::Int),
        default("ctime", Type::Time, "0"),
        default("mtime", Type::Time, "0"),
        required("uuid", Type::Uuid),
        needed("serial_no", Type::Int),
        default("tags", Type::Set, "[]"),
    ],
};

/// An address family as Python numbers it: 2 for IPv4, 10 for IPv6.
fn ip_family(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    match int(value)? {
        family @ (2 | 10) => writer.int(family),
        other => Err(Error::new(format!(
            "{other} is no address family (2 is IPv4, 10 is IPv6)"
        ))),
    }
}

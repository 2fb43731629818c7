//! Field table of the cluster object.
//!
//! Source: `Ganeti.Objects` (`Cluster`, `DataCollectorConfig`).

use super::error::Error;
use super::params::{
    ANY_MAP, BEPARAMS, DISK_TEMPLATE, HVPARAMS, HYPERVISOR, IPOLICY, NDPARAMS, NICPARAMS,
    STRING_MAP,
};
use super::schema::{FieldType, Record, default, expected, mandatory, optional};
use super::value::Value;
use super::writer::{Writer, int};

static DATA_COLLECTOR_CONFIG: Record = Record {
    name: "DataCollectorConfig",
    fields: &[
        mandatory("active", FieldType::Bool),
        mandatory("interval", FieldType::Integer),
    ],
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
        mandatory("master_node", FieldType::String),
        mandatory("master_ip", FieldType::String),
        expected("master_netdev", FieldType::String),
        expected("master_netmask", FieldType::Int),
        expected("use_external_mip_script", FieldType::Bool),
        expected("cluster_name", FieldType::String),
        expected("file_storage_dir", FieldType::String),
        expected("shared_file_storage_dir", FieldType::String),
        expected("gluster_storage_dir", FieldType::String),
        mandatory("enabled_hypervisors", FieldType::List(&HYPERVISOR)),
        expected("hvparams", HVPARAMS),
        expected("os_hvp", FieldType::Map(&HVPARAMS)),
        expected("beparams", FieldType::Map(&FieldType::Record(&BEPARAMS))),
        expected("osparams", FieldType::Map(&STRING_MAP)),
        expected("osparams_private_cluster", FieldType::Map(&STRING_MAP)),
        mandatory("nicparams", FieldType::Map(&FieldType::Record(&NICPARAMS))),
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
        mandatory(
            "data_collectors",
            FieldType::Map(&FieldType::Record(&DATA_COLLECTOR_CONFIG)),
        ),
        expected(
            "ssh_key_type",
            FieldType::Enum("SshKeyType", &["rsa", "dsa", "ecdsa"]),
        ),
        expected("ssh_key_bits", FieldType::Int),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        expected("uuid", FieldType::Uuid),
        mandatory("serial_no", FieldType::Int),
        default("tags", FieldType::Set, "[]"),
    ],
};

/// Writes an address family as Python numbers it: 2 for IPv4, 10 for IPv6.
fn ip_family(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    match int(value)? {
        family @ (2 | 10) => {
            writer.int(family);
            Ok(())
        }
        other => Err(Error::new(format!(
            "{other} is not an address family (2 is IPv4, 10 is IPv6)"
        ))),
    }
}

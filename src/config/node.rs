//! Field table of nodes.
//!
//! Source: `Ganeti.Objects` (`Node`).

use super::params::{ANY_MAP, PARTIAL_NDPARAMS};
use super::schema::{FieldType, Record, default, expected, mandatory, omit_if};

pub(super) static NODE: Record = Record {
    name: "Node",
    fields: &[
        mandatory("name", FieldType::String),
        mandatory("primary_ip", FieldType::String),
        expected("secondary_ip", FieldType::String),
        mandatory("master_candidate", FieldType::Bool),
        mandatory("offline", FieldType::Bool),
        mandatory("drained", FieldType::Bool),
        expected("group", FieldType::String),
        expected("master_capable", FieldType::Bool),
        expected("vm_capable", FieldType::Bool),
        expected("ndparams", FieldType::Record(&PARTIAL_NDPARAMS)),
        expected("powered", FieldType::Bool),
        omit_if("hv_state_static", ANY_MAP, "{}"),
        omit_if("disk_state_static", ANY_MAP, "{}"),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        mandatory("uuid", FieldType::Uuid),
        mandatory("serial_no", FieldType::Int),
        default("tags", FieldType::Set, "[]"),
    ],
};

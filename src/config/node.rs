//! Field table of nodes.
//!
//! Source: `Ganeti.Objects` (`Node`).

use super::params::{ANY_MAP, PARTIAL_NDPARAMS};
use super::schema::{FieldType, Record, default, expected, mandatory, omit_if};

pub(super) static NODE: Record = Record {
    name: "Node",
    fields: &[
        mandatory("name", FieldType::String, "types 1, 3, 7 and 8"),
        mandatory("primary_ip", FieldType::String, "types 2 to 5"),
        expected("secondary_ip", FieldType::String),
        mandatory("master_candidate", FieldType::Bool, "types 1 and 5"),
        mandatory("offline", FieldType::Bool, "type 1"),
        mandatory("drained", FieldType::Bool, "type 1"),
        expected("group", FieldType::String),
        expected("master_capable", FieldType::Bool),
        expected("vm_capable", FieldType::Bool),
        expected("ndparams", FieldType::Record(&PARTIAL_NDPARAMS)),
        expected("powered", FieldType::Bool),
        omit_if("hv_state_static", ANY_MAP, "{}"),
        omit_if("disk_state_static", ANY_MAP, "{}"),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        mandatory("uuid", FieldType::Uuid, "types 7 and 8"),
        mandatory("serial_no", FieldType::Int, "types 7 and 8"),
        default("tags", FieldType::Set, "[]"),
    ],
};

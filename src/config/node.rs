//! Nodes.
//!
//! Source: the reference's object model, 4.4; `Ganeti.Objects` (`Node`).

use super::params::{ANY_MAP, PARTIAL_NDPARAMS};
use super::schema::{Record, Type, default, hidden, needed, required};

pub(super) static NODE: Record = Record {
    name: "Node",
    fields: &[
        needed("name", Type::String),
        needed("primary_ip", Type::String),
        required("secondary_ip", Type::String),
        needed("master_candidate", Type::Bool),
        needed("offline", Type::Bool),
        needed("drained", Type::Bool),
        required("group", Type::String),
        required("master_capable", Type::Bool),
        required("vm_capable", Type::Bool),
        required("ndparams", Type::Record(&PARTIAL_NDPARAMS)),
        required("powered", Type::Bool),
        hidden("hv_state_static", ANY_MAP, "{}"),
        hidden("disk_state_static", ANY_MAP, "{}"),
        default("ctime", Type::Time, "0"),
        default("mtime", Type::Time, "0"),
        needed("uuid", Type::Uuid),
        needed("serial_no", Type::Int),
        default("tags", Type::Set, "[]"),
    ],
};

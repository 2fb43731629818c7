//! Field table of node groups.
//!
//! Source: `Ganeti.Objects` (`NodeGroup`).

use super::params::{ANY_MAP, PARTIAL_IPOLICY, PARTIAL_NDPARAMS, PARTIAL_NICPARAMS};
use super::schema::{FieldType, Record, default, expected, omit_if};

pub(super) static NODE_GROUP: Record = Record {
    name: "NodeGroup",
    fields: &[
        expected("name", FieldType::String),
        default("members", FieldType::List(&FieldType::String), "[]"),
        expected("ndparams", FieldType::Record(&PARTIAL_NDPARAMS)),
        expected(
            "alloc_policy",
            FieldType::Enum("AllocPolicy", &["preferred", "last_resort", "unallocable"]),
        ),
        expected("ipolicy", FieldType::Record(&PARTIAL_IPOLICY)),
        expected("diskparams", FieldType::Map(&ANY_MAP)),
        expected(
            "networks",
            FieldType::Map(&FieldType::Record(&PARTIAL_NICPARAMS)),
        ),
        omit_if("hv_state_static", ANY_MAP, "{}"),
        omit_if("disk_state_static", ANY_MAP, "{}"),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        expected("uuid", FieldType::Uuid),
        expected("serial_no", FieldType::Int),
        default("tags", FieldType::Set, "[]"),
    ],
};

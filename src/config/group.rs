//! Node groups.
//!
//! Source: the reference's object model, 4.5; `Ganeti.Objects` (`NodeGroup`).

use super::params::{ANY_MAP, PARTIAL_IPOLICY, PARTIAL_NDPARAMS, PARTIAL_NICPARAMS};
use super::schema::{Record, Type, default, hidden, required};

pub(super) static NODE_GROUP: Record = Record {
    name: "NodeGroup",
    fields: &[
        required("name", Type::String),
        default("members", Type::List(&Type::String), "[]"),
        required("ndparams", Type::Record(&PARTIAL_NDPARAMS)),
        required(
            "alloc_policy",
            Type::Enum("AllocPolicy", &["preferred", "last_resort", "unallocable"]),
        ),
        required("ipolicy", Type::Record(&PARTIAL_IPOLICY)),
        required("diskparams", Type::Map(&ANY_MAP)),
        required("networks", Type::Map(&Type::Record(&PARTIAL_NICPARAMS))),
        hidden("hv_state_static", ANY_MAP, "{}"),
        hidden("disk_state_static", ANY_MAP, "{}"),
        default("ctime", Type::Time, "0"),
        default("mtime", Type::Time, "0"),
        required("uuid", Type::Uuid),
        required("serial_no", Type::Int),
        default("tags", Type::Set, "[]"),
    ],
};

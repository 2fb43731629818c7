//! Instances, real and forthcoming, and their NICs.
//!
//! Source: the reference's object model, 4.6 and 4.7; `Ganeti.Objects.Instance`, `Ganeti.Objects.Nic`.

use super::params::{ANY_MAP, HYPERVISOR, PARTIAL_BEPARAMS, PARTIAL_NICPARAMS, STRING_MAP};
use super::schema::{Field, Record, Type, default, ignored, needed, optional, required};
use super::value::Value;

static NIC: Record = Record {
    name: "NIC",
    fields: &[
        required("mac", Type::String),
        optional("ip", Type::String),
        required("nicparams", Type::Record(&PARTIAL_NICPARAMS)),
        optional("network", Type::String),
        optional("name", Type::String),
        required("uuid", Type::Uuid),
    ],
};

/// What real and forthcoming instances have in common; `must` is how a field is there that only real ones must have,
/// `query` the same for one that queries need.
macro_rules! instance_fields {
    ($first:expr, $must:ident, $query:ident) => {
        [
            $first,
            $query("name", Type::String),
            $query("primary_node", Type::String),
            $must("os", Type::String),
            $must("hypervisor", HYPERVISOR),
            default("hvparams", ANY_MAP, "{}"),
            default("beparams", Type::Record(&PARTIAL_BEPARAMS), "{}"),
            default("osparams", STRING_MAP, "{}"),
            default("osparams_private", STRING_MAP, "{}"),
            $must(
                "admin_state",
                Type::Enum("AdminState", &["offline", "down", "up"]),
            ),
            $must(
                "admin_state_source",
                Type::Enum("AdminStateSource", &["admin", "user"]),
            ),
            default("nics", Type::List(&Type::Record(&NIC)), "[]"),
            default("disks", Type::List(&Type::String), "[]"),
            $must("disks_active", Type::Bool),
            optional("network_port", Type::Int),
            default("ctime", Type::Time, "0"),
            default("mtime", Type::Time, "0"),
            needed("uuid", Type::Uuid),
            needed("serial_no", Type::Int),
            default("tags", Type::Set, "[]"),
        ]
    };
}

static FIELDS: [Field; 20] = instance_fields!(ignored("forthcoming"), required, needed);

static FORTHCOMING_FIELDS: [Field; 20] =
    instance_fields!(optional("forthcoming", Type::Any), optional, optional);

static REAL: Record = Record {
    name: "Instance",
    fields: &FIELDS,
};

static FORTHCOMING: Record = Record {
    name: "Instance",
    fields: &FORTHCOMING_FIELDS,
};

/// The table for an instance: what is planned may lack what only exists once it is there.
pub(super) fn table(instance: Value<'_>) -> &'static Record {
    if is_forthcoming(instance) {
        &FORTHCOMING
    } else {
        &REAL
    }
}

/// Only `true` makes an object forthcoming; anything else, a string for example, is as good as absent.
pub(super) fn is_forthcoming(object: Value<'_>) -> bool {
    object
        .member("forthcoming")
        .and_then(|value| value.as_bool())
        .unwrap_or(false)
}

//! Field tables of instances, real and forthcoming, and of their NICs.
//!
//! Source: `Ganeti.Objects.Instance` and `Ganeti.Objects.Nic`.

use super::params::{ANY_MAP, HYPERVISOR, PARTIAL_BEPARAMS, PARTIAL_NICPARAMS, STRING_MAP};
use super::schema::{Field, FieldType, Record, default, expected, ignored, mandatory, optional};
use super::value::Value;

static NIC: Record = Record {
    name: "NIC",
    fields: &[
        expected("mac", FieldType::String),
        optional("ip", FieldType::String),
        expected("nicparams", FieldType::Record(&PARTIAL_NICPARAMS)),
        optional("network", FieldType::String),
        optional("name", FieldType::String),
        expected("uuid", FieldType::Uuid),
    ],
};

/// The fields of an instance. `$must` and `$query` make the fields that only real instances must
/// have; those made by `$query` are needed by queries.
macro_rules! instance_fields {
    ($first:expr, $must:ident, $query:ident) => {
        [
            $first,
            $query("name", FieldType::String),
            $query("primary_node", FieldType::String),
            $must("os", FieldType::String),
            $must("hypervisor", HYPERVISOR),
            default("hvparams", ANY_MAP, "{}"),
            default("beparams", FieldType::Record(&PARTIAL_BEPARAMS), "{}"),
            default("osparams", STRING_MAP, "{}"),
            default("osparams_private", STRING_MAP, "{}"),
            $must(
                "admin_state",
                FieldType::Enum("AdminState", &["offline", "down", "up"]),
            ),
            $must(
                "admin_state_source",
                FieldType::Enum("AdminStateSource", &["admin", "user"]),
            ),
            default("nics", FieldType::List(&FieldType::Record(&NIC)), "[]"),
            default("disks", FieldType::List(&FieldType::String), "[]"),
            $must("disks_active", FieldType::Bool),
            optional("network_port", FieldType::Int),
            default("ctime", FieldType::Time, "0"),
            default("mtime", FieldType::Time, "0"),
            mandatory("uuid", FieldType::Uuid),
            mandatory("serial_no", FieldType::Int),
            default("tags", FieldType::Set, "[]"),
        ]
    };
}

static FIELDS: [Field; 20] = instance_fields!(ignored("forthcoming"), expected, mandatory);

static FORTHCOMING_FIELDS: [Field; 20] =
    instance_fields!(optional("forthcoming", FieldType::Any), optional, optional);

static REAL: Record = Record {
    name: "Instance",
    fields: &FIELDS,
};

static FORTHCOMING: Record = Record {
    name: "Instance",
    fields: &FORTHCOMING_FIELDS,
};

/// The field table for an instance: a forthcoming one may lack most fields.
pub(super) fn table(instance: Value<'_>) -> &'static Record {
    if is_forthcoming(instance) {
        &FORTHCOMING
    } else {
        &REAL
    }
}

/// Whether an instance or disk is forthcoming: any value but `true` counts as absent.
pub(super) fn is_forthcoming(object: Value<'_>) -> bool {
    object
        .member("forthcoming")
        .and_then(|value| value.as_bool())
        .unwrap_or(false)
}

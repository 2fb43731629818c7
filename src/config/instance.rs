//! Field tables of instances, real and forthcoming, and of their NICs.
//!
//! Source: `Ganeti.Objects.Instance` and `Ganeti.Objects.Nic`.

use super::params::{ANY_MAP, HYPERVISOR, PARTIAL_BEPARAMS, PARTIAL_LINK_NICPARAMS, STRING_MAP};
use super::schema::{Field, FieldType, Record, default, expected, ignored, mandatory, optional};
use super::value::Value;

static NIC: Record = Record {
    name: "NIC",
    fields: &[
        expected("mac", FieldType::String),
        optional("ip", FieldType::String).needed_by("types 2 and 6"),
        expected("nicparams", FieldType::Record(&PARTIAL_LINK_NICPARAMS))
            .needed_by("types 2 and 6"),
        optional("network", FieldType::String),
        optional("name", FieldType::String),
        expected("uuid", FieldType::Uuid),
    ],
};

/// The fields of an instance. `$first` is the first row, `$name` and `$primary_node` are the fields
/// of these names, and `$must` makes a field that only real instances are expected to have.
macro_rules! instance_fields {
    ($first:expr, $name:expr, $primary_node:expr, $must:ident) => {
        [
            $first,
            $name,
            $primary_node,
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
            default("nics", FieldType::List(&FieldType::Record(&NIC)), "[]")
                .needed_by("types 2 and 6"),
            default("disks", FieldType::List(&FieldType::String), "[]")
                .needed_by("types 7, 8 and 9"),
            $must("disks_active", FieldType::Bool),
            optional("network_port", FieldType::Int),
            default("ctime", FieldType::Time, "0"),
            default("mtime", FieldType::Time, "0"),
            mandatory("uuid", FieldType::Uuid, "types 7 and 9"),
            mandatory("serial_no", FieldType::Int, "type 9"),
            default("tags", FieldType::Set, "[]"),
        ]
    };
}

const NAME_TYPES: &str = "types 2, 7 and 9";
const PRIMARY_NODE_TYPES: &str = "types 2, 7 and 8";

static FIELDS: [Field; 20] = instance_fields!(
    ignored("forthcoming"),
    mandatory("name", FieldType::String, NAME_TYPES),
    mandatory("primary_node", FieldType::String, PRIMARY_NODE_TYPES),
    expected
);

static FORTHCOMING_FIELDS: [Field; 20] = instance_fields!(
    optional("forthcoming", FieldType::Any),
    optional("name", FieldType::String).needed_by(NAME_TYPES),
    optional("primary_node", FieldType::String).needed_by(PRIMARY_NODE_TYPES),
    optional
);

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
    let forthcoming = instance.member("forthcoming");
    if forthcoming.is_some_and(is_forthcoming) {
        &FORTHCOMING
    } else {
        &REAL
    }
}

/// Whether this value of the key `forthcoming` makes an instance or disk forthcoming: any value but
/// `true` counts as absent.
pub(super) fn is_forthcoming(value: Value<'_>) -> bool {
    value.as_bool().unwrap_or(false)
}

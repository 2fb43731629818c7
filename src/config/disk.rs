//! Field tables of disks, real and forthcoming, with every kind of logical id.
//!
//! Source: `Ganeti.Objects.Disk`.

use super::error::Error;
use super::instance::is_forthcoming;
use super::params::{ANY_MAP, DISK_TEMPLATE};
use super::schema::{Field, FieldType, Record, default, expected, ignored, mandatory, optional};
use super::value::Value;
use super::writer::Writer;

/// The fields of a disk. `$must` makes a field that only real disks are expected to have.
macro_rules! disk_fields {
    ($first:expr, $logical_id:expr, $dev_type:expr, $must:ident) => {
        [
            $first,
            $logical_id,
            $dev_type,
            default("children", FieldType::List(&FieldType::Choice(table)), "[]"),
            default("nodes", FieldType::List(&FieldType::String), "[]"),
            default("iv_name", FieldType::String, "\"\""),
            $must("size", FieldType::Int),
            default("mode", FieldType::Enum("DiskMode", &["ro", "rw"]), "\"rw\""),
            optional("name", FieldType::String),
            optional("spindles", FieldType::Int),
            optional("params", ANY_MAP),
            expected("uuid", FieldType::Uuid),
            expected("serial_no", FieldType::Int),
            default("ctime", FieldType::Time, "0"),
            default("mtime", FieldType::Time, "0"),
        ]
    };
}

const FORTHCOMING: Field = optional("forthcoming", FieldType::Any);
const LOGICAL_ID: FieldType = FieldType::Custom(logical_id);

const REAL_FIELDS: [Field; 15] = disk_fields!(
    ignored("forthcoming"),
    mandatory("logical_id", LOGICAL_ID),
    mandatory("dev_type", DISK_TEMPLATE),
    expected
);

const PLACED_FIELDS: [Field; 15] = disk_fields!(
    FORTHCOMING,
    optional("logical_id", LOGICAL_ID),
    mandatory("dev_type", DISK_TEMPLATE),
    optional
);

const UNPLACED_FIELDS: [Field; 15] = disk_fields!(
    FORTHCOMING,
    ignored("logical_id"),
    ignored("dev_type"),
    optional
);

static REAL: Record = Record {
    name: "Disk",
    fields: &REAL_FIELDS,
};

/// A forthcoming disk that has a logical id.
static PLACED: Record = Record {
    name: "Disk",
    fields: &PLACED_FIELDS,
};

/// A forthcoming disk without a logical id: its type has no meaning yet.
static UNPLACED: Record = Record {
    name: "Disk",
    fields: &UNPLACED_FIELDS,
};

/// The field table for a disk.
pub(super) fn table(disk: Value<'_>) -> &'static Record {
    let has_logical_id = || {
        disk.member("logical_id")
            .is_some_and(|value| !value.is_null())
    };
    match is_forthcoming(disk) {
        false => &REAL,
        true if has_logical_id() => &PLACED,
        true => &UNPLACED,
    }
}

/// Writes a logical id: an array whose elements depend on the type of `disk`.
fn logical_id(writer: &mut Writer<'_>, value: Value<'_>, disk: Value<'_>) -> Result<(), Error> {
    const TWO_NAMES: &[FieldType] = &[FieldType::String, FieldType::String];
    const FILE: &[FieldType] = &[
        FieldType::Enum("FileDriver", &["loop", "blktap", "blktap2"]),
        FieldType::String,
    ];
    const BLOCK: &[FieldType] = &[
        FieldType::Enum("BlockDriver", &["manual"]),
        FieldType::String,
    ];
    const DRBD: &[FieldType] = &[
        FieldType::String,
        FieldType::String,
        FieldType::Int,
        FieldType::Int,
        FieldType::Int,
        FieldType::String,
    ];
    let dev_type = disk.member("dev_type").and_then(|value| value.as_text());
    let elements = match dev_type.as_deref() {
        Some("plain" | "rbd" | "ext") => TWO_NAMES,
        Some("drbd") => DRBD,
        Some("file" | "sharedfile" | "gluster") => FILE,
        Some("blockdev") => BLOCK,
        Some("diskless") => return Err(Error::new("a disk cannot be of type diskless")),
        Some(other) => {
            return Err(Error::new(format!(
                "\"{}\" is not a DiskTemplate",
                other.escape_debug()
            )));
        }
        None => return Err(Error::new("a disk with a logical_id needs a dev_type")),
    };
    writer.write(&FieldType::Tuple(elements), value, disk)
}

//! Disks, real and forthcoming, with every kind of logical id.
//!
//! Source: the reference's object model, 4.8; `Ganeti.Objects.Disk`.

use super::Error;
use super::instance::is_forthcoming;
use super::params::{ANY_MAP, DISK_TEMPLATE};
use super::schema::{Field, Record, Type, Writer, default, ignored, needed, optional, required};
use super::value::Value;

/// What all disks have; the rows before `size` differ.
macro_rules! disk_fields {
    ($first:expr, $logical_id:expr, $dev_type:expr, $must:ident) => {
        [
            $first,
            $logical_id,
            $dev_type,
            default("children", Type::List(&Type::Choice(table)), "[]"),
            default("nodes", Type::List(&Type::String), "[]"),
            default("iv_name", Type::String, "\"\""),
            $must("size", Type::Int),
            default("mode", Type::Enum("DiskMode", &["ro", "rw"]), "\"rw\""),
            optional("name", Type::String),
            optional("spindles", Type::Int),
            optional("params", ANY_MAP),
            required("uuid", Type::Uuid),
            required("serial_no", Type::Int),
            default("ctime", Type::Time, "0"),
            default("mtime", Type::Time, "0"),
        ]
    };
}

const FORTHCOMING: Field = optional("forthcoming", Type::Any);
const LOGICAL_ID: Type = Type::Custom(logical_id);

const REAL_FIELDS: [Field; 15] = disk_fields!(
    ignored("forthcoming"),
    needed("logical_id", LOGICAL_ID),
    needed("dev_type", DISK_TEMPLATE),
    required
);

const PLACED_FIELDS: [Field; 15] = disk_fields!(
    FORTHCOMING,
    optional("logical_id", LOGICAL_ID),
    needed("dev_type", DISK_TEMPLATE),
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

/// A forthcoming disk that knows where it will be.
static PLACED: Record = Record {
    name: "Disk",
    fields: &PLACED_FIELDS,
};

/// A forthcoming disk without a logical id, whose type means nothing yet.
static UNPLACED: Record = Record {
    name: "Disk",
    fields: &UNPLACED_FIELDS,
};

/// The table for a disk.
pub(super) fn table(disk: Value<'_>) -> &'static Record {
    let has_place = || {
        disk.member("logical_id")
            .is_some_and(|value| !value.is_null())
    };
    match is_forthcoming(disk) {
        false => &REAL,
        true if has_place() => &PLACED,
        true => &UNPLACED,
    }
}

/// Where a disk is: an array whose elements depend on the disk's type.
fn logical_id(writer: &mut Writer<'_>, value: Value<'_>, disk: Value<'_>) -> Result<(), Error> {
    const TWO_NAMES: &[Type] = &[Type::String, Type::String];
    const FILE: &[Type] = &[
        Type::Enum("FileDriver", &["loop", "blktap", "blktap2"]),
        Type::String,
    ];
    const BLOCK: &[Type] = &[Type::Enum("BlockDriver", &["manual"]), Type::String];
    const DRBD: &[Type] = &[
        Type::String,
        Type::String,
        Type::Int,
        Type::Int,
        Type::Int,
        Type::String,
    ];
    let dev_type = disk.member("dev_type").and_then(|value| value.as_text());
    let elements = match dev_type.as_deref() {
        Some("plain" | "rbd" | "ext") => TWO_NAMES,
        Some("drbd") => DRBD,
        Some("file" | "sharedfile" | "gluster") => FILE,
        Some("blockdev") => BLOCK,
        Some("diskless") => return Err(Error::new("a disk of type diskless cannot be")),
        Some(other) => {
            return Err(Error::new(format!(
                "\"{}\" is no DiskTemplate",
                other.escape_debug()
            )));
        }
        None => return Err(Error::new("it takes a dev_type to read a logical_id")),
    };
    writer.write(&Type::Tuple(elements), value, disk)
}

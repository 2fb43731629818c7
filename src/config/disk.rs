//! Field tables of disks, real and forthcoming, with every kind of logical id.
//!
//! Queries read the logical id of DRBD disks only. The type of a disk may be any word: one that is
//! not `drbd` is a disk that types 7 and 8 do not report.
//!
//! Source: `Ganeti.Objects.Disk`.

use super::error::Problem;
use super::instance::is_forthcoming;
use super::params::{self, ANY_MAP};
use super::schema::{
    Field, FieldType, Place, Record, default, expected, ignored, mandatory, optional,
};
use super::value::Value;
use super::writer::Writer;

const DRBD_TYPES: &str = "types 7 and 8";

/// The fields of a disk. `$must` makes a field that only real disks are expected to have.
macro_rules! disk_fields {
    ($first:expr, $logical_id:expr, $dev_type:expr, $must:ident) => {
        [
            $first,
            $logical_id,
            $dev_type,
            default("children", FieldType::List(&FieldType::Choice(table)), "[]")
                .needed_by("type 7"),
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

const IGNORED: Field = ignored("forthcoming");
const FORTHCOMING: Field = optional("forthcoming", FieldType::Any);
const DEV_TYPE: Field = mandatory("dev_type", params::DEV_TYPE, DRBD_TYPES);
const DRBD_ID: Field = mandatory("logical_id", FieldType::Tuple(&DRBD_PARTS), DRBD_TYPES);
const OTHER_ID: FieldType = FieldType::Custom(other_logical_id);

/// `[node A, node B, port, minor A, minor B, secret]`.
const DRBD_PARTS: [FieldType; 6] = [
    FieldType::String,
    FieldType::String,
    FieldType::Unread(&FieldType::Int),
    FieldType::Int,
    FieldType::Int,
    FieldType::Unread(&FieldType::String),
];

const REAL_DRBD_FIELDS: [Field; 15] = disk_fields!(IGNORED, DRBD_ID, DEV_TYPE, expected);

const REAL_FIELDS: [Field; 15] = disk_fields!(
    IGNORED,
    expected("logical_id", OTHER_ID),
    DEV_TYPE,
    expected
);

const PLACED_DRBD_FIELDS: [Field; 15] = disk_fields!(FORTHCOMING, DRBD_ID, DEV_TYPE, optional);

const PLACED_FIELDS: [Field; 15] = disk_fields!(
    FORTHCOMING,
    optional("logical_id", OTHER_ID),
    DEV_TYPE,
    optional
);

const UNPLACED_FIELDS: [Field; 15] = disk_fields!(
    FORTHCOMING,
    ignored("logical_id"),
    ignored("dev_type"),
    optional
);

const fn disk(fields: &'static [Field]) -> Record {
    Record {
        name: "Disk",
        fields,
    }
}

static REAL_DRBD: Record = disk(&REAL_DRBD_FIELDS);
static REAL: Record = disk(&REAL_FIELDS);
/// A forthcoming DRBD disk that has a logical id.
static PLACED_DRBD: Record = disk(&PLACED_DRBD_FIELDS);
/// Another forthcoming disk that has a logical id.
static PLACED: Record = disk(&PLACED_FIELDS);
/// A forthcoming disk without a logical id: its type has no meaning yet.
static UNPLACED: Record = disk(&UNPLACED_FIELDS);

/// The field table for a disk.
pub(super) fn table(disk: Value<'_>) -> &'static Record {
    let (mut forthcoming, mut has_logical_id, mut is_drbd) = (false, false, false);
    for (key, value) in disk.members().into_iter().flatten() {
        match key {
            "forthcoming" => forthcoming = is_forthcoming(value),
            "logical_id" => has_logical_id = !value.is_null(),
            "dev_type" => is_drbd = value.as_text().as_deref() == Some("drbd"),
            _ => {}
        }
    }
    match (forthcoming, has_logical_id, is_drbd) {
        (false, _, true) => &REAL_DRBD,
        (false, _, false) => &REAL,
        (true, true, true) => &PLACED_DRBD,
        (true, true, false) => &PLACED,
        (true, false, _) => &UNPLACED,
    }
}

/// Writes the logical id of a disk that is not DRBD: an array whose elements depend on the type.
fn other_logical_id(
    writer: &mut Writer<'_>,
    value: Value<'_>,
    place: &Place<'_>,
) -> Result<(), Problem> {
    const TWO_NAMES: &[FieldType] = &[FieldType::String, FieldType::String];
    const FILE: &[FieldType] = &[
        FieldType::Enum("FileDriver", &["loop", "blktap", "blktap2"]),
        FieldType::String,
    ];
    const BLOCK: &[FieldType] = &[
        FieldType::Enum("BlockDriver", &["manual"]),
        FieldType::String,
    ];
    let dev_type = place.owner.member("dev_type");
    let elements = match dev_type.and_then(|value| value.as_text()).as_deref() {
        Some("plain" | "rbd" | "ext") => TWO_NAMES,
        Some("file" | "sharedfile" | "gluster") => FILE,
        Some("blockdev") => BLOCK,
        _ => return Ok(writer.any(value)?),
    };
    writer.tuple(elements, value, place)
}

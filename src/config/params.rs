//! Field tables of parameters: complete in the cluster, partial in groups, nodes, instances and
//! NICs.
//!
//! Source: `Ganeti.Objects` (`FilledNDParams`, `FilledBeParams`, `FilledIPolicy` and the partial
//! record of each) and `Ganeti.Utils.parseUnitAssumeBinary` for sizes.

use super::error::{Problem, quoted};
use super::number;
use super::schema::{Field, FieldType, Place, Record, expected, mandatory, partial};
use super::value::Value;
use super::writer::{Writer, int};

/// Hypervisors in the order in which maps keyed by them are printed.
pub(super) const HYPERVISORS: [&str; 6] = ["kvm", "xen-pvm", "chroot", "xen-hvm", "lxc", "fake"];

/// The name of a hypervisor.
pub(super) const HYPERVISOR: FieldType = FieldType::Enum("Hypervisor", &HYPERVISORS);

/// Disk templates that the reference knows. The first means that an instance has no disks.
const DISK_TEMPLATES: [&str; 9] = [
    "diskless",
    "file",
    "sharedfile",
    "plain",
    "blockdev",
    "drbd",
    "rbd",
    "ext",
    "gluster",
];

/// The name of a disk template.
pub(super) const DISK_TEMPLATE: FieldType = FieldType::Enum("DiskTemplate", &DISK_TEMPLATES);

/// The template of a disk.
pub(super) const DEV_TYPE: FieldType =
    FieldType::Enum("DiskTemplate", DISK_TEMPLATES.split_at(1).1);

/// Hypervisor parameters by hypervisor.
pub(super) const HVPARAMS: FieldType = FieldType::KeyedMap(&HYPERVISORS, &ANY_MAP);

/// Free-form values by name.
pub(super) const ANY_MAP: FieldType = FieldType::Map(&FieldType::Any);

/// Strings by name.
pub(super) const STRING_MAP: FieldType = FieldType::Map(&FieldType::String);

const NDPARAMS_FIELDS: [Field; 8] = [
    expected("oob_program", FieldType::String),
    expected("spindle_count", FieldType::Int),
    expected("exclusive_storage", FieldType::Bool),
    expected("ovs", FieldType::Bool),
    expected("ovs_name", FieldType::String),
    expected("ovs_link", FieldType::String),
    expected("ssh_port", FieldType::Int),
    expected("cpu_speed", FieldType::Double),
];

pub(super) static NDPARAMS: Record = Record {
    name: "NDParams",
    fields: &NDPARAMS_FIELDS,
};

pub(super) static PARTIAL_NDPARAMS: Record = Record {
    name: "NDParams",
    fields: &partial(NDPARAMS_FIELDS),
};

const BEPARAMS_FIELDS: [Field; 6] = [
    expected("minmem", FieldType::Custom(size)),
    expected("maxmem", FieldType::Custom(size)),
    expected("vcpus", FieldType::Int),
    expected("auto_balance", FieldType::Bool),
    expected("always_failover", FieldType::Bool),
    expected("spindle_use", FieldType::Int),
];

pub(super) static BEPARAMS: Record = Record {
    name: "BeParams",
    fields: &BEPARAMS_FIELDS,
};

pub(super) static PARTIAL_BEPARAMS: Record = Record {
    name: "BeParams",
    fields: &partial(BEPARAMS_FIELDS),
};

/// NIC parameters with the given row for the link.
const fn nicparams(link: Field) -> [Field; 3] {
    [
        expected(
            "mode",
            FieldType::Enum(
                "NICMode",
                &["bridged", "routed", "openvswitch", "pool", "ext"],
            ),
        ),
        link,
        expected("vlan", FieldType::String),
    ]
}

const LINK: Field = expected("link", FieldType::String);

/// NIC parameters that no query reads.
pub(super) static NICPARAMS: Record = Record {
    name: "NicParams",
    fields: &nicparams(LINK),
};

/// NIC parameters whose link is the default.
pub(super) static LINK_NICPARAMS: Record = Record {
    name: "NicParams",
    fields: &nicparams(mandatory("link", FieldType::String, "types 2 and 6")),
};

/// Partial NIC parameters that no query reads.
pub(super) static PARTIAL_NICPARAMS: Record = Record {
    name: "NicParams",
    fields: &partial(nicparams(LINK)),
};

/// Partial NIC parameters of an instance's NIC.
pub(super) static PARTIAL_LINK_NICPARAMS: Record = Record {
    name: "NicParams",
    fields: &partial(nicparams(LINK.needed_by("types 2 and 6"))),
};

const ISPEC_FIELDS: [Field; 6] = [
    expected("memory-size", FieldType::Int),
    expected("disk-size", FieldType::Int),
    expected("disk-count", FieldType::Int),
    expected("cpu-count", FieldType::Int),
    expected("nic-count", FieldType::Int),
    expected("spindle-use", FieldType::Int),
];

static ISPEC: Record = Record {
    name: "ISpec",
    fields: &ISPEC_FIELDS,
};

static PARTIAL_ISPEC: Record = Record {
    name: "ISpec",
    fields: &partial(ISPEC_FIELDS),
};

static MINMAX: Record = Record {
    name: "MinMaxISpecs",
    fields: &[
        expected("min", FieldType::Record(&ISPEC)),
        expected("max", FieldType::Record(&ISPEC)),
    ],
};

static MINMAX_TYPE: FieldType = FieldType::Record(&MINMAX);

const fn ipolicy_fields(std: &'static Record) -> [Field; 5] {
    [
        expected("minmax", FieldType::List(&MINMAX_TYPE)),
        expected("std", FieldType::Record(std)),
        expected("spindle-ratio", FieldType::Double),
        expected("vcpu-ratio", FieldType::Double),
        expected("disk-templates", FieldType::List(&DISK_TEMPLATE)),
    ]
}

pub(super) static IPOLICY: Record = Record {
    name: "IPolicy",
    fields: &ipolicy_fields(&ISPEC),
};

pub(super) static PARTIAL_IPOLICY: Record = Record {
    name: "IPolicy",
    fields: &partial(ipolicy_fields(&PARTIAL_ISPEC)),
};

/// Writes a memory size in MiB: a number, or a string with a unit.
fn size(writer: &mut Writer<'_>, value: Value<'_>, _: &Place<'_>) -> Result<(), Problem> {
    let size = match value.as_str() {
        Some(text) => parse_size(text).ok_or_else(|| {
            let text = quoted(text);
            Problem::Mismatch(format!("{text} is not a size (such as 512, 512m, 4 GiB)"))
        })?,
        None => int(value)?,
    };
    writer.int(size);
    Ok(())
}

/// The size in MiB that a text with an optional unit means.
fn parse_size(text: &str) -> Option<i64> {
    let (size, rest) = number::read_int(text)?;
    let unit = rest.trim_start_matches(' ').to_ascii_lowercase();
    // The reference takes any mix of cases for units of two and three letters; for one letter,
    // lower and upper case are all there is.
    let mebibytes: i64 = match unit.as_str() {
        "" | "m" | "mb" | "mib" => 1,
        "g" | "gb" | "gib" => 1 << 10,
        "t" | "tb" | "tib" => 1 << 20,
        _ => return None,
    };
    Some(size.wrapping_mul(mebibytes))
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_take_units() {
        for (text, expected) in [
            ("512", Some(512)),
            ("1 GiB", Some(1024)),
            ("512m", Some(512)),
            ("5gb", Some(5120)),
            ("0x10", Some(16)),
            ("-5", Some(-5)),
            ("2T", Some(2 << 20)),
            ("1.5g", None),
            ("1k", None),
            ("1 g ", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }
}

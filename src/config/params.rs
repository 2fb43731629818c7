//! Parameter families: filled in the cluster, partial further down.
//!
//! Source: the reference's object model, 4.3; `Ganeti.Objects` (`FilledNDParams`, `FilledBeParams`, `FilledIPolicy` and their
//! partial twins), `Ganeti.Utils.parseUnitAssumeBinary` for sizes.

use super::schema::{Field, Record, Type, Writer, int, needed, partial, required};
use super::value::Value;
use super::{Error, number};

/// Hypervisors in the order in which maps keyed by them are printed.
pub(super) const HYPERVISORS: [&str; 6] = ["kvm", "xen-pvm", "chroot", "xen-hvm", "lxc", "fake"];

pub(super) const HYPERVISOR: Type = Type::Enum("Hypervisor", &HYPERVISORS);

pub(super) const DISK_TEMPLATES: [&str; 9] = [
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

pub(super) const DISK_TEMPLATE: Type = Type::Enum("DiskTemplate", &DISK_TEMPLATES);

/// Hypervisor parameters by hypervisor.
pub(super) const HVPARAMS: Type = Type::KeyedMap(&HYPERVISORS, &ANY_MAP);

pub(super) const ANY_MAP: Type = Type::Map(&Type::Any);

pub(super) const STRING_MAP: Type = Type::Map(&Type::String);

const NDPARAMS_FIELDS: [Field; 8] = [
    required("oob_program", Type::String),
    required("spindle_count", Type::Int),
    required("exclusive_storage", Type::Bool),
    required("ovs", Type::Bool),
    required("ovs_name", Type::String),
    required("ovs_link", Type::String),
    required("ssh_port", Type::Int),
    required("cpu_speed", Type::Double),
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
    required("minmem", Type::Custom(size)),
    required("maxmem", Type::Custom(size)),
    required("vcpus", Type::Int),
    required("auto_balance", Type::Bool),
    required("always_failover", Type::Bool),
    required("spindle_use", Type::Int),
];

pub(super) static BEPARAMS: Record = Record {
    name: "BeParams",
    fields: &BEPARAMS_FIELDS,
};

pub(super) static PARTIAL_BEPARAMS: Record = Record {
    name: "BeParams",
    fields: &partial(BEPARAMS_FIELDS),
};

const NICPARAMS_FIELDS: [Field; 3] = [
    required(
        "mode",
        Type::Enum(
            "NICMode",
            &["bridged", "routed", "openvswitch", "pool", "ext"],
        ),
    ),
    needed("link", Type::String),
    required("vlan", Type::String),
];

pub(super) static NICPARAMS: Record = Record {
    name: "NicParams",
    fields: &NICPARAMS_FIELDS,
};

pub(super) static PARTIAL_NICPARAMS: Record = Record {
    name: "NicParams",
    fields: &partial(NICPARAMS_FIELDS),
};

const ISPEC_FIELDS: [Field; 6] = [
    required("memory-size", Type::Int),
    required("disk-size", Type::Int),
    required("disk-count", Type::Int),
    required("cpu-count", Type::Int),
    required("nic-count", Type::Int),
    required("spindle-use", Type::Int),
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
        required("min", Type::Record(&ISPEC)),
        required("max", Type::Record(&ISPEC)),
    ],
};

static MINMAX_TYPE: Type = Type::Record(&MINMAX);

const fn ipolicy_fields(std: &'static Record) -> [Field; 5] {
    [
        required("minmax", Type::List(&MINMAX_TYPE)),
        required("std", Type::Record(std)),
        required("spindle-ratio", Type::Double),
        required("vcpu-ratio", Type::Double),
        required("disk-templates", Type::List(&DISK_TEMPLATE)),
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

/// A memory size in MiB: a number, or a string with a unit.
fn size(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    let size = match value.as_str() {
        Some(text) => parse_size(text).ok_or_else(|| {
            Error::new(format!(
                "\"{}\" is no size (such as 512, 512m, 4 GiB)",
                text.escape_debug()
            ))
        })?,
        None => int(value)?,
    };
    writer.int(size)
}

fn parse_size(text: &str) -> Option<i64> {
    let (size, rest) = number::read_int(text)?;
    let unit = rest.trim_start_matches(' ').to_ascii_lowercase();
    // One letter means what it says in lower and upper case; so do two and three.
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

//! The language of the field tables.
//!
//! A [`Record`] lists its fields in the order in which the reference prints them, which need not be
//! the order in the file. [`super::typed`] writes values by these tables.
//!
//! Tolerance is by need. A field names the request types that need it, and a file in which such a
//! field is of another type is refused. Any other value that does not match its type is written as
//! it is, with a warning; the innermost value that does not match, so that the rest of a list or
//! record is still checked and normalized. A word that an enumeration does not have is always kept:
//! the queries that read one compare it with a word that they know.

use super::error::Problem;
use super::value::Value;
use super::writer::Writer;

/// What the value of a field should be, and how it is printed.
#[derive(Clone, Copy)]
pub(super) enum FieldType {
    /// Any JSON; numbers in the reference's spelling, everything else as it is.
    Any,
    /// A string, or an array of one-character strings.
    String,
    /// A string and nothing else: the reference keeps these as bytes.
    Uuid,
    /// A string that is not empty.
    NonEmpty,
    /// `true` or `false`.
    Bool,
    /// Any number, rounded half to even, wrapped to signed 64 bits.
    Int,
    /// Any number, rounded half to even.
    Integer,
    /// Any number, as the nearest double.
    Double,
    /// Seconds since the epoch.
    Time,
    /// A string, with a warning if it is not in the list; the first argument is the reference's
    /// name of the type.
    Enum(&'static str, &'static [&'static str]),
    /// An array of any length.
    List(&'static Self),
    /// An array of exactly these.
    Tuple(&'static [Self]),
    /// An array of strings, printed sorted and without duplicates.
    Set,
    /// An object with arbitrary keys, printed sorted by key.
    Map(&'static Self),
    /// The same, with some entries that queries need. The other entries have the second type, and
    /// none is needed.
    MapWith(&'static [Entry], &'static Self),
    /// An object printed in the order of this list of keys, then any other keys, with a warning.
    KeyedMap(&'static [&'static str], &'static Self),
    /// An object with a field table.
    Record(&'static Record),
    /// A record whose table depends on the value.
    Choice(fn(Value<'_>) -> &'static Record),
    /// The same type, where no query reads the value although one reads other parts of the field.
    Unread(&'static Self),
    /// Anything else: a function that writes the value.
    Custom(fn(&mut Writer<'_>, Value<'_>, &Place<'_>) -> Result<(), Problem>),
}

/// An entry of a [`FieldType::MapWith`] that queries need if it is present.
pub(super) struct Entry {
    pub(super) key: &'static str,
    pub(super) ty: FieldType,
    /// The request types that need it, in words.
    pub(super) needed_by: &'static str,
}

/// What happens when a field is absent. For all but the first two, `null` means absent.
#[derive(Clone, Copy)]
pub(super) enum Presence {
    /// The file is refused.
    Mandatory,
    /// The field is left out with a warning. The reference refuses the file, but no query needs the
    /// field.
    WarnIfMissing,
    /// The field is left out.
    Optional,
    /// This text is printed.
    Default(&'static str),
    /// The field is left out, and so is a value that prints as this text.
    OmitIfDefault(&'static str),
    /// The field is never checked or printed.
    Ignored,
}

/// One row of a field table.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) ty: FieldType,
    pub(super) presence: Presence,
    /// The request types that need the value to be of its type, in words; `None` if no query reads
    /// it. Type 10, which returns any value as it is, does not count.
    pub(super) needed_by: Option<&'static str>,
}

/// The fields of a kind of object, in the order in which they are printed.
pub(super) struct Record {
    /// The name of the kind, for warnings.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// Where a value is.
#[derive(Clone, Copy)]
pub(super) struct Place<'v> {
    /// The record that the value is in, at any depth.
    pub(super) owner: Value<'v>,
    /// The name of that kind of record, and the key of the field in it.
    pub(super) record: &'static str,
    pub(super) key: &'static str,
    /// The request types that need the value to be of its type.
    pub(super) needed_by: Option<&'static str>,
}

/// The most fields that a record may have.
pub(super) const FIELDS_MAX: usize = 64;

const fn field(key: &'static str, ty: FieldType, presence: Presence) -> Field {
    Field {
        key,
        ty,
        presence,
        needed_by: None,
    }
}

/// A field without which the request types in `needed_by` cannot be answered.
pub(super) const fn mandatory(key: &'static str, ty: FieldType, needed_by: &'static str) -> Field {
    field(key, ty, Presence::Mandatory).needed_by(needed_by)
}

/// A field that the reference demands and no query needs.
pub(super) const fn expected(key: &'static str, ty: FieldType) -> Field {
    field(key, ty, Presence::WarnIfMissing)
}

/// A field that is printed if it is there.
pub(super) const fn optional(key: &'static str, ty: FieldType) -> Field {
    field(key, ty, Presence::Optional)
}

/// A field that is printed as `text` if it is absent.
pub(super) const fn default(key: &'static str, ty: FieldType, text: &'static str) -> Field {
    field(key, ty, Presence::Default(text))
}

/// A field that is printed only if it differs from `text`.
pub(super) const fn omit_if(key: &'static str, ty: FieldType, text: &'static str) -> Field {
    field(key, ty, Presence::OmitIfDefault(text))
}

/// A field that is known but neither checked nor printed.
pub(super) const fn ignored(key: &'static str) -> Field {
    field(key, FieldType::Any, Presence::Ignored)
}

impl Field {
    /// The same field, which the request types in `needed_by` read if it is there.
    pub(super) const fn needed_by(mut self, needed_by: &'static str) -> Self {
        self.needed_by = Some(needed_by);
        self
    }
}

/// The same fields, all of them optional: the reference's partial parameter records.
pub(super) const fn partial<const N: usize>(mut fields: [Field; N]) -> [Field; N] {
    let mut at = 0;
    while at < N {
        fields[at].presence = Presence::Optional;
        at += 1;
    }
    fields
}

impl Place<'_> {
    /// The same place, where no query reads the value.
    pub(super) fn unread(self) -> Self {
        Self {
            needed_by: None,
            ..self
        }
    }

    /// The same place, where the request types in `needed_by` read the value.
    pub(super) fn needed_by(self, needed_by: &'static str) -> Self {
        Self {
            needed_by: Some(needed_by),
            ..self
        }
    }
}

impl Record {
    /// The index of `key` in the table. Files mostly follow its order, so the search starts at
    /// `expected`.
    pub(super) fn position(&self, key: &str, expected: usize) -> Option<usize> {
        let from = |start: usize| {
            self.fields
                .iter()
                .skip(start)
                .position(|field| field.key == key)
        };
        from(expected)
            .map(|found| found + expected)
            .or_else(|| from(0))
    }
}

//! The field tables: how they are written down, and how a value is checked and written by one.
//!
//! A [`Record`] lists its fields in the order in which the reference prints them, which need not be
//! the order in the file. Writing a record takes two passes: one over the value's members, to find
//! the value of each field, and one over the table, to write them.

use super::error::Error;
use super::number;
use super::value::Value;
use super::writer::{Writer, elements, expect, int, members, reject_duplicate, text, twice};

/// What the value of a field must be, and how it is printed.
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
    /// One of the strings in the list; the first argument is the reference's name of the type.
    Enum(&'static str, &'static [&'static str]),
    /// An array of any length.
    List(&'static Self),
    /// An array of exactly these.
    Tuple(&'static [Self]),
    /// An array of strings, printed sorted and without duplicates.
    Set,
    /// An object with arbitrary keys, printed sorted by key.
    Map(&'static Self),
    /// An object whose keys are all in the list, printed in the order of the list.
    KeyedMap(&'static [&'static str], &'static Self),
    /// An object with a field table.
    Record(&'static Record),
    /// A record whose table depends on the value.
    Choice(fn(Value<'_>) -> &'static Record),
    /// Anything else: a function of the value and the record that it is in.
    Custom(fn(&mut Writer<'_>, Value<'_>, Value<'_>) -> Result<(), Error>),
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
    presence: Presence,
}

/// The fields of a kind of object, in the order in which they are printed.
pub(super) struct Record {
    /// The name of the kind, for warnings.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// The most fields that a record may have.
const FIELDS_MAX: usize = 64;

/// The position of a value that is absent. Position 0 is the piece itself, never a field.
const ABSENT: u32 = 0;

/// A field that queries need.
pub(super) const fn mandatory(key: &'static str, ty: FieldType) -> Field {
    Field {
        key,
        ty,
        presence: Presence::Mandatory,
    }
}

/// A field that the reference demands and no query needs.
pub(super) const fn expected(key: &'static str, ty: FieldType) -> Field {
    Field {
        key,
        ty,
        presence: Presence::WarnIfMissing,
    }
}

/// A field that is printed if it is there.
pub(super) const fn optional(key: &'static str, ty: FieldType) -> Field {
    Field {
        key,
        ty,
        presence: Presence::Optional,
    }
}

/// A field that is printed as `text` if it is absent.
pub(super) const fn default(key: &'static str, ty: FieldType, text: &'static str) -> Field {
    Field {
        key,
        ty,
        presence: Presence::Default(text),
    }
}

/// A field that is printed only if it differs from `text`.
pub(super) const fn omit_if(key: &'static str, ty: FieldType, text: &'static str) -> Field {
    Field {
        key,
        ty,
        presence: Presence::OmitIfDefault(text),
    }
}

/// A field that is known but neither checked nor printed.
pub(super) const fn ignored(key: &'static str) -> Field {
    Field {
        key,
        ty: FieldType::Any,
        presence: Presence::Ignored,
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

impl Writer<'_> {
    /// Writes `value` as a `ty`; `owner` is the record that it is in.
    pub(super) fn write(
        &mut self,
        ty: &FieldType,
        value: Value<'_>,
        owner: Value<'_>,
    ) -> Result<(), Error> {
        match *ty {
            FieldType::Any => return self.any(value),
            FieldType::String => self.string(&text(value)?),
            FieldType::Uuid => self.string(expect(value, "a string", value.as_str())?),
            FieldType::NonEmpty => match &*text(value)? {
                "" => return Err(Error::new("must not be empty")),
                text => self.string(text),
            },
            FieldType::Bool => self.bool(expect(value, "a boolean", value.as_bool())?),
            FieldType::Int => self.int(int(value)?),
            FieldType::Integer => return self.number(value, number::integer),
            FieldType::Double => return self.double(value, number::double),
            FieldType::Time => return self.double(value, number::time),
            FieldType::Enum(name, names) => return self.name(name, names, value),
            FieldType::List(ty) => return self.list(ty, value),
            FieldType::Tuple(types) => return self.tuple(types, value),
            FieldType::Set => return self.set(value),
            FieldType::Map(ty) => return self.map(ty, value),
            FieldType::KeyedMap(keys, ty) => return self.keyed_map(keys, ty, value),
            FieldType::Record(record) => return self.record(record, value),
            FieldType::Choice(choose) => return self.record(choose(value), value),
            FieldType::Custom(write) => return write(self, value, owner),
        }
        Ok(())
    }

    /// Writes a string that must be one of `names`; `ty` is the type that the error names.
    pub(super) fn name(&mut self, ty: &str, names: &[&str], value: Value<'_>) -> Result<(), Error> {
        let name = text(value)?;
        if !names.contains(&&*name) {
            return Err(Error::new(format!(
                "\"{}\" is no {ty}",
                name.escape_debug()
            )));
        }
        self.string(&name);
        Ok(())
    }

    fn list(&mut self, ty: &FieldType, value: Value<'_>) -> Result<(), Error> {
        let list = self.open(b'[');
        for (index, element) in elements(value)?.enumerate() {
            self.element();
            self.write(ty, element, value)
                .map_err(|error| error.under(&index.to_string()))?;
        }
        self.close(list, b']');
        Ok(())
    }

    fn tuple(&mut self, types: &[FieldType], value: Value<'_>) -> Result<(), Error> {
        let count = elements(value)?.count();
        if count != types.len() {
            return Err(Error::new(format!(
                "expected an array of {}, found one of {count}",
                types.len()
            )));
        }
        let list = self.open(b'[');
        for (index, (ty, element)) in types.iter().zip(elements(value)?).enumerate() {
            self.element();
            self.write(ty, element, value)
                .map_err(|error| error.under(&index.to_string()))?;
        }
        self.close(list, b']');
        Ok(())
    }

    fn set(&mut self, value: Value<'_>) -> Result<(), Error> {
        let strings = elements(value)?
            .enumerate()
            .map(|(index, element)| text(element).map_err(|error| error.under(&index.to_string())));
        let mut strings = strings.collect::<Result<Vec<_>, _>>()?;
        strings.sort_unstable();
        strings.dedup();
        let list = self.open(b'[');
        for string in strings {
            self.element();
            self.string(&string);
        }
        self.close(list, b']');
        Ok(())
    }

    fn map(&mut self, ty: &FieldType, value: Value<'_>) -> Result<(), Error> {
        let map = self.open(b'{');
        let members = members(value)?;
        if members
            .clone()
            .map(|(key, _)| key)
            .is_sorted_by(|left, right| left < right)
        {
            self.map_members(ty, members, value)?;
        } else {
            let mut sorted: Vec<_> = members.collect();
            sorted.sort_by_key(|(key, _)| *key);
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(twice(pair[0].0));
            }
            self.map_members(ty, sorted.into_iter(), value)?;
        }
        self.close(map, b'}');
        Ok(())
    }

    fn map_members<'v>(
        &mut self,
        ty: &FieldType,
        members: impl Iterator<Item = (&'v str, Value<'v>)>,
        owner: Value<'_>,
    ) -> Result<(), Error> {
        for (key, member) in members {
            self.key(key);
            self.write(ty, member, owner)
                .map_err(|error| error.under(key))?;
        }
        Ok(())
    }

    fn keyed_map(
        &mut self,
        keys: &[&'static str],
        ty: &FieldType,
        value: Value<'_>,
    ) -> Result<(), Error> {
        let members = members(value)?;
        if let Some((key, _)) = members.clone().find(|(key, _)| !keys.contains(key)) {
            return Err(Error::new(format!(
                "unknown key '{}', expected one of {keys:?}",
                key.escape_debug()
            )));
        }
        reject_duplicate(members.clone())?;
        let map = self.open(b'{');
        for key in keys {
            if let Some((_, member)) = members.clone().find(|(name, _)| name == key) {
                self.key(key);
                self.write(ty, member, value)
                    .map_err(|error| error.under(key))?;
            }
        }
        self.close(map, b'}');
        Ok(())
    }

    /// Writes `value` by the table of `record`, then the keys that are not in the table, as
    /// free-form values.
    pub(super) fn record(
        &mut self,
        record: &'static Record,
        value: Value<'_>,
    ) -> Result<(), Error> {
        let mut slots = [ABSENT; FIELDS_MAX];
        let mut unknown = Vec::new();
        let mut expected = 0;
        for (key, member) in members(value)? {
            let Some(found) = record.position(key, expected) else {
                self.warnings.unknown(record.name, key);
                unknown.push((key, member));
                continue;
            };
            if std::mem::replace(&mut slots[found], member.position()) != ABSENT {
                return Err(twice(key));
            }
            expected = found + 1;
        }
        reject_duplicate(unknown.iter().copied())?;
        let object = self.open(b'{');
        for (field, slot) in record.fields.iter().zip(slots) {
            let member = (slot != ABSENT).then(|| value.at_position(slot));
            self.field(record, field, member, value)?;
        }
        for (key, member) in unknown {
            self.key(key);
            self.any(member).map_err(|error| error.under(key))?;
        }
        self.close(object, b'}');
        Ok(())
    }

    /// Writes one field of a record; `owner` is the record's value.
    pub(super) fn field(
        &mut self,
        record: &'static Record,
        field: &Field,
        value: Option<Value<'_>>,
        owner: Value<'_>,
    ) -> Result<(), Error> {
        let null_is_absent = !matches!(
            field.presence,
            Presence::Mandatory | Presence::WarnIfMissing
        );
        let value = value.filter(|value| !(null_is_absent && value.is_null()));
        let start = self.out.len();
        match (value, field.presence) {
            (_, Presence::Ignored) => {}
            (Some(value), presence) => {
                self.table_key(field.key);
                let value_start = self.out.len();
                self.write(&field.ty, value, owner)
                    .map_err(|error| error.under(field.key))?;
                if let Presence::OmitIfDefault(default) = presence
                    && self.out[value_start..] == *default.as_bytes()
                {
                    self.out.truncate(start);
                    self.tree.forget_last();
                }
            }
            (None, _) => self.absent(record, field)?,
        }
        Ok(())
    }

    /// Writes what is printed for a field that is absent, if anything is.
    pub(super) fn absent(&mut self, record: &'static Record, field: &Field) -> Result<(), Error> {
        match field.presence {
            Presence::Mandatory => {
                return Err(Error::new(format!(
                    "key '{}' is missing, and queries need it",
                    field.key
                )));
            }
            Presence::WarnIfMissing => self.warnings.missing(record.name, field.key),
            Presence::Default(text) => {
                self.table_key(field.key);
                self.push(text);
            }
            Presence::Optional | Presence::OmitIfDefault(_) | Presence::Ignored => {}
        }
        Ok(())
    }
}

impl Record {
    /// The index of `key` in the table. Files mostly follow its order, so the search starts at
    /// `expected`.
    fn position(&self, key: &str, expected: usize) -> Option<usize> {
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

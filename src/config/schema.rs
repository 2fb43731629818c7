//! The field tables' language, and the writer that follows it.
//!
//! A [`Record`] lists its fields in the order in which the reference prints them, whatever the order in the file. The
//! writer goes through a value once for each level: it finds each field's value, then writes them in the table's order.

use std::borrow::Cow;

use super::document::TreeBuilder;
use super::value::{Number, Value};
use super::{Error, Warnings, number};
use crate::text::escape;

/// What a value must be, and so how it is printed.
#[derive(Clone, Copy)]
pub(super) enum Type {
    /// Any JSON; numbers in the reference's spelling, everything else as it is.
    Any,
    /// A string, or an array of one-character strings.
    String,
    /// A string and nothing else: the reference keeps these as bytes.
    Uuid,
    /// A string that is not empty.
    NonEmpty,
    Bool,
    /// Any number, rounded half to even, wrapped to signed 64 bits.
    Int,
    /// Any number, rounded half to even.
    Integer,
    /// Any number, as the nearest double.
    Double,
    /// Seconds since the epoch.
    Time,
    /// One of these strings; the first is what the reference calls their type.
    Enum(&'static str, &'static [&'static str]),
    List(&'static Self),
    /// An array of exactly these.
    Tuple(&'static [Self]),
    /// An array of strings, printed sorted and without duplicates.
    Set,
    /// An object with arbitrary keys, printed sorted by key.
    Map(&'static Self),
    /// An object whose keys are among these, printed in this order.
    KeyedMap(&'static [&'static str], &'static Self),
    Record(&'static Record),
    /// A record whose table depends on the value.
    Choice(fn(Value<'_>) -> &'static Record),
    /// What no table says: value, and the record it stands in.
    Custom(fn(&mut Writer<'_>, Value<'_>, Value<'_>) -> Result<(), Error>),
}

/// What happens when a field is absent (or null, where that says the same).
#[derive(Clone, Copy)]
pub(super) enum Presence {
    /// Without it, or with null, the file is rejected.
    Mandatory,
    /// The reference rejects the file; no query needs it, so it is left out with a warning. Null is still an error.
    WarnIfMissing,
    /// Left out.
    Optional,
    /// This text is printed.
    Default(&'static str),
    /// This text is meant; a value that prints the same is left out as well.
    OmitIfDefault(&'static str),
    /// Known, but neither checked nor printed.
    Ignored,
}

#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) ty: Type,
    presence: Presence,
}

/// The fields of a kind of object, in the order in which they are printed.
pub(super) struct Record {
    /// What it is called in warnings.
    pub(super) name: &'static str,
    pub(super) fields: &'static [Field],
}

/// The most fields a record has.
const FIELDS_MAX: usize = 64;

/// The position of a value that is not there: position 0 is the piece itself.
const ABSENT: u32 = 0;

pub(super) const fn needed(key: &'static str, ty: Type) -> Field {
    Field {
        key,
        ty,
        presence: Presence::Mandatory,
    }
}

pub(super) const fn required(key: &'static str, ty: Type) -> Field {
    Field {
        key,
        ty,
        presence: Presence::WarnIfMissing,
    }
}

pub(super) const fn optional(key: &'static str, ty: Type) -> Field {
    Field {
        key,
        ty,
        presence: Presence::Optional,
    }
}

pub(super) const fn default(key: &'static str, ty: Type, text: &'static str) -> Field {
    Field {
        key,
        ty,
        presence: Presence::Default(text),
    }
}

pub(super) const fn hidden(key: &'static str, ty: Type, text: &'static str) -> Field {
    Field {
        key,
        ty,
        presence: Presence::OmitIfDefault(text),
    }
}

pub(super) const fn ignored(key: &'static str) -> Field {
    Field {
        key,
        ty: Type::Any,
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

/// Writes canonical text, value by value.
pub(super) struct Writer<'a> {
    pub(super) out: Vec<u8>,
    pub(super) tree: TreeBuilder,
    pub(super) warnings: &'a mut Warnings,
}

impl Writer<'_> {
    /// Writes `value` as a `ty`; `owner` is the record that it stands in.
    pub(super) fn write(
        &mut self,
        ty: &Type,
        value: Value<'_>,
        owner: Value<'_>,
    ) -> Result<(), Error> {
        match *ty {
            Type::Any => self.any(value),
            Type::String => self.string(&text(value)?),
            Type::Uuid => self.string(expect(value, "a string", value.as_str())?),
            Type::NonEmpty => match &*text(value)? {
                "" => Err(Error::new("must not be empty")),
                text => self.string(text),
            },
            Type::Bool => self.bool(expect(value, "a boolean", value.as_bool())?),
            Type::Int => self.int(int(value)?),
            Type::Integer => self.number(value, number::integer),
            Type::Double => self.double(value, number::double),
            Type::Time => self.double(value, number::time),
            Type::Enum(name, names) => self.name(name, names, value),
            Type::List(ty) => self.list(ty, value),
            Type::Tuple(types) => self.tuple(types, value),
            Type::Set => self.set(value),
            Type::Map(ty) => self.map(ty, value),
            Type::KeyedMap(keys, ty) => self.keyed_map(keys, ty, value),
            Type::Record(record) => self.record(record, value),
            Type::Choice(choose) => self.record(choose(value), value),
            Type::Custom(write) => write(self, value, owner),
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    pub(super) fn string(&mut self, text: &str) -> Result<(), Error> {
        self.out.push(b'"');
        escape(text.as_bytes(), &mut self.out);
        self.out.push(b'"');
        Ok(())
    }

    fn bool(&mut self, value: bool) -> Result<(), Error> {
        self.push(if value { "true" } else { "false" });
        Ok(())
    }

    pub(super) fn int(&mut self, value: i64) -> Result<(), Error> {
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }

    /// Writes a number that is no 64-bit integer with `write`, and one that is as it is.
    fn number(&mut self, value: Value<'_>, write: fn(&[u8], &mut Vec<u8>)) -> Result<(), Error> {
        let mut digits = itoa::Buffer::new();
        match expect(value, "a number", value.as_number())? {
            Number::Signed(value) => self.push(digits.format(value)),
            Number::Unsigned(value) => self.push(digits.format(value)),
            Number::Text(text) => write(text, &mut self.out),
        }
        Ok(())
    }

    fn double(&mut self, value: Value<'_>, write: fn(f64, &mut Vec<u8>)) -> Result<(), Error> {
        write(expect(value, "a number", value.as_double())?, &mut self.out);
        Ok(())
    }

    pub(super) fn name(&mut self, ty: &str, names: &[&str], value: Value<'_>) -> Result<(), Error> {
        let name = text(value)?;
        if !names.contains(&&*name) {
            return Err(Error::new(format!(
                "\"{}\" is no {ty}",
                name.escape_debug()
            )));
        }
        self.string(&name)
    }

    fn any(&mut self, value: Value<'_>) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            self.string(text)
        } else if value.as_number().is_some() {
            self.number(value, number::rational)
        } else if let Some(value) = value.as_bool() {
            self.bool(value)
        } else if value.is_null() {
            self.push("null");
            Ok(())
        } else if value.elements().is_some() {
            self.list(&Type::Any, value)
        } else {
            self.object(value)
        }
    }

    /// A free-form object: its members in the order of the file.
    fn object(&mut self, value: Value<'_>) -> Result<(), Error> {
        let members = members(value)?;
        if let Some(key) = duplicate(members.clone()) {
            return Err(twice(key));
        }
        let object = self.open(b'{');
        for (key, member) in members {
            self.key(key)?;
            self.any(member).map_err(|error| error.under(key))?;
        }
        self.close(object, b'}');
        Ok(())
    }

    fn list(&mut self, ty: &Type, value: Value<'_>) -> Result<(), Error> {
        let list = self.open(b'[');
        for (index, element) in elements(value)?.enumerate() {
            self.element();
            self.write(ty, element, value)
                .map_err(|error| error.under(&index.to_string()))?;
        }
        self.close(list, b']');
        Ok(())
    }

    fn tuple(&mut self, types: &[Type], value: Value<'_>) -> Result<(), Error> {
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
            self.string(&string)?;
        }
        self.close(list, b']');
        Ok(())
    }

    fn map(&mut self, ty: &Type, value: Value<'_>) -> Result<(), Error> {
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
        ty: &Type,
        members: impl Iterator<Item = (&'v str, Value<'v>)>,
        owner: Value<'_>,
    ) -> Result<(), Error> {
        for (key, member) in members {
            self.key(key)?;
            self.write(ty, member, owner)
                .map_err(|error| error.under(key))?;
        }
        Ok(())
    }

    fn keyed_map(
        &mut self,
        keys: &[&'static str],
        ty: &Type,
        value: Value<'_>,
    ) -> Result<(), Error> {
        let members = members(value)?;
        if let Some((key, _)) = members.clone().find(|(key, _)| !keys.contains(key)) {
            return Err(Error::new(format!(
                "unknown key '{}', expected one of {keys:?}",
                key.escape_debug()
            )));
        }
        if let Some(key) = duplicate(members.clone()) {
            return Err(twice(key));
        }
        let map = self.open(b'{');
        for key in keys {
            if let Some((_, member)) = members.clone().find(|(name, _)| name == key) {
                self.key(key)?;
                self.write(ty, member, value)
                    .map_err(|error| error.under(key))?;
            }
        }
        self.close(map, b'}');
        Ok(())
    }

    /// Writes `value` by the table of `record`; keys that the table does not know follow as free-form values.
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
        if let Some(key) = duplicate(unknown.iter().copied()) {
            return Err(twice(key));
        }
        let object = self.open(b'{');
        for (field, slot) in record.fields.iter().zip(slots) {
            let member = (slot != ABSENT).then(|| value.at_position(slot));
            self.field(record, field, member, value)?;
        }
        for (key, member) in unknown {
            self.key(key)?;
            self.any(member).map_err(|error| error.under(key))?;
        }
        self.close(object, b'}');
        Ok(())
    }

    /// Writes one field of a record, or what stands for it when it is absent.
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
                self.plain_key(field.key);
                let value_start = self.out.len();
                self.write(&field.ty, value, owner)
                    .map_err(|error| error.under(field.key))?;
                if matches!(presence, Presence::OmitIfDefault(text) if self.out[value_start..] == *text.as_bytes())
                {
                    self.out.truncate(start);
                    self.tree.forget_last();
                }
            }
            (None, _) => self.absent(record, field)?,
        }
        Ok(())
    }

    /// Writes what stands for a field that is not there.
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
                self.plain_key(field.key);
                self.push(text);
            }
            Presence::Optional | Presence::OmitIfDefault(_) | Presence::Ignored => {}
        }
        Ok(())
    }

    /// Starts an object or array: `{` or `[`.
    pub(super) fn open(&mut self, bracket: u8) -> usize {
        self.tree.open();
        self.out.push(bracket);
        self.out.len() - 1
    }

    /// Ends what [`Writer::open`] started at `start`: `}` or `]`.
    pub(super) fn close(&mut self, start: usize, bracket: u8) {
        self.out.push(bracket);
        self.tree.close(start, &self.out);
    }

    /// Where the next member's key will start.
    pub(super) fn next_member(&self) -> usize {
        self.out.len() + usize::from(self.out.last() != Some(&b'{'))
    }

    /// The length of the text so far, if offsets can still name it.
    pub(super) fn checked_len(&self) -> Result<usize, Error> {
        match u32::try_from(self.out.len()) {
            Ok(_) => Ok(self.out.len()),
            Err(_) => Err(Error::new("the configuration is larger than 4 GiB")),
        }
    }

    /// Starts an element of an array.
    pub(super) fn element(&mut self) {
        if self.out.last() != Some(&b'[') {
            self.out.push(b',');
        }
        self.tree.child(self.out.len());
    }

    /// Starts a member of an object.
    pub(super) fn key(&mut self, key: &str) -> Result<(), Error> {
        self.comma_and_child();
        self.string(key)?;
        self.out.push(b':');
        Ok(())
    }

    /// As [`Writer::key`], for a key of our own tables: there is nothing in it to escape.
    fn plain_key(&mut self, key: &str) {
        self.comma_and_child();
        self.out.push(b'"');
        self.push(key);
        self.out.extend_from_slice(b"\":");
    }

    fn comma_and_child(&mut self) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.tree.child(self.out.len());
    }
}

impl Record {
    /// The place of `key` in the table. Files mostly follow its order: the search starts at `expected`.
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

/// `found` if it is there, else an error that says what was expected and what `value` is.
pub(super) fn expect<T>(value: Value<'_>, expected: &str, found: Option<T>) -> Result<T, Error> {
    found.ok_or_else(|| Error::new(format!("expected {expected}, found {}", value.kind())))
}

/// The text of a value that must be a string.
pub(super) fn text(value: Value<'_>) -> Result<Cow<'_, str>, Error> {
    expect(value, "a string", value.as_text())
}

pub(super) fn elements<'a>(
    value: Value<'a>,
) -> Result<impl Iterator<Item = Value<'a>> + use<'a>, Error> {
    expect(value, "an array", value.elements())
}

pub(super) fn members<'a>(
    value: Value<'a>,
) -> Result<impl Iterator<Item = (&'a str, Value<'a>)> + Clone + use<'a>, Error> {
    expect(value, "an object", value.members())
}

pub(super) fn int(value: Value<'_>) -> Result<i64, Error> {
    Ok(match expect(value, "a number", value.as_number())? {
        Number::Signed(value) => value,
        Number::Unsigned(value) => value.cast_signed(),
        Number::Text(text) => number::int(text),
    })
}

fn twice(key: &str) -> Error {
    Error::new(format!("key '{}' appears twice", key.escape_debug()))
}

/// A key that occurs more than once.
fn duplicate<'a, V>(members: impl Iterator<Item = (&'a str, V)> + Clone) -> Option<&'a str> {
    /// Up to here comparing all pairs is faster than hashing.
    const FEW: usize = 8;
    let keys = members.map(|(key, _)| key);
    if keys.clone().nth(FEW).is_none() {
        return keys
            .clone()
            .enumerate()
            .find(|(at, key)| keys.clone().take(*at).any(|other| other == *key))
            .map(|(_, key)| key);
    }
    let mut seen = std::collections::HashSet::new();
    keys.into_iter().find(|key| !seen.insert(*key))
}

//! Checks values by the field tables and writes them in canonical form.
//!
//! Writing a record takes two passes: one over the value's members, to find the value of each
//! field, and one over the table, to write them. A value that is not of its type is refused if a
//! query needs it, and else written as it is, with a warning ([`super::schema`]).

use super::error::{Error, Problem, escaped, quoted};
use super::number;
use super::schema::{Entry, FIELDS_MAX, Field, FieldType, Place, Presence, Record};
use super::value::Value;
use super::writer::{Writer, elements, expect, int, members, reject_duplicate, text, twice};

/// The position of a value that is absent. Position 0 is the piece itself, never a field.
const ABSENT: u32 = 0;

impl Writer<'_> {
    /// Writes `value` as a `ty`, or as it is if it is something else that no query needs.
    ///
    /// # Errors
    ///
    /// If the value is of another type and a query needs it, or an object has a key twice.
    pub(super) fn write(
        &mut self,
        ty: &FieldType,
        value: Value<'_>,
        place: &Place<'_>,
    ) -> Result<(), Error> {
        let mark = self.mark();
        match (self.typed(ty, value, place), place.needed_by) {
            (Ok(()), _) => Ok(()),
            (Err(Problem::Refusal(error)), _) => Err(error),
            (Err(Problem::Mismatch(what)), Some(types)) => Err(Error::new(format!(
                "{what}; request {types} cannot be answered without it"
            ))),
            (Err(Problem::Mismatch(what)), None) => {
                self.rewind(mark);
                self.warnings.kept(place.record, place.key, &what);
                self.any(value)
            }
        }
    }

    /// Writes `value` as a `ty`.
    fn typed(
        &mut self,
        ty: &FieldType,
        value: Value<'_>,
        place: &Place<'_>,
    ) -> Result<(), Problem> {
        match *ty {
            FieldType::Any => self.any(value)?,
            FieldType::String => self.string(&text(value)?),
            FieldType::Uuid => self.string(expect(value, "a string", value.as_str())?),
            FieldType::NonEmpty => match &*text(value)? {
                "" => return Err(Problem::Mismatch("must not be empty".to_owned())),
                text => self.string(text),
            },
            FieldType::Bool => self.bool(expect(value, "a boolean", value.as_bool())?),
            FieldType::Int => self.int(int(value)?),
            FieldType::Integer => self.number(value, number::integer)?,
            FieldType::Double => self.double(value, number::double)?,
            FieldType::Time => self.double(value, number::time)?,
            FieldType::Enum(name, names) => self.word(name, names, value, place)?,
            FieldType::List(ty) => self.list(ty, value, place)?,
            FieldType::Tuple(types) => self.tuple(types, value, place)?,
            FieldType::Set => self.set(value)?,
            FieldType::Map(ty) => self.map(&[], ty, value, place)?,
            FieldType::MapWith(needed, ty) => self.map(needed, ty, value, place)?,
            FieldType::KeyedMap(keys, ty) => self.keyed_map(keys, ty, value, place)?,
            FieldType::Record(record) => self.record(record, value)?,
            FieldType::Choice(choose) => self.record(choose(value), value)?,
            FieldType::Unread(ty) => self.write(ty, value, &place.unread())?,
            FieldType::Custom(write) => write(self, value, place)?,
        }
        Ok(())
    }

    /// Writes a string, with a warning if it is not one of `names`; `ty` is the type that it names.
    pub(super) fn word(
        &mut self,
        ty: &str,
        names: &[&str],
        value: Value<'_>,
        place: &Place<'_>,
    ) -> Result<(), Problem> {
        let word = text(value)?;
        if !names.contains(&&*word) {
            let what = format!("{} is not a known {ty}", quoted(&word));
            self.warnings.kept(place.record, place.key, &what);
        }
        self.string(&word);
        Ok(())
    }

    fn list(&mut self, ty: &FieldType, value: Value<'_>, place: &Place<'_>) -> Result<(), Problem> {
        let elements = elements(value)?;
        let list = self.open(b'[');
        for (index, element) in elements.enumerate() {
            self.element();
            self.write(ty, element, place)
                .map_err(|error| error.under(&index.to_string()))?;
        }
        self.close(list, b']');
        Ok(())
    }

    /// Writes an array with one element of each of `types`.
    pub(super) fn tuple(
        &mut self,
        types: &[FieldType],
        value: Value<'_>,
        place: &Place<'_>,
    ) -> Result<(), Problem> {
        let count = elements(value)?.count();
        if count != types.len() {
            return Err(Problem::Mismatch(format!(
                "expected an array of {}, found one of {count}",
                types.len()
            )));
        }
        let list = self.open(b'[');
        for (index, (ty, element)) in types.iter().zip(elements(value)?).enumerate() {
            self.element();
            self.write(ty, element, place)
                .map_err(|error| error.under(&index.to_string()))?;
        }
        self.close(list, b']');
        Ok(())
    }

    fn set(&mut self, value: Value<'_>) -> Result<(), Problem> {
        let mut strings = elements(value)?.map(text).collect::<Result<Vec<_>, _>>()?;
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

    fn map(
        &mut self,
        needed: &[Entry],
        ty: &FieldType,
        value: Value<'_>,
        place: &Place<'_>,
    ) -> Result<(), Problem> {
        let members = members(value)?;
        let map = self.open(b'{');
        let is_sorted = members
            .clone()
            .map(|(key, _)| key)
            .is_sorted_by(|left, right| left < right);
        if is_sorted {
            self.map_members(needed, ty, members, place)?;
        } else {
            let mut sorted: Vec<_> = members.collect();
            sorted.sort_by_key(|(key, _)| *key);
            if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(twice(pair[0].0).into());
            }
            self.map_members(needed, ty, sorted.into_iter(), place)?;
        }
        self.close(map, b'}');
        Ok(())
    }

    fn map_members<'v>(
        &mut self,
        needed: &[Entry],
        ty: &FieldType,
        members: impl Iterator<Item = (&'v str, Value<'v>)>,
        place: &Place<'_>,
    ) -> Result<(), Error> {
        let unread = place.unread();
        for (key, member) in members {
            self.key(key);
            let (ty, place) = match needed.iter().find(|entry| entry.key == key) {
                Some(entry) => (&entry.ty, &place.needed_by(entry.needed_by)),
                None if needed.is_empty() => (ty, place),
                None => (ty, &unread),
            };
            self.write(ty, member, place)
                .map_err(|error| error.under(key))?;
        }
        Ok(())
    }

    fn keyed_map(
        &mut self,
        keys: &[&'static str],
        ty: &FieldType,
        value: Value<'_>,
        place: &Place<'_>,
    ) -> Result<(), Problem> {
        let members = members(value)?;
        reject_duplicate(members.clone())?;
        let map = self.open(b'{');
        let known = keys.iter().filter_map(|key| {
            let mut members = members.clone();
            members.find(|(name, _)| name == key)
        });
        let unknown = members.clone().filter(|(key, _)| !keys.contains(key));
        for (key, member) in known.chain(unknown) {
            if !keys.contains(&key) {
                let what = format!("unknown key '{}'", escaped(key));
                self.warnings.kept(place.record, place.key, &what);
            }
            self.key(key);
            self.write(ty, member, place)
                .map_err(|error| error.under(key))?;
        }
        self.close(map, b'}');
        Ok(())
    }

    /// Writes `value` by the table of `record`, then the keys that are not in the table, as
    /// free-form values.
    fn record(&mut self, record: &'static Record, value: Value<'_>) -> Result<(), Problem> {
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
                return Err(twice(key).into());
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
        match (value, field.presence) {
            (_, Presence::Ignored) => {}
            (Some(value), presence) => {
                let place = Place {
                    owner,
                    record: record.name,
                    key: field.key,
                    needed_by: field.needed_by,
                };
                let mark = self.mark();
                self.table_key(field.key);
                let value_start = self.out.len();
                self.write(&field.ty, value, &place)
                    .map_err(|error| error.under(field.key))?;
                if let Presence::OmitIfDefault(default) = presence
                    && self.out[value_start..] == *default.as_bytes()
                {
                    self.rewind(mark);
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
                let types = field.needed_by.unwrap_or("types");
                return Err(Error::new(format!(
                    "key '{}' is missing; request {types} cannot be answered without it",
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

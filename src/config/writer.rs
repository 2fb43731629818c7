//! Writes canonical JSON text, value by value, and keeps the [`TreeBuilder`] in step with it.
//!
//! Values without a field table (free-form values) are written here. What a field table asks for is
//! in [`super::schema`].

use std::borrow::Cow;
use std::collections::HashSet;

use super::error::Error;
use super::number;
use super::tree::TreeBuilder;
use super::value::{Number, Value};
use super::warnings::Warnings;
use crate::text::escape;

/// The canonical text so far.
pub(super) struct Writer<'a> {
    pub(super) out: Vec<u8>,
    pub(super) tree: TreeBuilder,
    pub(super) warnings: &'a mut Warnings,
}

impl Writer<'_> {
    /// Appends text that needs no escape.
    pub(super) fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes a string.
    pub(super) fn string(&mut self, text: &str) {
        self.out.push(b'"');
        escape(text.as_bytes(), &mut self.out);
        self.out.push(b'"');
    }

    /// Writes a boolean.
    pub(super) fn bool(&mut self, value: bool) {
        self.push(if value { "true" } else { "false" });
    }

    /// Writes an integer.
    pub(super) fn int(&mut self, value: i64) {
        self.push(itoa::Buffer::new().format(value));
    }

    /// Writes a 64-bit integer as it is, and any other number with `write`.
    pub(super) fn number(
        &mut self,
        value: Value<'_>,
        write: fn(&[u8], &mut Vec<u8>),
    ) -> Result<(), Error> {
        let mut digits = itoa::Buffer::new();
        match expect(value, "a number", value.as_number())? {
            Number::Signed(value) => self.push(digits.format(value)),
            Number::Unsigned(value) => self.push(digits.format(value)),
            Number::Text(text) => write(text, &mut self.out),
        }
        Ok(())
    }

    /// Writes the nearest double of a number with `write`.
    pub(super) fn double(
        &mut self,
        value: Value<'_>,
        write: fn(f64, &mut Vec<u8>),
    ) -> Result<(), Error> {
        write(expect(value, "a number", value.as_double())?, &mut self.out);
        Ok(())
    }

    /// Writes a free-form value: numbers in the reference's spelling, everything else as it is.
    pub(super) fn any(&mut self, value: Value<'_>) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            self.string(text);
        } else if value.as_number().is_some() {
            self.number(value, number::rational)?;
        } else if let Some(value) = value.as_bool() {
            self.bool(value);
        } else if value.is_null() {
            self.push("null");
        } else if let Some(elements) = value.elements() {
            let list = self.open(b'[');
            for (index, element) in elements.enumerate() {
                self.element();
                self.any(element)
                    .map_err(|error| error.under(&index.to_string()))?;
            }
            self.close(list, b']');
        } else {
            self.object(value)?;
        }
        Ok(())
    }

    /// Writes a free-form object, its members in the order of the file.
    fn object(&mut self, value: Value<'_>) -> Result<(), Error> {
        let members = members(value)?;
        reject_duplicate(members.clone())?;
        let object = self.open(b'{');
        for (key, member) in members {
            self.key(key);
            self.any(member).map_err(|error| error.under(key))?;
        }
        self.close(object, b'}');
        Ok(())
    }

    /// Starts an object or array: `{` or `[`. Returns its offset.
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

    /// Starts an element of an array.
    pub(super) fn element(&mut self) {
        if self.out.last() != Some(&b'[') {
            self.out.push(b',');
        }
        self.tree.child(self.out.len());
    }

    /// Starts a member of an object.
    pub(super) fn key(&mut self, key: &str) {
        self.member();
        self.string(key);
        self.out.push(b':');
    }

    /// Like [`Writer::key`], for a key of a field table: it has nothing to escape.
    pub(super) fn table_key(&mut self, key: &str) {
        self.member();
        self.out.push(b'"');
        self.push(key);
        self.out.extend_from_slice(b"\":");
    }

    fn member(&mut self) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.tree.child(self.out.len());
    }

    /// The offset at which the key of the next member will start.
    pub(super) fn next_member(&self) -> usize {
        self.out.len() + usize::from(self.out.last() != Some(&b'{'))
    }

    /// The length of the text so far.
    ///
    /// # Errors
    ///
    /// If it is over 4 GiB, which 32-bit offsets cannot express.
    pub(super) fn checked_len(&self) -> Result<usize, Error> {
        match u32::try_from(self.out.len()) {
            Ok(_) => Ok(self.out.len()),
            Err(_) => Err(Error::new("the configuration is larger than 4 GiB")),
        }
    }
}

/// `found`, or an error with what was expected and what `value` is.
pub(super) fn expect<T>(value: Value<'_>, expected: &str, found: Option<T>) -> Result<T, Error> {
    found.ok_or_else(|| Error::new(format!("expected {expected}, found {}", value.kind())))
}

/// The text of a value that must be a string, or an array of one-character strings.
pub(super) fn text(value: Value<'_>) -> Result<Cow<'_, str>, Error> {
    expect(value, "a string", value.as_text())
}

/// The elements of a value that must be an array.
pub(super) fn elements<'a>(
    value: Value<'a>,
) -> Result<impl Iterator<Item = Value<'a>> + use<'a>, Error> {
    expect(value, "an array", value.elements())
}

/// The members of a value that must be an object.
pub(super) fn members<'a>(
    value: Value<'a>,
) -> Result<impl Iterator<Item = (&'a str, Value<'a>)> + Clone + use<'a>, Error> {
    expect(value, "an object", value.members())
}

/// A number, rounded half to even and wrapped to 64 bits.
pub(super) fn int(value: Value<'_>) -> Result<i64, Error> {
    Ok(match expect(value, "a number", value.as_number())? {
        Number::Signed(value) => value,
        Number::Unsigned(value) => value.cast_signed(),
        Number::Text(text) => number::int(text),
    })
}

/// The error for a key that an object has twice.
pub(super) fn twice(key: &str) -> Error {
    Error::new(format!("key '{}' appears twice", key.escape_debug()))
}

/// An error if a key occurs more than once.
pub(super) fn reject_duplicate<'a, V>(
    members: impl Iterator<Item = (&'a str, V)> + Clone,
) -> Result<(), Error> {
    /// Up to this many keys, comparing all pairs is faster than hashing.
    const FEW: usize = 8;
    let mut keys = members.map(|(key, _)| key);
    let duplicate = if keys.clone().nth(FEW).is_none() {
        keys.clone()
            .enumerate()
            .find(|(at, key)| keys.clone().take(*at).any(|other| other == *key))
            .map(|(_, key)| key)
    } else {
        let mut seen = HashSet::new();
        keys.find(|key| !seen.insert(*key))
    };
    duplicate.map_or(Ok(()), |key| Err(twice(key)))
}

//! Writes canonical JSON text, value by value, and keeps the [`TreeBuilder`] in step with it.
//!
//! Values without a field table (free-form values) are written here. What a field table asks for is
//! in [`super::schema`].

use std::borrow::Cow;
use std::collections::HashSet;

use super::error::{Error, Problem, escaped};
use super::number;
use super::tree::{Tree, TreeBuilder, TreeMark};
use super::value::{Number, Value};
use super::warnings::Warnings;
use crate::json::escape;

/// Bytes by which a printed number may be longer than the number in the file without being counted:
/// more than the digits and the exponent of any double.
const GROWTH_FREE: usize = 24;

/// Bytes of digits that the numbers of a file may grow by, if the file is shorter than half of
/// this.
const GROWTH_BYTES_MIN: usize = 1 << 20;

/// The canonical text so far.
pub(super) struct Writer<'a> {
    pub(super) out: Vec<u8>,
    tree: TreeBuilder,
    pub(super) warnings: &'a mut Warnings,
    /// Bytes that numbers may still grow by. The reference prints `1e308` with all its digits, 62
    /// times as long; without a bound, so would be the text.
    growth_left: usize,
    /// The length of the longest key so far.
    pub(super) key_len_max: usize,
}

/// A point in the text that [`Writer::rewind`] returns to.
pub(super) struct Mark {
    len: usize,
    tree: TreeMark,
}

impl<'a> Writer<'a> {
    /// A writer for the text of a file of `file_len` bytes.
    pub(super) fn new(file_len: usize, warnings: &'a mut Warnings) -> Self {
        Self {
            out: Vec::with_capacity(file_len + file_len / 8),
            tree: TreeBuilder::default(),
            warnings,
            growth_left: GROWTH_BYTES_MIN.max(2 * file_len),
            key_len_max: 0,
        }
    }

    /// The finished text and its tree.
    pub(super) fn finish(self) -> (Box<[u8]>, Tree) {
        (self.out.into_boxed_slice(), self.tree.finish())
    }
}

impl Writer<'_> {
    /// The end of the text so far.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            len: self.out.len(),
            tree: self.tree.mark(),
        }
    }

    /// Removes what was written after `mark`.
    pub(super) fn rewind(&mut self, mark: Mark) {
        self.out.truncate(mark.len);
        self.tree.rewind(mark.tree);
    }

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
    ) -> Result<(), Problem> {
        self.number_with(expect(value, "a number", value.as_number())?, write);
        Ok(())
    }

    fn number_with(&mut self, number: Number<'_>, write: fn(&[u8], &mut Vec<u8>)) {
        let mut digits = itoa::Buffer::new();
        match number {
            Number::Signed(value) => self.push(digits.format(value)),
            Number::Unsigned(value) => self.push(digits.format(value)),
            Number::Text(text) => self.digits(text, |out| write(text, out)),
        }
    }

    /// Writes the nearest double of a number with `write`.
    pub(super) fn double(
        &mut self,
        value: Value<'_>,
        write: fn(f64, &mut Vec<u8>),
    ) -> Result<(), Problem> {
        let double = expect(value, "a number", value.as_double())?;
        match value.as_number() {
            Some(Number::Text(text)) => self.digits(text, |out| write(double, out)),
            _ => write(double, &mut self.out),
        }
        Ok(())
    }

    /// Writes a number with `write`, or as it is in the file (`text`) if there is no room for its
    /// digits.
    fn digits(&mut self, text: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        write(&mut self.out);
        let growth = (self.out.len() - start).saturating_sub(text.len() + GROWTH_FREE);
        match self.growth_left.checked_sub(growth) {
            Some(left) => self.growth_left = left,
            None => {
                self.out.truncate(start);
                self.out.extend_from_slice(text);
                self.warnings
                    .file("numbers with large exponents are printed as they are written");
            }
        }
    }

    /// Writes a free-form value: numbers in the reference's spelling, everything else as it is.
    ///
    /// # Errors
    ///
    /// If an object has a key twice.
    pub(super) fn any(&mut self, value: Value<'_>) -> Result<(), Error> {
        if let Some(text) = value.as_str() {
            self.string(text);
        } else if let Some(number) = value.as_number() {
            self.number_with(number, number::rational);
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
        } else if let Some(members) = value.members() {
            reject_duplicate(members.clone())?;
            let object = self.open(b'{');
            for (key, member) in members {
                self.key(key);
                self.any(member).map_err(|error| error.under(key))?;
            }
            self.close(object, b'}');
        }
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
        let start = self.out.len();
        self.string(key);
        self.key_len_max = self.key_len_max.max(self.out.len() - start - "\"\"".len());
        self.out.push(b':');
    }

    /// Like [`Writer::key`], for a key of a field table: it has nothing to escape.
    pub(super) fn table_key(&mut self, key: &str) {
        self.member();
        self.key_len_max = self.key_len_max.max(key.len());
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

/// `found`, or a mismatch with what was expected and what `value` is.
pub(super) fn expect<T>(value: Value<'_>, expected: &str, found: Option<T>) -> Result<T, Problem> {
    let mismatch = || Problem::Mismatch(format!("expected {expected}, found {}", value.kind()));
    found.ok_or_else(mismatch)
}

/// The text of a value that must be a string, or an array of one-character strings.
pub(super) fn text(value: Value<'_>) -> Result<Cow<'_, str>, Problem> {
    expect(value, "a string", value.as_text())
}

/// The elements of a value that must be an array.
pub(super) fn elements<'a>(
    value: Value<'a>,
) -> Result<impl Iterator<Item = Value<'a>> + use<'a>, Problem> {
    expect(value, "an array", value.elements())
}

/// The members of a value that must be an object.
pub(super) fn members<'a>(
    value: Value<'a>,
) -> Result<impl Iterator<Item = (&'a str, Value<'a>)> + Clone + use<'a>, Problem> {
    expect(value, "an object", value.members())
}

/// A number, rounded half to even and wrapped to 64 bits.
pub(super) fn int(value: Value<'_>) -> Result<i64, Problem> {
    expect(value, "a number", value.as_int())
}

/// The error for a key that an object has twice.
pub(super) fn twice(key: &str) -> Error {
    Error::new(format!("key '{}' appears twice", escaped(key)))
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

//! The whole configuration as canonical text, with the places of its values.
//!
//! [`Document::read`] takes the pieces of a file in the order of the field table of the top level
//! and writes them one by one. Afterwards paths are followed in the text, with the offsets in
//! [`super::tree`] for the larger objects and arrays.
//!
//! Invariants: every [`Span`] that is returned is a whole value (or a key) of the text; the entries
//! of a [`Section`] are sorted by key.
//!
//! Source: `Ganeti.Objects` (`ConfigData`) and `Ganeti.JSON` (`nestedAccessByKey`).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use super::error::Error;
use super::pieces::{self, Piece};
use super::schema::{Field, FieldType, Record, default, expected, mandatory};
use super::tree::{LINEAR_MAX, Tree, TreeBuilder};
use super::value::Parser;
use super::warnings::Warnings;
use super::writer::Writer;
use super::{cluster, disk, filter, group, instance, network, node};
use crate::text::{self, Span};

/// A map at the top level whose entries have an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Nodes,
    NodeGroups,
    Instances,
    Networks,
    Disks,
    Filters,
}

/// ConfigData: the file itself. The sections are parsed entry by entry, everything else as a whole.
static CONFIG_DATA: Record = Record {
    name: "ConfigData",
    fields: &[
        mandatory("version", FieldType::Int),
        mandatory("cluster", FieldType::Record(&cluster::CLUSTER)),
        mandatory("nodes", FieldType::Map(&FieldType::Record(&node::NODE))),
        expected(
            "nodegroups",
            FieldType::Map(&FieldType::Record(&group::NODE_GROUP)),
        ),
        mandatory(
            "instances",
            FieldType::Map(&FieldType::Choice(instance::table)),
        ),
        expected(
            "networks",
            FieldType::Map(&FieldType::Record(&network::NETWORK)),
        ),
        mandatory("disks", FieldType::Map(&FieldType::Choice(disk::table))),
        expected(
            "filters",
            FieldType::Map(&FieldType::Record(&filter::FILTER_RULE)),
        ),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        expected("serial_no", FieldType::Int),
    ],
};

impl Section {
    const ALL: [Self; 6] = [
        Self::Nodes,
        Self::NodeGroups,
        Self::Instances,
        Self::Networks,
        Self::Disks,
        Self::Filters,
    ];

    /// Its key at the top level.
    const fn key(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::NodeGroups => "nodegroups",
            Self::Instances => "instances",
            Self::Networks => "networks",
            Self::Disks => "disks",
            Self::Filters => "filters",
        }
    }
}

/// One entry of a [`Section`]: `"key":value`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The key without its quotes, canonical.
    pub(crate) key: Span,
    pub(crate) value: Span,
}

/// A configuration in canonical form, immutable.
#[derive(Debug)]
pub(crate) struct Document {
    text: Box<[u8]>,
    tree: Tree,
    sections: [Box<[Entry]>; 6],
}

impl Document {
    /// Checks a whole file and writes it in canonical form.
    ///
    /// # Errors
    ///
    /// If `source` is not JSON, or a value that a query needs is missing or of the wrong type.
    pub(crate) fn read(source: &[u8], warnings: &mut Warnings) -> Result<Self, Error> {
        let pieces = pieces::pieces(source)?;
        let mut loader = Loader {
            source,
            parser: Parser::new(),
            writer: Writer {
                out: Vec::with_capacity(source.len() + source.len() / 8),
                tree: TreeBuilder::default(),
                warnings,
            },
            sections: Default::default(),
        };
        loader.config_data(&pieces)?;
        let Loader {
            writer: Writer { out, tree, .. },
            sections,
            ..
        } = loader;
        Ok(Self {
            text: out.into_boxed_slice(),
            tree: tree.finish(),
            sections,
        })
    }

    /// The canonical text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The entries of a section, ascending by key (UTF-8 bytes): the reference's map order.
    pub(crate) fn entries(&self, section: Section) -> &[Entry] {
        &self.sections[section as usize]
    }

    /// The value under `key` (canonical, without quotes) in the object at `at`.
    pub(crate) fn member(&self, at: usize, key: &[u8]) -> Option<Span> {
        let Some(branch) = self.tree.branch(at) else {
            return text::member(&self.text, at, key).map(Span::new);
        };
        let children = self.tree.children(branch);
        let name = |child: &u32| {
            let quote = *child as usize;
            &self.text[quote + 1..text::string_end(&self.text, quote) - 1]
        };
        let child = if children.len() <= LINEAR_MAX {
            children.iter().find(|child| name(child) == key)?
        } else {
            // The children are sorted by key; equal keys are in the order of the text, and the
            // first counts.
            let first =
                children.partition_point(|child| text::compare(name(child), key) == Ordering::Less);
            children.get(first).filter(|child| name(child) == key)?
        };
        Some(self.value(text::string_end(&self.text, *child as usize) + 1))
    }

    /// The element at `index` of the array at `at`.
    pub(crate) fn element(&self, at: usize, index: usize) -> Option<Span> {
        match self.tree.branch(at) {
            Some(branch) => self
                .tree
                .children(branch)
                .get(index)
                .map(|&child| self.value(child as usize)),
            None => text::elements(&self.text, at).nth(index).map(Span::new),
        }
    }

    /// The whole value that starts at `at`.
    fn value(&self, at: usize) -> Span {
        let end = self.tree.branch(at).map_or_else(
            || text::value_end(&self.text, at),
            |branch| branch.end as usize,
        );
        Span::new(at..end)
    }

    /// The value at the path of `keys`, which the field tables mark as mandatory.
    ///
    /// # Panics
    ///
    /// If there is no such value.
    pub(crate) fn mandatory(&self, keys: &[&str]) -> Span {
        self.find(keys)
            .expect("the field tables refuse files without a mandatory field")
    }

    /// The value at the path of `keys`, if there is one.
    pub(crate) fn find(&self, keys: &[&str]) -> Option<Span> {
        let top = Span::new(0..self.text.len());
        keys.iter().try_fold(top, |value, key| {
            self.member(value.start as usize, key.as_bytes())
        })
    }

    /// Bytes of memory that this holds.
    pub(crate) fn bytes(&self) -> usize {
        let entries: usize = self
            .sections
            .iter()
            .map(|entries| size_of_val::<[Entry]>(entries))
            .sum();
        self.text.len() + self.tree.bytes() + entries
    }
}

/// Reads the pieces of a file in the order of the tables.
struct Loader<'a> {
    source: &'a [u8],
    parser: Parser,
    writer: Writer<'a>,
    sections: [Box<[Entry]>; 6],
}

impl<'a> Loader<'a> {
    /// Writes the top level: known fields in the order of the table, then unknown keys.
    fn config_data(&mut self, pieces: &[Piece]) -> Result<(), Error> {
        let keyed = self.by_key(pieces.iter().map(|piece| &piece.text))?;
        let find = |key: &str| {
            keyed
                .iter()
                .find(|(name, _)| *name == key)
                .map(|&(_, index)| &pieces[index])
        };
        let object = self.writer.open(b'{');
        for field in CONFIG_DATA.fields {
            let section = Section::ALL
                .into_iter()
                .find(|section| section.key() == field.key);
            match (find(field.key), section) {
                (Some(piece), Some(section)) => self.container(section, field, piece)?,
                (Some(piece), None) => {
                    self.parser
                        .member(self.source, piece.text.clone(), |_, value| {
                            self.writer.field(&CONFIG_DATA, field, Some(value), value)
                        })?;
                }
                (None, _) => self.writer.absent(&CONFIG_DATA, field)?,
            }
        }
        for (key, index) in &keyed {
            if CONFIG_DATA.fields.iter().all(|field| field.key != key) {
                self.writer.warnings.unknown(CONFIG_DATA.name, key);
                self.entry(&FieldType::Any, &pieces[*index].text)?;
            }
        }
        self.writer.close(object, b'}');
        Ok(())
    }

    /// Writes a section: its entries are parsed one by one, in the order of their keys.
    fn container(&mut self, section: Section, field: &Field, piece: &Piece) -> Result<(), Error> {
        let FieldType::Map(ty) = &field.ty else {
            unreachable!("sections are maps")
        };
        self.check_braces(piece)
            .map_err(|error| error.under(section.key()))?;
        let mut inner: &[Range<usize>] = &piece.inner;
        // An object without members has one piece, which is empty but for white space.
        if let [only] = inner
            && self.source[only.clone()]
                .iter()
                .all(u8::is_ascii_whitespace)
        {
            inner = &[];
        }
        let keyed = self
            .by_key(inner.iter())
            .map_err(|error| error.under(section.key()))?;
        self.writer.key(section.key());
        let map = self.writer.open(b'{');
        let mut entries = Vec::with_capacity(keyed.len());
        for (_, index) in keyed {
            let start = self.writer.next_member();
            self.entry(ty, &inner[index])
                .map_err(|error| error.under(section.key()))?;
            let key_end = text::string_end(&self.writer.out, start);
            let out_end = self.writer.checked_len()?;
            entries.push(Entry {
                key: Span::new(start + 1..key_end - 1),
                value: Span::new(key_end + 1..out_end),
            });
        }
        self.writer.close(map, b'}');
        self.sections[section as usize] = entries.into_boxed_slice();
        Ok(())
    }

    /// Checks that the value of a section is an object, which the pieces inside it do not show.
    fn check_braces(&mut self, piece: &Piece) -> Result<(), Error> {
        let (Some(first), Some(last)) = (piece.inner.first(), piece.inner.last()) else {
            // A scalar: parse it, so that the message can name its type.
            return self
                .parser
                .member(self.source, piece.text.clone(), |_, value| {
                    Err(Error::new(format!(
                        "expected an object, found {}",
                        value.kind()
                    )))
                });
        };
        // Without the entries, the text must be a member whose value is an empty object.
        let mut shell = self.source[piece.text.start..first.start].to_vec();
        shell.extend_from_slice(&self.source[last.end..piece.text.end]);
        let length = shell.len();
        self.parser.member(&shell, 0..length, |_, value| {
            match value.members().map(Iterator::count) {
                Some(0) => Ok(()),
                _ => Err(Error::new(format!(
                    "expected an object, found {}",
                    value.kind()
                ))),
            }
        })
    }

    /// Parses one piece as a member and writes it.
    fn entry(&mut self, ty: &FieldType, piece: &Range<usize>) -> Result<(), Error> {
        self.parser
            .member(self.source, piece.clone(), |key, value| {
                self.writer.key(key);
                self.writer
                    .write(ty, value, value)
                    .map_err(|error| error.under(key))
            })
    }

    /// The keys of pieces in ascending order, each with the index of its piece.
    ///
    /// # Errors
    ///
    /// If a piece has no key, or two have the same.
    fn by_key<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p Range<usize>>,
    ) -> Result<Vec<(Cow<'a, str>, usize)>, Error> {
        let source: &'a [u8] = self.source;
        let mut keyed = Vec::new();
        for (index, piece) in pieces.enumerate() {
            let key = match pieces::raw_key(&source[piece.clone()]).map(str::from_utf8) {
                Some(Ok(key)) if !key.contains('\\') => Cow::Borrowed(key),
                // A key with escapes, or no key: the parser unescapes it or reports what is wrong.
                _ => self.parser.member(source, piece.clone(), |key, _| {
                    Ok(Cow::Owned(key.to_owned()))
                })?,
            };
            keyed.push((key, index));
        }
        if !keyed.is_sorted() {
            keyed.sort();
        }
        match keyed.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Error::new(format!(
                "key '{}' appears twice",
                pair[0].0.escape_debug()
            ))),
            None => Ok(keyed),
        }
    }
}

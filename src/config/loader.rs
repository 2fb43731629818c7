//! Turns the text of a file into canonical text, piece by piece.
//!
//! The top level is written in the order of its field table. The entries of a [`Section`] are
//! parsed one by one, everything else as a whole.
//!
//! Invariants: every byte of the file is part of a piece that was parsed, or is the comma, brace or
//! white space between two pieces; the entries of a section are sorted by key.
//!
//! Source: `Ganeti.Objects` (`ConfigData`).

use std::borrow::Cow;
use std::ops::Range;

use super::error::Error;
use super::pieces::{self, Piece};
use super::schema::{Field, FieldType, Place, Record, default, expected, mandatory};
use super::section::{Entry, Section};
use super::tree::Tree;
use super::value::{Failure, Parser, Value};
use super::warnings::Warnings;
use super::writer::{Writer, twice};
use super::{cluster, disk, filter, group, instance, network, node, syntax};
use crate::json::{self, Span};

/// ConfigData: the file itself. The sections are parsed entry by entry, everything else as a whole.
static CONFIG_DATA: Record = Record {
    name: "ConfigData",
    fields: &[
        mandatory("version", FieldType::Int, "type 0"),
        mandatory(
            "cluster",
            FieldType::Record(&cluster::CLUSTER),
            "types 1 to 11",
        ),
        mandatory(
            "nodes",
            FieldType::Map(&FieldType::Record(&node::NODE)),
            "types 1 to 5, 7 and 8",
        ),
        expected(
            "nodegroups",
            FieldType::Map(&FieldType::Record(&group::NODE_GROUP)),
        ),
        mandatory(
            "instances",
            FieldType::Map(&FieldType::Choice(instance::table)),
            "types 2 and 6 to 9",
        ),
        expected(
            "networks",
            FieldType::Map(&FieldType::Record(&network::NETWORK)),
        ),
        mandatory(
            "disks",
            FieldType::Map(&FieldType::Choice(disk::table)),
            "types 7 to 9",
        ),
        expected(
            "filters",
            FieldType::Map(&FieldType::Record(&filter::FILTER_RULE)),
        ),
        default("ctime", FieldType::Time, "0"),
        default("mtime", FieldType::Time, "0"),
        expected("serial_no", FieldType::Int),
    ],
};

/// Versions of the configuration format that `cfgupgrade` of Ganeti 3.0 converts, as in the file.
const OLD_VERSIONS: Range<i64> = 2_000_000..3_000_000;

/// A file in canonical form.
pub(super) struct Loaded {
    pub(super) text: Box<[u8]>,
    pub(super) tree: Tree,
    pub(super) sections: [Box<[Entry]>; 6],
    pub(super) key_len_max: usize,
}

/// Checks a whole file and writes it in canonical form.
///
/// # Errors
///
/// If `source` is not JSON, or a value that a query needs is missing or of the wrong type.
pub(super) fn load(source: &[u8], warnings: &mut Warnings) -> Result<Loaded, Error> {
    let Some(pieces) = pieces::pieces(source, is_section) else {
        return Err(syntax::error(source));
    };
    let mut loader = Loader {
        source,
        parser: Parser::new(),
        writer: Writer::new(source.len(), warnings),
        sections: Default::default(),
        version: None,
    };
    let result = loader.config_data(&pieces);
    let remedy = loader.remedy();
    match result {
        Ok(()) => {}
        Err(Failure::Malformed) => return Err(syntax::error(source)),
        Err(Failure::Refused(mut error)) => {
            error
                .what
                .extend(remedy.map(|remedy| format!("; {remedy}")));
            return Err(error);
        }
    }
    if let Some(remedy) = remedy {
        loader.writer.warnings.file(remedy);
    }
    let Loader {
        writer, sections, ..
    } = loader;
    let key_len_max = writer.key_len_max;
    let (text, tree) = writer.finish();
    Ok(Loaded {
        text,
        tree,
        sections,
        key_len_max,
    })
}

fn is_section(key: &[u8]) -> bool {
    Section::ALL
        .iter()
        .any(|section| section.key().as_bytes() == key)
}

/// Reads the pieces of a file in the order of the table of the top level.
struct Loader<'a> {
    source: &'a [u8],
    parser: Parser,
    writer: Writer<'a>,
    sections: [Box<[Entry]>; 6],
    /// The version of the file, once it was read. It is the first field of the table.
    version: Option<i64>,
}

impl<'a> Loader<'a> {
    /// Writes the top level: known fields in the order of the table, then unknown keys.
    fn config_data(&mut self, pieces: &[Piece]) -> Result<(), Failure> {
        let keyed = self.by_key(pieces.iter().map(|piece| &piece.text))?;
        let find = |key: &str| {
            let found = keyed.iter().find(|(name, _)| *name == key);
            found.map(|&(_, index)| &pieces[index])
        };
        if let Some(piece) = find("version") {
            self.version = self.parsed(&piece.text, |_, _, value| Ok(value.as_int()))?;
        }
        let object = self.writer.open(b'{');
        for field in CONFIG_DATA.fields {
            let section = Section::ALL
                .into_iter()
                .find(|section| section.key() == field.key);
            match (find(field.key), section) {
                (Some(piece), Some(section)) => self.section(section, field, piece)?,
                (Some(piece), None) => self.field(field, piece)?,
                (None, _) => self.writer.absent(&CONFIG_DATA, field)?,
            }
        }
        for (key, index) in &keyed {
            if CONFIG_DATA.fields.iter().all(|field| field.key != key) {
                self.writer.warnings.unknown(CONFIG_DATA.name, key);
                self.entry(
                    &FieldType::Any,
                    &CONFIG_DATA.fields[0],
                    &pieces[*index].text,
                )?;
            }
        }
        self.writer.close(object, b'}');
        Ok(())
    }

    /// Writes one field of the top level, parsed as a whole.
    fn field(&mut self, field: &Field, piece: &Piece) -> Result<(), Failure> {
        self.parsed(&piece.text, |writer, _, value| {
            Ok(writer.field(&CONFIG_DATA, field, Some(value), value)?)
        })
    }

    /// Writes a section: its entries are parsed one by one, in the order of their keys.
    fn section(&mut self, section: Section, field: &Field, piece: &Piece) -> Result<(), Failure> {
        let FieldType::Map(ty) = &field.ty else {
            unreachable!("sections are maps")
        };
        let Some(inner) = &piece.inner else {
            // Not an object: kept as it is, or refused with its type.
            return self.field(field, piece);
        };
        self.check_shell(piece, inner)?;
        let mut inner: &[Range<usize>] = inner;
        // An object without members has one piece, which is empty but for white space.
        if let [only] = inner
            && pieces::is_space(&self.source[only.clone()])
        {
            inner = &[];
        }
        let keyed = self
            .by_key(inner.iter())
            .map_err(|failure| failure.under(section.key()))?;
        self.writer.key(section.key());
        let map = self.writer.open(b'{');
        let mut entries = Vec::with_capacity(keyed.len());
        for (_, index) in keyed {
            let start = self.writer.next_member();
            self.entry(ty, field, &inner[index])
                .map_err(|failure| failure.under(section.key()))?;
            let key_end = json::string_end(&self.writer.out, start);
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

    /// Checks what is around the entries of a section: without them, the text must be a member
    /// whose value is an empty object.
    fn check_shell(&mut self, piece: &Piece, inner: &[Range<usize>]) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (inner.first(), inner.last()) else {
            return Ok(());
        };
        let mut shell = self.source[piece.text.start..first.start].to_vec();
        shell.extend_from_slice(&self.source[last.end..piece.text.end]);
        self.parser
            .member(&shell, |_, value| match value.members() {
                Some(_) => Ok(()),
                None => Err(Failure::Malformed),
            })
    }

    /// Parses one piece as a member and writes it; `field` is the field of the top level that it is
    /// in.
    fn entry(
        &mut self,
        ty: &FieldType,
        field: &Field,
        piece: &Range<usize>,
    ) -> Result<(), Failure> {
        self.parsed(piece, |writer, key, value| {
            let place = Place {
                owner: value,
                record: CONFIG_DATA.name,
                key: field.key,
                needed_by: field.needed_by,
            };
            writer.key(key);
            writer
                .write(ty, value, &place)
                .map_err(|error| error.under(key).into())
        })
    }

    /// Parses one piece as a member and calls `read` with its key and value.
    fn parsed<R>(
        &mut self,
        piece: &Range<usize>,
        read: impl FnOnce(&mut Writer<'_>, &str, Value<'_>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let Self {
            source,
            parser,
            writer,
            ..
        } = self;
        parser.member(&source[piece.clone()], |key, value| {
            if value.has_replaced_surrogates() {
                writer
                    .warnings
                    .file("lone surrogate escapes (half a character) are served as U+FFFD");
            }
            read(writer, key, value)
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
    ) -> Result<Vec<(Cow<'a, str>, usize)>, Failure> {
        let source: &'a [u8] = self.source;
        let mut keyed = Vec::new();
        for (index, piece) in pieces.enumerate() {
            let key = match pieces::raw_key(&source[piece.clone()]).map(str::from_utf8) {
                Some(Ok(key)) if !key.contains('\\') => Cow::Borrowed(key),
                // A key with escapes, or no key: the parser unescapes it or refuses the piece.
                _ => self.parsed(piece, |_, key, _| Ok(Cow::Owned(key.to_owned())))?,
            };
            keyed.push((key, index));
        }
        if !keyed.is_sorted() {
            keyed.sort();
        }
        match keyed.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(twice(&pair[0].0).into()),
            None => Ok(keyed),
        }
    }

    /// What to do about a file of an old version.
    fn remedy(&self) -> Option<String> {
        let version = self
            .version
            .filter(|version| OLD_VERSIONS.contains(version))?;
        let (major, minor) = (version / 1_000_000, version / 10_000 % 100);
        Some(format!(
            "the file is of Ganeti {major}.{minor}: run cfgupgrade to convert it to 3.0"
        ))
    }
}

//! The whole configuration as canonical text, and a sparse tree for finding one's way in it.
//!
//! The tree knows only composites of at least [`BRANCH_BYTES_MIN`] bytes: what is shorter is scanned faster than it is looked up,
//! and a tree of everything would be larger than the text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use super::pieces::{self, Piece};
use super::schema::{Field, Record, Type, Writer, default, needed, required};
use super::value::Parser;
use super::{Error, Warnings, cluster, disk, filter, group, instance, network, node};
use crate::text::{self, Span};

/// Objects and arrays with at least this much text have an entry in the tree.
const BRANCH_BYTES_MIN: usize = 256;

/// Objects with at most this many members keep them in the order of the text, and are searched one by one.
const LINEAR_MAX: usize = 64;

/// A container of the top level whose entries are reached by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Nodes,
    NodeGroups,
    Instances,
    Networks,
    Disks,
    Filters,
}

/// ConfigData: the file itself. Entries of containers are read piece by piece, everything else whole.
static CONFIG_DATA: Record = Record {
    name: "ConfigData",
    fields: &[
        needed("version", Type::Int),
        needed("cluster", Type::Record(&cluster::CLUSTER)),
        needed("nodes", Type::Map(&Type::Record(&node::NODE))),
        required("nodegroups", Type::Map(&Type::Record(&group::NODE_GROUP))),
        needed("instances", Type::Map(&Type::Choice(instance::table))),
        required("networks", Type::Map(&Type::Record(&network::NETWORK))),
        needed("disks", Type::Map(&Type::Choice(disk::table))),
        required("filters", Type::Map(&Type::Record(&filter::FILTER_RULE))),
        default("ctime", Type::Time, "0"),
        default("mtime", Type::Time, "0"),
        required("serial_no", Type::Int),
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

/// A configuration in canonical form.
#[derive(Debug)]
pub(crate) struct Document {
    text: Box<[u8]>,
    tree: Tree,
    sections: [Box<[Entry]>; 6],
}

impl Document {
    /// Checks a whole file and writes it in canonical form.
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

    /// The entries of a container, ascending by key (UTF-8 bytes): the reference's map order.
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
            // Sorted by key, and by place among equal keys: the first of them is meant.
            let first =
                children.partition_point(|child| text::compare(name(child), key) == Ordering::Less);
            children.get(first).filter(|child| name(child) == key)?
        };
        Some(self.value(text::string_end(&self.text, *child as usize) + 1))
    }

    /// The element `index` of the array at `at`.
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

    /// The value that `keys` lead to from the top.
    ///
    /// # Panics
    ///
    /// If there is none: for fields that the tables mark as needed.
    pub(crate) fn needed(&self, keys: &[&str]) -> Span {
        self.find(keys)
            .expect("the tables reject files without a needed field")
    }

    /// The value that `keys` lead to from the top, if it is there.
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
        self.text.len()
            + size_of_val::<[Branch]>(&self.tree.branches)
            + size_of_val::<[u32]>(&self.tree.children)
            + entries
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
                self.entry(&Type::Any, &pieces[*index].text)?;
            }
        }
        self.writer.close(object, b'}');
        Ok(())
    }

    /// A map whose entries are parsed one by one, in the order of their keys.
    fn container(&mut self, section: Section, field: &Field, piece: &Piece) -> Result<(), Error> {
        let Type::Map(ty) = &field.ty else {
            unreachable!("sections are maps")
        };
        self.check_braces(piece)
            .map_err(|error| error.under(section.key()))?;
        let mut inner: &[Range<usize>] = &piece.inner;
        // An object without members has one piece of white space.
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
        self.writer.key(section.key())?;
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

    /// That a container's value is one object and nothing else: what its pieces do not show.
    fn check_braces(&mut self, piece: &Piece) -> Result<(), Error> {
        let (Some(first), Some(last)) = (piece.inner.first(), piece.inner.last()) else {
            // No braces at all: parse the value for the message that says what it is.
            return self
                .parser
                .member(self.source, piece.text.clone(), |_, value| {
                    Err(Error::new(format!(
                        "expected an object, found {}",
                        value.kind()
                    )))
                });
        };
        // The same text without the entries must be a member with an empty object for its value.
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
    fn entry(&mut self, ty: &Type, piece: &Range<usize>) -> Result<(), Error> {
        self.parser
            .member(self.source, piece.clone(), |key, value| {
                self.writer.key(key)?;
                self.writer
                    .write(ty, value, value)
                    .map_err(|error| error.under(key))
            })
    }

    /// The pieces' keys in ascending order, each with its piece's index.
    fn by_key<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p Range<usize>>,
    ) -> Result<Vec<(Cow<'a, str>, usize)>, Error> {
        let source: &'a [u8] = self.source;
        let mut keyed = Vec::new();
        for (index, piece) in pieces.enumerate() {
            let key = match pieces::raw_key(&source[piece.clone()]).map(str::from_utf8) {
                Some(Ok(plain)) if !plain.contains('\\') => Cow::Borrowed(plain),
                // An escape in it, or no key at all: let the parser say.
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

#[derive(Clone, Copy, Debug)]
struct Branch {
    start: u32,
    end: u32,
    /// Its children's offsets are `children[first..first + count]`.
    first: u32,
    count: u32,
}

/// The larger objects and arrays of a text, by where they start.
///
/// Children of an array are the offsets of its elements in order; children of an object the offsets of its
/// keys, sorted if there are more than [`LINEAR_MAX`].
#[derive(Debug, Default)]
struct Tree {
    branches: Box<[Branch]>,
    children: Box<[u32]>,
}

impl Tree {
    fn branch(&self, at: usize) -> Option<&Branch> {
        let at = u32::try_from(at).ok()?;
        self.branches
            .binary_search_by_key(&at, |branch| branch.start)
            .ok()
            .map(|found| &self.branches[found])
    }

    fn children(&self, branch: &Branch) -> &[u32] {
        &self.children[branch.first as usize..][..branch.count as usize]
    }
}

/// Grows a [`Tree`] while its text is written.
#[derive(Default)]
pub(super) struct TreeBuilder {
    branches: Vec<Branch>,
    children: Vec<u32>,
    /// Children of all the composites that are still open, innermost last.
    open_children: Vec<u32>,
    /// Where the open composites' children begin in `open_children`.
    open: Vec<usize>,
}

impl TreeBuilder {
    pub(super) fn open(&mut self) {
        self.open.push(self.open_children.len());
    }

    /// A child of the innermost open composite starts at `at`.
    pub(super) fn child(&mut self, at: usize) {
        // A text too large for offsets is refused by `Writer::checked_len` before anything reads them.
        self.open_children.push(at as u32);
    }

    /// The innermost composite, which started at `start`, ends where `text` ends.
    pub(super) fn close(&mut self, start: usize, text: &[u8]) {
        let mark = self.open.pop().unwrap_or(0);
        if text.len() - start >= BRANCH_BYTES_MIN && u32::try_from(text.len()).is_ok() {
            let first = self.children.len();
            self.children.extend(self.open_children.drain(mark..));
            let children = &mut self.children[first..];
            if text[start] == b'{' && children.len() > LINEAR_MAX {
                let key = |&child: &u32| {
                    &text[child as usize + 1..text::string_end(text, child as usize) - 1]
                };
                let before = |left: &u32, right: &u32| text::compare(key(left), key(right));
                if !children.is_sorted_by(|left, right| before(left, right) == Ordering::Less) {
                    children.sort_by(before);
                }
            }
            let count = children.len() as u32;
            self.branches.push(Branch {
                start: start as u32,
                end: text.len() as u32,
                first: first as u32,
                count,
            });
        } else {
            self.open_children.truncate(mark);
        }
    }

    /// The child that was started last is not there after all. It must have been too short for a branch.
    pub(super) fn forget_last(&mut self) {
        self.open_children.pop();
    }

    fn finish(mut self) -> Tree {
        self.branches.sort_unstable_by_key(|branch| branch.start);
        Tree {
            branches: self.branches.into_boxed_slice(),
            children: self.children.into_boxed_slice(),
        }
    }
}

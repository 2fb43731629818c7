//! Finds nodes and instances by key, by full name, or by unambiguous abbreviation.
//!
//! The reference looks for a key first, then for a full name, then for names that start with the
//! query and a dot. Here keys and full names are entries of one hash table, so that they are found
//! by one probe. Abbreviations are found in a sorted list of names: those that start with the same
//! text are neighbors in it. An entry for every abbreviation would take memory for every dot.
//!
//! Source: `Ganeti.Config` (`getItem'`, `getNode`, `getInstance`), `Ganeti.BasicTypes`
//! (`goodLookupResult`, `lookupName`).

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::json::Span;

/// Why no object is found for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// No object of that name.
    Unknown,
    /// An abbreviation of several names.
    Ambiguous,
}

impl NotFound {
    /// The wording of the reference.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Unknown => "not found",
            Self::Ambiguous => "has multiple matches",
        }
    }
}

/// The index of an object, and which of the first two rules finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Key(u32),
    Name(u32),
}

/// One entry of the table.
#[derive(Clone, Copy, Debug)]
struct Name {
    text: Span,
    target: Target,
}

/// Finds the index of an object by canonical name. It holds spans of the document's text.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Keys and full names.
    names: HashTable<Name>,
    /// The distinct full names that have a dot, in ascending order of their bytes.
    dotted: Box<[Span]>,
    /// The object of each of these names.
    dotted_objects: Box<[u32]>,
    hasher: RandomState,
}

impl Directory {
    /// A directory of objects, in map order: the key of each, and its name if it has one.
    pub(super) fn new(
        text: &[u8],
        keys: impl ExactSizeIterator<Item = Span>,
        names: &[Option<Span>],
    ) -> Self {
        let mut directory = Self::default();
        let hasher = |known: &Name| directory.hasher.hash_one(known.text.of(text));
        directory.names.reserve(keys.len() + names.len(), hasher);
        for (key, index) in keys.zip(0..) {
            directory.insert(text, key, Target::Key(index));
        }
        let mut dotted: Vec<(Span, u32)> = Vec::new();
        for (name, index) in names.iter().zip(0..) {
            let Some(name) = *name else { continue };
            directory.insert(text, name, Target::Name(index));
            if memchr::memchr(b'.', name.of(text)).is_some() {
                dotted.push((name, index));
            }
        }
        dotted.sort_by_key(|(name, _)| name.of(text));
        // Of several objects with one name, the one with the greatest key counts.
        dotted.dedup_by(|(later, index), (earlier, kept)| {
            let is_same = later.of(text) == earlier.of(text);
            if is_same {
                *kept = *index;
            }
            is_same
        });
        let (names, objects): (Vec<_>, Vec<_>) = dotted.into_iter().unzip();
        directory.dotted = names.into();
        directory.dotted_objects = objects.into();
        directory
    }

    /// Adds a key or name. A key has precedence over a name, and a later name over an earlier one.
    fn insert(&mut self, text: &[u8], name: Span, target: Target) {
        let hash = self.hasher.hash_one(name.of(text));
        let same = |known: &Name| known.text.of(text) == name.of(text);
        match self.names.find_mut(hash, same) {
            Some(known) => {
                if let Target::Name(_) = known.target {
                    known.target = target;
                }
            }
            None => {
                let hasher = |known: &Name| self.hasher.hash_one(known.text.of(text));
                self.names
                    .insert_unique(hash, Name { text: name, target }, hasher);
            }
        }
    }

    /// The index of the object that `name` (canonical) means.
    pub(super) fn find(&self, text: &[u8], name: &[u8]) -> Result<usize, NotFound> {
        let hash = self.hasher.hash_one(name);
        let same = |known: &Name| known.text.of(text) == name;
        match self.names.find(hash, same).map(|known| known.target) {
            Some(Target::Key(index) | Target::Name(index)) => Ok(index as usize),
            None => self.find_abbreviation(text, name),
        }
    }

    /// The index of the object whose name starts with `name` and a dot, if there is only one such
    /// name.
    fn find_abbreviation(&self, text: &[u8], name: &[u8]) -> Result<usize, NotFound> {
        let is_abbreviated = |full: &Span| {
            let full = full.of(text);
            full.starts_with(name) && full.get(name.len()) == Some(&b'.')
        };
        // Whether a name is less than `name` and a dot.
        let is_before = |full: &Span| {
            let full = full.of(text);
            let (start, rest) = full.split_at(full.len().min(name.len()));
            start.cmp(name).then_with(|| rest.cmp(b".")).is_lt()
        };
        let first = self.dotted.partition_point(is_before);
        let mut found = self.dotted[first..].iter().map(is_abbreviated);
        match (found.next(), found.next()) {
            (Some(true), Some(true)) => Err(NotFound::Ambiguous),
            (Some(true), _) => Ok(self.dotted_objects[first] as usize),
            _ => Err(NotFound::Unknown),
        }
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        self.names.allocation_size()
            + size_of_val::<[Span]>(&self.dotted)
            + size_of_val::<[u32]>(&self.dotted_objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_beat_names_and_names_beat_abbreviations() {
        let text = b"key1|a.b.c|key2|a.b|key3|a.x.y|a|key4";
        let span = |word: &str| {
            let at = text
                .windows(word.len())
                .position(|window| window == word.as_bytes());
            let at = at.expect("a word of the text");
            Span::new(at..at + word.len())
        };
        let objects = [("key1", "a.b.c"), ("key2", "a.b"), ("key3", "a.x.y")];
        let keys: Vec<_> = objects.iter().map(|(key, _)| span(key)).collect();
        let names: Vec<_> = objects.iter().map(|(_, name)| Some(span(name))).collect();
        let directory = Directory::new(text, keys.into_iter(), &names);
        let find = |name: &str| directory.find(text, name.as_bytes());
        assert_eq!(find("key2"), Ok(1));
        assert_eq!(find("a.b.c"), Ok(0));
        assert_eq!(
            find("a.b"),
            Ok(1),
            "a full name wins, even if it also abbreviates another"
        );
        assert_eq!(find("a.x"), Ok(2));
        assert_eq!(find("a"), Err(NotFound::Ambiguous));
        assert_eq!(find("a."), Err(NotFound::Unknown));
        assert_eq!(find("ke"), Err(NotFound::Unknown));
    }
}

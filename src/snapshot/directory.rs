//! Names of nodes and instances: by key, by full name, by unambiguous abbreviation.
//!
//! The reference looks for a key first, then for a full name, then for a name that the query and a dot begin. Here all
//! of these are entries of one hash table, made in this order, so that a lookup is one probe.
//!
//! Source: `Ganeti.Config` (`getItem'`, `getNode`, `getInstance`), `Ganeti.BasicTypes` (`goodLookupResult`, `lookupName`).

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::text::Span;

/// Why a name leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// No object of that name.
    Unknown,
    /// An abbreviation of several names.
    Ambiguous,
}

impl NotFound {
    /// The reference's words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Unknown => "not found",
            Self::Ambiguous => "has multiple matches",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The index of the object with this key or full name.
    Exact(u32),
    /// The index of the only object whose name continues with a dot.
    Abbreviation(u32),
    Ambiguous,
}

#[derive(Debug)]
struct Name {
    text: Span,
    target: Target,
}

/// Canonical names to indexes of objects; the names' bytes are those of the document's text.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    names: HashTable<Name>,
    hasher: RandomState,
}

impl Directory {
    /// A directory of `objects`: each one's key and, if it has one, its name; in map order.
    pub(super) fn new(text: &[u8], objects: impl Iterator<Item = (Span, Option<Span>)>) -> Self {
        let mut directory = Self::default();
        // Several objects of one name: the one with the greatest key is found.
        let mut named = BTreeMap::new();
        for (index, (key, name)) in objects.enumerate() {
            let index = index as u32;
            directory.insert(text, key, Target::Exact(index));
            if let Some(name) = name {
                named.insert(name.of(text), (name, index));
            }
        }
        for (name, index) in named.values() {
            directory.insert(text, *name, Target::Exact(*index));
        }
        for (name, index) in named.values() {
            for dot in memchr::memchr_iter(b'.', name.of(text)) {
                let abbreviation = Span {
                    start: name.start,
                    end: name.start + dot as u32,
                };
                directory.insert(text, abbreviation, Target::Abbreviation(*index));
            }
        }
        directory
    }

    /// Adds an entry. What is there already stays, but two abbreviations make an ambiguous one.
    fn insert(&mut self, text: &[u8], name: Span, target: Target) {
        let hash = self.hasher.hash_one(name.of(text));
        match self
            .names
            .find_mut(hash, |known| known.text.of(text) == name.of(text))
        {
            Some(known) => {
                if matches!(
                    (known.target, target),
                    (Target::Abbreviation(_), Target::Abbreviation(_))
                ) {
                    known.target = Target::Ambiguous;
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
        match self
            .names
            .find(hash, |known| known.text.of(text) == name)
            .map(|known| known.target)
        {
            Some(Target::Exact(index) | Target::Abbreviation(index)) => Ok(index as usize),
            Some(Target::Ambiguous) => Err(NotFound::Ambiguous),
            None => Err(NotFound::Unknown),
        }
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        self.names.allocation_size()
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
        let directory = Directory::new(
            text,
            objects
                .iter()
                .map(|(key, name)| (span(key), Some(span(name)))),
        );
        let find = |name: &str| directory.find(text, name.as_bytes());
        assert_eq!(find("key2"), Ok(1));
        assert_eq!(find("a.b.c"), Ok(0));
        assert_eq!(
            find("a.b"),
            Ok(1),
            "a full name, though it abbreviates another"
        );
        assert_eq!(find("a.x"), Ok(2));
        assert_eq!(find("a"), Err(NotFound::Ambiguous));
        assert_eq!(find("a."), Err(NotFound::Unknown));
        assert_eq!(find("ke"), Err(NotFound::Unknown));
    }
}

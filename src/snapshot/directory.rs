//! Finds nodes and instances by key, by full name, or by unambiguous abbreviation.
//!
//! The reference looks for a key first, then for a full name, then for names that start with the
//! query and a dot. Here all of these are entries of one hash table, inserted in this order, so
//! that a lookup is one probe.
//!
//! Source: `Ganeti.Config` (`getItem'`, `getNode`, `getInstance`), `Ganeti.BasicTypes`
//! (`goodLookupResult`, `lookupName`).

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::text::Span;

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

/// The index of the object that a name means, and which of the three rules found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Key(u32),
    Name(u32),
    /// The name and a dot start the name of this object and of no other.
    Abbreviation(u32),
    Ambiguous,
}

/// One entry of the table.
#[derive(Debug)]
struct Name {
    text: Span,
    target: Target,
}

/// Finds the index of an object by canonical name. The table holds spans of the document's text.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    names: HashTable<Name>,
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
        let dots = |name: Span| memchr::memchr_iter(b'.', name.of(text)).map(|dot| dot as u32);
        let named = || {
            names
                .iter()
                .zip(0..)
                .filter_map(|(name, index)| Some(((*name)?, index)))
        };
        let abbreviations: usize = named().map(|(name, _)| dots(name).count()).sum();
        let hasher = |known: &Name| directory.hasher.hash_one(known.text.of(text));
        directory
            .names
            .reserve(keys.len() + names.len() + abbreviations, hasher);
        for (key, index) in keys.zip(0..) {
            directory.insert(text, key, Target::Key(index), |_| None);
        }
        for (name, index) in named() {
            // Of several objects with one name, the one with the greatest key counts.
            let target = Target::Name(index);
            directory.insert(text, name, target, |known| {
                matches!(known, Target::Name(_)).then_some(target)
            });
        }
        for (name, index) in named() {
            let target = Target::Abbreviation(index);
            let same_name = |other: u32| {
                names[other as usize].is_some_and(|other| other.of(text) == name.of(text))
            };
            for dot in dots(name) {
                let abbreviation = Span {
                    start: name.start,
                    end: name.start + dot,
                };
                directory.insert(text, abbreviation, target, |known| match known {
                    Target::Abbreviation(other) if same_name(other) => Some(target),
                    Target::Abbreviation(_) => Some(Target::Ambiguous),
                    _ => None,
                });
            }
        }
        directory
    }

    /// Adds an entry. If the name has one already, `replace` may return a new target for it.
    fn insert(
        &mut self,
        text: &[u8],
        name: Span,
        target: Target,
        replace: impl FnOnce(Target) -> Option<Target>,
    ) {
        let hash = self.hasher.hash_one(name.of(text));
        match self
            .names
            .find_mut(hash, |known| known.text.of(text) == name.of(text))
        {
            Some(known) => known.target = replace(known.target).unwrap_or(known.target),
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
            Some(Target::Key(index) | Target::Name(index) | Target::Abbreviation(index)) => {
                Ok(index as usize)
            }
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

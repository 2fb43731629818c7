//! What is unusual about a file that is served all the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::error::escaped;

/// What is unusual about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Unknown,
    Missing,
    Kept,
    Other,
}

/// Unusual things found while loading, counted by kind: the kind of object, its key, and what is
/// unusual.
#[derive(Debug, Default)]
pub(crate) struct Warnings(BTreeMap<(&'static str, Cow<'static, str>, Kind), Seen>);

/// One kind of unusual thing.
#[derive(Debug)]
struct Seen {
    /// The text for the first of them.
    first: String,
    count: usize,
}

impl Warnings {
    /// Kinds that are kept. A file of nothing but unknown keys must not fill the memory.
    const KINDS_MAX: usize = 64;

    /// The field table of `record` has no `key`.
    pub(super) fn unknown(&mut self, record: &'static str, key: &str) {
        let key = escaped(key);
        self.count(record, key.clone().into(), Kind::Unknown, || {
            format!("unknown key '{key}' (kept)")
        });
    }

    /// `key` of the table of `record` is missing, and no query needs it.
    pub(super) fn missing(&mut self, record: &'static str, key: &'static str) {
        self.count(record, key.into(), Kind::Missing, || {
            format!("missing key '{key}' (left out)")
        });
    }

    /// The value of `key` is not what the table of `record` says, and no query needs it.
    pub(super) fn kept(&mut self, record: &'static str, key: &'static str, what: &str) {
        self.count(record, key.into(), Kind::Kept, || {
            format!("key '{key}': {what} (kept as it is)")
        });
    }

    /// Anything else about the whole file.
    pub(super) fn file(&mut self, what: impl Into<Cow<'static, str>>) {
        let what = what.into();
        let text = what.clone().into_owned();
        self.count("file", what, Kind::Other, || text);
    }

    fn count(
        &mut self,
        record: &'static str,
        key: Cow<'static, str>,
        kind: Kind,
        text: impl FnOnce() -> String,
    ) {
        let full = self.0.len() >= Self::KINDS_MAX;
        let id = (record, key, kind);
        if let Some(seen) = self.0.get_mut(&id) {
            seen.count += 1;
        } else if !full {
            let first = text();
            self.0.insert(id, Seen { first, count: 1 });
        }
    }

    /// One line for each kind.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |record: &str, seen: &Seen| match seen.count {
            1 => format!("{record}: {}", seen.first),
            count => format!("{record}: {}, {count} times", seen.first),
        };
        self.0
            .iter()
            .map(|((record, ..), seen)| line(record, seen))
            .collect()
    }
}

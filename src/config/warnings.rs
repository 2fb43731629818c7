//! What is unusual about a file that is served all the same.

use std::collections::BTreeMap;

use super::error::quotable;

/// Unusual things found while loading: one line and a count for each kind.
#[derive(Debug, Default)]
pub(crate) struct Warnings(BTreeMap<(&'static str, String), usize>);

impl Warnings {
    /// Kinds that are kept. A file of nothing but unknown keys must not fill the memory.
    const KINDS_MAX: usize = 64;

    /// The table `record` does not know `key`.
    pub(super) fn unknown(&mut self, record: &'static str, key: &str) {
        let key = quotable(key.escape_debug().to_string());
        self.count(record, format!("unknown key '{key}' (kept)"));
    }

    /// `key` of the table `record` is missing, and no query needs it.
    pub(super) fn missing(&mut self, record: &'static str, key: &'static str) {
        self.count(record, format!("missing key '{key}' (left out)"));
    }

    fn count(&mut self, record: &'static str, what: String) {
        let full = self.0.len() >= Self::KINDS_MAX;
        let kind = (record, what);
        if let Some(count) = self.0.get_mut(&kind) {
            *count += 1;
        } else if !full {
            self.0.insert(kind, 1);
        }
    }

    /// One line for each kind.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|((record, what), count)| format!("{record}: {what}, {count} times"))
            .collect()
    }
}

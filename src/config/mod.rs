//! `config.data` to the canonical text that the reference would print.
//!
//! The reference parses the file into typed records and answers with these records printed again: defaults filled in,
//! absent options left out, keys in the order of its field tables, numbers and strings in its own spelling. This
//! module does that once, when a file is loaded:
//!
//! ```text
//! split      the file, cut at the commas of its two outer levels
//! parsed     one piece at a time through simd-json
//! table      checked and written again by the field tables of
//!              cluster, params, node, group, instance, disk, network, filter
//!              with number (numbers and times as the reference prints them)
//! document   the text of all of it, and a sparse tree for finding one's way in it
//! ```
//!
//! A field table reads like section 4 of the reference's object model: key, type, and what happens when the key is absent.
//! What no query needs may be missing, and what no table knows is kept; both are reported in `Warnings`.
//!
//! Invariants: the text is valid JSON in the form of the module `text`; every field marked `needed` is there and of its type;
//! nothing here is recursive beyond `parsed::DEPTH_MAX`; memory is linear in the file's length.
//!
//! Source: `Ganeti.Objects` (and `.Instance`, `.Disk`, `.Nic`), `Ganeti.JSON`, `Ganeti.THH` of Ganeti 3.0.2, as the running daemon
//! shows them.
#![forbid(unsafe_code)]

mod cluster;
mod disk;
mod document;
mod filter;
mod group;
mod instance;
mod network;
mod node;
pub(crate) mod number;
mod params;
mod pieces;
mod schema;
mod value;

pub(crate) use document::{Document, Section};

/// Why a configuration file cannot be served, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The place inside the document as a path, `/instances/UUID/nics/0/mac`; empty at the top.
    pub path: String,
    /// What is wrong there, for an administrator.
    pub what: String,
}

/// Text that a message quotes from the file, in bytes: a file may hold a key or a word of any length, a log line should not.
const QUOTED_BYTES_MAX: usize = 1_000;

/// `text`, cut to what a message may quote.
fn quotable(mut text: String) -> String {
    if text.len() > QUOTED_BYTES_MAX {
        text.truncate(text.floor_char_boundary(QUOTED_BYTES_MAX));
        text.push_str("...");
    }
    text
}

impl Error {
    /// The same error in a few lines at most, whatever it quotes.
    pub(crate) fn bounded(self) -> Self {
        Self {
            path: quotable(self.path),
            what: quotable(self.what),
        }
    }

    /// An error at the value that is being read; callers add where that is with [`Error::under`].
    fn new(what: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            what: what.into(),
        }
    }

    /// An error of syntax, with the line and column of `offset`.
    fn at_offset(text: &[u8], offset: usize, what: &str) -> Self {
        let before = &text[..offset.min(text.len())];
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let column = 1 + offset - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self::new(format!("line {line}, column {column}: {what}"))
    }

    /// The same error, seen from one level further out.
    fn under(mut self, key: &str) -> Self {
        self.path.insert_str(
            0,
            &format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        );
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.path, self.what)
        }
    }
}

impl std::error::Error for Error {}

/// What was odd about a file that is served all the same: one line for each kind of oddity, with its first place.
#[derive(Debug, Default)]
pub(crate) struct Warnings(std::collections::BTreeMap<(&'static str, String), usize>);

impl Warnings {
    /// Kinds of oddities that are told apart; a file of nothing but unknown keys does not fill the memory.
    const KINDS_MAX: usize = 64;

    fn unknown(&mut self, record: &'static str, key: &str) {
        let key = quotable(key.escape_debug().to_string());
        self.count(record, format!("unknown key '{key}' (kept)"));
    }

    fn missing(&mut self, record: &'static str, key: &'static str) {
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

#[cfg(test)]
mod tests {
    use crate::snapshot::Snapshot;

    #[test]
    fn messages_are_short_whatever_they_quote() {
        let long = "é".repeat(50_000);
        let sample = crate::demo::configuration(1, 1, 1);
        let unknown = sample.replacen('{', &format!("{{\"{long}\":0,"), 1);
        let warnings = Snapshot::load(unknown.as_bytes()).map(|loaded| loaded.warnings);
        let warnings = warnings.expect("an unknown key is served");
        assert!(!warnings.is_empty() && warnings.iter().all(|line| line.len() < 1_200));
        for (place, bad) in [
            ("\"nodes\":{", format!("\"nodes\":{{\"{long}\":0,")),
            ("\"ssh_key_type\":\"", format!("\"ssh_key_type\":\"{long}")),
        ] {
            let file = sample.replacen(place, &bad, 1);
            assert_ne!(file, sample);
            let error = Snapshot::load(file.as_bytes()).expect_err("it is no configuration");
            assert!(
                error.to_string().len() < 2_400,
                "{} bytes",
                error.to_string().len()
            );
        }
    }
}

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
#[cfg(feature = "fuzzing")]
pub mod door;
mod filter;
mod group;
mod instance;
mod network;
mod node;
mod number;
mod params;
mod parsed;
mod split;
mod table;

pub(crate) use document::{Document, Section};

/// Why a configuration file cannot be served, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The place inside the document as a path, `/instances/UUID/nics/0/mac`; empty at the top.
    pub path: String,
    /// What is wrong there, for an administrator.
    pub what: String,
}

impl Error {
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
        self.count(
            record,
            format!("unknown key '{}' (kept)", key.escape_debug()),
        );
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

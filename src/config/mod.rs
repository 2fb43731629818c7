//! Turns `config.data` into the canonical text that the reference would print.
//!
//! The reference parses the file into typed records and answers with these records printed again:
//! defaults filled in, absent options left out, keys in the order of its field tables, numbers and
//! strings in its own spelling. This module does the same once per load:
//!
//! ```text
//! pieces     the file, cut at the commas of its two outer levels
//! value      one piece at a time, parsed by simd-json
//! loader     the pieces in the order of the top level's field table
//!   typed      a value checked and written by the field tables (language: schema) of
//!                cluster, params, node, group, instance, disk, network, filter
//!   writer     canonical JSON text
//!   number     numbers and times as the reference prints them
//! document   the whole text; paths are found with the offsets in `tree`
//! syntax     what is wrong with a file that is not JSON, and where
//! ```
//!
//! A field table lists key, type, what happens when the key is absent, and the request types that
//! need the value, in the order in which the reference prints the fields. A file is refused only if
//! it is not JSON, has a key twice, or lacks a value that a query needs. Everything else is served
//! and reported in `Warnings`.
//!
//! Invariants: the text is valid JSON in canonical form; every value that a field table marks as
//! needed has its type; recursion is at most `value::DEPTH_MAX` deep; time and memory are linear in
//! the length of the file.
//!
//! This module knows nothing about queries, and does not read files.
//!
//! Source: `Ganeti.Objects` (and `.Instance`, `.Disk`, `.Nic`), `Ganeti.JSON` and `Ganeti.THH` of
//! Ganeti 3.0.2, as observed on the running daemon.
#![forbid(unsafe_code)]

mod cluster;
mod disk;
mod document;
mod error;
mod filter;
mod group;
mod instance;
mod loader;
mod network;
mod node;
pub(crate) mod number;
mod params;
mod pieces;
mod schema;
mod section;
mod syntax;
mod tree;
mod typed;
mod value;
mod warnings;
mod writer;

pub(crate) use document::Document;
pub use error::Error;
pub(crate) use section::Section;
pub(crate) use warnings::Warnings;

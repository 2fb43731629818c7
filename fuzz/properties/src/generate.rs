//! Configurations from seeds: every kind of object, in every notation.
//!
//! They stay within what this daemon prints with the same bytes as the reference: RFC 8259 JSON in
//! ASCII, no duplicate keys, integral types, free-form numbers that 64-bit integers or doubles
//! represent. Deliberate exceptions are a [`Fault`], or text in [`encodings`].

pub mod encodings;
mod json;
mod objects;
mod tables;
pub mod values;

pub use json::{Json, Style};
pub use objects::{Fault, Generator};

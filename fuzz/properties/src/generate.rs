//! Seeded configurations: every family of objects, in every spelling.
//!
//! Everything here stays inside the contract "the same bytes as the reference": RFC 8259 JSON in ASCII, no key twice, integral types,
//! free-form numbers that 64-bit integers or doubles hold. What leaves it on purpose is a [`Fault`], or text in [`encodings`].

pub mod encodings;
mod json;
mod objects;
pub mod values;

pub use json::{Json, Style};
pub use objects::{Fault, Generator};

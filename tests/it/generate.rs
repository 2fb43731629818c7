//! Seeded configurations and requests for the differential run.
//!
//! Everything here stays inside the contract "the same bytes": RFC 8259 JSON in ASCII, no key twice, integral types, free-form numbers
//! that 64-bit integers or doubles hold. What leaves it on purpose is a [`Fault`], or text in [`disguise`].

pub(crate) mod disguise;
mod json;
mod objects;
mod requests;
mod values;

pub(crate) use json::{Json, Style};
pub(crate) use objects::{Fault, Generator};
pub(crate) use requests::{Asked, Requests};
pub(crate) use values::pick;

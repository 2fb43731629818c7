//! Canonical JSON text: escaping, unescaping, ordering and navigation.
//!
//! Canonical means: no white space, and in strings the escapes of [`escape`] and no others. Two
//! strings are equal if and only if their canonical forms are equal, so names are looked up without
//! unescaping them.
//!
//! `config` writes canonical text, `snapshot` navigates it, and `protocol` escapes it again as the
//! string inside a reply. The navigation functions do not validate: they take only text that
//! [`crate::config`] wrote.
//!
//! Source: `Text.JSON.String.showJSString`, as observed in the replies of the reference daemon.
#![forbid(unsafe_code)]

#[cfg(feature = "server")]
mod canonical;
mod escape;
#[cfg(feature = "server")]
mod scan;
#[cfg(feature = "server")]
mod span;
#[cfg(feature = "server")]
pub(crate) mod steps;
mod swar;
#[cfg(feature = "server")]
mod unescape;

#[cfg(feature = "server")]
pub(crate) use canonical::{canonical, compare, unescape};
pub(crate) use escape::{Sink, ascii_json, escape};
#[cfg(feature = "server")]
pub(crate) use scan::{elements, member, members, string_end, value_end};
#[cfg(feature = "server")]
pub(crate) use span::Span;
pub(crate) use swar::splat;
#[cfg(feature = "server")]
pub(crate) use unescape::{unescape_ascii, unescape_in_place, unescaped_ascii_len};

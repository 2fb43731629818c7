//! The confd wire protocol, version 1, without I/O.
//!
//! Requests and replies have the same layout: a fourcc, then a signed message.
//!
//! ```text
//! plj0{"msg": "{\"protocol\":1,\"type\":0,\"rsalt\":\"R\"}", "salt": "1795354392", "hmac": "40 hex digits"}
//! plj0{"hmac":"40 hex digits","msg":"{\"protocol\":1,\"status\":0,\"answer\":3000000,\"serial\":0}","salt":"R"}
//! ```
//!
//! The signature is HMAC-SHA1 over the unescaped text of `salt` followed by that of `msg`. The salt
//! of a request is the sender's clock. The salt of a reply is the request's `rsalt`, which binds
//! the reply to the request.
//!
//! * [`envelope`]: reading, verifying and writing the outer layer.
//! * [`Key`]: signing and verifying.
//! * [`RequestType`]: the queries.
//! * `request`: the inner message of a request.
//! * [`reply`]: the inner message of a reply.
//! * `Reject`: why a datagram gets no answer.
//! * `read`: reads both layers of a request.
//!
//! JSON means RFC 8259 here, in any spelling. The reference accepts more: that is left out on
//! purpose. Like the reference, nothing here accepts white space before an object.
//!
//! No general parser sees a datagram. An envelope is an object of strings, and a request has a
//! fixed form: one scanner (`cursor`) reads both in a single pass, and stops at anything else. So
//! the cost of a datagram is linear in its length with a small factor, before and after its
//! signature is checked. A general parser would build a tree, and convert every number exactly:
//! that takes tens of milliseconds for some texts of 60 KB.
//!
//! Source: `Ganeti.Confd.Server`, `Ganeti.Confd.Utils` (`parseRequest`, `signMessage`),
//! `Ganeti.Confd.Types`, `Ganeti.HashUtils`.
#![forbid(unsafe_code)]

#[cfg(feature = "server")]
mod cursor;
pub mod envelope;
pub(crate) mod hex;
mod key;
#[cfg(feature = "server")]
mod number;
#[cfg(feature = "server")]
mod read;
mod reject;
pub mod reply;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod request;
mod request_type;

pub use key::{EmptyKey, Key};
#[doc(hidden)]
pub use reject::Reject;
pub use request_type::RequestType;

/// The first four bytes of every datagram, in both directions (`confdMagicFourcc`).
pub const FOURCC: [u8; 4] = *b"plj0";

/// The port if the services database has no `ganeti-confd` entry
/// (`Ganeti.Constants.defaultConfdPort`).
pub const PORT_DEFAULT: u16 = 1814;

/// The longest request that is answered, in bytes of UDP payload. The reference truncates at 4,096.
pub const REQUEST_BYTES_MAX: usize = 61_440;

/// The longest reply, in bytes: the largest UDP payload over IPv4 (65,535 less the IP and UDP
/// headers).
pub const REPLY_BYTES_MAX: usize = 65_507;

/// The longest key file that is read, in bytes. Ganeti's own keys have 41; a longer file is a
/// mistake.
pub const KEY_BYTES_MAX: u64 = 64 * 1024;

/// Bytes that must follow a datagram in its buffer, with any content: strings are scanned eight
/// bytes at a time.
#[cfg(feature = "server")]
#[doc(hidden)]
pub const PADDING: usize = 8;

/// The largest difference between a request's clock and ours that is accepted, in seconds
/// (`confdMaxClockSkew`).
pub const SKEW_SECONDS_MAX: u64 = 300;

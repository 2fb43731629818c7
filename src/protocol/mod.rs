//! The confd wire protocol, version 1, without I/O.
//!
//! A request is a fourcc and a signed message; so is its reply:
//!
//! ```text
//! plj0{"msg": "{\"protocol\":1,\"type\":0,\"rsalt\":\"R\"}", "salt": "1795354392", "hmac": "40 hex digits"}
//! plj0{"hmac":"40 hex digits","msg":"{\"protocol\":1,\"status\":0,\"answer\":3000000,\"serial\":0}","salt":"R"}
//! ```
//!
//! The signature is HMAC-SHA1 over `salt` and `msg`, both as text, after unescaping. A request's salt is the sender's clock; a reply's
//! salt is the `rsalt` that the request asked for, and binds the reply to it.
//!
//! * [`envelope`]: fourcc and envelope, in and out.
//! * `plain`: envelopes and requests as clients write them; [`Parser`]: all others.
//! * [`Key`]: signing and verifying.
//! * [`request`]: the inner message of a request, by query type.
//! * [`reply`]: the inner message of a reply.
//! * [`Reject`]: why a datagram gets no answer.
//!
//! What is JSON here is RFC 8259, what is not plain parsed by simd-json, in place; the reference's wider reading of JSON is left out on
//! purpose. The reference takes no white space before an object, and neither do we.
//!
//! Source: `Ganeti.Confd.Server`, `Ganeti.Confd.Utils` (`parseRequest`, `signMessage`), `Ganeti.Confd.Types`, `Ganeti.HashUtils`.
#![forbid(unsafe_code)]

pub mod envelope;
pub(crate) mod fast_path;
mod key;
mod parser;
mod reject;
pub mod reply;
pub mod request;
mod request_type;

pub use key::{EmptyKey, Key};
pub use parser::Parser;
pub use reject::Reject;

/// The four bytes every datagram starts with, in both directions (`confdMagicFourcc`).
pub const FOURCC: [u8; 4] = *b"plj0";

/// The port without a `ganeti-confd` entry in the services database (`Ganeti.Constants.defaultConfdPort`).
pub const PORT_DEFAULT: u16 = 1814;

/// The longest request that is answered, in bytes of UDP payload. The reference cuts at 4,096.
pub const REQUEST_BYTES_MAX: usize = 61_440;

/// The longest reply, in bytes: the largest UDP payload over IPv4 (65,535 less IP and UDP headers).
pub const REPLY_BYTES_MAX: usize = 65_507;

/// Bytes that must be writable behind a datagram in its buffer: the parser reads whole SIMD lanes.
pub const PADDING: usize = simd_json::INPUT_PADDING;

/// How far a request's clock may be from ours, inclusive, in seconds (`confdMaxClockSkew`).
pub const SKEW_SECONDS_MAX: u64 = 300;

//! The confd wire protocol, version 1, without I/O.
#![forbid(unsafe_code)]

mod key;
mod reject;

pub use key::{EmptyKey, Key};
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

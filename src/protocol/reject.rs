use std::fmt;

use super::{REQUEST_BYTES_MAX, SKEW_SECONDS_MAX};

/// Why a datagram gets no answer. Each reason is counted; the sender never learns it.
///
/// Prints as an administrator reads it in the log: the fact, then its usual cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reject {
    /// Shorter than a fourcc, or not `plj0`: another protocol.
    BadFourcc,
    /// Longer than [`REQUEST_BYTES_MAX`], or truncated by the kernel.
    TooLong,
    /// Not a JSON object of exactly the strings `msg`, `salt` and `hmac`.
    BadEnvelope,
    /// The signature does not match the key.
    BadHmac,
    /// Signed, but the salt is not a time within [`SKEW_SECONDS_MAX`] of the daemon's clock.
    ClockSkew,
    /// Signed and fresh, but received before from another address.
    Replayed,
    /// Signed and fresh, but the inner message is not a request.
    BadRequest,
}

impl Reject {
    /// All reasons, in the order of the checks; `ALL[r as usize] == r`.
    pub const ALL: [Self; 7] = [
        Self::BadFourcc,
        Self::TooLong,
        Self::BadEnvelope,
        Self::BadHmac,
        Self::ClockSkew,
        Self::Replayed,
        Self::BadRequest,
    ];

    /// The reason as a name of a counter.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadFourcc => "bad_fourcc",
            Self::TooLong => "too_long",
            Self::BadEnvelope => "bad_envelope",
            Self::BadHmac => "bad_hmac",
            Self::ClockSkew => "clock_skew",
            Self::Replayed => "replayed",
            Self::BadRequest => "bad_request",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadFourcc => f.write_str("not a confd datagram (no plj0 magic)"),
            Self::TooLong => write!(f, "longer than {REQUEST_BYTES_MAX} bytes"),
            Self::BadEnvelope => {
                f.write_str("malformed envelope (not a JSON object of msg, salt and hmac)")
            }
            Self::BadHmac => f.write_str("bad signature (the client uses another hmac.key)"),
            Self::ClockSkew => write!(
                f,
                "clock skew over {SKEW_SECONDS_MAX} s (check the client's and this host's clock)"
            ),
            Self::Replayed => {
                f.write_str("replayed: the same signed request came from another address before")
            }
            Self::BadRequest => f.write_str("signed, but not a valid request"),
        }
    }
}

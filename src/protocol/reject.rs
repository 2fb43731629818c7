/// Why a datagram gets no answer. Each reason is counted; none says anything to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reject {
    /// Shorter than a fourcc, or not `plj0`: not our protocol.
    BadFourcc,
    /// Longer than [`super::REQUEST_BYTES_MAX`], or cut by the kernel.
    TooLong,
    /// Not a JSON object of exactly the strings `msg`, `salt` and `hmac`.
    BadEnvelope,
    /// The signature does not match the key.
    BadHmac,
    /// Signed, but the salt is no time, or one more than [`super::SKEW_SECONDS_MAX`] from ours.
    ClockSkew,
    /// Signed and fresh, but the inner message is not a request.
    BadRequest,
}

impl Reject {
    /// All reasons, in the order in which a datagram meets them; `ALL[r as usize] == r`.
    pub const ALL: [Self; 6] = [
        Self::BadFourcc,
        Self::TooLong,
        Self::BadEnvelope,
        Self::BadHmac,
        Self::ClockSkew,
        Self::BadRequest,
    ];

    /// What an administrator reads in the log: the fact, then what usually causes it.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::BadFourcc => "not a confd datagram (no plj0 magic)",
            Self::TooLong => "longer than 61440 bytes",
            Self::BadEnvelope => "malformed envelope (not a JSON object of msg, salt and hmac)",
            Self::BadHmac => "bad signature (the client uses another hmac.key)",
            Self::ClockSkew => "clock skew over 300 s (check the client's and this host's clock)",
            Self::BadRequest => "signed, but not a valid request",
        }
    }
}

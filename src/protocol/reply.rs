//! The inner message of a reply.
//!
//! ```json
//! {"protocol":1,"status":0,"answer":"node1.example.com","serial":77}
//! ```

/// Whether a reply holds an answer or an error (`ConfdReplyStatus`). The protocol's third status,
/// not implemented, is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The query's answer.
    Ok = 0,
    /// An error: the number of an [`ErrorCode`], or a text.
    Error = 1,
}

/// An error as a number (`ConfdErrorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    /// The cluster has no such entry.
    UnknownEntry = 0,
    /// The answer is too large for a datagram, or does not exist. The reference never sends this.
    Internal = 1,
    /// The argument has the wrong type, or the path does not exist.
    Argument = 2,
}

const OK_PREFIX: &[u8] = br#"{"protocol":1,"status":0,"answer":"#;
const ERROR_PREFIX: &[u8] = br#"{"protocol":1,"status":1,"answer":"#;
const SERIAL_PREFIX: &[u8] = br#","serial":"#;

/// The serial of errors and pings, which do not come from an object with a serial.
pub(crate) const NO_SERIAL: &[u8] = b"0";

/// Starts an inner message in `out`. The caller appends the answer as JSON, then calls [`end`].
pub(crate) fn begin(status: Status, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(match status {
        Status::Ok => OK_PREFIX,
        Status::Error => ERROR_PREFIX,
    });
}

/// Ends an inner message with its serial.
pub(crate) fn end(serial: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(SERIAL_PREFIX);
    out.extend_from_slice(serial);
    out.push(b'}');
}

/// Whether a whole inner message that was started with [`begin`] is an error.
pub(crate) fn is_error(message: &[u8]) -> bool {
    const STATUS_AT: usize = br#"{"protocol":1,"status":"#.len();
    message.get(STATUS_AT) == ERROR_PREFIX.get(STATUS_AT)
}

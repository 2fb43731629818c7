//! The inner message of a reply.
//!
//! ```json
//! {"protocol":1,"status":0,"answer":"node1.example.com","serial":77}
//! ```

/// Whether an answer is one (`ConfdReplyStatus`). The third of the protocol, not implemented, is never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The answer is what was asked for.
    Ok = 0,
    /// The answer says what is wrong: a number of [`ErrorCode`], or a text.
    Error = 1,
}

/// An answer that says what is wrong, by number (`ConfdErrorType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    /// Nothing known under that name.
    UnknownEntry = 0,
    /// The daemon's fault: the reference never sends it; here, an answer that is too large or cannot be given.
    Internal = 1,
    /// The argument is of the wrong kind.
    Argument = 2,
}

const OK_PREFIX: &[u8] = br#"{"protocol":1,"status":0,"answer":"#;
const ERROR_PREFIX: &[u8] = br#"{"protocol":1,"status":1,"answer":"#;
const SERIAL_PREFIX: &[u8] = br#","serial":"#;

/// The serial of answers that do not come from an object: errors and pings.
pub(crate) const NO_SERIAL: &[u8] = b"0";

/// Starts an inner message; its answer's JSON is to be appended, then [`end`].
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

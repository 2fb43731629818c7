//! Why there is no measurement, and why there may be no answers.

use std::fmt;
use std::process::ExitCode;

use crate::protocol::SKEW_SECONDS_MAX;

/// Why there is no measurement. Displays as a message for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    text: String,
    is_usage: bool,
}

impl Error {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self {
            text: why.into(),
            is_usage: false,
        }
    }

    /// The options exclude each other.
    pub(super) fn usage(why: impl Into<String>) -> Self {
        Self {
            text: why.into(),
            is_usage: true,
        }
    }

    /// The exit status: 2 if the command line is wrong, otherwise 1.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.is_usage { 2 } else { 1 })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// The possible causes of silence: confd sends no negative replies.
pub(super) fn silence_causes() -> String {
    format!(
        "confd does not answer what it cannot verify: another key (all bytes of hmac.key count, \
         including a newline), or clocks more than {SKEW_SECONDS_MAX} s apart; otherwise no confd \
         is running there, or a firewall drops the datagrams"
    )
}

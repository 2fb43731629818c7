//! Why there is no measurement, and why there may be no answers.

use std::fmt;

use crate::protocol::SKEW_SECONDS_MAX;

/// Why there is no measurement. Displays as a message for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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

//! Exit statuses of `confdctl`, and output to standard output and standard error.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::client::Error;

/// The exit statuses that `--help` documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// The query was answered.
    Answered = 0,
    /// The cluster answered with an error.
    ClusterError = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No candidate answered.
    NoAnswer = 3,
    /// A file or a socket of this host failed.
    Local = 4,
    /// With `--strict`: fewer candidates answered than the safe number.
    TooFewReplies = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: an exit status, and a message that includes the remedy.
#[derive(Debug)]
pub(super) struct CommandError {
    pub(super) exit: Exit,
    text: String,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl CommandError {
    pub(super) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            exit,
            text: text.into(),
        }
    }

    /// Converts an error of the client library.
    pub(super) fn of_client(error: &Error) -> Self {
        let exit = match error {
            Error::RequestTooLarge => Exit::Usage,
            Error::Answered(_) | Error::Unreadable { .. } => Exit::ClusterError,
            Error::NoReply(_) | Error::TooFewReplies(_) => Exit::NoAnswer,
            Error::Address(_)
            | Error::NoCandidates
            | Error::EmptyKey(_)
            | Error::NodeFiles(_)
            | Error::Socket(_) => Exit::Local,
        };
        Self::new(exit, error.to_string())
    }

    /// Converts an error of standard output. A closed pipe is success without a message.
    pub(super) fn of_output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Answered, "");
        }
        Self::new(
            Exit::Local,
            format!("cannot write to standard output: {error}"),
        )
    }
}

/// Prints `confdctl: TEXT` on standard error; prints nothing if the text is empty.
pub(super) fn eprintln_prefixed(text: impl fmt::Display) {
    let text = text.to_string();
    if !text.is_empty() {
        // A closed standard error does not change the exit status.
        let _ = writeln!(io::stderr(), "confdctl: {text}");
    }
}

/// Prints on standard output and flushes it.
///
/// # Errors
///
/// The device is full, or the pipe is closed.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| CommandError::of_output(&error))
}

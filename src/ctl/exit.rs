//! How `confdctl` ends: exit statuses, and what is said on standard error.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::client::Error;

/// How it ends; the numbers are the exit statuses that `--help` explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// Answered.
    Answered = 0,
    /// The cluster answered with an error.
    ClusterError = 1,
    /// A mistake on the command line.
    Usage = 2,
    /// No answer.
    NoAnswer = 3,
    /// This host's files or sockets fail.
    Local = 4,
}

impl From<Exit> for ExitCode {
    fn from(ending: Exit) -> Self {
        Self::from(ending as u8)
    }
}

/// Why it ends without having done what it was asked for: one line, what to do about it included.
#[derive(Debug)]
pub(super) struct CommandError {
    pub(super) ending: Exit,
    text: String,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl CommandError {
    pub(super) fn new(ending: Exit, text: impl Into<String>) -> Self {
        Self {
            ending,
            text: text.into(),
        }
    }

    /// What a client says before anything was sent.
    pub(super) fn of_client(error: &Error) -> Self {
        let ending = match error {
            Error::RequestTooLarge => Exit::Usage,
            Error::Answered(_) | Error::Unreadable { .. } => Exit::ClusterError,
            Error::Silence(_) | Error::TooFewReplies(_) => Exit::NoAnswer,
            Error::NoCandidates | Error::EmptyKey(_) | Error::Socket(_) => Exit::Local,
        };
        Self::new(ending, error.to_string())
    }

    /// Standard output fails. If nobody reads it any more, that is no failure: [`eprintln_prefixed`] never prints this.
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

/// Prints lines on standard error, the program's name in front.
pub(super) fn eprintln_prefixed(text: impl fmt::Display) {
    let text = text.to_string();
    if !text.is_empty() {
        // A closed standard error is no reason to end otherwise.
        let _ = writeln!(io::stderr(), "confdctl: {text}");
    }
}

/// Prints on standard output.
///
/// # Errors
///
/// It is full, or closed.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| CommandError::of_output(&error))
}

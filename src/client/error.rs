//! Why there is no answer.

use std::fmt;
use std::io;

use super::Outcome;
use crate::node_files::NodeFilesError;
use crate::protocol::reply::ErrorCode;
use crate::protocol::{EmptyKey, REQUEST_BYTES_MAX, RequestType};

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// There is nobody to ask.
    NoCandidates,
    /// The key is empty.
    EmptyKey(EmptyKey),
    /// The request does not fit a datagram that confd takes.
    RequestTooLarge,
    /// This node's files lack the key or the candidates.
    NodeFiles(NodeFilesError),
    /// This host's sockets fail.
    Socket(io::Error),
    /// Nobody answered in time.
    Silence(Box<Outcome>),
    /// Fewer answered in time than make an answer safe; the outcome holds what they said.
    TooFewReplies(Box<Outcome>),
    /// The newest answer is an error.
    Answered(AnsweredError),
    /// The answer is not of the question's type.
    Unreadable {
        /// What was asked.
        question: RequestType,
        /// What is wrong with the answer.
        why: String,
    },
}

/// An error that a candidate answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnsweredError {
    /// The cluster has nothing of that name or address.
    UnknownEntry,
    /// The candidate has an answer but cannot send it: it is too large for a datagram. (Or the cluster lacks what the question is about.)
    Internal,
    /// The argument is of the wrong kind, or the path leads nowhere.
    Argument,
    /// Anything else, in the candidate's words.
    Text(String),
}

impl AnsweredError {
    pub(super) fn read(answer: &str) -> Self {
        match serde_json::from_str(answer) {
            Ok(serde_json::Value::String(text)) => Self::Text(text),
            Ok(serde_json::Value::Number(code)) => match code.as_u64() {
                Some(code) if code == ErrorCode::UnknownEntry as u64 => Self::UnknownEntry,
                Some(code) if code == ErrorCode::Internal as u64 => Self::Internal,
                Some(code) if code == ErrorCode::Argument as u64 => Self::Argument,
                _ => Self::Text(format!("error {code}")),
            },
            _ => Self::Text(answer.to_owned()),
        }
    }
}

impl fmt::Display for AnsweredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownEntry => "the cluster has no such entry",
            Self::Internal => "the answer does not fit a datagram; ask for a part of it",
            Self::Argument => "the argument is of the wrong kind, or the path leads nowhere",
            Self::Text(text) => text,
        })
    }
}

impl std::error::Error for AnsweredError {}

impl From<NodeFilesError> for Error {
    fn from(error: NodeFilesError) -> Self {
        Self::NodeFiles(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCandidates => f.write_str("there are no master candidates to ask"),
            Self::EmptyKey(error) => error.fmt(f),
            Self::RequestTooLarge => write!(
                f,
                "the request is longer than the {REQUEST_BYTES_MAX} bytes that are answered: ask for less at once"
            ),
            Self::NodeFiles(error) => error.fmt(f),
            Self::Socket(error) => write!(f, "cannot use a UDP socket: {error}"),
            Self::Silence(outcome) => write!(f, "no answer {}", outcome.tally()),
            Self::TooFewReplies(outcome) => write!(
                f,
                "too few answers to be sure: {} of {} needed {}",
                outcome.replies(),
                outcome.needed(),
                outcome.tally()
            ),
            Self::Answered(error) => error.fmt(f),
            Self::Unreadable { question, why } => {
                write!(f, "the answer to {question:?} cannot be understood: {why}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NodeFiles(error) => Some(error),
            Self::Socket(error) => Some(error),
            Self::Answered(error) => Some(error),
            Self::EmptyKey(error) => Some(error),
            _ => None,
        }
    }
}

//! The reasons why there is no answer.

use std::convert::Infallible;
use std::fmt;
use std::io;

use super::candidate::InvalidAddress;
use super::outcome::Outcome;
use super::reply::AnsweredError;
use crate::node_files::NodeFilesError;
use crate::protocol::{EmptyKey, REQUEST_BYTES_MAX, RequestType};

/// The reason why there is no answer, or no client.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The list of candidates is empty.
    NoCandidates,
    /// The key is empty.
    EmptyKey(EmptyKey),
    /// A candidate's address cannot be parsed.
    Address(InvalidAddress),
    /// A file of this node cannot be used.
    NodeFiles(NodeFilesError),
    /// The request is longer than a daemon accepts.
    RequestTooLarge,
    /// A socket of this host failed, or the kernel has no random bytes.
    Socket(io::Error),
    /// No candidate replied in time. The outcome has the state of each.
    NoReply(Box<Outcome>),
    /// Fewer candidates replied in time than make an answer safe. The outcome has their replies.
    TooFewReplies(Box<Outcome>),
    /// The best reply is an error.
    Answered(AnsweredError),
    /// The answer does not have the type that the question requires.
    Unreadable {
        /// The query's type.
        question: RequestType,
        /// What is wrong with the answer.
        why: String,
    },
}

impl Error {
    /// Whether the cluster has no object of the name or address that was asked about.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Answered(AnsweredError::NotFound(_)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCandidates => f.write_str("there are no master candidates to ask"),
            Self::EmptyKey(error) => error.fmt(f),
            Self::Address(error) => error.fmt(f),
            Self::NodeFiles(error) => error.fmt(f),
            Self::RequestTooLarge => write!(
                f,
                "the request is longer than the {REQUEST_BYTES_MAX} bytes that are answered: ask for less at once"
            ),
            Self::Socket(error) => write!(f, "cannot use a UDP socket: {error}"),
            Self::NoReply(outcome) => write!(f, "no answer {}", outcome.tally()),
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
            Self::EmptyKey(error) => Some(error),
            Self::Address(error) => Some(error),
            Self::NodeFiles(error) => Some(error),
            Self::Socket(error) => Some(error),
            Self::Answered(error) => Some(error),
            _ => None,
        }
    }
}

impl From<EmptyKey> for Error {
    fn from(error: EmptyKey) -> Self {
        Self::EmptyKey(error)
    }
}

impl From<InvalidAddress> for Error {
    fn from(error: InvalidAddress) -> Self {
        Self::Address(error)
    }
}

impl From<NodeFilesError> for Error {
    fn from(error: NodeFilesError) -> Self {
        Self::NodeFiles(error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

//! Asking: the client side of the protocol.
//!
//! Every master candidate answers from its own copy of the configuration, and any of them may be down, slow or behind. So
//! a client asks several at once and takes the newest answer:
//!
//! ```text
//! question     what to ask, and how to read the answer: a typed value per query
//!   |
//! call         one question under way: whom to ask (again) and when, what came back, when enough is known     PURE
//! calls        all calls of one client: requests signed, datagrams accepted or refused                        PURE
//!   |
//! socket       a UDP socket per address family, and the kernel's word that nobody listens there
//!   |
//! skew         which pings to send to learn how far a clock is off, and what their answers prove                PURE
//!   |
//! clocks       their sockets
//!   |
//! ConfdClient  the blocking shell; any number of threads share one. AsyncConfdClient: the same for tokio
//! ```
//!
//! # Rules
//!
//! They are those of Ganeti's clients (`lib/confd/client.py`, `Ganeti.Confd.Client`):
//!
//! * six candidates are asked, drawn at random, or all if there are fewer ([`Coverage`]);
//! * a call has ten seconds;
//! * a *safe number* of replies must come: all of one or two, all but one of three or four, more than half of more ([`quorum`]);
//! * an answer beats an error, and among answers the highest serial wins.
//!
//! And beyond them:
//!
//! * Who has not answered is asked again, at growing intervals. A host that says that nobody listens is believed the second time.
//! * When the safe number is reached, the others get as long again as the slowest answer took, so that a newer answer which is
//!   already on its way still counts; half a second while all replies are errors, as of hosts that are candidates no more.
//!   [`WaitFor::All`] waits for everybody, for those who must never see an old serial while any candidate has a newer one.
//! * Every request has an `rsalt` of its own. One candidate's reply can thus not be played back as another's to reach the safe number.
//! * Answers that differ under the same serial are reported ([`Outcome::is_consistent`]).
//! * Requests are ASCII, whatever they ask for: the reference takes bytes as Latin-1. Its replies are read as UTF-8 and, if
//!   the signature does not hold, as Latin-1.
//!
//! Fewer replies than the safe number are an error that holds them ([`Error::TooFewReplies`]); what they are worth, the caller knows.
//!
//! # Example
//!
//! ```
//! use ganeti_confd::client::{ConfdClient, NodeRole};
//!
//! // A built-in cluster of three nodes. On a real one: `ConfdClient::of_this_node()?`.
//! let demo = ganeti_confd::demo::Server::start(3, 10)?;
//! let client = ConfdClient::new(demo.key(), [demo.candidate()])?;
//!
//! assert_eq!(client.cluster_master()?, "node1.example.com");
//! assert_eq!(client.node_role("node1.example.com")?, NodeRole::Master);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What this module does not do: it does not cache answers, and does not change its list of candidates unless it is told to
//! ([`ConfdClient::refresh_candidates`]).
#![forbid(unsafe_code)]

pub mod answer;
mod blocking;
mod call;
mod calls;
mod candidate;
mod clocks;
mod error;
#[cfg(feature = "async")]
mod nonblocking;
mod outcome;
pub mod question;
mod reply;
mod settings;
mod skew;
mod socket;

pub use crate::node_files::{FileProblem, NodeFilesError};
pub use answer::{
    DataCollector, Disk, DrbdMinor, DrbdRole, Instance, Master, NodeInstances, NodeOfIp, NodeRole,
};
pub use blocking::ConfdClient;
pub use candidate::{Candidate, Unresolved};
pub use error::{AnsweredError, Error};
#[cfg(feature = "async")]
pub use nonblocking::AsyncConfdClient;
pub use outcome::{CandidateResult, CandidateStatus, Outcome};
pub use question::Question;
pub use reply::{RejectedReply, Reply};
pub use settings::{Coverage, Settings, WaitFor, quorum};
pub use skew::Skew;

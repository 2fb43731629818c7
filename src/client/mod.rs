//! The client: asks several master candidates and takes the newest answer.
//!
//! Every master candidate answers from its own copy of the configuration, and any of them may be
//! down, slow or out of date. So a client asks several at the same time:
//!
//! ```text
//! question     the queries, and the types of their answers
//!   |
//! call         one query to several candidates: what to send when, and when enough is known   pure
//! calls        all calls of one client over the same sockets                                  pure
//!   |
//! socket       one UDP socket per address family, with its error queue
//!   |
//! ConfdClient  the blocking client, shared by any number of threads
//! AsyncConfdClient  the same for tokio, with the feature `async`
//!
//! skew         finds out how far a candidate's clock is off                                   pure
//! skew_pings   its sockets
//! ```
//!
//! # Rules
//!
//! As Ganeti's own clients do (`lib/confd/client.py`, `Ganeti.Confd.Client`):
//!
//! * A call asks six candidates, drawn at random, or all if there are fewer ([`Coverage`]).
//! * A call takes at most ten seconds ([`Settings::deadline`]).
//! * An answer is safe if a quorum of the asked candidates replied: all of one or two, all but one
//!   of three or four, more than half of more ([`quorum`]).
//! * A value is better than an error; among values, the highest serial is best.
//!
//! In addition:
//!
//! * A candidate that does not reply is asked again, at growing intervals. One that is reported
//!   unreachable twice is not.
//! * Once there is a quorum, the call waits for the other candidates as long again as the slowest
//!   reply took, so that a newer answer on its way still counts; for half a second while all
//!   replies are errors, which former candidates send. [`WaitFor::All`] waits for all candidates.
//! * A reply is accepted only from the address that the request was sent to, unless
//!   [`Settings::any_source`] is set.
//! * Different answers with the same serial are reported ([`Outcome::is_consistent`]).
//!
//! Fewer replies than a quorum are an error that contains them ([`Error::TooFewReplies`]); it is up
//! to the caller to use them.
//!
//! The module does not cache answers. It changes its list of candidates only in
//! [`ConfdClient::refresh_candidates`].
//!
//! # Security
//!
//! Requests and replies are signed, not encrypted: whoever sees the packets reads the questions and
//! the answers. Without the key, nobody can make a reply, change one, or use a reply for another
//! request: each request has its own random `rsalt`, which its reply must contain.
//!
//! The protocol does not name the candidate, in neither direction. Someone who can intercept
//! packets can therefore deliver a request to another candidate than it was addressed to, and
//! return that reply under the address that was asked. One candidate with an old configuration can
//! thus answer for all of a quorum. A quorum protects against candidates that are out of date, not
//! against such an attacker. He can also drop or delay packets; a delayed reply is accepted until
//! the call's deadline.
//!
//! # Example
//!
//! ```
//! use ganeti_confd::client::{ConfdClient, NodeRole};
//!
//! // A sample cluster in this process. On a cluster's node: `ConfdClient::of_this_node()?`.
//! let demo = ganeti_confd::demo::Server::start(3, 10)?;
//! let client = ConfdClient::new(demo.key(), [demo.address()])?;
//!
//! assert_eq!(client.cluster_master()?, "node1.example.com");
//! assert_eq!(client.node_role("node1.example.com")?, NodeRole::Master);
//! match client.node_role("node9") {
//!     Err(error) if error.is_not_found() => println!("there is no node9"),
//!     other => println!("node9 is {}", other?),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod answer;
mod blocking;
pub mod call;
mod calls;
mod candidate;
mod candidates;
mod disk;
mod error;
mod exchange;
#[cfg(feature = "async")]
mod nonblocking;
#[cfg_attr(
    not(feature = "ctl"),
    allow(dead_code, reason = "`confdctl -v` reads the packets")
)]
mod observer;
mod outcome;
mod queries;
pub mod question;
mod reply;
mod settings;
mod skew;
mod skew_pings;
mod socket;

pub use answer::{
    AdminState, DataCollector, DrbdMinor, DrbdRole, Instance, Master, Nic, NodeInstances, NodeRole,
};
pub use blocking::ConfdClient;
pub use candidate::{Candidate, InvalidAddress};
pub use disk::{Disk, DiskKind};
pub use error::Error;
#[cfg(feature = "async")]
pub use nonblocking::AsyncConfdClient;
#[cfg(feature = "ctl")]
pub(crate) use observer::{Observer, Packet};
pub use outcome::{CandidateResult, CandidateStatus, Outcome};
pub use question::Question;
#[cfg(feature = "ctl")]
pub(crate) use reply::open_text;
pub use reply::{AnsweredError, RejectedReply, Reply};
pub use settings::{Coverage, Settings, WaitFor, quorum};
pub use skew::Skew;

pub use crate::node_files::{FileProblem, NodeFilesError};

//! A client library for `ganeti-confd`, and a daemon that replaces it.
//!
//! `ganeti-confd` runs on every master candidate of a Ganeti cluster. It answers queries about the
//! cluster's configuration as HMAC-signed JSON over UDP. This crate has:
//!
//! * the [protocol], without I/O;
//! * the [client]: it asks several candidates and takes the newest answer;
//! * the daemon `ganeti-confd`, a drop-in replacement that serves through io_uring;
//! * the command-line tool `confdctl`: queries, a monitoring probe and a load generator.
//!
//! ```
//! use ganeti_confd::ConfdClient;
//!
//! // A sample cluster in this process. On a cluster's node: `ConfdClient::of_this_node()?`.
//! let demo = ganeti_confd::demo::Server::start(3, 10)?;
//! let client = ConfdClient::new(demo.key(), [demo.address()])?;
//! assert_eq!(client.cluster_master()?, "node1.example.com");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! Without features, the crate is the protocol and the blocking client:
//! `ganeti-confd = { version = "0.1", default-features = false }`.
//!
//! | feature | adds |
//! |---|---|
//! | `async` | `client::AsyncConfdClient`, for tokio |
//! | `server` | `demo`: sample clusters, and a server for them in the calling process |
//! | `daemon` (default) | the program `ganeti-confd` |
//! | `tokio-uring` (default) | reading of the daemon's files through io_uring |
//! | `ctl` (default) | the program `confdctl` |
//! | `bench` (default) | `confdctl bench`, the load generator |
//!
//! # Versions
//!
//! The public interface is what this documentation shows. It follows semantic versioning: until
//! 1.0.0, an incompatible change increases the minor version. Items that the documentation does not
//! show (the daemon's parts, and everything in `testing`) can change in any version. So can texts:
//! error messages, `Debug` output, and what the programs print for people. The minimum supported
//! Rust version increases with a minor version only.
//!
//! # Two paths through the daemon
//!
//! ```text
//! one datagram                                  one configuration
//! ------------                                  -----------------
//! kernel                                        config.data (replaced by rename)
//!   | multishot recvmsg, provided buffers         | inotify; one load a second at most
//! engine      a batch of completions            reader      read the file through tokio-uring
//!   |                                             |
//! responder   respond(datagram, now, served)    config      parse, check, print canonically
//!   protocol    fourcc, envelope, HMAC, clock     |
//!   snapshot    look up the prepared answer     snapshot    index the canonical text
//!   protocol    sign, write the reply             |
//!   |                                           ArcSwap<Served>  -> each worker, once per batch
//! engine      a batch of sends
//!   |
//! kernel
//! ```
//!
//! Everything between receiving and sending is pure: datagram, clock value and snapshot in; reply
//! or drop reason out. That code does no I/O, reads no clock, takes no lock, allocates nothing per
//! datagram, and has no unsafe code.
//!
//! # Modules
//!
//! In reading order. Only `client`, `protocol` and `demo` are public interface.
//!
//! * `protocol`: the wire format: datagram, envelope, key, request, reply, and drop reasons.
//! * `json`: canonical JSON text: escaping and navigation.
//! * `config`: converts `config.data` to the text that the reference would print, by field tables.
//! * `snapshot`: that text with its indexes; one function per query.
//! * `responder`: one datagram in, one reply or one drop reason out.
//! * `engine`: sockets, rings and batches; the only module with unsafe code.
//! * `reader`: watches, reads and publishes the configuration and the key.
//! * `daemon`: options, log, process, signals, metrics, containment; connects the parts.
//! * `client`: asks several candidates, and takes the newest answer.
//! * `ctl`: `confdctl query`, `probe` and `status`.
//! * `load`: `confdctl bench`.
//! * `demo`: sample clusters of any size, and a server for them.
//! * `node_files`: the paths of Ganeti's files, and reading the two that a client needs.
//! * `clock`, `printable`: the wall clock; escaping of control characters.
//! * `remedy`: what to do about a failed system call.
//! * `testing`: internals for tests and fuzzing.
//!
//! A module imports only these others (`tests/it/architecture.rs` checks it):
//!
//! ```text
//! clock      ->
//! json       ->
//! printable  ->
//! remedy     ->
//! protocol   -> json
//! config     -> json
//! snapshot   -> json, protocol, config
//! responder  -> protocol, snapshot
//! engine     -> clock, remedy, protocol, responder
//! reader     -> printable, remedy, protocol, config, snapshot, responder
//! node_files -> remedy, protocol
//! client     -> clock, json, protocol, node_files
//! demo       -> protocol, snapshot, responder, engine, client
//! load       -> clock, json, protocol, client
//! daemon     -> clock, printable, remedy, protocol, snapshot, responder, engine, reader
//! daemon     -> node_files, demo
//! ctl        -> clock, printable, protocol, node_files, client, demo, load, daemon
//! testing    -> json, protocol, config, snapshot, engine, reader
//! ```

#![cfg_attr(
    not(feature = "testing"),
    allow(
        unreachable_pub,
        reason = "`testing` is what makes some items reachable"
    )
)]

pub mod client;
mod clock;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod config;
#[cfg(feature = "ctl")]
#[doc(hidden)]
pub mod ctl;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod daemon;
#[cfg(feature = "server")]
pub mod demo;
#[cfg(feature = "server")]
#[doc(hidden)]
#[allow(
    unsafe_code,
    reason = "rings, buffers and system calls; inventory in its documentation"
)]
pub mod engine;
#[cfg_attr(
    not(feature = "server"),
    allow(dead_code, unused_imports, reason = "the client only escapes")
)]
mod json;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod load;
#[doc(hidden)]
pub mod node_files;
#[cfg(any(feature = "daemon", feature = "ctl"))]
mod printable;
#[cfg_attr(
    not(feature = "server"),
    allow(dead_code, reason = "the client writes no replies")
)]
pub mod protocol;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod reader;
#[cfg_attr(
    not(feature = "daemon"),
    allow(dead_code, reason = "the client only reads files")
)]
mod remedy;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod responder;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod snapshot;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

#[cfg(feature = "async")]
pub use client::AsyncConfdClient;
pub use client::{Candidate, ConfdClient, Error, Settings};
pub use protocol::Key;

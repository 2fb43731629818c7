//! A drop-in replacement for `ganeti-confd`: the daemon on every master candidate of a Ganeti cluster that answers
//! questions about the cluster's configuration as HMAC-signed JSON over UDP.
//!
//! # The two ways through the house
//!
//! ```text
//! one datagram                                     one configuration
//! ------------                                     -----------------
//! kernel                                           config.data (replaced by rename)
//!   | multishot recvmsg, provided buffers            | inotify on the directory, at most one load a second
//! engine      a batch of completions               reader      read it through tokio-uring
//!   |                                                |
//! responder   respond(datagram, now, served)       config      simd-json, checked and re-rendered by field tables
//!   protocol    fourcc, envelope, HMAC, clock        |
//!   snapshot    look the rendered answer up        snapshot    index the rendered text
//!   protocol    sign, write the reply                |
//!   |                                              ArcSwap<Served>  -> each worker's Cache, looked at once per batch
//! engine      a batch of sends
//!   |
//! kernel
//! ```
//!
//! Everything between the two engines' ends is pure: bytes, a clock value and a snapshot in; bytes or a reason for
//! silence out. It does no I/O, reads no clock, takes no lock, allocates nothing per datagram, and forbids unsafe code.
//!
//! # One datagram, without a socket
//!
//! ```
//! use std::sync::Arc;
//!
//! use ganeti_confd::demo;
//! use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, signed_message};
//! use ganeti_confd::responder::{Datagram, Responder, Served};
//! use ganeti_confd::snapshot::Snapshot;
//!
//! let key = Key::new(b"the bytes of hmac.key")?;
//! let config_data = demo::configuration(3, 10, 1);
//! let snapshot = Snapshot::load(config_data.as_bytes())?.snapshot;
//! let served = Served { key: Arc::new(key.clone()), snapshot: Arc::new(snapshot) };
//!
//! let now = 1_795_354_392;
//! let question = r#"{"protocol": 1, "type": 3, "query": null, "rsalt": "R"}"#;
//! let mut buffer = signed_message::request(&key, now, question);
//! let len = buffer.len();
//! buffer.resize(len + PADDING, 0);
//!
//! let mut out = vec![0; REPLY_BYTES_MAX];
//! let reply = Responder::new()
//!     .respond(Datagram::new(&mut buffer, len), now, &served, &mut out)
//!     .expect("a signed and fresh request is answered");
//! let reply = std::str::from_utf8(&out[..reply.len])?;
//! assert!(reply.contains(r#"\"answer\":\"node1.example.com\""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules, in reading order
//!
//! * [`protocol`]: the wire: datagram, envelope, key, request, reply, and why a datagram gets no answer.
//! * [`config`]: `config.data` to the canonical text that the reference would print, by declarative field tables.
//! * [`snapshot`]: that text with its indexes; one function per query.
//! * [`responder`]: one datagram in, one reply or one reason out.
//! * [`engine`]: sockets, rings and batches; the only module with unsafe code.
//! * [`reader`]: watching, reading and publishing files.
//! * [`daemon`]: options, logging, process, signals; the wiring.
//! * [`client`]: asking several candidates, and taking the newest answer.
//! * [`ctl`]: `confdctl`, which asks and probes from the command line.
//! * [`load`]: `confdctl bench`, the load generator.
//! * [`demo`]: sample clusters of any size, and a server for them.
//! * [`node_files`]: where Ganeti keeps its files.
//!
//! Imports point one way: `protocol` and `config` know nobody but `text` (canonical JSON, private), `snapshot` knows `config` and `protocol`, `responder` knows these
//! three, `engine` and `reader` know `responder`, `daemon` knows all. `client` knows `protocol`, and reads a node's files through `node_files` and `reader`; `demo` knows whom it
//! serves with; `load` knows `protocol`, and asks for names through `client`; `ctl` knows `client` and `load`.

#![cfg_attr(
    not(feature = "testing"),
    allow(
        unreachable_pub,
        reason = "`testing` is what makes some items reachable"
    )
)]

pub mod client;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod demo;
pub mod engine;
mod json;
pub mod load;
pub mod node_files;
mod printable;
pub mod protocol;
pub mod reader;
pub mod responder;
pub mod snapshot;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;

// The former name of `json`, until all modules use the new one.
use json as text;

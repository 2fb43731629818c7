//! Shared by tests that talk to a daemon: the daemons, datagrams for them, and a client that
//! detects dropped requests.

mod client;
pub(crate) mod namespace;
mod sign;
mod subject;

pub(crate) use client::{Client, Tag};
pub(crate) use sign::{Reply, now, quote_ascii, reply_datagram, request_datagram, sign_hex};
pub(crate) use subject::{Kind, Layout, Subject, program, skip, subjects};

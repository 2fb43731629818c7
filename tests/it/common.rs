//! What all tests that speak to a daemon share: daemons, the datagrams sent to them, and a client that notices silence.

mod client;
mod sign;
mod subject;

pub(crate) use client::{Client, Tag};
pub(crate) use sign::{Reply, now, quote_ascii, reply_datagram, request_datagram, sign_hex};
pub(crate) use subject::{Kind, Layout, Subject, skip, subjects};

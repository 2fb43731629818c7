//! All integration tests are one binary: it links once.

mod common;
mod confd_client;
mod conformance;
mod differential;
mod generate;

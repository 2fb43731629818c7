//! Sample clusters of any size: their configuration, and a server for them inside the calling process.
//!
//! For `--demo`, examples, tests and benchmarks.
#![forbid(unsafe_code)]

mod configuration;
mod server;

pub use configuration::{configuration, instance_name, node_name};
pub use server::Server;

/// Every demo of a size is the same cluster, so that it can be written about.
pub const SEED: u64 = 1;

//! Sample clusters of any size: their configuration, and a server for them in the calling process.
//!
//! For `--demo`, examples, tests and benchmarks.
#![forbid(unsafe_code)]

mod cluster_fields;
mod configuration;
mod random;
mod server;

pub use configuration::{configuration, instance_name, node_name};
pub use server::Server;

/// The seed of all demo clusters: demo clusters of the same size are equal, so that documentation
/// can show their answers.
pub const SEED: u64 = 1;

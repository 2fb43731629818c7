//! All integration tests in one binary: it links once.

mod client;
mod common;

mod confdctl;
mod conformance;
mod daemon;
mod differences;
mod differential;
mod engine;
mod fast_path;
mod ganeti_tools;
mod hostile;
mod hosts;
mod load;
mod matrix;
mod nesting;
mod properties;
mod reload;
mod reload_under_load;
mod simulation;

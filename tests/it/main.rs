//! All integration tests in one binary: it links once.

mod common;

mod conformance;
mod daemon;
mod differences;
mod differential;
mod engine;
mod ganeti_tools;
mod generate;
mod hosts;
mod mangled;
mod reload;
mod reload_under_load;

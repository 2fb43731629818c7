//! All integration tests in one binary: it links once.

mod common;
mod daemon;
mod differences;
mod engine;
mod reload;

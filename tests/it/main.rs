//! All integration tests in one binary: it links once.

mod common;
mod engine;
mod reload;

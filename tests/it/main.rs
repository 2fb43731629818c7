//! All integration tests are one binary, so that they are linked once.

mod client;
mod common;

mod architecture;
mod attacks;
mod bench_capture;
mod bench_results;
mod confdctl;
mod config_files;
mod conformance;
mod ctl_docs;
mod ctl_raw;
mod daemon;
mod differences;
mod differential;
mod documentation;
mod engine;
mod flood;
mod ganeti_tools;
mod interop;
mod line_width;
mod load;
mod metrics;
mod multi_host;
mod nesting;
mod properties;
mod query_large;
mod reload;
mod reload_under_load;
mod replay;
mod requests;
mod sandbox;
mod simulation;
mod status;
mod supervision;
mod systemd;

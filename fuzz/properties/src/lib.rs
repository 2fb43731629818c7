//! What must hold for every datagram, file and sequence of events, whatever they are.
//!
//! Each module is one property: `check` takes any bytes, and panics if the property does not hold for what they mean. The same functions
//! are fuzz targets (`fuzz/fuzz_targets`), property tests and the replay of the corpora (`tests/it/properties.rs`).
//!
//! | property | the bytes are | asserted |
//! |---|---|---|
//! | [`datagram`] | a datagram | no reply unless the signature holds; replies are bounded, parse and verify |
//! | [`signed_request`] | choices of a request, signed properly | the reply is this request's, and the same from every path |
//! | [`envelope`] | an envelope, a request | read the same by simd-json, by the fast path and by serde_json |
//! | [`config`] | `config.data` | an error with a place, or answers to every query of every name |
//! | [`config_mutation`] | choices of a configuration | rendered once and again the same; answers equal those of a slow, obvious model |
//! | [`mod@pointer`] | a configuration path | read as a model reads it |
//! | [`numbers`] | a number's text | printed as exact rationals say |
//! | [`recvmsg`] | what the kernel may write into a receive buffer | a datagram inside the buffer, or none |
//! | [`buffer_ring`] | a sequence of operations on receive buffers | none handed out twice, none lost |
//! | [`watcher`] | a sequence of file operations and clock steps | the last content is served in the end; loads are rationed |

pub mod buffer_ring;
pub mod choices;
pub mod config;
pub mod config_mutation;
pub mod datagram;
pub mod engines;
pub mod envelope;
pub mod fast_path;
pub mod generate;
pub mod preserved;
pub mod model;
pub mod numbers;
pub mod pointer;
pub mod recvmsg;
pub mod sample;
pub mod signed_request;
pub mod json_variants;
pub mod watcher;
pub mod reference_parser;

/// A property: panics if it does not hold for what the bytes mean.
pub type Property = fn(&[u8]);

/// All properties, by the names of their fuzz targets.
pub const ALL: [(&str, Property); 10] = [
    ("datagram", datagram::check),
    ("signed_request", signed_request::check),
    ("envelope", envelope::check),
    ("config", config::check),
    ("config_mutation", config_mutation::check),
    ("pointer", pointer::check),
    ("numbers", numbers::check),
    ("recvmsg", recvmsg::check),
    ("buffer_ring", buffer_ring::check),
    ("watcher", watcher::check),
];

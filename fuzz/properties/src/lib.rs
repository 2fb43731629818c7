//! Properties that hold for every datagram, file and sequence of events.
//!
//! Each module in the table is one property: its `check` takes any bytes and panics if the property
//! does not hold for them. The fuzz targets (`fuzz/fuzz_targets`) call these functions, and so do
//! the property tests, which also replay the corpora (`tests/it/properties.rs`).
//!
//! | property | input | assertion |
//! |---|---|---|
//! | [`datagram`] | a datagram | no reply unless the signature holds; replies are bounded, parse and verify |
//! | [`signed_request`] | choices of a request, which is signed | the reply belongs to the request, and does not depend on notation or engine |
//! | [`envelope`] | an envelope or a request | the scanner and serde_json read the same |
//! | [`work`] | an envelope or a request | the work to read it is linear in its length |
//! | [`config`] | `config.data` | an error with a place; or a file that a strict parser accepts, and answers to every query of every name |
//! | [`config_mutation`] | choices of a configuration | printing is idempotent and preserves the file; answers equal a slow model's |
//! | [`mod@pointer`] | a configuration path | parsed and answered as a model does |
//! | [`numbers`] | a number's text | printed as exact rational arithmetic says |
//! | [`recvmsg`] | what the kernel may write into a receive buffer | a datagram inside the buffer, or none |
//! | [`buffer_ring`] | operations on receive buffers and send slots | none is handed out twice or lost |
//! | [`watcher`] | file operations and clock steps | loads are rate-limited; the last content is served in the end |

pub mod buffer_ring;
pub mod choices;
pub mod config;
pub mod config_mutation;
pub mod datagram;
pub mod engines;
pub mod envelope;
pub mod generate;
pub mod json_variants;
pub mod model;
pub mod numbers;
pub mod pointer;
pub mod preserved;
pub mod recvmsg;
pub mod reference_parser;
pub mod sample;
pub mod signed_request;
pub mod watcher;
pub mod work;

/// A property: panics if it does not hold for the input.
pub type Property = fn(&[u8]);

/// All properties by the names of their fuzz targets.
pub const ALL: [(&str, Property); 11] = [
    ("datagram", datagram::check),
    ("signed_request", signed_request::check),
    ("envelope", envelope::check),
    ("work", work::check),
    ("config", config::check),
    ("config_mutation", config_mutation::check),
    ("pointer", pointer::check),
    ("numbers", numbers::check),
    ("recvmsg", recvmsg::check),
    ("buffer_ring", buffer_ring::check),
    ("watcher", watcher::check),
];

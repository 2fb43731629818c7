//! Any bytes as an envelope and as a request: the scanner and serde_json accept the same texts and
//! read the same from them.

use ganeti_confd::protocol::envelope::Envelope;
use ganeti_confd::protocol::request::Request;
use ganeti_confd::protocol::{PADDING, REQUEST_BYTES_MAX, Reject};

use crate::reference_parser;

/// Bytes that an earlier datagram may have left in the buffer.
pub const AFTER: [[u8; PADDING]; 5] = [
    [0; PADDING],
    [b'"'; PADDING],
    [b' '; PADDING],
    [b'}'; PADDING],
    *b"\"query\":",
];

/// Parses `bytes` in all ways.
pub fn check(bytes: &[u8]) {
    if bytes.len() <= REQUEST_BYTES_MAX {
        is_valid(bytes, &AFTER[bytes.len() % AFTER.len()]);
    }
}

/// Parses `bytes`, which must not be longer than a request, as an envelope and as a request,
/// followed in the buffer by `after`. Returns whether they are either.
///
/// # Panics
///
/// If serde_json disagrees.
pub fn is_valid(bytes: &[u8], after: &[u8; PADDING]) -> bool {
    // Both always run.
    envelope(bytes, after) | request(bytes, after)
}

fn envelope(bytes: &[u8], after: &[u8; PADDING]) -> bool {
    let expected = reference_parser::Envelope::read(bytes);
    let mut text = [bytes, after].concat();
    let mut message = vec![0; text.len()];
    let ours = Envelope::parse(&mut text, bytes.len(), &mut message);
    let shown = || bytes.escape_ascii();
    // Clients of the reference sign other bytes than what these escapes mean.
    let has_pairs = |expected: &reference_parser::Envelope| {
        bytes.is_ascii() && expected.msg.chars().any(|c| c > '\u{ffff}')
    };
    match (ours, &expected) {
        (Ok(ours), Some(expected)) if !has_pairs(expected) => {
            let message = &ours.message[..ours.message_len];
            assert_eq!(message, expected.msg.as_bytes(), "{}", shown());
            assert_eq!(ours.salt, expected.salt.as_bytes(), "{}", shown());
            assert_eq!(ours.hmac, expected.hmac.as_bytes(), "{}", shown());
        }
        (Err(Reject::BadHmac), Some(expected)) if has_pairs(expected) => {}
        (Err(Reject::BadEnvelope), None) => {}
        (ours, expected) => panic!("{ours:?} instead of {expected:?}: {}", shown()),
    }
    expected.is_some()
}

fn request(bytes: &[u8], after: &[u8; PADDING]) -> bool {
    let expected = std::str::from_utf8(bytes)
        .ok()
        .and_then(reference_parser::Request::read);
    let mut text = [bytes, after].concat();
    let ours = Request::read(&mut text, bytes.len());
    match (&ours, &expected) {
        (Some(ours), Some(expected)) if expected == ours => {}
        (None, None) => {}
        _ => panic!("{ours:?} instead of {expected:?}: {}", bytes.escape_ascii()),
    }
    expected.is_some()
}

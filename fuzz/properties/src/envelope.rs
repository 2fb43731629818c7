//! Any bytes as an envelope and as a request: the fast path, the general parser and serde_json
//! accept the same texts and read the same from them.

use std::cell::RefCell;

use ganeti_confd::protocol::envelope::Envelope;
use ganeti_confd::protocol::request::Request;
use ganeti_confd::protocol::{PADDING, Parser, REQUEST_BYTES_MAX, Reject};

use crate::fast_path;
use crate::reference_parser;

/// Bytes that an earlier datagram may have left in the buffer.
const AFTER: [[u8; PADDING]; 4] = [
    [0; PADDING],
    [b'"'; PADDING],
    [b' '; PADDING],
    [b'}'; PADDING],
];

thread_local! {
    static PARSER: RefCell<Parser> = RefCell::default();
}

/// Parses `bytes` in all ways.
pub fn check(bytes: &[u8]) {
    if bytes.len() > REQUEST_BYTES_MAX {
        return;
    }
    let after = &AFTER[bytes.len() % AFTER.len()];
    PARSER.with_borrow_mut(|parser| {
        fast_path::compare(parser, bytes, after);
        envelope(parser, bytes, after);
        request(parser, bytes, after);
    });
}

fn envelope(parser: &mut Parser, bytes: &[u8], after: &[u8; PADDING]) {
    let expected = reference_parser::Envelope::read(bytes);
    let mut text = [bytes, after].concat();
    let mut message = vec![0; text.len()];
    let ours = Envelope::parse(parser, &mut text, bytes.len(), &mut message);
    let shown = || bytes.escape_ascii();
    match (ours, expected) {
        (Ok(ours), Some(expected)) => {
            let message = &ours.message[..ours.message_len];
            assert_eq!(message, expected.msg.as_bytes(), "{}", shown());
            assert_eq!(ours.salt, expected.salt.as_bytes(), "{}", shown());
            assert_eq!(ours.hmac, expected.hmac.as_bytes(), "{}", shown());
        }
        // Clients of the reference sign other bytes than what these escapes mean.
        (Err(Reject::BadHmac), Some(expected)) => {
            let pairs = bytes.is_ascii() && expected.msg.chars().any(|c| c > '\u{ffff}');
            assert!(pairs, "refused: {}", shown());
        }
        (Err(Reject::BadEnvelope), None) => {}
        (ours, expected) => panic!("{ours:?} instead of {expected:?}: {}", shown()),
    }
}

fn request(parser: &mut Parser, bytes: &[u8], after: &[u8; PADDING]) {
    let expected = std::str::from_utf8(bytes)
        .ok()
        .and_then(reference_parser::Request::read);
    let mut text = [bytes, after].concat();
    let shown = || bytes.escape_ascii();
    let taken = Request::read(parser, &mut text, bytes.len(), |ours| {
        let same = expected.as_ref().is_some_and(|expected| expected == ours);
        assert!(same, "{ours:?} instead of {expected:?}: {}", shown());
    });
    assert!(
        taken.is_some() || expected.is_none(),
        "refused {expected:?}: {}",
        shown()
    );
}

//! Any text as an envelope and as a request: the work to read it is linear in its length, with a
//! small factor.
//!
//! The work is counted in steps (rounds of the scanner's loops) and not in time. Steps are counted
//! in builds with debug assertions only; cargo-fuzz makes such builds.

use std::hint::black_box;

use ganeti_confd::protocol::PADDING;
use ganeti_confd::protocol::REQUEST_BYTES_MAX;
use ganeti_confd::protocol::envelope::Envelope;
use ganeti_confd::protocol::request::Request;
use ganeti_confd::testing::steps;

/// The most steps for a byte: one to look at it, one to check that the string is UTF-8, and a
/// fraction for each of the passes that take eight bytes at a time.
const STEPS_PER_BYTE_MAX: usize = 3;

/// Steps that do not depend on the length.
const STEPS_MIN: usize = 64;

/// Reads `bytes` as an envelope and as a request.
pub fn check(bytes: &[u8]) {
    if bytes.len() > REQUEST_BYTES_MAX {
        return;
    }
    let len = bytes.len();
    let text = || [bytes, &[b'"'; PADDING]].concat();
    let (mut first, mut second, mut message) = (text(), text(), text());
    let works = [
        steps(|| drop(black_box(Envelope::parse(&mut first, len, &mut message)))),
        steps(|| _ = black_box(Request::read(&mut second, len))),
    ];
    for work in works {
        assert!(
            work <= STEPS_PER_BYTE_MAX * len + STEPS_MIN,
            "{work} steps for {len} bytes: {}",
            bytes[..len.min(100)].escape_ascii()
        );
        // A fuzzer that is guided by coverage counts rounds of this loop: more work for a byte is
        // an input to keep.
        for level in 0..8 * work / (len + STEPS_MIN) {
            black_box(level);
        }
    }
}

//! Datagrams that the fast path reads, against the general parser: both must read the same.

use ganeti_confd::protocol::request::Request;
use ganeti_confd::protocol::{PADDING, Parser};
use ganeti_confd::testing::fast_path::{self, EnvelopeSpans};

/// Reads `bytes`, which must not be longer than a request, as an envelope and as a request,
/// followed in the buffer by `after`. Returns whether the fast path takes them as either.
///
/// # Panics
///
/// If the fast path takes them, and the parser refuses them or reads something else.
pub fn compare(parser: &mut Parser, bytes: &[u8], after: &[u8; PADDING]) -> bool {
    let text = [bytes, after].concat();
    let len = bytes.len();
    let mut message = vec![0; text.len()];
    let mut again = message.clone();
    let is_envelope = fast_path::envelope(&text, len, &mut message).inspect(|fast| {
        let mut text = text.clone();
        let parsed = EnvelopeSpans::parse(parser, &mut text, len, &mut again);
        let parsed = parsed.expect("the parser takes what the fast path takes");
        let message = &message[..fast.message_len];
        assert_eq!(message, &again[..parsed.message_len]);
        assert_eq!(bytes[fast.salt.clone()], text[parsed.salt]);
        assert_eq!(bytes[fast.hmac.clone()], text[parsed.hmac]);
    });
    let is_request = fast_path::request(&text, len).inspect(|fast| {
        let fast = format!("{fast:?}");
        let parsed = Request::parse(parser, &mut text.clone(), len, |parsed| {
            assert_eq!(fast, format!("{parsed:?}"));
        });
        parsed.expect("the parser takes what the fast path takes");
    });
    is_envelope.is_some() || is_request.is_some()
}

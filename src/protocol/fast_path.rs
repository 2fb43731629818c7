//! Reads the envelopes and requests that clients usually write, without a general parser's tables.
//!
//! The fast path takes ASCII JSON without lists, whose strings have no escapes (the message of an
//! envelope may have `\"` and `\n`) and whose numbers have one or two digits. Members may come in
//! any order, with any white space. Ganeti's clients write all but a few queries so
//! (`ganeti.serializer.DumpSignedJson`, which ends each text with a newline; Haskell's
//! `Text.JSON.encode`), and so do ours.
//!
//! Any other text, valid or not, returns `None` and goes to [`super::Parser`]. For a text that both
//! take, both return the same: `tests/it/fast_path.rs` and the property `envelope` compare them.

use std::ops::Range;

use super::envelope::EnvelopeSpans;
use super::request::{DictQuery, Query, Request, RequestType};
use crate::json;

/// Reads the envelope in the first `len` bytes of `text`, and unescapes its message to `message`.
///
/// `text` must extend at least 8 bytes past `len` (their content is ignored), because strings are
/// scanned 8 bytes at a time.
pub fn envelope(text: &[u8], len: usize, message: &mut [u8]) -> Option<EnvelopeSpans> {
    let (mut message_len, mut salt, mut hmac) = (None, None, None);
    let mut cursor = Cursor::new(text, len);
    cursor.members(|cursor| {
        if cursor.key(b"\"msg\"")? {
            set(&mut message_len, cursor.escaped_string(message)?)
        } else if cursor.key(b"\"salt\"")? {
            set(&mut salt, cursor.string()?)
        } else if cursor.key(b"\"hmac\"")? {
            set(&mut hmac, cursor.string()?)
        } else {
            None
        }
    })?;
    cursor.end()?;
    Some(EnvelopeSpans {
        message_len: message_len?,
        salt: salt?,
        hmac: hmac?,
    })
}

/// Reads the request in the first `len` bytes of `text`, which must extend as for [`envelope`].
pub fn request(text: &[u8], len: usize) -> Option<Request<'_>> {
    let (mut protocol, mut kind, mut query, mut rsalt) = (None, None, None, None);
    let mut cursor = Cursor::new(text, len);
    cursor.members(|cursor| {
        if cursor.key(b"\"protocol\"")? {
            set(&mut protocol, cursor.number()?)
        } else if cursor.key(b"\"type\"")? {
            let kind_read = RequestType::from_number(cursor.number()?)?;
            set(&mut kind, kind_read)
        } else if cursor.key(b"\"query\"")? {
            set(&mut query, cursor.query()?)
        } else if cursor.key(b"\"rsalt\"")? {
            set(&mut rsalt, &text[cursor.string()?])
        } else {
            None
        }
    })?;
    cursor.end()?;
    protocol?;
    Some(Request {
        kind: kind?,
        query: query.unwrap_or(Query::Empty),
        rsalt: rsalt?,
    })
}

/// Sets `place`; `None` if it was set before.
fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// A position in a text. Each method consumes what it is named after, or returns `None`; the
/// position is then unspecified.
struct Cursor<'t> {
    /// The text and eight bytes more, for the last word. Bytes of earlier datagrams after these are
    /// cut off, so that scanning stops here.
    text: &'t [u8],
    len: usize,
    at: usize,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t [u8], len: usize) -> Self {
        let text = &text[..text.len().min(len + 8)];
        Self { text, len, at: 0 }
    }

    fn white_space(&mut self) {
        let is_white = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        while self.at < self.len && is_white(self.text[self.at]) {
            self.at += 1;
        }
    }

    /// One punctuation character, and the white space after it.
    fn punctuation(&mut self, byte: u8) -> Option<()> {
        if self.text.get(self.at) != Some(&byte) {
            return None;
        }
        self.at += 1;
        self.white_space();
        Some(())
    }

    /// An object with at least one member; `member` consumes a key and its value.
    fn members(&mut self, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.punctuation(b'{')?;
        loop {
            member(self)?;
            self.white_space();
            if self.punctuation(b',').is_none() {
                return self.punctuation(b'}');
            }
        }
    }

    /// Consumes `key` (with its quotes) and the colon after it; `Some(false)` if another key is
    /// next.
    // Inlined, this compares with a constant. Calls of `memcmp` would take a tenth of the total
    // time.
    #[inline(always)]
    fn key(&mut self, key: &[u8]) -> Option<bool> {
        if !self.text[self.at..].starts_with(key) {
            return Some(false);
        }
        self.at += key.len();
        self.white_space();
        self.punctuation(b':').map(|()| true)
    }

    /// A string without escapes. Returns the span between its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.open_quote()?;
        let end = start + json::unescaped_ascii_len(&self.text[start..])?;
        self.close_quote(end)?;
        Some(start..end)
    }

    /// As [`Self::string`]. Returns the content.
    fn text(&mut self) -> Option<&'t str> {
        let text = self.text;
        std::str::from_utf8(&text[self.string()?]).ok()
    }

    /// A string without escapes other than `\"` and `\n`, unescaped to `out`. Returns its length.
    fn escaped_string(&mut self, out: &mut [u8]) -> Option<usize> {
        let start = self.open_quote()?;
        let (end, len) = json::unescape_ascii(&self.text[start..], out)?;
        self.close_quote(start + end)?;
        Some(len)
    }

    fn open_quote(&mut self) -> Option<usize> {
        (self.text.get(self.at) == Some(&b'"')).then_some(self.at + 1)
    }

    fn close_quote(&mut self, at: usize) -> Option<()> {
        self.at = at + 1;
        (self.text.get(at) == Some(&b'"')).then_some(())
    }

    /// A number of one or two digits.
    fn number(&mut self) -> Option<u64> {
        let digit = |at: usize| {
            let byte = self.text.get(at)?;
            byte.is_ascii_digit().then(|| u64::from(byte - b'0'))
        };
        let first = digit(self.at)?;
        let (number, len) = match digit(self.at + 1) {
            None => (first, 1),
            Some(second) if first > 0 => (10 * first + second, 2),
            Some(_) => return None,
        };
        self.at += len;
        Some(number)
    }

    fn null(&mut self) -> Option<()> {
        let is_next = self.text[self.at..].starts_with(b"null");
        self.at += 4;
        is_next.then_some(())
    }

    fn query(&mut self) -> Option<Query<'t>> {
        match self.text.get(self.at)? {
            b'"' => Some(Query::Plain(self.text()?)),
            b'{' => self.dict().map(Query::Dict),
            _ => self.null().map(|()| Query::Empty),
        }
    }

    fn dict(&mut self) -> Option<DictQuery<'t>> {
        let mut dict = DictQuery::default();
        self.members(|cursor| {
            if cursor.key(b"\"0\"")? {
                set(&mut dict.link, cursor.text()?)
            } else if cursor.key(b"\"1\"")? {
                set(&mut dict.ip, cursor.text()?)
            } else {
                None
            }
        })?;
        Some(dict)
    }

    fn end(&mut self) -> Option<()> {
        (self.at == self.len).then_some(())
    }
}

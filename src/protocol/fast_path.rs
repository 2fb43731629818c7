//! Envelopes and requests as clients write them, read without a parser's tables.
//!
//! Plain is JSON in ASCII whose strings hold no escapes, save the `\"` and `\n` of an envelope's message; whose numbers are one or
//! two digits; and which lists nothing. Members stand in any order, with any white space between them. That is what Ganeti's clients
//! send for all but a few queries (`ganeti.serializer.DumpSignedJson`, which ends each text with a newline; Haskell's `Text.JSON.encode`),
//! and what ours send.
//!
//! Everything else is left to [`super::Parser`], and so is everything that is wrong: what is read here is read there the
//! same, and what is not read here is only slower. `tests/it/fast_path.rs` and the
//! property `envelope` compare the two.

use std::ops::Range;

use super::envelope::EnvelopeSpans;
use super::request::{DictQuery, Query, Request, RequestType};
use crate::json;

/// The places of the envelope that the first `len` bytes of `text` are, with its message in `message`; `None` if it is not a plain one.
///
/// Behind these bytes there may be anything, but must be something: strings are scanned eight bytes at a time.
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

/// The request that the first `len` bytes of `text` are, as in [`envelope`]; `None` if it is not a plain one.
pub fn request(text: &[u8], len: usize) -> Option<Request<'_>> {
    let (mut protocol, mut kind, mut query, mut rsalt) = (None, None, None, None);
    let mut cursor = Cursor::new(text, len);
    cursor.members(|cursor| {
        if cursor.key(b"\"protocol\"")? {
            set(&mut protocol, cursor.number()?)
        } else if cursor.key(b"\"type\"")? {
            set(
                &mut kind,
                RequestType::from_number(cursor.number()? as u64)?,
            )
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

/// Sets what was not set yet.
fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// A way through a text. Each step passes what it names, or gives `None`, after which there is no going on.
struct Cursor<'t> {
    /// What is read, and as much behind it as a lane takes that starts in it: nobody pays for what an earlier datagram left there.
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

    /// One byte, and white space behind it.
    fn mark(&mut self, byte: u8) -> Option<()> {
        if self.text.get(self.at) != Some(&byte) {
            return None;
        }
        self.at += 1;
        self.white_space();
        Some(())
    }

    /// An object that is not empty; `member` passes a key and its value.
    fn members(&mut self, mut member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.mark(b'{')?;
        loop {
            member(self)?;
            self.white_space();
            if self.mark(b',').is_none() {
                return self.mark(b'}');
            }
        }
    }

    /// Whether `key`, given with its quotes, is next; if so it is passed with its colon.
    // Inlined, it compares with a constant: a call of `memcmp` for each key is a tenth of all.
    #[inline(always)]
    fn key(&mut self, key: &[u8]) -> Option<bool> {
        if !self.text[self.at..].starts_with(key) {
            return Some(false);
        }
        self.at += key.len();
        self.white_space();
        self.mark(b':').map(|()| true)
    }

    /// A string without escapes: the place between its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.open_quote()?;
        let end = start + json::unescaped_ascii_len(&self.text[start..])?;
        self.close_quote(end)?;
        Some(start..end)
    }

    /// A string without escapes, as text.
    fn text(&mut self) -> Option<&'t str> {
        let text = self.text;
        std::str::from_utf8(&text[self.string()?]).ok()
    }

    /// A string with no escapes but `\"` and `\n`, unescaped to `out`: its length there.
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
    fn number(&mut self) -> Option<usize> {
        let digit = |at: usize| {
            let byte = self.text.get(at)?;
            byte.is_ascii_digit().then(|| usize::from(byte - b'0'))
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

//! Envelopes and requests as clients write them, read without a parser's tables.
//!
//! Plain is JSON in ASCII whose strings hold no escapes, save the `\"` of an envelope's message; whose numbers are one or two
//! digits; and which lists nothing. Members stand in any order, with any white space. That is what Ganeti's clients send
//! (Python's `json.dumps`, Haskell's `encode`), and what ours sends, for all but a few queries.
//!
//! Everything else is left to [`Parser`], and so is everything that is wrong: what is read here is read there the
//! same. `tests` at the end hold the two ways equal.

use std::ops::Range;

use super::request::{Dict, Query, Request, RequestType};
use super::signed_message::SignedMessage;
use crate::text;

/// The envelope that `text` is, its message unescaped in place; `None`, and no change, if it is not a plain one.
pub(crate) fn envelope(text: &mut [u8]) -> Option<SignedMessage> {
    let mut places = Places::default();
    let mut cursor = Cursor { text, at: 0 };
    cursor.members(|key, cursor| match key {
        b"msg" => set(&mut places.message, cursor.escaped_string()?),
        b"salt" => set(&mut places.salt, cursor.string()?),
        b"hmac" => set(&mut places.hmac, cursor.string()?),
        _ => None,
    })?;
    cursor.end()?;
    let message = places.message?;
    let (salt, hmac) = (places.salt?, places.hmac?);
    let end = remove_backslashes(text, message.clone());
    Some(SignedMessage {
        message: message.start..end,
        salt,
        hmac,
    })
}

#[derive(Default)]
struct Places {
    message: Option<Range<usize>>,
    salt: Option<Range<usize>>,
    hmac: Option<Range<usize>>,
}

/// The request that `text` is; `None` if it is not a plain one.
pub(crate) fn request(text: &[u8]) -> Option<Request<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut cursor = Cursor {
        text: text.as_bytes(),
        at: 0,
    };
    let (mut protocol, mut kind, mut query, mut rsalt) = (None, None, None, None);
    cursor.members(|key, cursor| match key {
        b"protocol" => set(&mut protocol, cursor.number()?),
        b"type" => set(&mut kind, *RequestType::ALL.get(cursor.number()?)?),
        b"query" => set(&mut query, cursor.query(text)?),
        b"rsalt" => set(&mut rsalt, &text[cursor.string()?]),
        _ => None,
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

/// Removes the backslashes from `place` in `text`; gives where the rest ends.
fn remove_backslashes(text: &mut [u8], place: Range<usize>) -> usize {
    let mut end = place.start;
    for at in place {
        let byte = text[at];
        text[end] = byte;
        end += usize::from(byte != b'\\');
    }
    end
}

struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl Cursor<'_> {
    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// Passes `byte`, which must be next, and white space behind it.
    fn pass(&mut self, byte: u8) -> Option<()> {
        if self.text.get(self.at) != Some(&byte) {
            return None;
        }
        self.at += 1;
        self.skip_white_space();
        Some(())
    }

    /// Passes an object, which must be next; each value is `read`'s.
    fn members(&mut self, mut read: impl FnMut(&[u8], &mut Self) -> Option<()>) -> Option<()> {
        self.pass(b'{')?;
        loop {
            let key = self.string()?;
            self.skip_white_space();
            self.pass(b':')?;
            let text = self.text;
            read(&text[key], self)?;
            self.skip_white_space();
            if self.pass(b',').is_none() {
                return self.pass(b'}');
            }
        }
    }

    /// A string without a backslash in it: the place between its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.open_quote()?;
        let end = start + text::plain_len(&self.text[start..]);
        self.close_quote(end)?;
        Some(start..end)
    }

    /// A string with no escapes but `\"`.
    fn escaped_string(&mut self) -> Option<Range<usize>> {
        let start = self.open_quote()?;
        let mut end = start;
        loop {
            end += text::plain_len(&self.text[end..]);
            if !self.text[end..].starts_with(b"\\\"") {
                break;
            }
            end += 2;
        }
        self.close_quote(end)?;
        Some(start..end)
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

    fn query<'t>(&mut self, text: &'t str) -> Option<Query<'t>> {
        match self.text.get(self.at)? {
            b'"' => Some(Query::Plain(&text[self.string()?])),
            b'{' => self.dict(text).map(Query::Dict),
            _ => self.null().map(|()| Query::Empty),
        }
    }

    fn dict<'t>(&mut self, text: &'t str) -> Option<Dict<'t>> {
        let mut dict = Dict::default();
        self.members(|key, cursor| match key {
            b"0" => set(&mut dict.link, &text[cursor.string()?]),
            b"1" => set(&mut dict.ip, &text[cursor.string()?]),
            _ => None,
        })?;
        Some(dict)
    }

    /// Passes the end of the text.
    fn end(&mut self) -> Option<()> {
        (self.at == self.text.len()).then_some(())
    }
}

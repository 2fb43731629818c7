//! Reads both layers of a request: the envelope, and the request inside it.

use super::Reject;
use super::cursor::{AnyString, Cursor, set};
use super::envelope::Envelope;
use super::number::Number;
use super::request::{DictQuery, Query, ReqField, Request, RequestType};
use crate::json::Span;

impl<'a> Envelope<'a> {
    /// Reads the envelope in the first `len` bytes of `text`, and unescapes its message to
    /// `message`. The other strings are unescaped in place.
    ///
    /// The text is not authenticated yet. Its cost is linear in `len`: the property `work` in
    /// `fuzz/properties` bounds the steps per byte.
    ///
    /// # Errors
    ///
    /// * [`Reject::BadEnvelope`]: not an object of exactly the strings `msg`, `salt` and `hmac`,
    ///   each once.
    /// * [`Reject::BadHmac`]: the message as it is spelled cannot be the message that was signed.
    ///
    /// # Panics
    ///
    /// If `text` or `message` is shorter than `len` and [`PADDING`](super::PADDING) bytes.
    pub fn parse(text: &'a mut [u8], len: usize, message: &'a mut [u8]) -> Result<Self, Reject> {
        assert!(message.len() >= len + super::PADDING);
        let strings = EnvelopeStrings::read(text, len, message).ok_or(Reject::BadEnvelope)?;
        let EnvelopeStrings {
            msg,
            salt,
            hmac: (hmac, tag),
        } = strings;
        // The reference takes the halves of a pair of escapes as two characters, and signs each by
        // itself. A client signs UTF-8, so its signature cannot hold there.
        if msg.has_surrogates && msg.is_ascii && salt.is_ascii && hmac.is_ascii {
            return Err(Reject::BadHmac);
        }
        Ok(Self {
            message,
            message_len: msg.span.end as usize,
            salt: salt.span.of(text),
            hmac: hmac.span.of(text),
            tag,
        })
    }
}

/// The strings of an envelope, and the tag in `hmac`.
struct EnvelopeStrings {
    msg: AnyString,
    salt: AnyString,
    hmac: (AnyString, Option<[u8; 20]>),
}

impl EnvelopeStrings {
    fn read(text: &mut [u8], len: usize, message: &mut [u8]) -> Option<Self> {
        let (mut msg, mut salt, mut hmac) = (None, None, None);
        let mut cursor = Cursor::new(text, len);
        cursor.members(|cursor| match Self::key(cursor)? {
            0 => set(&mut msg, cursor.string_to(message)?),
            1 => set(&mut salt, cursor.string()?),
            _ => set(&mut hmac, cursor.tag()?),
        })?;
        cursor.end()?;
        Some(Self {
            msg: msg?,
            salt: salt?,
            hmac: hmac?,
        })
    }

    #[inline(always)]
    fn key(cursor: &mut Cursor<'_>) -> Option<usize> {
        if cursor.key(b"\"msg\"")? {
            Some(0)
        } else if cursor.key(b"\"salt\"")? {
            Some(1)
        } else if cursor.key(b"\"hmac\"")? {
            Some(2)
        } else {
            cursor.any_key(&["msg", "salt", "hmac"])
        }
    }
}

impl<'a> Request<'a> {
    /// Reads the request in the first `len` bytes of `text`, and unescapes its strings in place.
    /// `None` if the text is not a valid request.
    ///
    /// `protocol` may be any number that a double can hold: like the reference, this ignores its
    /// value. The argument's type is checked even for requests that do not use it.
    ///
    /// # Panics
    ///
    /// If `text` is shorter than `len` and [`PADDING`](super::PADDING) bytes.
    pub fn read(text: &'a mut [u8], len: usize) -> Option<Self> {
        let (mut protocol, mut kind, mut query, mut rsalt) = (None, None, None, None);
        let mut cursor = Cursor::new(text, len);
        cursor.members(|cursor| match request_key(cursor)? {
            0 => set(&mut protocol, cursor.number()?),
            1 => set(&mut kind, request_type(cursor.number()?)?),
            2 => set(&mut query, Argument::read(cursor)?),
            _ => set(&mut rsalt, cursor.string()?.span),
        })?;
        cursor.end()?;
        protocol?;
        let text = &*text;
        Some(Self {
            kind: kind?,
            query: query.unwrap_or(Argument::Empty).query(text)?,
            rsalt: rsalt?.of(text),
        })
    }
}

#[inline(always)]
fn request_key(cursor: &mut Cursor<'_>) -> Option<usize> {
    if cursor.key(b"\"protocol\"")? {
        Some(0)
    } else if cursor.key(b"\"type\"")? {
        Some(1)
    } else if cursor.key(b"\"query\"")? {
        Some(2)
    } else if cursor.key(b"\"rsalt\"")? {
        Some(3)
    } else {
        cursor.any_key(&["protocol", "type", "query", "rsalt"])
    }
}

fn request_type(number: Number) -> Option<RequestType> {
    match number {
        Number::Small(number) => RequestType::from_number(number.into()),
        Number::Other => None,
    }
}

/// A [`Query`] whose text may still be changed.
enum Argument {
    Empty,
    Plain(Span),
    Dict(Dict),
}

/// A [`DictQuery`] whose text may still be changed.
#[derive(Default)]
struct Dict {
    link: Option<Span>,
    ip: Option<Span>,
    ip_list: Span,
    fields: Span,
}

impl Argument {
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        match cursor.peek()? {
            b'"' => Some(Self::Plain(cursor.string()?.span)),
            b'{' => Dict::read(cursor).map(Self::Dict),
            _ => cursor.is_null().then_some(Self::Empty),
        }
    }

    fn query(self, text: &[u8]) -> Option<Query<'_>> {
        let string = |span: Span| simdutf8::basic::from_utf8(span.of(text)).ok();
        Some(match self {
            Self::Empty => Query::Empty,
            Self::Plain(span) => Query::Plain(string(span)?),
            Self::Dict(dict) => Query::Dict(DictQuery {
                link: dict.link.and_then(string),
                ip: dict.ip.and_then(string),
                ip_list: dict.ip_list.of(text),
                fields: dict.fields.of(text),
            }),
        })
    }
}

impl Dict {
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let mut dict = Self::default();
        let mut seen = [false; 4];
        cursor.members(|cursor| {
            let key = Self::key(cursor)?;
            if std::mem::replace(&mut seen[key], true) {
                return None;
            }
            if cursor.is_null() {
                return Some(());
            }
            match key {
                0 => dict.link = Some(cursor.string()?.span),
                1 => dict.ip = Some(cursor.string()?.span),
                2 => dict.ip_list = cursor.packed_strings()?,
                _ => dict.fields = fields(cursor)?,
            }
            Some(())
        })?;
        Some(dict)
    }

    #[inline(always)]
    fn key(cursor: &mut Cursor<'_>) -> Option<usize> {
        if cursor.key(b"\"0\"")? {
            Some(0)
        } else if cursor.key(b"\"1\"")? {
            Some(1)
        } else if cursor.key(b"\"2\"")? {
            Some(2)
        } else if cursor.key(b"\"3\"")? {
            Some(3)
        } else {
            cursor.any_key(&["0", "1", "2", "3"])
        }
    }
}

/// A list of fields, packed in place: numbers, or exactly the strings `["0","1","2"]`.
///
/// Ganeti's `confd-client` checks a daemon with these strings. The reference does not answer them,
/// and the client gives up. Any other list with strings is invalid here too.
fn fields(cursor: &mut Cursor<'_>) -> Option<Span> {
    let mut strings = 0;
    let span = cursor.packed_bytes(|cursor| {
        let number = if cursor.peek()? == b'"' {
            strings += 1;
            let span = cursor.string()?.span;
            match *cursor.slice(span) {
                [digit] => digit.checked_sub(b'0')?,
                _ => return None,
            }
        } else {
            match cursor.number()? {
                Number::Small(number) => number,
                Number::Other => return None,
            }
        };
        ReqField::from_number(number).map(|_| number)
    })?;
    let is_confd_client = strings == 3 && *cursor.slice(span) == [0, 1, 2];
    (strings == 0 || is_confd_client).then_some(span)
}

//! A position in received JSON text.

use std::ops::Range;

use super::hex;
use super::number::{self, Number};
use crate::json::{self, Span, steps::step};

/// A position in a text whose strings are unescaped in place.
///
/// Each method consumes what it is named after, or returns `None`; the position is then
/// unspecified. No method goes back, so reading a text costs time linear in its length.
pub(super) struct Cursor<'t> {
    /// The text and eight bytes more, because strings are scanned eight bytes at a time. Anything
    /// that an earlier datagram left after these is cut off: scanning stops here.
    text: &'t mut [u8],
    len: usize,
    at: usize,
    /// Whether the rest of the text is known to be UTF-8.
    is_utf8: bool,
}

/// A string, unescaped. Small enough to be returned in registers.
#[derive(Clone, Copy)]
pub(super) struct AnyString {
    /// Where its content is.
    pub(super) span: Span,
    /// Whether it was written in ASCII, possibly with escapes for other characters.
    pub(super) is_ascii: bool,
    /// Whether it has characters that were written as pairs of escapes.
    pub(super) has_surrogates: bool,
}

impl AnyString {
    const fn of_ascii(span: Span) -> Self {
        Self {
            span,
            is_ascii: true,
            has_surrogates: false,
        }
    }
}

/// A span of a text, which is shorter than 4 GiB: [`Cursor::new`] has checked that.
const fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

impl<'t> Cursor<'t> {
    /// The start of the first `len` bytes of `text`, which must extend at least eight bytes past
    /// them. Their content is ignored.
    pub(super) fn new(text: &'t mut [u8], len: usize) -> Self {
        let text = &mut text[..len + 8];
        assert!(u32::try_from(text.len()).is_ok());
        Self {
            text,
            len,
            at: 0,
            is_utf8: false,
        }
    }

    /// The next byte; not consumed.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The bytes in `span`, wherever the position is.
    pub(super) fn slice(&self, span: Span) -> &[u8] {
        span.of(self.text)
    }

    #[inline]
    fn white_space(&mut self) {
        // Usually there is no space, or a single one.
        let is_more = |byte: Option<&u8>| byte.is_some_and(|byte| *byte <= b' ');
        if is_more(self.text.get(self.at)) {
            self.at += usize::from(self.at < self.len && self.text[self.at] == b' ');
            if is_more(self.text.get(self.at)) {
                self.more_white_space();
            }
        }
    }

    #[cold]
    fn more_white_space(&mut self) {
        const WHITE: u64 = 1 << b' ' | 1 << b'\t' | 1 << b'\n' | 1 << b'\r';
        let rest = self.text.get(self.at..self.len).unwrap_or_default();
        let is_white = |byte: &u8| *byte <= b' ' && WHITE >> *byte & 1 == 1;
        let len = rest.iter().take_while(|byte| is_white(byte)).count();
        step(len);
        self.at += len;
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

    /// An object; `member` consumes a key and its value.
    pub(super) fn members(&mut self, member: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.sequence(b'{', b'}', member)
    }

    /// An array; `element` consumes an element.
    pub(super) fn elements(&mut self, element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.sequence(b'[', b']', element)
    }

    #[inline(always)]
    fn sequence(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.punctuation(open)?;
        if self.text.get(self.at) == Some(&close) {
            return self.punctuation(close);
        }
        loop {
            step(1);
            item(self)?;
            self.white_space();
            if self.punctuation(b',').is_none() {
                return self.punctuation(close);
            }
        }
    }

    /// Consumes `key` (with its quotes) and the colon after it; `Some(false)` if another key is
    /// next.
    // Inlined, this compares with a constant. Calls of `memcmp` would take a tenth of the total.
    #[inline(always)]
    pub(super) fn key(&mut self, key: &[u8]) -> Option<bool> {
        if !self.text[self.at..].starts_with(key) {
            return Some(false);
        }
        self.at += key.len();
        self.colon().map(|()| true)
    }

    /// One of `keys` (without quotes) in any spelling, and the colon after it. Returns its index.
    #[cold]
    pub(super) fn any_key(&mut self, keys: &[&str]) -> Option<usize> {
        let span = self.string()?.span;
        let index = keys
            .iter()
            .position(|key| key.as_bytes() == self.slice(span))?;
        self.colon()?;
        Some(index)
    }

    /// A colon, and the white space around it.
    fn colon(&mut self) -> Option<()> {
        self.white_space();
        self.punctuation(b':')
    }

    /// A string.
    #[inline]
    pub(super) fn string(&mut self) -> Option<AnyString> {
        let start = self.open_quote()?;
        if let Some(len) = json::unescaped_ascii_len(&self.text[start..])
            && self.text[start + len] == b'"'
        {
            self.at = start + len + 1;
            return Some(AnyString::of_ascii(span(start, start + len)));
        }
        self.rest_of_string(start)
    }

    /// A string, unescaped to `out`. The span is that in `out`, and starts at 0.
    pub(super) fn string_to(&mut self, out: &mut [u8]) -> Option<AnyString> {
        let start = self.open_quote()?;
        let (read, written) = json::unescape_ascii(&self.text[start..], out)?;
        let at = start + read;
        if self.text.get(at) == Some(&b'"') {
            self.at = at + 1;
            return Some(AnyString::of_ascii(span(0, written)));
        }
        let rest = self.rest_of_string(at)?;
        let bytes = self.slice(rest.span);
        step(bytes.len() / 8);
        let end = written + bytes.len();
        out.get_mut(written..end)?.copy_from_slice(bytes);
        Some(AnyString {
            span: span(0, end),
            ..rest
        })
    }

    /// A string, and the tag that it represents if it is 40 hex digits.
    #[inline]
    pub(super) fn tag(&mut self) -> Option<(AnyString, Option<[u8; 20]>)> {
        // Hex digits need no scan for escapes.
        if let Some([b'"', digits @ .., b'"']) = self.text.get(self.at..)?.first_chunk::<42>()
            && let Some(tag) = hex::decode(digits)
        {
            let start = self.at + 1;
            self.at += 42;
            return Some((AnyString::of_ascii(span(start, start + 40)), Some(tag)));
        }
        let string = self.string()?;
        Some((string, hex::decode(self.slice(string.span))))
    }

    fn open_quote(&mut self) -> Option<usize> {
        (self.text.get(self.at) == Some(&b'"')).then_some(self.at + 1)
    }

    /// A string from its byte at `start` on.
    #[cold]
    fn rest_of_string(&mut self, start: usize) -> Option<AnyString> {
        let string = json::unescape_in_place(self.text, start)?;
        self.at = string.quote + 1;
        if !string.is_ascii && !self.is_utf8 {
            self.check_utf8(start..string.end, string.quote)?;
        }
        Some(AnyString {
            span: span(start, string.end),
            is_ascii: string.is_ascii,
            has_surrogates: string.has_surrogates,
        })
    }

    /// Checks that the first string beyond ASCII, in `string`, and all text from `rest` on are
    /// UTF-8. Checking every string by itself would cost more if they are short.
    fn check_utf8(&mut self, string: Range<usize>, rest: usize) -> Option<()> {
        for part in [string, rest..self.len] {
            step(part.len());
            simdutf8::basic::from_utf8(self.text.get(part)?).ok()?;
        }
        self.is_utf8 = true;
        Some(())
    }

    /// A number that a double can hold.
    // Inlined, because almost every number is a single digit.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Option<Number> {
        if let Some(&[first, second]) = self.text.get(self.at..)?.first_chunk()
            && first.is_ascii_digit()
            && matches!(second, b',' | b'}' | b']')
        {
            self.at += 1;
            return Some(Number::Small(first - b'0'));
        }
        self.any_number()
    }

    #[cold]
    fn any_number(&mut self) -> Option<Number> {
        let (number, len) = number::read(self.text.get(self.at..self.len)?)?;
        self.at += len;
        Some(number)
    }

    /// Consumes `null` if it is next.
    pub(super) fn is_null(&mut self) -> bool {
        let is_null = self.text[self.at..].starts_with(b"null");
        self.at += if is_null { 4 } else { 0 };
        is_null
    }

    /// The end of the text.
    pub(super) fn end(&self) -> Option<()> {
        (self.at == self.len).then_some(())
    }

    /// An array of strings, packed in place: two bytes of length before each. Returns their span.
    ///
    /// The length replaces the two quotes: writing never passes the position of reading.
    pub(super) fn packed_strings(&mut self) -> Option<Span> {
        let start = self.at;
        let mut end = start;
        self.elements(|cursor| {
            let string = cursor.string()?.span;
            let string = string.start as usize..string.end as usize;
            let len = u16::try_from(string.len()).ok()?.to_le_bytes();
            let packed = end + len.len();
            step(1 + string.len() / 8);
            end = packed + string.len();
            if string.len() < 8 {
                // Most are short, and all may be: a call for each would dominate the cost.
                for (to, from) in (packed..).zip(string) {
                    cursor.text[to] = cursor.text[from];
                }
            } else {
                cursor.text.copy_within(string, packed);
            }
            cursor.text[packed - len.len()..packed].copy_from_slice(&len);
            Some(())
        })?;
        Some(span(start, end))
    }

    /// An array, packed in place to one byte for each element, which `element` consumes. Returns
    /// their span.
    pub(super) fn packed_bytes(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Option<u8>,
    ) -> Option<Span> {
        let start = self.at;
        let mut end = start;
        self.elements(|cursor| {
            let byte = element(cursor)?;
            cursor.text[end] = byte;
            end += 1;
            Some(())
        })?;
        Some(span(start, end))
    }
}

/// Sets `place`; `None` if it was set before.
pub(super) fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

//! JSON text in its canonical form: how the reference prints it, and how to find one's way in it.
//!
//! Both sides of the house use this: `config` writes canonical text, `snapshot` reads it, `protocol` escapes it once
//! more. Canonical means: no white space, and the string escapes of [`escape`] and no others. Two strings are then equal
//! exactly if their canonical texts are, so that names are looked up without unescaping anything.
//!
//! Reading is not validating: the functions here are for text that [`crate::config`] wrote.
//!
//! Source: `Text.JSON.String.showJSString` as the reference daemon shows it.
#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::ops::Range;

/// A piece of a text of at most 4 GiB: half the size of a slice, and free of its lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Byte offset of the first byte.
    pub(crate) start: u32,
    /// Byte offset behind the last byte.
    pub(crate) end: u32,
}

impl Span {
    /// The span from `start` to `end`.
    ///
    /// # Panics
    ///
    /// If the text is larger than 4 GiB, which `config` refuses to write.
    pub(crate) fn new(range: Range<usize>) -> Self {
        let offset = |at| u32::try_from(at).expect("canonical text is shorter than 4 GiB");
        Self {
            start: offset(range.start),
            end: offset(range.end),
        }
    }

    /// The piece of `text` that this span names.
    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }

    /// A string's text with its quotes.
    pub(crate) fn quoted(self) -> Self {
        Self {
            start: self.start - 1,
            end: self.end + 1,
        }
    }

    /// A string's text without its quotes.
    pub(crate) fn unquoted(self) -> Self {
        Self {
            start: self.start + 1,
            end: self.end - 1,
        }
    }
}

/// One in each byte of a lane of eight.
pub(crate) const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// The high bit of each byte of `lanes` that is zero; above the first such byte others may be marked too.
const fn zero_bytes(lanes: u64) -> u64 {
    lanes.wrapping_sub(ONES) & !lanes & (ONES << 7)
}

/// The high bit of each byte of `lanes` that equals `byte`, as far as [`zero_bytes`] can tell.
const fn equal_bytes(lanes: u64, byte: u8) -> u64 {
    zero_bytes(lanes ^ (ONES * byte as u64))
}

/// The high bit of each byte of `lanes` that cannot stand in a JSON string as it is, as far as [`zero_bytes`] can tell.
const fn special_bytes(lanes: u64) -> u64 {
    let control = lanes.wrapping_sub(ONES * 0x20) & !lanes & (ONES << 7);
    control | equal_bytes(lanes, b'"') | equal_bytes(lanes, b'\\')
}

/// Whether any byte of `bytes` must be escaped. Most strings are shorter than what a call of `memchr` costs.
fn has_special(bytes: &[u8]) -> bool {
    let special = |lanes: &[u8; 8]| special_bytes(u64::from_le_bytes(*lanes)) != 0;
    let (chunks, rest) = bytes.as_chunks();
    chunks.iter().any(special)
        || match bytes.last_chunk() {
            Some(last) => special(last),
            None => rest
                .iter()
                .any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')),
        }
}

/// The high bit of each byte of `lanes` that equals `byte`.
const fn exactly(lanes: u64, byte: u8) -> u64 {
    const LOW: u64 = ONES * 0x7f;
    let differences = lanes ^ (ONES * byte as u64);
    !(((differences & LOW) + LOW) | differences | LOW)
}

/// The high bit of each byte of `lanes` that equals `byte`, exact up to the first byte that is not ASCII.
const fn ascii_bytes(lanes: u64, byte: u8) -> u64 {
    !(lanes ^ (ONES * byte as u64)).wrapping_add(ONES * 0x7f) & (ONES << 7)
}

/// How many bytes at the start of `text` stand in a JSON string as they are, and are ASCII; `None` if all of them, save seven at most.
pub(crate) fn plain_len(text: &[u8]) -> Option<usize> {
    text.as_chunks()
        .0
        .iter()
        .zip(0..)
        .find_map(|(lanes, index)| {
            let lanes = u64::from_le_bytes(*lanes);
            let stops = special_bytes(lanes) | (lanes & (ONES << 7));
            (stops != 0).then(|| 8 * index + stops.trailing_zeros() as usize / 8)
        })
}

/// Unescapes to `out` the string in ASCII whose opening quote `text` stands behind, and which has no escapes but `\"` and `\n`.
///
/// Gives the place of its closing quote and its length in `out`; `None` if it is no such string, if it ends less than eight bytes
/// before `text` does, or if there is no room for it and another eight bytes.
pub(crate) fn unescape_plain(text: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    // The high bit of the next lane's first byte, if a backslash stands before it.
    let mut carry = 0;
    for (lanes, index) in text.as_chunks().0.iter().zip(0..) {
        let lanes = u64::from_le_bytes(*lanes);
        let (quotes, backslashes) = (ascii_bytes(lanes, b'"'), ascii_bytes(lanes, b'\\'));
        let escaped = backslashes << 8 | carry;
        carry = backslashes >> 56;
        let end = quotes & !escaped;
        let before_end = end.wrapping_sub(1) & !end;
        let printable = lanes.wrapping_add(ONES * 0x60);
        let newlines = escaped & ascii_bytes(lanes, b'n');
        let wrong = ((lanes | !printable) & (ONES << 7)) | (escaped & !quotes & !newlines);
        if wrong & before_end != 0 {
            return None;
        }
        let lanes = lanes ^ ((newlines >> 7) * u64::from(b'n' ^ b'\n'));
        // A lane is written as a whole, and again behind each backslash that is left out.
        let mut removed = backslashes & before_end;
        let (mut rest, mut from) = (lanes, 0);
        while removed != 0 {
            let place = removed.trailing_zeros() / 8;
            *out.get_mut(len..)?.first_chunk_mut()? = rest.to_le_bytes();
            len += (place - from) as usize;
            rest = rest >> (8 * (place - from)) >> 8;
            from = place + 1;
            removed &= removed - 1;
        }
        *out.get_mut(len..)?.first_chunk_mut()? = rest.to_le_bytes();
        if end != 0 {
            let place = end.trailing_zeros() / 8;
            return Some((8 * index + place as usize, len + (place - from) as usize));
        }
        len += (8 - from) as usize;
    }
    None
}

/// JSON in ASCII: everything beyond is escaped, which is possible only, and valid, inside of strings.
pub(crate) fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("a String takes any text");
        }
    }
    out
}

/// Where text is written to, piece by piece.
pub(crate) trait Sink {
    /// Appends `piece`.
    fn push(&mut self, piece: &[u8]);
}

impl Sink for Vec<u8> {
    fn push(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

/// Appends `bytes` as the inside of a JSON string: `\"`, `\\`, `\b \f \n \r \t`, `\u00xx` for other control
/// characters, everything else as it is (DEL, `/` and what is not ASCII included).
pub(crate) fn escape(bytes: &[u8], out: &mut impl Sink) {
    let (chunks, rest) = bytes.as_chunks::<CHUNK>();
    for chunk in chunks.iter().map(<[u8; CHUNK]>::as_slice).chain([rest]) {
        if has_special(chunk) {
            escape_chunk(chunk, out);
        } else {
            out.push(chunk);
        }
    }
}

/// How many bytes are looked at, and written, at once.
const CHUNK: usize = 64;

/// Escapes at most [`CHUNK`] bytes. JSON is dense with quotes: each lane is written as a whole, and again behind each backslash
/// that is put in.
fn escape_chunk(bytes: &[u8], out: &mut impl Sink) {
    // All of them are looked at: that is faster than to stop at the first.
    if bytes.iter().fold(false, |any, byte| any | (*byte < 0x20)) {
        return escape_bytewise(bytes, out);
    }
    let mut escaped = [0; 2 * CHUNK + 8];
    let mut len = 0;
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&last]) {
        let lanes = u64::from_le_bytes(*chunk);
        let mut marked = exactly(lanes, b'"') | exactly(lanes, b'\\');
        let (mut left, mut from) = (lanes, 0);
        while marked != 0 {
            let place = marked.trailing_zeros() / 8;
            escaped[len..len + 8].copy_from_slice(&left.to_le_bytes());
            len += (place - from) as usize;
            escaped[len] = b'\\';
            len += 1;
            left >>= 8 * (place - from);
            from = place;
            marked &= marked - 1;
        }
        escaped[len..len + 8].copy_from_slice(&left.to_le_bytes());
        len += (8 - from) as usize;
    }
    out.push(&escaped[..len - (8 - rest.len())]);
}

fn escape_bytewise(bytes: &[u8], out: &mut impl Sink) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in bytes {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.push(&[b'\\', b'u', b'0', b'0', high, low]);
                continue;
            }
            _ => {
                out.push(&[byte]);
                continue;
            }
        };
        out.push(&[b'\\', short]);
    }
}

/// `text` in canonical form: itself if nothing in it needs an escape, else written to `scratch`.
pub(crate) fn canonical<'a>(text: &'a str, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if !has_special(text.as_bytes()) {
        return text.as_bytes();
    }
    scratch.clear();
    escape(text.as_bytes(), scratch);
    scratch
}

/// The bytes that a canonical string stands for.
pub(crate) fn unescape(mut text: &[u8]) -> impl Iterator<Item = u8> {
    let hex = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
    std::iter::from_fn(move || {
        let (byte, used) = match *text {
            [] => return None,
            [b'\\', b'u', _, _, high, low, ..] => (hex(high) << 4 | hex(low), 6),
            [b'\\', short, ..] => (unescape_short(short), 2),
            [byte, ..] => (byte, 1),
        };
        text = &text[used..];
        Some(byte)
    })
}

const fn unescape_short(short: u8) -> u8 {
    match short {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

/// Orders two canonical strings as the reference orders map keys: by the UTF-8 bytes they stand for.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let escaped = |text: &[u8]| memchr::memchr(b'\\', text).is_some();
    if escaped(left) || escaped(right) {
        unescape(left).cmp(unescape(right))
    } else {
        left.cmp(right)
    }
}

/// Where the string whose opening quote stands at `at` ends: the offset behind its closing quote.
pub(crate) fn string_end(text: &[u8], at: usize) -> usize {
    let mut from = at + 1;
    loop {
        let Some(stop) = find_quote_or_backslash(text, from) else {
            return text.len();
        };
        if text[stop] == b'"' {
            return stop + 1;
        }
        from = (stop + 2).min(text.len());
    }
}

/// The first `"` or `\` from `from` on. Most strings are shorter than what a call of `memchr` costs: eight bytes at a time.
#[inline]
fn find_quote_or_backslash(text: &[u8], mut from: usize) -> Option<usize> {
    while let Some((lanes, _)) = text[from..].split_first_chunk::<8>() {
        let lanes = u64::from_le_bytes(*lanes);
        let found = equal_bytes(lanes, b'"') | equal_bytes(lanes, b'\\');
        if found != 0 {
            return Some(from + found.trailing_zeros() as usize / 8);
        }
        from += 8;
    }
    text[from..]
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\'))
        .map(|found| from + found)
}

/// Where the value that starts at `at` ends.
pub(crate) fn value_end(text: &[u8], at: usize) -> usize {
    match text[at] {
        b'"' => string_end(text, at),
        b'{' | b'[' => composite_end(text, at),
        _ => {
            let scalar = &text[at..];
            at + scalar
                .iter()
                .position(|byte| b",]}".contains(byte))
                .unwrap_or(scalar.len())
        }
    }
}

fn composite_end(text: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here < text.len() {
        match text[here] {
            b'"' => {
                here = string_end(text, here);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return here + 1;
                }
            }
            _ => {}
        }
        here += 1;
    }
    text.len()
}

/// The elements of the array that starts at `at`.
pub(crate) fn elements(text: &[u8], at: usize) -> impl Iterator<Item = Range<usize>> {
    let mut next = at + 1;
    std::iter::from_fn(move || {
        if text[next] == b']' {
            return None;
        }
        let end = value_end(text, next);
        let element = next..end;
        next = end + usize::from(text[end] == b',');
        Some(element)
    })
}

/// The members of the object that starts at `at`: each key's text without quotes, and its value's place.
pub(crate) fn members(
    text: &[u8],
    at: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut next = at + 1;
    std::iter::from_fn(move || {
        if text[next] == b'}' {
            return None;
        }
        let key_end = string_end(text, next);
        let end = value_end(text, key_end + 1);
        let member = (next + 1..key_end - 1, key_end + 1..end);
        next = end + usize::from(text[end] == b',');
        Some(member)
    })
}

/// The value under `key` (canonical, without quotes) in the object that starts at `at`; the first if there are several.
pub(crate) fn member(text: &[u8], at: usize, key: &[u8]) -> Option<Range<usize>> {
    members(text, at)
        .find(|(name, _)| &text[name.clone()] == key)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("escaping keeps UTF-8")
    }

    #[test]
    fn escapes_what_the_reference_escapes_and_nothing_else() {
        assert_eq!(
            escaped("\"\\\u{8}\u{c}\n\r\t\u{0}\u{b}\u{1f}"),
            r#"\"\\\b\f\n\r\t\u0000\u000b\u001f"#
        );
        assert_eq!(escaped("/<>&'\u{7f}é€"), "/<>&'\u{7f}é€");
        let long = "x".repeat(100) + "\"" + &"y".repeat(100);
        assert_eq!(escaped(&long), long.replace('"', "\\\""));
    }

    #[test]
    fn escapes_lanes_as_it_escapes_bytes() {
        const TELLING: &[u8] = b"\"\"\"\\\\ab{}:,\x7f\x80\xa2\xdc\xff\n\x1f";
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            // Control characters, which stand at the end, are rare.
            let telling = &TELLING[..TELLING.len() - if seed % 4 == 0 { 0 } else { 2 }];
            let len = random.usize(..200);
            let text: Vec<u8> = (0..len)
                .map(|_| telling[random.usize(..telling.len())])
                .collect();
            let (mut lanes, mut bytes) = (Vec::new(), Vec::new());
            escape(&text, &mut lanes);
            escape_bytewise(&text, &mut bytes);
            assert_eq!(lanes, bytes, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn unescapes_what_it_escaped() {
        let all: String = (0..=0x7f_u8)
            .map(char::from)
            .chain("é€😀".chars())
            .collect();
        let back: Vec<u8> = unescape(escaped(&all).as_bytes()).collect();
        assert_eq!(back, all.as_bytes());
    }

    #[test]
    fn orders_by_what_is_meant_not_by_what_is_written() {
        let mut scratch = (Vec::new(), Vec::new());
        for (left, right) in [
            ("a\u{1}", "a "),
            ("\"", "A"),
            ("a", "a\\"),
            ("\n", "\u{b}"),
            ("x", "y"),
        ] {
            let (left, right) = (
                canonical(left, &mut scratch.0),
                canonical(right, &mut scratch.1),
            );
            assert_eq!(compare(left, right), Ordering::Less, "{left:?} {right:?}");
        }
    }

    #[test]
    fn finds_members_and_elements() {
        let text = br#"{"a":[1,"x]\"",{"b":null}],"c":{},"":[]}"#;
        let found: Vec<_> = members(text, 0)
            .map(|(key, value)| (&text[key], &text[value]))
            .collect();
        let expected: [(&[u8], &[u8]); 3] = [
            (b"a", br#"[1,"x]\"",{"b":null}]"#),
            (b"c", b"{}"),
            (b"", b"[]"),
        ];
        assert_eq!(found, expected);
        let list = member(text, 0, b"a").expect("a is there");
        let found: Vec<_> = elements(text, list.start)
            .map(|element| &text[element])
            .collect();
        assert_eq!(found, [&b"1"[..], br#""x]\"""#, br#"{"b":null}"#]);
    }
}

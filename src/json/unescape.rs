//! Reading the strings of a received text.

use super::steps::step;
use super::swar::{HIGH_BITS, equal_ascii, first_special, splat};

/// Returns the number of bytes at the start of `text` that are ASCII and need no escape in a JSON
/// string; `None` if all are, except the last up to seven, which are not tested.
pub(crate) fn unescaped_ascii_len(text: &[u8]) -> Option<usize> {
    text.as_chunks()
        .0
        .iter()
        .zip(0..)
        .find_map(|(word, index)| {
            step(1);
            let word = u64::from_le_bytes(*word);
            let stops = first_special(word) | (word & HIGH_BITS);
            (stops != 0).then(|| 8 * index + stops.trailing_zeros() as usize / 8)
        })
}

/// Unescapes to `out` the start of the string whose opening quote precedes `text`, while it is
/// ASCII and its only escapes are `\"` and `\n`.
///
/// Returns the number of bytes read from `text` and written to `out`. After the whole string, the
/// next byte of `text` is the closing quote. Otherwise it is not a quote: the rest of the string
/// may be valid, and is for [`unescape_in_place`]. Up to 7 bytes at the end of `text` are never
/// read. `None` if `out` has no room for the string and eight bytes more.
pub(crate) fn unescape_ascii(text: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    // The high bit of the next word's first byte, if the byte before it is a backslash.
    let mut carry = 0;
    let words = text.as_chunks().0;
    for (word, index) in words.iter().zip(0..) {
        step(1);
        let word = u64::from_le_bytes(*word);
        let (quotes, backslashes) = (equal_ascii(word, b'"'), equal_ascii(word, b'\\'));
        let escaped = backslashes << 8 | carry;
        let end = quotes & !escaped;
        let before_end = end.wrapping_sub(1) & !end;
        let printable = word.wrapping_add(splat(0x60));
        let newlines = escaped & equal_ascii(word, b'n');
        let wrong = ((word | !printable) & HIGH_BITS) | (escaped & !quotes & !newlines);
        if wrong & before_end != 0 {
            return Some((8 * index - usize::from(carry != 0), len));
        }
        carry = backslashes >> 56;
        let word = word ^ ((newlines >> 7) * u64::from(b'n' ^ b'\n'));
        // A whole word is written, and the rest of it again after each backslash that is removed.
        let mut removed = backslashes & before_end;
        let (mut rest, mut from) = (word, 0);
        while removed != 0 {
            step(1);
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
    Some((8 * words.len() - usize::from(carry != 0), len))
}

/// A string that [`unescape_in_place`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unescaped {
    /// Offset of the closing quote.
    pub(crate) quote: usize,
    /// Offset just past the unescaped string, which starts where reading started.
    pub(crate) end: usize,
    /// Whether the text up to the closing quote is ASCII. The unescaped string need not be.
    pub(crate) is_ascii: bool,
    /// Whether a character was written as a pair of escapes (`\ud83d\ude00`).
    pub(crate) has_surrogates: bool,
}

/// Unescapes a string from its byte at `start` to its closing quote, in place: any string that
/// RFC 8259 allows. `None` for anything else.
///
/// Bytes that are not ASCII are not checked. The unescaped string is UTF-8 if they are: escapes
/// only add whole characters.
///
/// `text` must extend at least seven bytes past the closing quote; their content is ignored, and
/// may be changed.
///
/// The cost is linear in the string's length, with a small factor for every input.
pub(crate) fn unescape_in_place(text: &mut [u8], start: usize) -> Option<Unescaped> {
    let mut string = InPlace {
        text,
        from: start,
        to: start,
        seen: 0,
        has_surrogates: false,
    };
    while !string.bytes()? {
        string.words()?;
    }
    Some(Unescaped {
        quote: string.from,
        end: string.to,
        is_ascii: string.seen & HIGH_BITS == 0,
        has_surrogates: string.has_surrogates,
    })
}

/// Plain bytes that are read one by one. Escapes are often close together, and reading a word costs
/// as much as reading three bytes.
const BYTES_MAX: u32 = 8;

/// A string while it is unescaped in place.
struct InPlace<'t> {
    text: &'t mut [u8],
    /// The next byte to be read.
    from: usize,
    /// Where the next byte is written: never after `from`.
    to: usize,
    /// Has a high bit if any byte that was read has one.
    seen: u64,
    has_surrogates: bool,
}

impl InPlace<'_> {
    /// Reads bytes and escapes one by one, until [`BYTES_MAX`] plain bytes were read without an
    /// escape. Returns whether the closing quote is next.
    #[inline(always)]
    fn bytes(&mut self) -> Option<bool> {
        let mut plain = 0;
        loop {
            let byte = *self.text.get(self.from)?;
            if IS_PLAIN[usize::from(byte)] {
                if plain == BYTES_MAX {
                    return Some(false);
                }
                step(1);
                self.seen |= u64::from(byte);
                self.text[self.to] = byte;
                (self.from, self.to) = (self.from + 1, self.to + 1);
                plain += 1;
            } else if byte == b'\\' {
                self.escape()?;
                plain = 0;
            } else {
                // A control character is not allowed.
                return (byte == b'"').then_some(true);
            }
        }
    }

    /// Reads one escape.
    #[inline(always)]
    fn escape(&mut self) -> Option<()> {
        step(1);
        let next = *self.text.get(self.from + 1)?;
        let unescaped = SHORT_ESCAPES[usize::from(next)];
        if unescaped != 0 {
            self.text[self.to] = unescaped;
            (self.from, self.to) = (self.from + 2, self.to + 1);
            return Some(());
        }
        let (character, len) = unicode_escape(&self.text[self.from..])?;
        self.has_surrogates |= len == SURROGATES;
        let free = self.text.get_mut(self.to..self.from + len)?;
        self.to += encode(character, free)?;
        self.from += len;
        Some(())
    }

    /// Reads words, up to the first one that has a byte which is not plain, and the plain bytes
    /// before that one.
    #[inline(always)]
    fn words(&mut self) -> Option<()> {
        loop {
            step(1);
            let window = self.text.get_mut(self.to..self.from + 8)?;
            let word = *window.last_chunk()?;
            let bytes = u64::from_le_bytes(word);
            let special = first_special(bytes);
            let len = (special.trailing_zeros() / 8) as usize;
            // A whole word is written if that does not change bytes that are still to be read.
            if window.len() < 16 - len {
                return Some(());
            }
            *window.first_chunk_mut()? = word;
            // Bytes that are marked are ASCII.
            self.seen |= bytes & special.wrapping_sub(1);
            (self.from, self.to) = (self.from + len, self.to + len);
            if special != 0 {
                return Some(());
            }
        }
    }
}

/// Whether a byte means itself in a JSON string.
const IS_PLAIN: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = false;
        byte += 1;
    }
    table[b'"' as usize] = false;
    table[b'\\' as usize] = false;
    table
};

/// The characters that follow a backslash in an escape sequence of two characters, with the
/// character that they represent. Zero for any other.
const SHORT_ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let pairs = b"\"\"\\\\//b\x08f\x0cn\nr\rt\t";
    let mut at = 0;
    while at < pairs.len() {
        table[pairs[at] as usize] = pairs[at + 1];
        at += 2;
    }
    table
};

/// The values of hex digits. [`NOT_HEX`] for any other character.
const HEX_DIGITS: [u8; 256] = {
    let mut table = [NOT_HEX; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < digits.len() {
        table[digits[value] as usize] = value as u8;
        table[digits[value].to_ascii_uppercase() as usize] = value as u8;
        value += 1;
    }
    table
};

const NOT_HEX: u8 = 0xff;

/// The length of an escape sequence for a character above U+FFFF.
const SURROGATES: usize = 12;

/// Writes `character` to the start of `out`, in UTF-8, and returns its length.
fn encode(character: char, out: &mut [u8]) -> Option<usize> {
    // Most are of two bytes.
    match u32::from(character) {
        code @ 0x80..0x800 => {
            *out.first_chunk_mut()? = [0xc0 | (code >> 6) as u8, 0x80 | (code & 0x3f) as u8];
            Some(2)
        }
        _ => Some(character.encode_utf8(out).len()),
    }
}

/// Decodes the escape sequence `\uXXXX`, or a pair of them, at the start of `text`. Returns its
/// character and its length.
fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let unit = utf_16_unit(text.first_chunk()?)?;
    if !(0xd800..0xdc00).contains(&unit) {
        // A low surrogate by itself is not a character.
        return Some((char::from_u32(unit)?, 6));
    }
    let low = utf_16_unit(text[6..].first_chunk()?)?;
    if !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    let character = char::from_u32(0x1_0000 + ((unit - 0xd800) << 10 | (low - 0xdc00)))?;
    Some((character, SURROGATES))
}

/// Decodes the escape sequence `\uXXXX`.
fn utf_16_unit(sequence: &[u8; 6]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = sequence else {
        return None;
    };
    let values = digits.map(|digit| HEX_DIGITS[usize::from(digit)]);
    if values.contains(&NOT_HEX) {
        return None;
    }
    let [a, b, c, d] = values.map(u32::from);
    Some(a << 12 | b << 8 | c << 4 | d)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unescapes the string whose content `content` is, and compares with serde_json.
    fn check(content: &[u8]) -> bool {
        let quoted = [b"\"", content, b"\""].concat();
        let expected = serde_json::from_slice::<String>(&quoted).ok();
        let mut text = [&*quoted, b"\"\"\"\"\"\"\""].concat();
        let ours = unescape_in_place(&mut text, 1)
            .filter(|ours| ours.quote == quoted.len() - 1)
            .filter(|ours| std::str::from_utf8(&text[1..ours.end]).is_ok());
        let shown = content.escape_ascii();
        let string = ours.map(|ours| &text[1..ours.end]);
        assert_eq!(string, expected.as_deref().map(str::as_bytes), "{shown}");
        if let (Some(ours), Some(expected)) = (ours, expected) {
            assert_eq!(ours.is_ascii, content.is_ascii(), "{shown}");
            let beyond = expected.chars().any(|c| c > '\u{ffff}');
            if content.is_ascii() {
                assert_eq!(ours.has_surrogates, beyond, "{shown}");
            }
        }
        string.is_some()
    }

    #[test]
    fn any_string_is_read_as_serde_json_reads_it() {
        const PARTS: [&[u8]; 24] = [
            b"a",
            b"0123456789",
            b"\\\"",
            b"\\\\",
            b"\\/",
            b"\\b",
            b"\\f",
            b"\\n",
            b"\\r",
            b"\\t",
            b"\\u0041",
            b"\\u00E9",
            b"\\u20aC",
            b"\\ud83d\\ude00",
            "\u{e9}".as_bytes(),
            "\u{20ac}\u{1f600}".as_bytes(),
            // Seldom valid.
            b"\\",
            b"\\x",
            b"\\ud83d",
            b"\\ude00",
            b"\\u12",
            b"\x1f",
            b"\xc3",
            b"\"",
        ];
        let mut valid = 0;
        for seed in 0..100_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let parts = if seed % 4 == 0 { 24 } else { 16 };
            let content: Vec<u8> = (0..random.usize(..12))
                .flat_map(|_| PARTS[random.usize(..parts)])
                .copied()
                .collect();
            valid += usize::from(check(&content));
        }
        assert!((70_000..100_000).contains(&valid), "{valid} valid strings");
    }

    #[test]
    fn both_functions_together_read_any_string() {
        for len in 0..40 {
            for at in 0..=len {
                for escape in ["", "\\\"", "\\n", "\\t", "\\\\", "\u{e9}", "\\u0041"] {
                    let mut content = "m".repeat(len);
                    content.insert_str(at, escape);
                    let quoted = format!("\"{content}\"");
                    let expected: String = serde_json::from_str(&quoted).expect("a string");
                    let mut text = quoted.clone().into_bytes();
                    text.extend([b'"'; 8]);
                    let mut out = vec![0; text.len() + 8];
                    let (read, written) = unescape_ascii(&text[1..], &mut out).expect("room");
                    let rest = unescape_in_place(&mut text, 1 + read).expect("a string");
                    assert_eq!(rest.quote, quoted.len() - 1, "{quoted}");
                    let string = [&out[..written], &text[1 + read..rest.end]].concat();
                    assert_eq!(string, expected.as_bytes(), "{quoted}");
                }
            }
        }
    }
}

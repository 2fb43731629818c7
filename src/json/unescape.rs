//! Reading strings.

use std::cmp::Ordering;

use super::swar::{HIGH_BITS, equal_ascii, first_special, splat};

/// Returns the bytes of the string whose canonical form is `text`.
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

/// Compares two strings in canonical form by their unescaped UTF-8 bytes: the order of the
/// reference's map keys.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let escaped = |text: &[u8]| memchr::memchr(b'\\', text).is_some();
    if escaped(left) || escaped(right) {
        unescape(left).cmp(unescape(right))
    } else {
        left.cmp(right)
    }
}

/// Returns the number of bytes at the start of `text` that are ASCII and need no escape in a JSON
/// string; `None` if all are, except the last up to seven, which are not tested.
pub(crate) fn unescaped_ascii_len(text: &[u8]) -> Option<usize> {
    text.as_chunks()
        .0
        .iter()
        .zip(0..)
        .find_map(|(word, index)| {
            let word = u64::from_le_bytes(*word);
            let stops = first_special(word) | (word & HIGH_BITS);
            (stops != 0).then(|| 8 * index + stops.trailing_zeros() as usize / 8)
        })
}

/// Unescapes to `out` the ASCII string whose opening quote precedes `text`, if its only escapes are
/// `\"` and `\n`.
///
/// Returns the offset of the closing quote in `text`, and the string's length in `out`. `None` for
/// any other string, for one that ends less than eight bytes before `text` does, and if `out` has
/// no room for the string and eight bytes more.
pub(crate) fn unescape_ascii(text: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
    let mut len = 0;
    // The high bit of the next word's first byte, if the byte before it is a backslash.
    let mut carry = 0;
    for (word, index) in text.as_chunks().0.iter().zip(0..) {
        let word = u64::from_le_bytes(*word);
        let (quotes, backslashes) = (equal_ascii(word, b'"'), equal_ascii(word, b'\\'));
        let escaped = backslashes << 8 | carry;
        carry = backslashes >> 56;
        let end = quotes & !escaped;
        let before_end = end.wrapping_sub(1) & !end;
        let printable = word.wrapping_add(splat(0x60));
        let newlines = escaped & equal_ascii(word, b'n');
        let wrong = ((word | !printable) & HIGH_BITS) | (escaped & !quotes & !newlines);
        if wrong & before_end != 0 {
            return None;
        }
        let word = word ^ ((newlines >> 7) * u64::from(b'n' ^ b'\n'));
        // A whole word is written, and the rest of it again after each backslash that is removed.
        let mut removed = backslashes & before_end;
        let (mut rest, mut from) = (word, 0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{canonical, escape};

    #[test]
    fn unescapes_what_escape_wrote() {
        let all: String = (0..=0x7f_u8)
            .map(char::from)
            .chain("é€😀".chars())
            .collect();
        let mut escaped = Vec::new();
        escape(all.as_bytes(), &mut escaped);
        let unescaped: Vec<u8> = unescape(&escaped).collect();
        assert_eq!(unescaped, all.as_bytes());
    }

    #[test]
    fn strings_are_ordered_by_their_unescaped_bytes() {
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
}

//! Strings in canonical form: making, comparing and unescaping them.

use std::cmp::Ordering;

use super::escape::{escape, has_special};

/// Returns the canonical form of `text`: `text` itself if nothing needs an escape, otherwise the
/// content of `scratch`.
pub(crate) fn canonical<'a>(text: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if !has_special(text) {
        return text;
    }
    scratch.clear();
    escape(text, scratch);
    scratch
}

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

#[cfg(test)]
mod tests {
    use super::*;

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
                canonical(left.as_bytes(), &mut scratch.0),
                canonical(right.as_bytes(), &mut scratch.1),
            );
            assert_eq!(compare(left, right), Ordering::Less, "{left:?} {right:?}");
        }
    }
}

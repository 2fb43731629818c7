//! Navigating canonical text. Nothing here validates its input.

use std::ops::Range;

use super::swar::first_equal;

/// Returns the offset just past the closing quote of the string whose opening quote is at `at`.
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

/// Returns the offset of the first `"` or `\` at or after `from`.
#[inline]
fn find_quote_or_backslash(text: &[u8], mut from: usize) -> Option<usize> {
    while let Some((word, _)) = text[from..].split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let found = first_equal(word, b'"') | first_equal(word, b'\\');
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

/// Returns the offset just past the value that starts at `at`.
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

/// Iterates over the elements of the array that starts at `at`.
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

/// Iterates over the members of the object that starts at `at`: the key without its quotes, and the
/// value.
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

/// Returns the value of `key` (canonical, without quotes) in the object that starts at `at`; the
/// first one if the key occurs more than once.
pub(crate) fn member(text: &[u8], at: usize, key: &[u8]) -> Option<Range<usize>> {
    members(text, at)
        .find(|(name, _)| &text[name.clone()] == key)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

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

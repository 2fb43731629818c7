//! Configuration paths as the reference reads them: RFC 6901 with a more lenient grammar.
//!
//! ```text
//! path  = "/" token *( "/" token )      the longest prefix that parses; the rest is ignored
//! token = 1*( any but "~" "/" | "~0" | "~1" ), or nothing at the very end
//! ```
//!
//! Source: `Ganeti.JSON` (`readContainer`, `pointerFromString`, `nestedAccessByKey`). Its leniency
//! is kept exactly.

/// The tokens of a path with `~0` and `~1` not yet decoded; `None` if the text is not a path.
pub fn tokens(path: &str) -> Option<impl Iterator<Item = &str>> {
    let mut rest = path.strip_prefix('/').map(Some)?;
    // The first token may be empty only if the path ends with it.
    if !rest.is_some_and(|text| text.is_empty() || token_len(text) > 0) {
        return None;
    }
    Some(std::iter::from_fn(move || {
        let text = rest.take()?;
        let len = token_len(text);
        if len == 0 && !text.is_empty() {
            return None;
        }
        let (token, after) = text.split_at(len);
        rest = after.strip_prefix('/');
        Some(token)
    }))
}

/// Bytes that are tested at once, without a branch for each.
const BLOCK: usize = 64;

/// The length of the token at the start of `text`: it ends before a slash, or a tilde without 0 or
/// 1.
fn token_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_end = |byte: u8, next: u8| (byte == b'/') | ((byte == b'~') & (next & !1 != b'0'));
    let mut len = 0;
    // The last byte of a window is only the one after the last that is tested.
    while let Some(window) = bytes[len..].first_chunk::<{ BLOCK + 1 }>() {
        let pairs = window[..BLOCK].iter().zip(&window[1..]);
        if pairs.fold(false, |any, (&byte, &next)| any | is_end(byte, next)) {
            break;
        }
        len += BLOCK;
    }
    let rest = &bytes[len..];
    let next = rest.iter().skip(1).copied().chain([0]);
    let end = rest
        .iter()
        .zip(next)
        .position(|(&byte, next)| is_end(byte, next));
    len + end.unwrap_or(rest.len())
}

/// Replaces `out` with the text that a token represents, in canonical form.
pub fn canonical_token(token: &str, out: &mut Vec<u8>) {
    out.clear();
    let mut rest = token;
    while !rest.is_empty() {
        let literal = memchr::memchr(b'~', rest.as_bytes()).unwrap_or(rest.len());
        if literal > 0 {
            crate::json::escape(&rest.as_bytes()[..literal], out);
        }
        match rest.as_bytes()[literal..] {
            [b'~', b'0', ..] => out.push(b'~'),
            [b'~', b'1', ..] => out.push(b'/'),
            _ => return,
        }
        rest = &rest[literal + 2..];
    }
}

/// The array index that a token means: its leading digits modulo 2^64, as a signed number. Anything
/// after the digits is ignored.
pub fn index(token: &str) -> Option<usize> {
    /// 2^64 divides 10^64: digits before the last 64 do not count.
    const DIGITS_MAX: usize = 64;
    let digits = digits_len(token.as_bytes());
    if digits == 0 {
        return None;
    }
    let last = &token.as_bytes()[digits.saturating_sub(DIGITS_MAX)..digits];
    let horner = |sum: u64, digit: &u8| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
    usize::try_from(last.iter().fold(0, horner).cast_signed()).ok()
}

/// The number of ASCII digits at the start of `bytes`.
fn digits_len(bytes: &[u8]) -> usize {
    let all_digits = |block: &[u8; BLOCK]| {
        let digits = block.iter().map(u8::is_ascii_digit);
        digits.fold(true, |all, is_digit| all & is_digit)
    };
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let len = BLOCK * blocks.iter().take_while(|block| all_digits(block)).count();
    let rest = bytes[len..].iter();
    len + rest.take_while(|byte| byte.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_where_it_no_longer_parses() {
        fn all(path: &str) -> Option<Vec<&str>> {
            tokens(path).map(Iterator::collect)
        }
        assert_eq!(all(""), None);
        assert_eq!(all("cluster"), None);
        assert_eq!(all("//"), None);
        assert_eq!(all("/~2"), None);
        assert_eq!(all("/"), Some(vec![""]));
        assert_eq!(all("/cluster/"), Some(vec!["cluster", ""]));
        assert_eq!(all("/cluster//uuid"), Some(vec!["cluster"]));
        assert_eq!(all("/x/~2"), Some(vec!["x"]));
        assert_eq!(all("/x/0~/y"), Some(vec!["x", "0"]));
        assert_eq!(all("/m~n"), Some(vec!["m"]));
        assert_eq!(all("/a~0b~1c/d"), Some(vec!["a~0b~1c", "d"]));
        for len in 60..140 {
            let long = "x".repeat(len) + "~0" + &"y".repeat(len);
            for (end, expected) in [
                ("/z~", vec![&*long, "z"]),
                ("~2", vec![&long]),
                ("~", vec![&long]),
            ] {
                let path = format!("/{long}{end}");
                assert_eq!(all(&path), Some(expected), "{path}");
            }
        }
    }

    #[test]
    fn tokens_decode_to_canonical_text() {
        let mut out = Vec::new();
        canonical_token("a~0b~1c\"", &mut out);
        assert_eq!(out, br#"a~b/c\""#);
    }

    #[test]
    fn indexes_are_leading_digits() {
        for (token, expected) in [
            ("0", Some(0)),
            ("01", Some(1)),
            ("1x", Some(1)),
            ("0x1", Some(0)),
            ("-1", None),
            ("", None),
            ("x", None),
            ("18446744073709551617", Some(1)),
            ("9223372036854775808", None),
            ("00000000000000007/", Some(7)),
            ("0000000:", Some(0)),
        ] {
            assert_eq!(index(token), expected, "{token:?}");
        }
        assert_eq!(index(&("0".repeat(1_000) + "42x")), Some(42));
        assert_eq!(index(&("9".repeat(1_000) + &"0".repeat(63) + "1")), Some(1));
    }
}

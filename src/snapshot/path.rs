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

/// The length of the token at the start of `text`.
fn token_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut len = 0;
    loop {
        match bytes[len..] {
            [] | [b'/', ..] => return len,
            [b'~', b'0' | b'1', ..] => len += 2,
            [b'~', ..] => return len,
            _ => len += literal_len(&bytes[len..]),
        }
    }
}

/// How many bytes at the start of `bytes` stand for themselves.
fn literal_len(bytes: &[u8]) -> usize {
    /// Most tokens are shorter than what a call of `memchr` costs.
    const FEW: usize = 16;
    let is_special = |byte: &u8| matches!(byte, b'/' | b'~');
    let few = bytes.len().min(FEW);
    bytes[..few].iter().position(is_special).unwrap_or_else(|| {
        memchr::memchr2(b'/', b'~', &bytes[few..]).map_or(bytes.len(), |found| few + found)
    })
}

/// Replaces `out` with the text that a token represents, in canonical form.
pub fn canonical_token(token: &str, out: &mut Vec<u8>) {
    out.clear();
    let mut rest = token;
    while !rest.is_empty() {
        let literal = literal_len(rest.as_bytes());
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
    let bytes = token.as_bytes();
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let horner = |sum: u64, digit: &u8| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
    let last = &bytes[digits.saturating_sub(DIGITS_MAX)..digits];
    (digits > 0)
        .then(|| last.iter().fold(0, horner).cast_signed())?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_where_it_no_longer_parses() {
        let all = |path| tokens(path).map(|tokens| tokens.collect::<Vec<_>>());
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
        ] {
            assert_eq!(index(token), expected, "{token:?}");
        }
    }
}

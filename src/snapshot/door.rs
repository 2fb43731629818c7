//! A door to how paths are read, for `fuzz/` and the tests; not for use.

use super::path;

/// The tokens of a path, still with their `~0` and `~1`; `None` if it is no path at all.
pub fn tokens(path: &str) -> Option<Vec<&str>> {
    path::tokens(path).map(Iterator::collect)
}

/// The text that a token means, as the inside of a canonical JSON string.
pub fn canonical_token(token: &str) -> Vec<u8> {
    // What an earlier token left behind must not show.
    let mut out = b"earlier".to_vec();
    path::canonical_token(token, &mut out);
    out
}

/// The array index that a token means.
pub fn index(token: &str) -> Option<usize> {
    path::index(token)
}

//! Writes text as Haskell's `show` does. The reference quotes names that way in some error texts.
//!
//! Source: `GHC.Show.showLitString` (Haskell 2010 report, 2.6).

use crate::protocol::REPLY_BYTES_MAX;

/// Escapes of the control characters, without the backslash.
const NAMES: [&str; 32] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "a", "b", "t", "n", "v", "f", "r", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS",
    "RS", "US",
];

/// Appends the concatenation of `parts` as a Haskell string literal with its quotes. Stops once
/// `out` is longer than a reply.
pub(super) fn string<const N: usize>(parts: [&str; N], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut chars = parts.into_iter().flat_map(str::chars).peekable();
    while let Some(char) = chars.next() {
        // The text does not fit a reply.
        if out.len() > REPLY_BYTES_MAX {
            return;
        }
        match char {
            '"' | '\\' => out.extend([b'\\', char as u8]),
            '\u{7f}' => out.extend_from_slice(b"\\DEL"),
            '\0'..' ' => {
                out.push(b'\\');
                out.extend_from_slice(NAMES[char as usize].as_bytes());
                // \SO followed by H would be read as \SOH.
                if char == '\u{e}' && chars.peek() == Some(&'H') {
                    out.extend_from_slice(b"\\&");
                }
            }
            ' '..'\u{7f}' => out.push(char as u8),
            _ => {
                out.push(b'\\');
                out.extend_from_slice(itoa::Buffer::new().format(u32::from(char)).as_bytes());
                // A digit would be read as part of the number.
                if chars.peek().is_some_and(char::is_ascii_digit) {
                    out.extend_from_slice(b"\\&");
                }
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    #[test]
    fn literals_use_the_escapes_of_haskell() {
        for (text, expected) in [
            ("a\"b\\", r#""a\"b\\""#),
            ("\u{7}\u{8}\t\n\u{b}\u{c}\r", r#""\a\b\t\n\v\f\r""#),
            ("\0\u{1}\u{1b}\u{1f}\u{7f}", r#""\NUL\SOH\ESC\US\DEL""#),
            ("\u{e}H\u{e}h", r#""\SO\&H\SOh""#),
            ("é5€x", r#""\233\&5\8364x""#),
        ] {
            let mut out = Vec::new();
            super::string([text], &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}

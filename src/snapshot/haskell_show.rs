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
    // Whether a character would be read as a part of the escape before it.
    let mut continues: fn(u8) -> bool = |_| false;
    for mut rest in parts {
        while let Some(&next) = rest.as_bytes().first() {
            // The text does not fit a reply.
            if out.len() > REPLY_BYTES_MAX {
                return;
            }
            if continues(next) {
                out.extend_from_slice(b"\\&");
            }
            let plain = rest.bytes().position(|byte| !is_plain(byte));
            let (run, escaped) = rest.split_at(plain.unwrap_or(rest.len()));
            out.extend_from_slice(run.as_bytes());
            let mut chars = escaped.chars();
            continues = chars.next().map_or(|_| false, |char| escape(char, out));
            rest = chars.as_str();
        }
    }
    out.push(b'"');
}

/// Whether a literal holds `byte` as it is.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Appends the escape of a character. Returns whether the next one would be read as a part of it.
fn escape(char: char, out: &mut Vec<u8>) -> fn(u8) -> bool {
    out.push(b'\\');
    match char {
        '"' | '\\' => out.push(char as u8),
        '\u{7f}' => out.extend_from_slice(b"DEL"),
        '\0'..' ' => {
            out.extend_from_slice(NAMES[char as usize].as_bytes());
            // \SO followed by H would be read as \SOH.
            if char == '\u{e}' {
                return |next| next == b'H';
            }
        }
        _ => {
            out.extend_from_slice(itoa::Buffer::new().format(u32::from(char)).as_bytes());
            return |next| next.is_ascii_digit();
        }
    }
    |_| false
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
            ("é\u{e}é\u{e}", r#""\233\SO\233\SO""#),
        ] {
            let mut out = Vec::new();
            super::string([text], &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
            // The parts of a text are one text.
            for (at, _) in text.char_indices() {
                out.clear();
                let (start, end) = text.split_at(at);
                super::string([start, "", end], &mut out);
                assert_eq!(String::from_utf8_lossy(&out), expected);
            }
        }
    }
}

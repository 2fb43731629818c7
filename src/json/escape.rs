//! Writing strings.

use std::fmt::Write as _;

use super::swar::{equal, first_special};

/// A destination for text that is written in pieces.
pub(crate) trait Sink {
    /// Appends `piece`.
    fn push(&mut self, piece: &[u8]);
}

impl Sink for Vec<u8> {
    fn push(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

/// Bytes that are tested, and written, at a time.
const CHUNK: usize = 64;

/// Appends `bytes` as the content of a JSON string: `\"`, `\\`, `\b \f \n \r \t`, and `\u00xx` for
/// other control characters. All other bytes are copied, including DEL, `/` and bytes that are not
/// ASCII.
pub(crate) fn escape(bytes: &[u8], out: &mut impl Sink) {
    if bytes.len() < 8 {
        // Testing these for the need of an escape costs more than it saves.
        return escape_bytewise(bytes, out);
    }
    let (chunks, rest) = bytes.as_chunks::<CHUNK>();
    for chunk in chunks.iter().map(<[u8; CHUNK]>::as_slice).chain([rest]) {
        if has_special(chunk) {
            escape_chunk(chunk, out);
        } else {
            out.push(chunk);
        }
    }
}

/// Returns the JSON text `json` in ASCII, with `\u` escapes for all other characters. In valid JSON
/// these occur only inside strings.
pub(crate) fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// Whether any byte of `bytes` needs an escape.
pub(super) fn has_special(bytes: &[u8]) -> bool {
    let special = |word: &[u8; 8]| first_special(u64::from_le_bytes(*word)) != 0;
    let (words, rest) = bytes.as_chunks();
    words.iter().any(special)
        || match bytes.last_chunk() {
            Some(last) => special(last),
            None => rest
                .iter()
                .any(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')),
        }
}

/// Escapes at most [`CHUNK`] bytes.
///
/// JSON contains many quotes: a whole word is written at the current position, and the rest of the
/// word again after each backslash that is inserted.
fn escape_chunk(bytes: &[u8], out: &mut impl Sink) {
    // Testing all bytes is faster than stopping at the first match: the loop is vectorized.
    if bytes.iter().fold(false, |any, byte| any | (*byte < 0x20)) {
        return escape_bytewise(bytes, out);
    }
    let mut escaped = [0; 2 * CHUNK + 8];
    let mut len = 0;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        let mut marked = equal(word, b'"') | equal(word, b'\\');
        let (mut left, mut from) = (word, 0);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("escaping preserves UTF-8")
    }

    #[test]
    fn escapes_exactly_what_the_reference_escapes() {
        assert_eq!(
            escaped("\"\\\u{8}\u{c}\n\r\t\u{0}\u{b}\u{1f}"),
            r#"\"\\\b\f\n\r\t\u0000\u000b\u001f"#
        );
        assert_eq!(escaped("/<>&'\u{7f}é€"), "/<>&'\u{7f}é€");
        let long = "x".repeat(100) + "\"" + &"y".repeat(100);
        assert_eq!(escaped(&long), long.replace('"', "\\\""));
    }

    #[test]
    fn words_and_bytes_are_escaped_alike() {
        const BYTES: &[u8] = b"\"\"\"\\\\ab{}:,\x7f\x80\xa2\xdc\xff\n\x1f";
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            // The control characters at the end are rare: they select the bytewise loop.
            let bytes = &BYTES[..BYTES.len() - if seed % 4 == 0 { 0 } else { 2 }];
            let len = random.usize(..200);
            let text: Vec<u8> = (0..len)
                .map(|_| bytes[random.usize(..bytes.len())])
                .collect();
            let (mut by_word, mut by_byte) = (Vec::new(), Vec::new());
            escape(&text, &mut by_word);
            escape_bytewise(&text, &mut by_byte);
            assert_eq!(by_word, by_byte, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn ascii_json_escapes_characters_as_utf_16() {
        assert_eq!(
            ascii_json(r#""aé€😀\n""#),
            r#""a\u00e9\u20ac\ud83d\ude00\n""#
        );
    }
}

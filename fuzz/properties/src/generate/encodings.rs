//! An ASCII encoding of text beyond ASCII that the reference can process.
//!
//! The reference reads a request's bytes as Latin-1 and truncates characters of a reply to a byte,
//! so it does not show the answer to text beyond ASCII. It does show the answer to the same text
//! encoded: each such character is written as DEL and six hexadecimal digits. That is ASCII, is
//! printed unchanged, and sorts as the character does: after all other ASCII, by code point.

use super::json::Json;
use super::values::pick;
use fastrand::Rng;

const MASK: char = '\u{7f}';
const DIGITS: usize = 6;

/// Inserts encoded characters into some texts of `json`, including keys of maps with free names.
pub fn sprinkle(json: &mut Json, rng: &mut Rng) {
    match json {
        Json::Text(text) if is_free(text) && rng.u8(..3) == 0 => decorate(text, rng),
        Json::List(items) => items.iter_mut().for_each(|item| sprinkle(item, rng)),
        Json::Object(members) => members
            .iter_mut()
            .for_each(|(_, value)| sprinkle(value, rng)),
        _ => {}
    }
}

/// Whether `text` may be changed. Enumerated words, sizes and addresses may not; names of the pools
/// are recognized by their form.
fn is_free(text: &str) -> bool {
    [
        "example",
        "br0",
        "debootstrap",
        "/srv",
        "xenvg",
        "Zz9",
        "a b",
    ]
    .iter()
    .any(|part| text.contains(part))
}

fn decorate(text: &mut String, rng: &mut Rng) {
    let c = pick(
        rng,
        &['\u{80}', 'é', 'ÿ', 'Ā', '€', '\u{2028}', '\u{fffd}', '😀'],
    );
    let at = rng.usize(..=text.len());
    text.insert_str(at, &format!("{MASK}{:06x}", u32::from(c)));
}

/// Decodes the encoded characters of `text`.
pub fn decode(text: &str) -> String {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MASK) {
        decoded.push_str(before);
        rest = after;
        match after.get(..DIGITS).and_then(character) {
            Some(c) => {
                decoded.push(c);
                rest = &after[DIGITS..];
            }
            None => decoded.push(MASK),
        }
    }
    decoded + rest
}

/// Decodes one character. Upper-case digits do not count, so that a change of case invalidates the
/// encoding on both sides.
fn character(hex: &str) -> Option<char> {
    let code = u32::from_str_radix(hex, 16).ok()?;
    char::from_u32(code).filter(|_| hex == format!("{code:06x}"))
}

/// Decodes `text` where the reference's error messages quote a name in Haskell's `show` format.
pub fn decode_quoted(text: &str) -> String {
    const QUOTED: &str = r"\\DEL";
    let mut decoded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(QUOTED) {
        decoded.push_str(before);
        rest = after;
        match after.get(..DIGITS).and_then(character) {
            Some(c) => {
                rest = &after[DIGITS..];
                decoded += &format!(r"\\{}", u32::from(c));
                if rest.starts_with(|next: char| next.is_ascii_digit()) {
                    decoded.push_str(r"\\&");
                }
            }
            None => decoded.push_str(QUOTED),
        }
    }
    decode(&(decoded + rest))
}

/// `json` with all texts decoded, keys included.
pub fn decode_all(json: &Json) -> Json {
    match json {
        Json::Text(text) => Json::Text(decode(text)),
        Json::List(items) => Json::List(items.iter().map(decode_all).collect()),
        Json::Object(members) => Json::Object(
            members
                .iter()
                .map(|(key, value)| (decode(key), decode_all(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[test]
fn quoted_encodings_become_decimal_escapes() {
    assert_eq!(decode_quoted(r"a\\DEL0000e9b"), r"a\\233b");
    assert_eq!(decode_quoted(r"a\\DEL0000e95"), r"a\\233\\&5");
    assert_eq!(decode_quoted("a\\\\DEL \u{7f}0000e9"), "a\\\\DEL é");
}

#[test]
fn an_encoding_sorts_as_the_character_does() {
    let mut decoded = ["z", "~", "\u{7f}0000e9", "\u{7f}0020ac", "\u{7f}01f600"].map(decode);
    assert!(decoded.is_sorted());
    assert_eq!(decoded[2], "é");
    decoded[4].push('\u{7f}');
    assert_eq!(decode("\u{7f}01f600\u{7f}"), decoded[4]);
}

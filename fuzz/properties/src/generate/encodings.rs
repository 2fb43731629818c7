//! Text beyond ASCII in a disguise the reference can read.
//!
//! The reference reads a request's bytes as Latin-1 and cuts what it sends to a byte per character, so it cannot say what the
//! answer to text beyond ASCII is. It can say so about the same text in disguise: each such character written as DEL and six hex
//! digits, which is ASCII, is printed as it stands, and sorts as the character does: after all other ASCII, by code point.

use super::json::Json;
use super::values::pick;
use fastrand::Rng;

const MASK: char = '\u{7f}';
const DIGITS: usize = 6;

/// Puts disguised characters into some of the texts of `json`, keys of maps with free names included.
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

/// Whether `text` may be changed: words of a list, sizes and addresses may not, pools of names are recognised by their looks.
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

/// What `text` is without its disguise.
pub fn reveal(text: &str) -> String {
    let mut revealed = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MASK) {
        revealed.push_str(before);
        rest = after;
        match after.get(..DIGITS).and_then(character) {
            Some(c) => {
                revealed.push(c);
                rest = &after[DIGITS..];
            }
            None => revealed.push(MASK),
        }
    }
    revealed + rest
}

/// The character of a disguise; only lower-case digits are one, so that shouting undoes it on both sides.
fn character(hex: &str) -> Option<char> {
    let code = u32::from_str_radix(hex, 16).ok()?;
    char::from_u32(code).filter(|_| hex == format!("{code:06x}"))
}

/// `text` with the reference's error texts, which quote a name in Haskell's form, telling the characters behind the disguise.
pub fn reveal_quoted(text: &str) -> String {
    const QUOTED: &str = r"\\DEL";
    let mut revealed = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(QUOTED) {
        revealed.push_str(before);
        rest = after;
        match after.get(..DIGITS).and_then(character) {
            Some(c) => {
                rest = &after[DIGITS..];
                revealed += &format!(r"\\{}", u32::from(c));
                if rest.starts_with(|next: char| next.is_ascii_digit()) {
                    revealed.push_str(r"\\&");
                }
            }
            None => revealed.push_str(QUOTED),
        }
    }
    reveal(&(revealed + rest))
}

/// `json` with all its texts revealed, keys too.
pub fn reveal_all(json: &Json) -> Json {
    match json {
        Json::Text(text) => Json::Text(reveal(text)),
        Json::List(items) => Json::List(items.iter().map(reveal_all).collect()),
        Json::Object(members) => Json::Object(
            members
                .iter()
                .map(|(key, value)| (reveal(key), reveal_all(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[test]
fn quoted_disguises_become_decimal_escapes() {
    assert_eq!(reveal_quoted(r"a\\DEL0000e9b"), r"a\\233b");
    assert_eq!(reveal_quoted(r"a\\DEL0000e95"), r"a\\233\\&5");
    assert_eq!(reveal_quoted("a\\\\DEL \u{7f}0000e9"), "a\\\\DEL é");
}

#[test]
fn a_disguise_sorts_as_the_character_does() {
    let mut revealed = ["z", "~", "\u{7f}0000e9", "\u{7f}0020ac", "\u{7f}01f600"].map(reveal);
    assert!(revealed.is_sorted());
    assert_eq!(revealed[2], "é");
    revealed[4].push('\u{7f}');
    assert_eq!(reveal("\u{7f}01f600\u{7f}"), revealed[4]);
}

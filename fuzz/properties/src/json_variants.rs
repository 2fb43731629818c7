//! Variants of the same JSON: everything that RFC 8259 leaves to the writer.

use std::fmt::Write;

use crate::choices::Choices;

/// White space; usually none.
pub fn white(choices: &mut Choices<'_>) -> &'static str {
    choices.one_of(&["", "", "", " ", "\n", "\t\r ", "    \n  "])
}

/// `text` as a JSON string, with optional escapes. Characters that would need a surrogate pair are
/// never escaped.
pub fn string(choices: &mut Choices<'_>, text: &str) -> String {
    let style = choices.usize(0..4);
    let mut out = String::from('"');
    for c in text.chars() {
        let short = short_escape(c);
        let escaped = match style {
            0 => false,
            1 => !c.is_ascii(),
            2 => true,
            _ => choices.bool(),
        };
        if let Some(short) = short.filter(|_| !escaped || choices.bool()) {
            out.push_str(short);
        } else if c < ' ' || matches!(c, '"' | '\\') || (escaped && c <= '\u{ffff}') {
            let upper = choices.bool();
            let digits = match upper {
                true => format!("\\u{:04X}", u32::from(c)),
                false => format!("\\u{:04x}", u32::from(c)),
            };
            out.push_str(&digits);
        } else {
            out.push(c);
        }
    }
    out.push('"');
    out
}

fn short_escape(c: char) -> Option<&'static str> {
    Some(match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\t' => "\\t",
        '\r' => "\\r",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        _ => return None,
    })
}

/// A whole number of at most four digits, in any notation.
pub fn number(choices: &mut Choices<'_>, number: i64) -> String {
    match choices.usize(0..8) {
        0..4 => number.to_string(),
        4 => format!("{number}.0"),
        5 => format!("{}e-1", number * 10),
        6 => format!("{number}E+00"),
        _ => format!("{number}000.00e-3"),
    }
}

/// An object whose members are given as JSON, in a chosen order.
pub fn object(choices: &mut Choices<'_>, mut members: Vec<(String, String)>) -> String {
    for at in 1..members.len() {
        let with = choices.usize(0..at + 1);
        // The lowest choice keeps the order.
        members.swap(at, at - with);
    }
    let mut out = String::from("{");
    for (at, (key, value)) in members.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let spaces: [&str; 4] = std::array::from_fn(|_| white(choices));
        let key = string(choices, key);
        write!(
            out,
            "{comma}{}{key}{}:{}{value}{}",
            spaces[0], spaces[1], spaces[2], spaces[3]
        )
        .expect("writing to a string cannot fail");
    }
    out.push('}');
    out.push_str(white(choices));
    out
}

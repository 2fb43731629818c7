//! JSON with the notation of its numbers, and a writer that varies everything that RFC 8259 leaves
//! open.

use super::values::pick;
use fastrand::Rng;
use serde_json::Value;

/// A JSON value. Numbers keep their notation, and objects may have duplicate keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as text.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// Members in order.
    Object(Vec<(String, Self)>),
}

/// How to write a document: the frequency of optional white space and escapes, in percent.
#[derive(Clone, Copy)]
pub struct Style {
    /// Of the places where white space is allowed.
    pub space: u8,
    /// Of the characters that need no escape.
    pub escape: u8,
    /// Whether to write text beyond ASCII unescaped.
    pub utf8: bool,
}

impl Style {
    /// Without optional bytes.
    pub const COMPACT: Self = Self {
        space: 0,
        escape: 0,
        utf8: false,
    };

    /// Any style.
    pub fn any(rng: &mut Rng) -> Self {
        Self {
            space: pick(rng, &[0, 0, 10, 60]),
            escape: pick(rng, &[0, 0, 5, 40]),
            utf8: rng.bool(),
        }
    }
}

impl Json {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number in Rust's notation.
    pub fn number(number: impl ToString) -> Self {
        Self::Number(number.to_string())
    }

    /// An object of these members.
    pub fn object<const N: usize>(members: [(&str, Self); N]) -> Self {
        Self::Object(members.map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// The member `key` of an object.
    pub fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The value as text in `style`.
    pub fn write(&self, rng: &mut Rng, style: Style) -> String {
        let mut out = String::new();
        self.write_to(&mut out, rng, style);
        out
    }

    fn write_to(&self, out: &mut String, rng: &mut Rng, style: Style) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => write_text(text, out, rng, style),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(index, out, rng, style);
                    item.write_to(out, rng, style);
                }
                space(out, rng, style);
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    separate(index, out, rng, style);
                    write_text(key, out, rng, style);
                    space(out, rng, style);
                    out.push(':');
                    space(out, rng, style);
                    value.write_to(out, rng, style);
                }
                space(out, rng, style);
                out.push('}');
            }
        }
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::number(number),
            Value::String(text) => Self::text(text),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(key, value)| (key.clone(), value.into()))
                    .collect(),
            ),
        }
    }
}

fn separate(index: usize, out: &mut String, rng: &mut Rng, style: Style) {
    space(out, rng, style);
    if index > 0 {
        out.push(',');
        space(out, rng, style);
    }
}

fn space(out: &mut String, rng: &mut Rng, style: Style) {
    while rng.u8(..100) < style.space {
        out.push(pick(rng, b" \t\r\n") as char);
    }
}

fn write_text(text: &str, out: &mut String, rng: &mut Rng, style: Style) {
    out.push('"');
    for c in text.chars() {
        let raw = c >= ' ' && c != '"' && c != '\\' && (c.is_ascii() || style.utf8);
        if raw && rng.u8(..100) >= style.escape {
            out.push(c);
            continue;
        }
        let short = "\"\\/\u{8}\u{c}\n\r\t".find(c).filter(|_| rng.bool());
        if let Some(at) = short {
            out.extend(['\\', b"\"\\/bfnrt"[at] as char]);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let hex = if rng.bool() {
                    format!("\\u{unit:04x}")
                } else {
                    format!("\\u{unit:04X}")
                };
                out.push_str(&hex);
            }
        }
    }
    out.push('"');
}

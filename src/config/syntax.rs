//! Says what is wrong with a file that is not JSON, and at which character.
//!
//! This runs only after the fast path has refused a file: it reads the whole file again with a
//! strict parser, whose first error is the first in the file.

use serde::de::IgnoredAny;

use super::error::{Error, escaped};
use super::value::DEPTH_MAX;

/// The error for `source`, which is not an object of RFC 8259 JSON in UTF-8, or is nested too
/// deeply.
pub(super) fn error(source: &[u8]) -> Error {
    if let Some(what) = start_error(source) {
        return Error::new(what);
    }
    let not_utf8 = std::str::from_utf8(source)
        .err()
        .map(|error| error.valid_up_to());
    let malformed = serde_json::from_slice::<IgnoredAny>(source).err();
    match (malformed, not_utf8) {
        (Some(error), None) => json_error(source, &error),
        (Some(error), Some(at)) if error_offset(source, &error) < at => json_error(source, &error),
        (_, Some(at)) => at_offset(source, at, "the text is not UTF-8"),
        (None, None) => match too_deep(source) {
            Some(at) => at_offset(
                source,
                at,
                &format!("objects and arrays are nested more than {DEPTH_MAX} levels deep"),
            ),
            None => Error::new("the file is not valid JSON"),
        },
    }
}

/// What is wrong with the start of a file, if it does not start with a brace.
fn start_error(source: &[u8]) -> Option<String> {
    let zeros = source.iter().take_while(|byte| **byte == 0).count();
    let what = match source {
        [] => "the file is empty; restore it from another master candidate or a backup".to_owned(),
        [0, ..] => format!(
            "the file starts with {zeros} zero bytes, as after a crash before its content was \
             written; restore it from another master candidate or a backup"
        ),
        [0xef, 0xbb, 0xbf, ..] => {
            "the file starts with a byte order mark (BOM); remove these 3 bytes".to_owned()
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            "the file is UTF-16 text (it starts with a byte order mark); save it as UTF-8"
                .to_owned()
        }
        [b'{', ..] => return None,
        [first, ..] => {
            let first = escaped(&String::from_utf8_lossy(&[*first]));
            format!(
                "line 1, column 1: the file must start with `{{`, without white space before it; \
                 found '{first}'"
            )
        }
    };
    Some(what)
}

/// The error of the strict parser, with its place and what is there.
fn json_error(source: &[u8], error: &serde_json::Error) -> Error {
    let at = error_offset(source, error);
    if error.is_eof() {
        return at_offset(
            source,
            source.len(),
            "the file ends in the middle (truncated?)",
        );
    }
    let text = error.to_string();
    let what = text.split(" at line").next().unwrap_or_default();
    let found = match what {
        "invalid escape" => escape_at(&source[at..]),
        _ => word(&source[at..]),
    };
    let what = match (what, found.as_str()) {
        ("trailing characters", _) => format!("text after the end of the JSON object: {found}"),
        (_, "True" | "False" | "None") => {
            let json = if found == "None" {
                "null"
            } else {
                &found.to_ascii_lowercase()
            };
            format!("not valid JSON: found {found}, as Python writes it; JSON has {json}")
        }
        (_, "NaN" | "Infinity" | "-Infinity" | "inf" | "nan") => {
            format!("not valid JSON: {found} is not a number in JSON")
        }
        _ => format!("not valid JSON: {what}, found '{found}'"),
    };
    at_offset(source, at, &what)
}

/// The offset of the byte that the strict parser complains about.
fn error_offset(source: &[u8], error: &serde_json::Error) -> usize {
    let line_start = memchr::memchr_iter(b'\n', source)
        .nth(error.line().wrapping_sub(2))
        .map_or(0, |newline| newline + 1);
    // Columns count bytes from 1. A control character has not been consumed, unlike any other byte
    // that an error is about.
    let text = error.to_string();
    let consumed = !text.starts_with("control character");
    let at = (line_start + error.column()).saturating_sub(usize::from(consumed));
    let at = at.min(source.len());
    if text.starts_with("invalid escape") {
        // The parser stops after the bytes that should have been an escape.
        return memchr::memrchr(b'\\', &source[..at]).unwrap_or(at);
    }
    at
}

/// The text that should have been an escape, from its backslash.
fn escape_at(text: &[u8]) -> String {
    let len = if text.get(1) == Some(&b'u') { 6 } else { 2 };
    let len = len.min(memchr::memchr(b'"', text).unwrap_or(len)).max(2);
    String::from_utf8_lossy(&text[..len.min(text.len())]).into_owned()
}

/// The word at the start of `text`, or its first character, with escapes.
fn word(text: &[u8]) -> String {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let len = text.iter().take_while(|byte| is_word(byte)).count();
    let word = String::from_utf8_lossy(&text[..len.clamp(0, 40)]);
    if len > 0 {
        return word.into_owned();
    }
    let first = String::from_utf8_lossy(&text[..text.len().min(4)]);
    escaped(&first.chars().take(1).collect::<String>())
}

/// The offset of the first bracket that is nested deeper than [`DEPTH_MAX`].
fn too_deep(source: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut here = 0;
    while here < source.len() {
        match source[here] {
            b'"' => {
                here = crate::json::string_end(source, here);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Some(here);
        }
        here += 1;
    }
    None
}

/// An error with the line and column of the character at `offset` (both count from 1).
fn at_offset(source: &[u8], offset: usize, what: &str) -> Error {
    let before = &source[..offset.min(source.len())];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    let continues = |byte: &&u8| (**byte & 0xc0) != 0x80;
    let column = 1 + before[line_start..].iter().filter(continues).count();
    Error::new(format!("line {line}, column {column}: {what}"))
}

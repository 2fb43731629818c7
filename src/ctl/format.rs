//! Text formats that several commands share.

use std::time::Duration;

/// A time in milliseconds, such as `0.41 ms`.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// The version of a configuration: 3000000 is `3.0.0`.
///
/// Source: `Ganeti.Version`, `BuildVersion` of `lib/_constants.py`.
pub(super) fn version(number: i64) -> String {
    format!(
        "{}.{}.{}",
        number / 1_000_000,
        number / 10_000 % 100,
        number % 10_000
    )
}

/// An I/O error's text without the number that the standard library appends.
pub(super) fn reason(why: &str) -> String {
    let text = why.split(" (os error").next().unwrap_or(why);
    if text == "Connection refused" {
        return "connection refused, no daemon listens there".to_owned();
    }
    text.to_owned()
}

/// `value` as one line of JSON.
pub(super) fn json_line(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(value).expect("text and numbers are JSON");
    escape_controls(&text) + "\n"
}

/// Escapes the control characters that JSON allows in strings: DEL and C1, which a terminal may
/// interpret.
pub(super) fn escape_controls(json: &str) -> String {
    let is_control = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(is_control) {
        return json.to_owned();
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_control(c) {
            text += &format!("\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_ganeti_writes_them() {
        assert_eq!(version(3_000_000), "3.0.0");
        assert_eq!(version(2_160_001), "2.16.1");
    }

    #[test]
    fn json_has_no_control_characters() {
        let line = json_line(&"a\n\u{1b}\u{7f}\u{9b}b");
        assert_eq!(line, "\"a\\n\\u001b\\u007f\\u009bb\"\n");
    }
}

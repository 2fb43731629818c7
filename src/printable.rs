//! Escapes control characters in text that is printed on one line: log lines, table cells, error
//! answers. Names from files and from the network may contain anything.
#![forbid(unsafe_code)]

/// Returns `text` with each control character as an escape (`\n`, `\u{1b}`).
///
/// The result is one line and sends no commands to a terminal.
pub(crate) fn printable(text: &str) -> String {
    printable_start(text, usize::MAX)
}

/// As [`printable`], for at most the first `chars_max` characters of `text`; `...` marks a cut.
pub(crate) fn printable_start(text: &str, chars_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(chars_max));
    for (index, c) in text.chars().enumerate() {
        if index == chars_max {
            line.push_str("...");
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            printable("a\nb\r\x1b[1mü\u{85}\t\0"),
            "a\\nb\\r\\u{1b}[1mü\\u{85}\\t\\u{0}"
        );
    }

    #[test]
    fn a_long_text_is_cut_and_marked() {
        assert_eq!(printable_start("éé\n", 3), "éé\\n");
        assert_eq!(printable_start("éé\n.", 3), "éé\\n...");
    }
}

//! JSON values as YAML.
//!
//! Strings keep the quotes and escapes of JSON, which YAML 1.2 reads as such, so that no string is
//! mistaken for another type. Only the block structure is YAML's own.

use std::fmt::Write as _;

use serde_json::Value;

use super::format::escape_controls;

/// A YAML document.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_value(&mut text, value, 0),
        Value::Array(list) if !list.is_empty() => write_value(&mut text, value, 0),
        scalar => text = scalar.to_string() + "\n",
    }
    escape_controls(&text)
}

/// Writes a value that starts on its own line.
fn write_value(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) => {
            for (key, member) in map {
                let _ = write!(text, "{:indent$}{}:", "", Value::from(key.as_str()));
                write_member(text, member, indent + 2);
            }
        }
        Value::Array(list) => {
            for member in list {
                let _ = write!(text, "{:indent$}-", "");
                write_member(text, member, indent + 2);
            }
        }
        scalar => _ = writeln!(text, "{:indent$}{scalar}", ""),
    }
}

/// Writes a value after a key or a dash: on the same line, or as a block on the next ones.
fn write_member(text: &mut String, value: &Value, indent: usize) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        write_value(text, value, indent);
    } else {
        let _ = writeln!(text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_blocks_of_json_scalars() {
        let value = json!({
            "name": "node1", "no": "no", "number": 1.5, "none": null,
            "list": ["a", {"b": []}, ["c"]], "empty": {},
        });
        assert_eq!(
            document(&value),
            "\"name\": \"node1\"\n\"no\": \"no\"\n\"number\": 1.5\n\"none\": null\n\
             \"list\":\n  - \"a\"\n  -\n    \"b\": []\n  -\n    - \"c\"\n\"empty\": {}\n"
        );
        assert_eq!(document(&json!("a\u{9b}")), "\"a\\u009b\"\n");
        assert_eq!(document(&json!([])), "[]\n");
    }
}

//! The printed configuration preserves the file: nothing is lost, and no text, flag or simple
//! number changes.
//!
//! Defaults are not compared, because they are not in the file. Fields whose notation the reference
//! changes must be present, but their values are not compared.

use serde_json::Value;

use crate::generate::Json;

/// Fields that are printed in another notation: sizes, IPv4 addresses, job ids, filters, and times,
/// which are rounded.
const RENOTATED: &[&str] = &[
    "minmem",
    "maxmem",
    "network",
    "gateway",
    "watermark",
    "predicates",
    "ctime",
    "mtime",
];

/// Fields that some objects omit when they are empty.
const HIDDEN: &[&str] = &["hv_state_static", "disk_state_static"];

/// Integers of at most this many digits are printed unchanged in every field.
const PLAIN_DIGITS_MAX: usize = 15;

/// How `printed` differs from `file`; `None` if it preserves it.
pub fn lost(file: &Json, printed: Option<&Value>) -> Option<String> {
    let what = || Some(format!("{file:?} is printed as {printed:?}"));
    match (file, printed) {
        // Nothing, or the default.
        (Json::Null, _) => None,
        (Json::Bool(flag), Some(printed)) if printed == flag => None,
        (Json::Text(text), Some(printed)) if printed == text => None,
        // Numbers beyond the range of doubles are parsed as null.
        (Json::Number(number), Some(Value::Number(_) | Value::Null)) if !is_plain(number) => None,
        (Json::Number(number), Some(Value::Number(printed))) if *number == printed.to_string() => {
            None
        }
        // The reference reads an array of characters as a string.
        (Json::List(characters), Some(Value::String(text))) if is_spelled(characters, text) => None,
        (Json::List(items), Some(Value::Array(printed))) if items.len() == printed.len() => items
            .iter()
            .zip(printed)
            .find_map(|(item, printed)| lost(item, Some(printed))),
        (Json::Object(members), Some(Value::Object(printed))) => {
            members.iter().find_map(|(key, value)| {
                lost_member(file, key, value, printed.get(key)).map(|why| format!("{key:?}: {why}"))
            })
        }
        _ => what(),
    }
}

fn lost_member(object: &Json, key: &str, value: &Json, printed: Option<&Value>) -> Option<String> {
    let is_forthcoming = object.member("forthcoming") == Some(&Json::Bool(true));
    let has_id = |id: Option<&Json>| id.is_some_and(|id| *id != Json::Null);
    let may_vanish = match key {
        // Only `true` has a meaning.
        "forthcoming" => *value != Json::Bool(true),
        "dev_type" => is_forthcoming && !has_id(object.member("logical_id")),
        _ => HIDDEN.contains(&key) && *value == Json::Object(Vec::new()),
    };
    match (value, printed) {
        // Outside of records it is printed unchanged.
        (_, Some(printed)) if key == "forthcoming" && may_vanish => {
            let is_free = lost(value, Some(printed)).is_none() && *printed != true;
            (!is_free).then(|| format!("{value:?} makes nothing forthcoming"))
        }
        (_, None) if may_vanish => None,
        (Json::List(tags), Some(Value::Array(set))) if key == "tags" => tags
            .iter()
            .find(|tag| !set.iter().any(|one| lost(tag, Some(one)).is_none()))
            .map(|tag| format!("{tag:?} is lost")),
        (_, Some(_)) if RENOTATED.contains(&key) => None,
        _ => lost(value, printed),
    }
}

/// Whether `characters` are the characters of `text`.
fn is_spelled(characters: &[Json], text: &str) -> bool {
    let each = text.chars().map(Json::text);
    each.eq(characters.iter().cloned())
}

/// Whether every field and every free-form value prints `number` unchanged.
fn is_plain(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    number != "-0" && digits.len() <= PLAIN_DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit())
}

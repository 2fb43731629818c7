//! What a file says is what is printed: nothing is lost, and no text, flag or plain number changes on the way.
//!
//! Defaults are not looked at, as they are not in the file; nor are the fields whose spelling the reference changes (object model,
//! 4.3, 4.9 and 4.10), beyond their being there.

use serde_json::Value;

use crate::generate::Json;

/// Fields that are printed in another form than they are written: sizes, IPv4 addresses, job ids, filters, and times, which are rounded.
const RESPELLED: &[&str] = &[
    "minmem",
    "maxmem",
    "network",
    "gateway",
    "watermark",
    "predicates",
    "ctime",
    "mtime",
];

/// Fields that are not printed if they are empty, in some of the objects that have them.
const HIDDEN: &[&str] = &["hv_state_static", "disk_state_static"];

/// Integers of at most so many digits are printed as they are written, whatever field they stand in.
const PLAIN_DIGITS_MAX: usize = 15;

/// Why `printed` does not say what `file` says; `None` if it does.
pub fn lost(file: &Json, printed: Option<&Value>) -> Option<String> {
    let what = || Some(format!("{file:?} is printed as {printed:?}"));
    match (file, printed) {
        // No value, or the default's.
        (Json::Null, _) => None,
        (Json::Bool(flag), Some(printed)) if printed == flag => None,
        (Json::Text(text), Some(printed)) if printed == text => None,
        // Printed numbers beyond a double are read as null.
        (Json::Number(number), Some(Value::Number(_) | Value::Null)) if !is_plain(number) => None,
        (Json::Number(number), Some(Value::Number(printed))) if *number == printed.to_string() => {
            None
        }
        // A string to the reference: an array of characters.
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
        // Only `true` means anything.
        "forthcoming" => *value != Json::Bool(true),
        "dev_type" => is_forthcoming && !has_id(object.member("logical_id")),
        _ => HIDDEN.contains(&key) && *value == Json::Object(Vec::new()),
    };
    match (value, printed) {
        // Printed as it is, in what is no record; and never as what it does not mean.
        (_, Some(printed)) if key == "forthcoming" && may_vanish => {
            let is_free = lost(value, Some(printed)).is_none() && *printed != true;
            (!is_free).then(|| format!("{value:?} makes nothing forthcoming"))
        }
        (_, None) if may_vanish => None,
        (Json::List(tags), Some(Value::Array(set))) if key == "tags" => tags
            .iter()
            .find(|tag| !set.iter().any(|one| lost(tag, Some(one)).is_none()))
            .map(|tag| format!("{tag:?} is lost")),
        (_, Some(_)) if RESPELLED.contains(&key) => None,
        _ => lost(value, printed),
    }
}

/// Whether `characters` are those of `text`, one by one.
fn is_spelled(characters: &[Json], text: &str) -> bool {
    let each = text.chars().map(Json::text);
    each.eq(characters.iter().cloned())
}

/// Whether every field and every free value prints `number` as it is.
fn is_plain(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    number != "-0" && digits.len() <= PLAIN_DIGITS_MAX && digits.bytes().all(|b| b.is_ascii_digit())
}

//! Paths of `query config`: names in place of UUIDs, and how far a path leads.

use serde_json::Value;

use crate::client::{AnsweredError, ConfdClient, Error, Instance};

/// The sections whose objects have a name and are found by UUID.
const SECTIONS: [&str; 5] = ["nodes", "instances", "nodegroups", "networks", "disks"];

/// The keys of the whole configuration, which cannot be queried as one value.
///
/// Source: `ConfigData` of `Ganeti.Objects`.
const TOP: [&str; 12] = [
    "cluster",
    "ctime",
    "disks",
    "filters",
    "instances",
    "maintenance",
    "mtime",
    "networks",
    "nodegroups",
    "nodes",
    "serial_no",
    "version",
];

/// Those of them that are a number, not an object.
const TOP_SCALARS: [&str; 4] = ["ctime", "mtime", "serial_no", "version"];

/// The length of a UUID as text.
const UUID_LEN: usize = 36;

/// Keys that are listed for one object.
const KEYS_MAX: usize = 20;

/// Prefixes that are tried for one path.
const PREFIXES_MAX: usize = 16;

/// The path with the UUID of the object that it names; `None` if it names none, or the list of
/// objects cannot be had.
pub(super) fn with_uuid(client: &ConfdClient, path: &str) -> Option<String> {
    let mut parts = path.strip_prefix('/')?.splitn(3, '/');
    let (section, name) = (parts.next()?, parts.next()?);
    if !SECTIONS.contains(&section) || name.len() == UUID_LEN {
        return None;
    }
    let uuid = match client.config(&format!("/{section}")) {
        Ok(objects) => uuid_of(&objects, name)?.to_owned(),
        Err(Error::Answered(AnsweredError::Internal)) => uuid_by_queries(client, section, name)?,
        Err(_) => return None,
    };
    let rest = parts
        .next()
        .map_or_else(String::new, |rest| format!("/{rest}"));
    Some(format!("/{section}/{uuid}{rest}"))
}

/// As [`uuid_of`], if all objects are too many for a datagram: the answers about a node or an
/// instance have UUIDs. `None` for a node without primary instances, and for an instance whose
/// disks are on no node (such as rbd).
fn uuid_by_queries(client: &ConfdClient, section: &str, name: &str) -> Option<String> {
    match section {
        "nodes" => {
            let on_node = client.node_instances(name).ok()?;
            on_node.primary.into_iter().next()?.primary_node
        }
        "instances" => {
            let disks = client.instance_disks(name).ok()?;
            let node = disks.first()?.nodes.first()?;
            let on_node = client.node_instances(node).ok()?;
            let mut instances = on_node.primary.into_iter().chain(on_node.secondary);
            let is_it = |it: &Instance| it.name.as_deref().is_some_and(|it| is_named(it, name));
            Some(instances.find(is_it)?.uuid)
        }
        _ => None,
    }
}

/// Whether an object's name is `name`, or starts with it and a dot.
fn is_named(object: &str, name: &str) -> bool {
    let rest = object.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The paths that continue a path that is being typed, one level deeper. Those of objects and lists
/// end with a slash.
pub(in crate::ctl) fn below(client: &ConfdClient, typed: &str) -> Vec<String> {
    let Some(end) = typed.rfind('/') else {
        return vec!["/".to_owned()];
    };
    let prefix = &typed[..end];
    let path = |key: &str, is_leaf| format!("{prefix}/{key}{}", if is_leaf { "" } else { "/" });
    if prefix.is_empty() {
        return TOP
            .iter()
            .map(|key| path(key, TOP_SCALARS.contains(key)))
            .collect();
    }
    let uuid_path = with_uuid(client, prefix).unwrap_or_else(|| prefix.to_owned());
    let is_leaf = |value: &Value| !matches!(value, Value::Object(_) | Value::Array(_));
    match client.config(&uuid_path) {
        Ok(Value::Object(map)) => {
            let name = |(key, value): (&String, &Value)| {
                let is_section = SECTIONS.contains(&prefix.trim_start_matches('/'));
                let name = value["name"].as_str().filter(|_| is_section);
                path(name.unwrap_or(key), is_leaf(value))
            };
            map.iter().map(name).collect()
        }
        Ok(Value::Array(list)) => {
            let elements = list.iter().enumerate();
            elements
                .map(|(index, value)| path(&index.to_string(), is_leaf(value)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The UUID of the object with this name, or with a name that starts with it and a dot.
fn uuid_of<'v>(objects: &'v Value, name: &str) -> Option<&'v str> {
    let objects = objects.as_object()?;
    let named = |test: &dyn Fn(&str) -> bool| {
        let mut found = objects
            .iter()
            .filter(|(_, object)| object["name"].as_str().is_some_and(test));
        let first = found.next()?;
        found.next().is_none().then_some(first.0.as_str())
    };
    named(&|it| it == name).or_else(|| named(&|it| is_named(it, name)))
}

/// Why a path leads nowhere: the longest prefix that exists, and what is there. `None` if that
/// cannot be found out.
pub(super) fn explain(client: &ConfdClient, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("path {path:?} must start with a slash"));
    }
    let uuid_path = with_uuid(client, path).unwrap_or_else(|| path.to_owned());
    let ends: Vec<usize> = uuid_path.match_indices('/').map(|(at, _)| at).collect();
    for &end in ends.iter().rev().take(PREFIXES_MAX) {
        let prefix = &uuid_path[..end];
        let missing = uuid_path[end + 1..].split('/').next().unwrap_or_default();
        let there = match client.config(prefix) {
            _ if prefix.is_empty() => listed(TOP.into_iter()),
            Ok(value) => contents(&value),
            Err(Error::Answered(AnsweredError::Internal)) => {
                return Some(format!(
                    "path {path:?}: all of {prefix} does not fit a datagram, so {missing:?} was not \
                     found there; give its UUID, or a deeper path"
                ));
            }
            Err(Error::Answered(_)) => continue,
            Err(_) => return None,
        };
        let prefix = if prefix.is_empty() { "/" } else { prefix };
        return Some(format!(
            "path {path:?}: there is no {missing:?} in {prefix}, which has {there}"
        ));
    }
    None
}

/// What a value contains, in one line.
fn contents(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "no keys".to_owned(),
        Value::Object(map) => listed(map.iter().map(|(key, member)| {
            // Objects that are found by UUID are better known by name.
            member["name"].as_str().unwrap_or(key)
        })),
        Value::Array(list) => format!("{} elements, numbered from 0", list.len()),
        scalar => format!("the value {scalar}"),
    }
}

fn listed<'k>(keys: impl Iterator<Item = &'k str>) -> String {
    let keys: Vec<&str> = keys.collect();
    let shown = keys[..keys.len().min(KEYS_MAX)].join(", ");
    match keys.len().saturating_sub(KEYS_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_must_be_unambiguous() {
        let objects = json!({
            "u1": {"name": "node1.example.com"},
            "u2": {"name": "node2.example.com"},
            "u3": {"name": "node2.example.org"},
        });
        assert_eq!(uuid_of(&objects, "node1"), Some("u1"));
        assert_eq!(uuid_of(&objects, "node2.example.com"), Some("u2"));
        for name in ["node2", "node", "node3", ""] {
            assert_eq!(uuid_of(&objects, name), None, "{name}");
        }
    }

    #[test]
    fn contents_are_short() {
        let many: serde_json::Map<_, _> = (0..30).map(|n| (format!("k{n}"), json!(n))).collect();
        assert!(contents(&Value::Object(many)).ends_with(" and 10 more"));
        assert_eq!(
            contents(&json!({"u": {"name": "node1"}, "b": 1})),
            "node1, b"
        );
        assert_eq!(contents(&json!([1])), "1 elements, numbered from 0");
        assert_eq!(contents(&json!("x")), "the value \"x\"");
        assert_eq!(contents(&json!({})), "no keys");
    }
}

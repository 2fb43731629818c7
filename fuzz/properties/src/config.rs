//! Any bytes as `config.data`: either an error that helps an administrator, or a snapshot that
//! answers every query about every name in it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ganeti_confd::config::Error;
use ganeti_confd::snapshot::Snapshot;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::datagram::Worker;
use crate::pointer::served_snapshot;
use crate::reference_parser;
use crate::sample::{KEY, NOW};
use crate::signed_request::enveloped;

/// The largest number of names to query; larger files add little.
const NAMES_MAX: usize = 12;

/// The maximum length of an error or warning. They are log lines, which must not quote unbounded
/// text.
const ERROR_BYTES_MAX: usize = 2_400;

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// Loads `bytes` and queries the snapshot.
pub fn check(bytes: &[u8]) {
    let loaded = match Snapshot::load(bytes) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(!error.what.is_empty() && error.to_string().len() <= ERROR_BYTES_MAX);
            assert!(
                error.path.is_empty() || error.path.starts_with('/'),
                "{error}"
            );
            assert!(has_place(&error), "an error without a place: {error}");
            return;
        }
    };
    for warning in &loaded.warnings {
        assert!(warning.len() <= ERROR_BYTES_MAX, "{warning}");
    }
    // Skipping a value applies the whole grammar, but neither the range of numbers, nor the pairing
    // of surrogates, nor a limit on depth.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        panic!("a file that is not JSON is served: {error}");
    }
    assert!(
        std::str::from_utf8(bytes).is_ok(),
        "a file that is not UTF-8 is served"
    );
    // Numbers beyond the range of doubles, unpaired surrogates and deep nesting are served, but
    // cannot be read here.
    let Ok(file) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let summary = loaded
        .snapshot
        .summary()
        .expect("a loaded snapshot has a summary");
    let count = |section: &str| file[section].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(summary.nodes, count("nodes"));
    assert_eq!(summary.instances, count("instances"));
    let served = served_snapshot(loaded.snapshot);
    let names = names(&file);
    WORKER.with_borrow_mut(|worker| {
        for (kind, query) in queries(&names) {
            let message = json!({ "protocol": 1, "type": kind, "query": query, "rsalt": "R" });
            let request = enveloped(&NOW.to_string(), &message.to_string());
            let reply = worker.respond(&request, NOW, &served);
            reference_parser::assert_reply(reply.expect("signed and fresh"), "R", KEY);
        }
    });
}

/// Whether the error names a place: a path, a line and column, a key of the top level, or the whole
/// file.
pub(crate) fn has_place(error: &Error) -> bool {
    let what = &error.what;
    !error.path.is_empty()
        || what.starts_with("the file ")
        || (what.contains("line ") && what.contains("column "))
        || what.contains('\'')
}

/// The file's names of nodes, instances, addresses and links, and paths to them.
fn names(file: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for section in ["nodes", "instances"] {
        for (key, object) in file[section].as_object().into_iter().flatten() {
            let nic = &object["nics"][0];
            let fields = [
                &object["name"],
                &object["uuid"],
                &object["primary_ip"],
                &nic["ip"],
                &nic["nicparams"]["link"],
            ];
            names.extend(
                fields
                    .into_iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned),
            );
            names.insert(key.clone());
            names.insert(format!("/{section}/{key}"));
        }
    }
    names
}

fn queries(names: &BTreeSet<String>) -> Vec<(u8, Value)> {
    let mut queries: Vec<_> = (0..12).map(|kind| (kind, Value::Null)).collect();
    for path in [
        "/cluster",
        "/nodes",
        "/instances",
        "/disks",
        "/filters",
        "/serial_no",
    ] {
        queries.push((10, json!(path)));
    }
    for name in names.iter().take(NAMES_MAX) {
        queries.extend([1, 6, 7, 8, 9, 10].map(|kind| (kind, json!(name))));
        queries.push((2, json!({ "1": name })));
        queries.push((2, json!({ "0": name, "2": [name, "x"] })));
        queries.push((3, json!({ "3": [0, 1, 2] })));
    }
    queries
}

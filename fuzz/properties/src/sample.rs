//! The key, clock and configuration that datagrams are checked with.

use std::sync::{Arc, LazyLock};

use ganeti_confd::protocol::Key;
use ganeti_confd::responder::Served;
use ganeti_confd::snapshot::Snapshot;
use serde_json::Value;

/// The bytes of `hmac.key`.
pub const KEY: &[u8] = b"testkey123";

/// The daemon's clock, in seconds since the epoch.
pub const NOW: u64 = 1_795_354_392;

/// A configuration with at least one object for every query.
pub const CONFIG_DATA: &[u8] = include_bytes!("../../../tests/data/configs/rich.json");

/// [`KEY`] as a prepared key.
pub fn key() -> Key {
    Key::new(KEY).expect("the key has bytes")
}

/// [`KEY`] and [`CONFIG_DATA`].
pub fn served() -> &'static Served {
    static SERVED: LazyLock<Served> = LazyLock::new(|| Served {
        key: Arc::new(key()),
        snapshot: Arc::new(
            Snapshot::load(CONFIG_DATA)
                .expect("the sample loads")
                .snapshot,
        ),
    });
    &SERVED
}

/// All short texts of the sample, keys included: names, addresses, links and others.
pub fn words() -> &'static [String] {
    static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut words = Vec::new();
        walk(&sample(), "", &mut |key, value, _| {
            words.extend(key.map(str::to_owned));
            words.extend(value.as_str().map(str::to_owned));
        });
        words.sort();
        words.dedup();
        words
    });
    &WORDS
}

/// The paths to all values of the sample.
pub fn paths() -> &'static [String] {
    static PATHS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let mut paths = Vec::new();
        walk(&sample(), "", &mut |_, _, path| paths.push(path.to_owned()));
        paths
    });
    &PATHS
}

fn sample() -> Value {
    serde_json::from_slice(CONFIG_DATA).expect("the sample is JSON")
}

/// Calls `each` for everything in `value`, with its key if it has one, its value and its path.
fn walk(value: &Value, path: &str, each: &mut impl FnMut(Option<&str>, &Value, &str)) {
    let mut step = |key: Option<&str>, token: &str, value: &Value| {
        let path = format!("{path}/{}", token.replace('~', "~0").replace('/', "~1"));
        each(key, value, &path);
        walk(value, &path, each);
    };
    match value {
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                step(None, &at.to_string(), value);
            }
        }
        Value::Object(members) => {
            for (key, value) in members {
                step(Some(key), key, value);
            }
        }
        _ => {}
    }
}

//! The key, the clock and the configuration that datagrams are held against.

use std::sync::{Arc, LazyLock};

use ganeti_confd::protocol::Key;
use ganeti_confd::responder::Served;
use ganeti_confd::snapshot::Snapshot;

/// The bytes of `hmac.key`.
pub const KEY: &[u8] = b"testkey123";

/// The daemon's clock, in seconds since the epoch.
pub const NOW: u64 = 1_795_354_392;

/// A configuration with one of everything that a query can ask for.
pub const CONFIG_DATA: &[u8] = include_bytes!("../../../tests/data/configs/rich.json");

/// [`KEY`], ready to sign.
pub fn key() -> Key {
    Key::new(KEY).expect("the key has bytes")
}

/// [`CONFIG_DATA`] under [`KEY`].
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

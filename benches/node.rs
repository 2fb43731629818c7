//! A node's files for a daemon under test: a `GANETI_ROOTDIR` with a configuration and a key.

use std::net::{SocketAddr, UdpSocket};

use tempfile::TempDir;

pub(crate) const KEY: &[u8] = b"a key for benchmarks";

/// Ganeti's own daemon (Debian: `ganeti-haskell-3.0`).
#[allow(dead_code, reason = "not every bench uses it")]
pub(crate) const REFERENCE: &str = "/usr/lib/ganeti/3.0/usr/sbin/ganeti-confd";

/// Creates the directory, which is removed when dropped.
pub(crate) fn root(configuration: &str) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    for directory in ["var/lib/ganeti", "var/run/ganeti", "var/log/ganeti"] {
        std::fs::create_dir_all(root.path().join(directory)).expect("a directory");
    }
    let data = root.path().join("var/lib/ganeti");
    std::fs::write(data.join("config.data"), configuration).expect("a file");
    std::fs::write(data.join("hmac.key"), KEY).expect("a file");
    root
}

/// A free loopback address.
pub(crate) fn free_address() -> SocketAddr {
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    free.expect("loopback has a port")
}

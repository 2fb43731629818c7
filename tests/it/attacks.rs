//! Attacks and bad networks: a daemon under expensive, replayed or misdirected traffic, or on a
//! slow or narrow path, with a legitimate client beside it.
//!
//! Every test runs the daemon itself, with both engines. Except on loopback, daemon and client are
//! in network namespaces that the test makes. There are no absolute limits on time: latencies are
//! compared within one run.

mod client;
mod filters;
mod groups;
mod memory;
mod path_mtu;
mod refused_calls;
mod replays;
mod server;
mod slow_datagrams;
mod slow_link;

use std::thread;

use crate::common::Kind;
use crate::common::namespace::{Entered, Namespace};

const KEY: &[u8] = b"attacks";
const PORT: u16 = 1814;

/// This project's engines, as far as this machine has them.
fn engines() -> Vec<Kind> {
    let mut engines = vec![Kind::Uring, Kind::Mmsg];
    engines.retain(Kind::is_available);
    engines
}

/// The size of a daemon's send buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum SendBuffer {
    /// The size that Linux gives a socket.
    Default,
    /// The size that the daemon asks for.
    AsRequested,
}

impl SendBuffer {
    const ALL: [Self; 2] = [Self::Default, Self::AsRequested];

    /// Determines the size for daemons that this thread starts.
    fn apply(self) {
        if let Self::Default = self {
            filters::keep_default_send_buffer();
        }
    }
}

/// Runs `test` with each engine, at the same time.
fn with_each_engine(test: impl Fn(Kind) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for kind in engines() {
            scope.spawn(move || test(kind));
        }
    });
}

/// The server's namespace, and this thread in the client's. Both are on one link, with the
/// addresses 10.77.0.1 and 10.77.0.2 in 10.77.0.0/16.
struct Link {
    server: Namespace,
    _entered: Entered,
}

impl Link {
    fn new() -> Self {
        let server = Namespace::new().expect("namespaces are available");
        let client = Namespace::new().expect("namespaces are available");
        let path = server.path();
        client.ip(&format!(
            "link set lo up\n\
             link add eth0 type veth peer name eth0 netns {path}\n\
             address add 10.77.0.2/16 dev eth0\n\
             address add 2001:db8::2/64 dev eth0 nodad\n\
             link set eth0 up\n"
        ));
        server.ip("link set lo up\n\
             address add 10.77.0.1/16 broadcast 10.77.255.255 dev eth0\n\
             address add 2001:db8::1/64 dev eth0 nodad\n\
             link set eth0 up\n");
        Self {
            server,
            _entered: client.enter(),
        }
    }
}

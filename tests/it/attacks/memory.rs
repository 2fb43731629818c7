//! Long garbage must not keep memory resident.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use ganeti_confd::demo;

use super::server::Server;
use super::{PORT, with_each_engine};
use crate::common::namespace::{IP, Namespace, namespaces_available};

/// Growth of resident memory that may remain, for each worker.
const KIB_PER_WORKER_MAX: u64 = 4_096;
const WORKERS: u64 = 4;

/// Sockets of the flood: the kernel distributes them among the workers by their port.
const SOCKETS: usize = 64;

/// Duration of the flood.
const FLOOD: Duration = Duration::from_millis(1_500);

/// Timeout for the memory to be returned.
const RETURN_TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn memory_is_returned_after_long_garbage() {
    if !namespaces_available(&[IP]) {
        return;
    }
    with_each_engine(|kind| {
        let namespace = Namespace::new().expect("namespaces are available");
        namespace.ip("link set lo up\n");
        let config = demo::configuration(3, 10, 1);
        let localhost = [127, 0, 0, 1].into();
        let workers = WORKERS.to_string();
        let options = ["--workers", workers.as_str()];
        let server = Server::start(&namespace, kind, &config, localhost, &options);
        let _entered = namespace.enter();
        let before = server.resident_kib();
        let garbage = vec![b'x'; 61_000];
        let sockets: Vec<_> = (0..SOCKETS)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                let address = SocketAddr::from(([127, 0, 0, 1], PORT));
                socket.connect(address).expect("loopback");
                socket
            })
            .collect();
        let end = Instant::now() + FLOOD;
        while Instant::now() < end {
            for socket in &sockets {
                // A full queue is part of a flood.
                let _ = socket.send(&garbage);
            }
        }
        let during = server.resident_kib();
        let deadline = Instant::now() + RETURN_TIMEOUT;
        let mut after = during;
        while after > before + WORKERS * KIB_PER_WORKER_MAX && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(100));
            after = server.resident_kib();
        }
        let line = format!("{kind:?}: {before} KiB before, {during} during, {after} after");
        println!("{line}");
        assert!(
            after <= before + WORKERS * KIB_PER_WORKER_MAX,
            "{line}\n{}",
            server.log()
        );
    });
}

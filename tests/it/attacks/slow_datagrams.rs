//! Unauthenticated datagrams that are expensive for a general JSON parser.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use ganeti_confd::demo;

use super::client::{Traffic, ping_at_rate, repeat_at_rate};
use super::server::Server;
use super::{PORT, with_each_engine};
use crate::common::namespace::{IP, Namespace, namespaces_available};

/// Datagrams of the flood per second; 49 Mbit/s.
const FLOOD_RATE: u32 = 100;

/// Queries of the legitimate client per second.
const QUERY_RATE: u32 = 500;

/// The two floods alternate in slices of this length, so that other load on the machine affects
/// both.
const SLICE: Duration = Duration::from_millis(500);
const SLICES: usize = 6;

/// Sockets that send the flood.
const SOCKETS: usize = 16;

/// A datagram of almost the maximum length: an envelope with a list of `number` in place of a
/// string.
fn datagram(number: &str) -> Vec<u8> {
    let (head, tail) = (r#"plj0{"msg":["#, r#"],"salt":"","hmac":""}"#);
    let count = (61_440 - head.len() - tail.len()) / (number.len() + 1);
    let numbers = vec![number; count].join(",");
    format!("{head}{numbers}{tail}").into_bytes()
}

/// Sends `datagram` at the flood's rate for a slice, and queries beside it.
fn slice(server: SocketAddr, sockets: &[UdpSocket], datagram: &[u8]) -> Traffic {
    thread::scope(|scope| {
        let end = Instant::now() + SLICE;
        scope.spawn(move || {
            repeat_at_rate(FLOOD_RATE, end, |number| {
                // A full queue is part of a flood.
                let _ = sockets[number % sockets.len()].send(datagram);
            });
        });
        ping_at_rate(server, QUERY_RATE, SLICE)
    })
}

/// A flood of numbers with long mantissas must not slow queries down more than a flood of the same
/// length with cheap digits, by a factor of 2 in the median; and no query is lost.
#[test]
fn slow_numbers_cost_no_more_than_cheap_ones() {
    if !namespaces_available(&[IP]) {
        return;
    }
    let slow = datagram("2.716808429954593574970e286");
    let cheap = datagram("111111111111111111111111111");
    assert_eq!(slow.len(), cheap.len());
    with_each_engine(|kind| {
        let namespace = Namespace::new().expect("namespaces are available");
        namespace.ip("link set lo up\n");
        let config = demo::configuration(3, 10, 1);
        let localhost = [127, 0, 0, 1].into();
        let _server = Server::start(&namespace, kind, &config, localhost, &["--workers", "1"]);
        let _entered = namespace.enter();
        let server = SocketAddr::from(([127, 0, 0, 1], PORT));
        let sockets: Vec<_> = (0..SOCKETS)
            .map(|_| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                socket.connect(server).expect("loopback");
                socket
            })
            .collect();
        let (mut during_slow, mut during_cheap) = (Traffic::default(), Traffic::default());
        for _ in 0..SLICES {
            during_cheap.extend(slice(server, &sockets, &cheap));
            during_slow.extend(slice(server, &sockets, &slow));
        }
        println!("{kind:?}, flood with cheap digits: {during_cheap}");
        println!("{kind:?}, flood with slow digits: {during_slow}");
        assert_eq!(during_slow.lost() + during_cheap.lost(), 0, "{kind:?}");
        let (slow, cheap) = (during_slow.percentile(50), during_cheap.percentile(50));
        assert!(slow <= 2 * cheap, "{kind:?}: {slow:?} and {cheap:?}");
    });
}

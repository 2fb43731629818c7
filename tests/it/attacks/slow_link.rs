//! A link that is slower than the replies: replies to one peer stay in order, and io_uring delays
//! them no more than `sendmmsg` does.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use ganeti_confd::demo;
use serde_json::json;

use super::client::{Traffic, ping, query_at_rate, request};
use super::server::Server;
use super::{Link, PORT, SendBuffer, engines};
use crate::common::Kind;
use crate::common::namespace::{IP, TC, namespaces_available};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

const PEERS: u32 = 8;

/// Requests of each peer per second. One in [`LARGE_ONCE_IN`] has a reply of 47 KB: together
/// slightly more than the link's 20 Mbit/s.
const RATE: u32 = 40;
const LARGE_ONCE_IN: usize = 6;

const TIME: Duration = Duration::from_secs(6);

fn run(kind: Kind, buffer: SendBuffer) -> Traffic {
    let link = Link::new();
    link.server
        .tc("qdisc add dev eth0 root tbf rate 20mbit burst 20kb limit 16mb\n");
    buffer.apply();
    let (config, options) = (demo::configuration(1, 60, 1), ["--workers", "1"]);
    let _server = Server::start(&link.server, kind, &config, SERVER.into(), &options);
    let make = |number: usize, rsalt: &str| match number % LARGE_ONCE_IN {
        0 => request(8, &json!(demo::node_name(1)), rsalt),
        _ => ping(rsalt),
    };
    thread::scope(|scope| {
        let peers = (0..PEERS)
            .map(|_| scope.spawn(|| query_at_rate((SERVER, PORT).into(), RATE, TIME, make)));
        let peers: Vec<_> = peers.collect();
        let mut all = Traffic::default();
        for peer in peers {
            all.extend(peer.join().expect("no panic"));
        }
        all
    })
}

#[test]
fn replies_stay_in_order_on_a_slow_link() {
    if !namespaces_available(&[IP, TC]) {
        return;
    }
    let mut faults = Vec::new();
    for buffer in SendBuffer::ALL {
        let seen: Vec<Traffic> = thread::scope(|scope| {
            let runs = engines().into_iter();
            let runs: Vec<_> = runs
                .map(|kind| scope.spawn(move || run(kind, buffer)))
                .collect();
            runs.into_iter()
                .map(|run| run.join().expect("no panic"))
                .collect()
        });
        for (kind, traffic) in engines().iter().zip(&seen) {
            let line = format!("{kind:?}, {buffer:?}: {traffic}");
            println!("{line}");
            if traffic.reordered > 0 || traffic.lost() > 0 {
                faults.push(line);
            }
        }
        if let [uring, mmsg] = &seen[..] {
            let (uring, mmsg) = (uring.percentile(99), mmsg.percentile(99));
            if 2 * uring > 3 * mmsg {
                faults.push(format!("{buffer:?}: p99 {uring:?} and {mmsg:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

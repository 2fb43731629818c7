//! Captured requests with large replies, replayed from source addresses that do not resolve.
//!
//! The replies wait in the kernel for the neighbor's link address, for about three seconds, and
//! take room in the socket's send buffer. They must not keep other replies from being sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use ganeti_confd::demo;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::client::{Traffic, ping_at_rate, query_at_rate, repeat_at_rate, request};
use super::server::Server;
use super::{Link, PORT, SendBuffer, engines};
use crate::common::Kind;
use crate::common::namespace::{IP, namespaces_available};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Duration of one attack: longer than the kernel keeps replies to an address that does not
/// resolve.
const ATTACK: Duration = Duration::from_secs(6);

/// Queries of the legitimate client per second.
const QUERY_RATE: u32 = 500;

/// Queries with large replies of another legitimate client per second.
const LARGE_QUERY_RATE: u32 = 4;

/// Source addresses of the attack.
const SOURCES: usize = 2_000;

/// A request whose reply has 47 KB.
fn large_request(rsalt: &str) -> Vec<u8> {
    request(8, &json!(demo::node_name(1)), rsalt)
}

/// A cluster with 60 instances on one node.
fn configuration() -> String {
    demo::configuration(1, 60, 1)
}

/// An IPv4 packet with a UDP datagram from `source`, without a UDP checksum.
fn packet(source: Ipv4Addr, source_port: u16, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend((20 + udp_len).to_be_bytes());
    // The kernel fills in the identification and the checksum.
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(SERVER.octets());
    packet.extend(source_port.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend(udp_len.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend_from_slice(payload);
    packet
}

/// Sends large requests at `rate` with spoofed sources: one captured request, or `distinct` ones.
fn attack(rate: u32, distinct: bool) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)));
    let socket = socket.expect("root may open raw sockets");
    let target = SocketAddr::from((SERVER, 0)).into();
    let captured = large_request("captured");
    repeat_at_rate(rate, Instant::now() + ATTACK, |number| {
        let source = number % SOURCES;
        let source = Ipv4Addr::new(10, 77, 100 + (source / 250) as u8, 1 + (source % 250) as u8);
        let payload = match distinct {
            true => large_request(&format!("distinct {number}")),
            false => captured.clone(),
        };
        let packet = packet(source, 1_024 + number as u16, &payload);
        socket.send_to(&packet, &target).expect("the link is up");
    });
}

/// The traffic of two legitimate clients during one attack: pings, and queries with large replies.
fn run(kind: Kind, rate: u32, distinct: bool, buffer: SendBuffer) -> [Traffic; 2] {
    let link = Link::new();
    buffer.apply();
    let (config, options) = (configuration(), ["--workers", "1"]);
    let _server = Server::start(&link.server, kind, &config, SERVER.into(), &options);
    let server = SocketAddr::from((SERVER, PORT));
    thread::scope(|scope| {
        scope.spawn(|| attack(rate, distinct));
        let large = scope.spawn(move || {
            let request = |_, rsalt: &str| large_request(rsalt);
            query_at_rate(server, LARGE_QUERY_RATE, ATTACK, request)
        });
        let pings = ping_at_rate(server, QUERY_RATE, ATTACK);
        [pings, large.join().expect("no panic")]
    })
}

/// Runs attacks at 5, 20 and 60 requests per second at the same time, on both engines and with both
/// sizes of send buffer. No ping may be lost, and no large reply either if the daemon has the send
/// buffer that it requests and there are at most 20 requests.
fn check(distinct: bool) {
    if !namespaces_available(&[IP]) {
        return;
    }
    let mut cases = Vec::new();
    for kind in engines() {
        for rate in [5, 20, 60] {
            cases.extend(SendBuffer::ALL.map(|buffer| (kind, rate, buffer)));
        }
    }
    let what = if distinct { "distinct" } else { "captured" };
    let lost: Vec<_> = thread::scope(|scope| {
        let runs = cases.iter().map(|&(kind, rate, buffer)| {
            let run = scope.spawn(move || run(kind, rate, distinct, buffer));
            (kind, rate, buffer, run)
        });
        let runs: Vec<_> = runs.collect();
        runs.into_iter()
            .filter_map(|(kind, rate, buffer, run)| {
                let [pings, large] = run.join().expect("no panic");
                let line =
                    format!("{kind:?}, {what}, {rate}/s, {buffer:?}: pings {pings}; large {large}");
                println!("{line}");
                let may_lose_large = rate > 20 || buffer == SendBuffer::Default;
                let is_lost = pings.lost() > 0 || (large.lost() > 0 && !may_lose_large);
                is_lost.then_some(line)
            })
            .collect()
    });
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn one_captured_request_does_not_starve_others() {
    check(false);
}

#[test]
fn distinct_captured_requests_do_not_starve_others() {
    check(true);
}

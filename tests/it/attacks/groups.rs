//! Datagrams to broadcast and multicast addresses: at most one reply, as from the reference.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ganeti_confd::demo;

use super::client::{ping, salt_of};
use super::server::Server;
use super::{Link, PORT, with_each_engine};
use crate::common::namespace::{IP, namespaces_available};

/// Pings to each address.
const PINGS: usize = 8;

/// Time without a reply after which no more are expected.
const QUIET: Duration = Duration::from_millis(300);

/// Sends pings to `target`, and counts the replies to each by the address that they come from.
fn replies(target: SocketAddr) -> HashMap<(String, IpAddr), usize> {
    let socket = UdpSocket::bind("10.77.0.2:0").expect("our address");
    socket.set_broadcast(true).expect("a UDP socket");
    for number in 0..PINGS {
        let ping = ping(&format!("q{number}"));
        socket.send_to(&ping, target).expect("the link is up");
    }
    let mut replies = HashMap::new();
    let mut last = Instant::now();
    let mut buffer = [0; 2_048];
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("not zero");
    while last.elapsed() < QUIET {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let salt = salt_of(&buffer[..len]).expect("a reply").to_owned();
            *replies.entry((salt, from.ip().to_canonical())).or_default() += 1;
            last = Instant::now();
        }
    }
    replies
}

fn check(bind: IpAddr) {
    if !namespaces_available(&[IP]) {
        return;
    }
    with_each_engine(|kind| {
        let link = Link::new();
        let config = demo::configuration(3, 10, 1);
        let options = ["--workers", "4"];
        let server = Server::start(&link.server, kind, &config, bind, &options);
        let own = Ipv4Addr::new(10, 77, 0, 1);
        let one_each: HashMap<_, _> = (0..PINGS)
            .map(|number| ((format!("q{number}"), IpAddr::from(own)), 1))
            .collect();
        let mut faults = Vec::new();
        for target in [
            own,
            Ipv4Addr::new(10, 77, 255, 255),
            Ipv4Addr::BROADCAST,
            Ipv4Addr::new(224, 0, 0, 1),
        ] {
            let replies = replies((target, PORT).into());
            let count: usize = replies.values().sum();
            let line = format!("{kind:?}, {bind}, {target}: {count} replies to {PINGS} pings");
            println!("{line}");
            // Linux delivers IPv4 multicast to an IPv6 socket only if that has joined the group.
            let is_delivered = bind.is_ipv4() || !target.is_multicast();
            let expected = if is_delivered {
                one_each.clone()
            } else {
                HashMap::new()
            };
            if replies != expected {
                faults.push(line);
            }
        }
        assert!(faults.is_empty(), "{faults:#?}\n{}", server.log());
    });
}

#[test]
fn one_reply_to_a_broadcast_or_multicast_datagram() {
    check(Ipv4Addr::UNSPECIFIED.into());
}

#[test]
fn one_reply_to_a_broadcast_or_multicast_datagram_on_a_dual_stack_socket() {
    check(Ipv6Addr::UNSPECIFIED.into());
}

//! A signed request is answered to one address: on running daemons, with both engines.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use ganeti_confd::demo;

use crate::common::{Kind, Reply, Subject, now, request_datagram, subjects};

const KEY: &[u8] = b"replay\n";

/// Addresses that replay a request. One address in 65,536 is not distinguished from the first, so
/// one of these may be answered.
const REPLAYERS: u8 = 20;

/// Timeout for a reply that must come.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Our daemon with each engine, started with `args`.
fn daemons(args: &'static [&str]) -> impl Iterator<Item = Subject> {
    let ours = |kind: &Kind| matches!(kind, Kind::Uring | Kind::Mmsg);
    let config = demo::configuration(3, 10, 1);
    let kinds = subjects().into_iter().filter(ours);
    kinds.map(move |kind| Subject::start_with(kind, args, Some(config.as_bytes()), KEY))
}

fn socket(host: u8) -> UdpSocket {
    let socket =
        UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).expect("all of 127/8 is here");
    socket.set_read_timeout(Some(TIMEOUT)).expect("not zero");
    socket
}

fn ping(rsalt: &str) -> Vec<u8> {
    let message = format!(r#"{{"protocol":1,"type":0,"rsalt":"{rsalt}"}}"#);
    request_datagram(KEY, &now().to_string(), &message)
}

/// Sends `datagram` to `subject` from `socket` and returns the salt of the reply. Waits for the
/// reply to a ping that is sent after it to the same worker.
fn salt_of_reply(socket: &UdpSocket, subject: &Subject, datagram: &[u8]) -> Option<String> {
    let barrier = format!("after {:?}", fastrand::u64(..));
    for datagram in [datagram, &ping(&barrier)] {
        socket
            .send_to(datagram, subject.address())
            .expect("loopback takes it");
    }
    let mut buffer = [0; 1_024];
    let mut salt = || {
        let len = socket.recv(&mut buffer).expect("the ping is answered");
        Reply::read(KEY, &buffer[..len]).expect("it is signed").salt
    };
    let first = salt();
    if first == barrier {
        return None;
    }
    assert_eq!(salt(), barrier);
    Some(first)
}

#[test]
fn one_address_is_answered_from_any_of_its_ports() {
    for subject in daemons(&["--workers", "2"]) {
        let datagram = ping("captured");
        let replied = |host: u8| salt_of_reply(&socket(host), &subject, &datagram).is_some();
        assert!(replied(1));
        let answered = (2..2 + REPLAYERS).filter(|host| replied(*host)).count();
        assert!(answered <= 1, "{:?}: {answered} addresses", subject.kind);
        for _ in 0..8 {
            assert!(replied(1), "{:?}: a retransmission", subject.kind);
        }
    }
}

#[test]
fn the_protection_can_be_turned_off() {
    for subject in daemons(&["--workers", "2", "--replay-protection=off"]) {
        let datagram = ping("captured");
        for host in 1..=REPLAYERS {
            let salt = salt_of_reply(&socket(host), &subject, &datagram);
            assert_eq!(salt.as_deref(), Some("captured"), "{:?}", subject.kind);
        }
    }
}

/// All addresses send at the same time, on as many sockets, so that both workers are busy.
#[test]
fn of_simultaneous_replays_one_is_answered() {
    for subject in daemons(&["--workers", "2"]) {
        let sockets: Vec<_> = (1..=REPLAYERS).map(socket).collect();
        let mut answered_twice = 0;
        for round in 0..50 {
            let datagram = ping(&format!("round {round}"));
            for socket in &sockets {
                socket
                    .send_to(&datagram, subject.address())
                    .expect("loopback takes it");
            }
            let replied = |socket: &&UdpSocket| {
                // Only what the datagrams above caused: this one is of another signature.
                salt_of_reply(socket, &subject, b"plj0").is_some()
            };
            let answered = sockets.iter().filter(replied).count();
            assert!(
                (1..=2).contains(&answered),
                "{:?}: {answered}",
                subject.kind
            );
            answered_twice += usize::from(answered > 1);
        }
        // Two addresses may have the same hash.
        assert!(
            answered_twice <= 50 / 2,
            "{:?}: {answered_twice}",
            subject.kind
        );
    }
}

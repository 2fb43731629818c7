//! The client library with real daemons and sockets, as far as one host is enough; `hosts` has several.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ganeti_confd::client::{
    Candidate, CandidateStatus, ConfdClient, Coverage, Error, Outcome, Settings, WaitFor, question,
};
use ganeti_confd::demo;
use ganeti_confd::engine::{self, Choice};
use ganeti_confd::protocol::{Key, envelope};
use ganeti_confd::responder::{Responder, Served};
use ganeti_confd::snapshot::Snapshot;

use super::common::skip;

fn demo() -> demo::Server {
    demo::Server::start(20, 50).expect("loopback works")
}

fn deadline(milliseconds: u64) -> Settings {
    Settings {
        deadline: Duration::from_millis(milliseconds),
        ..Settings::default()
    }
}

/// A socket that takes everything and says nothing.
fn mute() -> (UdpSocket, Candidate) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
    let candidate = socket.local_addr().expect("it is bound").into();
    (socket, candidate)
}

/// Where nobody listens.
fn nobody() -> Candidate {
    mute().1
}

#[test]
fn threads_share_one_client() {
    let demo = demo();
    let client = demo.client().expect("a socket");
    thread::scope(|scope| {
        for number in 1..=8 {
            let client = &client;
            scope.spawn(move || {
                let name = demo::node_name(number);
                for _ in 0..200 {
                    let value = client.node_drbd(&name).expect("it answers");
                    assert!(value.iter().all(|minor| minor.node == name));
                    let path = format!("/cluster/{}", ["uuid", "cluster_name"][number % 2]);
                    let value = client.config(&path).expect("it answers");
                    assert_eq!(value == "demo.example.com", number % 2 == 1);
                }
            });
        }
    });
}

#[cfg(feature = "async")]
#[test]
fn many_calls_are_under_way_on_tokio() {
    use ganeti_confd::client::AsyncConfdClient;

    let demo = demo();
    let (_silent, mute) = mute();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = AsyncConfdClient::new(demo.key(), [demo.candidate()]).expect("a socket");
        let client = Arc::new(client);
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..300 {
            let client = Arc::clone(&client);
            let name = demo::node_name(1 + number % 20);
            calls.spawn(async move {
                let minors = client.ask(&question::node_drbd(&name)).await?;
                assert!(minors.iter().all(|minor| minor.node == name));
                Ok::<(), Error>(())
            });
        }
        while let Some(call) = calls.join_next().await {
            call.expect("no panic").expect("it answers");
        }

        // A future that is dropped takes its call with it, and leaves the client as it was.
        let patient = Settings {
            patience: WaitFor::All,
            ..Settings::default()
        };
        let both = [demo.candidate(), mute];
        let client = AsyncConfdClient::new(demo.key(), both).expect("a socket");
        let ping = question::ping();
        let call = client.query_all_with(&ping, patient);
        tokio::time::timeout(Duration::from_millis(50), call)
            .await
            .expect_err("one of them never answers");
        let master = question::cluster_master();
        let one = client
            .query_all_with(&master, deadline(300))
            .await
            .expect("a socket");
        assert_eq!(one.replies(), 1);
    });
}

#[test]
fn nobody_there_is_known_soon() {
    let demo = demo();
    let client = ConfdClient::new(demo.key(), [nobody(), nobody()]).expect("a socket");
    let started = Instant::now();
    let Err(Error::Silence(outcome)) = client.ping() else {
        panic!("nobody is there")
    };
    assert!(started.elapsed() < Duration::from_secs(2), "{outcome:?}");
    for contact in outcome.results() {
        assert!(
            matches!(contact.state, CandidateStatus::Unreachable(_)),
            "{outcome:?}"
        );
        assert_eq!(contact.sent, 2);
    }
    // And a daemon that answers is not held up by the word about others.
    let three = [nobody(), demo.candidate(), demo.candidate()];
    let client = ConfdClient::new(demo.key(), three).expect("a socket");
    for _ in 0..20 {
        client.ping().expect("two of three are safe");
    }
}

#[test]
fn silence_lasts_until_the_deadline() {
    let demo = demo();
    let (_socket, mute) = mute();
    let wrong_key = ConfdClient::new(b"another key", [demo.candidate()]).expect("a socket");
    let silent = ConfdClient::new(demo.key(), [mute]).expect("a socket");
    for client in [wrong_key, silent] {
        let started = Instant::now();
        let Err(Error::Silence(outcome)) = client.with_settings(deadline(700)).ping() else {
            panic!("nobody answers")
        };
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(700), "{took:?}");
        assert!(matches!(
            outcome.results()[0].state,
            CandidateStatus::Silent
        ));
        // At the start, and after 200 and 600 milliseconds.
        assert_eq!(outcome.results()[0].sent, 3);
    }
}

#[test]
fn fewer_than_the_safe_number_are_an_error_that_holds_them() {
    let demo = demo();
    let client = ConfdClient::new(demo.key(), [nobody(), demo.candidate()]).expect("a socket");
    let Err(Error::TooFewReplies(outcome)) = client.cluster_master() else {
        panic!("one of two is not safe")
    };
    assert_eq!((outcome.replies(), outcome.needed()), (1, 2));
    let best = outcome.best().and_then(|contact| contact.reply());
    assert_eq!(
        best.expect("one answered").answer.get(),
        "\"node1.example.com\""
    );
}

#[test]
fn what_does_not_fit_a_datagram_is_an_error_at_once() {
    let demo = demo();
    let client = demo.client().expect("a socket");
    for bytes in [61_400, 100_000] {
        let answer = client.node_role(&"x".repeat(bytes));
        assert!(matches!(answer, Err(Error::RequestTooLarge)), "{answer:?}");
    }
    assert!(matches!(client.config("/"), Err(Error::Answered(_))));
}

#[test]
fn as_many_as_asked_for_are_asked() {
    let demo = demo();
    let candidates = vec![demo.candidate(); 9];
    let client = ConfdClient::new(demo.key(), candidates).expect("a socket");
    for (coverage, count) in [
        (Coverage::Default, 6),
        (Coverage::All, 9),
        (Coverage::Exactly(3), 3),
    ] {
        let settings = Settings {
            coverage,
            ..Settings::default()
        };
        let outcome = client
            .query_all_with(&question::ping(), settings)
            .expect("a socket");
        assert_eq!(outcome.results().len(), count);
    }
}

#[test]
fn both_families_serve_one_call() {
    let demo = demo();
    let text = demo::configuration(3, 10, 1);
    let served = Served {
        key: Arc::new(Key::new(demo.key()).expect("not empty")),
        snapshot: Arc::new(Snapshot::load(text.as_bytes()).expect("valid").snapshot),
    };
    let Ok(sockets) = engine::bind((Ipv6Addr::LOCALHOST, 0).into(), 1) else {
        skip("IPv6 is switched off here");
        return;
    };
    let served = Arc::new(ArcSwap::from_pointee(served));
    let workers = engine::start(sockets, Choice::Auto, &served, Responder::new).expect("an engine");
    let ipv6 = Candidate::from(workers.local_addr());
    assert!(ipv6.addresses()[0].is_ipv6());
    let client = ConfdClient::new(demo.key(), [demo.candidate(), ipv6]).expect("a socket");
    let outcome: Outcome = client.query_all(&question::ping()).expect("a socket");
    assert_eq!(outcome.replies(), 2, "{outcome:?}");
}

#[test]
fn only_its_own_replies_from_those_it_asked_count() {
    let demo = demo();
    let key = Key::new(demo.key()).expect("not empty");
    let (candidate_socket, candidate) = mute();
    let client = ConfdClient::new(demo.key(), [candidate]).expect("a socket");
    let liar = thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (len, from) = candidate_socket
            .recv_from(&mut buffer)
            .expect("it is asked");
        let envelope: serde_json::Value = serde_json::from_slice(&buffer[4..len]).expect("JSON");
        let message = envelope["msg"].as_str().expect("a request");
        let request: serde_json::Value = serde_json::from_str(message).expect("JSON");
        let rsalt = request["rsalt"].as_str().expect("a request");
        let reply = |key: &Key, rsalt: &str, answer: u8| {
            let message = format!(r#"{{"protocol":1,"status":0,"answer":{answer},"serial":1}}"#);
            envelope::signed(key, rsalt, &message).expect("it is short")
        };
        let send = |socket: &UdpSocket, datagram: &[u8], to: SocketAddr| {
            socket.send_to(datagram, to).expect("loopback works");
        };
        let other_key = Key::new(b"another key").expect("not empty");
        send(&candidate_socket, b"", from);
        send(&candidate_socket, b"plj0{}", from);
        send(&candidate_socket, &reply(&other_key, rsalt, 2), from);
        send(&candidate_socket, &reply(&key, "another rsalt", 3), from);
        // The right answer, from a stranger.
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        send(&stranger, &reply(&key, rsalt, 4), from);
        send(&candidate_socket, &reply(&key, rsalt, 1), from);
        // Too late: the question is answered.
        send(&candidate_socket, &reply(&key, rsalt, 5), from);
    });
    assert_eq!(client.ping().expect("the right answer came"), 1);
    liar.join().expect("the liar's thread");
}

//! The client library with real daemons and sockets on one host. `multi_host` has several hosts.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ganeti_confd::client::{
    AnsweredError, Candidate, CandidateStatus, ConfdClient, Coverage, Error, Outcome, Settings,
    WaitFor, question,
};
use ganeti_confd::demo;
use ganeti_confd::engine;
use ganeti_confd::protocol::{Key, envelope};
use ganeti_confd::responder::{Responder, Served};
use ganeti_confd::snapshot::Snapshot;

use super::common::skip;

fn demo() -> demo::Server {
    demo::Server::start(20, 50).expect("loopback works")
}

fn deadline(milliseconds: u64) -> Settings {
    Settings::default().with_deadline(Duration::from_millis(milliseconds))
}

/// A socket that is not read, as a candidate.
fn mute() -> (UdpSocket, Candidate) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
    let candidate = socket.local_addr().expect("it is bound").into();
    (socket, candidate)
}

/// Candidates at which nothing listens.
fn nobody<const N: usize>() -> [Candidate; N] {
    // All are bound before any is closed, so that no port is chosen twice.
    let sockets: [(UdpSocket, Candidate); N] = std::array::from_fn(|_| mute());
    sockets.map(|(_, candidate)| candidate)
}

/// A signed reply with this answer and serial.
fn reply(key: &[u8], rsalt: &str, answer: u8, serial: &str) -> Vec<u8> {
    let key = Key::new(key).expect("not empty");
    let message = format!(r#"{{"protocol":1,"status":0,"answer":{answer},"serial":{serial}}}"#);
    envelope::signed(&key, rsalt, &message).expect("it is short")
}

/// Receives a request; returns its `rsalt` and where it came from.
fn receive_request(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer).expect("it is asked");
    let envelope: serde_json::Value = serde_json::from_slice(&buffer[4..len]).expect("JSON");
    let message = envelope["msg"].as_str().expect("a request");
    let request: serde_json::Value = serde_json::from_str(message).expect("JSON");
    let rsalt = request["rsalt"].as_str().expect("a request").to_owned();
    (rsalt, from)
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
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[cfg(feature = "async")]
#[test]
fn many_calls_run_at_the_same_time_on_tokio() {
    use ganeti_confd::client::AsyncConfdClient;

    let demo = demo();
    let (_silent, mute) = mute();
    runtime().block_on(async {
        let client = AsyncConfdClient::new(demo.key(), [demo.address()]).expect("a socket");
        let client = Arc::new(client);
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..300 {
            let client = Arc::clone(&client);
            let name = demo::node_name(1 + number % 20);
            calls.spawn(async move {
                let minors = client.node_drbd(&name).await?;
                assert!(minors.iter().all(|minor| minor.node == name));
                Ok::<(), Error>(())
            });
        }
        while let Some(call) = calls.join_next().await {
            call.expect("no panic").expect("it answers");
        }

        // Dropping a future cancels its call, and does not affect the client.
        let wait_for_all = Settings::default().with_wait_for(WaitFor::All);
        let both = [demo.candidate(), mute];
        let client = AsyncConfdClient::new(demo.key(), both).expect("a socket");
        let ping = question::ping();
        let call = client.query_all_with(&ping, wait_for_all);
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

#[cfg(feature = "async")]
#[test]
fn both_clients_have_a_method_for_each_query() {
    use ganeti_confd::client::AsyncConfdClient;

    let demo = demo();
    let blocking = demo.client().expect("a socket");
    let (node, instance) = (demo::node_name(1), demo::instance_name(1));
    runtime().block_on(async {
        let tokio = AsyncConfdClient::new(demo.key(), [demo.address()]).expect("a socket");
        let ip = blocking.instance_ips(None).expect("it answers")[0];
        macro_rules! same {
            ($query:ident($($arg:expr),*)) => {{
                let answer = tokio.$query($($arg),*).await.expect("it answers");
                assert_eq!(blocking.$query($($arg),*).expect("it answers"), answer);
                serde_json::to_value(&answer).expect("every answer is JSON")
            }};
        }
        same!(ping());
        assert_eq!(same!(node_role(&node)), "master");
        same!(node_of_ip(ip, None));
        same!(nodes_of_ips(&[ip], None));
        same!(cluster_master());
        assert_eq!(same!(master_addresses())["name"], node);
        same!(node_ips());
        same!(candidate_ips());
        same!(instance_ips(None));
        same!(node_drbd(&node));
        same!(data_collectors());
        // Objects are serialized as the configuration has them.
        let disks = same!(instance_disks(&instance));
        let uuid = disks[0]["uuid"].as_str().expect("a UUID");
        let path = format!("/disks/{uuid}/logical_id");
        assert_eq!(same!(config(&path)), disks[0]["logical_id"]);
        let instances = same!(node_instances(&node));
        let uuid = instances["primary"][0]["uuid"].as_str().expect("a UUID");
        assert_eq!(
            same!(config(&format!("/instances/{uuid}"))),
            instances["primary"][0]
        );
    });
}

#[test]
fn unreachable_candidates_are_detected_before_the_deadline() {
    let demo = demo::Server::with_candidates(20, 50, 2).expect("loopback works");
    let client = ConfdClient::new(demo.key(), nobody::<2>()).expect("a socket");
    let started = Instant::now();
    let Err(Error::NoReply(outcome)) = client.ping() else {
        panic!("nothing listens there")
    };
    assert!(started.elapsed() < Duration::from_secs(2), "{outcome:?}");
    for result in outcome.results() {
        assert!(
            matches!(result.state, CandidateStatus::Unreachable(_)),
            "{outcome:?}"
        );
        assert_eq!(result.sent, 2);
    }
    // Errors about one candidate do not delay the others.
    let [one] = nobody();
    let three = demo.candidates().into_iter().chain([one]);
    let client = ConfdClient::new(demo.key(), three).expect("a socket");
    for _ in 0..20 {
        client.ping().expect("two of three are a quorum");
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
        let Err(Error::NoReply(outcome)) = client.with_settings(deadline(700)).ping() else {
            panic!("no reply can come")
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
fn fewer_replies_than_a_quorum_are_an_error_that_contains_them() {
    let demo = demo();
    let [nobody] = nobody();
    let client = ConfdClient::new(demo.key(), [nobody, demo.candidate()]).expect("a socket");
    let Err(Error::TooFewReplies(outcome)) = client.cluster_master() else {
        panic!("one of two is not a quorum")
    };
    assert_eq!((outcome.replies(), outcome.needed()), (1, 2));
    let best = outcome.best().and_then(|result| result.reply());
    assert_eq!(
        best.expect("one answered").answer.get(),
        "\"node1.example.com\""
    );
}

#[test]
fn a_request_that_does_not_fit_a_datagram_is_an_error_at_once() {
    let demo = demo();
    let client = demo.client().expect("a socket");
    for bytes in [61_400, 100_000] {
        let answer = client.node_role(&"x".repeat(bytes));
        assert!(matches!(answer, Err(Error::RequestTooLarge)), "{answer:?}");
    }
    assert!(matches!(client.config("/"), Err(Error::Answered(_))));
}

#[test]
fn an_unknown_name_is_not_found() {
    let demo = demo();
    let client = demo.client().expect("a socket");
    let errors = [
        client.node_role("no such node").map(drop),
        client.node_drbd("no such node").map(drop),
        client.node_instances("no such node").map(drop),
        client.instance_disks("no such instance").map(drop),
        client.node_of_ip("192.0.2.254", None).map(drop),
    ];
    for error in errors {
        let error = error.expect_err("there is no such thing");
        assert!(error.is_not_found(), "{error}");
    }
    let Err(Error::Answered(AnsweredError::NotFound(Some(text)))) = client.node_role("none") else {
        panic!("it is unknown")
    };
    assert_eq!(text, "Node name none not found");
    let Err(Error::Answered(AnsweredError::Argument)) = client.config("/no/such/path") else {
        panic!("there is no such path")
    };
}

#[test]
fn a_client_takes_keys_and_addresses_in_all_their_forms() {
    let demo = demo();
    let address = demo.address();
    let key = Key::new(demo.key()).expect("not empty");
    let clients = [
        ConfdClient::new(demo.key(), [address]),
        ConfdClient::new(demo.key().to_vec(), [address.to_string()]),
        ConfdClient::new(&key, [(address.ip(), address.port())]),
        ConfdClient::new(key, [format!("localhost:{}", address.port()).as_str()]),
        ConfdClient::new(demo.key(), vec![demo.candidate()]),
        ConfdClient::new(demo.key(), &[demo.candidate()]),
    ];
    for client in clients {
        client.expect("a socket").ping().expect("it answers");
    }
    let none: [Candidate; 0] = [];
    assert!(matches!(
        ConfdClient::new(b"k", none),
        Err(Error::NoCandidates)
    ));
    assert!(matches!(
        ConfdClient::new(b"", [address]),
        Err(Error::EmptyKey(_))
    ));
    assert!(matches!(
        ConfdClient::new(b"k", ["1.2.3.4:0"]),
        Err(Error::Address(_))
    ));
}

#[test]
fn a_name_without_an_address_is_an_unreachable_candidate() {
    let demo = demo::Server::with_candidates(20, 50, 2).expect("loopback works");
    let mut names: Vec<String> = demo.candidates().iter().map(Candidate::to_string).collect();
    names.push("nosuch.invalid:1814".to_owned());
    let client = ConfdClient::new(demo.key(), names).expect("they are addresses and a name");
    let outcome = client.query_all(&question::ping()).expect("a socket");
    assert_eq!((outcome.replies(), outcome.results().len()), (2, 3));
    client.ping().expect("two of three are a quorum");
    let down = ConfdClient::new(demo.key(), ["nosuch.invalid"]).expect("it is a name");
    let started = Instant::now();
    let Err(Error::NoReply(outcome)) = down.ping() else {
        panic!("it has no address")
    };
    assert!(started.elapsed() < Duration::from_secs(2), "{outcome:?}");
    assert!(matches!(
        outcome.results()[0].state,
        CandidateStatus::Unreachable(_)
    ));
}

#[test]
fn the_same_address_twice_is_one_candidate() {
    let demo = demo();
    let twice = [demo.candidate(), demo.candidate()];
    let client = ConfdClient::new(demo.key(), twice).expect("a socket");
    assert_eq!(client.candidates(), [demo.candidate()]);
    let outcome = client.query_all(&question::ping()).expect("a socket");
    assert_eq!((outcome.replies(), outcome.needed()), (1, 1));
}

#[test]
fn coverage_is_the_number_of_candidates_that_are_asked() {
    let demo = demo::Server::with_candidates(3, 10, 9).expect("loopback works");
    let client = demo.client().expect("a socket");
    for (coverage, count) in [
        (Coverage::Default, 6),
        (Coverage::All, 9),
        (Coverage::Exactly(3), 3),
    ] {
        let outcome = client
            .query_all_with(
                &question::ping(),
                Settings::default().with_coverage(coverage),
            )
            .expect("a socket");
        assert_eq!(outcome.results().len(), count);
    }
}

#[test]
fn one_call_asks_both_address_families() {
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
    let workers = engine::start(sockets, None, &served, Responder::new).expect("an engine");
    let ipv6 = Candidate::from(workers.local_addr());
    assert!(ipv6.addresses()[0].is_ipv6());
    let client = ConfdClient::new(demo.key(), [demo.candidate(), ipv6]).expect("a socket");
    let outcome: Outcome = client.query_all(&question::ping()).expect("a socket");
    assert_eq!(outcome.replies(), 2, "{outcome:?}");
}

#[test]
fn only_replies_to_its_requests_from_the_addresses_it_asked_count() {
    const KEY: &[u8] = b"the key";
    let (candidate_socket, candidate) = mute();
    let client = ConfdClient::new(KEY, [candidate]).expect("a socket");
    let attacker = thread::spawn(move || {
        let (rsalt, from) = receive_request(&candidate_socket);
        let send = |socket: &UdpSocket, datagram: &[u8]| {
            socket.send_to(datagram, from).expect("loopback works");
        };
        send(&candidate_socket, b"");
        send(&candidate_socket, b"plj0{}");
        send(&candidate_socket, &reply(b"another key", &rsalt, 2, "1"));
        send(&candidate_socket, &reply(KEY, "another rsalt", 3, "1"));
        // The right reply, from another address.
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        send(&stranger, &reply(KEY, &rsalt, 4, "1"));
        send(&candidate_socket, &reply(KEY, &rsalt, 1, "1"));
        // Too late: the request is answered.
        send(&candidate_socket, &reply(KEY, &rsalt, 5, "1"));
    });
    assert_eq!(client.ping().expect("the right reply came"), 1);
    attacker.join().expect("the attacker's thread");
}

#[test]
fn a_reply_from_another_address_is_named_and_counts_on_request() {
    const KEY: &[u8] = b"the key";
    for any_source in [false, true] {
        let (candidate_socket, candidate) = mute();
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        let other_address = other.local_addr().expect("it is bound");
        let client = ConfdClient::new(KEY, [candidate]).expect("a socket");
        let daemon = thread::spawn(move || {
            let (rsalt, from) = receive_request(&candidate_socket);
            let datagram = reply(KEY, &rsalt, 7, "1");
            other.send_to(&datagram, from).expect("loopback works");
        });
        let settings = deadline(500).with_any_source(any_source);
        let ping = question::ping();
        let outcome = client.query_all_with(&ping, settings).expect("a socket");
        daemon.join().expect("the daemon's thread");
        assert_eq!(outcome.results()[0].other_source, Some(other_address));
        assert_eq!(outcome.replies(), usize::from(any_source));
        let answer = outcome.into_answer(&ping);
        assert_eq!(answer.ok(), any_source.then_some(7));
    }
}

#[test]
fn a_signed_reply_with_an_impossible_serial_is_malformed() {
    const KEY: &[u8] = b"the key";
    for serial in ["9223372036854775808", "1.5"] {
        let (candidate_socket, candidate) = mute();
        let client = ConfdClient::new(KEY, [candidate]).expect("a socket");
        let daemon = thread::spawn(move || {
            let (rsalt, from) = receive_request(&candidate_socket);
            let datagram = reply(KEY, &rsalt, 7, serial);
            candidate_socket
                .send_to(&datagram, from)
                .expect("loopback works");
        });
        let started = Instant::now();
        let outcome = client.query_all(&question::ping()).expect("a socket");
        daemon.join().expect("the daemon's thread");
        let CandidateStatus::Malformed(why) = &outcome.results()[0].state else {
            panic!("{outcome:?}");
        };
        assert!(why.contains("i64"), "{why}");
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "it is not silence"
        );
    }
}

#[test]
fn the_longest_deadline_is_no_panic() {
    let demo = demo();
    let client = demo.client().expect("a socket");
    let settings = Settings::default()
        .with_deadline(Duration::MAX)
        .with_wait_for(WaitFor::All);
    let outcome = client.query_all_with(&question::ping(), settings);
    assert_eq!(outcome.expect("a socket").replies(), 1);
}

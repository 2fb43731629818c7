//! `confdctl raw`, and the packets that `--verbose` shows.

use std::io::Write as _;
use std::net::UdpSocket;
use std::process::Stdio;

use serde_json::{Value, json};

use super::common::{Kind, Subject};
use super::confdctl::{Dead, KEY, Servers, command, configuration, kinds, ran};

/// The datagrams that went in a direction (`>`, `<`) on standard error.
fn packets<'a>(err: &'a str, direction: &str) -> Vec<&'a str> {
    let lines = err.lines().filter(|line| line.starts_with('+'));
    let lines = lines.filter(|line| line.split(' ').nth(2) == Some(direction));
    lines
        .map(|line| line.split_once(": ").expect("an address, and a datagram").1)
        .collect()
}

/// The envelope of a datagram.
fn envelope(datagram: &str) -> Value {
    let json = datagram.strip_prefix("plj0").expect("the fourcc");
    serde_json::from_str(json).expect("an envelope")
}

#[test]
fn raw_sends_the_text_unchanged_and_prints_that_of_the_reply() {
    // No client writes it in this order, or with these spaces.
    let request = r#"{ "rsalt" : "any text", "type":0,"protocol":1   }"#;
    for kind in kinds() {
        let subject = Subject::start(kind, Some(&configuration()), KEY);
        let servers = Servers::new(&[subject.address()]);
        let raw = servers.run_args(&["raw", "--verbose", request]);
        assert_eq!(raw.status, 0, "{kind:?}: {raw:?}");
        let reply: Value = serde_json::from_str(&raw.out).expect("the reply is JSON");
        let expected = json!({"protocol": 1, "status": 0, "answer": 3_000_000, "serial": 0});
        assert_eq!(reply, expected, "{kind:?}");
        let [sent] = packets(&raw.err, ">")[..] else {
            panic!("one request: {raw:?}");
        };
        assert_eq!(envelope(sent)["msg"], request);
        let [received] = packets(&raw.err, "<")[..] else {
            panic!("one reply: {raw:?}");
        };
        assert_eq!(envelope(received)["msg"], raw.out.trim_end());
        assert_eq!(envelope(received)["salt"], "any text");
    }
}

#[test]
fn raw_makes_a_request_from_a_number_and_an_argument() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let servers = Servers::new(&[subject.address()]);
    let role = servers.run("--json raw 1 node1.example.com");
    assert_eq!(role.status, 0, "{role:?}");
    assert_eq!(role.json()["reply"]["answer"], 0);
    assert_eq!(role.json()["server"], subject.address().to_string());
    let master = servers.run_args(&["raw", "3", r#"{"3": [0]}"#]);
    assert!(
        master.out.contains(r#""answer":["node1.example.com"]"#),
        "{master:?}"
    );
    let error = servers.run("raw 1 node9");
    assert_eq!(error.status, 1, "{error:?}");
    assert!(error.out.contains("Node name node9 not found"), "{error:?}");
}

#[test]
fn raw_says_what_silence_can_mean() {
    let subject = Subject::start(Kind::Mmsg, Some(&configuration()), KEY);
    let servers = Servers::new(&[subject.address()]);
    for (request, salt) in [("99", None), ("no JSON", None), ("0", Some("--salt=12345"))] {
        let mut args = vec!["--timeout=300ms", "raw", "-v", request];
        args.extend(salt);
        let raw = servers.run_args(&args);
        assert_eq!((raw.status, raw.out.as_str()), (3, ""), "{raw:?}");
        let sent = packets(&raw.err, ">");
        assert!(
            sent.len() >= 2 && sent.iter().all(|it| *it == sent[0]),
            "{raw:?}"
        );
        assert!(raw.err.contains("no reply within 0.3 s"), "{raw:?}");
        if salt.is_some() {
            assert_eq!(envelope(sent[0])["salt"], "12345");
        }
    }
    // The daemon still answers.
    assert_eq!(servers.run("raw 0").status, 0);
    let usage = servers.run("raw x y");
    assert_eq!(usage.status, 2, "{usage:?}");
    assert!(
        usage.err.contains("needs the number of a type"),
        "{usage:?}"
    );
    let long = servers.run_args(&["raw", &"x".repeat(65_507)]);
    assert_eq!(long.status, 2, "{long:?}");
    assert!(long.err.contains("does not fit 65507 bytes"), "{long:?}");
}

#[test]
fn raw_asks_one_server_or_all() {
    let subject = Subject::start(Kind::Uring, Some(&configuration()), KEY);
    let dead = Dead::new();
    let servers = Servers::new(&[subject.address(), dead.address()]);
    let one = servers.run("raw 0");
    assert_eq!((one.status, one.err.as_str()), (0, ""));
    let all = servers.run("raw --all 0");
    assert_eq!(all.status, 3, "{all:?}");
    let prefix = format!("{}: {{", subject.address());
    assert!(
        all.out.starts_with(&prefix) && all.out.lines().count() == 1,
        "{all:?}"
    );
    assert!(all.err.contains("connection refused"), "{all:?}");
}

#[test]
fn raw_reads_standard_input() {
    let mut child = command(&["--demo", "raw", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = b"{\"protocol\":1,\"type\":0,\"rsalt\":\"x\"}\n";
    child.stdin.take().unwrap().write_all(request).unwrap();
    let output = ran(&child.wait_with_output().unwrap());
    assert_eq!(output.status, 0, "{output:?}");
    assert!(output.out.contains("3000000"), "{output:?}");
}

#[test]
fn replies_with_a_wrong_signature_are_shown_and_ignored() {
    let fake = UdpSocket::bind("127.0.0.1:0").unwrap();
    let servers = Servers::new(&[fake.local_addr().unwrap()]);
    let answering = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let (_, from) = fake.recv_from(&mut buffer).unwrap();
        fake.send_to(
            b"plj0{\"msg\":\"\x1b[31m\",\"salt\":\"\",\"hmac\":\"\"}",
            from,
        )
        .unwrap();
        fake
    });
    let query = servers.run("--timeout=300ms query --verbose ping");
    let _still_bound = answering.join().unwrap();
    assert_eq!(query.status, 3, "{query:?}");
    let received: Vec<&str> = query.err.lines().filter(|it| it.contains(" < ")).collect();
    assert_eq!(received.len(), 1, "{query:?}");
    assert!(received[0].contains(" bytes IGNORED ("), "{query:?}");
    let is_control = |c: char| c.is_control() && c != '\n';
    assert!(!query.err.contains(is_control), "{query:?}");
}

#[test]
fn verbose_queries_and_probes_show_both_directions() {
    let subject = Subject::start(Kind::Uring, Some(&configuration()), KEY);
    let dead = Dead::new();
    let servers = Servers::new(&[subject.address(), dead.address()]);
    for arguments in ["query -v ping", "-v probe"] {
        let shown = servers.run(arguments);
        let sent = packets(&shown.err, ">");
        assert!(sent.len() >= 2, "{arguments}: {shown:?}");
        let received = packets(&shown.err, "<");
        assert!(!received.is_empty(), "{arguments}: {shown:?}");
        for datagram in sent.into_iter().chain(received) {
            assert!(envelope(datagram)["msg"].is_string(), "{datagram}");
        }
        let refused = packets(&shown.err, "!");
        assert!(
            refused.contains(&"connection refused, no daemon listens there"),
            "{shown:?}"
        );
    }
    let quiet = servers.run("query ping");
    assert!(!quiet.err.contains("plj0"), "{quiet:?}");
}

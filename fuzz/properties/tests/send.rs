//! The program `send` against engines in this process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ganeti_confd::engine::{self, Workers};
use ganeti_confd::protocol::Key;
use ganeti_confd::responder::{Responder, Served};
use ganeti_confd::snapshot::Snapshot;
use properties::sample;

/// A key other than the corpora's.
const KEY: &[u8] = b"another key\n";

/// A daemon that serves the sample with the serial number `serial`.
fn daemon(serial: &str) -> Workers {
    let text = String::from_utf8(sample::CONFIG_DATA.to_vec()).expect("UTF-8");
    let text = text.replace("\"serial_no\": 77", &format!("\"serial_no\": {serial}"));
    let served = Served {
        key: Arc::new(Key::new(KEY).expect("a key")),
        snapshot: Arc::new(Snapshot::load(text.as_bytes()).expect("it loads").snapshot),
    };
    let sockets = engine::bind((Ipv4Addr::LOCALHOST, 0).into(), 1).expect("loopback");
    let served = Arc::new(ArcSwap::from_pointee(served));
    engine::start(sockets, None, &served, Responder::new).expect("an engine")
}

/// Writes a temporary file.
fn file(folder: &str, name: &str, bytes: &[u8]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&folder).expect("writable");
    let file = folder.join(name);
    fs::write(&file, bytes).expect("writable");
    file
}

fn send(arguments: &[&str]) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_send"))
        .args(arguments)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().expect("it ends by itself"), said)
}

fn with_key(address: SocketAddr, more: &[&str]) -> (i32, String) {
    let key = file("keys", "hmac.key", KEY);
    let (key, address) = (key.to_str().expect("UTF-8"), address.to_string());
    send(&[&["--key-file", key, &address], more].concat())
}

fn corpus(name: &str) -> String {
    format!("{}/../corpus/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn corpora_are_signed_again_and_answered() {
    let daemon = daemon("77");
    for name in ["datagram", "signed_request"] {
        let (status, said) = with_key(daemon.local_addr(), &["--limit", "40", &corpus(name)]);
        let total = said.lines().last().expect("a total");
        assert_eq!(status, 0, "{said}");
        assert!(
            total.starts_with("40 inputs: ") && !total.contains(" 0 answers"),
            "{total}"
        );
        assert_eq!(
            said.matches(": status 0").count(),
            number_before(total, " answers,"),
            "{said}"
        );
    }
    let folder = corpus("envelope");
    let (status, said) = with_key(daemon.local_addr(), &["--limit", "40", &folder]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("40 inputs: 40 silences"), "{said}");
}

fn number_before(text: &str, what: &str) -> usize {
    let before = text.split(what).next().expect("some text");
    let number = before.rsplit(' ').next().expect("some text");
    number.parse().unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn answers_of_two_daemons_are_compared() {
    let (one, same, other) = (daemon("77"), daemon("77"), daemon("78"));
    let against = |reference: &Workers| {
        let reference = reference.local_addr().to_string();
        let more = [
            "--quiet",
            "--limit",
            "40",
            "--reference",
            &reference,
            &corpus("datagram"),
        ];
        with_key(one.local_addr(), &more)
    };
    let (status, said) = against(&same);
    assert_eq!((status, said.lines().count()), (0, 1), "{said}");
    let (status, said) = against(&other);
    assert_eq!(status, 1, "{said}");
    let count = said.matches("DISAGREE").count();
    assert!(
        count > 0 && said.ends_with(&format!("; {count} disagreements\n")),
        "{said}"
    );
    assert!(
        said.contains("\"serial\":77}") && said.contains("\"serial\":78}"),
        "{said}"
    );
}

#[test]
fn a_missing_answer_is_a_disagreement() {
    // The reference in this test answers pings and nothing else.
    let daemon = daemon("77");
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let deaf = socket.local_addr().expect("bound").to_string();
    std::thread::spawn(move || answer_pings(&socket));
    let ping = br#"{"protocol":1,"type":3,"rsalt":"R"}"#;
    let salt = sample::NOW.to_string();
    let datagram =
        properties::signed_request::enveloped(&salt, str::from_utf8(ping).expect("ASCII"));
    let input = file("datagram", "master", &datagram);
    let input = input.to_str().expect("UTF-8");
    let (status, said) = with_key(daemon.local_addr(), &["--reference", &deaf, input]);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("daemon     {\"protocol\":1,\"status\":0"),
        "{said}"
    );
    assert!(said.contains("reference  silence"), "{said}");
}

/// Answers pings.
fn answer_pings(socket: &std::net::UdpSocket) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let request = properties::reference_parser::judge(&buffer[..len], now(), KEY);
        let Some(request) = request.ok().filter(|request| request.kind == 0) else {
            continue;
        };
        let message = r#"{"protocol":1,"status":0,"answer":3000000,"serial":0}"#;
        let hmac = properties::reference_parser::tag(KEY, &request.rsalt, message);
        let reply = serde_json::json!({ "hmac": hmac, "msg": message, "salt": request.rsalt });
        let _ = socket.send_to(format!("plj0{reply}").as_bytes(), from);
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("past 1970").as_secs()
}

#[test]
fn other_hosts_and_other_keys_are_refused() {
    let key = file("keys", "wrong.key", b"wrong");
    let key = key.to_str().expect("UTF-8");
    let folder = corpus("datagram");
    for address in ["192.0.2.1:1814", "[2001:db8::1]:1814", "0.0.0.0:1814"] {
        let (status, said) = send(&["--key-file", key, address, &folder]);
        assert_eq!(status, 2, "{said}");
        assert!(
            said.contains("not an address of the loopback interface"),
            "{said}"
        );
    }
    let daemon = daemon("77");
    let address = daemon.local_addr().to_string();
    let (status, said) = send(&["--key-file", key, &address, &folder]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("does not answer a ping"), "{said}");
}

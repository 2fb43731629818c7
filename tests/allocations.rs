//! Answering a datagram, or dropping it, allocates no memory.
//!
//! A test binary of its own, because counting replaces the allocator.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reject, envelope};
use ganeti_confd::responder::{Datagram, ReplayTable, Responder, Served};
use ganeti_confd::snapshot::Snapshot;
use serde_json::Value;

const NOW: u64 = 1_800_000_000;

/// Answers `datagram`, and returns the number of allocations on this thread and the outcome.
fn allocations(
    responder: &mut Responder,
    served: &Served,
    datagram: &[u8],
) -> (u64, Result<(), Reject>) {
    let mut buffer = datagram.to_vec();
    buffer.resize(datagram.len() + PADDING, 0);
    let mut out = vec![0; REPLY_BYTES_MAX];
    let mut outcome = Ok(());
    let counted = allocation_counter::measure(|| {
        let datagram = Datagram::new(&mut buffer, datagram.len());
        outcome = responder
            .respond(datagram, NOW, served, &mut out)
            .map(|_| ());
    });
    (counted.count_total, outcome)
}

fn served(configuration: &[u8]) -> Option<Served> {
    let loaded = Snapshot::load(configuration).ok()?;
    Some(Served {
        key: Arc::new(key()),
        snapshot: Arc::new(loaded.snapshot),
    })
}

/// A responder as the daemon starts it.
fn responder() -> Responder {
    Responder::new().with_replay_protection(Arc::new(ReplayTable::new()))
}

fn key() -> Key {
    Key::new(b"testkey123").expect("the key has bytes")
}

#[test]
fn requests_of_the_transcripts_allocate_nothing() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut responder = responder();
    let mut answered = 0;
    for file in fs::read_dir(data.join("transcripts")).expect("tests/data/transcripts is there") {
        let text = fs::read_to_string(file.expect("readable").path()).expect("readable");
        let mut current = None;
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            let Some(request) = line["request"].as_str() else {
                // The conformance tests cover files that are edited first, and invalid files.
                let name = line["config"].as_str().filter(|_| line["edit"].is_null());
                let file = name.map(|name| fs::read(data.join("configs").join(name)));
                current = file.and_then(|file| served(&file.expect("readable")));
                continue;
            };
            let Some(served) = &current else {
                continue;
            };
            let datagram = envelope::request(&key(), NOW, request);
            let (count, outcome) = allocations(&mut responder, served, &datagram);
            assert_eq!(count, 0, "{request}");
            answered += usize::from(outcome.is_ok());
        }
    }
    assert!(
        answered > 500,
        "only {answered} requests were answered: the transcripts should have more"
    );
}

#[test]
fn the_first_and_the_largest_datagrams_allocate_nothing() {
    let served = served(demo::configuration(3, 10, 1).as_bytes()).expect("it is served");
    let ask = |kind: u8, query: &str| {
        let message =
            format!(r#"{{"protocol": 1, "type": {kind}, "query": {query}, "rsalt": "R"}}"#);
        envelope::request(&key(), NOW, &message)
    };
    let long = |text: &str, len: usize| format!("\"{}\"", text.repeat(len / text.len()));
    let mut datagrams = vec![
        ask(1, &long("\u{7f}", 61_000)),
        ask(1, &long("\\n", 40_000)),
        ask(7, &long("\u{7f}", 61_000)),
        ask(7, &long("é5", 60_000)),
        ask(10, &long("/~1\\\"", 40_000)),
        ask(2, &format!(r#"{{"0":{},"1":"x"}}"#, long("\\n", 40_000))),
        ask(2, &format!(r#"{{"2":[{}0]}}"#, "0,".repeat(30_000))),
        ask(2, &format!(r#"{{"2":["x"{}]}}"#, ",\"x\"".repeat(10_000))),
        ask(9, &format!(r#"{{"2":[{}]}}"#, long("\u{7f}", 50_000))),
        b"plj1".to_vec(),
        [&b"plj0"[..], &vec![b'['; REQUEST_BYTES_MAX - 4]].concat(),
        [&b"plj0"[..], &b"{\"a\":".repeat(10_000)].concat(),
        [&b"plj0{"[..], &vec![b'"'; REQUEST_BYTES_MAX - 5]].concat(),
        ask(0, "null")[..50].to_vec(),
    ];
    let mut forged = ask(0, "null");
    forged[20] ^= 1;
    datagrams.push(forged);
    for datagram in datagrams {
        // A new responder for each: no datagram may depend on memory taken by an earlier one.
        let (count, outcome) = allocations(&mut responder(), &served, &datagram);
        let start = datagram[..datagram.len().min(80)].escape_ascii();
        assert_eq!(count, 0, "{outcome:?}: {start}");
    }
}

#[test]
fn replays_allocate_nothing() {
    let served = served(demo::configuration(3, 10, 1).as_bytes()).expect("it is served");
    let table = Arc::new(ReplayTable::with_seed(1));
    let mut responder = Responder::new().with_replay_protection(table);
    let request = envelope::request(&key(), NOW, r#"{"protocol":1,"type":0,"rsalt":"R"}"#);
    let mut out = vec![0; REPLY_BYTES_MAX];
    let outcomes = [1, 2, 1].map(|host| {
        let mut buffer = [&request[..], &[0; PADDING]].concat();
        let mut outcome = Ok(());
        let counted = allocation_counter::measure(|| {
            let datagram = Datagram::new(&mut buffer, request.len());
            let datagram = datagram.from_peer([192, 0, 2, host].into());
            let reply = responder.respond(datagram, NOW, &served, &mut out);
            outcome = reply.map(|_| ());
        });
        assert_eq!(counted.count_total, 0, "{outcome:?}");
        outcome
    });
    assert_eq!(outcomes, [Ok(()), Err(Reject::Replayed), Ok(())]);
}

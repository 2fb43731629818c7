//! Files and datagrams with a few bytes changed: an error, silence or an answer, never a panic, and never an answer without a
//! signature that holds. Seeded; a failing seed is printed.

use std::sync::Arc;

use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, signed_message};
use ganeti_confd::responder::{Datagram, Responder, Served};
use ganeti_confd::snapshot::Snapshot;

const NOW: u64 = 1_800_000_000;
const FILES: u64 = 3_000;
const DATAGRAMS: u64 = 30_000;

/// Bytes that mean something in JSON, more often than others.
const TELLING: &[u8] = b"\"\\{}[],:0-9.eEtfnu \n\x00\x80\xff";

fn mangle(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..bytes.len());
        let byte = if random.bool() {
            TELLING[random.usize(0..TELLING.len())]
        } else {
            random.u8(..)
        };
        match random.u8(0..6) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, byte),
            2 => bytes.truncate(at.max(1)),
            3 => {
                let end = (at + random.usize(1..200)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.usize(0..bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => bytes[at] = byte,
        }
        if bytes.is_empty() {
            bytes.push(byte);
        }
    }
}

fn key() -> Key {
    Key::new(b"mangled").expect("the key has bytes")
}

fn respond(responder: &mut Responder, served: &Served, datagram: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = datagram.to_vec();
    // What stands behind a datagram is what an earlier one left there.
    buffer.extend([b'"'; PADDING]);
    let mut out = vec![0; REPLY_BYTES_MAX];
    let reply = responder.respond(
        Datagram::new(&mut buffer, datagram.len()),
        NOW,
        served,
        &mut out,
    );
    reply.ok().map(|reply| out[..reply.len].to_vec())
}

/// Requests of every type, about names that sample clusters have.
fn requests() -> Vec<Vec<u8>> {
    let node = demo::node_name(1);
    let instance = demo::instance_name(1);
    let mut queries = vec![
        "null".to_owned(),
        format!("\"{node}\""),
        format!("\"{instance}\""),
    ];
    queries.push(r#"{"0":"br0","1":"x","2":["192.0.2.1","y"],"3":[0,1.0,2]}"#.to_owned());
    queries.extend(
        ["/cluster", "/instances", "/nodes/0/x", "/cluster/tags/0"]
            .map(|path| format!("\"{path}\"")),
    );
    let messages = (0..12).flat_map(|kind| {
        queries.iter().map(move |query| {
            format!(r#"{{"protocol": 1, "type": {kind}, "query": {query}, "rsalt": "R\u00e9"}}"#)
        })
    });
    messages
        .map(|message| signed_message::request(&key(), NOW, &message))
        .collect()
}

#[test]
fn files() {
    let good = demo::configuration(3, 6, 1).into_bytes();
    let requests = requests();
    let mut responder = Responder::new();
    let mut loaded = 0;
    for seed in 0..FILES {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut text = good.clone();
        mangle(&mut random, &mut text);
        let outcome = std::panic::catch_unwind(|| Snapshot::load(&text));
        let Ok(outcome) = outcome else {
            panic!("seed {seed}: loading panics")
        };
        if let Ok(snapshot) = outcome {
            loaded += 1;
            let served = Served {
                key: Arc::new(key()),
                snapshot: Arc::new(snapshot.snapshot),
            };
            for request in &requests {
                respond(&mut responder, &served, request);
            }
        }
    }
    assert!(
        loaded > FILES / 20,
        "only {loaded} of {FILES} files loaded: the test looks at too little"
    );
}

#[test]
fn datagrams() {
    let loaded =
        Snapshot::load(demo::configuration(3, 6, 1).as_bytes()).expect("sample clusters load");
    let served = Served {
        key: Arc::new(key()),
        snapshot: Arc::new(loaded.snapshot),
    };
    let requests = requests();
    let mut responder = Responder::new();
    for seed in 0..DATAGRAMS {
        let mut random = fastrand::Rng::with_seed(seed);
        let good = &requests[random.usize(0..requests.len())];
        let mut bad = good.clone();
        mangle(&mut random, &mut bad);
        if let Some(reply) = respond(&mut responder, &served, &bad) {
            // The envelope's white space and spelling are not signed: then it is the same request still.
            let expected = respond(&mut responder, &served, good);
            assert_eq!(
                Some(reply),
                expected,
                "seed {seed}: another answer: {}",
                bad.escape_ascii()
            );
        }
    }
}

#[test]
fn signed_messages() {
    let loaded =
        Snapshot::load(demo::configuration(3, 6, 1).as_bytes()).expect("sample clusters load");
    let served = Served {
        key: Arc::new(key()),
        snapshot: Arc::new(loaded.snapshot),
    };
    let mut responder = Responder::new();
    for seed in 0..DATAGRAMS {
        let mut random = fastrand::Rng::with_seed(seed);
        let kind = random.u8(0..12);
        let query = r#"{"0":"br0","1":"x","2":["192.0.2.1","y"],"3":[0,1.0,2]}"#;
        let mut message =
            format!(r#"{{"protocol":1,"type":{kind},"query":{query},"rsalt":"R"}}"#).into_bytes();
        mangle(&mut random, &mut message);
        let message = String::from_utf8_lossy(&message);
        let request = signed_message::request(&key(), NOW, &message);
        if let Some(reply) = respond(&mut responder, &served, &request) {
            let envelope: serde_json::Value = serde_json::from_slice(&reply[4..])
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let inner = envelope["msg"]
                .as_str()
                .map(serde_json::from_str::<serde_json::Value>);
            assert!(
                matches!(inner, Some(Ok(_))),
                "seed {seed}: {}",
                reply.escape_ascii()
            );
        }
    }
}

/// A sample cluster whose iallocator parameters are `nested`.
fn with_parameter(nested: &str) -> String {
    let text = demo::configuration(1, 1, 1);
    let at = text
        .find("\"default_iallocator_params\":{")
        .expect("the field is there");
    let value = at + "\"default_iallocator_params\":{".len();
    format!("{}\"deep\":{nested}{}", &text[..value], &text[value..])
}

/// A disk with `depth` generations of children.
fn disk(depth: usize) -> String {
    let children = if depth == 0 {
        String::new()
    } else {
        disk(depth - 1)
    };
    format!(
        r#"{{"logical_id":["vg","lv"],"dev_type":"plain","children":[{children}],"size":1,"uuid":"u","serial_no":1}}"#
    )
}

#[test]
fn nesting_is_bounded() {
    let load = |text: &str| {
        Snapshot::load(text.as_bytes())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let brackets = |depth| with_parameter(&("[".repeat(depth) + &"]".repeat(depth)));
    assert_eq!(load(&brackets(250)), Ok(()));
    assert!(load(&brackets(300)).is_err_and(|error| error.contains("not valid JSON")));
    assert!(load(&brackets(1_000_000)).is_err());
    let disks = |depth| {
        demo::configuration(1, 0, 1).replacen(
            "\"disks\":{",
            &format!("\"disks\":{{\"d\":{}", disk(depth)),
            1,
        )
    };
    assert_eq!(load(&disks(120)), Ok(()));
    assert!(load(&disks(200)).is_err());
}

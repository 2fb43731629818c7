//! Measures the steps of the pure path one by one: parsing the envelope, verifying it, reading its
//! request, signing a reply.
//!
//! The inputs are the requests and replies of the conformance transcripts, in the layouts of three
//! writers. Times are per message, averaged over all. Where a step modifies its input, the time
//! includes copying it (about 10 ns).
//!
//! `cargo bench --bench protocol`; `-- verify` runs only the steps whose name contains `verify`.

use std::hint::black_box;
use std::path::Path;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use ganeti_confd::protocol::envelope::{self, Envelope};
use ganeti_confd::protocol::request::Request;
use ganeti_confd::protocol::{FOURCC, Key, PADDING, REQUEST_BYTES_MAX};
use serde_json::Value;

const NOW: u64 = 1_800_000_000;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// The requests of the transcript that covers all types, with their replies.
fn exchanges() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts/all-types.jsonl");
    let text = std::fs::read_to_string(file).expect("the transcript is there");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of a transcript is JSON"));
    let string = |value: &Value| value.as_str().map(str::to_owned);
    lines
        .filter_map(|line| Some((string(&line["request"])?, string(&line["reply"])?)))
        .collect()
}

/// The envelope of a request in three layouts: ours without spaces, Python's, and one with an
/// unnecessary escape.
fn envelopes(key: &Key, request: &str) -> [Vec<u8>; 3] {
    let compact = envelope::request(key, NOW, request)[FOURCC.len()..].to_vec();
    let envelope: Value = serde_json::from_slice(&compact).expect("an envelope is JSON");
    let (msg, salt, hmac) = (&envelope["msg"], &envelope["salt"], &envelope["hmac"]);
    let python = format!("{{\"msg\": {msg}, \"salt\": {salt}, \"hmac\": {hmac}}}\n");
    let odd = python.replacen("{\"m", "{\"\\u006d", 1);
    [compact, python.into_bytes(), odd.into_bytes()]
}

/// Appends the bytes that must follow a text.
fn padded(text: &[u8]) -> Vec<u8> {
    [text, &[0; PADDING]].concat()
}

/// A buffer for the longest request.
fn buffer() -> Vec<u8> {
    vec![0; REQUEST_BYTES_MAX + PADDING]
}

fn steps(criterion: &mut Criterion) {
    let key = Key::new(b"testkey123").expect("the key has bytes");
    let exchanges = exchanges();
    let mut group = criterion.benchmark_group("protocol");
    group.throughput(Throughput::Elements(exchanges.len() as u64));
    for (layout, name) in ["compact", "Python", "odd"].into_iter().enumerate() {
        let texts = exchanges
            .iter()
            .map(|(request, _)| padded(&envelopes(&key, request)[layout]))
            .collect();
        parse(&mut group, name, texts);
    }
    verify(&mut group, &key, &exchanges);
    request(&mut group, &exchanges);
    group.bench_function("sign", |bencher| {
        bencher.iter(|| {
            for (_, reply) in &exchanges {
                black_box(key.sign(b"3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11", reply.as_bytes()));
            }
        });
    });
    group.finish();
}

fn parse(group: &mut Group<'_>, layout: &str, texts: Vec<Vec<u8>>) {
    let (mut text, mut message) = (buffer(), buffer());
    group.bench_function(format!("parse/{layout}"), |bencher| {
        bencher.iter(|| {
            for bytes in &texts {
                let text = &mut text[..bytes.len()];
                text.copy_from_slice(bytes);
                let len = bytes.len() - PADDING;
                let envelope = Envelope::parse(text, len, &mut message);
                black_box(envelope.expect("an envelope"));
            }
        });
    });
}

fn verify(group: &mut Group<'_>, key: &Key, exchanges: &[(String, String)]) {
    let mut parts: Vec<_> = exchanges
        .iter()
        .map(|(request, _)| {
            let envelope = &envelopes(key, request)[0];
            (padded(envelope), envelope.len(), buffer())
        })
        .collect();
    let envelopes: Vec<_> = parts
        .iter_mut()
        .map(|(text, len, message)| Envelope::parse(text, *len, message).expect("an envelope"))
        .collect();
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            for envelope in &envelopes {
                black_box(envelope).verify(key).expect("it is signed");
            }
        });
    });
}

fn request(group: &mut Group<'_>, exchanges: &[(String, String)]) {
    let mut message = buffer();
    group.bench_function("request", |bencher| {
        bencher.iter(|| {
            for (request, _) in exchanges {
                let len = request.len();
                message[..len].copy_from_slice(request.as_bytes());
                black_box(Request::read(&mut message, len));
            }
        });
    });
}

criterion_group!(benches, steps);
criterion_main!(benches);

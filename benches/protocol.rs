//! The steps of the pure path, each alone: parse the envelope, verify it, read its request, sign a reply.
//!
//! Inputs are the requests and replies of the conformance transcripts, in the layouts of three writers; times are per message, the mean of all.
//! Where a step changes its input, copying that is measured too (some 10 ns).
//!
//! `cargo bench --bench protocol`; with a name, as in `-- verify`, only what contains it.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ganeti_confd::protocol::envelope::{self, Envelope};
use ganeti_confd::protocol::request::Request;
use ganeti_confd::protocol::{FOURCC, Key, PADDING, Parser, REQUEST_BYTES_MAX};
use serde_json::Value;

const NOW: u64 = 1_800_000_000;

/// The requests of the transcripts that cover all types, and their replies.
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

/// The envelope of a request as three writers put it: our compact one, Python's, and one that escapes what need not be.
fn envelopes(key: &Key, request: &str) -> [Vec<u8>; 3] {
    let compact = envelope::request(key, NOW, request)[FOURCC.len()..].to_vec();
    let envelope: Value = serde_json::from_slice(&compact).expect("an envelope is JSON");
    let (msg, salt, hmac) = (&envelope["msg"], &envelope["salt"], &envelope["hmac"]);
    let python = format!("{{\"msg\": {msg}, \"salt\": {salt}, \"hmac\": {hmac}}}\n");
    let odd = python.replacen("{\"m", "{\"\\u006d", 1);
    [compact, python.into_bytes(), odd.into_bytes()]
}

/// A text in a buffer with the parser's padding.
fn padded(text: &[u8]) -> Vec<u8> {
    [text, &[0; PADDING]].concat()
}

fn steps(criterion: &mut Criterion) {
    let key = Key::new(b"testkey123").expect("the key has bytes");
    let exchanges = exchanges();
    let mut parser = Parser::new();
    let mut message = vec![0; REQUEST_BYTES_MAX + PADDING];
    let mut group = criterion.benchmark_group("protocol");
    group.throughput(Throughput::Elements(exchanges.len() as u64));

    for (layout, name) in ["compact", "Python", "odd"].into_iter().enumerate() {
        let texts: Vec<_> = exchanges
            .iter()
            .map(|(request, _)| padded(&envelopes(&key, request)[layout]))
            .collect();
        let mut text = vec![0; REQUEST_BYTES_MAX + PADDING];
        group.bench_function(format!("parse/{name}"), |bencher| {
            bencher.iter(|| {
                for bytes in &texts {
                    let text = &mut text[..bytes.len()];
                    text.copy_from_slice(bytes);
                    let len = bytes.len() - PADDING;
                    let signed = Envelope::parse(&mut parser, text, len, &mut message);
                    black_box(signed.expect("an envelope"));
                }
            });
        });
    }

    let mut opened: Vec<_> = exchanges
        .iter()
        .map(|(request, _)| {
            let envelope = &envelopes(&key, request)[0];
            (
                padded(envelope),
                envelope.len(),
                vec![0; REQUEST_BYTES_MAX + PADDING],
            )
        })
        .collect();
    let signed: Vec<_> = opened
        .iter_mut()
        .map(|(text, len, message)| {
            Envelope::parse(&mut parser, text, *len, message).expect("an envelope")
        })
        .collect();
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            for signed in &signed {
                black_box(signed).verify(&key).expect("it is signed");
            }
        });
    });

    group.bench_function("request", |bencher| {
        bencher.iter(|| {
            for (request, _) in &exchanges {
                let len = request.len();
                message[..len].copy_from_slice(request.as_bytes());
                let kind = Request::read(&mut parser, &mut message, len, |request| request.kind);
                black_box(kind);
            }
        });
    });

    group.bench_function("sign", |bencher| {
        bencher.iter(|| {
            for (_, reply) in &exchanges {
                black_box(key.sign(b"3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11", reply.as_bytes()));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);

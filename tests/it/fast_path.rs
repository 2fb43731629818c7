//! The fast path for usual datagrams reads what the general parser reads, and takes what it should.

use ganeti_confd::protocol::{PADDING, Parser};
use properties::fast_path::compare;

const RSALT: &str = "3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11";
const HMAC: &str = "0123456789abcdefABCDEF012345678901234567";

/// What the buffer may hold after a datagram, left by an earlier one; also bytes that would
/// continue it.
const AFTER: [&[u8; PADDING]; 4] = [
    &[0; PADDING],
    &[b'"'; PADDING],
    &[b' '; PADDING],
    &[b'}'; PADDING],
];

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Requests, and whether the fast path takes them.
fn requests() -> Vec<(String, bool)> {
    let queries = [
        ("null", true),
        ("\"node1.example.com\"", true),
        ("\"/cluster/a~1b \u{7f}\"", true),
        ("\"\"", true),
        (r#"{"1":"192.0.2.7"}"#, true),
        (r#"{"0": "br0", "1": "192.0.2.7"}"#, true),
        ("{}", false),
        (r#"{"2":["192.0.2.7"]}"#, false),
        (r#"{"3":[0,1,2]}"#, false),
        (r#""a\"b""#, false),
        (r#""a\\b""#, false),
        ("\"\u{e9}\"", false),
    ];
    let layouts = [
        "{\"protocol\": 1, \"type\": 7, \"query\": QUERY, \"rsalt\": \"RSALT\"}\n",
        r#"{"protocol":1,"type":11,"query":QUERY,"rsalt":"RSALT"}"#,
        r#"{"rsalt":"RSALT","query":QUERY,"type":0,"protocol":1}"#,
        "{ \"type\" : 0 ,\n\t\"protocol\" : 99 , \"rsalt\" : \"RSALT\", \"query\" : QUERY }\r\n",
    ];
    let with = |layout: &str, query: &str| layout.replace("QUERY", query).replace("RSALT", RSALT);
    let mut requests: Vec<_> = layouts
        .iter()
        .flat_map(|layout| queries.map(|(query, fast)| (with(layout, query), fast)))
        .collect();
    requests.push((r#"{"protocol":1,"type":0,"rsalt":"R"}"#.into(), true));
    for wrong in [
        r#"{"protocol":1,"type":12,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":01,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":0,"type":0,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":0,"rsalt":"R","more":1}"#,
        r#"{"protocol":1,"type":0,"rsalt":"R",}"#,
        r#"{"protocol":1,"type":0,"query":nullx,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":0}"#,
        r#"{"protocol":1,"type":1.0,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":0,"rsalt":"R"}x"#,
        r#" {"protocol":1,"type":0,"rsalt":"R"}"#,
    ] {
        requests.push((wrong.into(), false));
    }
    requests
}

/// `message` in the layouts of Ganeti's Python library and of compact writers, and in unusual ones.
fn envelopes(message: &str) -> [String; 4] {
    let message = quoted(message);
    [
        format!("{{\"msg\": {message}, \"salt\": \"1795354392\", \"hmac\": \"{HMAC}\"}}\n"),
        format!(r#"{{"hmac":"{HMAC}","msg":{message},"salt":"1795354392"}}"#),
        format!("{{\"salt\" :\"1795354392\"\n, \"msg\":{message}\t,\"hmac\": \"{HMAC}\" }}  "),
        format!(r#"{{"salt":"","hmac":"","msg":{message}}}"#),
    ]
}

#[test]
fn known_layouts_take_the_fast_path() {
    let mut parser = Parser::new();
    for (request, fast) in requests() {
        for after in AFTER {
            assert_eq!(
                compare(&mut parser, request.as_bytes(), after),
                fast,
                "{request}"
            );
        }
        // The message of an envelope may have no escapes but `\"` and `\n`.
        let fast = request.is_ascii() && !request.contains(['\\', '\t', '\r']);
        for envelope in envelopes(&request) {
            assert_eq!(
                compare(&mut parser, envelope.as_bytes(), AFTER[0]),
                fast,
                "{envelope}"
            );
        }
    }
}

fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    const SYNTAX: &[u8] = b"\"\"\\\\{}[],:0-9.eEu \n\t\x00\x1f\x7f\x80\xff";
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..bytes.len());
        let byte = match random.bool() {
            true => SYNTAX[random.usize(0..SYNTAX.len())],
            false => random.u8(..),
        };
        match random.u8(0..6) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, byte),
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..(at + random.usize(1..60)).min(bytes.len())].to_vec();
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

#[test]
fn mutated_texts_are_read_alike() {
    let mut parser = Parser::new();
    let mut texts = Vec::new();
    for (request, _) in requests() {
        texts.extend(envelopes(&request));
        texts.push(request);
    }
    let mut taken = 0;
    for seed in 0..100_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = texts[random.usize(..texts.len())].clone().into_bytes();
        mutate(&mut random, &mut bytes);
        let after = AFTER[random.usize(..AFTER.len())];
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            compare(&mut parser, &bytes, after)
        }));
        taken += usize::from(
            outcome.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii())),
        );
    }
    assert!(
        taken > 5_000,
        "the fast path took only {taken} texts: the test covers too little"
    );
}

#[test]
fn strings_of_all_lengths_are_delimited() {
    let mut parser = Parser::new();
    for len in 0..70 {
        for at in 0..=len {
            let mut message = "m".repeat(len);
            message.insert_str(at, "\"\n\"n");
            for envelope in envelopes(&message) {
                assert!(
                    compare(&mut parser, envelope.as_bytes(), AFTER[1]),
                    "{envelope}"
                );
            }
            let mut odd = envelopes(&"m".repeat(len))[1].clone();
            let place = odd.find("msg").expect("a message") + 6 + at;
            for bad in ["\u{1f}", "\u{80}", "\\t", "\\\\", "\\"] {
                odd.insert_str(place, bad);
                assert!(!compare(&mut parser, odd.as_bytes(), AFTER[1]), "{odd}");
                odd.replace_range(place..place + bad.len(), "");
            }
        }
    }
}

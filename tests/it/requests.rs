//! Envelopes and requests in usual and unusual layouts, and with mistakes, against serde_json.

use ganeti_confd::protocol::REQUEST_BYTES_MAX;
use properties::envelope::{AFTER, is_valid};
use properties::work;

const RSALT: &str = "3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11";
const HMAC: &str = "0123456789abcdefABCDEF012345678901234567";

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Requests, and whether they are valid.
fn requests() -> Vec<(String, bool)> {
    let queries = [
        ("null", true),
        ("\"node1.example.com\"", true),
        ("\"/cluster/a~1b \u{7f}\"", true),
        ("\"\"", true),
        (r#"{"1":"192.0.2.7"}"#, true),
        (r#"{"0": "br0", "1": "192.0.2.7"}"#, true),
        ("{}", true),
        (r#"{"2":["192.0.2.7"]}"#, true),
        (r#"{"3":[0,1,2]}"#, true),
        (r#""a\"b""#, true),
        (r#""a\\b""#, true),
        ("\"\u{e9}\"", true),
        (r#"{"0":null,"1":null,"2":null,"3":null}"#, true),
        (
            r#"{"\u0030":"\ud83d\ude00","2":[ ],"3":[ 2.0 , 10e-1 ]}"#,
            true,
        ),
        (r#"{"2":["","a\"b","\u00e9", "10.0.0.1" ]}"#, true),
        (r#"{"3":["0","1","\u0032"]}"#, true),
        (r#"{"3":["0","1"]}"#, false),
        (r#"{"3":["1","0","2"]}"#, false),
        (r#"{"3":["0",1,"2"]}"#, false),
        (r#"{"3":[3]}"#, false),
        (r#"{"3":[0.5]}"#, false),
        (r#"{"2":["a",]}"#, false),
        (r#"{"2":["a"}"#, false),
        (r#"{"2":[["a"]]}"#, false),
        (r#"{"0":null,"0":"a"}"#, false),
        (r#"{"4":null}"#, false),
        (r#""\ud83d""#, false),
        ("[]", false),
        ("1", false),
        ("true", false),
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
        .flat_map(|layout| queries.map(|(query, valid)| (with(layout, query), valid)))
        .collect();
    for right in [
        r#"{"protocol":1,"type":0,"rsalt":"R"}"#,
        r#"{"protocol":-1.5e300,"type":1.0,"rsalt":"\u0052"}"#,
        r#"{"protocol":99999999999999999999999,"type":0.00000000000000000000011e23,"rsalt":""}"#,
        r#"{"pr\u006ftocol":0,"\u0074ype":-0,"\u0072salt":"R"}"#,
    ] {
        requests.push((right.into(), true));
    }
    for wrong in [
        r#"{"protocol":1,"type":12,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":01,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":0,"type":0,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":0,"rsalt":"R","more":1}"#,
        r#"{"protocol":1,"type":0,"rsalt":"R",}"#,
        r#"{"protocol":1,"type":0,"query":nullx,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":0}"#,
        r#"{"protocol":1,"type":1.5,"rsalt":"R"}"#,
        r#"{"protocol":1e400,"type":1,"rsalt":"R"}"#,
        r#"{"protocol":1.,"type":1,"rsalt":"R"}"#,
        r#"{"protocol":"1","type":1,"rsalt":"R"}"#,
        r#"{"protocol":1,"type":1,"rsalt":null}"#,
        r#"{"protocol":1,"type":1,"rsalt":"R\ude00"}"#,
        r#"{}"#,
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
fn all_layouts_are_read() {
    for (request, valid) in requests() {
        for after in &AFTER {
            assert_eq!(is_valid(request.as_bytes(), after), valid, "{request}");
            for envelope in envelopes(&request) {
                assert!(is_valid(envelope.as_bytes(), after), "{envelope}");
            }
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
    let mut texts = Vec::new();
    for (request, _) in requests() {
        texts.extend(envelopes(&request));
        texts.push(request);
    }
    let mut valid = 0;
    for seed in 0..100_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = texts[random.usize(..texts.len())].clone().into_bytes();
        mutate(&mut random, &mut bytes);
        let after = &AFTER[random.usize(..AFTER.len())];
        let outcome = std::panic::catch_unwind(|| is_valid(&bytes, after));
        valid += usize::from(
            outcome.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii())),
        );
    }
    assert!(
        valid > 5_000,
        "only {valid} texts are valid: the test covers too little"
    );
}

#[test]
fn strings_of_all_lengths_are_delimited() {
    for len in 0..70 {
        for at in 0..=len {
            let mut message = "m".repeat(len);
            message.insert_str(at, "\"\n\"n");
            for envelope in envelopes(&message) {
                assert!(is_valid(envelope.as_bytes(), &AFTER[1]), "{envelope}");
            }
            let mut odd = envelopes(&"m".repeat(len))[1].clone();
            let place = odd.find("msg").expect("a message") + 6 + at;
            for (escape, valid) in [
                ("\u{1f}", false),
                ("\u{80}", true),
                ("\\t", true),
                ("\\\\", true),
                ("\\", false),
                ("\\u00e9", true),
            ] {
                odd.insert_str(place, escape);
                // A backslash before the end, or before an `m`, is part of no escape.
                assert_eq!(is_valid(odd.as_bytes(), &AFTER[1]), valid, "{odd}");
                odd.replace_range(place..place + escape.len(), "");
            }
        }
    }
}

/// Texts of the greatest length, filled with each of these and with random sequences of them.
#[test]
fn dense_texts_take_linear_work() {
    const UNITS: [&str; 24] = [
        "0,",
        "5e-324,",
        "1.9999999999999999,",
        "2.4703282292062327e-324,",
        "1e999,",
        "-0.0e-0,",
        "\\\"",
        "\\\\",
        "\\n",
        "\\t",
        "\\/",
        "\\u0041",
        "\\u20ac",
        "\\ud83d\\ude00",
        "\\",
        "\"",
        "\",\"",
        "[",
        "]",
        "{\"a\":",
        "a",
        "\u{e9}",
        " ",
        "\u{20ac}\u{1f600}",
    ];
    const STARTS: [&str; 10] = [
        "",
        "{",
        "{\"",
        "{\"msg\":\"",
        "{\"salt\":\"",
        "{\"msg\":[",
        "{\"type\":",
        "{\"query\":\"",
        "{\"query\":{\"2\":[\"",
        "{\"query\":{\"3\":[",
    ];
    let mut random = fastrand::Rng::with_seed(1);
    for start in STARTS {
        for unit in UNITS {
            let mut text = start.to_owned();
            while text.len() < REQUEST_BYTES_MAX - 40 {
                text.push_str(unit);
            }
            work::check(text.as_bytes());
        }
        for _ in 0..20 {
            let units = [(); 4].map(|()| UNITS[random.usize(..UNITS.len())]);
            let mut text = start.to_owned();
            while text.len() < REQUEST_BYTES_MAX - 40 {
                text.push_str(units[random.usize(..units.len())]);
            }
            work::check(text.as_bytes());
        }
    }
}

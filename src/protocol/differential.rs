//! The two ways to read a datagram, [`fast_path`] and the parser's, held equal: for tests, and for fuzzing.

use super::envelope::EnvelopeSpans;
use super::request::Request;
use super::{PADDING, Parser, fast_path};

/// The two ways, and the parser's memory.
#[derive(Debug, Default)]
pub struct Differential(Parser);

impl Differential {
    /// Reads `bytes`, of a request's length at most, as an envelope and as a request, with `behind` standing behind them.
    /// Whether they are a plain one of either.
    ///
    /// # Panics
    ///
    /// If they are plain, and the parser reads something else in them, or nothing.
    pub fn compare(&mut self, bytes: &[u8], behind: &[u8; PADDING]) -> bool {
        let text = [bytes, behind].concat();
        let len = bytes.len();
        let mut message = vec![0; text.len()];
        let mut again = message.clone();
        let is_envelope = fast_path::envelope(&text, len, &mut message).inspect(|plain| {
            let mut text = text.clone();
            let parsed = EnvelopeSpans::parse(&mut self.0, &mut text, len, &mut again);
            let parsed = parsed.expect("a plain envelope is one");
            let message = &message[..plain.message_len];
            assert_eq!(message, &again[..parsed.message_len]);
            assert_eq!(bytes[plain.salt.clone()], text[parsed.salt]);
            assert_eq!(bytes[plain.hmac.clone()], text[parsed.hmac]);
        });
        let is_request = fast_path::request(&text, len).inspect(|plain| {
            let plain = format!("{plain:?}");
            let parsed = Request::parse(&mut self.0, &mut text.clone(), len, |parsed| {
                assert_eq!(plain, format!("{parsed:?}"));
            });
            parsed.expect("a plain request is one");
        });
        is_envelope.is_some() || is_request.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSALT: &str = "3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11";
    const HMAC: &str = "0123456789abcdefABCDEF012345678901234567";

    /// What may stand behind a datagram: what an earlier one left there, among others such as go on where this one ends.
    const BEHIND: [&[u8; PADDING]; 4] = [
        &[0; PADDING],
        &[b'"'; PADDING],
        &[b' '; PADDING],
        &[b'}'; PADDING],
    ];

    fn quoted(text: &str) -> String {
        serde_json::to_string(text).expect("text is JSON")
    }

    /// Requests, and whether they are plain.
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
        let with =
            |layout: &str, query: &str| layout.replace("QUERY", query).replace("RSALT", RSALT);
        let mut requests: Vec<_> = layouts
            .iter()
            .flat_map(|layout| queries.map(|(query, plain)| (with(layout, query), plain)))
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

    /// The layouts of Ganeti's Python library, of compact writers, and odd ones.
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
    fn known_layouts_are_plain() {
        let mut ways = Differential::default();
        for (request, plain) in requests() {
            for behind in BEHIND {
                assert_eq!(ways.compare(request.as_bytes(), behind), plain, "{request}");
            }
            // All but what takes other escapes in the envelope.
            let plain = request.is_ascii() && !request.contains(['\\', '\t', '\r']);
            for envelope in envelopes(&request) {
                assert_eq!(
                    ways.compare(envelope.as_bytes(), BEHIND[0]),
                    plain,
                    "{envelope}"
                );
            }
        }
    }

    fn mangle(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
        const TELLING: &[u8] = b"\"\"\\\\{}[],:0-9.eEu \n\t\x00\x1f\x7f\x80\xff";
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..bytes.len());
            let byte = match random.bool() {
                true => TELLING[random.usize(0..TELLING.len())],
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
    fn mangled_texts_are_read_the_same() {
        let mut ways = Differential::default();
        let mut texts = Vec::new();
        for (request, _) in requests() {
            texts.extend(envelopes(&request));
            texts.push(request);
        }
        let mut plain = 0;
        for seed in 0..100_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = texts[random.usize(..texts.len())].clone().into_bytes();
            mangle(&mut random, &mut bytes);
            let behind = BEHIND[random.usize(..BEHIND.len())];
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                ways.compare(&bytes, behind)
            }));
            plain += usize::from(
                outcome.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii())),
            );
        }
        assert!(
            plain > 5_000,
            "only {plain} texts were plain: the test looks at too little"
        );
    }

    #[test]
    fn strings_of_all_lengths_end_where_they_end() {
        let mut ways = Differential::default();
        for len in 0..70 {
            for at in 0..=len {
                let mut message = "m".repeat(len);
                message.insert_str(at, "\"\n\"n");
                for envelope in envelopes(&message) {
                    assert!(ways.compare(envelope.as_bytes(), BEHIND[1]), "{envelope}");
                }
                let mut odd = envelopes(&"m".repeat(len))[1].clone();
                let place = odd.find("msg").expect("a message") + 6 + at;
                for bad in ["\u{1f}", "\u{80}", "\\t", "\\\\", "\\"] {
                    odd.insert_str(place, bad);
                    assert!(!ways.compare(odd.as_bytes(), BEHIND[1]), "{odd}");
                    odd.replace_range(place..place + bad.len(), "");
                }
            }
        }
    }
}

//! The deliberate differences from the reference: one module for each section of
//! `docs/differences.md`, by number.
//!
//! Differences that need a process, a socket or a file that changes are tested elsewhere: 4 to 6 in
//! `reload`, 10 in `engine`, 11 in `daemon`.

use std::sync::Arc;

use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reject, envelope};
use ganeti_confd::responder::{Datagram, ReplyInfo, Responder, Served};
use ganeti_confd::snapshot::Snapshot;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn key() -> Key {
    Key::new(b"differences").expect("the key has bytes")
}

/// A small cluster, as a value that a test can change.
fn cluster() -> Value {
    serde_json::from_str(&demo::configuration(3, 4, 1)).expect("sample clusters are JSON")
}

pub(crate) fn load(text: &str) -> Result<Served, String> {
    let loaded = Snapshot::load(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(Served {
        key: Arc::new(key()),
        snapshot: Arc::new(loaded.snapshot),
    })
}

fn served(configuration: &Value) -> Served {
    served_text(&configuration.to_string())
}

fn served_text(text: &str) -> Served {
    load(text).expect("the configuration is served")
}

fn respond(served: &Served, datagram: &[u8]) -> Result<(ReplyInfo, Vec<u8>), Reject> {
    let mut buffer = datagram.to_vec();
    buffer.resize(datagram.len() + PADDING, 0);
    let mut out = vec![0; REPLY_BYTES_MAX];
    let reply = Responder::new().respond(
        Datagram::new(&mut buffer, datagram.len()),
        NOW,
        served,
        &mut out,
    )?;
    out.truncate(reply.len);
    Ok((reply, out))
}

/// Signs and sends `message`. Checks the reply's signature and returns its inner message.
fn ask_text(served: &Served, message: &str) -> Result<Value, Reject> {
    let (_, reply) = respond(served, &envelope::request(&key(), NOW, message))?;
    let envelope: Value = serde_json::from_slice(&reply[4..]).expect("a reply is JSON");
    let part = |name: &str| {
        envelope[name]
            .as_str()
            .expect("a reply's parts are strings")
    };
    let tag = key().sign(part("salt").as_bytes(), part("msg").as_bytes());
    let digits: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        part("hmac"),
        digits,
        "the signature is over the sent message"
    );
    Ok(serde_json::from_str(part("msg")).expect("an inner message is JSON"))
}

pub(crate) fn ask(served: &Served, kind: u8, query: impl Into<Value>) -> Value {
    let message = json!({"protocol": 1, "type": kind, "query": query.into(), "rsalt": "R"});
    ask_text(served, &message.to_string()).expect("an answer")
}

mod d01_json_and_nothing_else {
    use super::*;

    #[test]
    fn requests() {
        let served = served(&cluster());
        for message in [
            r#"{"protocol":1.,"type":0,"rsalt":"R"}"#,
            r#"{"protocol":1,"type":0,"rsalt":["R"]}"#,
            r#"{"protocol":1,"type":0,"type":0,"rsalt":"R"}"#,
            r#"{"protocol":1,"type":0.4,"rsalt":"R"}"#,
            r#"{"protocol":1,"type":18446744073709551616,"rsalt":"R"}"#,
            "{\u{b}\"protocol\":1,\"type\":0,\"rsalt\":\"R\"}",
        ] {
            assert_eq!(
                ask_text(&served, message),
                Err(Reject::BadRequest),
                "{message}"
            );
        }
    }

    #[test]
    fn clocks() {
        let served = served(&cluster());
        let message = r#"{"protocol":1,"type":0,"rsalt":"R"}"#;
        for salt in [
            format!("({NOW})"),
            format!("{NOW:#x}"),
            format!(" {NOW}"),
            format!("+{NOW}"),
        ] {
            let tag = key().sign(salt.as_bytes(), message.as_bytes());
            let hmac: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
            let envelope = json!({"msg": message, "salt": salt, "hmac": hmac});
            let outcome = respond(&served, format!("plj0{envelope}").as_bytes());
            assert_eq!(
                outcome.map(|(reply, _)| reply),
                Err(Reject::ClockSkew),
                "{salt}"
            );
        }
    }

    #[test]
    fn files() {
        let text = cluster().to_string();
        let replaced =
            |from: &str, to: &str| load(&text.replacen(from, to, 1)).map(|_| ()).unwrap_err();
        let twice = replaced("\"nodes\":{", "\"networks\":{},\"nodes\":{");
        assert!(twice.contains("'networks' appears twice"), "{twice}");
        let point = replaced("\"master_netmask\":", "\"master_netmask\":1.,\"x\":");
        assert!(
            point.contains("line 1, column") && point.contains("not valid JSON"),
            "{point}"
        );
        let space = load(&format!("\u{a0}{text}")).map(|_| ()).unwrap_err();
        assert!(space.contains("line 1, column 1"), "{space}");
    }
}

mod d02_utf8 {
    use super::*;

    #[test]
    fn text_is_read_and_written_as_utf8() {
        let mut configuration = cluster();
        configuration["cluster"]["tags"] = json!(["münchen", "€", "😀"]);
        let served = served(&configuration);
        assert_eq!(ask(&served, 10, "/cluster/tags/0")["answer"], "münchen");
        assert_eq!(ask(&served, 10, "/cluster/tags/2")["answer"], "😀");
        let message = r#"{"protocol":1,"type":0,"rsalt":"é€😀"}"#;
        assert_eq!(ask_text(&served, message).expect("an answer")["status"], 0);
        let missing = ask(&served, 1, "nöd");
        assert!(
            missing["answer"]
                .as_str()
                .is_some_and(|text| text.contains("Node name nöd not found"))
        );
    }
}

mod d03_what_no_query_needs {
    use super::*;

    #[test]
    fn unknown_keys_are_kept_after_the_known_ones() {
        let mut configuration = cluster();
        configuration["cluster"]["novelty"] = json!({"b": 1.50, "a": null});
        let loaded = Snapshot::load(configuration.to_string().as_bytes()).expect("it is served");
        assert_eq!(loaded.warnings, ["Cluster: unknown key 'novelty' (kept)"]);
        let served = served(&configuration);
        assert_eq!(
            ask(&served, 10, "/cluster/novelty")["answer"],
            json!({"b": 1.5, "a": null})
        );
    }

    #[test]
    fn missing_keys_are_omitted() {
        let mut configuration = cluster();
        let node = configuration["nodes"]
            .as_object_mut()
            .and_then(|nodes| nodes.values_mut().next());
        node.and_then(Value::as_object_mut)
            .expect("a node")
            .remove("powered");
        let loaded = Snapshot::load(configuration.to_string().as_bytes()).expect("it is served");
        assert_eq!(loaded.warnings, ["Node: missing key 'powered' (left out)"]);
        assert_eq!(ask(&served(&configuration), 4, Value::Null)["status"], 0);
    }

    #[test]
    fn missing_mandatory_keys_and_wrong_types_are_rejected_with_their_place() {
        let rejected = |path: &[&str], value: Option<Value>| {
            let mut configuration = cluster();
            let (last, parents) = path.split_last().expect("a path");
            let parent = parents
                .iter()
                .fold(&mut configuration, |object, key| &mut object[*key]);
            let parent = parent.as_object_mut().expect("an object");
            match value {
                Some(value) => drop(parent.insert((*last).to_owned(), value)),
                None => drop(parent.remove(*last)),
            }
            load(&configuration.to_string()).map(|_| ()).unwrap_err()
        };
        let missing = rejected(&["cluster", "master_node"], None);
        assert_eq!(
            missing,
            "/cluster: key 'master_node' is missing; request types 1 and 3 cannot be answered \
             without it"
        );
        let wrong = rejected(&["cluster", "serial_no"], Some(json!("22")));
        assert_eq!(
            wrong,
            "/cluster/serial_no: expected a number, found a string; request types 1 to 6, 10 and 11 \
             cannot be answered without it"
        );
        let null = rejected(&["cluster", "master_ip"], Some(Value::Null));
        assert_eq!(
            null,
            "/cluster/master_ip: expected a string, found null; request type 3 cannot be answered \
             without it"
        );
    }
}

mod d07_long_requests {
    use super::*;

    #[test]
    fn are_answered_up_to_61440_bytes_and_dropped_beyond() {
        let served = served(&cluster());
        let request = |length: usize| {
            let empty =
                envelope::request(&key(), NOW, r#"{"protocol":1,"type":0,"rsalt":""}"#).len();
            let rsalt = "r".repeat(length - empty);
            envelope::request(
                &key(),
                NOW,
                &format!(r#"{{"protocol":1,"type":0,"rsalt":"{rsalt}"}}"#),
            )
        };
        for length in [4_097, REQUEST_BYTES_MAX] {
            let request = request(length);
            assert_eq!(request.len(), length);
            assert!(respond(&served, &request).is_ok(), "{length}");
        }
        let outcome = respond(&served, &request(REQUEST_BYTES_MAX + 1)).map(|(reply, _)| reply);
        assert_eq!(outcome, Err(Reject::TooLong));
    }
}

mod d08_answers_larger_than_a_datagram {
    use super::*;

    #[test]
    fn are_errors_and_reported_as_too_large() {
        let served = load(&demo::configuration(10, 500, 1)).expect("sample clusters load");
        let message = r#"{"protocol":1,"type":10,"query":"/instances","rsalt":"R"}"#;
        let request = envelope::request(&key(), NOW, message);
        let (reply, _) = respond(&served, &request).expect("an answer");
        assert!(reply.too_large);
        let answer = ask_text(&served, message).expect("an answer");
        assert_eq!(
            answer,
            json!({"protocol": 1, "status": 1, "answer": 1, "serial": 0})
        );
        let ips: Vec<&str> = vec!["192.0.2.1"; 4_000];
        let long = json!({"protocol": 1, "type": 2, "query": {"2": ips}, "rsalt": "R"});
        assert_eq!(
            ask_text(&served, &long.to_string()).expect("an answer")["status"],
            0
        );
    }
}

mod d09_no_default_nicparams {
    use super::*;

    #[test]
    fn queries_that_need_it_are_errors() {
        let mut configuration = cluster();
        configuration["cluster"]["nicparams"] = json!({});
        let served = served(&configuration);
        let error = json!({"protocol": 1, "status": 1, "answer": 1, "serial": 0});
        assert_eq!(ask(&served, 6, Value::Null), error);
        assert_eq!(ask(&served, 2, json!({"1": "192.0.2.1"})), error);
        assert_eq!(ask(&served, 2, json!({}))["answer"], json!([]));
        assert_eq!(ask(&served, 0, Value::Null)["status"], 0);
    }
}

mod d12_numbers {
    use super::*;

    #[test]
    fn are_exact_within_the_range_of_doubles_and_linear_in_their_length() {
        const MESSAGE: &str =
            r#"{"protocol":1,"type":10,"query":"/cluster/default_iallocator_params","rsalt":"R"}"#;
        for (written, printed) in [
            ("18446744073709551615", "18446744073709551615}"),
            ("-9223372036854775808", "-9223372036854775808}"),
            ("1e22", "10000000000000000000000}"),
            ("0.1e-5", "1.0e-6}"),
            ("1e-999999999999", "0.0}"),
            // Beyond the range of doubles: printed like the reference's infinity, 2^1024 in full.
            ("1e999999999999", "179769313486231590772930519078902473361"),
        ] {
            let mut configuration = cluster();
            configuration["cluster"]["default_iallocator_params"] = json!({"n": "HERE"});
            let text = configuration.to_string().replace("\"HERE\"", written);
            let served = load(&text).expect("it is served");
            let request = envelope::request(&key(), NOW, MESSAGE);
            let (_, reply) = respond(&served, &request).expect("an answer");
            let reply = String::from_utf8_lossy(&reply).into_owned();
            assert!(
                reply.contains(&format!(r#"{{\"n\":{printed}"#)),
                "{written}: {reply}"
            );
        }
    }

    #[test]
    fn digits_of_large_exponents_are_bounded() {
        let mut configuration = cluster();
        configuration["cluster"]["default_iallocator_params"] = json!({"n": "HERE"});
        let many = vec!["1e308"; 5_000].join(",");
        let text = configuration
            .to_string()
            .replace("\"HERE\"", &format!("[{many}]"));
        let loaded = Snapshot::load(text.as_bytes()).expect("it is served");
        assert_eq!(
            loaded.warnings,
            ["file: numbers with large exponents are printed as they are written, 1256 times"]
        );
        let served = served_text(&text);
        let path = |index: usize| format!("/cluster/default_iallocator_params/n/{index}");
        let printed = |index: usize| {
            let message =
                json!({"protocol": 1, "type": 10, "query": path(index), "rsalt": "R"}).to_string();
            let request = envelope::request(&key(), NOW, &message);
            let (_, reply) = respond(&served, &request).expect("an answer");
            String::from_utf8_lossy(&reply).into_owned()
        };
        assert!(printed(0).contains(&format!("1{},", "0".repeat(308))));
        assert!(printed(4_999).contains("1e308,"));
    }
}

mod d13_the_fields_of_confd_client {
    use super::*;

    #[test]
    fn are_answered_and_no_other_strings_are() {
        let served = served(&cluster());
        let ask_fields = |fields: Value| {
            let query = json!({"3": fields});
            let message = json!({"protocol": 1, "type": 3, "query": query, "rsalt": "R"});
            ask_text(&served, &message.to_string())
        };
        let numbers = ask_fields(json!([0, 1, 2]));
        assert!(numbers.is_ok());
        assert_eq!(ask_fields(json!(["0", "1", "2"])), numbers);
        for fields in [
            json!(["0"]),
            json!(["0", "1"]),
            json!(["0", "1", 2]),
            json!(["2", "1", "0"]),
        ] {
            assert_eq!(
                ask_fields(fields.clone()),
                Err(Reject::BadRequest),
                "{fields}"
            );
        }
    }
}

mod d14_half_a_character {
    use super::*;

    #[test]
    fn is_served_as_the_replacement_character() {
        let text = cluster().to_string();
        let edited = text.replacen(
            "\"tags\":[",
            r#""tags":["a\ud800b","\uDC00\ud83d\ude00","#,
            1,
        );
        assert_ne!(edited, text);
        let served = load(&edited).expect("it is served");
        let tags = ask(&served, 10, "/cluster/tags")["answer"].to_string();
        assert!(tags.contains("\"a\u{fffd}b\""), "{tags}");
        assert!(tags.contains("\"\u{fffd}😀\""), "{tags}");
    }
}

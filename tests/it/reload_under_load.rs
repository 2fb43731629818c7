//! Reloading while queries arrive: no query is lost, and each reply comes from one configuration.
//!
//! Every value that the queries return contains the configuration's generation: the serial, the
//! master's name, the cluster's address, the instances' nodes. So a reply that mixes two
//! generations is detected.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ganeti_confd::demo;
use serde_json::{Value, json};

use super::common::{Kind, Reply, Subject, now, request_datagram, subjects};

const KEY: &[u8] = b"reload under load";
const RENEWED_KEY: &[u8] = b"another key";
const CLIENTS: usize = 3;
/// Duration of a run: long enough for several loads, of which there is at most one per second.
const LOADING: Duration = Duration::from_secs(5);

/// A configuration in which every value that is queried contains `generation`.
fn configuration(generation: u64) -> String {
    let mut config: Value =
        serde_json::from_str(&demo::configuration(20, 200, 1)).expect("sample clusters are JSON");
    let cluster = &mut config["cluster"];
    let master = cluster["master_node"]
        .as_str()
        .expect("a master")
        .to_owned();
    cluster["serial_no"] = json!(generation);
    cluster["master_ip"] = json!(format!("ip-{generation}"));
    cluster["tags"] = json!([format!("tag-{generation}")]);
    let nodes = config["nodes"].as_object_mut().expect("nodes");
    for node in nodes.values_mut() {
        node["primary_ip"] = json!(format!("node-ip-{generation}"));
        node["serial_no"] = json!(generation);
    }
    nodes[&master]["name"] = json!(format!("master-{generation}"));
    config.to_string()
}

/// Requests whose answers contain the generation.
fn questions() -> [Value; 4] {
    [
        json!({"type": 3, "query": {"3": [0, 1, 2]}}),
        json!({"type": 4}),
        json!({"type": 10, "query": "/cluster/tags"}),
        json!({"type": 11}),
    ]
}

/// The generation of `reply`. Panics if it mixes two.
fn generation(reply: &Value) -> u64 {
    assert_eq!(
        reply["status"], 0,
        "the last good configuration is served: {reply}"
    );
    let serial = reply["serial"].as_u64().expect("a serial");
    let expected = serial.to_string();
    let mut strings = Vec::new();
    collect_strings(&reply["answer"], &mut strings);
    for text in strings {
        let found = text.rsplit('-').next();
        assert_eq!(
            found,
            Some(expected.as_str()),
            "two generations in one reply: {reply}"
        );
    }
    serial
}

fn collect_strings<'a>(value: &'a Value, strings: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => strings.push(text),
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect_strings(value, strings)),
        _ => {}
    }
}

/// Sends requests until `stop` is set; each must be answered. Returns their number.
fn ask_until(subject: &Subject, stop: &AtomicBool, newest: &AtomicU64) -> usize {
    let client = subject.client();
    let mut asked = 0;
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        for question in questions() {
            let mut question = question;
            question["protocol"] = json!(1);
            question["rsalt"] = json!(format!("q{asked}."));
            let datagram = request_datagram(KEY, &now().to_string(), &question.to_string());
            let reply = client
                .ask_once(&datagram, Duration::from_secs(5))
                .expect("no request is lost");
            let reply = Reply::read(KEY, &reply).expect("a signed reply");
            assert_eq!(reply.salt, format!("q{asked}."));
            let generation = generation(&serde_json::from_str(&reply.message).expect("JSON"));
            assert!(generation >= last, "served {generation} after {last}");
            last = generation;
            newest.fetch_max(generation, Ordering::Relaxed);
            asked += 1;
        }
    }
    asked
}

fn data(subject: &Subject) -> PathBuf {
    Path::new(subject.root()).join("var/lib/ganeti")
}

fn replace(directory: &Path, name: &str, text: &[u8]) {
    let new = directory.join("new");
    std::fs::write(&new, text).expect("the directory is writable");
    std::fs::rename(&new, directory.join(name)).expect("the directory is writable");
}

/// Writes generations in all ways of writing a file, with invalid files in between. Returns the
/// last.
fn write_generations(directory: &Path) -> u64 {
    let begin = Instant::now();
    let mut generation = 1;
    while begin.elapsed() < LOADING {
        generation += 1;
        let text = configuration(generation);
        match generation % 4 {
            0 => std::fs::write(directory.join("config.data"), &text).expect("writable"),
            1 => replace(directory, "config.data", &text.as_bytes()[..text.len() / 2]),
            2 => replace(
                directory,
                "config.data",
                text.replacen("\"nodes\"", "\"nodez\"", 1).as_bytes(),
            ),
            _ => replace(directory, "config.data", text.as_bytes()),
        }
        // The interval of writes, shorter than the daemon's load interval.
        std::thread::sleep(Duration::from_millis(150));
    }
    replace(
        directory,
        "config.data",
        configuration(generation + 1).as_bytes(),
    );
    generation + 1
}

#[test]
fn no_reply_is_lost_or_mixes_generations() {
    for kind in subjects() {
        if matches!(kind, Kind::Reference | Kind::Address(_)) {
            continue;
        }
        let subject = Subject::start(kind, Some(configuration(1).as_bytes()), KEY);
        let (stop, newest) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..CLIENTS)
                .map(|_| scope.spawn(|| ask_until(&subject, &stop, &newest)))
                .collect();
            let last = write_generations(&data(&subject));
            let deadline = Instant::now() + Duration::from_secs(20);
            while newest.load(Ordering::Relaxed) < last && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            let asked: usize = asking
                .into_iter()
                .map(|client| client.join().expect("no lost reply"))
                .sum();
            assert_eq!(
                newest.load(Ordering::Relaxed),
                last,
                "the last change of a burst is served"
            );
            println!("{kind:?}: {asked} requests, {last} generations");
        });
    }
}

#[test]
fn a_renewed_key_is_used_without_a_restart() {
    for kind in subjects() {
        if matches!(kind, Kind::Reference | Kind::Address(_)) {
            continue;
        }
        let subject = Subject::start(kind, Some(configuration(1).as_bytes()), KEY);
        let ask = |key: &[u8]| {
            let datagram = request_datagram(
                key,
                &now().to_string(),
                r#"{"protocol":1,"type":0,"rsalt":"q0."}"#,
            );
            subject
                .client()
                .ask_once(&datagram, Duration::from_millis(200))
        };
        assert!(ask(KEY).is_some() && ask(RENEWED_KEY).is_none());
        replace(&data(&subject), "hmac.key", RENEWED_KEY);
        let deadline = Instant::now() + Duration::from_secs(20);
        while ask(RENEWED_KEY).is_none() {
            assert!(
                Instant::now() < deadline,
                "{kind:?}: the new key is not used"
            );
        }
        assert!(
            ask(KEY).is_none(),
            "{kind:?}: the old key is still accepted"
        );
        // With an empty key anybody could sign, so the last valid key stays in use.
        replace(&data(&subject), "hmac.key", b"");
        std::thread::sleep(Duration::from_millis(300));
        assert!(ask(RENEWED_KEY).is_some());
    }
}

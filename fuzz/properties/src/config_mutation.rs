//! A generated configuration with random changes is either refused with an error, or printed such
//! that the text preserves what the file contains, printing it again changes nothing, and every
//! answer equals the slow model's.
//!
//! The first four bytes are the seeds of the configuration and of the questions; the others choose
//! changes. Without a change there may be one [`Fault`], for which it is known whether the file is
//! served.

use std::cell::RefCell;

use fastrand::Rng;
use ganeti_confd::responder::Served;
use ganeti_confd::snapshot::Snapshot;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::config::has_place;
use crate::datagram::Worker;
use crate::generate::{Fault, Generator, Json, Style, encodings};
use crate::model::{Answer, Cluster, parsed};
use crate::pointer::{TOP, served_snapshot};
use crate::preserved;
use crate::reference_parser::{self, Dict, Query};
use crate::sample::{KEY, NOW};
use crate::signed_request::enveloped;

/// Changes to one configuration.
const CHANGES_MAX: usize = 6;

/// Random questions about one configuration.
const QUESTIONS: usize = 15;

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// The configuration that `bytes` choose; whether it must be served, if that is known; and the
/// source of all other choices.
fn choose(bytes: &[u8]) -> Option<(Json, Option<bool>, Rng)> {
    let (&[a, b, c, d], rest) = bytes.split_first_chunk()?;
    let mut choices = Choices::from_bytes(rest);
    let seed = u16::from_le_bytes([a, b]).into();
    let mut tree = Generator::new(seed).config();
    let changes = choices.usize(0..CHANGES_MAX + 1);
    let mut is_served = (changes == 0).then_some(true);
    for _ in 0..changes {
        change(&mut choices, &mut tree);
    }
    if let Some((fault, faulty)) = is_served.and_then(|_| faulty(&mut choices, seed)) {
        is_served = Some(fault.is_served());
        tree = faulty;
    }
    let mut rng = Rng::with_seed(u16::from_le_bytes([c, d]).into());
    if rng.u8(..4) == 0 {
        encodings::sprinkle(&mut tree, &mut rng);
        tree = encodings::decode_all(&tree);
    }
    Some((tree, is_served, rng))
}

/// Generates a configuration, changes it, loads it and queries it.
pub fn check(bytes: &[u8]) {
    let Some((tree, is_served, mut rng)) = choose(bytes) else {
        return;
    };
    let style = Style::any(&mut rng);
    let text = tree.write(&mut rng, style);
    let loaded = Snapshot::load(text.as_bytes());
    if let Some(is_served) = is_served {
        let why = loaded.as_ref().err();
        assert_eq!(loaded.is_ok(), is_served, "{why:?}: {text}");
        assert!(
            why.is_none_or(has_place),
            "an error without a place: {why:?}"
        );
    }
    let Ok(loaded) = loaded else { return };
    let served = served_snapshot(loaded.snapshot);
    let printed = Printed::of(&served);
    for (name, section) in &printed.0 {
        let in_file = tree.member(name).unwrap_or(&Json::Null);
        let why = preserved::lost(in_file, Some(&parsed(section)));
        assert_eq!(why, None, "{name}: {text}");
    }
    let again = Snapshot::load(printed.text().as_bytes())
        .unwrap_or_else(|error| panic!("the printed text does not load: {error}: {text}"));
    let again = served_snapshot(again.snapshot);
    for ((name, first), (_, second)) in printed.0.iter().zip(Printed::of(&again).0) {
        let same = first == &second || same_value(&parsed(first), &parsed(&second));
        assert!(same, "{name} is printed as {first}, and again as {second}");
    }

    let cluster = Cluster::new(|section| printed.section(section));
    let words = cluster.words();
    let mut questions = cluster.thorough_questions();
    questions.extend((0..QUESTIONS).map(|_| question(&mut rng, &words)));
    for (kind, query) in questions {
        let ours = ask(&served, kind, &query);
        let expected = cluster.answer(kind, &query);
        assert!(
            same(&ours, &expected),
            "{kind} {query:?}: {ours:?} instead of {expected:?}: {text}"
        );
    }
}

/// The configuration of `seed` with a chosen fault in one record; `None` if no fault is chosen.
fn faulty(choices: &mut Choices<'_>, seed: u64) -> Option<(Fault, Json)> {
    let at = choices.usize(0..Fault::ALL.len() + 1).checked_sub(1)?;
    let fault = Fault::ALL[at];
    // Fewer records than that may fit the fault.
    let places = (0..choices.usize(0..24) + 1).rev();
    let tree = places
        .filter_map(|at| Generator::faulty(seed, fault, at))
        .next()?;
    Some((fault, tree))
}

/// Whether two printed values are equal, with numbers compared as doubles: a fraction that no
/// double represents is printed as the nearest double, which may be an integer.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |((k, a), (l, b)): ((_, &Value), (_, &Value))| k == l && same_value(a, b);
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => a == b,
    }
}

/// All printed sections.
struct Printed(Vec<(&'static str, String)>);

impl Printed {
    fn of(served: &Served) -> Self {
        let section = |name| {
            let path = Query::Plain(format!("/{name}"));
            let Answer { status, answer, .. } = ask(served, 10, &path);
            (status == 0).then_some((name, answer))
        };
        Self(TOP.into_iter().filter_map(section).collect())
    }

    fn section(&self, name: &str) -> String {
        let section = self.0.iter().find(|(known, _)| *known == name);
        section.unwrap_or_else(|| panic!("no {name}")).1.clone()
    }

    fn text(&self) -> String {
        let members = self
            .0
            .iter()
            .map(|(name, text)| format!("\"{name}\":{text}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    }
}

/// Sends a query and parses the reply's message.
fn ask(served: &Served, kind: u8, query: &Query) -> Answer {
    let message = json!({ "protocol": 1, "type": kind, "query": query.to_json(), "rsalt": "R" });
    let request = enveloped(&NOW.to_string(), &message.to_string());
    let message = WORKER.with_borrow_mut(|worker| {
        let reply = worker.respond(&request, NOW, served);
        reference_parser::assert_reply(reply.expect("signed and fresh"), "R", KEY)
    });
    let answer: reference_parser::Answer = serde_json::from_str(&message).expect("checked already");
    Answer {
        status: u8::from(answer.status == 1),
        answer: answer.answer.get().to_owned(),
        serial: answer.serial.to_string(),
    }
}

/// Whether two answers are equal: objects by bytes, texts that the model made by value.
fn same(ours: &Answer, expected: &Answer) -> bool {
    let value = |answer: &Answer| serde_json::from_str::<Value>(&answer.answer).ok();
    (ours.status, &ours.serial) == (expected.status, &expected.serial)
        && (ours.answer == expected.answer
            || (!ours.answer.contains('{') && value(ours) == value(expected)))
}

fn question(rng: &mut Rng, words: &[String]) -> (u8, Query) {
    let kind = match rng.u8(..11) {
        10 => 11,
        kind => kind,
    };
    let word = |rng: &mut Rng| rng.choice(words).expect("some").clone();
    let query = match (rng.u8(..10), kind) {
        (0, _) => Query::Empty,
        (1..=7, 2 | 3) | (9, _) => {
            let link = rng.bool().then(|| word(rng));
            let ip = (rng.u8(..3) == 0).then(|| word(rng));
            let ips = (0..rng.usize(..4)).map(|_| word(rng)).collect();
            let fields = (0..rng.usize(..4)).map(|_| rng.i64(0..3)).collect();
            Query::Dict(Dict {
                link,
                ip,
                ips,
                fields,
            })
        }
        _ => Query::Plain(word(rng)),
    };
    (kind, query)
}

/// Makes one change somewhere in `json`.
fn change(choices: &mut Choices<'_>, json: &mut Json) {
    match json {
        Json::Object(members) if !members.is_empty() => {
            let at = choices.usize(0..members.len());
            match choices.usize(0..12) {
                0 => drop(members.remove(at)),
                1 => members[at].1 = other(choices),
                2 => {
                    // The same object under two keys.
                    let (key, value) = members[at].clone();
                    members.push((format!("{key}2"), value));
                }
                3 => members[at].0.push('x'),
                _ => change(choices, &mut members[at].1),
            }
        }
        Json::List(items) if !items.is_empty() => {
            let at = choices.usize(0..items.len());
            match choices.usize(0..8) {
                0 => drop(items.remove(at)),
                1 => items[at] = other(choices),
                2 => items.push(items[at].clone()),
                _ => change(choices, &mut items[at]),
            }
        }
        value => *value = other(choices),
    }
}

/// A value for any place; often one that other objects refer to.
fn other(choices: &mut Choices<'_>) -> Json {
    const TEXTS: [&str; 14] = [
        "n-1",
        "n-2",
        "node1.example.com",
        "node2",
        "node1",
        "i-1",
        "web.example.com",
        "web",
        "d-1",
        "192.0.2.1",
        "br0",
        "",
        "plain",
        "drbd",
    ];
    match choices.usize(0..6) {
        0 => Json::Null,
        1 => Json::Bool(choices.bool()),
        2 => Json::number(choices.one_of(&["0", "-1", "1.5", "1e2", "-0.0", "7.0", "1e300"])),
        3 => Json::List(Vec::new()),
        4 => Json::Object(Vec::new()),
        _ => Json::text(choices.one_of(&TEXTS)),
    }
}

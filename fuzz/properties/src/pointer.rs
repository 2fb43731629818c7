//! Configuration paths are parsed as the grammar says, and answered as a walk through the printed
//! document does.
//!
//! An input that starts with a printable byte is the path itself; any other input chooses a path
//! and a document to follow it through.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use ganeti_confd::protocol::Key;
use ganeti_confd::responder::Served;
use ganeti_confd::snapshot::Snapshot;
use ganeti_confd::testing::path as tested;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::choices::Choices;
use crate::datagram::Worker;
use crate::reference_parser;
use crate::sample::{self, KEY, NOW};
use crate::signed_request::enveloped;

/// The place of a chosen document in the configuration. It is a container, whose members are
/// printed in the order of their keys.
const PLACE: &str = "/cluster/default_iallocator_params";

/// Bytes of an input that are used: the model tries all prefixes of a path, and a chosen document
/// must fit a reply.
const BYTES_MAX: usize = 300;

/// Checks the path that `bytes` contain or choose.
pub fn check(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    if bytes.first().is_none_or(|first| *first >= b' ') {
        let path = String::from_utf8_lossy(bytes);
        return compare(&path, &FIXED.served, &FIXED.top);
    }
    let choices = &mut Choices::from_bytes(bytes);
    if choices.once_in(4) {
        compare(&path(choices, &FIXED.top), &FIXED.served, &FIXED.top);
    } else {
        let document = document(choices);
        let served = served_with(&document);
        // No path through the document needs the rest of the configuration.
        let top = json!({ "cluster": { "default_iallocator_params": document } });
        let top = Printed::read(&top.to_string());
        let place = tokens(PLACE).expect("a path");
        let place = top.walk(&place).expect("the place exists");
        let path = PLACE.to_owned() + &path(choices, place);
        compare(&path, &served, &top);
    }
}

/// Compares one path with the model.
fn compare(path: &str, served: &Served, top: &Printed) {
    let tokens = tokens(path);
    let ours = tested::tokens(path).map(|tokens| tokens.map(str::to_owned).collect());
    assert_eq!(ours, tokens, "tokens of {path:?}");
    for token in tokens.iter().flatten() {
        let text = Value::from(decoded(token)).to_string();
        // Content of an earlier token, which must not remain.
        let mut ours = b"earlier".to_vec();
        tested::canonical_token(token, &mut ours);
        let ours = String::from_utf8(ours).expect("still UTF-8");
        assert_eq!(format!("\"{ours}\""), text, "{token:?}");
        assert_eq!(tested::index(token), index(token), "{token:?}");
    }
    let found = tokens.as_deref().and_then(|tokens| top.walk(tokens));
    let expected = match found {
        Some(Printed { text, .. }) => {
            format!(r#"{{"protocol":1,"status":0,"answer":{text},"serial":77}}"#)
        }
        None => r#"{"protocol":1,"status":1,"answer":2,"serial":0}"#.to_owned(),
    };
    assert_eq!(query(served, path), expected, "{path:?}");
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// The inner message of the reply to a query for `path`.
pub(crate) fn query(served: &Served, path: &str) -> String {
    let message = json!({ "protocol": 1, "type": 10, "query": path, "rsalt": "R" });
    let datagram = enveloped(&NOW.to_string(), &message.to_string());
    WORKER.with_borrow_mut(|worker| {
        let reply = worker.respond(&datagram, NOW, served);
        reference_parser::assert_reply(reply.expect("signed and fresh"), "R", KEY)
    })
}

/// The tokens of the longest valid prefix of `path`, with their escapes.
fn tokens(path: &str) -> Option<Vec<String>> {
    let mut prefixes = (0..=path.len()).rev().filter_map(|len| path.get(..len));
    let longest = prefixes.find(|prefix| is_path(prefix, *prefix == path))?;
    Some(longest.split('/').skip(1).map(str::to_owned).collect())
}

/// Whether `text` is a path; a token may be empty only `at_the_end` of the whole text.
fn is_path(text: &str, at_the_end: bool) -> bool {
    let has_empty_last = text.ends_with('/');
    text.starts_with('/')
        && !text.contains("//")
        && (!has_empty_last || at_the_end)
        && has_known_escapes(text)
}

fn has_known_escapes(text: &str) -> bool {
    let mut behind_tildes = text.split('~').skip(1);
    behind_tildes.all(|after| after.starts_with(['0', '1']))
}

fn decoded(token: &str) -> String {
    let mut out = String::new();
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' if chars.next() == Some('1') => '/',
            c => c,
        });
    }
    out
}

/// The leading digits as a signed 64-bit number, if it is not negative.
fn index(token: &str) -> Option<usize> {
    let digits = token.split(|c: char| !c.is_ascii_digit()).next()?;
    if digits.is_empty() {
        return None;
    }
    let modulo = |sum: u128, digit: u8| (sum * 10 + u128::from(digit - b'0')) % (1 << 64);
    let wrapped = digits.bytes().fold(0, modulo);
    (wrapped < 1 << 63).then_some(wrapped as usize)
}

/// A parsed value of the printed document.
struct Printed {
    text: String,
    inside: Inside,
}

enum Inside {
    Members(Vec<(String, Printed)>),
    Elements(Vec<Printed>),
    Nothing,
}

impl Printed {
    fn read(text: &str) -> Self {
        let inside = match text.as_bytes()[0] {
            b'{' => {
                let members = reference_parser::members(text).expect("an object");
                let members = members.into_iter();
                Inside::Members(members.map(|(key, value)| (key, Self::of(value))).collect())
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).expect("an array");
                Inside::Elements(elements.into_iter().map(Self::of).collect())
            }
            _ => Inside::Nothing,
        };
        Self {
            text: text.to_owned(),
            inside,
        }
    }

    fn of(value: &RawValue) -> Self {
        Self::read(value.get())
    }

    fn walk(&self, tokens: &[String]) -> Option<&Self> {
        tokens
            .iter()
            .try_fold(self, |value, token| match &value.inside {
                Inside::Members(members) => members
                    .iter()
                    .find(|(key, _)| *key == decoded(token))
                    .map(|(_, value)| value),
                Inside::Elements(elements) => elements.get(index(token)?),
                Inside::Nothing => None,
            })
    }
}

/// A configuration, and its printed document.
struct Fixed {
    served: Served,
    top: Printed,
}

/// The sample configuration, with the unusual keys of the recorded paths.
static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let odd = include_bytes!("../../../tests/data/configs/path-plain.json");
    let odd: Value = serde_json::from_slice(odd).expect("JSON");
    let mut config = SAMPLE.clone();
    for key in ["osparams", "default_iallocator_params"] {
        config["cluster"][key] = odd["cluster"][key].clone();
    }
    let served = served(&config);
    let printed = |key: &&str| {
        let reply = query(&served, &format!("/{key}"));
        let answer = reply
            .strip_prefix(r#"{"protocol":1,"status":0,"answer":"#)
            .and_then(|rest| rest.strip_suffix(r#","serial":77}"#))
            .expect("the whole top level is printed");
        ((*key).to_owned(), Printed::read(answer))
    };
    // No path refers to the document itself.
    let top = Printed {
        text: String::new(),
        inside: Inside::Members(TOP.iter().map(printed).collect()),
    };
    Fixed { served, top }
});

/// The top level's keys in the reference's order.
pub(crate) const TOP: [&str; 11] = [
    "version",
    "cluster",
    "nodes",
    "nodegroups",
    "instances",
    "networks",
    "disks",
    "filters",
    "ctime",
    "mtime",
    "serial_no",
];

static SAMPLE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(sample::CONFIG_DATA).expect("the sample is JSON"));

/// [`sample::KEY`] and `config`.
pub(crate) fn served(config: &Value) -> Served {
    let loaded = Snapshot::load(config.to_string().as_bytes());
    served_snapshot(loaded.expect("it loads").snapshot)
}

/// [`sample::KEY`] and `snapshot`.
pub(crate) fn served_snapshot(snapshot: Snapshot) -> Served {
    static KEY: LazyLock<Arc<Key>> = LazyLock::new(|| Arc::new(sample::key()));
    Served {
        key: Arc::clone(&KEY),
        snapshot: Arc::new(snapshot),
    }
}

/// A small configuration with `document` at [`PLACE`].
fn served_with(document: &Value) -> Served {
    /// The text before and after the document.
    static AROUND: LazyLock<(String, String)> = LazyLock::new(|| {
        let mut config = SAMPLE.clone();
        for section in &TOP[2..8] {
            config[*section] = json!({});
        }
        config["cluster"]["default_iallocator_params"] = json!("here");
        let config = config.to_string();
        let (before, after) = config.split_once("\"here\"").expect("once");
        (before.to_owned(), after.to_owned())
    });
    let (before, after) = &*AROUND;
    let loaded = Snapshot::load(format!("{before}{document}{after}").as_bytes());
    served_snapshot(loaded.expect("it loads").snapshot)
}

/// Unusual keys, and keys that differ little from them.
const KEYS: &[&str] = &[
    "a",
    "b",
    "ab",
    "",
    " ",
    "0",
    "1",
    "00",
    "01",
    "-1",
    "1x",
    "~",
    "~0",
    "~1",
    "~01",
    "/",
    "//",
    "a/b",
    "a~b",
    "\"",
    "\\",
    "a\"",
    "\n",
    "\u{1}",
    "\u{1f}",
    "\u{7f}",
    "\u{e9}",
    "\u{20ac}",
    "\u{1f600}",
    "a\u{0}",
];

/// An object for paths to follow.
fn document(choices: &mut Choices<'_>) -> Value {
    let members = members(choices, 0);
    // A container is printed in the order of its keys.
    let mut members: Vec<_> = members.into_iter().collect();
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    Value::Object(members.into_iter().collect())
}

fn value(choices: &mut Choices<'_>, depth: usize) -> Value {
    let last = if depth < 6 { 9 } else { 5 };
    match choices.usize(0..last) {
        0 => Value::Null,
        1 => json!(choices.bool()),
        2 => json!(choices.u8()),
        3 => Value::from(key(choices)),
        // Long enough for an entry in the document's tree.
        4 => Value::from("x".repeat(choices.usize(0..400))),
        5 | 6 => {
            let count = count(choices);
            Value::Array((0..count).map(|_| value(choices, depth + 1)).collect())
        }
        _ => Value::Object(members(choices, depth + 1)),
    }
}

fn members(choices: &mut Choices<'_>, depth: usize) -> Map<String, Value> {
    let count = count(choices);
    let mut seen = BTreeSet::new();
    let mut members = Map::new();
    for at in 0..count {
        let key = if count > FEW && !choices.once_in(4) {
            // Unsorted.
            format!("key{}", at * 37 % count)
        } else {
            key(choices)
        };
        if seen.insert(key.clone()) {
            members.insert(key, value(choices, depth + 1));
        }
    }
    members
}

/// The usual maximum number of members.
const FEW: usize = 6;

fn count(choices: &mut Choices<'_>) -> usize {
    if choices.once_in(12) {
        // Near the number of members above which they are sorted.
        choices.usize(60..90)
    } else {
        choices.usize(0..FEW + 1)
    }
}

fn key(choices: &mut Choices<'_>) -> String {
    let key = choices.one_of(KEYS);
    if choices.once_in(4) {
        key.to_owned() + choices.one_of(KEYS)
    } else {
        key.to_owned()
    }
}

/// A path through `from`, as far as the choices follow it, with an unusual end.
fn path(choices: &mut Choices<'_>, from: &Printed) -> String {
    let mut path = String::new();
    let mut here = Some(from);
    while let Some(value) = here {
        let stays = match &value.inside {
            Inside::Nothing => false,
            Inside::Members(members) if members.is_empty() => false,
            Inside::Elements(elements) if elements.is_empty() => false,
            _ => !choices.once_in(6),
        };
        if !stays {
            break;
        }
        here = match &value.inside {
            Inside::Members(members) => {
                let (key, value) = &members[choices.usize(0..members.len())];
                path.push('/');
                path.push_str(&key.replace('~', "~0").replace('/', "~1"));
                Some(value)
            }
            Inside::Elements(elements) => {
                let at = choices.usize(0..elements.len());
                path.push('/');
                path.push_str(&index_text(choices, at));
                Some(&elements[at])
            }
            Inside::Nothing => None,
        };
    }
    end(choices, &mut path);
    path
}

/// An index in one of many notations.
fn index_text(choices: &mut Choices<'_>, at: usize) -> String {
    let at = at as u128;
    match choices.usize(0..8) {
        1 => format!("0{at}"),
        2 => format!(
            "{at}{}",
            choices.one_of(&["x", " ", ".5", "e0", "~0", "~1", "\u{661}", "-"])
        ),
        3 => format!("{}", (1_u128 << 64) + at),
        4 => format!("{}", (u128::from(choices.u8()) << 64) + at),
        // Negative as a signed number.
        5 => format!("{}", (1_u128 << 63) + at),
        6 => format!("-{at}"),
        _ => at.to_string(),
    }
}

fn end(choices: &mut Choices<'_>, path: &mut String) {
    match choices.usize(0..8) {
        0..3 => {}
        3 => path.push_str(choices.one_of(&[
            "/", "//", "/~", "/~2", "~", "~2", "x", "/0~/x", "//x", "/-", "~0", "~1", "/0",
        ])),
        4 => {
            // One additional character anywhere.
            let places: Vec<_> = path.char_indices().map(|(at, _)| at).collect();
            if !places.is_empty() {
                path.insert(
                    places[choices.usize(0..places.len())],
                    choices.one_of(&['/', '~', '0', '1', 'x']),
                );
            }
        }
        5 => {
            path.pop();
        }
        6 => {
            path.push('/');
            path.push_str(&key(choices));
        }
        _ => {
            path.push('/');
            path.push_str(&key(choices).replace('~', "~0").replace('/', "~1"));
        }
    }
}

//! A chosen request, in any notation and correctly signed, is answered if the reference parser says
//! so, and with the same bytes in every other notation and by both engines.

use std::cell::RefCell;

use serde_json::json;

use crate::choices::Choices;
use crate::datagram::Worker;
use crate::engines::Engines;
use crate::json_variants;
use crate::reference_parser::{self, Request};
use crate::sample::{self, KEY, NOW};

/// One in this many requests is also sent to the engines, which is the slowest step.
const ENGINES_ONCE_IN: usize = 32;

/// An inner message.
#[derive(Debug)]
pub struct Message {
    /// JSON, possibly truncated or damaged.
    pub text: String,
    /// The salt of a reply.
    pub rsalt: String,
}

/// The message that `bytes` choose.
pub fn message(bytes: &[u8]) -> Message {
    choose(&mut Choices::from_bytes(bytes))
}

/// Signs and sends the message that `bytes` choose.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices::from_bytes(bytes);
    let Message { text, .. } = choose(&mut choices);
    let salt = salt(&mut choices);
    let datagram = datagram(&mut choices, &salt, &text);
    let expected = reference_parser::judge(&datagram, NOW, KEY);
    let shown = || datagram.escape_ascii();
    let with_engines = choices.once_in(ENGINES_ONCE_IN);
    WORKER.with_borrow_mut(|worker| {
        let request = match (worker.respond(&datagram, NOW, sample::served()), expected) {
            (Ok(_), Ok(request)) => request,
            (Err(reason), Err(expected)) => {
                return assert_eq!(reason, expected, "{}", shown());
            }
            (ours, expected) => {
                let ours = ours.map(<[u8]>::escape_ascii);
                panic!("{ours:?} instead of {expected:?}: {}", shown());
            }
        };
        let reply = worker
            .respond(&datagram, NOW, sample::served())
            .expect("answered again")
            .to_vec();
        reference_parser::assert_reply(&reply, &request.rsalt, KEY);
        let plain = plain(&request);
        let datagram = enveloped(&NOW.to_string(), &plain);
        let again = worker.respond(&datagram, NOW, sample::served());
        assert_eq!(again, Ok(&reply[..]), "{plain} instead of {}", shown());
        if with_engines {
            Engines::assert_same(&text, &reply);
        }
    });
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

fn choose(choices: &mut Choices<'_>) -> Message {
    let kind = match choices.usize(0..30) {
        odd @ 12.. => [12, -1, 255, 256][odd % 4],
        kind => kind as i64,
    };
    // Many of the random numbers are valid types.
    let kind = if choices.once_in(4) {
        kind
    } else {
        kind.clamp(0, 11)
    };
    let rsalt = text(choices);
    let mut members = vec![
        ("protocol".to_owned(), protocol(choices)),
        ("type".to_owned(), json_variants::number(choices, kind)),
        ("rsalt".to_owned(), json_variants::string(choices, &rsalt)),
    ];
    if let Some(query) = query(choices, kind) {
        members.push(("query".to_owned(), query));
    }
    if choices.once_in(16) {
        spoil(choices, &mut members);
    }
    let mut text = json_variants::object(choices, members);
    if choices.once_in(16) {
        edit(choices, &mut text);
    }
    Message { text, rsalt }
}

fn protocol(choices: &mut Choices<'_>) -> String {
    choices
        .one_of(&[
            "1",
            "1",
            "1",
            "0",
            "-7",
            "1.5",
            "1e30",
            "12345678901234567890123",
        ])
        .to_owned()
}

fn query(choices: &mut Choices<'_>, kind: i64) -> Option<String> {
    Some(match choices.usize(0..8) {
        0..3 => {
            let name = if kind == 10 {
                path(choices)
            } else {
                word(choices)
            };
            json_variants::string(choices, &name)
        }
        3 | 4 => dict(choices),
        5 => return None,
        6 => "null".to_owned(),
        _ => choices
            .one_of(&["[]", "1", "true", "\"\"", "{}", "[{}]"])
            .to_owned(),
    })
}

fn dict(choices: &mut Choices<'_>) -> String {
    let mut members = Vec::new();
    for key in ["0", "1", "2", "3"] {
        if choices.bool() {
            continue;
        }
        let value = match (key, choices.usize(0..16)) {
            (_, 15) => "null".to_owned(),
            (_, 14) => choices
                .one_of(&["[]", "0", "\"\"", "[null]", "{}"])
                .to_owned(),
            ("2", count) => list(choices, count % 4, |choices| {
                let ip = word(choices);
                json_variants::string(choices, &ip)
            }),
            ("3", 13) => r#"["0","1","2"]"#.to_owned(),
            ("3", count) => list(choices, count % 4, |choices| {
                let field = choices.usize(0..4) as i64;
                json_variants::number(choices, field)
            }),
            _ => {
                let word = word(choices);
                json_variants::string(choices, &word)
            }
        };
        members.push((key.to_owned(), value));
    }
    json_variants::object(choices, members)
}

fn list(
    choices: &mut Choices<'_>,
    len: usize,
    mut value: impl FnMut(&mut Choices<'_>) -> String,
) -> String {
    let values: Vec<_> = (0..len).map(|_| value(choices)).collect();
    let comma = format!(
        "{},{}",
        json_variants::white(choices),
        json_variants::white(choices)
    );
    format!("[{}]", values.join(&comma))
}

/// A name of the sample, or one similar to it.
fn word(choices: &mut Choices<'_>) -> String {
    let word = choices.one_of(sample::words());
    match choices.usize(0..6) {
        0..3 => word,
        3 => word.split('.').next().unwrap_or_default().to_owned(),
        4 => word.to_uppercase(),
        _ => text(choices),
    }
}

/// A path to a value, or to none.
fn path(choices: &mut Choices<'_>) -> String {
    let mut path = choices.one_of(sample::paths());
    if choices.once_in(3) {
        path.push_str(choices.one_of(&["/", "//", "/0", "/01x", "~", "/~0", "/~1", "/-1", "x"]));
    }
    path
}

/// Any short text.
fn text(choices: &mut Choices<'_>) -> String {
    let len = choices.usize(0..24);
    (0..len)
        .map(|_| match choices.usize(0..10) {
            0..6 => char::from(b'a' + choices.usize(0..26) as u8),
            6 => char::from(choices.usize(0..0x80) as u8),
            7 => choices.one_of(&['"', '\\', '/', '\n', '\u{7f}', '\u{80}', '\u{2028}']),
            8 => char::from_u32(choices.usize(0..0xd800) as u32).unwrap_or('?'),
            _ => char::from_u32(0x1_0000 + choices.usize(0..0xf_0000) as u32).unwrap_or('?'),
        })
        .collect()
}

/// Violates a rule for a request's members.
fn spoil(choices: &mut Choices<'_>, members: &mut Vec<(String, String)>) {
    let at = choices.usize(0..members.len());
    match choices.usize(0..4) {
        0 => drop(members.remove(at)),
        1 => members.push(members[at].clone()),
        2 => members.push(("more".to_owned(), "0".to_owned())),
        _ => {
            members[at].1 = choices
                .one_of(&["null", "true", "[]", "{}", "\"1\"", "1e400"])
                .to_owned()
        }
    }
}

/// Changes one character.
fn edit(choices: &mut Choices<'_>, text: &mut String) {
    let places: Vec<_> = text.char_indices().map(|(at, _)| at).collect();
    let at = places[choices.usize(0..places.len())];
    let c = char::from(choices.u8());
    match choices.usize(0..3) {
        0 => text.insert(at, c),
        1 => drop(text.remove(at)),
        _ => text.truncate(at),
    }
}

fn salt(choices: &mut Choices<'_>) -> String {
    let at = |difference: i64| NOW.strict_add_signed(difference).to_string();
    match choices.usize(0..24) {
        16 => at(300),
        17 => at(-300),
        18 => at(301),
        19 => at(-301),
        20 => format!("0{NOW}"),
        21 => format!("+{NOW}"),
        22 => format!("{NOW}.0"),
        23 => text(choices),
        _ => NOW.to_string(),
    }
}

/// A datagram of `message`, with its envelope in a chosen notation.
fn datagram(choices: &mut Choices<'_>, salt: &str, message: &str) -> Vec<u8> {
    let tag = reference_parser::tag(KEY, salt, message);
    let tag = if choices.once_in(8) {
        tag.to_uppercase()
    } else {
        tag
    };
    let members = vec![
        ("msg".to_owned(), json_variants::string(choices, message)),
        ("salt".to_owned(), json_variants::string(choices, salt)),
        ("hmac".to_owned(), json_variants::string(choices, &tag)),
    ];
    let mut datagram = b"plj0".to_vec();
    datagram.extend_from_slice(json_variants::object(choices, members).as_bytes());
    datagram
}

/// A datagram of `message`, with its envelope as serde_json writes it.
pub fn enveloped(salt: &str, message: &str) -> Vec<u8> {
    let hmac = reference_parser::tag(KEY, salt, message);
    let envelope = json!({ "msg": message, "salt": salt, "hmac": hmac });
    format!("plj0{envelope}").into_bytes()
}

/// `request` as serde_json writes it.
fn plain(request: &Request) -> String {
    let query = request.query.to_json();
    json!({ "protocol": 1, "type": request.kind, "query": query, "rsalt": request.rsalt })
        .to_string()
}

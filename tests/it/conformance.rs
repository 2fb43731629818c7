//! Transcripts recorded from the reference, replayed over UDP to the daemon under test.
//!
//! `tests/data/transcripts/*.jsonl` has one JSON object per line. A line without a request sets the
//! daemon's files for the following lines:
//!
//! * `config`: a file in `tests/data/configs`, or null for no file. `edit` (`[old, new]`) replaces
//!   one occurrence of a text in it.
//! * `text` instead: the file's bytes as Latin-1.
//! * `key`: the bytes of `hmac.key` as Latin-1 (default `testkey123`).
//!
//! Every other line is a request and its reply:
//!
//! * `request`: the inner message, sent in Ganeti's usual envelope with `salt` (default: the
//!   current time in seconds).
//! * `datagram` instead: the bytes as Latin-1. `<hmac>` is the signature over `signed`, or over
//!   `signed_bytes` as Latin-1, with `signing_key`.
//! * `reply`: the inner reply, or null if the request is dropped. The datagram follows from it and
//!   from `salt_back` (the request's `rsalt`, default `R`).
//! * `raw_reply` instead: the whole datagram as Latin-1, where it does not follow from its parts.
//! * `ours`: the inner reply of this project's daemon where it differs (any of several, if it is a
//!   list), signed over `ours_salt`, and `why` it differs. `*` matches any text.
//!
//! In a salt, `<now>` is the current time; `<now+301>`, `<hex now>` and similar forms are derived
//! from it. `<root>` is the daemon's root directory.

use crate::common::{
    Kind, Reply, Subject, now, quote_ascii, reply_datagram, request_datagram, sign_hex, skip,
    subjects,
};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The default key of a transcript.
const KEY: &str = "testkey123";

/// Differences that are printed in full at most.
const PRINTED_MAX: usize = 20;

/// Time to wait for an expected reply after the pings are answered.
const GRACE: Duration = Duration::from_secs(1);

#[test]
fn transcripts() {
    let subjects = subjects();
    if subjects.is_empty() {
        return skip("no daemon to speak to");
    }
    for kind in subjects {
        let mut tally = Tally::default();
        for file in transcript_files() {
            Transcript::read(&file).replay_to(kind, &mut tally);
        }
        println!(
            "{kind:?}: {} requests, {} differences",
            tally.asked, tally.different
        );
        assert!(tally.asked > 0, "no transcript applies to this daemon");
        assert_eq!(tally.different, 0, "{kind:?} differs from the transcripts");
    }
}

#[derive(Default)]
struct Tally {
    asked: usize,
    different: usize,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn transcript_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(data().join("transcripts")).expect("tests/data/transcripts exists");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files
}

/// The committed configurations, by name.
pub(crate) fn committed_configs() -> Vec<(String, Vec<u8>)> {
    let mut configs: Vec<_> = fs::read_dir(data().join("configs"))
        .expect("tests/data/configs exists")
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(path).expect("readable"))
        })
        .collect();
    configs.sort();
    configs
}

/// One file: settings, each with its exchanges.
struct Transcript(Vec<(Setting, Vec<Exchange>)>);

impl Transcript {
    fn read(file: &Path) -> Self {
        let mut scenes: Vec<(Setting, Vec<Exchange>)> = Vec::new();
        for (number, line) in fs::read_to_string(file)
            .expect("readable")
            .lines()
            .enumerate()
        {
            let place = format!("{}:{}", file.display(), number + 1);
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
            if line.get("request").is_none() && line.get("datagram").is_none() {
                scenes.push((Setting(line), Vec::new()));
            } else {
                let scene = scenes
                    .last_mut()
                    .expect("a transcript starts with a setting");
                scene.1.push(Exchange { place, line });
            }
        }
        Self(scenes)
    }

    fn replay_to(&self, kind: Kind, tally: &mut Tally) {
        for (setting, exchanges) in &self.0 {
            if !setting.is_served_by(kind) {
                continue;
            }
            let subject = Subject::start(kind, setting.file().as_deref(), &setting.key());
            for exchange in exchanges {
                tally.asked += 1;
                if let Err(difference) = exchange.check(&subject) {
                    tally.different += 1;
                    if tally.different <= PRINTED_MAX {
                        println!("{}: {kind:?}: {difference}", exchange.place);
                    }
                }
            }
        }
    }
}

/// The daemon's configuration and key.
struct Setting(Value);

impl Setting {
    fn file(&self) -> Option<Vec<u8>> {
        if let Some(text) = self.0["text"].as_str() {
            return Some(latin1(text));
        }
        let config =
            fs::read(data().join("configs").join(self.0["config"].as_str()?)).expect("readable");
        let Some(edit) = self.0["edit"].as_array() else {
            return Some(config);
        };
        let (old, new) = (text(&edit[0]), text(&edit[1]));
        let config = String::from_utf8(config).expect("edited files are text");
        assert_eq!(
            config.matches(old).count(),
            1,
            "{old} occurs once in the file"
        );
        Some(config.replacen(old, new, 1).into_bytes())
    }

    fn key(&self) -> Vec<u8> {
        latin1(self.0["key"].as_str().unwrap_or(KEY))
    }

    /// Whether the daemon can have this setting. One that already runs serves only the
    /// configuration `CONFD_CONFIG`.
    fn is_served_by(&self, kind: Kind) -> bool {
        if !matches!(kind, Kind::Address(_)) {
            return true;
        }
        let served = std::env::var("CONFD_CONFIG")
            .expect("CONFD_CONFIG names the configuration that CONFD_SUBJECT serves");
        self.0["config"] == served && self.0.get("edit").is_none() && self.0.get("key").is_none()
    }
}

/// One request with its reply.
struct Exchange {
    place: String,
    line: Value,
}

impl Exchange {
    /// Sends the request; repeats it where the clock may have ticked between the test and the
    /// daemon.
    fn check(&self, subject: &Subject) -> Result<(), String> {
        let tries = if self.line.get("salt").is_some() {
            3
        } else {
            1
        };
        let mut result = self.check_once(subject);
        for _ in 1..tries {
            if result.is_ok() {
                break;
            }
            result = self.check_once(subject);
        }
        result
    }

    fn check_once(&self, subject: &Subject) -> Result<(), String> {
        let expected = self.expected(subject);
        let patience = if expected.contains(&Expected::Silence) {
            Duration::ZERO
        } else {
            GRACE
        };
        let reply = subject.client().ask(&self.datagram(subject), patience);
        if expected
            .iter()
            .any(|expected| expected.is(subject, reply.as_deref()))
        {
            return Ok(());
        }
        Err(format!(
            "{}\n  expected {expected:?}\n  got      {}",
            self.line["request"]
                .as_str()
                .or(self.line["datagram"].as_str())
                .unwrap_or_default(),
            reply.map_or("silence".into(), |reply| reply.escape_ascii().to_string())
        ))
    }

    fn datagram(&self, subject: &Subject) -> Vec<u8> {
        let now = now();
        let key = self.line["signing_key"]
            .as_str()
            .map_or(subject.key().to_vec(), latin1);
        if let Some(message) = self.line["request"].as_str() {
            let salt = fill_clock(self.line["salt"].as_str().unwrap_or("<now>"), now);
            return request_datagram(&key, &salt, message);
        }
        let signed = match (
            self.line["signed"].as_str(),
            self.line["signed_bytes"].as_str(),
        ) {
            (Some(signed), _) => fill_clock(signed, now).into_bytes(),
            (None, Some(bytes)) => latin1(&fill_clock(bytes, now)),
            (None, None) => format!(r#"{now}{{"protocol":1,"type":0,"rsalt":"R"}}"#).into_bytes(),
        };
        let hmac = sign_hex(&key, &signed);
        let datagram = fill_clock(text(&self.line["datagram"]), now)
            .replace("<hmac>", &hmac)
            .replace("<HMAC>", &hmac.to_uppercase())
            .replace("<short hmac>", &hmac[..39])
            .replace("<MixED hmac>", &(hmac[..20].to_uppercase() + &hmac[20..]));
        latin1(&datagram)
    }

    fn expected(&self, subject: &Subject) -> Vec<Expected> {
        let line = &self.line;
        if let (Some(ours), true) = (line.get("ours"), subject.kind != Kind::Reference) {
            assert!(
                line["why"].is_string(),
                "{}: a difference must have a reason",
                self.place
            );
            let salt = line["ours_salt"].as_str().or(line["salt_back"].as_str());
            return match ours {
                Value::Array(any) => any.iter().map(|one| Expected::new(one, salt)).collect(),
                one => vec![Expected::new(one, salt)],
            };
        }
        if let Some(raw) = line["raw_reply"].as_str() {
            return vec![Expected::Datagram(latin1(raw))];
        }
        vec![Expected::new(&line["reply"], line["salt_back"].as_str())]
    }
}

#[derive(Debug, PartialEq)]
enum Expected {
    Silence,
    Datagram(Vec<u8>),
    Message { message: String, salt: String },
}

impl Expected {
    fn new(reply: &Value, salt: Option<&str>) -> Self {
        match reply {
            Value::Null => Self::Silence,
            reply => Self::Message {
                message: text(reply).to_owned(),
                salt: salt.unwrap_or("R").to_owned(),
            },
        }
    }

    fn is(&self, subject: &Subject, reply: Option<&[u8]>) -> bool {
        match (self, reply) {
            (Self::Silence, reply) => reply.is_none(),
            (_, None) => false,
            (Self::Datagram(datagram), Some(reply)) => datagram == reply,
            (Self::Message { message, salt }, Some(reply)) => {
                let message = message.replace("<root>", subject.root());
                match message
                    .split_once('*')
                    .filter(|_| message.contains("Cannot load"))
                {
                    None => reply_datagram(subject.key(), &message, salt) == reply,
                    Some((head, tail)) => Reply::read(subject.key(), reply).is_some_and(|reply| {
                        reply.salt == *salt
                            && reply.message.starts_with(head)
                            && reply.message.ends_with(tail)
                    }),
                }
            }
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// The bytes of a text in Latin-1.
fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).expect("Latin-1"))
        .collect()
}

/// Replaces `<now>`, `<hex now-299>` and similar forms by the time.
fn fill_clock(text: &str, now: u64) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, place, after)) = split_place(rest) {
        filled.push_str(before);
        let (form, offset) = place.split_once("now").expect("split_place looks for it");
        let time = now.saturating_add_signed(if offset.is_empty() {
            0
        } else {
            offset.parse().expect("an offset")
        });
        filled += &match form.trim_end() {
            "" => time.to_string(),
            "hex" => format!("{time:x}"),
            "HEX" => format!("{time:X}"),
            "oct" => format!("{time:o}"),
            "bin" => format!("{time:b}"),
            "escaped" => time
                .to_string()
                .chars()
                .map(|digit| format!("\\u{:04x}", u32::from(digit)))
                .collect(),
            form => panic!("no such form of a clock: {form}"),
        };
        rest = after;
    }
    filled + rest
}

/// Splits `text` at its first `<...now...>`.
fn split_place(text: &str) -> Option<(&str, &str, &str)> {
    let now = text.find("now")?;
    let start = text[..now].rfind('<')?;
    let end = now + text[now..].find('>')?;
    Some((&text[..start], &text[start + 1..end], &text[end + 1..]))
}

#[test]
fn the_time_is_filled_in() {
    assert_eq!(fill_clock("(<now>)", 10), "(10)");
    assert_eq!(fill_clock("0x<hex now+6>,<now-1>", 10), "0x10,9");
    assert_eq!(fill_clock("no clock", 10), "no clock");
    assert_eq!(quote_ascii("é"), "\"\\u00e9\"");
}

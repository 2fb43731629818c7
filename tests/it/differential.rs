//! Live comparison of both engines with the reference: the same files, the same datagrams.
//!
//! A seed determines a run; it is printed, and `CONFD_SEED` sets it. A difference is printed with
//! the seed, the file (saved below `target/tmp`), the request and both replies.
//!
//! Intended differences either do not occur in the generated files and requests
//! ([`properties::generate`]), or have a [`Rule`].

mod requests;

use crate::common::{Kind, Reply, Subject, now, sign_hex, skip, subjects};
use crate::conformance::committed_configs;
use fastrand::Rng;
use properties::generate::values::pick;
use properties::generate::{Fault, Generator, Json, Style, encodings};
use requests::{Asked, Requests};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Requests in a run at least, as CI requires.
const REQUESTS_MIN: usize = 20_000;
const CONFIGS_MIN: usize = 50;

const GENERATED_CONFIGS: usize = 60;
const FAULTY_CONFIGS: usize = 48;
const DISGUISED_CONFIGS: usize = 12;

/// Random requests for each configuration, in addition to its paths.
const RANDOM_REQUESTS: usize = 200;
/// Paths of one configuration that are queried at most.
const PATHS_MAX: usize = 250;
/// Requests for a faulty configuration. It is usually refused, which few requests show.
const FAULTY_REQUESTS: usize = 60;

/// Differences that are printed in full at most.
const PRINTED_MAX: usize = 20;
/// Bytes of a reply that are printed at most.
const PRINTED_BYTES_MAX: usize = 1500;

/// Timeout for repeating a request that only one daemon answered, because datagrams may be lost.
const REPEAT_TIMEOUT: Duration = Duration::from_secs(1);

/// Committed files with intended differences, which `conformance` covers.
const NOT_COMPARED: &[&str] = &[
    "numbers.json",       // not RFC 8259
    "numbers-plain.json", // numbers beyond the range of doubles
    "path.json",          // duplicate keys
    "path-plain.json",    // text beyond ASCII
    "raw-dup-keys.json",  // duplicate keys
    "raw-utf8.json",      // text beyond ASCII
    "strings.json",       // text beyond ASCII
];

#[test]
fn the_same_bytes_as_the_reference() {
    let Some(mut run) = Run::start() else { return };
    for (name, config) in committed_configs() {
        if !NOT_COMPARED.contains(&name.as_str()) {
            let value: serde_json::Value =
                serde_json::from_slice(&config).expect("compared files are JSON");
            run.compare(&Case::same(&name, (&value).into(), config));
        }
    }
    for _ in 0..GENERATED_CONFIGS {
        let seed = run.rng.u64(..);
        let tree = Generator::new(seed).config();
        let style = Style {
            utf8: false,
            ..Style::any(&mut run.rng)
        };
        let text = tree.write(&mut run.rng, style);
        run.compare(&Case::same(
            &format!("generated-{seed:x}"),
            tree,
            text.into_bytes(),
        ));
    }
    assert!(
        run.requests >= REQUESTS_MIN,
        "only {} requests",
        run.requests
    );
    assert!(
        run.configs >= CONFIGS_MIN,
        "only {} configurations",
        run.configs
    );
    run.finish();
}

#[test]
fn files_with_one_fault() {
    let Some(mut run) = Run::start() else { return };
    for round in 0..FAULTY_CONFIGS {
        let (seed, at) = (run.rng.u64(..), run.rng.usize(..12));
        let fault = Fault::ALL[round % Fault::ALL.len()];
        let places = (0..=at).rev();
        let Some(tree) = places
            .filter_map(|at| Generator::faulty(seed, fault, at))
            .next()
        else {
            continue;
        };
        run.compare(&Case::faulty(
            &format!("{fault:?}-{seed:x}"),
            fault,
            &Generator::new(seed).config(),
            &tree,
        ));
    }
    run.finish();
}

#[test]
fn files_cut_short_or_followed_by_garbage() {
    let Some(mut run) = Run::start() else { return };
    for round in 0..8 {
        let seed = run.rng.u64(..);
        let tree = Generator::new(seed).config();
        let mut text = tree.write(&mut run.rng, Style::COMPACT);
        if round % 2 == 0 {
            text.truncate(run.rng.usize(..text.len()));
        } else {
            text += pick(&mut run.rng, &["x", "}", ",{}", "\0", " {}"]);
        }
        run.compare(&Case {
            requests: FAULTY_REQUESTS,
            loads: false,
            ..Case::same(&format!("cut-{seed:x}"), tree, text.into_bytes())
        });
    }
    run.finish();
}

#[test]
fn text_beyond_ascii() {
    let Some(mut run) = Run::start() else { return };
    for _ in 0..DISGUISED_CONFIGS {
        let seed = run.rng.u64(..);
        let mut tree = Generator::new(seed).config();
        encodings::sprinkle(&mut tree, &mut run.rng);
        let style = Style::any(&mut run.rng);
        let reference = tree.write(
            &mut run.rng,
            Style {
                utf8: false,
                ..style
            },
        );
        let subject = encodings::decode_all(&tree).write(&mut run.rng, style);
        run.compare(&Case {
            subject: subject.into_bytes(),
            rule: Rule::Encoded,
            ..Case::same(&format!("text-{seed:x}"), tree, reference.into_bytes())
        });
    }
    run.finish();
}

/// How a daemon's replies follow from the reference's.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// They are equal.
    Same,
    /// The reference reads the file without an unknown key, which this daemon prints at the end of
    /// a record.
    Unknown,
    /// The reference reads a file without the fault, which is in a field that no query needs. This
    /// daemon's answers are equal unless they contain the record with the fault.
    Unread,
    /// This daemon refuses the file.
    Refused,
    /// The reference reads the file with encoded text.
    Encoded,
}

/// A configuration, in the versions for the reference and for the daemon under test.
struct Case {
    name: String,
    tree: Json,
    reference: Vec<u8>,
    subject: Vec<u8>,
    rule: Rule,
    /// Whether the reference must load its file.
    loads: bool,
    requests: usize,
}

impl Case {
    fn same(name: &str, tree: Json, text: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            tree,
            subject: text.clone(),
            reference: text,
            rule: Rule::Same,
            loads: true,
            requests: RANDOM_REQUESTS,
        }
    }

    fn faulty(name: &str, fault: Fault, sound: &Json, faulty: &Json) -> Self {
        let write = |tree: &Json| {
            tree.write(&mut Rng::with_seed(0), Style::COMPACT)
                .into_bytes()
        };
        let (rule, reference) = match fault {
            Fault::WrongType | Fault::Null | Fault::Needed => (Rule::Same, faulty),
            Fault::Unknown => (Rule::Unknown, sound),
            Fault::Unneeded | Fault::UnreadType | Fault::UnreadNull | Fault::WrongWord => {
                (Rule::Unread, sound)
            }
            Fault::Twice => (Rule::Refused, sound),
        };
        Self {
            name: name.to_owned(),
            tree: sound.clone(),
            reference: write(reference),
            subject: write(faulty),
            rule,
            loads: rule != Rule::Same,
            requests: FAULTY_REQUESTS,
        }
    }

    /// The case for testing the reference against itself.
    fn plain(&self) -> Self {
        Self {
            rule: Rule::Same,
            loads: self.loads && !matches!(self.rule, Rule::Unknown | Rule::Unread),
            tree: self.tree.clone(),
            name: self.name.clone(),
            reference: self.subject.clone(),
            subject: self.subject.clone(),
            requests: self.requests,
        }
    }

    /// Whether there is no default link: then the reference does not answer queries that need it.
    fn lacks_default_link(&self) -> bool {
        let nicparams = self
            .tree
            .member("cluster")
            .and_then(|cluster| cluster.member("nicparams"));
        nicparams.is_some_and(|nicparams| nicparams.member("default").is_none())
    }
}

/// The run of one seed.
struct Run {
    seed: u64,
    rng: Rng,
    subjects: Vec<Kind>,
    configs: usize,
    requests: usize,
    answered: usize,
    different: usize,
}

impl Run {
    /// `None` if there is no reference to compare with.
    fn start() -> Option<Self> {
        let subjects: Vec<_> = subjects()
            .into_iter()
            .filter(|kind| !matches!(kind, Kind::Address(_)))
            .collect();
        if subjects.is_empty() {
            skip("no daemon to compare with the reference");
        }
        if !Kind::Reference.is_available() || subjects.is_empty() {
            return None;
        }
        let seed = std::env::var("CONFD_SEED").map_or_else(
            |_| fastrand::u64(..),
            |seed| seed.parse().expect("CONFD_SEED is a number"),
        );
        println!("CONFD_SEED={seed}");
        Some(Self {
            seed,
            rng: Rng::with_seed(seed),
            subjects,
            configs: 0,
            requests: 0,
            answered: 0,
            different: 0,
        })
    }

    fn compare(&mut self, case: &Case) {
        self.configs += 1;
        let seed = self.rng.u64(..);
        for kind in self.subjects.clone() {
            if kind == Kind::Reference {
                self.compare_with(&case.plain(), kind, seed);
            } else {
                self.compare_with(case, kind, seed);
            }
        }
    }

    fn compare_with(&mut self, case: &Case, kind: Kind, seed: u64) {
        let key = format!("key of {seed:x}");
        let asked = requests(case, key.as_bytes(), seed);
        let reference = Side::new(Kind::Reference, &case.reference, key.as_bytes());
        let subject = Side::new(kind, &case.subject, key.as_bytes());
        let to_reference: Vec<_> = asked
            .iter()
            .map(|asked| (asked.tag, asked.datagram.clone()))
            .collect();
        let to_subject: Vec<_> = match case.rule {
            Rule::Encoded => asked
                .iter()
                .map(|asked| (asked.tag, decoded_datagram(asked, key.as_bytes(), seed)))
                .collect(),
            _ => to_reference.clone(),
        };
        let mut theirs = reference.exchange(&to_reference);
        let mut ours = subject.exchange(&to_subject);
        self.requests += asked.len();
        for ((asked, (_, to_reference)), (_, to_subject)) in
            asked.iter().zip(to_reference).zip(to_subject)
        {
            let (mut expected, mut got) = (theirs.remove(&asked.tag), ours.remove(&asked.tag));
            let settled = is_own_error(case, asked, &subject.read(got.as_deref()));
            if expected.is_some() != got.is_some() && !settled {
                expected = expected.or_else(|| reference.ask(&to_reference));
                got = got.or_else(|| subject.ask(&to_subject));
            }
            self.answered += usize::from(got.is_some());
            let comparable = reference.read(expected.as_deref());
            if comparable != Comparable::NoReply {
                let loaded = !matches!(comparable, Comparable::Refusal(_));
                assert_eq!(
                    loaded,
                    case.loads,
                    "whether the reference loads {}",
                    save(case).display()
                );
            }
            if !agree(case, asked, comparable, subject.read(got.as_deref())) {
                self.report(case, kind, asked, expected.as_deref(), got.as_deref());
            }
        }
    }

    fn report(
        &mut self,
        case: &Case,
        kind: Kind,
        asked: &Asked,
        expected: Option<&[u8]>,
        got: Option<&[u8]>,
    ) {
        self.different += 1;
        if self.different > PRINTED_MAX {
            return;
        }
        let show = |reply: Option<&[u8]>| match reply {
            None => "silence".to_owned(),
            Some(reply) => reply[..reply.len().min(PRINTED_BYTES_MAX)]
                .escape_ascii()
                .to_string(),
        };
        println!(
            "{kind:?} differs from the reference; CONFD_SEED={}",
            self.seed
        );
        println!("  file     {}", save(case).display());
        println!(
            "  message  {}",
            asked.message.write(&mut Rng::with_seed(0), Style::COMPACT)
        );
        println!("  datagram {}", asked.datagram.escape_ascii());
        println!("  expected {}", show(expected));
        println!("  got      {}", show(got));
    }

    fn finish(self) {
        println!(
            "CONFD_SEED={}: {} requests ({} answered) on {} configurations to {:?}, {} differences",
            self.seed, self.requests, self.answered, self.configs, self.subjects, self.different
        );
        assert_eq!(
            self.different, 0,
            "replies differ; CONFD_SEED={}",
            self.seed
        );
    }
}

/// Saves both files of a case. Returns the path of the tested daemon's file.
fn save(case: &Case) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("{}.json", case.name));
    let saved = fs::write(&file, &case.subject).and_then(|()| {
        fs::write(
            directory.join(format!("{}.reference.json", case.name)),
            &case.reference,
        )
    });
    if let Err(error) = saved {
        println!("  not saved: {error}");
    }
    file
}

/// The requests of a case: paths of the configuration, then random requests.
fn requests(case: &Case, key: &[u8], seed: u64) -> Vec<Asked> {
    let mut requests = Requests::new(seed, key, &case.tree);
    if case.rule != Rule::Same {
        requests = requests.well_formed();
    }
    let paths = requests.paths().min(PATHS_MAX).min(case.requests * 2);
    let start = Rng::with_seed(seed).usize(..requests.paths());
    let mut asked: Vec<_> = (0..paths)
        .map(|index| requests.path(start + index))
        .collect();
    asked.extend((0..case.requests).map(|_| requests.any()));
    asked
}

/// `asked` with its text decoded, as a datagram.
fn decoded_datagram(asked: &Asked, key: &[u8], seed: u64) -> Vec<u8> {
    let rng = &mut Rng::with_seed(seed ^ asked.tag as u64);
    let style = Style::any(rng);
    let message = encodings::decode_all(&asked.message).write(rng, style);
    let salt = now().to_string();
    let hmac = sign_hex(key, format!("{salt}{message}").as_bytes());
    let envelope = Json::object([
        ("msg", Json::text(message)),
        ("salt", Json::text(salt)),
        ("hmac", Json::text(hmac)),
    ]);
    // Not escaped: the reference would read a surrogate pair as two characters.
    let raw = Style {
        utf8: true,
        escape: 0,
        ..style
    };
    [b"plj0", envelope.write(rng, raw).as_bytes()].concat()
}

/// One of the two compared daemons.
struct Side(Subject);

/// The part of a reply that must be equal on both sides.
#[derive(Clone, Debug, PartialEq)]
enum Comparable {
    NoReply,
    /// All bytes.
    Bytes(Vec<u8>),
    /// A signed error that names a file in the daemon's root directory, without the details that
    /// follow.
    Refusal(Reply),
}

impl Side {
    fn new(kind: Kind, config: &[u8], key: &[u8]) -> Self {
        Self(Subject::start(kind, Some(config), key))
    }

    fn exchange(&self, requests: &[(usize, Vec<u8>)]) -> HashMap<usize, Vec<u8>> {
        self.0.client().exchange(requests)
    }

    fn ask(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.0.client().ask(datagram, REPEAT_TIMEOUT)
    }

    fn read(&self, reply: Option<&[u8]>) -> Comparable {
        const DETAIL: &str = "parsing configuration: ";
        let Some(bytes) = reply else {
            return Comparable::NoReply;
        };
        match Reply::read(self.0.key(), bytes) {
            Some(mut reply) if reply.message.contains(self.0.root()) => {
                reply.message = reply.message.replace(self.0.root(), "<root>");
                if let Some(at) = reply.message.find(DETAIL) {
                    reply.message.truncate(at + DETAIL.len());
                }
                Comparable::Refusal(reply)
            }
            _ => Comparable::Bytes(bytes.to_vec()),
        }
    }
}

/// Whether `got` follows from `expected` by the case's rule.
fn agree(case: &Case, asked: &Asked, expected: Comparable, got: Comparable) -> bool {
    if expected == Comparable::NoReply && is_own_error(case, asked, &got) {
        return true;
    }
    match case.rule {
        Rule::Same => got == expected,
        Rule::Refused => matches!(got, Comparable::Refusal(_)),
        Rule::Unread => matches!(asked.type_number, Some(8..=10)) || got == expected,
        Rule::Unknown => message(&got).map(|got| without_unknown(&got)) == message(&expected),
        Rule::Encoded => {
            message(&got) == message(&expected).map(|expected| encodings::decode_quoted(&expected))
        }
    }
}

/// Whether this daemon answers "internal error" where the reference does not answer, which is an
/// intended difference.
fn is_own_error(case: &Case, asked: &Asked, got: &Comparable) -> bool {
    case.lacks_default_link()
        && matches!(asked.type_number, Some(2 | 6))
        && message(got).as_deref() == Some(r#"{"protocol":1,"status":1,"answer":1,"serial":0}"#)
}

/// The inner message of a complete reply.
fn message(comparable: &Comparable) -> Option<String> {
    let Comparable::Bytes(bytes) = comparable else {
        return None;
    };
    let envelope: serde_json::Value = serde_json::from_slice(bytes.strip_prefix(b"plj0")?).ok()?;
    envelope["msg"].as_str().map(str::to_owned)
}

/// `message` without the unknown key, which is the last one of its record.
fn without_unknown(message: &str) -> String {
    let (key, value) = Fault::UNKNOWN;
    let member = format!(r#""{key}":{value}"#);
    message
        .replace(&format!(",{member}"), "")
        .replace(&member, "")
}

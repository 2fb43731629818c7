//! The live comparison: ours on both engines beside the reference, on the same files, asked the same datagrams.
//!
//! A run is a seed: it is printed, and `CONFD_SEED` sets it. A difference is printed with the seed, the file (kept below `target/tmp`),
//! the request and both replies; at the end there is one count.
//!
//! What the contract leaves open or decides differently from the reference is not in the files and requests made here
//! ([`properties::generate`]), or has a [`Rule`] of its own.

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

/// What CI asks for.
const REQUESTS_MIN: usize = 20_000;
const CONFIGS_MIN: usize = 50;

const GENERATED_CONFIGS: usize = 60;
const FAULTY_CONFIGS: usize = 48;
const DISGUISED_CONFIGS: usize = 12;

/// Requests for each configuration, besides one for each of its paths.
const RANDOM_REQUESTS: usize = 200;
/// Paths of one configuration that are asked for.
const PATHS_MAX: usize = 250;
/// A faulty file is mostly refused: a few requests show that.
const FAULTY_REQUESTS: usize = 60;

/// The most differences that are printed in full.
const PRINTED_MAX: usize = 20;
/// The most bytes of a reply that are printed.
const PRINTED_BYTES_MAX: usize = 1500;

/// A request that only one daemon answered is asked again, alone, with this much patience: datagrams may be lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Committed files that the contract treats differently; `conformance` has what is expected of each.
const NOT_COMPARED: &[&str] = &[
    "numbers.json",       // not RFC 8259
    "numbers-plain.json", // numbers beyond all doubles
    "path.json",          // a key twice
    "path-plain.json",    // text beyond ASCII
    "raw-dup-keys.json",  // a key twice
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
            rule: Rule::Disguised,
            ..Case::same(&format!("text-{seed:x}"), tree, reference.into_bytes())
        });
    }
    run.finish();
}

/// How a subject's replies follow from the reference's.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// They are the same.
    Same,
    /// The reference reads the file without its unknown key; ours has it at the end of one record.
    Unknown,
    /// The reference reads the file with nothing missing; ours answers what does not print the incomplete record.
    Incomplete,
    /// Ours refuses the file.
    Refused,
    /// The reference reads the file in disguise.
    Disguised,
}

/// A configuration, as the reference and as the subject read it.
struct Case {
    name: String,
    tree: Json,
    reference: Vec<u8>,
    subject: Vec<u8>,
    rule: Rule,
    /// Whether the reference loads its file; anything else is a mistake of the generator.
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
            Fault::WrongType | Fault::Null | Fault::WrongWord | Fault::Needed => {
                (Rule::Same, faulty)
            }
            Fault::Unknown => (Rule::Unknown, sound),
            Fault::Unneeded => (Rule::Incomplete, sound),
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

    /// The same for a subject that is the reference itself: it knows no rule but its own.
    fn plain(&self) -> Self {
        Self {
            rule: Rule::Same,
            loads: self.loads && !matches!(self.rule, Rule::Unknown | Rule::Incomplete),
            tree: self.tree.clone(),
            name: self.name.clone(),
            reference: self.subject.clone(),
            subject: self.subject.clone(),
            requests: self.requests,
        }
    }

    /// Without a default link the reference never answers what needs it.
    fn lacks_default_link(&self) -> bool {
        let nicparams = self
            .tree
            .member("cluster")
            .and_then(|cluster| cluster.member("nicparams"));
        nicparams.is_some_and(|nicparams| nicparams.member("default").is_none())
    }
}

/// One seed's run.
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
    /// `None` where there is nothing to compare.
    fn start() -> Option<Self> {
        let subjects: Vec<_> = subjects()
            .into_iter()
            .filter(|kind| !matches!(kind, Kind::Address(_)))
            .collect();
        if subjects.is_empty() {
            skip("no daemon to compare with the reference");
        }
        if !Kind::Reference.is_here() || subjects.is_empty() {
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
            Rule::Disguised => asked
                .iter()
                .map(|asked| (asked.tag, revealed_datagram(asked, key.as_bytes(), seed)))
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
            let heard = reference.read(expected.as_deref());
            if heard != Heard::Silence {
                let loaded = !matches!(heard, Heard::Refusal(_));
                assert_eq!(
                    loaded,
                    case.loads,
                    "what the reference makes of {}",
                    keep(case).display()
                );
            }
            if !agree(case, asked, heard, subject.read(got.as_deref())) {
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
        println!("  file     {}", keep(case).display());
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

/// Saves both files of a case, and gives the path of the subject's.
fn keep(case: &Case) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("{}.json", case.name));
    let saved = fs::write(&file, &case.subject).and_then(|()| {
        fs::write(
            directory.join(format!("{}.reference.json", case.name)),
            &case.reference,
        )
    });
    if let Err(error) = saved {
        println!("  not kept: {error}");
    }
    file
}

/// The requests of a case: some paths of the configuration, then anything.
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

/// The datagram that asks in plain text what `asked` asks in disguise.
fn revealed_datagram(asked: &Asked, key: &[u8], seed: u64) -> Vec<u8> {
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
    // Raw: the two halves of an escaped pair would be signed apart by the reference's reading.
    let raw = Style {
        utf8: true,
        escape: 0,
        ..style
    };
    [b"plj0", envelope.write(rng, raw).as_bytes()].concat()
}

/// One of the two daemons that are compared.
struct Side(Subject);

/// A reply, as far as it must be the same on both sides.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Silence,
    /// Every byte.
    Bytes(Vec<u8>),
    /// A signed text that names a file below the daemon's own root, the detail behind it left out.
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
        self.0.client().ask(datagram, PATIENCE)
    }

    fn read(&self, reply: Option<&[u8]>) -> Heard {
        const DETAIL: &str = "parsing configuration: ";
        let Some(bytes) = reply else {
            return Heard::Silence;
        };
        match Reply::read(self.0.key(), bytes) {
            Some(mut reply) if reply.message.contains(self.0.root()) => {
                reply.message = reply.message.replace(self.0.root(), "<root>");
                if let Some(at) = reply.message.find(DETAIL) {
                    reply.message.truncate(at + DETAIL.len());
                }
                Heard::Refusal(reply)
            }
            _ => Heard::Bytes(bytes.to_vec()),
        }
    }
}

/// Whether `got` is what the case's rule makes of `expected`.
fn agree(case: &Case, asked: &Asked, expected: Heard, got: Heard) -> bool {
    if expected == Heard::Silence && is_own_error(case, asked, &got) {
        return true;
    }
    match case.rule {
        Rule::Same => got == expected,
        Rule::Refused => matches!(got, Heard::Refusal(_)),
        Rule::Incomplete => matches!(asked.type_number, Some(8..=10)) || got == expected,
        Rule::Unknown => message(&got).map(|got| without_unknown(&got)) == message(&expected),
        Rule::Disguised => {
            message(&got) == message(&expected).map(|expected| encodings::decode_quoted(&expected))
        }
    }
}

/// Whether we say "internal error" where the reference dies in silence: the contract's number 9.
fn is_own_error(case: &Case, asked: &Asked, got: &Heard) -> bool {
    case.lacks_default_link()
        && matches!(asked.type_number, Some(2 | 6))
        && message(got).as_deref() == Some(r#"{"protocol":1,"status":1,"answer":1,"serial":0}"#)
}

/// The inner message of a reply that was heard whole.
fn message(heard: &Heard) -> Option<String> {
    let Heard::Bytes(bytes) = heard else {
        return None;
    };
    let envelope: serde_json::Value = serde_json::from_slice(bytes.strip_prefix(b"plj0")?).ok()?;
    envelope["msg"].as_str().map(str::to_owned)
}

/// `message` without the unknown key, which stands behind all known ones of its record.
fn without_unknown(message: &str) -> String {
    let (key, value) = Fault::UNKNOWN;
    let member = format!(r#""{key}":{value}"#);
    message
        .replace(&format!(",{member}"), "")
        .replace(&member, "")
}

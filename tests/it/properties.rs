//! The properties of the fuzz targets (`fuzz/properties`), checked for the committed corpora, for
//! edited inputs of these, and for any bytes.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestError, TestRunner};

/// Generated inputs for a property.
const CASES: u32 = 2_000;

/// Generated inputs for slow properties.
const CASES_SLOW: u32 = 200;
const SLOW: [&str; 3] = ["config_mutation", "numbers", "buffer_ring"];

/// The longest random input.
const BYTES_MAX: usize = 600;

/// Bytes with a meaning in JSON or in a path.
const SYNTAX: &[u8] = b"\"\\{}[],:0-9.eE/~tfnu \n\x00\x80\xff";

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The committed inputs of the target `name`.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = fuzz_folder().join("corpus").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read(file).expect("readable"))
        .collect()
}

/// One change to an input.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
    Repeat(Index, usize),
}

impl Edit {
    fn any() -> impl Strategy<Value = Self> {
        let byte = || prop_oneof![any::<u8>(), prop::sample::select(SYNTAX)];
        prop_oneof![
            (any::<Index>(), byte()).prop_map(|(at, byte)| Self::Replace(at, byte)),
            (any::<Index>(), byte()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            any::<Index>().prop_map(Self::Remove),
            any::<Index>().prop_map(Self::Truncate),
            (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Self::Repeat(at, len)),
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        match self {
            Self::Replace(at, byte) => bytes[at.index(len)] = byte,
            Self::Insert(at, byte) => bytes.insert(at.index(len), byte),
            Self::Remove(at) => drop(bytes.remove(at.index(len))),
            Self::Truncate(at) => bytes.truncate(at.index(len)),
            Self::Repeat(at, count) => {
                let at = at.index(len);
                let piece = bytes[at..(at + count).min(len)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Inputs of a property: an edited input of the corpus, or any bytes.
fn inputs(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edited =
        (prop::sample::select(corpus), vec(Edit::any(), 1..5)).prop_map(|(mut bytes, edits)| {
            edits.into_iter().for_each(|edit| edit.apply(&mut bytes));
            bytes
        });
    prop_oneof![3 => edited, 1 => vec(any::<u8>(), 0..BYTES_MAX)]
}

/// Checks the property `name` with its corpus and with generated inputs.
fn check_property(name: &str) {
    let (_, check) = properties::ALL
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a property has this name");
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "the corpus of {name} is empty");
    corpus.iter().for_each(|bytes| check(bytes));
    let config = Config {
        cases: if SLOW.contains(&name) {
            CASES_SLOW
        } else {
            CASES
        },
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&inputs(corpus), |bytes| {
        check(&bytes);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, bytes)) => {
            let saved = save(name, &bytes);
            panic!(
                "{name}: {why}\nthe input, saved in {saved}: {}",
                bytes.escape_ascii()
            );
        }
        Err(aborted) => panic!("{name}: {aborted}"),
    }
}

/// Saves an input that fails a property where the fuzzer does. Returns its path.
fn save(name: &str, bytes: &[u8]) -> String {
    let folder = fuzz_folder().join("artifacts").join(name);
    let file = folder.join("property-test");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&file, bytes));
    written.map_or_else(
        |e| format!("no file ({e})"),
        |()| file.display().to_string(),
    )
}

macro_rules! properties {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check_property(stringify!($name));
        }
    )*};
}

properties! {
    datagram signed_request envelope work config config_mutation pointer numbers recvmsg buffer_ring watcher
}

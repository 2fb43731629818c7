//! Files that are served with a warning, and files that are refused with an error: both are checked
//! by `ganeti-confd --check` and by loading them.
//!
//! `tests/data/files/cases.json` lists edits of `base.json` (`[old, new]` pairs, each replaced
//! once) with the expected warnings and printed values, or the expected error.

use std::fs;
use std::path::Path;
use std::process::Command;

use ganeti_confd::snapshot::Snapshot;
use serde::Deserialize;
use serde_json::Value;

use crate::differences::{ask, load};

#[derive(Deserialize)]
struct Cases {
    served: Vec<Case>,
    refused: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    edit: Vec<(String, String)>,
    /// All warnings of a file that is served.
    #[serde(default)]
    warnings: Vec<String>,
    /// Values by path, as type 10 returns them.
    #[serde(default)]
    printed: serde_json::Map<String, Value>,
    /// The error of a file that is refused.
    #[serde(default)]
    error: String,
}

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/files")
        .join(name);
    fs::read_to_string(path).expect("the test data is readable")
}

fn cases() -> Cases {
    serde_json::from_str(&data("cases.json")).expect("the cases are JSON")
}

impl Case {
    fn text(&self) -> String {
        self.edit
            .iter()
            .fold(data("base.json"), |text, (old, new)| {
                assert!(text.contains(old), "{}: nothing to edit", self.name);
                text.replacen(old, new, 1)
            })
    }
}

/// What `ganeti-confd --check` prints about the file, and whether it succeeds.
fn check(bytes: &[u8]) -> (bool, String) {
    let root = tempfile::tempdir().expect("a temporary directory");
    let directory = root.path().join("var/lib/ganeti");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("config.data"), bytes).expect("a file");
    fs::write(directory.join("hmac.key"), "the key of a test").expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_ganeti-confd"))
        .arg("--check")
        .env("GANETI_ROOTDIR", root.path())
        .output()
        .expect("the daemon runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("messages are UTF-8");
    (!text.contains("cannot be served"), text)
}

#[test]
fn values_that_no_query_needs_are_served_with_a_warning() {
    for case in cases().served {
        let text = case.text();
        let name = &case.name;
        let loaded = Snapshot::load(text.as_bytes())
            .unwrap_or_else(|error| panic!("{name} is refused: {error}"));
        assert_eq!(loaded.warnings, case.warnings, "{name}");
        let served = load(&text).expect("loaded a moment ago");
        for kind in 0..=11 {
            let query = match kind {
                1 | 7 | 8 => "node1".into(),
                9 => "instance1".into(),
                10 => "/cluster".into(),
                2 => serde_json::json!({"1": "10.64.0.0"}),
                _ => Value::Null,
            };
            let answer = ask(&served, kind, query);
            assert_eq!(answer["status"], 0, "{name}: type {kind}: {answer}");
        }
        for (path, value) in &case.printed {
            assert_eq!(
                &ask(&served, 10, path.as_str())["answer"],
                value,
                "{name}: {path}"
            );
        }
    }
}

#[test]
fn values_that_queries_need_and_syntax_errors_are_refused_with_their_place() {
    for case in cases().refused {
        let error = Snapshot::load(case.text().as_bytes())
            .map(|_| ())
            .expect_err(&case.name);
        assert_eq!(error.to_string(), case.error, "{}", case.name);
    }
}

#[test]
fn check_reports_the_same() {
    let Cases { served, refused } = cases();
    for case in served.iter().step_by(4) {
        let (is_served, printed) = check(case.text().as_bytes());
        assert!(is_served, "{}: {printed}", case.name);
        for warning in &case.warnings {
            assert!(printed.contains(warning), "{}: {printed}", case.name);
        }
    }
    for case in refused.iter().step_by(4) {
        let (is_served, printed) = check(case.text().as_bytes());
        assert!(
            !is_served && printed.contains(&case.error),
            "{}: {printed}",
            case.name
        );
    }
}

#[test]
fn files_that_do_not_start_with_an_object_are_named_for_what_they_are() {
    let base = data("base.json").into_bytes();
    let bom = [b"\xef\xbb\xbf".as_slice(), &base].concat();
    let space = [b" ".as_slice(), &base].concat();
    let latin = [b"{\"\xe9".as_slice(), &base].concat();
    let utf16: Vec<u8> = String::from_utf8_lossy(&base)
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (file, expected) in [
        (&[][..], "the file is empty"),
        (&[0; 5_000], "the file starts with 5000 zero bytes"),
        (&bom, "the file starts with a byte order mark (BOM)"),
        (
            &[&[0xff, 0xfe], &utf16[..]].concat(),
            "the file is UTF-16 text",
        ),
        (&space, "line 1, column 1: the file must start with `{`"),
        (&latin, "line 1, column 3: the text is not UTF-8"),
        (&base[..700], "column"),
        (b"[]", "line 1, column 1: the file must start with `{`"),
    ] {
        let error = Snapshot::load(file)
            .map(|_| ())
            .expect_err(expected)
            .to_string();
        assert!(
            error.starts_with(expected) || error.contains(expected),
            "{error}"
        );
    }
    let cut = Snapshot::load(&base[..700]).map(|_| ()).expect_err("cut");
    assert!(
        cut.to_string()
            .ends_with("the file ends in the middle (truncated?)"),
        "{cut}"
    );
    let deep = base_with_depth(300);
    let error = Snapshot::load(deep.as_bytes())
        .map(|_| ())
        .expect_err("deep");
    assert!(
        error.to_string().contains("more than 256 levels deep"),
        "{error}"
    );
}

fn base_with_depth(depth: usize) -> String {
    let nested = "[".repeat(depth) + &"]".repeat(depth);
    data("base.json").replacen("\"osparams\": {}", &format!("\"osparams\": {nested}"), 1)
}

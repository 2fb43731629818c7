//! README, `docs/` and the other pages: what they say about commands, messages, options and
//! counters is what the programs do.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ganeti_confd::engine::Totals;

const DAEMON: &str = env!("CARGO_BIN_EXE_ganeti-confd");
const CONFDCTL: &str = env!("CARGO_BIN_EXE_confdctl");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All pages, with paths relative to the project's root.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = ["README.md", "CHANGELOG.md", "SECURITY.md", "fuzz/README.md"]
        .map(str::to_owned)
        .into();
    for entry in fs::read_dir(root().join("docs")).expect("docs is a directory") {
        let name = entry.expect("docs can be listed").file_name();
        let name = name.to_str().expect("pages have ASCII names").to_owned();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    pages
}

/// The lines of `text` outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The fenced blocks of one language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    let parts = text.split(start.as_str()).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap_or_default())
        .collect()
}

/// The section under the heading `title`, up to the next heading of the same level.
fn section<'a>(text: &'a str, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let (_, after) = text
        .split_once(&heading)
        .unwrap_or_else(|| panic!("no {heading}"));
    after.split("\n## ").next().unwrap_or_default()
}

/// The code spans of `text`, without its fenced blocks.
fn code_spans(text: &str) -> Vec<String> {
    let text: Vec<_> = prose(text).collect();
    let text = text.join("\n");
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The anchor that renderers make from a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || "-_".contains(c) => Some(c),
        _ => None,
    });
    kept.collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    for page in pages() {
        let text = read(&page);
        let text: Vec<_> = prose(&text).collect();
        let text = text.join(" ");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let directory = Path::new(&page).parent().expect("a page is a file");
            let target: PathBuf = if file.is_empty() {
                root().join(&page)
            } else {
                root().join(directory).join(file)
            };
            assert!(target.exists(), "{page}: {link}");
            if !heading.is_empty() {
                let target = fs::read_to_string(&target).expect("a page is text");
                let found = prose(&target)
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line) == heading);
                assert!(found, "{page}: {link}");
            }
        }
    }
}

#[test]
fn the_front_page_is_short_and_names_the_compiler() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 120);
    let manifest = read("Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .expect("Cargo.toml has a rust-version");
    assert!(readme.contains(&format!("Rust {} or later", version.trim_matches('"'))));
}

/// The last command of `.ci/run` is the README's test command, and it runs all documented checks.
#[test]
fn ci_runs_the_documented_commands() {
    let ci = read(".ci/run");
    let readme = read("README.md");
    let test = blocks(section(&readme, "Tests"), "sh")[0].trim();
    assert_eq!(ci.lines().last(), Some(test));
    let contributing = read("docs/contributing.md");
    for command in blocks(section(&contributing, "Checks"), "sh")[0].lines() {
        assert!(ci.lines().any(|line| line == command), "{command}");
    }
}

/// Runs `--help` of a program or a command.
fn help(program: &str, command: &[&str]) -> String {
    let output = Command::new(program).args(command).arg("--help").output();
    String::from_utf8(output.expect("it runs").stdout).expect("help is UTF-8")
}

#[test]
fn documented_options_exist() {
    let mut help_text = help(DAEMON, &[]);
    for command in [
        &[][..],
        &["query"],
        &["query", "master"],
        &["probe"],
        &["bench"],
        &["status"],
    ] {
        help_text += &help(CONFDCTL, command);
    }
    let mut options: BTreeSet<&str> = words(&help_text).filter(|w| w.starts_with("--")).collect();
    // It still works, but `--keep-last-good` has taken its place.
    options.insert("--on-bad-config");
    for page in [
        "README.md",
        "CHANGELOG.md",
        "docs/operations.md",
        "docs/differences.md",
    ] {
        let text = read(page);
        let commands = blocks(&text, "sh")
            .into_iter()
            .chain(blocks(&text, "console"));
        let commands = commands
            .flat_map(str::lines)
            .filter(|line| line.contains("confd"));
        let spans = code_spans(&text);
        let all = commands.chain(spans.iter().map(String::as_str));
        // Options of other programs.
        let others = ["cargo", "dpkg", "systemctl", "journalctl", "promtool"];
        let own = all.filter(|line| !others.iter().any(|program| line.contains(program)));
        for word in own
            .flat_map(words)
            .filter(|w| w.starts_with("--") && w.len() > 2)
        {
            assert!(options.contains(word), "{page}: {word}");
        }
    }
}

/// Splits at everything that is not part of an option's name.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
}

#[test]
fn the_counters_are_those_of_the_log() {
    let totals = Totals::default();
    let groups = ["dropped_<reason>", "requests_<query>", "too_large_<query>"];
    let fields: BTreeSet<&str> = totals
        .numbers()
        .map(|(name, _)| name)
        .chain(groups)
        .collect();
    let page = read("docs/operations.md");
    let rows = section(&page, "Counters")
        .lines()
        .filter(|line| line.starts_with("| `"));
    let rows: BTreeSet<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(rows, fields);
}

/// All string literals, roughly: the sources with continued lines joined.
fn source_text() -> String {
    fn collect(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).expect("sources can be listed") {
            let path = entry.expect("sources can be listed").path();
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                *text += &fs::read_to_string(&path).expect("sources are text");
            }
        }
    }
    let mut text = String::new();
    collect(&root().join("src"), &mut text);
    let mut parts = text.split("\\\n");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        joined += part.trim_start();
    }
    joined
}

/// Whether the parts of `message` between its `<placeholders>` follow each other in one literal.
fn occurs(source: &str, message: &str) -> bool {
    let mut parts = message
        .split('<')
        .map(|part| part.split_once('>').map_or(part, |(_, p)| p));
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let (start, rest) = match (first, &rest[..]) {
        ("", [second, rest @ ..]) => (*second, rest),
        _ => (first, &rest[..]),
    };
    source.match_indices(start).any(|(at, _)| {
        let literal = &source[at..];
        let mut literal = &literal[..literal.find('"').unwrap_or(literal.len())];
        rest.iter().all(|part| match literal.find(part) {
            Some(at) => {
                literal = &literal[at + part.len()..];
                true
            }
            None => false,
        })
    })
}

#[test]
fn messages_are_recognized_with_their_placeholders() {
    let source = r#"warn!("Cannot read {path}: {error}; try again"); format!("other {n} text")"#;
    assert!(occurs(source, "Cannot read <path>: <reason>; try again"));
    assert!(occurs(source, "<reason>; try again"));
    assert!(!occurs(source, "Cannot write <path>"));
    assert!(!occurs(source, "Cannot read <path> text"));
}

#[test]
fn documented_messages_are_in_the_sources() {
    let source = source_text();
    let page = read("docs/operations.md");
    let mut count = 0;
    for title in ["Start-up errors", "Log messages", "It does not answer"] {
        for span in code_spans(section(&page, title)) {
            // Names of options, files and commands have no spaces, or start like these.
            let other = [
                "--", "/", "kill", "ss -", "ip ", "sha1sum", "gnt-", "confdctl", "2026",
            ];
            if span.contains(' ') && !other.iter().any(|start| span.starts_with(start)) {
                assert!(occurs(&source, &span), "{title}: {span}");
                count += 1;
            }
        }
    }
    assert!(count > 25, "{count} messages were recognized");
}

/// The commands of the README's quick start, with the output that it shows.
#[test]
fn the_quick_start_shows_real_output() {
    let readme = read("README.md");
    let sessions = blocks(section(&readme, "Quick start"), "console");
    let [demo, queries] = sessions[..] else {
        panic!("the quick start has two sessions");
    };

    let (command, shown) = demo.split_once('\n').expect("a command and its output");
    assert!(command.ends_with(" -- --demo"), "{command}");
    let mut daemon = Command::new(DAEMON)
        .args(["--demo", "--port=0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the daemon starts");
    let stdout = BufReader::new(daemon.stdout.take().expect("stdout is a pipe"));
    let lines = stdout.lines().map_while(Result::ok);
    let printed: Vec<String> = lines.take(shown.lines().count()).collect();
    daemon.kill().expect("the daemon runs");
    daemon.wait().expect("the daemon ends");
    let printed: Vec<String> = printed.iter().map(|line| generalize(line)).collect();
    let shown: Vec<String> = shown.lines().map(generalize).collect();
    assert_eq!(printed, shown);

    for session in queries.split("$ confdctl ").skip(1) {
        let (command, shown) = session.split_once('\n').expect("a command and its output");
        let arguments = ["--demo"].into_iter().chain(command.split(' '));
        let output = Command::new(CONFDCTL).args(arguments).output();
        let output = String::from_utf8(output.expect("it runs").stdout).expect("it is UTF-8");
        if command == "probe" {
            // The address and the round trip differ, and a pipe gets the plugin's first line.
            let row = |text: &str| {
                let row = text.lines().find(|line| line.starts_with("127.0.0.1:"));
                let row = row.expect("a candidate").split_whitespace();
                row.skip(1).take(5).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(row(&output), row(shown));
            let summary = shown
                .lines()
                .last()
                .and_then(|line| line.strip_prefix("OK: "));
            let summary = summary.expect("a summary");
            assert!(
                output.starts_with(&format!("CONFD OK - {summary}|")),
                "{output}"
            );
        } else {
            // On a terminal there is a heading, and columns are aligned.
            let is_heading = |line: &str| line.chars().all(|c| !c.is_lowercase());
            let shown = shown.lines().filter(|line| !is_heading(line));
            assert_eq!(fields(output.lines()), fields(shown), "{command}");
        }
    }
}

/// Replaces what differs from one demo to the next.
fn generalize(line: &str) -> String {
    if line.ends_with(" query master") {
        return "a query".to_owned();
    }
    let words = line.split_inclusive(['/', ' ', ':', '=']).map(|word| {
        if word.starts_with("ganeti-confd-demo-") {
            "DEMO/"
        } else if word
            .trim_end_matches('/')
            .parse::<u16>()
            .is_ok_and(|port| port > 1_000)
        {
            "PORT"
        } else {
            word
        }
    });
    words.collect::<String>().replace("PORT/", "PORT")
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<&'a str>> {
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

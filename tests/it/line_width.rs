//! Comments and Markdown prose wrap at 100 columns. Code blocks, tables and lines with a link are
//! exempt.

use std::fs;
use std::path::{Path, PathBuf};

const COLUMNS_MAX: usize = 100;

/// Where comments and prose are.
const ROOTS: [&str; 6] = ["src", "tests", "benches", "examples", "fuzz", "docs"];

/// Below these are no texts of ours.
const SKIPPED: [&str; 5] = ["target", "corpus", "artifacts", "found", "data"];

/// Rust and Markdown files in the project's root folder and below [`ROOTS`].
fn files() -> Vec<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders: Vec<_> = ROOTS.iter().map(|root| project.join(root)).collect();
    folders.retain(|folder| folder.is_dir());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !SKIPPED.contains(&&*name) {
                folders.push(path);
            } else if is_text(&path) {
                files.push(path);
            }
        }
    }
    let root = fs::read_dir(project).expect("readable");
    let root = root.map(|entry| entry.expect("readable").path());
    files.extend(root.filter(|path| path.is_file() && is_text(path)));
    files.sort();
    files
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    extension == "rs" || extension == "md"
}

/// The numbers of lines that are too wide; `is_markdown` makes every line prose.
fn wide_lines(text: &str, is_markdown: bool) -> Vec<usize> {
    let mut in_block = false;
    let mut wide = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let prose = match trimmed.strip_prefix("//") {
            _ if is_markdown => trimmed,
            Some(comment) => comment.trim_start_matches(['/', '!']).trim_start(),
            None => {
                in_block = false;
                continue;
            }
        };
        if prose.starts_with("```") {
            in_block = !in_block;
        }
        let is_exempt = in_block || prose.starts_with('|') || has_link(prose);
        if !is_exempt && line.chars().count() > COLUMNS_MAX {
            wide.push(number + 1);
        }
    }
    wide
}

fn has_link(prose: &str) -> bool {
    prose.contains("://") || prose.contains("](")
}

#[test]
fn comments_and_prose_wrap_at_100_columns() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wide = Vec::new();
    for file in files() {
        let name = file.strip_prefix(project).expect("below the project");
        let text = fs::read_to_string(&file).expect("UTF-8");
        let is_markdown = name.extension().is_some_and(|extension| extension == "md");
        let lines = wide_lines(&text, is_markdown);
        wide.extend(
            lines
                .iter()
                .map(|line| format!("{}:{line}", name.display())),
        );
    }
    assert!(wide.is_empty(), "over 100 columns:\n{}", wide.join("\n"));
}

#[test]
fn wide_lines_are_found() {
    let x = |count| "x".repeat(count);
    let rust = |line: &str| wide_lines(&format!("fn f() {{}}\n{line}\n"), false);
    assert_eq!(rust(&format!("// {}", x(97))), [0; 0]);
    assert_eq!(rust(&format!("// {}", x(98))), [2]);
    assert_eq!(rust(&format!("    /// {}", x(93))), [2]);
    assert_eq!(rust(&format!("//! é{}", x(95))), [0; 0]);
    assert_eq!(rust(&format!("let text = \"{}\";", x(98))), [0; 0]);
    let block = |line: &str| wide_lines(&format!("//! ```\n{line}\n//! ```\n//! {}", x(98)), false);
    assert_eq!(block(&format!("//! {}", x(98))), [4]);
    let markdown = |line: &str| wide_lines(&format!("# Title\n{line}\n"), true);
    assert_eq!(markdown(&x(101)), [2]);
    assert_eq!(markdown(&format!("| {} |", x(98))), [0; 0]);
    assert_eq!(markdown(&format!("[{}](docs)", x(98))), [0; 0]);
    assert_eq!(
        wide_lines(&format!("```\n{}\n```\n{}", x(101), x(101)), true),
        [4]
    );
}

//! The structure that the documentation of `src/lib.rs` describes, checked against the source text:
//!
//! * a top-level module imports only the modules that are listed for it;
//! * the pure core does no I/O and reads no clock;
//! * the files of a module do not import each other in a cycle;
//! * unsafe code exists in `src/engine` only.
//!
//! Sources are read as tokens, so comments and strings do not count, and paths inside macros do.
//! Items under `#[cfg(test)]` are not checked, except for unsafe code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The pure core: everything between receiving a datagram and sending its reply.
const PURE: [&str; 5] = ["protocol", "config", "snapshot", "responder", "json"];

/// Parts of the standard library that the pure core must not use.
const IMPURE_STD: [&str; 8] = ["env", "fs", "io", "net", "os", "process", "thread", "time"];

/// Exceptions to [`IMPURE_STD`]: values that only happen to live there.
const PURE_STD: [&str; 3] = ["net::IpAddr", "net::Ipv4Addr", "net::Ipv6Addr"];

/// Crates that do I/O or read clocks.
const IMPURE_CRATES: [&str; 11] = [
    "fastrand",
    "getrandom",
    "inotify",
    "io_uring",
    "libc",
    "nix",
    "rustix",
    "socket2",
    "tokio",
    "tokio_uring",
    "tracing",
];

/// A path of modules from the crate's root; empty for the root.
type Module = Vec<String>;

/// A path in a source file, as written, with the module that it is in.
struct Import {
    module: Module,
    path: Vec<String>,
    line: usize,
}

/// What a source file contains, as far as the checks need it.
#[derive(Default)]
struct Source {
    file: PathBuf,
    /// The module that the file is, and whether other files lie below it.
    module: Module,
    imports: Vec<Import>,
    /// By module and name: the path that a `use` item names.
    aliases: BTreeMap<(Module, String), Vec<String>>,
    /// Modules under `#[cfg(test)]` that have files of their own.
    test_modules: Vec<Module>,
    unsafe_lines: Vec<usize>,
}

/// A rule that a line of a file breaks.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what } = self;
        write!(f, "{}:{line}: {what}", file.display())
    }
}

impl Source {
    /// Reads the `text` of `file`, which is a path below `src`.
    fn read(file: &Path, text: &str) -> Self {
        let mut source = Self {
            file: file.to_owned(),
            module: module_of(file),
            ..Self::default()
        };
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let module = source.module.clone();
        source.scan(tokens, &module);
        source
    }

    fn scan(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' && is_cfg_test(&tokens[at..]) => {
                    let end = at + item_len(&tokens[at..]);
                    self.skip_tests(&tokens[at..end], module);
                    at = end;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let [_, TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at..] {
                        let module = [module, &[name.to_string()]].concat();
                        self.scan(body.stream(), &module);
                        at += 2;
                    }
                    at += 1;
                }
                TokenTree::Ident(word) => {
                    if word == "unsafe" {
                        self.unsafe_lines.push(word.span().start().line);
                    }
                    let is_use = at > 0 && is_ident(&tokens[at - 1], "use");
                    at += self.path(&tokens[at..], module, &[], is_use).max(1);
                }
                TokenTree::Group(group) => {
                    self.scan(group.stream(), module);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Takes note of test modules in other files, and of unsafe code, in an item under
    /// `#[cfg(test)]`.
    fn skip_tests(&mut self, item: &[TokenTree], module: &[String]) {
        if let [.., keyword, TokenTree::Ident(name), TokenTree::Punct(end)] = item
            && is_ident(keyword, "mod")
            && end.as_char() == ';'
        {
            let module = [module, &[name.to_string()]].concat();
            self.test_modules.push(module);
        }
        let mut tests = Self::default();
        tests.scan(item[2..].iter().cloned().collect(), module);
        self.unsafe_lines.append(&mut tests.unsafe_lines);
    }

    /// Records the path that `tokens` start with, after the segments `before`. Returns its length
    /// in tokens.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        module: &[String],
        before: &[String],
        is_use: bool,
    ) -> usize {
        let mut path = before.to_vec();
        let mut at = 0;
        while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
            path.push(segment.to_string());
            at += 1;
            if !is_path_separator(&tokens[at..]) {
                break;
            }
            at += 2;
            if let Some(TokenTree::Group(group)) = tokens.get(at)
                && group.delimiter() == Delimiter::Brace
            {
                let members: Vec<_> = group.stream().into_iter().collect();
                let is_comma =
                    |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
                for member in members.split(is_comma) {
                    self.path(member, module, &path, is_use);
                }
                return at + 1;
            }
        }
        let Some(first) = tokens.first() else {
            return at;
        };
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        if is_use && let Some(last) = path.last() {
            let alias = match tokens.get(at..) {
                Some([r#as, TokenTree::Ident(alias), ..]) if is_ident(r#as, "as") => {
                    alias.to_string()
                }
                _ => last.clone(),
            };
            self.aliases.insert((module.to_vec(), alias), path.clone());
        }
        if is_use || path.len() > 1 {
            self.imports.push(Import {
                module: module.to_vec(),
                path,
                line: first.span().start().line,
            });
        }
        at
    }
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ':');
    matches!(tokens, [a, b, ..] if is_colon(a) && is_colon(b))
}

/// Whether `tokens` start with an attribute that is there in tests only.
fn is_cfg_test(tokens: &[TokenTree]) -> bool {
    let [_, TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The number of tokens in the item that `tokens` start with: up to a body or a semicolon.
fn item_len(tokens: &[TokenTree]) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    let end = tokens.iter().position(is_end);
    end.map_or(tokens.len(), |end| end + 1)
}

/// The module that a path below `src` is.
fn module_of(file: &Path) -> Module {
    let file = file.with_extension("");
    let mut module: Module = file
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

/// All sources of the library.
struct Crate(Vec<Source>);

impl Crate {
    fn read<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Self {
        let sources = files
            .into_iter()
            .map(|(file, text)| Source::read(file, text));
        Self(sources.collect())
    }

    /// The sources that are not there for tests only.
    fn sources(&self) -> impl Iterator<Item = &Source> {
        let tests: BTreeSet<_> = self
            .0
            .iter()
            .flat_map(|source| &source.test_modules)
            .collect();
        self.0.iter().filter(move |source| {
            let parents = (0..=source.module.len()).map(|len| source.module[..len].to_vec());
            !parents.into_iter().any(|parent| tests.contains(&parent))
        })
    }

    fn has_module(&self, module: &[String]) -> bool {
        self.0.iter().any(|source| source.module == module)
    }

    /// The module that `import` leads to, with re-exports followed; `None` if it is outside the
    /// crate.
    fn target(&self, import: &Import) -> Option<Module> {
        self.resolve(&import.module, &import.path, 0)
    }

    fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.to_vec(),
            "super" => from[..from.len().checked_sub(1)?].to_vec(),
            name => {
                let child = [from, &[name.to_owned()]].concat();
                if !self.has_module(&child) {
                    return self.alias(from, name, depth);
                }
                child
            }
        };
        let mut module = start;
        for segment in rest {
            if segment == "super" {
                module.pop()?;
                continue;
            }
            let child = [&module[..], std::slice::from_ref(segment)].concat();
            if !self.has_module(&child) {
                return self.alias(&module, segment, depth).or(Some(module));
            }
            module = child;
        }
        Some(module)
    }

    /// The module that `name` is imported from, in `module`.
    fn alias(&self, module: &[String], name: &str, depth: usize) -> Option<Module> {
        // A `use` of a name by itself would otherwise never end.
        if depth > 8 {
            return None;
        }
        let key = (module.to_vec(), name.to_owned());
        let path = self.0.iter().find_map(|source| source.aliases.get(&key))?;
        if path.len() == 1 {
            return None;
        }
        self.resolve(module, path, depth + 1)
    }

    /// Imports of a top-level module that `allowed` does not list for it.
    fn forbidden_imports(&self, allowed: &BTreeMap<String, BTreeSet<String>>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for source in self.sources() {
            let Some(own) = source.module.first() else {
                continue;
            };
            for import in &source.imports {
                let Some(target) = self.target(import).and_then(|m| m.into_iter().next()) else {
                    continue;
                };
                let allowed = allowed.get(own).is_some_and(|list| list.contains(&target));
                if target != *own && !allowed {
                    violations.push(
                        source
                            .violation(import.line, format!("`{own}` must not import `{target}`")),
                    );
                }
            }
        }
        violations
    }

    /// Uses of I/O or of a clock in the pure core.
    fn impurities(&self) -> Vec<Violation> {
        let pure = self
            .sources()
            .filter(|source| matches!(&source.module[..], [top, ..] if PURE.contains(&&**top)));
        let mut violations = Vec::new();
        for source in pure {
            for import in &source.imports {
                let path = import.path.join("::");
                if is_impure(&path) {
                    let what = format!("the pure core must not use `{path}`");
                    violations.push(source.violation(import.line, what));
                }
            }
        }
        violations
    }

    /// Cycles of imports among the files (and folders) of a folder. The file `mod.rs` is not
    /// counted: it holds what its files share.
    fn cycles(&self) -> Vec<Violation> {
        let mut edges: BTreeMap<Module, BTreeMap<Module, Violation>> = BTreeMap::new();
        for source in self.sources() {
            for import in &source.imports {
                let Some(target) = self.target(import) else {
                    continue;
                };
                let pairs = source.module.iter().zip(&target);
                let common = pairs.take_while(|(a, b)| a == b).count();
                if common == source.module.len() || common == target.len() {
                    continue;
                }
                let (own, other) = (&source.module[..=common], &target[..=common]);
                edges
                    .entry(own.to_vec())
                    .or_default()
                    .entry(other.to_vec())
                    .or_insert_with(|| source.violation(import.line, other.join("::")));
            }
        }
        let mut violations = Vec::new();
        for (start, targets) in &edges {
            for (target, place) in targets {
                if is_reachable(&edges, target, start) {
                    let Violation { file, line, what } = place;
                    let what = format!("imports `{what}`, which imports it (perhaps indirectly)");
                    violations.push(Violation {
                        file: file.clone(),
                        line: *line,
                        what,
                    });
                }
            }
        }
        violations
    }

    /// Unsafe code outside `engine`.
    fn unsafe_code(&self) -> Vec<Violation> {
        let outside = self
            .0
            .iter()
            .filter(|source| source.module.first().is_none_or(|top| top != "engine"));
        outside
            .flat_map(|source| {
                let what = || "unsafe code outside src/engine".to_owned();
                let lines = source.unsafe_lines.iter();
                lines.map(move |line| source.violation(*line, what()))
            })
            .collect()
    }
}

impl Source {
    fn violation(&self, line: usize, what: String) -> Violation {
        Violation {
            file: self.file.clone(),
            line,
            what,
        }
    }
}

/// Whether a path names I/O or a clock.
fn is_impure(path: &str) -> bool {
    let (first, inside) = path.split_once("::").unwrap_or((path, ""));
    if first != "std" && first != "core" {
        return IMPURE_CRATES.contains(&first);
    }
    let part = inside.split("::").next().unwrap_or_default();
    let is_exception = PURE_STD.iter().any(|pure| {
        let rest = inside.strip_prefix(pure);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    });
    IMPURE_STD.contains(&part) && !is_exception
}

fn is_reachable(
    edges: &BTreeMap<Module, BTreeMap<Module, Violation>>,
    from: &Module,
    to: &Module,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut queue = vec![from];
    while let Some(module) = queue.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            queue.extend(edges.get(module).into_iter().flat_map(BTreeMap::keys));
        }
    }
    false
}

/// The Rust files below `folder`, with their text, sorted.
fn rust_files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            files.push((path, text));
        }
    }
    files.sort();
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// This crate, by paths relative to `src`.
fn this_crate() -> Crate {
    let src = src();
    let files = rust_files(&src);
    let relative = |file: &'_ PathBuf| file.strip_prefix(&src).expect("below src").to_owned();
    let files: Vec<_> = files
        .iter()
        .map(|(file, text)| (relative(file), text.as_str()))
        .collect();
    Crate::read(files.iter().map(|(file, text)| (file.as_path(), *text)))
}

/// Reads a table of lines such as `client -> protocol, json`, of which a module may have several.
/// Other lines are ignored.
fn allowed_imports(table: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = table.lines().filter_map(|line| {
        let (module, imports) = line.trim_start_matches("//!").split_once(" ->")?;
        let words = imports.split([',', ' ']).filter(|word| !word.is_empty());
        Some((module.trim().to_owned(), words.map(str::to_owned)))
    });
    let mut allowed = BTreeMap::<_, BTreeSet<_>>::new();
    for (module, imports) in rows {
        allowed.entry(module).or_default().extend(imports);
    }
    allowed
}

/// Fails with one line for each file and rule that it breaks.
#[track_caller]
fn assert_none(mut violations: Vec<Violation>) {
    violations.sort_by(|a, b| (&a.file, &a.what, a.line).cmp(&(&b.file, &b.what, b.line)));
    violations.dedup_by(|a, b| (&a.file, &a.what) == (&b.file, &b.what));
    let lines: Vec<_> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

/// Documents which top-level module may import which others.
const LIB: &str = include_str!("../../src/lib.rs");

#[test]
fn modules_import_only_what_is_documented() {
    let (this_crate, allowed) = (this_crate(), allowed_imports(LIB));
    for module in this_crate
        .0
        .iter()
        .filter_map(|source| source.module.first())
    {
        let is_listed = module == "bin" || allowed.contains_key(module);
        assert!(is_listed, "lib.rs does not list the imports of `{module}`");
    }
    assert_none(this_crate.forbidden_imports(&allowed));
}

#[test]
fn the_core_is_pure() {
    assert_none(this_crate().impurities());
}

#[test]
fn files_of_a_module_do_not_import_each_other_in_a_cycle() {
    assert_none(this_crate().cycles());
}

#[test]
fn unsafe_code_is_in_the_engine_only() {
    assert_none(this_crate().unsafe_code());
}

/// What `check` finds in a crate of these files: file, line and message.
fn found(files: &[(&str, &str)], check: impl Fn(&Crate) -> Vec<Violation>) -> Vec<String> {
    let files = files.iter().map(|(file, text)| (Path::new(*file), *text));
    check(&Crate::read(files))
        .iter()
        .map(Violation::to_string)
        .collect()
}

#[test]
fn a_planted_import_is_found() {
    let allowed = allowed_imports("a -> b");
    let check = |files: &[(&str, &str)]| found(files, |c| c.forbidden_imports(&allowed));
    let a = "use crate::b::B;\n#[cfg(test)]\nmod tests { use crate::c::C; }";
    let c = "// crate::a\npub struct C;\nconst TEXT: &str = \"crate::a::A\";";
    let b = |text| check(&[("lib.rs", ""), ("a.rs", a), ("b/mod.rs", text), ("c.rs", c)]);
    assert_eq!(b("pub struct B;"), [""; 0]);
    let forbidden = |line| [format!("b/mod.rs:{line}: `b` must not import `a`")];
    for text in [
        "use crate::a::A;",
        "use crate::{a::{A, self}};",
        "use super::a as other;",
        "fn f() { crate::a::g(); }",
        "fn f() { println!(\"{}\", crate::a::A); }",
        "#[cfg(feature = \"x\")] use crate::a::A;",
        "mod inner { use super::super::a::A; }",
    ] {
        let found: BTreeSet<_> = b(text).into_iter().collect();
        assert!(found.into_iter().eq(forbidden(1)), "{text}");
    }
    assert_eq!(
        b("#[cfg(test)]\nuse crate::a::A;\nuse crate::a::A;"),
        forbidden(3)
    );
}

#[test]
fn a_planted_impurity_is_found() {
    let check = |file, text| found(&[("lib.rs", ""), (file, text)], Crate::impurities).len();
    for text in [
        "use std::fs;",
        "use std::{fmt, net::UdpSocket};",
        "fn f() { std::thread::sleep(d); }",
        "use std::time::{Duration, Instant};",
        "fn f() { std::env::var(\"X\"); }",
        "use std::net::{self};",
        "use tokio::fs;",
    ] {
        assert_ne!(check("protocol/key.rs", text), 0, "{text}");
        assert_eq!(check("engine/key.rs", text), 0, "{text}");
    }
    let addresses = "use std::net::{IpAddr, Ipv4Addr};\nfn f() -> std::net::IpAddr {}";
    assert_eq!(check("protocol/key.rs", addresses), 0);
    assert_eq!(
        check("protocol/key.rs", "#[cfg(test)] mod t { use std::fs; }"),
        0
    );
}

#[test]
fn a_planted_cycle_is_found() {
    let check = |files: &[(&str, &str)]| found(files, Crate::cycles).len();
    let shared = ("m/mod.rs", "mod a; mod b; mod c; pub use a::A;");
    let a = ("m/a.rs", "use super::b::B;");
    assert_eq!(check(&[shared, a, ("m/b.rs", "use crate::m;")]), 0);
    assert_eq!(check(&[shared, a, ("m/b.rs", "use super::a::A;")]), 2);
    // Through a third file, and through a name that `mod.rs` re-exports.
    let b = ("m/b.rs", "fn f() { super::c::g() }");
    assert_eq!(check(&[shared, a, b, ("m/c.rs", "")]), 0);
    assert_eq!(check(&[shared, a, b, ("m/c.rs", "use super::A;")]), 3);
    // A folder counts as one file.
    let folder = ("m/b/inner.rs", "use crate::m::a::A;");
    assert_eq!(check(&[shared, a, ("m/b/mod.rs", "mod inner;"), folder]), 2);
}

#[test]
fn planted_unsafe_code_is_found() {
    let check = |file, text| found(&[("lib.rs", ""), (file, text)], Crate::unsafe_code);
    let text = "// unsafe\n#![forbid(unsafe_code)]\nfn f() { unsafe { g() } }";
    assert_eq!(
        check("reader/file.rs", text),
        ["reader/file.rs:3: unsafe code outside src/engine"]
    );
    assert_eq!(check("engine/slots.rs", text), [""; 0]);
    let test = "#[cfg(test)]\nmod tests { unsafe fn f() {} }";
    assert_eq!(check("text.rs", test).len(), 1);
}

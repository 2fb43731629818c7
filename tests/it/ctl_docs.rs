//! What `confdctl` says about itself: completion scripts, manual pages and their examples.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use tempfile::TempDir;

use super::common::skip;
use super::confdctl::{CONFDCTL, WAIT_MAX, command, ran, run};

/// Runs a shell that finds this `confdctl` in its `PATH`; `None` if the shell is not installed.
fn shell(program: &str, args: &[&str]) -> Option<Output> {
    let directory = Path::new(CONFDCTL).parent().expect("it is in a directory");
    let path = std::env::var("PATH").expect("there is a PATH");
    let output = Command::new(program)
        .args(args)
        .env("PATH", format!("{}:{path}", directory.display()))
        .env("GANETI_ROOTDIR", "/nonexistent")
        .env_remove("CONFD_SERVERS")
        .env_remove("CONFD_KEY")
        .env_remove("CONFD_KEY_FILE")
        .output();
    match output {
        Ok(output) => Some(output),
        Err(_) => {
            skip(&format!("{program} (the Debian package of its name)"));
            None
        }
    }
}

/// A directory with the completion script of each shell, with its name.
fn scripts(options: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bash", "zsh", "fish"] {
        let script = run(&[&["completions", name], options].concat());
        assert_eq!((script.status, script.err.as_str()), (0, ""), "{name}");
        fs::write(dir.path().join(name), script.out).unwrap();
    }
    dir
}

#[test]
fn completion_scripts_parse() {
    for options in [&[][..], &["--no-names"]] {
        let dir = scripts(options);
        for name in ["bash", "zsh", "fish"] {
            let path = dir.path().join(name);
            let Some(parsed) = shell(name, &["-n", path.to_str().unwrap()]) else {
                continue;
            };
            assert!(parsed.status.success(), "{name}: {:?}", ran(&parsed));
            let script = fs::read_to_string(&path).unwrap();
            assert_eq!(
                script.contains("instances-on"),
                !options.is_empty(),
                "{name}: only the script without names has the commands"
            );
        }
    }
}

/// Completes a line in a shell; returns what is offered.
fn complete(name: &str, scripts: &Path, line: &str) -> Option<Vec<String>> {
    let script = scripts.join(name);
    let words = line.split(' ').count();
    let code = match name {
        "bash" => format!(
            "source {script:?}; COMP_WORDS=({line}); COMP_WORDS[{last}]=\"${{COMP_WORDS[{last}]-}}\"
             COMP_CWORD={last} COMP_TYPE=9
             _clap_complete_confdctl confdctl \"${{COMP_WORDS[{last}]}}\"
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            last = words - 1
        ),
        // As a function that zsh loads from its `fpath`, which is how packages install it.
        // `_describe` would show the words in a terminal.
        "zsh" => format!(
            "cp {script:?} {dir:?}/_confdctl; fpath=({dir:?} $fpath)
             autoload -U compinit; compinit -D -u
             _describe() {{ local array=$3; [[ $1 == -V ]] || array=$2; print -l ${{(P)array}} }}
             words=({line}); (( $#words < {words} )) && words+=('')
             CURRENT={words}; _confdctl",
            dir = scripts.display()
        ),
        _ => format!("source {script:?}; complete -C {line:?}"),
    };
    let args = match name {
        "zsh" => vec!["-f", "-c", &code],
        _ => vec!["-c", &code],
    };
    let output = ran(&shell(name, &args)?);
    // The description of a word follows a tab (fish) or a colon (zsh).
    let word = |line: &str| {
        line.split(['\t', ':'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(output.err, "", "{name}: {output:?}");
    Some(output.out.lines().map(word).collect())
}

#[test]
fn shells_complete_names_from_the_cluster() {
    let dir = scripts(&[]);
    for name in ["bash", "zsh", "fish"] {
        for (line, expected) in [
            (
                "confdctl --demo query instan",
                &["instances", "instances-on"][..],
            ),
            (
                "confdctl --demo query role n",
                &[
                    "node1.example.com",
                    "node2.example.com",
                    "node3.example.com",
                ],
            ),
            ("confdctl --demo query drbd node3", &["node3.example.com"]),
            (
                "confdctl query --demo disks instance1",
                &["instance1.example.com", "instance10.example.com"],
            ),
            (
                "confdctl --demo query node-of 10.64.0.0 10.64.0.9",
                &["10.64.0.9"],
            ),
            ("confdctl --demo query config /ver", &["/version"]),
            (
                "confdctl --demo query config /cluster/cluster_n",
                &["/cluster/cluster_name"],
            ),
            (
                "confdctl --demo query config /nodes/node1.example.com/primary",
                &["/nodes/node1.example.com/primary_ip"],
            ),
        ] {
            let Some(offered) = complete(name, dir.path(), line) else {
                break;
            };
            assert_eq!(offered, expected, "{name}: {line}");
        }
    }
}

#[test]
fn completion_does_not_wait_for_a_silent_cluster() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let start = Instant::now();
    let mut completing = command(&["--", "confdctl", "-s", &address, "query", "role", "n"]);
    let output = completing
        .envs([("CONFDCTL_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "5")])
        .env("CONFD_KEY", "secret")
        .output()
        .unwrap();
    let output = ran(&output);
    assert_eq!((output.status, output.out.as_str()), (0, ""), "{output:?}");
    assert_eq!(output.err, "");
    assert!(start.elapsed() < WAIT_MAX);
    let mut buffer = [0; 2048];
    silent.recv_from(&mut buffer).expect("it was asked");
}

/// The command lines in the examples of `--help`.
fn examples(help: &str) -> Vec<&str> {
    let rest = help.split("\nExamples:\n").nth(1).unwrap_or_default();
    let block = rest.split("\n\n").next().unwrap_or_default();
    let lines = block.lines().map(str::trim);
    lines.filter(|line| line.starts_with("confdctl ")).collect()
}

#[test]
fn examples_of_the_help_work() {
    let mut run_count = 0;
    let query = ran(&command(&["query", "--help"]).output().unwrap());
    let commands = query
        .out
        .split("\nCommands:\n")
        .nth(1)
        .expect("query has commands");
    let commands = commands.split("\n\n").next().unwrap_or_default().lines();
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let mut pages: Vec<Vec<&str>> = names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(|name| vec!["query", name])
        .collect();
    assert!(pages.len() >= 13, "{pages:?}");
    pages.extend([vec!["query"], vec!["probe"], vec!["raw"]]);
    for page in pages {
        let help = run(&[&page[..], &["--help"]].concat());
        let examples = examples(&help.out);
        assert!(!examples.is_empty(), "{page:?} has no examples");
        for example in examples {
            if example.contains("--watch") {
                continue;
            }
            let line = example.replacen("confdctl", "confdctl --demo", 1);
            let Some(output) = shell("sh", &["-c", &line]) else {
                return;
            };
            let output = ran(&output);
            assert_eq!(output.status, 0, "{line}: {output:?}");
            assert_ne!(output.out, "", "{line}");
            run_count += 1;
        }
    }
    assert!(run_count > 30, "{run_count}");
}

#[test]
fn man_pages_are_complete_and_valid() {
    let dir = tempfile::tempdir().unwrap();
    let made = run(&["man", dir.path().to_str().unwrap()]);
    assert_eq!(made.status, 0, "{made:?}");
    let paths: Vec<&Path> = made.out.lines().map(Path::new).collect();
    assert!(paths.len() >= 21, "{made:?}");
    for name in [
        "man1/confdctl.1",
        "man1/confdctl-query-node-of.1",
        "man1/confdctl-probe.1",
        "man1/confdctl-raw.1",
        "man8/ganeti-confd.8",
    ] {
        assert!(paths.contains(&&*dir.path().join(name)), "{name}");
    }
    for path in paths {
        let page = fs::read_to_string(path).unwrap();
        if path.ends_with("confdctl-query-node-of.1") {
            let values = "\\fB\\-\\-link\\fR \\fILINK\\fR";
            assert!(
                page.contains(values) && page.contains("\\fIIP\\fR..."),
                "{page}"
            );
        }
        if path.ends_with("confdctl-raw.1") {
            assert!(page.contains("\\fIREQUEST\\fR [\\fIQUERY\\fR]"), "{page}");
        }
        assert!(
            page.contains(".TH ") && page.contains(".SH NAME"),
            "{path:?}"
        );
        match Command::new("man")
            .args(["--warnings", "-l"])
            .arg(path)
            .output()
        {
            Ok(shown) => {
                let shown = ran(&shown);
                assert_eq!((shown.status, shown.err.as_str()), (0, ""), "{path:?}");
                for section in ["SYNOPSIS", "EXAMPLES", "SEE ALSO"] {
                    assert!(shown.out.contains(section), "{path:?}: {section}");
                }
            }
            Err(_) => return skip("man (Debian package man-db)"),
        }
    }
    let nowhere = run(&["man", "/dev/null"]);
    assert_eq!(nowhere.status, 4);
    assert!(
        nowhere
            .err
            .contains("cannot write man pages below /dev/null")
    );
}

//! The units of `packaging/systemd` under a real systemd, booted in a container without a network:
//! start, reload, restarts under load, options that contradict the socket unit, containment.
//!
//! Needs root, and Debian's `mmdebstrap` and `systemd-container`. The first run downloads a minimal
//! Debian system, which is kept below `target`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ganeti_confd::demo;
use nix::unistd::geteuid;
use serde_json::Value;

use super::common::skip;

const SCRIPT: &str = include_str!("systemd/container.sh");

/// Starts the script at the end of the boot. Its output is in the shared directory.
const UNIT: &str = "\
[Service]
Type=oneshot
ExecStart=/bin/bash /share/container.sh
StandardOutput=file:/share/facts
StandardError=file:/share/trace
";

/// Runs a program that is stopped after `seconds`; panics with its output if it fails.
pub(crate) fn run(seconds: u32, command: &[&str]) {
    let output = Command::new("timeout")
        .args(["--kill-after=10", &seconds.to_string()])
        .args(command)
        .stdin(Stdio::null())
        .output()
        .expect("timeout runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// A directory with a minimal Debian system that also has `packages`; made once.
pub(crate) fn root(name: &str, packages: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !root.exists() {
        let release = fs::read_to_string("/etc/os-release").expect("this is Debian");
        let suite = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .expect("a Debian release has a name");
        // Renamed when complete, so that a run that is interrupted leaves nothing that looks done.
        let new = root.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        let new_path = new.to_str().expect("the target directory is UTF-8");
        let base = "systemd,systemd-sysv,dbus,iproute2,procps,libgcc-s1";
        let include = format!("--include={base}{packages}");
        let variant = "--variant=minbase";
        run(600, &["mmdebstrap", variant, &include, suite, new_path]);
        fs::rename(&new, &root).expect("the new system can be renamed");
    }
    root
}

/// The directory that the container sees as `/share`: programs, units, files, script, results.
pub(crate) fn share(script: &str) -> tempfile::TempDir {
    let share = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| {
        fs::write(share.path().join(name), text).expect("a fresh directory is writable");
    };
    write("container.sh", script);
    write("test.service", UNIT);
    write("hmac.key", "0123456789abcdef0123456789abcdef01234567\n");
    write("config.data", &demo::configuration(3, 10, 1));
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    for unit in ["ganeti-confd.service", "ganeti-confd.socket"] {
        fs::copy(units.join(unit), share.path().join(unit)).expect("the unit exists");
    }
    share
}

/// A file that a container sees at another path.
fn bind(from: &str, to: &str) -> String {
    format!("--bind-ro={from}:{to}")
}

/// Boots the container, runs the script in it, and returns the facts that it printed.
pub(crate) fn boot(root: &Path, share: &Path, binds: &[String]) -> BTreeMap<String, Vec<String>> {
    let share_path = share.to_str().expect("temporary directories are UTF-8");
    let share_bind = format!("--bind={share_path}:/share");
    let unit = format!("{share_path}/test.service");
    let unit_bind = bind(&unit, "/etc/systemd/system/confd-test.service");
    let binds = binds.iter().map(String::as_str);
    let options = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--private-network",
        // Missing in the list of systemd-nspawn 252.
        "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        // Changes to the system are kept in memory.
        "--volatile=overlay",
        "--directory",
        root.to_str().expect("the target directory is UTF-8"),
        &share_bind,
        &unit_bind,
    ];
    let kernel_line = ["--", "systemd.wants=confd-test.service"];
    let command: Vec<&str> = options
        .into_iter()
        .chain(binds)
        .chain(kernel_line)
        .collect();
    run(240, &command);
    let facts = fs::read_to_string(share.join("facts")).unwrap_or_default();
    let trace = fs::read_to_string(share.join("trace")).unwrap_or_default();
    assert!(facts.ends_with("done\n"), "{facts}\n{trace}");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in facts.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        found.entry(name.into()).or_default().push(value.into());
    }
    found
}

/// Whether containers can be booted here.
pub(crate) fn is_available() -> bool {
    if !geteuid().is_root() {
        skip("booting a container takes root");
        return false;
    }
    for (program, package) in [
        ("mmdebstrap", "mmdebstrap"),
        ("systemd-nspawn", "systemd-container"),
    ] {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if found.is_err() {
            skip(&format!("{program} (Debian package {package})"));
            return false;
        }
    }
    true
}

#[test]
fn the_units_start_contain_and_restart_the_daemon() {
    if !is_available() {
        return;
    }
    let share = share(SCRIPT);
    let binds = [
        bind(env!("CARGO_BIN_EXE_ganeti-confd"), "/usr/sbin/ganeti-confd"),
        bind(env!("CARGO_BIN_EXE_confdctl"), "/usr/bin/confdctl"),
    ];
    let facts = boot(&root("systemd-root", ""), share.path(), &binds);
    let all = |name: &str| {
        facts
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {facts:#?}"))
    };
    let fact = |name: &str| all(name)[0].as_str();

    assert_eq!(fact("master"), "node1.example.com");
    assert_eq!(fact("engine"), "uring", "the unit's filter admits io_uring");
    assert_eq!(fact("user"), "gnt-confd");
    assert_eq!(fact("capabilities"), "0000000000000000 0000000000000000");
    assert_eq!(fact("no-new-privileges"), "1");
    assert_eq!(fact("seccomp"), "2");
    let exposure: f64 = fact("exposure").parse().expect("the exposure is a number");
    assert!(exposure <= 1.5, "systemd-analyze security: {exposure}");
    assert_eq!(fact("pid-file-after-stop"), "");
    assert_eq!(
        fact("status"),
        "\"capabilities\":\"none\",\"landlock\":\"all rules\",\"no_dumps\":\"yes\",\
         \"no_new_privileges\":\"yes\",\"seccomp\":\"other calls fail\""
    );
    assert_eq!(fact("socket-of-status"), "gnt-confd gnt-confd 660");
    let line = fact("status-line");
    assert!(line.starts_with("Serving serial "), "{line}");
    assert!(
        line.contains("; 4 workers at ") || line.contains(", engine uring"),
        "{line}"
    );
    assert_eq!(
        fact("notices"),
        "ganeti-confd daemon shutdown;ganeti-confd daemon startup;"
    );
    assert_eq!(fact("timestamps"), "0");

    assert_eq!(fact("before-and-after-a-query"), "inactive active");
    assert_eq!(
        all("serving"),
        &["4 workers, engine uring", "4 workers, engine mmsg"]
    );
    for name in ["alone", "uring", "mmsg"] {
        let report = fs::read_to_string(share.path().join(format!("{name}.json")));
        let report: Value = serde_json::from_str(&report.expect("a report")).expect("it is JSON");
        let count = |field: &str| report["load"]["counts"][field].as_u64().expect("a number");
        let (sent, lost) = (count("sent"), count("lost"));
        let restarts = fact(&format!("restarts-{name}"));
        println!("{name}: {lost} of {sent} lost in {restarts} restarts at 2,000 a second");
        assert_eq!(sent, 12_000);
        if name != "alone" {
            assert_eq!(lost, 0, "{name}");
        }
    }

    let refused = fact("refused");
    assert!(
        refused.contains("--workers is 2; omit it, or have one ListenDatagram= line"),
        "{refused}"
    );
    assert_eq!(fact("watchdog"), "0", "the watchdog is fed");
    let errors: u32 = fact("error-in-journal").parse().expect("it is a number");
    assert!(errors > 0, "journalctl --priority err shows nothing");
    assert_eq!(fact("socket"), "active");
    assert_eq!(fact("recovered"), "node1.example.com");
    assert_eq!(fact("replaced-by-watchdog"), "node1.example.com new");
    let timeouts: u32 = fact("watchdog-timeouts").parse().expect("it is a number");
    assert!(timeouts > 0, "the watchdog acts on a stuck daemon");
    assert_eq!(fact("listeners"), "0");
}

//! The Debian package in containers that boot systemd: on a node with Ganeti's own packages, whose
//! daemon it replaces and gives back, and on a host without them.
//!
//! Needs what `systemd.rs` needs, cargo-deb and lintian. The first run also downloads a Debian
//! system with Ganeti, which is kept below `target`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::common::skip;
use super::systemd::{boot, is_available, root, run, share};

const SCRIPT: &str = include_str!("packages/container.sh");

/// The facts of a container, by name.
struct Facts(BTreeMap<String, Vec<String>>);

impl Facts {
    fn get(&self, name: &str) -> &str {
        let values = self.0.get(name);
        let values = values.unwrap_or_else(|| panic!("no {name} in {:#?}", self.0));
        values[0].trim_end()
    }
}

fn is_installed(command: &[&str], package: &str) -> bool {
    let output = Command::new(command[0])
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = output.is_ok_and(|status| status.success());
    if !found {
        skip(&format!("{} ({package})", command.join(" ")));
    }
    found
}

/// Builds the package with this revision of its version, from the programs of the tests.
fn package(revision: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let build = source.join("packaging/build");
    let build = build.to_str().expect("the source's path is UTF-8");
    let options = ["--no-build", "--profile", "dev", "--revision", revision];
    run(600, &[&[build][..], &options, &["deb"]].concat());
    let packages = fs::read_dir(source.join("target/package")).expect("it was made");
    let name_end = format!("-{revision}_amd64.deb");
    packages
        .map(|entry| entry.expect("a readable directory").path())
        .find(|path| path.to_string_lossy().ends_with(&name_end))
        .expect("the package is there")
}

/// The commands of `docs/operations.md` for the package, each as a script with this name.
fn documented_commands() -> [(&'static str, String); 3] {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(source.join("docs/operations.md")).expect("it exists");
    let section = page.split("### With the Debian package").nth(1);
    let section = section.and_then(|rest| rest.split("\n### ").next());
    let blocks = section.expect("the section").split("```sh\n").skip(1);
    let mut blocks = blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned());
    // The first one builds the package.
    blocks.next();
    ["install.sh", "upgrade.sh", "remove.sh"]
        .map(|name| (name, blocks.next().expect("a block for each step")))
}

#[test]
fn the_debian_package_replaces_ganetis_daemon_and_gives_it_back() {
    if !is_available()
        || !is_installed(&["cargo", "deb", "--version"], "cargo install cargo-deb")
        || !is_installed(&["lintian", "--version"], "Debian package lintian")
    {
        return;
    }
    let packages = [package("1"), package("2")];
    let first = packages[0].to_str().expect("UTF-8");
    run(
        300,
        &["lintian", "--allow-root", "--fail-on", "error", first],
    );
    let in_container = |root: &Path| {
        let share = share(SCRIPT);
        for package in &packages {
            let name = package.file_name().expect("it is a file");
            fs::copy(package, share.path().join(name)).expect("it can be copied");
        }
        for (name, commands) in documented_commands() {
            fs::write(share.path().join(name), commands).expect("it is writable");
        }
        let facts = Facts(boot(root, share.path(), &[]));
        (share, facts)
    };

    let (_share, plain) = in_container(&root("systemd-root", ""));
    assert_eq!(
        plain.get("plain-states"),
        "inactive inactive",
        "there is no key"
    );
    assert_eq!(plain.get("accounts"), "gnt-confd gnt-daemons");
    assert_eq!(plain.get("plain-master"), "node1.example.com");
    assert_eq!(plain.get("plain-owner"), "gnt-confd");
    assert_eq!(plain.get("plain-after"), "0 0");

    let (share, node) = in_container(&root("ganeti-root", ",ganeti,logrotate,man-db"));
    let stock = "/usr/lib/ganeti/3.0/usr/sbin/ganeti-confd node1.example.com";
    let own = "/usr/sbin/ganeti-confd node1.example.com";
    assert_eq!(node.get("stock"), stock);
    assert_eq!(node.get("installed"), own);
    assert_eq!(
        node.get("installed-states"),
        "active active  enabled enabled"
    );
    assert_eq!(
        node.get("diverted"),
        "2 ../lib/ganeti/default/usr/sbin/ganeti-confd"
    );
    assert_eq!(
        node.get("manual"),
        "/usr/share/man/man8/ganeti-confd.8.gz own"
    );
    assert_eq!(node.get("daemon-util"), "running");
    assert_eq!(node.get("logrotate"), "0", "duplicate entries");
    assert_eq!(
        node.get("listeners"),
        "4",
        "one for each line of the socket unit"
    );

    let statuses = &node.0["start-status"];
    assert_eq!(
        statuses[0], statuses[1],
        "of daemon-util start, while the daemon runs"
    );
    assert_eq!(node.get("init-script"), own);
    let upgraded = node.get("ganeti-upgraded");
    let untouched = "+1 /usr/sbin/ganeti-confd ../lib/ganeti/default/usr/sbin/ganeti-confd";
    assert!(upgraded.ends_with(untouched), "{upgraded}");

    assert!(node.get("upgraded").ends_with("-2"));
    assert_eq!(node.get("socket-kept"), "yes");
    let report = fs::read_to_string(share.path().join("upgrade.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("it is JSON");
    let count = |field: &str| report["load"]["counts"][field].as_u64().expect("a number");
    let (sent, lost) = (count("sent"), count("lost"));
    println!("upgrade: {lost} of {sent} lost at 2,000 a second");
    assert_eq!((sent, lost), (16_000, 0));

    assert_eq!(node.get("removed"), stock);
    assert_eq!(node.get("removed-diversions"), "0");
    assert_eq!(node.get("removed-conffile"), "/etc/default/ganeti-confd");
    assert_eq!(node.get("again"), &format!("{own} active active"));
    assert_eq!(node.get("disabled"), &format!("{own} inactive inactive"));
    assert_eq!(node.get("purged"), stock);
    assert_eq!(node.get("purged-files"), "0 0 /var/lib/ganeti/hmac.key");
}

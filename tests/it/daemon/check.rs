//! `--check`: the steps of a start, without serving.

use super::*;
use crate::common::skip;

/// Runs a check that must end soon.
fn check(root: &Root, args: &[&str]) -> Output {
    let mut command = root.command("timeout", &["20", BINARY, "--check"]);
    command.args(args).output().unwrap()
}

/// The names of all files below `path`.
fn names(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            found.extend(names(&entry.path()));
        }
    }
    found.sort();
    found
}

#[test]
fn it_reports_each_step_and_changes_nothing() {
    let root = Root::new();
    fs::set_permissions(root.key(), fs::Permissions::from_mode(0o400)).unwrap();
    let before = names(root.0.path());
    let output = check(&root, &["--no-user-checks", "--port=1814"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    let said = text(&output.stdout);
    for part in [
        "user: not checked",
        "address: 0.0.0.0:1814/udp",
        "conf-daemon.log: can be made",
        "ganeti-confd.pid: can be made",
        "3 nodes, 1 node groups, 10 instances",
        "hmac.key: usable",
        "limits: high enough",
        "sandbox: ",
        "engine: ",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(names(root.0.path()), before);
}

#[test]
fn it_runs_inside_the_sandbox_of_a_start() {
    let root = Root::new();
    for (mode, part) in [("off", "sandbox: off"), ("strict", "sandbox: ")] {
        let output = check(&root, &["--no-user-checks", &format!("--sandbox={mode}")]);
        assert_eq!(output.status.code(), Some(0), "{mode}: {output:?}");
        let said = text(&output.stdout);
        assert!(said.contains(part) && said.contains("engine: "), "{said}");
    }
}

#[test]
fn a_running_daemon_is_left_alone_and_reported() {
    let root = Root::new();
    let mut daemon = root.start(&[]);
    let output = check(&root, &["--no-user-checks"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let line = format!(
        "locked by process {}, a daemon is running",
        daemon.child.id()
    );
    assert!(text(&output.stdout).contains(&line), "{output:?}");
    // A closed descriptor of the pid file would have released a lock of this process only.
    let second = root.run(&FOREGROUND);
    assert!(
        text(&second.stderr).contains("already running"),
        "{second:?}"
    );
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn errors_and_their_places_are_reported() {
    let root = Root::new();
    let config = demo::configuration(3, 10, 1);
    for (text_of_config, part) in [
        (&config[..config.len() - 1], "config.data cannot be served"),
        ("", "config.data cannot be served"),
    ] {
        fs::write(root.config(), text_of_config).unwrap();
        let output = check(&root, &["--no-user-checks"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{output:?}");
    }
    fs::remove_file(root.config()).unwrap();
    fs::write(root.key(), "").unwrap();
    fs::remove_dir(root.path("var/run/ganeti")).unwrap();
    fs::remove_dir(root.path("var/log/ganeti")).unwrap();
    fs::write(root.family(), "7").unwrap();
    let output = check(&root, &["--no-user-checks"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    for part in [
        "config.data does not exist",
        "hmac.key is empty",
        "cannot open the pid file",
        "cannot open the log file",
        "address family",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    // With a file named, only the files are checked.
    fs::write(root.config(), config).unwrap();
    fs::write(root.key(), "0123456789abcdef0123456789").unwrap();
    let path = root.config();
    let output = check(&root, &["--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_is_no_file_is_refused_at_once_and_read_to_its_limit_only() {
    for special in ["pipe", "/dev/zero", "directory"] {
        for which in [0, 1] {
            let root = Root::new();
            let path = [root.config(), root.key()][which].clone();
            fs::remove_file(&path).unwrap();
            match special {
                "pipe" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                "directory" => fs::create_dir(&path).unwrap(),
                device => std::os::unix::fs::symlink(device, &path).unwrap(),
            }
            let output = check(&root, &["--no-user-checks"]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = text(&output.stderr);
            let expected = ["is not a regular file", "is a directory"];
            assert!(expected.iter().any(|part| said.contains(part)), "{said}");
            if which == 1 {
                // The start refuses such a key in the same way.
                let mut command = root.command("timeout", &["20", BINARY]);
                let start = command.args(FOREGROUND).output().unwrap();
                assert_eq!(start.status.code(), Some(1), "{start:?}");
                assert!(
                    expected
                        .iter()
                        .any(|part| text(&start.stderr).contains(part))
                );
            }
        }
    }
}

#[test]
fn a_weak_key_is_a_warning_at_check_at_start_and_after_a_change() {
    let strong = "0123456789abcdef0123456789abcdef01234567";
    for (key, mode, part) in [
        ("k", 0o400, "has only one byte value, so it can be guessed"),
        ("\n", 0o400, "has only white space, so anybody can sign"),
        (&format!("{strong}\r\n"), 0o400, "ends with CR LF"),
        (
            strong,
            0o444,
            "has the mode 0444, so every user of this host can use it",
        ),
    ] {
        let root = Root::new();
        let write = |key: &str, mode| {
            let new = root.path("new");
            fs::write(&new, key).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
            fs::rename(&new, root.key()).unwrap();
        };
        write(key, mode);
        let output = check(&root, &["--no-user-checks"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = text(&output.stdout);
        let warning = said.lines().find(|line| line.starts_with("warning: "));
        assert!(warning.is_some_and(|line| line.contains(part)), "{said}");

        let mut daemon = Daemon::spawn(root.command(BINARY, &FOREGROUND));
        let line = daemon.wait_for(part);
        assert!(line.contains(" WARNING HMAC key "), "{line}");
        daemon.wait_until_serving();
        write("0123456789abcdef0123456789abcdef0123456x", 0o400);
        daemon.wait_for("the new key is in use");
        write(key, mode);
        daemon.wait_for(part);
        daemon.wait_for("the new key is in use");
        assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    }
}

#[test]
fn an_engine_that_is_refused_fails_the_check_as_it_fails_the_start() {
    if !available("strace", "/usr/bin/strace") {
        return;
    }
    let root = Root::new();
    let refused = |args: &[&str]| {
        let inject = "inject=io_uring_setup:error=EPERM";
        let strace = [
            "60",
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            inject,
            BINARY,
        ];
        root.command("timeout", &strace)
            .args(args)
            .output()
            .unwrap()
    };
    let uring = ["--check", "--no-user-checks", "--engine=uring"];
    let output = refused(&uring);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("kernel.io_uring_disabled"),
        "{output:?}"
    );
    // By default, the other engine is used, with a warning.
    let output = refused(&uring[..2]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("engine: mmsg"), "{said}");
    assert!(
        said.contains("warning: io_uring is not available"),
        "{said}"
    );
    let start = refused(&[&FOREGROUND[..], &["--engine=uring"]].concat());
    assert!(
        text(&start.stderr).contains("kernel.io_uring_disabled"),
        "{start:?}"
    );
}

#[test]
fn root_checks_with_the_rights_of_the_daemon_s_user() {
    let usable = Command::new("unshare").args(["--mount", "true"]).status();
    if !usable.is_ok_and(|status| status.success()) {
        skip("mount namespaces (need root)");
        return;
    }
    let root = Root::new();
    let users = ["root", "gnt-masterd", "gnt-confd", "gnt-rapi", "gnt-metad"];
    let groups = ["gnt-luxid", "gnt-daemons", "gnt-admin"];
    let (mut passwd, mut group) = (String::new(), String::new());
    for (index, name) in users.iter().chain(&groups).enumerate() {
        let id = if *name == "root" { 0 } else { 65_510 + index };
        passwd += &format!("{name}:x:{id}:{id}::/:/bin/sh\n");
        group += &format!("{name}:x:{id}:\n");
    }
    fs::write(root.path("passwd"), passwd).unwrap();
    fs::write(root.path("group"), group).unwrap();
    fs::set_permissions(root.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let confd = 65_512;
    let own = |path: PathBuf| std::os::unix::fs::chown(path, Some(confd), Some(confd)).unwrap();
    own(root.path("var/log/ganeti"));
    own(root.path("var/run/ganeti"));
    fs::set_permissions(root.key(), fs::Permissions::from_mode(0o400)).unwrap();
    let run = |args: &[&str]| {
        let setup = "mount --bind \"$0\"/passwd /etc/passwd && \
                     mount --bind \"$0\"/group /etc/group && exec \"$@\"";
        let mut command = root.command("unshare", &["--mount", "--propagation=private"]);
        command.args(["sh", "-c", setup]).arg(root.0.path());
        command
            .args(["timeout", "20", BINARY])
            .args(args)
            .output()
            .unwrap()
    };
    // The key belongs to root.
    let output = run(&["--check"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stderr);
    assert!(
        said.contains("hmac.key cannot be read (Permission denied)"),
        "{said}"
    );
    assert!(
        text(&output.stdout).contains("user: gnt-confd"),
        "{output:?}"
    );
    own(root.key());
    let output = run(&["--check"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // A start as root is refused.
    let output = run(&["-f", "-b", "127.0.0.1", "-p", "0"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("started using wrong user ID (0)"),
        "{output:?}"
    );
}

//! The log file under adverse conditions: full disks, limits, and what is not a file.

use super::*;
use crate::common::skip;

/// Whether this machine has mount namespaces; if not, the test is reported as skipped.
fn mount_namespaces() -> bool {
    let usable = Command::new("unshare").args(["--mount", "true"]).status();
    let usable = usable.is_ok_and(|status| status.success());
    if !usable {
        skip("mount namespaces (need root)");
    }
    usable
}

/// Asserts that `log` has only whole lines: those that the daemon wrote to standard error as well,
/// and the number of missing ones.
fn assert_whole_lines(log: &str, daemon: &mut Daemon) {
    assert!(log.is_empty() || log.ends_with('\n'), "{log:?}");
    for line in log
        .lines()
        .filter(|line| !line.contains("lines are missing here"))
    {
        if !daemon.seen.iter().any(|seen| seen == line) {
            daemon.wait_for(line);
        }
    }
}

/// Requests the counters and waits for their line on standard error.
fn log_counters(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_for("Counters of worker 0: ");
}

/// Starts a daemon whose log is on a file system of 64 KiB.
fn with_small_disk(root: &Root) -> Daemon {
    let setup = "mount -t tmpfs -o size=64k none \"$0\" && exec \"$@\"";
    let mut command = root.command("unshare", &["--mount", "--propagation=private"]);
    command
        .args(["sh", "-c", setup])
        .arg(root.path("var/log/ganeti"));
    command.arg(BINARY).args(FOREGROUND).arg("--workers=1");
    let mut daemon = Daemon::spawn(command);
    daemon.wait_until_serving();
    daemon
}

#[test]
fn a_full_disk_loses_whole_lines_and_their_number_is_logged() {
    if !mount_namespaces() {
        return;
    }
    let root = Root::new();
    let mut daemon = with_small_disk(&root);
    // The file that is opened after the start has to be one that can be cut, too.
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("Log file reopened");
    // The directory as the daemon sees it.
    let directory = root.path("var/log/ganeti");
    let view = format!("/proc/{}/root{}", daemon.child.id(), directory.display());
    let inside = |name: &str| Path::new(&view).join(name);
    let (log, filler) = (inside("conf-daemon.log"), inside("filler"));
    let _ = fs::write(&filler, vec![b'x'; 128 << 10]);
    let lines = |log: &Path| fs::read_to_string(log).unwrap().lines().count();

    // The rest of the last block is filled, then nothing fits any more.
    let mut before = lines(&log);
    let mut logged = 0;
    loop {
        log_counters(&mut daemon);
        logged += 1;
        let now = lines(&log);
        assert_whole_lines(&fs::read_to_string(&log).unwrap(), &mut daemon);
        if now == before && logged > 3 {
            break;
        }
        assert!(logged < 100, "the disk is never full");
        before = now;
    }
    fs::remove_file(&filler).unwrap();
    // Within ten seconds, even if nothing else is logged.
    wait_until(|| lines(&log) > before);
    log_counters(&mut daemon);
    let text = fs::read_to_string(&log).unwrap();
    assert_whole_lines(&text, &mut daemon);
    let notice = text
        .lines()
        .find(|line| line.contains("lines are missing here"));
    let notice = notice.expect("the number of missing lines");
    assert!(notice.contains("WARNING"), "{notice}");
    assert!(
        notice.contains("No space left on device; free space"),
        "{notice}"
    );
    let (_, count) = notice.split_once("WARNING ").unwrap();
    let count: usize = count.split(' ').next().unwrap().parse().unwrap();
    let seen = daemon
        .seen
        .iter()
        .filter(|line| line.contains(" UTC: ganeti-confd pid="));
    assert_eq!(text.lines().count() - 1 + count, seen.count(), "{text}");
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn a_limit_of_the_file_s_size_does_not_end_the_daemon() {
    let root = Root::new();
    let mut command = root.command("prlimit", &["--fsize=4096", BINARY]);
    command.args(FOREGROUND).arg("--workers=1");
    let mut daemon = Daemon::spawn(command);
    daemon.wait_until_serving();
    for _ in 0..20 {
        log_counters(&mut daemon);
    }
    let log = root.log();
    assert_whole_lines(&log, &mut daemon);
    assert!(log.len() <= 4096);
    // After a rotation there is room again.
    fs::rename(root.log_file(), root.path("rotated")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("Log file reopened");
    assert_whole_lines(&root.log(), &mut daemon);
    assert!(
        root.log().contains("lines are missing here"),
        "{}",
        root.log()
    );
    assert!(root.log().contains("ulimit -f"), "{}", root.log());
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn what_is_no_file_is_refused_as_a_log_and_as_a_pid_file() {
    for (which, part) in [
        (0, "cannot open the log file"),
        (1, "cannot use the pid file"),
    ] {
        for foreground in [true, false] {
            let root = Root::new();
            let path = [root.log_file(), root.pid_file()][which].clone();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let mut command = root.command("timeout", &["10", BINARY]);
            let output = command
                .args(&FOREGROUND[usize::from(!foreground)..])
                .output()
                .unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.contains(part) && said.contains("not a regular file"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_pid_file_may_be_a_symbolic_link_as_in_the_reference() {
    let mut results = Vec::new();
    for binary in [BINARY, REFERENCE] {
        if binary == REFERENCE && !available("the reference daemon", REFERENCE) {
            continue;
        }
        let root = Root::new();
        let target = root.path("target.pid");
        std::os::unix::fs::symlink(&target, root.pid_file()).unwrap();
        let mut command = root.command(binary, &["-f", "--no-user-checks", "-b", "127.0.0.1"]);
        command.args(["-p", if binary == BINARY { "0" } else { "18196" }]);
        let mut daemon = Daemon::spawn(command);
        daemon.wait_for("Loaded new config, serial ");
        let own = format!("{}\n", daemon.child.id());
        let while_it_runs = (
            fs::read_to_string(&target).unwrap() == own,
            fs::read_link(root.pid_file()).is_ok(),
        );
        daemon.wait_for(if binary == BINARY {
            "Serving 1"
        } else {
            "Starting up in"
        });
        daemon.stop(Signal::SIGTERM);
        let after = (
            fs::read_to_string(&target).is_ok_and(|pid| pid == own),
            fs::symlink_metadata(root.pid_file()).is_ok(),
        );
        results.push((while_it_runs, after));
    }
    for result in results {
        assert_eq!(result, ((true, true), (true, false)));
    }
}

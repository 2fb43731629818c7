//! Limits and refusals of the host: one line that names the limit, never a panic or a hang.

use super::*;
use crate::common::skip;

/// The limits of descriptors that are tried, all of them too low.
const DESCRIPTORS: std::ops::RangeInclusive<u32> = 4..=40;

/// What a start in the foreground prints that is neither the log's nor the demo's.
fn refusal(output: &Output) -> Vec<String> {
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    let lines = said.lines().filter(|l| l.starts_with("ganeti-confd: "));
    lines.map(str::to_owned).collect()
}

/// Runs the daemon with a limit of prlimit(1). It must refuse to start.
fn run_limited(root: &Root, limit: &str, args: &[&str]) -> Output {
    let mut command = root.command("timeout", &["20", "prlimit", limit, BINARY]);
    command.args(FOREGROUND).args(args);
    command.output().unwrap()
}

#[test]
fn too_few_descriptors_are_reported_as_such() {
    for count in DESCRIPTORS.step_by(3) {
        let root = Root::new();
        let output = run_limited(&root, &format!("--nofile={count}"), &["--workers=4"]);
        let lines = refusal(&output);
        assert_eq!(output.status.code(), Some(1), "{count}: {output:?}");
        assert_eq!(lines.len(), 1, "{count}: {lines:?}");
        assert!(lines[0].contains("ulimit -n"), "{count}: {lines:?}");
        assert!(!root.pid_file().exists());
    }
}

#[test]
fn the_descriptors_that_it_asks_for_are_enough() {
    let root = Root::new();
    let output = run_limited(&root, "--nofile=30", &["--workers=3"]);
    let lines = refusal(&output);
    let (_, after) = lines[0].split_once("cannot open ").expect(&lines[0]);
    let needed: u32 = after.split(' ').next().unwrap().parse().unwrap();
    // Those that it has before: standard streams, the log, and what this test passed on.
    let limit = needed + 8;
    let mut command = root.command("prlimit", &[&format!("--nofile={limit}"), BINARY]);
    command
        .args(FOREGROUND)
        .args(["--workers=3", "--metrics=127.0.0.1:0"]);
    let mut daemon = Daemon::spawn(command);
    daemon.wait_until_serving();
    fs::write(root.config(), demo::configuration(3, 11, 2)).unwrap();
    daemon.wait_for("11 instances");
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    let trouble: Vec<_> = daemon
        .seen
        .iter()
        .filter(|l| l.contains("Too many"))
        .collect();
    assert!(trouble.is_empty(), "{trouble:?}");
}

#[test]
fn too_few_processes_are_reported_as_such() {
    if !nix::unistd::geteuid().is_root() {
        skip("a limit of processes that no other test reaches (needs root)");
        return;
    }
    for foreground in [true, false] {
        let root = Root::new();
        let status = Command::new("chown")
            .args(["-R", "65531"])
            .arg(root.0.path())
            .status();
        assert!(status.unwrap().success());
        // The copy is where this user can run it.
        let copy = root.path("ganeti-confd");
        fs::copy(BINARY, &copy).unwrap();
        let user = ["--reuid=65531", "--regid=65531", "--clear-groups"];
        let mut command = root.command("timeout", &["20", "setpriv"]);
        command.args(user).args(["prlimit", "--nproc=1"]).arg(&copy);
        let output = command
            .args(&FOREGROUND[usize::from(!foreground)..])
            .output()
            .unwrap();
        let lines = refusal(&output);
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("Resource temporarily unavailable; raise the limit of processes")
                && lines[0].contains("ulimit -u")
                && lines[0].contains("TasksMax="),
            "{lines:?}"
        );
    }
}

/// Without randomness, the standard library panics.
#[test]
fn a_panic_is_one_line_that_asks_for_a_report() {
    if !available("strace", "/usr/bin/strace") {
        return;
    }
    let root = Root::new();
    let output = run_injected(&root, "getrandom:error=EAGAIN", None);
    let lines = refusal(&output);
    assert_eq!(output.status.code(), Some(101), "{output:?}");
    assert_eq!(lines.len(), 1, "{output:?}");
    assert!(
        lines[0].contains("internal error in the thread main at ")
            && lines[0].ends_with("; please report it"),
        "{lines:?}"
    );
}

/// As if descriptors ran out between the check of the limit and their use. tokio-uring panics then.
#[test]
fn descriptors_that_run_out_during_the_start_are_reported_as_such() {
    if !available("strace", "/usr/bin/strace") {
        return;
    }
    let root = Root::new();
    // The second call of each thread: for the ring of the reader, and for the first ping.
    let output = run_injected(&root, "epoll_ctl:error=EMFILE:when=2", None);
    let lines = refusal(&output);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!(lines.len(), 1, "{output:?}");
    assert!(
        lines[0].contains("cannot send a ping to itself") && lines[0].contains("ulimit -n"),
        "{lines:?}"
    );
}

/// A control group with a limit of tasks, as `TasksMax=` makes one. Removed at the end.
struct TaskGroup(PathBuf);

impl TaskGroup {
    /// `None` if this machine does not let this process make one.
    fn new(tasks_max: u32) -> Option<Self> {
        let name = format!("ganeti-confd-test-{}-{tasks_max}", std::process::id());
        // The controller's own hierarchy, or the unified one.
        let made = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .iter()
            .find_map(|hierarchy| {
                let path = Path::new(hierarchy).join(&name);
                fs::create_dir(&path).ok()?;
                let group = Self(path);
                fs::write(group.0.join("pids.max"), tasks_max.to_string()).ok()?;
                Some(group)
            });
        if made.is_none() {
            skip("control groups with a limit of tasks (need root)");
        }
        made
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_service_s_limit_of_tasks_is_reported_as_such() {
    for tasks_max in [3, 5] {
        let Some(group) = TaskGroup::new(tasks_max) else {
            return;
        };
        let root = Root::new();
        let enter = "echo $$ >\"$0\" && exec \"$@\"";
        let mut command = root.command("sh", &["-c", enter]);
        command.arg(group.0.join("cgroup.procs"));
        command.args(["timeout", "20", BINARY]).args(FOREGROUND);
        let output = command.arg("--workers=2").output().unwrap();
        let lines = refusal(&output);
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        assert_eq!(lines.len(), 1, "{output:?}");
        assert!(lines[0].contains("TasksMax="), "{lines:?}");
    }
}

/// Runs the daemon while strace(1) lets a system call on `path` fail with `errno`.
fn run_injected(root: &Root, inject: &str, path: Option<&Path>) -> Output {
    let mut command = root.command("timeout", &["30", "strace", "-f", "-qq"]);
    command
        .arg("-o")
        .arg(root.path("trace"))
        .arg("-e")
        .arg(format!("inject={inject}"));
    if let Some(path) = path {
        command.arg("-P").arg(path);
    }
    command.arg(BINARY).args(FOREGROUND).output().unwrap()
}

/// A system call that fails: its name, the file that it is about, its errno; the exit status, and
/// two parts of the refusal.
type Failure = (
    &'static str,
    &'static str,
    &'static str,
    i32,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const FAILURES: &[Failure] = &[
    ("openat", "log", "EMFILE", 1, "cannot open the log file", "ulimit -n"),
    ("openat", "log", "ENFILE", 75, "cannot open the log file", "fs.file-max"),
    ("openat", "log", "ENOSPC", 75, "cannot open the log file", "df -h"),
    ("openat", "log", "EDQUOT", 75, "cannot open the log file", "quota"),
    ("openat", "log", "EROFS", 1, "cannot open the log file", "ReadWritePaths="),
    ("openat", "log", "EACCES", 1, "cannot open the log file", "directory writable"),
    ("openat", "pid", "EMFILE", 1, "cannot open the pid file", "ulimit -n"),
    ("statx", "pid", "ENOMEM", 75, "cannot open the pid file", "MemoryMax="),
    ("openat", "pid", "ENOSPC", 75, "cannot open the pid file", "df -h"),
    ("fcntl", "pid", "ENOLCK", 75, "cannot lock the pid file", "its directory"),
    ("write", "pid", "ENOSPC", 75, "cannot write the pid file", "df -h"),
    ("write", "pid", "EDQUOT", 75, "cannot write the pid file", "quota"),
    ("epoll_create1", "", "EMFILE", 1, "cannot start the control plane", "ulimit -n"),
    ("bind", "", "ENOBUFS", 75, "cannot bind UDP", "MemoryMax="),
    ("socket", "", "EMFILE", 1, "cannot bind UDP", "ulimit -n"),
    ("socket", "", "EAFNOSUPPORT", 1, "cannot bind UDP", "a family that this host has"),
];

#[test]
fn a_failed_call_is_reported_with_the_remedy_for_its_errno() {
    if !available("strace", "/usr/bin/strace") {
        return;
    }
    let root = Root::new();
    for (call, file, errno, status, what, remedy) in FAILURES {
        let path = match *file {
            "log" => Some(root.log_file()),
            "pid" => Some(root.pid_file()),
            _ => None,
        };
        let output = run_injected(&root, &format!("{call}:error={errno}"), path.as_deref());
        let lines = refusal(&output);
        assert_eq!(
            output.status.code(),
            Some(*status),
            "{call} {errno}: {output:?}"
        );
        assert_eq!(lines.len(), 1, "{call} {errno}: {lines:?}");
        for part in [what, remedy] {
            assert!(lines[0].contains(part), "{call} {errno}: {lines:?}");
        }
        let _ = fs::remove_file(root.pid_file());
    }
}

#[test]
fn limits_that_do_not_prevent_serving_are_warnings_with_their_names() {
    if !available("strace", "/usr/bin/strace") {
        return;
    }
    for (inject, what, name) in [
        (
            "inotify_init1:error=EMFILE",
            "Cannot watch",
            "fs.inotify.max_user_instances",
        ),
        (
            "inotify_add_watch:error=ENOSPC",
            "Cannot watch",
            "fs.inotify.max_user_watches",
        ),
        ("io_uring_setup:error=EMFILE", "using recvmmsg", "ulimit -n"),
        // The thread that starts the workers makes its second one for the first worker.
        (
            "eventfd2:error=EMFILE:when=2",
            "using recvmmsg",
            "ulimit -n",
        ),
    ] {
        let root = Root::new();
        let mut command = root.command("strace", &["-f", "-qq", "-o", "/dev/null", "-e"]);
        command
            .arg(format!("inject={inject}"))
            .arg(BINARY)
            .args(FOREGROUND);
        let mut daemon = Daemon::spawn(command);
        let warning = daemon.wait_for(what);
        assert!(
            warning.contains("WARNING") && warning.contains(name),
            "{warning}"
        );
        daemon.wait_until_serving();
        let pid = fs::read_to_string(root.pid_file()).unwrap();
        kill(
            Pid::from_raw(pid.trim_end().parse().unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        assert_eq!(daemon.wait().code(), Some(0));
    }
}

#[test]
fn a_read_only_file_system_is_reported_as_such() {
    let usable = Command::new("unshare").args(["--mount", "true"]).status();
    if !usable.is_ok_and(|status| status.success()) {
        skip("mount namespaces (need root)");
        return;
    }
    for (directory, what) in [
        ("var/log/ganeti", "log file"),
        ("var/run/ganeti", "pid file"),
    ] {
        let root = Root::new();
        let setup = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
        let mut command = root.command("unshare", &["--mount", "--propagation=private"]);
        command.args(["sh", "-c", setup]).arg(root.path(directory));
        let output = command.arg(BINARY).args(FOREGROUND).output().unwrap();
        let lines = refusal(&output);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            lines[0].contains(&format!("cannot open the {what} "))
                && lines[0].contains("Read-only file system; mount its file system writable"),
            "{lines:?}"
        );
    }
}

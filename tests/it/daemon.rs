//! The process: options, exit codes, pid file, detaching, log, signals. The tests run real daemons,
//! each with its own root directory.

mod check;
mod limits;
mod log;
mod port;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ganeti_confd::demo;
use ganeti_confd::protocol::Key;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_ganeti-confd");
const REFERENCE: &str = "/usr/lib/ganeti/3.0/usr/sbin/ganeti-confd";
/// Timeout for everything here; generous, because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A Ganeti installation's directories, with a key and a small cluster.
pub(super) struct Root(TempDir);

impl Root {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Self(dir);
        for part in ["lib", "run", "log"] {
            fs::create_dir_all(root.path(&format!("var/{part}/ganeti"))).unwrap();
        }
        fs::write(root.key(), "0123456789abcdef\n").unwrap();
        fs::write(root.config(), demo::configuration(3, 10, 1)).unwrap();
        root
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    pub(super) fn key(&self) -> PathBuf {
        self.path("var/lib/ganeti/hmac.key")
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path("var/lib/ganeti/config.data")
    }

    fn family(&self) -> PathBuf {
        self.path("var/lib/ganeti/ssconf_primary_ip_family")
    }

    fn pid_file(&self) -> PathBuf {
        self.path("var/run/ganeti/ganeti-confd.pid")
    }

    fn log_file(&self) -> PathBuf {
        self.path("var/log/ganeti/conf-daemon.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(super) fn command(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(args)
            .env("GANETI_ROOTDIR", self.0.path())
            // Otherwise the reference looks this host's name up.
            .env("GANETI_HOSTNAME", "localhost")
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(super) fn run(&self, args: &[&str]) -> Output {
        self.command(BINARY, args).output().unwrap()
    }

    /// Starts a daemon in the background.
    fn detach(&self, args: &[&str]) -> Detached {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let args = [&["--no-user-checks", "-b", "127.0.0.1", "-p", "0"], args].concat();
        let output = self.run(&args);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout) + &text(&output.stderr), "");
        let pid = fs::read_to_string(self.pid_file()).unwrap();
        Detached(Pid::from_raw(pid.trim_end().parse().unwrap()))
    }

    /// Starts a daemon in the foreground and waits until it serves.
    pub(super) fn start(&self, args: &[&str]) -> Daemon {
        let args = [
            &["-f", "--no-user-checks", "-b", "127.0.0.1", "-p", "0"],
            args,
        ]
        .concat();
        let mut daemon = Daemon::spawn(self.command(BINARY, &args));
        daemon.wait_until_serving();
        daemon
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A daemon in the foreground, and the lines of its standard error.
pub(super) struct Daemon {
    child: Child,
    lines: Receiver<String>,
    pub(super) seen: Vec<String>,
}

impl Daemon {
    pub(super) fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The next line that contains `part`.
    pub(super) fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {part:?} after {:#?}", self.seen);
            };
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    fn wait_until_serving(&mut self) -> SocketAddr {
        let line = self.wait_for("Serving 1");
        let address = line.split_once("Serving ").unwrap().1;
        address.split_once("/udp").unwrap().0.parse().unwrap()
    }

    /// Waits for its end and collects its lines.
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("it does not stop: {:#?}", self.seen)
                }
            }
        }
    }

    pub(super) fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a test that passed, it has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon in the background, reparented to this process.
struct Detached(Pid);

impl Detached {
    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    fn stop(self, signal: Signal) -> WaitStatus {
        kill(self.0, signal).unwrap();
        let (sender, status) = mpsc::channel();
        let pid = self.0;
        thread::spawn(move || sender.send(waitpid(pid, None)));
        let status = status.recv_timeout(TIMEOUT).expect("it exits");
        std::mem::forget(self);
        status.unwrap()
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Whether something that a test needs is installed; in CI it must be.
fn available(what: &str, path: &str) -> bool {
    let there = Path::new(path).exists();
    assert!(
        there || std::env::var("CI").as_deref() != Ok("true"),
        "{what} is missing: {path}"
    );
    if !there {
        eprintln!("skipped: {what} is missing ({path})");
    }
    there
}

const FOREGROUND: [&str; 5] = ["-f", "--no-user-checks", "--bind=127.0.0.1", "-p", "0"];

#[test]
fn exit_codes_equal_the_reference_s() {
    let root = Root::new();
    let reference = available("the reference daemon", REFERENCE);
    fs::write(root.family(), "4\n").unwrap();
    for (args, code, part) in [
        (&["--bogus"][..], 2, "--bogus"),
        (&["-p"], 2, "--port"),
        (&["--help=now"], 2, "--help"),
        (&["--hel"], 2, "--hel"),
        (&["-p", "abc"], 1, "--port: 'abc'"),
        (&["-p", "0x10 x"], 1, "--port"),
        (
            &["--syslog=maybe"],
            1,
            "--syslog: 'maybe' is not one of no, yes, only",
        ),
        (&["--no-user-checks", "now"], 1, "'now'"),
        (
            &["--no-user-checks", "-b", "localhost."],
            1,
            "--bind: 'localhost.'",
        ),
        (&["--no-user-checks", "-b", "[::1]"], 1, "--bind: '[::1]'"),
        (&["--no-user-checks"], 1, "address family \"4\""),
    ] {
        let ours = root.run(args);
        let said = text(&ours.stderr);
        assert_eq!(ours.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
        assert_eq!(text(&ours.stdout), "", "{args:?}");
        assert!(!root.pid_file().exists(), "{args:?} leaves a pid file");
        let problem = said.lines().filter(|l| l.starts_with("ganeti-confd:"));
        assert_eq!(problem.count(), usize::from(code == 1), "{args:?}: {said}");
        if reference {
            let theirs = root.command(REFERENCE, args).output().unwrap();
            assert_eq!(theirs.status.code(), Some(code), "the reference: {args:?}");
            let _ = fs::remove_file(root.pid_file());
        }
    }
}

#[test]
fn information_goes_to_standard_output() {
    let root = Root::new();
    for (args, part) in [
        (&["-h"][..], "--no-user-checks"),
        (&["-V"], "ganeti-confd (ganeti"),
        (&["--help-completion"], "-p,--port integer\n"),
        (&["--help", "--check"], "Signals:"),
    ] {
        let output = root.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(text(&output.stdout).contains(part), "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn completion_has_every_line_of_the_reference() {
    if !available("the reference daemon", REFERENCE) {
        return;
    }
    let root = Root::new();
    let lines = |binary| {
        let output = root
            .command(binary, &["--help-completion"])
            .output()
            .unwrap();
        // The order of choices does not matter.
        text(&output.stdout).replace("yes,no,only", "no,yes,only")
    };
    let ours = lines(BINARY);
    for line in lines(REFERENCE).lines() {
        assert!(ours.lines().any(|l| l == line), "{line:?} is not in {ours}");
    }
}

#[test]
fn it_does_not_start_without_ganeti_s_accounts() {
    if fs::read_to_string("/etc/passwd")
        .unwrap()
        .contains("gnt-confd:")
    {
        eprintln!("skipped: this host has Ganeti's accounts");
        return;
    }
    let root = Root::new();
    let output = root.run(&["-b", "127.0.0.1"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("can't find required user/groups") && said.contains("--no-user-checks"),
        "{said}"
    );
}

#[test]
fn in_the_foreground_it_logs_locks_and_stops_cleanly() {
    let root = Root::new();
    fs::write(root.pid_file(), "1234567\n99\n").unwrap();
    fs::set_permissions(root.pid_file(), fs::Permissions::from_mode(0o600)).unwrap();
    let mut daemon = root.start(&[]);
    let pid = daemon.child.id();
    assert_eq!(
        fs::read_to_string(root.pid_file()).unwrap(),
        format!("{pid}\n")
    );

    for detached in [&[][..], &["-f"]] {
        let args = [
            detached,
            &["--no-user-checks", "-b", "127.0.0.1", "-p", "0"],
        ]
        .concat();
        let second = root.run(&args);
        assert_eq!(second.status.code(), Some(75));
        let said = text(&second.stderr);
        assert!(
            said.contains(&format!("already running: process {pid} ")),
            "{said}"
        );
        assert!(
            root.pid_file().exists(),
            "the pid file of the first daemon remains"
        );
    }

    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    assert!(!root.pid_file().exists());
    for part in [
        "NOTICE ganeti-confd daemon startup",
        "NOTICE ganeti-confd daemon shutdown",
    ] {
        let own = format!("UTC: ganeti-confd pid={pid} {part}");
        assert!(
            daemon.seen.iter().any(|line| line.ends_with(&own)),
            "{:#?}",
            daemon.seen
        );
        assert!(
            root.log().lines().any(|line| line.ends_with(&own)),
            "{}",
            root.log()
        );
    }
}

#[test]
fn the_pid_file_is_accessible_to_its_owner_only() {
    let root = Root::new();
    let mut daemon = root.start(&[]);
    assert_eq!(fs::metadata(root.pid_file()).unwrap().mode() & 0o777, 0o600);
    daemon.stop(Signal::SIGTERM);
}

#[test]
fn it_does_not_start_beside_a_running_reference() {
    if !available("the reference daemon", REFERENCE) {
        return;
    }
    let root = Root::new();
    let mut reference = Daemon::spawn(root.command(
        REFERENCE,
        &["-f", "--no-user-checks", "-b", "127.0.0.1", "-p", "18198"],
    ));
    reference.wait_for("Starting up in");
    let output = root.run(&FOREGROUND);
    assert_eq!(output.status.code(), Some(75));
    let said = text(&output.stderr);
    assert!(
        said.contains(&format!(
            "already running: process {} ",
            reference.child.id()
        )),
        "{said}"
    );
    reference.stop(Signal::SIGTERM);

    let mut ours = root.start(&[]);
    let output = root.command(REFERENCE, &FOREGROUND).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "nor does the reference start beside ours"
    );
    assert_eq!(ours.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn after_an_interrupt_it_stops_cleanly_and_exits_by_the_signal() {
    let root = Root::new();
    let mut daemon = root.start(&[]);
    assert_eq!(
        daemon.stop(Signal::SIGINT).signal(),
        Some(Signal::SIGINT as i32)
    );
    assert!(!root.pid_file().exists());
    assert!(root.log().contains("daemon shutdown"));
    let daemon = root.detach(&[]);
    let pid = daemon.0;
    assert_eq!(
        daemon.stop(Signal::SIGINT),
        WaitStatus::Signaled(pid, Signal::SIGINT, false)
    );
}

#[test]
fn other_signals_do_not_stop_it() {
    let root = Root::new();
    let mut daemon = root.start(&[]);
    for signal in [Signal::SIGQUIT, Signal::SIGPIPE, Signal::SIGUSR1] {
        daemon.signal(signal);
    }
    daemon.wait_for("Counters of worker 0: ");
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn sighup_reopens_the_log_file() {
    let root = Root::new();
    let rotated = root.path("var/log/ganeti/conf-daemon.log.1");
    let mut daemon = root.start(&[]);
    fs::rename(root.log_file(), &rotated).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("Log file reopened");
    assert!(root.log().contains("Log file reopened"));

    // The directory is gone: the daemon reports that and keeps its open file.
    let logs = root.path("var/log/ganeti");
    fs::rename(&logs, root.path("away")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("cannot open the log file");
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    fs::rename(root.path("away"), &logs).unwrap();
    assert!(root.log().contains("daemon shutdown"));
    assert!(
        !fs::read_to_string(rotated)
            .unwrap()
            .contains("daemon shutdown")
    );
}

#[test]
fn in_the_background_it_detaches_from_the_caller() {
    let root = Root::new();
    let daemon = root.detach(&[]);
    assert_eq!(getsid(Some(daemon.0)), Ok(daemon.0), "a session of its own");
    assert_eq!(fs::read_link(daemon.proc("cwd")).unwrap(), Path::new("/"));
    assert_eq!(
        fs::read_link(daemon.proc("fd/0")).unwrap(),
        Path::new("/dev/null")
    );
    for fd in ["fd/1", "fd/2"] {
        assert_eq!(fs::read_link(daemon.proc(fd)).unwrap(), root.log_file());
    }
    let status = fs::read_to_string(daemon.proc("status")).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
    assert_eq!(fs::metadata(root.log_file()).unwrap().mode() & 0o777, 0o600);

    // After a rotation, standard error is the new log file.
    fs::rename(root.log_file(), root.path("rotated")).unwrap();
    kill(daemon.0, Signal::SIGHUP).unwrap();
    wait_until(|| root.log().contains("Log file reopened"));
    assert_eq!(fs::read_link(daemon.proc("fd/2")).unwrap(), root.log_file());

    let pid = daemon.0;
    assert_eq!(daemon.stop(Signal::SIGTERM), WaitStatus::Exited(pid, 0));
    assert!(!root.pid_file().exists());
    assert!(root.log().contains("daemon shutdown"));
}

#[test]
fn in_the_background_it_has_no_descriptor_of_the_caller() {
    let root = Root::new();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let lock = root.path("lock");
    // The shell's descriptors 5 and 250 are a lock and a pipe; whoever reads the pipe sees its end.
    let script = "exec 5>\"$0\"; exec 250>&1; exec \"$@\" >/dev/null";
    let mut command = root.command("bash", &["-c", script]);
    command.arg(&lock).arg(BINARY).args(&FOREGROUND[1..]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let pid = fs::read_to_string(root.pid_file()).unwrap();
    let daemon = Detached(Pid::from_raw(pid.trim_end().parse().unwrap()));
    for entry in fs::read_dir(daemon.proc("fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert_ne!(target, lock);
    }
    assert!(!daemon.proc("fd/250").exists());
    daemon.stop(Signal::SIGTERM);
}

/// Waits for a condition that no event reports.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "the condition does not become true"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn start_stop_daemon_finds_it() {
    const TOOL: &str = "/usr/sbin/start-stop-daemon";
    if !available("start-stop-daemon", TOOL) {
        return;
    }
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let root = Root::new();
    let pid_file = root.pid_file();
    let pid_file = pid_file.to_str().unwrap();
    // The steps of daemon-util: start (twice, which is no error), check, rotate logs, stop.
    let tool = |args: &[&str]| {
        let mut command = root.command(TOOL, args);
        command
            .args(["--quiet", "--pidfile", pid_file])
            .output()
            .unwrap()
    };
    let succeeds = |args: &[&str]| assert_eq!(tool(args).status.code(), Some(0), "{args:?}");
    let start = ["--start", "--oknodo", "--startas", BINARY];
    let options = ["--no-user-checks", "-b", "127.0.0.1", "-p", "0"];
    let name = ["--name", "ganeti-confd"];
    let check = [&["--stop", "--signal", "0"][..], &name].concat();
    assert_ne!(tool(&check).status.code(), Some(0));
    let mut command = root.command(TOOL, &start);
    command
        .args(["--quiet", "--pidfile", pid_file, "--"])
        .args(options);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    succeeds(&check);
    succeeds(&["--stop", "--signal", "0", "--exec", BINARY]);
    succeeds(&[&["--stop", "--signal", "HUP", "--oknodo"][..], &name].concat());
    wait_until(|| root.log().contains("Log file reopened"));
    // The daemon is a child of this process, and counts as running until it is reaped.
    let pid = fs::read_to_string(root.pid_file()).unwrap();
    let daemon = Pid::from_raw(pid.trim_end().parse().unwrap());
    let reaper = thread::spawn(move || waitpid(daemon, None));
    succeeds(&[&["--stop", "--oknodo", "--retry", "30"][..], &name].concat());
    assert_eq!(reaper.join().unwrap(), Ok(WaitStatus::Exited(daemon, 0)));
    assert!(!root.pid_file().exists());
}

#[test]
fn a_start_that_fails_names_the_cause_and_leaves_no_files() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port().to_string();
    type Spoil = fn(&Root);
    // Whether another start may help, which the exit status says.
    let cases: [(Spoil, &[&str], i32, &str); 7] = [
        (
            |root| fs::remove_file(root.key()).unwrap(),
            &[],
            1,
            "var/lib/ganeti/hmac.key",
        ),
        (|root| fs::write(root.key(), "").unwrap(), &[], 1, "empty"),
        (
            |_| {},
            &["--key", "/nonexistent/key"],
            1,
            "/nonexistent/key",
        ),
        (
            |root| fs::remove_dir(root.path("var/run/ganeti")).unwrap(),
            &[],
            1,
            "ganeti-confd.pid",
        ),
        (
            |root| fs::remove_dir(root.path("var/log/ganeti")).unwrap(),
            &[],
            1,
            "conf-daemon.log",
        ),
        (|_| {}, &["-b", "192.0.2.1"], 75, "192.0.2.1:0"),
        (|_| {}, &["-p", &taken_port], 75, "in use"),
    ];
    for (spoil, args, status, part) in cases {
        for foreground in [&["-f"][..], &[]] {
            let root = Root::new();
            spoil(&root);
            let args = [&FOREGROUND[1..], foreground, args].concat();
            let output = root.run(&args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
            let problem: Vec<_> = said
                .lines()
                .filter(|l| l.starts_with("ganeti-confd: "))
                .collect();
            assert_eq!(problem.len(), 1, "{args:?}: {said}");
            assert!(problem[0].contains(part), "{args:?}: {said}");
            assert!(!root.pid_file().exists(), "{args:?}");
            if root.log_file().exists() {
                assert!(root.log().contains(part), "{args:?}: {}", root.log());
            }
        }
    }
}

#[test]
fn relative_paths_work_after_detaching() {
    let root = Root::new();
    fs::rename(root.key(), root.path("key")).unwrap();
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut command = root.command(BINARY, &FOREGROUND[1..]);
    let output = command
        .args(["--key", "key"])
        .current_dir(root.0.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let pid = fs::read_to_string(root.pid_file()).unwrap();
    Detached(Pid::from_raw(pid.trim_end().parse().unwrap())).stop(Signal::SIGTERM);
}

#[test]
fn the_cluster_s_address_family_decides_where_to_listen() {
    let root = Root::new();
    for (family, wildcard) in [
        (None, "0.0.0.0:"),
        (Some("2\n"), "0.0.0.0:"),
        (Some(" 10\n"), "[::]:"),
    ] {
        if let Some(family) = family {
            fs::write(root.family(), family).unwrap();
        }
        let mut daemon =
            Daemon::spawn(root.command(BINARY, &["-f", "--no-user-checks", "-p", "0"]));
        daemon.wait_for(&format!("Serving {wildcard}"));
        assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    }
}

#[test]
fn syslog_without_a_listener_is_an_error() {
    if Path::new("/dev/log").exists() {
        eprintln!("skipped: this host has a syslog daemon");
        return;
    }
    let root = Root::new();
    for usage in ["--syslog=yes", "--syslog=only"] {
        let output = root.run(&[&FOREGROUND[..], &[usage]].concat());
        assert_eq!(output.status.code(), Some(75));
        assert!(
            text(&output.stderr).contains("/dev/log"),
            "{}",
            text(&output.stderr)
        );
    }
    let output = root.run(&[&FOREGROUND[..], &["--syslog=no", "--key=/nonexistent"]].concat());
    assert!(!text(&output.stderr).contains("/dev/log"));
}

#[test]
fn a_service_manager_is_notified() {
    let root = Root::new();
    let path = root.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let receive = || {
        let mut buffer = [0; 256];
        let len = socket.recv(&mut buffer).unwrap();
        text(&buffer[..len])
    };
    let mut command = root.command(BINARY, &FOREGROUND);
    let mut daemon = Daemon::spawn({
        command.env("NOTIFY_SOCKET", &path);
        command
    });
    let ready = receive();
    assert!(
        ready.starts_with("READY=1\nSTATUS=Serving serial "),
        "{ready}"
    );
    assert!(ready.contains(" workers at 127.0.0.1:"), "{ready}");
    daemon.signal(Signal::SIGHUP);
    let reloading = receive();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(receive().trim_end(), "READY=1");
    std::fs::remove_file(root.path("var/lib/ganeti/config.data")).unwrap();
    let gone = receive();
    assert!(gone.starts_with("STATUS="), "{gone}");
    assert!(gone.contains("does not exist"), "{gone}");
    daemon.signal(Signal::SIGTERM);
    assert!(receive().contains("STOPPING=1"));
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_json_log_has_one_object_per_line_in_the_file_and_on_standard_error() {
    let root = Root::new();
    let mut daemon = root.start(&["--log-format=json"]);
    daemon.stop(Signal::SIGTERM);
    let log = root.log();
    assert!(log.lines().count() >= 3, "{log}");
    for line in log.lines().chain(daemon.seen.iter().map(String::as_str)) {
        let event: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(event["message"].is_string() && event["level"].is_string());
        assert_eq!(event["pid"], daemon.pid().as_raw());
    }
}

#[test]
fn a_signal_starts_and_stops_debug_messages() {
    let root = Root::new();
    let mut daemon = root.start(&[]);
    let notes = |daemon: &Daemon| daemon.seen.iter().filter(|l| l.contains(" DEBUG ")).count();
    for (state, signal) in [("logged", Signal::SIGUSR2), ("not logged", Signal::SIGUSR2)] {
        daemon.signal(signal);
        daemon.wait_for(&format!("Debug messages are {state} from now on"));
    }
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    assert_eq!(notes(&daemon), 0);
}

#[test]
fn ignored_datagrams_take_one_line_per_reason() {
    let root = Root::new();
    let args = [&FOREGROUND[..], &["--workers=2"]].concat();
    let mut daemon = Daemon::spawn(root.command(BINARY, &args));
    let address = daemon.wait_until_serving();
    let count = |daemon: &mut Daemon| -> usize {
        daemon.signal(Signal::SIGUSR1);
        let lines = (0..2).map(|worker| format!("Counters of worker {worker}: "));
        lines.map(|line| received(&daemon.wait_for(&line))).sum()
    };
    // The daemon's own pings.
    let before = count(&mut daemon);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        socket.send_to(b"what?", address).unwrap();
    }
    // The counters are logged at the end, so all datagrams must be received before.
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let received = count(&mut daemon) - before;
        if received == 100 {
            break;
        }
        assert!(Instant::now() < deadline, "{received} datagrams received");
    }
    assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    let own = socket.local_addr().unwrap();
    let lines: Vec<_> = daemon
        .seen
        .iter()
        .filter(|l| l.contains(" Ignored "))
        .collect();
    // One line at the end, or two if a periodic report came in between.
    assert!((1..=2).contains(&lines.len()), "{lines:#?}");
    assert!(
        lines[0].ends_with(&format!(
            "not a confd datagram (no plj0 magic), last from {own}"
        )),
        "{lines:#?}"
    );
}

/// The value of `received` in a line of counters.
fn received(line: &str) -> usize {
    let after = line.split_once(" received=").unwrap().1;
    after.split_once(' ').unwrap().0.parse().unwrap()
}

#[test]
fn a_demo_prints_its_address_and_removes_its_files() {
    let root = Root::new();
    let tmp = root.path("tmp");
    fs::create_dir(&tmp).unwrap();
    let mut command = root.command(BINARY, &["--demo=2:5", "-p", "0"]);
    let mut daemon = Daemon::spawn({
        command.env("TMPDIR", &tmp).stdout(Stdio::piped());
        command
    });
    let address = daemon.wait_until_serving();
    let stdout = daemon.child.stdout.take().unwrap();
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut value = |name: &str| {
        let line = lines.find(|line| line.contains(name)).expect(name);
        line.trim().trim_start_matches(name).trim().to_owned()
    };
    assert_eq!(value("address"), format!("{address}/udp"));
    let key = value("key");
    assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&key).unwrap().len(), 41);
    let config = fs::read_to_string(value("configuration")).unwrap();
    assert_eq!(config, demo::configuration(2, 5, 1));
    assert_eq!(value("names"), "node1.example.com, instance1.example.com");
    let export_servers = value("export CONFD_SERVERS=");
    assert_eq!(export_servers, address.to_string());
    let export_key = value("export CONFD_KEY_FILE=");
    assert_eq!(export_key, key);
    // The printed lines, as a user pastes them.
    let query = lines.find(|line| line.contains("query master")).unwrap();
    let pasted = format!(
        "export CONFD_SERVERS={export_servers}\nexport CONFD_KEY_FILE={export_key}\n{query}"
    );
    let output = Command::new("sh").args(["-c", &pasted]).output().unwrap();
    assert_eq!(text(&output.stdout), "node1.example.com\n", "{output:?}");
    let ping = r#"{"type":0,"protocol":1,"query":null,"rsalt":"r"}"#;
    let reply = ask(address, &fs::read(&key).unwrap(), ping);
    assert!(
        reply.starts_with("plj0") && reply.contains(r#"\"status\":0"#),
        "{reply}"
    );
    assert!(!root.pid_file().exists() && !root.log_file().exists());
    assert_eq!(
        daemon.stop(Signal::SIGINT).signal(),
        Some(Signal::SIGINT as i32)
    );
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
}

/// The reply to a signed request.
fn ask(address: SocketAddr, key: &[u8], message: &str) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let salt = now.as_secs().to_string();
    let tag = Key::new(key)
        .unwrap()
        .sign(salt.as_bytes(), message.as_bytes());
    let hmac: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let envelope = serde_json::json!({"msg": message, "salt": salt, "hmac": hmac});
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
        .send_to(format!("plj0{envelope}").as_bytes(), address)
        .unwrap();
    let mut reply = [0; 4096];
    let len = socket.recv(&mut reply).unwrap();
    text(&reply[..len])
}

#[test]
fn demos_find_free_ports() {
    let root = Root::new();
    let mut first = Daemon::spawn(root.command(BINARY, &["--demo"]));
    let mut second = Daemon::spawn(root.command(BINARY, &["--demo"]));
    assert_ne!(first.wait_until_serving(), second.wait_until_serving());
    for daemon in [&mut first, &mut second] {
        assert_eq!(daemon.stop(Signal::SIGTERM).code(), Some(0));
    }
}

#[test]
fn the_reference_loads_sample_clusters() {
    if !available("the reference daemon", REFERENCE) {
        return;
    }
    let root = Root::new();
    for (nodes, instances) in [(1, 0), (3, 10), (50, 500)] {
        fs::write(root.config(), demo::configuration(nodes, instances, 1)).unwrap();
        let mut daemon = Daemon::spawn(root.command(
            REFERENCE,
            &["-f", "--no-user-checks", "-b", "127.0.0.1", "-p", "18197"],
        ));
        daemon.wait_for("Loaded new config, serial ");
        daemon.wait_for("Starting up in");
        daemon.stop(Signal::SIGTERM);
    }
}

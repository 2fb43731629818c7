//! Tries from inside what must fail, and what must still work.
//!
//! A sandbox cannot be left. So each test runs this test program again as another process, which
//! contains itself, tries everything, and prints the results.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

use super::*;

/// Name of the environment variable that makes [`inside`] run: the mode and a directory.
const INSIDE: &str = "CONFD_SANDBOX_TEST";

/// The results of one process: attempts by name, with `ok` or the error.
struct Tried {
    results: BTreeMap<String, String>,
    ended_by: Option<i32>,
}

impl Tried {
    fn result(&self, name: &str) -> &str {
        self.results.get(name).map_or("not tried", String::as_str)
    }
}

/// Runs [`inside`] in a process of its own.
fn run(mode: &str) -> Tried {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path();
    for part in ["lib/ganeti", "log/ganeti"] {
        fs::create_dir_all(root.join(part)).expect("a fresh directory is writable");
    }
    fs::write(root.join("lib/ganeti/config.data"), "{}").expect("it is writable");
    let output = Command::new("timeout")
        .arg("20")
        .arg(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "daemon::sandbox::tests::inside",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(INSIDE, format!("{mode}:{}", root.display()))
        .output()
        .expect("this program can be run again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("tried "));
    let results = lines.filter_map(|line| line.split_once(": "));
    let results: BTreeMap<_, _> = results.map(|(n, r)| (n.to_owned(), r.to_owned())).collect();
    assert!(
        !results.is_empty(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Tried {
        results,
        ended_by: std::os::unix::process::ExitStatusExt::signal(&output.status),
    }
}

fn tried<T>(name: &str, result: io::Result<T>) {
    let result = result.map_or_else(|error| format!("{:?}", error.kind()), |_| "ok".into());
    println!("tried {name}: {result}");
}

/// A directory with the files of a daemon, and one outside of what it may use.
struct Files {
    root: PathBuf,
    config: PathBuf,
    log: PathBuf,
    outside: PathBuf,
}

impl Files {
    fn in_directory(root: &str) -> Self {
        let root = PathBuf::from(root);
        let files = Self {
            config: root.join("lib/ganeti/config.data"),
            log: root.join("log/ganeti/log"),
            outside: root.join("outside"),
            root,
        };
        fs::write(&files.outside, "secret").expect("it is writable before");
        files
    }

    fn places(&self) -> Places {
        Places {
            read: vec![self.config.clone()],
            written: vec![self.log.clone()],
        }
    }
}

/// The process that contains itself. Does nothing if it was not started by [`run`].
#[test]
fn inside() {
    let Ok(task) = std::env::var(INSIDE) else {
        return;
    };
    // Ends the line that the test harness has begun.
    println!();
    let (mode, root) = task.split_once(':').expect("a mode and a directory");
    let files = Files::in_directory(root);
    match mode {
        "files" => try_replaced_files(&files),
        "strict" => try_everything(Mode::Strict, &files),
        "off" => try_everything(Mode::Off, &files),
        _ => try_everything(Mode::Auto, &files),
    }
}

/// Reads the configuration after it and its folder were replaced by a thread without restrictions.
fn try_replaced_files(files: &Files) {
    let (replace, replacing) = std::sync::mpsc::channel::<()>();
    let (replaced, done) = std::sync::mpsc::channel();
    let (config, folder) = (files.config.clone(), files.root.join("lib"));
    std::thread::spawn(move || {
        replacing.recv().expect("it is asked");
        let new = config.with_extension("new");
        fs::write(&new, "new").and_then(|()| fs::rename(&new, &config))?;
        replaced.send(()).expect("it waits");
        replacing.recv().expect("it is asked");
        let ganeti = folder.join("ganeti");
        fs::rename(&ganeti, folder.join("old"))?;
        fs::create_dir(&ganeti)?;
        fs::write(&config, "another folder")?;
        replaced.send(()).expect("it waits");
        io::Result::Ok(())
    });
    let status = files::restrict(&files.places(), Width::Wide).expect("Landlock");
    assert_ne!(
        status,
        RulesetStatus::NotEnforced,
        "this kernel has no Landlock"
    );
    tried("read the configuration", fs::read(&files.config));
    for name in ["read the new configuration", "read it in a new folder"] {
        replace.send(()).expect("the thread waits");
        done.recv().expect("it is replaced");
        tried(name, fs::read(&files.config));
    }
}

/// Contains the process, and tries what the daemon does and what it must not do.
fn try_everything(mode: Mode, files: &Files) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let tcp = listener.local_addr().expect("an address");
    let sandbox = Sandbox::enter(mode, &files.places()).expect("this kernel can contain");
    let append = |path: &PathBuf| OpenOptions::new().append(true).create(true).open(path);
    tried("read the configuration", fs::read(&files.config));
    tried("create the log", append(&files.log));
    tried("append to the log", append(&files.log));
    let shortened = append(&files.log).and_then(|file| file.set_len(0));
    tried("shorten the log", shortened);
    tried("remove the log", fs::remove_file(&files.log));
    tried("bind UDP", UdpSocket::bind("127.0.0.1:0"));
    tried("read a file outside", fs::read(&files.outside));
    tried("write a file outside", append(&files.outside));
    tried(
        "create a file outside",
        File::create(files.root.join("new")),
    );
    tried("write the configuration", append(&files.config));
    tried("read passwords", fs::read("/etc/shadow"));
    tried("connect TCP", TcpStream::connect(tcp));
    tried("bind TCP", TcpListener::bind("127.0.0.1:0"));
    let signaled = kill(getppid(), Signal::SIGCONT);
    tried("signal the parent", signaled.map_err(io::Error::from));
    if mode == Mode::Auto {
        // If this worked, the process could not end before its parent has seen it.
        let traced = nix::sys::ptrace::traceme();
        tried("trace", traced.map_err(io::Error::from));
    }
    // With `strict`, this ends the process.
    let left = unshare(CloneFlags::CLONE_NEWUTS);
    tried("new namespace", left.map_err(io::Error::from));
    let confine = sandbox.worker_setup();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            confine().expect("the filter can be applied");
            tried("worker opens", fs::read(&files.config));
            tried("worker makes a socket", UdpSocket::bind("127.0.0.1:0"));
        });
        thread.join().expect("it does not panic");
    });
}

/// What the daemon does after its start.
const NEEDED: [&str; 6] = [
    "read the configuration",
    "create the log",
    "append to the log",
    "shorten the log",
    "remove the log",
    "bind UDP",
];

/// What Landlock forbids in both modes.
const FORBIDDEN: [&str; 8] = [
    "read a file outside",
    "write a file outside",
    "create a file outside",
    "write the configuration",
    "read passwords",
    "connect TCP",
    "bind TCP",
    "signal the parent",
];

#[test]
fn what_the_daemon_does_not_need_fails_from_inside() {
    let tried = run("auto");
    for name in NEEDED {
        assert_eq!(tried.result(name), "ok", "{name}");
    }
    let forbidden = [
        "new namespace",
        "trace",
        "worker opens",
        "worker makes a socket",
    ];
    for name in FORBIDDEN.into_iter().chain(forbidden) {
        assert_eq!(tried.result(name), "PermissionDenied", "{name}");
    }
    assert_eq!(tried.ended_by, None);
}

#[test]
fn a_violation_ends_a_strict_process() {
    let tried = run("strict");
    for name in NEEDED {
        assert_eq!(tried.result(name), "ok", "{name}");
    }
    for name in FORBIDDEN {
        assert_eq!(tried.result(name), "PermissionDenied", "{name}");
    }
    assert_eq!(tried.ended_by, Some(libc::SIGSYS));
}

/// So that the tests above can fail.
#[test]
fn nothing_is_forbidden_without_a_sandbox() {
    let tried = run("off");
    for name in NEEDED
        .into_iter()
        .chain(["read a file outside", "connect TCP", "worker opens"])
    {
        assert_eq!(tried.result(name), "ok", "{name}");
    }
}

#[test]
fn a_file_and_its_folder_can_be_replaced() {
    let tried = run("files");
    for name in [
        "read the configuration",
        "read the new configuration",
        "read it in a new folder",
    ] {
        assert_eq!(tried.result(name), "ok", "{name}");
    }
}

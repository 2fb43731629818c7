//! Changes of `config.data` that cause no event of its directory, and files that are gone for a
//! moment: with the real daemon, in a mount namespace of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ganeti_confd::demo;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use super::common::{Kind, Reply, Subject, now, request_datagram, skip};

const KEY: &[u8] = b"changes";

/// Timeout for everything that must happen; generous, because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A change is seen within a second. The rest is for a busy machine.
const SEEN_MAX: Duration = Duration::from_secs(5);

/// A sample configuration. Every version has the same length.
fn configuration(serial: u64) -> String {
    assert!((100..1_000).contains(&serial));
    let mut config: Value =
        serde_json::from_str(&demo::configuration(3, 5, 1)).expect("sample clusters are JSON");
    config["serial_no"] = json!(serial);
    config["cluster"]["serial_no"] = json!(serial);
    config.to_string()
}

/// A daemon, and the folder of its `config.data`.
struct Node {
    subject: Subject,
    data: PathBuf,
}

impl Node {
    /// Starts a daemon that serves the serial 101.
    fn start(args: &[&str]) -> Self {
        let subject =
            Subject::start_with(Kind::Mmsg, args, Some(configuration(101).as_bytes()), KEY);
        let data = Path::new(subject.root()).join("var/lib/ganeti");
        Self { subject, data }
    }

    fn config(&self) -> PathBuf {
        self.data.join("config.data")
    }

    /// Asks one query. Returns the serial of the answer, or the error that is answered.
    fn ask(&self) -> Result<u64, String> {
        let query = json!({"protocol": 1, "type": 4, "rsalt": "r"}).to_string();
        let datagram = request_datagram(KEY, &now().to_string(), &query);
        let reply = self.subject.client().ask_once(&datagram, TIMEOUT);
        let reply = Reply::read(KEY, &reply.expect("an answer")).expect("a signed reply");
        let reply: Value = serde_json::from_str(&reply.message).expect("JSON");
        if reply["status"] == 0 {
            Ok(reply["serial"].as_u64().expect("a serial"))
        } else {
            Err(reply["answer"].to_string())
        }
    }

    /// Waits until the answers are `wanted`, and returns how long that took.
    #[track_caller]
    fn until(&self, what: &str, wanted: impl Fn(Result<u64, String>) -> bool) -> Duration {
        let start = Instant::now();
        while !wanted(self.ask()) {
            assert!(
                start.elapsed() < TIMEOUT,
                "{what} is not seen; {:?}: {}",
                self.ask(),
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
        start.elapsed()
    }

    /// Waits until `serial` is served. It must be seen by the check that is made every second.
    #[track_caller]
    fn sees(&self, what: &str, serial: u64) {
        let took = self.until(what, |answer| answer == Ok(serial));
        println!("{what}: {took:?}");
        assert!(took < SEEN_MAX, "{what} is seen after {took:?}");
    }

    fn log(&self) -> String {
        let path = Path::new(self.subject.root()).join("var/log/ganeti/conf-daemon.log");
        fs::read_to_string(path).expect("a log")
    }

    /// Writes a folder with this serial and the key, for a later use as Ganeti's.
    fn folder(&self, name: &str, serial: u64) -> PathBuf {
        let folder = Path::new(self.subject.root()).join(name);
        fs::create_dir_all(&folder).expect("created");
        fs::write(folder.join("hmac.key"), KEY).expect("written");
        fs::write(folder.join("config.data"), configuration(serial)).expect("written");
        folder
    }
}

/// Runs `test` on a thread in a mount namespace of its own, with a daemon in it. Mounts in it are
/// not seen outside, and end with it.
fn in_mount_namespace(test: impl FnOnce(Node) + Send) {
    in_mount_namespace_with(&[], test);
}

/// The same, with more command-line arguments of the daemon.
fn in_mount_namespace_with(args: &[&str], test: impl FnOnce(Node) + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNS).is_err() {
                skip("mount namespaces (need root)");
                return;
            }
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
                .expect("mounts can be private in an own namespace");
            let node = Node::start(args);
            // Until nothing that follows the start looks at the files.
            thread::sleep(Duration::from_millis(1_100));
            test(node);
        });
    });
}

fn bind(from: &Path, to: &Path) {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none).expect("bound");
}

fn unmount(path: &Path) {
    umount2(path, MntFlags::MNT_DETACH).expect("unmounted");
}

#[test]
fn a_folder_that_is_replaced_is_seen() {
    in_mount_namespace(|node| {
        let at = |name: &str| Path::new(node.subject.root()).join("var/lib").join(name);
        node.folder("var/lib/other", 102);
        fs::rename(&node.data, at("old")).expect("renamed");
        fs::rename(at("other"), &node.data).expect("renamed");
        node.sees("another folder", 102);
        // The new folder is watched.
        fs::write(node.config(), configuration(103)).expect("written");
        node.sees("a write in the new folder", 103);
    });
}

#[test]
fn a_folder_above_that_is_replaced_is_seen() {
    // The sandbox allows reads below the folder above as it was at the start.
    in_mount_namespace_with(&["--sandbox=off"], |node| {
        let at = |name: &str| Path::new(node.subject.root()).join(name);
        node.folder("srv/ganeti", 102);
        fs::rename(at("var/lib"), at("var/former")).expect("renamed");
        fs::rename(at("srv"), at("var/lib")).expect("renamed");
        node.sees("another folder above", 102);
        fs::write(node.config(), configuration(103)).expect("written");
        node.sees("a write in the new folder", 103);
    });
}

#[test]
fn mounts_over_the_file_and_its_folder_are_seen() {
    in_mount_namespace(|node| {
        let other = node.folder("other", 102);
        bind(&other.join("config.data"), &node.config());
        node.sees("a mount over the file", 102);
        unmount(&node.config());
        node.sees("its end", 101);
        bind(&other, &node.data);
        node.sees("a mount over the folder", 102);
        fs::write(other.join("config.data"), configuration(103)).expect("written");
        node.sees("a write in it", 103);
        unmount(&node.data);
        node.sees("its end", 101);
    });
}

#[test]
fn a_link_that_is_switched_is_seen() {
    in_mount_namespace(|node| {
        // As in a volume of Kubernetes: the file is a link into `..data`, which is a link.
        let at = |name: &str| node.data.join(name);
        for serial in [102, 103] {
            node.folder(&format!("var/lib/ganeti/..{serial}"), serial);
        }
        symlink("..102", at("..data")).expect("linked");
        symlink("..data/config.data", at("new")).expect("linked");
        fs::rename(at("new"), node.config()).expect("renamed");
        node.sees("a link in place of the file", 102);
        symlink("..103", at("..data_tmp")).expect("linked");
        fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
        node.sees("another link in the middle", 103);
    });
}

#[test]
fn a_write_to_a_file_that_stays_open_is_seen() {
    in_mount_namespace(|node| {
        let mut file = fs::File::options()
            .write(true)
            .open(node.config())
            .expect("opened");
        for serial in 102..105 {
            file.rewind().expect("rewound");
            file.write_all(configuration(serial).as_bytes())
                .expect("written");
            node.sees("a write", serial);
        }
    });
}

#[test]
fn a_write_to_mapped_memory_is_seen() {
    /// Maps a file, replaces its content by the second file's, and keeps it mapped until the
    /// standard input ends.
    const WRITER: &str = "import mmap, sys\n\
        file = open(sys.argv[1], 'r+b')\n\
        memory = mmap.mmap(file.fileno(), 0)\n\
        memory[:] = open(sys.argv[2], 'rb').read()\n\
        print('written', flush=True)\n\
        sys.stdin.read()\n";
    in_mount_namespace(|node| {
        let other = node.folder("other", 102).join("config.data");
        let writer = Command::new("python3")
            .args(["-c", WRITER])
            .args([node.config(), other])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut writer) = writer else {
            return skip("python3 (Debian package python3)");
        };
        let mut line = String::new();
        BufReader::new(writer.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line, "written\n");
        node.sees("a write", 102);
        drop(writer.stdin.take());
        assert!(writer.wait().expect("our child").success());
    });
}

#[test]
fn a_file_that_is_gone_for_a_moment_costs_no_client_an_error() {
    let node = Node::start(&["--keep-last-good=0"]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = node.ask();
                assert!(answer.is_ok(), "{answer:?} after {asked} answers");
                asked += 1;
            }
            asked
        });
        let elsewhere = node.data.join("elsewhere");
        for serial in 102..110 {
            fs::write(&elsewhere, configuration(serial)).expect("written");
            fs::remove_file(node.config()).expect("removed");
            thread::sleep(Duration::from_millis(2));
            fs::rename(&elsewhere, node.config()).expect("renamed");
            node.until("a new file", |answer| answer == Ok(serial));
        }
        stop.store(true, Ordering::Relaxed);
        println!("{} answers", asking.join().expect("no error"));
    });
}

#[test]
fn the_last_good_configuration_is_served_for_the_time_of_the_option() {
    let time = Duration::from_secs(2);
    let node = Node::start(&["--keep-last-good=2s"]);
    fs::write(node.config(), "garbage").expect("written");
    let written = Instant::now();
    node.until("the end", |answer| answer.is_err());
    assert!(written.elapsed() >= time, "{:?}", written.elapsed());
    fs::write(node.config(), configuration(100)).expect("written");
    node.until("a good file", |answer| answer == Ok(100));
    let log = node.log();
    for expected in [
        "WARNING Failed to load config: ",
        "; serving the last good configuration, serial 101, for 2s more, then errors",
        "WARNING The last good configuration is no longer served, after 2s",
        "ERROR Failed to load config: ",
        ": the serial went back from 101 to 100: ",
    ] {
        assert!(log.contains(expected), "{expected:?} is missing in {log}");
    }
}

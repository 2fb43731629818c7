//! Reloading: real files, real kernel events, and the reader on its own runtime.
//!
//! A simple loader accepts any text of the form `good N`, because these tests are about files only.

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ganeti_confd::config;
use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, envelope};
use ganeti_confd::reader::{Files, Io, KeepLastGood, Reader, SharedStatus};
use ganeti_confd::responder::{Datagram, Responder, Served};
use ganeti_confd::snapshot::{Loaded, Snapshot};
use serde_json::Value;
use tempfile::TempDir;

/// Timeout for everything that must happen; generous, because the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The reader's interval between two loads.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// For this time, a file may be absent without being missing.
const GRACE: Duration = Duration::from_millis(200);

/// A poll interval longer than any test, so that changes are noticed by their events.
const NEVER: Duration = Duration::from_secs(3_600);

/// Serves error answers at once.
const LIKE_THE_REFERENCE: KeepLastGood = KeepLastGood::For(Duration::ZERO);

/// Duration of the loading of a text that contains `slow`.
const SLOW: Duration = Duration::from_millis(400);

// ---- A simple loader ----

fn good(n: usize) -> String {
    format!("good {n:06}")
}

fn load(text: &[u8]) -> Result<Loaded, config::Error> {
    let text = String::from_utf8_lossy(text);
    if text.contains("slow") {
        thread::sleep(SLOW);
    }
    assert!(!text.contains("panic"), "the file requests a panic");
    if text.starts_with("good ") {
        Ok(Loaded {
            snapshot: Snapshot::unavailable(&text),
            warnings: Vec::new(),
        })
    } else {
        Err(config::Error {
            path: "/place".into(),
            what: format!("is {text:?}"),
        })
    }
}

/// Whether `served` is the snapshot of `text`: a configuration or an error answer. Both are the
/// answer to a ping.
fn is_about(served: &Served, text: &str) -> bool {
    const NOW: u64 = 1_800_000_000;
    let ping = r#"{"protocol":1,"type":0,"rsalt":"R"}"#;
    let mut buffer = envelope::request(&served.key, NOW, ping);
    let len = buffer.len();
    buffer.resize(len + PADDING, 0);
    let mut out = vec![0; REPLY_BYTES_MAX];
    let reply = Responder::new().respond(Datagram::new(&mut buffer, len), NOW, served, &mut out);
    let reply = &out[4..reply.expect("a ping is answered").len];
    let envelope: Value = serde_json::from_slice(reply).expect("a reply is JSON");
    let message = envelope["msg"].as_str().map(serde_json::from_str::<Value>);
    message.expect("an inner message").expect("JSON")["answer"] == text
}

// ---- The node under test ----

/// A node's directory, and a reader that serves it.
struct Node {
    published: Arc<ArcSwap<Served>>,
    status: SharedStatus,
    woken: Receiver<()>,
    config: PathBuf,
    key: PathBuf,
    /// Stops the reader, and then its thread, when dropped.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    dir: TempDir,
}

/// The setup of a [`Node`].
#[derive(Clone, Copy)]
struct Setup {
    io: Io,
    keep: KeepLastGood,
    poll: Duration,
}

/// Creates the directory `dir` with a key and the configuration `content`.
fn fill(dir: &Path, content: &str) {
    fs::create_dir(dir).expect("created");
    fs::write(dir.join("hmac.key"), "first key\n").expect("written");
    fs::write(dir.join("config.data"), content).expect("written");
}

/// A temporary directory with a node's directory `ganeti` in it, which a test may replace.
fn directory(content: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fill(&dir.path().join("ganeti"), content);
    dir
}

impl Node {
    /// Starts a reader on the `ganeti` in `dir`.
    fn start(dir: TempDir, setup: Setup) -> Self {
        let ganeti = dir.path().join("ganeti");
        let (config, key) = (ganeti.join("config.data"), ganeti.join("hmac.key"));
        let files = Files {
            config: config.clone(),
            key: key.clone(),
            keep_last_good: setup.keep,
        };
        let (waker, woken) = channel();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (started, starting) = channel();
        let thread = thread::spawn(move || {
            let serve = async move {
                let mut reader = Reader::new(files, setup.io)
                    .with_load(load)
                    .with_poll(setup.poll);
                let status = reader.status();
                let first = reader.first_load().await.expect("a key");
                let published = Arc::new(ArcSwap::from_pointee(first));
                started
                    .send((published.clone(), status))
                    .expect("the test waits");
                let mut run = pin!(reader.run(published, move || {
                    // The test may have finished.
                    let _ = waker.send(());
                }));
                poll_fn(|cx| {
                    if pin!(&mut stopped).poll(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    run.as_mut().poll(cx).map(|_| ())
                })
                .await;
            };
            run(serve);
        });
        let started = starting.recv_timeout(TIMEOUT);
        let (published, status) = started.expect("the first load ends");
        Self {
            published,
            status,
            woken,
            config,
            key,
            stop: Some(stop),
            thread: Some(thread),
            dir,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("ganeti").join(name)
    }

    /// Replaces the configuration as Ganeti does: writes another file and renames it.
    fn replace(&self, content: &str) {
        replace(&self.config, content);
    }

    fn serves(&self, text: &str) -> bool {
        is_about(&self.published.load(), text)
    }

    /// Waits until `text` is served; the reader wakes the test. Returns the time taken.
    #[track_caller]
    fn until_serving(&self, text: &str) -> Duration {
        self.until_published(text, |served| is_about(served, text))
    }

    #[track_caller]
    fn until_published(&self, what: &str, wanted: impl Fn(&Served) -> bool) -> Duration {
        let start = Instant::now();
        while !wanted(&self.published.load()) {
            let left = TIMEOUT.saturating_sub(start.elapsed());
            assert!(
                self.woken.recv_timeout(left).is_ok(),
                "not served: {what}; status: {:?}",
                self.status.read()
            );
        }
        start.elapsed()
    }

    /// Polls for a condition that is not published, so that no event reports it.
    #[track_caller]
    fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !wanted(self) {
            assert!(
                start.elapsed() < TIMEOUT,
                "not reached: {what}; status: {:?}",
                self.status.read()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[track_caller]
    fn until_failures(&self, n: u64) {
        self.until("failures", |node| node.status.read().failures >= n);
    }

    /// The reference's error answer for a missing file.
    fn missing(&self) -> String {
        format!(
            "Failure during configuration update: {}: getFileStatus: does not exist (No such file or directory)",
            self.config.display()
        )
    }

    /// The error answer for the invalid configuration `content`.
    fn invalid(&self, content: &str) -> String {
        format!(
            "Cannot load configuration from {}: parsing configuration: /place: is {content:?}",
            self.config.display()
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().expect("joined once").join();
        assert!(ended.is_ok() || thread::panicking(), "the reader panicked");
    }
}

fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("written");
    fs::rename(&new, path).expect("renamed");
}

/// Runs `future` on a runtime like that of the control plane.
fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future);
}

/// Runs `test` with both ways of reading files, on nodes that start with `content`.
fn with_each_io(content: &str, keep: KeepLastGood, test: impl Fn(&Node) + Sync) {
    with_each_io_on(|| directory(content), keep, NEVER, test);
}

/// The same with directories that `directory` creates, and with the poll interval `poll`.
fn with_each_io_on(
    directory: impl Fn() -> TempDir + Sync,
    keep: KeepLastGood,
    poll: Duration,
    test: impl Fn(&Node) + Sync,
) {
    thread::scope(|scope| {
        for io in [Io::Uring, Io::Blocking] {
            let (directory, test) = (&directory, &test);
            scope.spawn(move || {
                let setup = Setup { io, keep, poll };
                test(&Node::start(directory(), setup));
            });
        }
    });
}

// ---- Good files ----

#[test]
fn a_rename_after_a_quiet_time_is_served_immediately() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        assert!(node.serves(&good(1)));
        thread::sleep(LOAD_INTERVAL);
        node.replace(&good(2));
        let took = node.until_serving(&good(2));
        assert!(took < LOAD_INTERVAL / 2, "{took:?}");
        assert_eq!(node.status.read().loads, 2);
    });
}

#[test]
fn a_write_in_place_is_served_when_it_is_closed() {
    use std::io::Write;
    with_each_io(&good(1), LIKE_THE_REFERENCE, |node| {
        thread::sleep(LOAD_INTERVAL);
        let mut file = fs::File::create(&node.config).expect("truncated");
        file.write_all(b"good ").expect("written");
        file.write_all(b"and long").expect("written");
        drop(file);
        node.until_serving("good and long");
        let status = node.status.read();
        assert_eq!(
            (status.loads, status.failures),
            (2, 0),
            "an incomplete file was read"
        );
    });
}

#[test]
fn a_rewrite_of_the_same_size_within_the_same_second_is_not_missed() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        for n in 2..5 {
            fs::write(&node.config, good(n)).expect("written");
            // The next write follows within a millisecond of this one's load.
            node.until_serving(&good(n));
        }
    });
}

#[test]
fn the_last_of_a_burst_is_served_after_few_loads() {
    with_each_io(&good(0), KeepLastGood::default(), |node| {
        let start = Instant::now();
        for n in 1..=100 {
            node.replace(&good(n));
        }
        node.until_serving(&good(100));
        // One at the start, and one per second.
        let most = 2 + start.elapsed().as_secs();
        let loads = node.status.read().loads;
        assert!(loads <= most, "{loads} loads, at most {most}");
    });
}

#[test]
fn a_change_during_a_load_is_served_next() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        thread::sleep(LOAD_INTERVAL);
        node.replace("good slow 2");
        // Before this, neither the interval nor the load can be over.
        thread::sleep(SLOW / 2);
        node.replace(&good(3));
        node.until_serving(&good(3));
    });
}

// ---- Bad files ----

#[test]
fn a_bad_file_does_not_replace_the_last_good_one() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        node.replace("garbage");
        node.until_failures(1);
        assert!(node.serves(&good(1)));
        let status = node.status.read();
        assert_eq!(status.unavailable, None);
        let expected = format!(
            "Failed to load config: {} cannot be served: /place: is \"garbage\"; restore it from the \
             master node (gnt-cluster redist-conf)",
            node.config.display()
        );
        assert_eq!(status.last_error, Some(expected));
        let (since, until) = (status.kept_since, status.kept_until);
        let kept = until
            .expect("an end")
            .duration_since(since.expect("a start"));
        assert_eq!(kept.expect("a time").as_secs_f64().round(), 300.0);

        node.replace(&good(2));
        node.until_serving(&good(2));
        assert_eq!(node.status.read().last_error, None);
        assert_eq!(node.status.read().kept_since, None);
    });
}

#[test]
fn the_last_good_configuration_is_served_for_its_time() {
    let time = Duration::from_millis(1_500);
    with_each_io(&good(1), KeepLastGood::For(time), |node| {
        node.replace("garbage");
        let begin = Instant::now();
        node.until_serving(&node.invalid("garbage"));
        assert!(begin.elapsed() >= time, "{:?}", begin.elapsed());
        let status = node.status.read();
        assert_eq!((status.failures, status.kept_since), (1, None));
        node.replace(&good(2));
        node.until_serving(&good(2));
    });
}

#[test]
fn a_truncated_file_is_a_bad_file() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        drop(fs::File::create(&node.config).expect("truncated"));
        node.until_failures(1);
        assert!(node.serves(&good(1)));
        fs::write(&node.config, good(2)).expect("written");
        node.until_serving(&good(2));
    });
}

#[test]
fn with_the_reference_s_policy_a_bad_file_leads_to_error_answers() {
    with_each_io(&good(1), LIKE_THE_REFERENCE, |node| {
        node.replace("garbage");
        let answer = node.invalid("garbage");
        node.until_serving(&answer);
        assert_eq!(node.status.read().unavailable, Some(answer));
        node.replace(&good(2));
        node.until_serving(&good(2));
        assert_eq!(node.status.read().unavailable, None);
    });
}

#[test]
fn a_file_over_the_size_limit_is_a_bad_file() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        let file = fs::File::create(node.at("long")).expect("created");
        file.set_len(3 << 30).expect("a sparse file");
        fs::rename(node.at("long"), &node.config).expect("renamed");
        node.until_failures(1);
        assert!(node.serves(&good(1)));
        let error = node.status.read().last_error.expect("an error");
        assert!(
            error.contains("has 3221225472 bytes, more than"),
            "{error:?}"
        );
    });
}

#[test]
fn a_panic_of_the_loader_is_a_bad_file() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        node.replace("panic");
        node.until_failures(1);
        assert!(node.serves(&good(1)));
        node.replace(&good(2));
        node.until_serving(&good(2));
    });
}

// ---- Missing files ----

#[test]
fn a_removed_file_leads_to_the_reference_s_error_until_it_returns() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        // Also within the interval after a load, as here.
        fs::remove_file(&node.config).expect("removed");
        let removed = Instant::now();
        node.until_serving(&node.missing());
        let took = removed.elapsed();
        assert!(took >= GRACE, "{took:?}");
        assert!(took < LOAD_INTERVAL / 2, "{took:?}");
        // Also within the interval, the way back takes no longer than the load.
        node.replace(&good(2));
        let took = node.until_serving(&good(2));
        assert!(took < LOAD_INTERVAL / 2, "{took:?}");
    });
}

#[test]
fn a_file_that_is_removed_and_created_again_is_not_missing() {
    with_each_io(&good(1), LIKE_THE_REFERENCE, |node| {
        for n in 2..5 {
            fs::remove_file(&node.config).expect("removed");
            thread::sleep(Duration::from_millis(2));
            fs::write(&node.config, good(n)).expect("written");
            node.until_published("no error", |served| {
                assert!(!is_about(served, &node.missing()), "an error is served");
                is_about(served, &good(n))
            });
        }
        assert_eq!(node.status.read().failures, 0);
    });
}

#[test]
fn a_file_that_is_moved_away_is_missing_though_still_open() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        let held = fs::File::open(&node.config).expect("opened");
        fs::rename(&node.config, node.at("elsewhere")).expect("renamed");
        node.until_serving(&node.missing());
        fs::write(node.at("elsewhere"), good(2)).expect("written");
        fs::rename(node.at("elsewhere"), &node.config).expect("renamed");
        node.until_serving(&good(2));
        drop(held);
    });
}

#[test]
fn a_bad_file_after_a_missing_one_does_not_restore_the_last_good_one() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        fs::remove_file(&node.config).expect("removed");
        node.until_serving(&node.missing());
        node.replace("garbage");
        node.until_serving(&node.invalid("garbage"));
    });
}

#[test]
fn a_directory_that_is_replaced_is_followed() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        let (ganeti, old) = (node.dir.path().join("ganeti"), node.dir.path().join("old"));
        fs::rename(&ganeti, &old).expect("renamed");
        node.until_serving(&node.missing());
        fs::write(old.join("config.data"), good(2)).expect("written");
        fill(&ganeti, &good(3));
        node.until_serving(&good(3));
        // The new directory is watched.
        node.replace(&good(4));
        node.until_serving(&good(4));

        fs::remove_dir_all(&ganeti).expect("removed");
        node.until_serving(&node.missing());
        fill(&ganeti, &good(5));
        node.until_serving(&good(5));
        node.until("the key of the new directory", |node| {
            node.status.read().key_error.is_none()
        });
    });
}

#[test]
fn the_reader_starts_without_a_usable_configuration() {
    type Prepare = fn(&Path);
    let cases: [(Prepare, &str); 3] = [
        (
            |path| fs::remove_file(path).expect("removed"),
            "Failure during configuration update: PATH: getFileStatus: does not exist (No such file or directory)",
        ),
        (
            |path| {
                fs::remove_file(path).expect("removed");
                fs::create_dir(path).expect("created");
            },
            "Cannot load configuration from PATH: PATH: openFile: inappropriate type (is a directory)",
        ),
        (
            |path| fs::write(path, "garbage").expect("written"),
            "Cannot load configuration from PATH: parsing configuration: /place: is \"garbage\"",
        ),
    ];
    for (prepare, answer) in cases {
        let make = || {
            let dir = directory("");
            prepare(&dir.path().join("ganeti/config.data"));
            dir
        };
        with_each_io_on(make, KeepLastGood::default(), NEVER, |node| {
            let answer = answer.replace("PATH", &node.config.display().to_string());
            assert!(node.serves(&answer), "{:?}", node.published.load());
            assert_eq!(node.status.read().unavailable, Some(answer));
            if node.config.is_dir() {
                fs::remove_dir(&node.config).expect("removed");
            }
            fs::write(&node.config, good(1)).expect("written");
            node.until_serving(&good(1));
        });
    }
}

// ---- Links, and changes without events ----

#[test]
fn a_linked_configuration_is_watched_at_both_ends() {
    let make = || {
        let dir = directory("");
        let real = dir.path().join("real");
        fill(&real, &good(1));
        let link = dir.path().join("ganeti/config.data");
        fs::remove_file(&link).expect("removed");
        symlink(real.join("config.data"), link).expect("linked");
        dir
    };
    with_each_io_on(make, KeepLastGood::default(), NEVER, |node| {
        assert!(node.serves(&good(1)));
        replace(&node.dir.path().join("real/config.data"), &good(2));
        node.until_serving(&good(2));

        let other = node.at("other");
        fs::write(&other, good(3)).expect("written");
        symlink(&other, node.at("link")).expect("linked");
        fs::rename(node.at("link"), &node.config).expect("renamed");
        node.until_serving(&good(3));
        replace(&other, &good(4));
        node.until_serving(&good(4));
    });
}

#[test]
fn the_poll_finds_changes_without_events() {
    let make = || {
        let dir = directory("");
        let (near, middle) = (dir.path().join("ganeti"), dir.path().join("middle"));
        for n in 1..=2 {
            fill(&dir.path().join(format!("far{n}")), &good(n));
        }
        fs::create_dir(&middle).expect("created");
        symlink("../far1/config.data", middle.join("link")).expect("linked");
        fs::remove_file(near.join("config.data")).expect("removed");
        symlink("../middle/link", near.join("config.data")).expect("linked");
        dir
    };
    let poll = Duration::from_millis(100);
    with_each_io_on(make, KeepLastGood::default(), poll, |node| {
        assert!(node.serves(&good(1)));
        // The middle link is in a directory that is not watched.
        let middle = node.dir.path().join("middle");
        symlink("../far2/config.data", middle.join("new")).expect("linked");
        fs::rename(middle.join("new"), middle.join("link")).expect("renamed");
        node.until_serving(&good(2));
    });
}

// ---- The key ----

#[test]
fn a_renewed_key_is_used_and_a_bad_one_is_not() {
    fn uses(served: &Served, key: &str) -> bool {
        let expected = Key::new(key.as_bytes()).expect("a key");
        served.key.sign(b"1", b"message") == expected.sign(b"1", b"message")
    }
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        let until_using = |key| node.until_published(key, |served| uses(served, key));
        until_using("first key\n");
        let snapshot = node.published.load().snapshot.clone();

        replace(&node.key, "second key\n");
        until_using("second key\n");
        let served = node.published.load_full();
        assert!(
            Arc::ptr_eq(&served.snapshot, &snapshot),
            "only the key changed"
        );

        let until_error = |expect: &str| {
            node.until(expect, |node| {
                node.status
                    .read()
                    .key_error
                    .is_some_and(|error| error.contains(expect))
            });
            assert!(uses(&node.published.load(), "second key\n"));
        };
        drop(fs::File::create(&node.key).expect("truncated"));
        until_error("is empty");
        fs::remove_file(&node.key).expect("removed");
        until_error("does not exist");
        fs::create_dir(&node.key).expect("created");
        until_error("is a directory");
        fs::remove_dir(&node.key).expect("removed");

        fs::write(&node.key, "third key\n").expect("written");
        until_using("third key\n");
        let status = node.status.read();
        assert_eq!((status.key_error, status.key_changes), (None, 2));
        assert_eq!(status.loads, 1, "the configuration was not loaded again");
    });
}

#[test]
fn without_a_key_nothing_starts() {
    let dir = directory(&good(1));
    let key = dir.path().join("ganeti/hmac.key");
    let files = Files {
        config: dir.path().join("ganeti/config.data"),
        key: key.clone(),
        keep_last_good: KeepLastGood::default(),
    };
    let first_load = || {
        let mut error = String::new();
        run(async {
            let mut reader = Reader::new(files.clone(), Io::Blocking).with_load(load);
            error = reader.first_load().await.expect_err("no key").to_string();
        });
        error
    };
    fs::write(&key, "").expect("written");
    assert!(first_load().contains("is empty"));
    fs::remove_file(&key).expect("removed");
    assert!(first_load().contains("does not exist"));
}

// ---- What the daemon needs ----

#[test]
fn a_replaced_snapshot_is_freed_once_no_worker_holds_it() {
    with_each_io(&good(1), KeepLastGood::default(), |node| {
        let worker = node.published.load_full();
        let snapshot = Arc::downgrade(&worker.snapshot);
        node.replace(&good(2));
        node.until_serving(&good(2));
        assert!(is_about(&worker, &good(1)), "a worker keeps its snapshot");
        // The worker must not be the one to free it, unless the reader did not notice that it
        // replaced it.
        drop(worker);
        node.until("freed", |_| snapshot.upgrade().is_none());
    });
}

#[test]
fn the_control_plane_responds_during_a_load() {
    let dir = directory("good and slow");
    let files = Files {
        config: dir.path().join("ganeti/config.data"),
        key: dir.path().join("ganeti/hmac.key"),
        keep_last_good: KeepLastGood::default(),
    };
    for io in [Io::Uring, Io::Blocking] {
        run(async {
            let mut reader = Reader::new(files.clone(), io).with_load(load);
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            let mut ticked = 0;
            let mut first_load = pin!(reader.first_load());
            let served = poll_fn(|cx| {
                while ticks.poll_tick(cx).is_ready() {
                    ticked += 1;
                }
                first_load.as_mut().poll(cx)
            })
            .await
            .expect("a key");
            assert!(is_about(&served, "good and slow"));
            // A quarter of the possible ticks: the machine may be busy, but the thread must not be
            // blocked.
            assert!(ticked >= 10, "{io:?}: {ticked} ticks");
        });
    }
}

//! Simulated runs of the daemon's pure parts: valid and invalid datagrams, reloads, clock jumps and
//! key changes in random order. A model predicts the outcome of every datagram, to the byte.
//!
//! The code under test is the daemon's: [`Responder`], [`Snapshot::load`], [`Policy`], and
//! [`Served`] published through an `ArcSwap` and read through a `Cache` once per batch. The reader
//! is reduced to its rule: publish a good configuration; after a bad file, keep the last good one
//! for its time and publish an error then; publish an error for a missing file.
//!
//! A seed determines a run, and a failure prints it. `SIMULATION_SEED=123 cargo test --test it
//! simulation` repeats that run, `SIMULATION_SEED=0..100000` does many.

mod datagrams;
mod model;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use fastrand::Rng;
use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, Reject, SKEW_SECONDS_MAX};
use ganeti_confd::reader::KeepLastGood;
use ganeti_confd::responder::{Datagram, ReplayTable, Responder, Served};
use ganeti_confd::snapshot::Snapshot;
use ganeti_confd::testing::reader::{Decision, Errno, LoadFailure, Policy, ReadError};
use properties::reference_parser::Envelope;

use self::datagrams::{Form, KEYS, SimDatagram};
use self::model::Cluster;
use crate::common::reply_datagram;

/// Runs without `SIMULATION_SEED`: some seconds in a debug build.
const SEEDS: Range<u64> = 0..2_000;
const STEPS: usize = 24;

/// Datagrams remembered for replays.
const REMEMBERED_MAX: usize = 16;

/// The senders of datagrams.
const PEERS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The simulated clock's start, in seconds since the epoch; any value will do.
const START: u64 = 1_795_354_392;

#[test]
fn every_datagram_has_the_outcome_that_the_model_expects() {
    let mut worker = Worker {
        responder: Responder::new().with_replay_protection(Arc::new(ReplayTable::with_seed(1))),
        first_peers: HashMap::new(),
        out: vec![0; REPLY_BYTES_MAX],
        seen: Seen::default(),
    };
    let seeds = seeds();
    let all = seeds == SEEDS;
    for seed in seeds {
        let mut place = Place { seed, step: 0 };
        let mut run = Run::new(seed);
        for step in 0..STEPS {
            place.step = step;
            run.step(&mut worker);
        }
    }
    println!("{:?}", worker.seen);
    if all {
        worker.seen.check();
    }
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SIMULATION_SEED") else {
        return SEEDS;
    };
    let number = |text: &str| text.parse().expect("SIMULATION_SEED is N or N..M");
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&text)..number(&text) + 1,
    }
}

/// The current seed and step, printed if the test panics.
struct Place {
    seed: u64,
    step: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SIMULATION_SEED={} fails in step {}", self.seed, self.step);
        }
    }
}

/// One worker's state. It is kept from run to run: no datagram may leave anything in it, except who
/// sent it.
struct Worker {
    responder: Responder,
    /// The first sender of each signature that passed the clock's check.
    first_peers: HashMap<String, IpAddr>,
    out: Vec<u8>,
    seen: Seen,
}

/// Counts of what happened, to detect a simulation that covers too little.
#[derive(Debug, Default)]
struct Seen {
    rejects: [usize; Reject::ALL.len()],
    /// Replies by type and status.
    replies: [[usize; 2]; 12],
    /// Replies while there was no configuration.
    unavailable: usize,
    /// Replies from the last good configuration while the file was bad.
    kept: usize,
    /// Replies with the error that followed it when its time was over.
    expired: usize,
    /// Replies to requests exactly at the limit of the clock window.
    at_edge: usize,
    /// Requests dropped one second beyond that limit.
    beyond_edge: usize,
    /// Replies from the snapshot of the batch's start, although a newer one was published by then.
    overtaken: usize,
    /// Replies to a datagram that had been answered before.
    replayed: usize,
}

impl Seen {
    fn check(&self) {
        let replies = self.replies.iter().enumerate();
        let each = replies.flat_map(|(kind, [ok, error])| match kind {
            // These fail only when there is no configuration.
            0 | 4 | 5 | 11 => vec![*ok],
            _ => vec![*ok, *error],
        });
        let others = [
            self.unavailable,
            self.kept,
            self.expired,
            self.at_edge,
            self.beyond_edge,
            self.overtaken,
            self.replayed,
        ];
        let all = each.chain(self.rejects).chain(others);
        for count in all {
            assert!(count >= 50, "a case occurred only {count} times: {self:?}");
        }
    }
}

/// What is served according to the model.
#[derive(Clone)]
struct Truth {
    key: usize,
    /// The cluster, or the error answer to every request.
    cluster: Result<Rc<Cluster>, String>,
    /// Whether that is so because the file is bad, since some time.
    age: Age,
}

/// The relation of what is served to the file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Age {
    /// It is what the file calls for.
    Current,
    /// The file is bad, and its last good content is served until this time, or without an end.
    Kept(Option<Instant>),
    /// The same, but that time is over.
    Expired,
}

/// One run: the worker's environment, and the model of it.
struct Run {
    rng: Rng,
    now: u64,
    /// The cluster in the file, or in its next version.
    file: Cluster,
    /// How long the last good configuration is served; `None`: without an end.
    keep: Option<Duration>,
    policy: Policy,
    /// The reader's clock, which is not set.
    elapsed_to: Instant,
    truth: Truth,
    published: Arc<ArcSwap<Served>>,
    cache: Cache<Arc<ArcSwap<Served>>, Arc<Served>>,
    /// Datagrams to send again, and whether they were answered.
    remembered: Vec<(SimDatagram, bool)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let file = Cluster::new(&mut rng);
        let why = "not yet".to_owned();
        let keep = [Some(0), Some(300), None][rng.usize(..3)].map(Duration::from_secs);
        let keep_last_good = keep.map_or(KeepLastGood::Forever, KeepLastGood::For);
        let published = Arc::new(ArcSwap::from_pointee(Served {
            key: Arc::new(Key::new(KEYS[0]).expect("keys have bytes")),
            snapshot: Arc::new(Snapshot::unavailable(&why)),
        }));
        let mut run = Self {
            now: START,
            keep,
            policy: Policy::new("config.data".to_owned(), keep_last_good),
            elapsed_to: Instant::now(),
            rng,
            file,
            truth: Truth {
                key: 0,
                cluster: Err(why),
                age: Age::Current,
            },
            cache: Cache::new(Arc::clone(&published)),
            published,
            remembered: Vec::new(),
        };
        run.reload();
        run
    }

    fn step(&mut self, worker: &mut Worker) {
        match self.rng.u8(..12) {
            0 => self.jump(),
            1 => self.change(),
            2 => self.wait(),
            _ => self.batch(worker),
        }
    }

    /// Time passes, or the clock is set.
    fn jump(&mut self) {
        let skew = SKEW_SECONDS_MAX;
        let by = [1, 60, skew - 1, skew, skew + 1, 2 * skew, 86_400][self.rng.usize(..7)];
        self.now = match self.rng.u8(..16) {
            // A host without a clock battery starts in 1970.
            0 => by,
            1 => START,
            2..=7 => self.now.saturating_sub(by),
            _ => self.now + by,
        };
    }

    /// Time passes without a change of the file. The last good configuration may reach its end.
    fn wait(&mut self) {
        let by = [1, 150, 299, 300, 301, 7_200][self.rng.usize(..6)];
        let then = self.elapsed_to + Duration::from_secs(by);
        while let Some(due) = self.policy.deadline().filter(|due| *due <= then) {
            self.elapsed_to = due;
            let decision = self.policy.pass(due);
            let is_over = self.truth.age == Age::Kept(Some(due));
            assert_eq!(decision.publish.is_some(), is_over, "{decision:?}");
            if is_over {
                self.publish_error(decision);
                self.truth.age = Age::Expired;
            }
        }
        self.elapsed_to = then;
        if let Age::Kept(Some(end)) = self.truth.age {
            assert!(end > then, "served beyond its time");
        }
    }

    /// The reader finds a good or bad file, or another key.
    fn change(&mut self) {
        match self.rng.u8(..8) {
            0 | 1 => self.break_file(),
            2 => self.remove_file(),
            3 | 4 => self.renew_key(),
            _ => self.reload(),
        }
    }

    fn reload(&mut self) {
        self.file.advance(&mut self.rng);
        let loaded =
            Snapshot::load(self.file.text().as_bytes()).expect("the model writes good files");
        let decision = self.policy.loaded(self.elapsed_to, loaded);
        assert_eq!(decision.unavailable, None);
        self.publish_snapshot(decision.publish.expect("a good file is served"));
        self.truth.cluster = Ok(Rc::new(self.file.clone()));
        self.truth.age = Age::Current;
    }

    /// A bad file: the last good configuration stays if there is one and its time is not over.
    fn break_file(&mut self) {
        self.file.advance(&mut self.rng);
        let mut text = self.file.text();
        match self.rng.u8(..4) {
            0 => text = text.replacen("\"nodes\":", "\"nodez\":", 1),
            1 => text = text.replacen("\"master_ip\":\"", "\"master_ip\":1,\"x\":\"", 1),
            2 => text.push_str("{}"),
            _ => text.truncate(self.rng.usize(..text.len())),
        }
        let error = Snapshot::load(text.as_bytes()).expect_err("it is no configuration");
        let why = error.to_string();
        let failure = LoadFailure::Invalid(error);
        let decision = self.policy.failed(self.elapsed_to, failure);
        let end = match self.truth.age {
            Age::Kept(end) => end,
            Age::Current | Age::Expired => self.keep.map(|time| self.elapsed_to + time),
        };
        let is_over = end.is_some_and(|end| end <= self.elapsed_to);
        if self.truth.cluster.is_ok() && !is_over {
            assert!(decision.publish.is_none(), "{decision:?}");
            self.truth.age = Age::Kept(end);
        } else {
            self.publish_error(decision);
            self.assert_error_about(&why);
        }
    }

    /// A missing file: errors are answered, whatever was served.
    fn remove_file(&mut self) {
        let failure = LoadFailure::Unreadable(ReadError::Stat(Errno::ENOENT));
        let decision = self.policy.failed(self.elapsed_to, failure);
        self.publish_error(decision);
        self.assert_error_about("does not exist");
    }

    /// Checks that the error that is served is the newest one.
    fn assert_error_about(&self, why: &str) {
        let served = self.truth.cluster.as_ref().err();
        assert!(
            served.is_some_and(|served| served.contains(why)),
            "{served:?} is not about {why}"
        );
    }

    /// The error of `decision` is served, unless it is served already.
    fn publish_error(&mut self, decision: Decision) {
        match (decision.publish, decision.unavailable) {
            (Some(snapshot), Some(why)) => {
                self.publish_snapshot(snapshot);
                self.truth.cluster = Err(why);
            }
            (None, None) => assert!(self.truth.cluster.is_err(), "a good file is served"),
            other => panic!("{other:?}"),
        }
        self.truth.age = Age::Current;
    }

    fn publish_snapshot(&self, snapshot: Snapshot) {
        self.published.store(Arc::new(Served {
            key: Arc::clone(&self.published.load().key),
            snapshot: Arc::new(snapshot),
        }));
    }

    fn renew_key(&mut self) {
        self.truth.key = self.rng.usize(..KEYS.len());
        self.published.store(Arc::new(Served {
            key: Arc::new(Key::new(KEYS[self.truth.key]).expect("keys have bytes")),
            snapshot: Arc::clone(&self.published.load().snapshot),
        }));
    }

    /// Answers a batch as a worker does: reads the published snapshot and the clock once. The
    /// reader may publish in between.
    fn batch(&mut self, worker: &mut Worker) {
        let served = Arc::clone(self.cache.load());
        let truth = self.truth.clone();
        let mut overtaken = false;
        for _ in 0..self.rng.usize(1..5) {
            let (datagram, is_replay) = self.datagram(truth.key);
            let peer = PEERS[self.rng.usize(..PEERS.len())];
            let answered = worker.answer(&datagram, peer, self.now, &served, &truth);
            if let Some((reply, rsalt)) = &answered {
                worker.seen.overtaken += usize::from(overtaken);
                worker.seen.replayed += usize::from(is_replay);
                if self.rng.u8(..8) == 0 {
                    let datagram = SimDatagram::reflected(reply.clone(), truth.key, rsalt);
                    self.remember(datagram, false);
                }
            }
            self.remember(datagram, answered.is_some());
            if self.rng.u8(..32) == 0 {
                self.change();
                overtaken = true;
            }
        }
    }

    /// A new datagram, an old one, or part of an old one; and whether it was answered before.
    fn datagram(&mut self, key: usize) -> (SimDatagram, bool) {
        match (self.rng.u8(..8), self.rng.choice(&self.remembered)) {
            (0 | 1, Some(known)) => known.clone(),
            (2, Some((known, _))) => (known.truncated(&mut self.rng), false),
            _ => (SimDatagram::any(&mut self.rng, self.now, key), false),
        }
    }

    fn remember(&mut self, datagram: SimDatagram, answered: bool) {
        if self.remembered.len() < REMEMBERED_MAX {
            self.remembered.push((datagram, answered));
        } else {
            let at = self.rng.usize(..REMEMBERED_MAX);
            self.remembered[at] = (datagram, answered);
        }
    }
}

impl Worker {
    /// Answers `sent` and compares the outcome with the model's. Returns the reply and its salt.
    fn answer(
        &mut self,
        sent: &SimDatagram,
        peer: IpAddr,
        now: u64,
        served: &Served,
        truth: &Truth,
    ) -> Option<(Vec<u8>, String)> {
        let mut buffer = sent.bytes.clone();
        let len = buffer.len();
        // Bytes of an earlier datagram in the receive buffer.
        buffer.resize(len + PADDING, b'"');
        let datagram = Datagram::new(&mut buffer, len).from_peer(peer);
        let outcome = self.responder.respond(datagram, now, served, &mut self.out);

        let shown = || sent.bytes.escape_ascii().to_string();
        let expected = self.expect_outcome(sent, peer, now, truth);
        let (kind, status, reply, rsalt) = match (outcome, expected) {
            (Err(reject), Err(expected)) => {
                assert_eq!(reject, expected, "{}", shown());
                self.seen.rejects[reject as usize] += 1;
                return None;
            }
            (Ok(reply), Ok((kind, status, expected, rsalt))) => {
                let bytes = &self.out[..reply.len];
                assert!(
                    bytes == expected,
                    "{} instead of {} to {}",
                    bytes.escape_ascii(),
                    expected.escape_ascii(),
                    shown()
                );
                assert_eq!((reply.kind, reply.too_large), (kind, false));
                (kind, status, expected, rsalt)
            }
            (Ok(_), Err(expected)) => panic!("answered instead of {expected:?}: {}", shown()),
            (Err(reject), Ok(_)) => panic!("{reject:?} instead of an answer: {}", shown()),
        };
        match truth.age {
            Age::Current => {}
            Age::Kept(_) => self.seen.kept += 1,
            Age::Expired => self.seen.expired += 1,
        }
        match truth.cluster {
            Ok(_) => self.seen.replies[usize::from(kind)][usize::from(status)] += 1,
            Err(_) => self.seen.unavailable += 1,
        }
        Some((reply, rsalt))
    }

    /// The predicted outcome of `datagram`: type, status, reply and its salt, or the reason for
    /// none.
    fn expect_outcome(
        &mut self,
        datagram: &SimDatagram,
        peer: IpAddr,
        now: u64,
        truth: &Truth,
    ) -> Result<(u8, u8, Vec<u8>, String), Reject> {
        let (key, sent, asked) = match &datagram.form {
            Form::Unreadable(reject) => return Err(*reject),
            Form::Signed { key, sent, asked } => (key, sent, asked),
        };
        if *key != Some(truth.key) {
            return Err(Reject::BadHmac);
        }
        let ahead = sent.map(|sent| i128::from(sent) - i128::from(now));
        self.seen.beyond_edge += usize::from(matches!(ahead, Some(-301 | 301)));
        if !ahead.is_some_and(|ahead| (-300..=300).contains(&ahead)) {
            return Err(Reject::ClockSkew);
        }
        let signature = Envelope::of_datagram(&datagram.bytes)
            .expect("it is signed")
            .hmac;
        let first = self.first_peers.entry(signature.to_ascii_lowercase());
        if *first.or_insert(peer) != peer {
            return Err(Reject::Replayed);
        }
        let Some((question, rsalt)) = asked else {
            return Err(Reject::BadRequest);
        };
        self.seen.at_edge += usize::from(matches!(ahead, Some(-300 | 300)));
        let (status, answer, serial) = match &truth.cluster {
            Ok(cluster) => cluster.answer(question),
            Err(why) => (1, serde_json::json!(why).to_string(), 0),
        };
        let message =
            format!(r#"{{"protocol":1,"status":{status},"answer":{answer},"serial":{serial}}}"#);
        let reply = reply_datagram(KEYS[truth.key], &message, rsalt);
        Ok((question.kind, status, reply, rsalt.clone()))
    }
}

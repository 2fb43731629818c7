//! A simulated life of the daemon's pure parts: datagrams of friends and foes, reloads, clocks that jump and keys that change, in
//! random order, against a model that says beforehand what becomes of every datagram, to the byte.
//!
//! What runs is what runs in the daemon: [`Responder`], [`Snapshot::load`], and [`Served`] handed over through an `ArcSwap` and a
//! `Cache` that is looked at once per batch. The reader is a rule of three: publish what is good, and keep what is served or publish
//! an error where it is not.
//!
//! A life is a seed, and a failure prints it: `SIMULATION_SEED=123 cargo test --test it simulation` lives it again, and
//! `SIMULATION_SEED=0..100000` lives many.

mod letters;
mod model;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use fastrand::Rng;
use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, Reject, SKEW_SECONDS_MAX};
use ganeti_confd::responder::{Datagram, Responder, Served};
use ganeti_confd::snapshot::Snapshot;

use self::letters::{Form, KEYS, Letter};
use self::model::Cluster;
use crate::common::reply_datagram;

/// Lives without `SIMULATION_SEED`: some seconds in a debug build.
const SEEDS: Range<u64> = 0..2_000;
const STEPS: usize = 24;

/// Datagrams remembered, to be sent again.
const LETTERS_MAX: usize = 16;

/// 2026-11-22 in seconds since the epoch; any will do.
const START: u64 = 1_795_354_392;

#[test]
fn every_datagram_meets_the_fate_that_the_model_foretells() {
    let mut worker = Worker {
        responder: Responder::new(),
        out: vec![0; REPLY_BYTES_MAX],
        seen: Seen::default(),
    };
    let seeds = seeds();
    let all = seeds == SEEDS;
    for seed in seeds {
        let mut place = Place { seed, step: 0 };
        let mut life = Life::new(seed);
        for step in 0..STEPS {
            place.step = step;
            life.step(&mut worker);
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

/// Where in which life we are: said when it ends badly, wherever that is.
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

/// What one worker thread keeps, from one life to the next as well: nothing of a datagram may be left in it.
struct Worker {
    responder: Responder,
    out: Vec<u8>,
    seen: Seen,
}

/// What happened, so that a simulation in which nothing happens is noticed.
#[derive(Debug, Default)]
struct Seen {
    rejects: [usize; Reject::ALL.len()],
    /// Replies by type and status.
    replies: [[usize; 2]; 12],
    /// Replies while there was nothing to serve.
    unavailable: usize,
    /// Replies to requests from the very edge of the window, and silence one second beyond it.
    at_edge: usize,
    beyond_edge: usize,
    /// Replies from what was published when the batch began, though something else was by then.
    overtaken: usize,
    /// Replies to a datagram that was answered before.
    replayed: usize,
}

impl Seen {
    fn check(&self) {
        let replies = self.replies.iter().enumerate();
        let each = replies.flat_map(|(kind, [ok, error])| match kind {
            // These can only fail when there is nothing to serve.
            0 | 4 | 5 | 11 => vec![*ok],
            _ => vec![*ok, *error],
        });
        let others = [
            self.unavailable,
            self.at_edge,
            self.beyond_edge,
            self.overtaken,
            self.replayed,
        ];
        let all = each.chain(self.rejects).chain(others);
        for count in all {
            assert!(
                count >= 50,
                "something happens {count} times only: {self:?}"
            );
        }
    }
}

/// What the model says is served.
#[derive(Clone)]
struct Truth {
    key: usize,
    /// Or the error that all requests get.
    cluster: Result<Rc<Cluster>, String>,
}

/// One life: the world round the worker, and the model of it.
struct Life {
    rng: Rng,
    now: u64,
    /// The cluster as the file has it, or will have it next.
    file: Cluster,
    keep_last: bool,
    truth: Truth,
    published: Arc<ArcSwap<Served>>,
    cache: Cache<Arc<ArcSwap<Served>>, Arc<Served>>,
    letters: Vec<(Letter, bool)>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let file = Cluster::new(&mut rng);
        let why = "not yet".to_owned();
        let published = Arc::new(ArcSwap::from_pointee(Served {
            key: Arc::new(Key::new(KEYS[0]).expect("keys have bytes")),
            snapshot: Arc::new(Snapshot::unavailable(&why)),
        }));
        let mut life = Self {
            now: START,
            keep_last: rng.bool(),
            rng,
            file,
            truth: Truth {
                key: 0,
                cluster: Err(why),
            },
            cache: Cache::new(Arc::clone(&published)),
            published,
            letters: Vec::new(),
        };
        life.reload();
        life
    }

    fn step(&mut self, worker: &mut Worker) {
        match self.rng.u8(..12) {
            0 => self.jump(),
            1 => self.change(),
            _ => self.batch(worker),
        }
    }

    /// Time passes, or somebody sets the clock.
    fn jump(&mut self) {
        let skew = SKEW_SECONDS_MAX;
        let by = [1, 60, skew - 1, skew, skew + 1, 2 * skew, 86_400][self.rng.usize(..7)];
        self.now = match self.rng.u8(..16) {
            // A host without a battery wakes up in 1970.
            0 => by,
            1 => START,
            2..=7 => self.now.saturating_sub(by),
            _ => self.now + by,
        };
    }

    /// Something new is published, or something bad is not.
    fn change(&mut self) {
        match self.rng.u8(..8) {
            0 | 1 => self.break_file(),
            2 => self.publish_unavailable("getFileStatus: does not exist \"config.data\"\n"),
            3 | 4 => self.renew_key(),
            _ => self.reload(),
        }
    }

    fn reload(&mut self) {
        self.file.advance(&mut self.rng);
        let loaded =
            Snapshot::load(self.file.text().as_bytes()).expect("the model writes good files");
        self.publish_snapshot(loaded.snapshot);
        self.truth.cluster = Ok(Rc::new(self.file.clone()));
    }

    /// A bad file: what was good before is served on, if there is such and the policy wants it.
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
        if !self.keep_last || self.truth.cluster.is_err() {
            self.publish_unavailable(&format!("Cannot load configuration: {error}"));
        }
    }

    fn publish_unavailable(&mut self, why: &str) {
        self.publish_snapshot(Snapshot::unavailable(why));
        self.truth.cluster = Err(why.to_owned());
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

    /// What a worker does on waking: one look at what is published, one at the clock, and the datagrams that are there. While it is
    /// at it, the reader may publish.
    fn batch(&mut self, worker: &mut Worker) {
        let served = Arc::clone(self.cache.load());
        let truth = self.truth.clone();
        let mut overtaken = false;
        for _ in 0..self.rng.usize(1..5) {
            let (letter, is_replay) = self.letter(truth.key);
            let answered = worker.answer(&letter, self.now, &served, &truth);
            if let Some((reply, rsalt)) = &answered {
                worker.seen.overtaken += usize::from(overtaken);
                worker.seen.replayed += usize::from(is_replay);
                if self.rng.u8(..8) == 0 {
                    let letter = Letter::reflected(reply.clone(), truth.key, rsalt);
                    self.remember(letter, false);
                }
            }
            self.remember(letter, answered.is_some());
            if self.rng.u8(..32) == 0 {
                self.change();
                overtaken = true;
            }
        }
    }

    /// A datagram, and whether it was answered before: a new one, an old one, a piece of an old one.
    fn letter(&mut self, key: usize) -> (Letter, bool) {
        match (self.rng.u8(..8), self.rng.choice(&self.letters)) {
            (0 | 1, Some(known)) => known.clone(),
            (2, Some((known, _))) => (known.truncated(&mut self.rng), false),
            _ => (Letter::any(&mut self.rng, self.now, key), false),
        }
    }

    fn remember(&mut self, letter: Letter, answered: bool) {
        if self.letters.len() < LETTERS_MAX {
            self.letters.push((letter, answered));
        } else {
            let at = self.rng.usize(..LETTERS_MAX);
            self.letters[at] = (letter, answered);
        }
    }
}

impl Worker {
    /// Has `letter` answered, and holds what comes of it against what must; gives the reply and its salt.
    fn answer(
        &mut self,
        letter: &Letter,
        now: u64,
        served: &Served,
        truth: &Truth,
    ) -> Option<(Vec<u8>, String)> {
        let mut buffer = letter.bytes.clone();
        let len = buffer.len();
        // Whatever was in the receive buffer before.
        buffer.resize(len + PADDING, b'"');
        let datagram = Datagram::new(&mut buffer, len);
        let outcome = self.responder.respond(datagram, now, served, &mut self.out);

        let told = || letter.bytes.escape_ascii().to_string();
        let (kind, status, reply, rsalt) = match (outcome, self.seen.foretell(letter, now, truth)) {
            (Err(reject), Err(expected)) => {
                assert_eq!(reject, expected, "{}", told());
                self.seen.rejects[reject as usize] += 1;
                return None;
            }
            (Ok(reply), Ok((kind, status, expected, rsalt))) => {
                let bytes = &self.out[..reply.len];
                assert!(
                    bytes == expected,
                    "{} and not {} to {}",
                    bytes.escape_ascii(),
                    expected.escape_ascii(),
                    told()
                );
                assert_eq!((reply.kind, reply.too_large), (kind, false));
                (kind, status, expected, rsalt)
            }
            (Ok(_), Err(expected)) => panic!("answered, though {expected:?}: {}", told()),
            (Err(reject), Ok(_)) => panic!("{reject:?}, though all is well: {}", told()),
        };
        match truth.cluster {
            Ok(_) => self.seen.replies[usize::from(kind)][usize::from(status)] += 1,
            Err(_) => self.seen.unavailable += 1,
        }
        Some((reply, rsalt))
    }
}

impl Seen {
    /// What must become of `letter`: a type, a status, a reply and its salt; or silence.
    fn foretell(
        &mut self,
        letter: &Letter,
        now: u64,
        truth: &Truth,
    ) -> Result<(u8, u8, Vec<u8>, String), Reject> {
        let (key, sent, asked) = match &letter.form {
            Form::Unreadable(reject) => return Err(*reject),
            Form::Signed { key, sent, asked } => (key, sent, asked),
        };
        if *key != Some(truth.key) {
            return Err(Reject::BadHmac);
        }
        let ahead = sent.map(|sent| i128::from(sent) - i128::from(now));
        self.beyond_edge += usize::from(matches!(ahead, Some(-301 | 301)));
        if !ahead.is_some_and(|ahead| (-300..=300).contains(&ahead)) {
            return Err(Reject::ClockSkew);
        }
        let Some((question, rsalt)) = asked else {
            return Err(Reject::BadRequest);
        };
        self.at_edge += usize::from(matches!(ahead, Some(-300 | 300)));
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

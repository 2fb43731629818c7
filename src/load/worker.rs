//! A thread of the generator: its sockets, its requests in flight, its clock.
//!
//! One loop: send what is due, give up what has waited too long, wait for replies or for the next time that matters, take replies.
//! A closed loop sends when a request in flight has ended; an open loop by its schedule, and counts latency from the time
//! of the schedule, so that a server that stalls is not asked less (no coordinated omission).
//!
//! When sending is over the worker listens until every request is answered or given up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::Instant;

use rustix::event::{Timespec, epoll};

use super::check::{Checker, ReplyCheck};
use super::in_flight::{InFlight, InFlightTable, ReplyKind};
use super::mix::Questions;
use super::rsalt::{Run, Tag};
use super::schedule::Schedule;
use super::sockets::{Batch, Channel, Inbox, IoErrors, Outbox};
use super::stats::{Slice, Stats, Tally};
use super::template::{Corruption, MALFORMED_KINDS, SALT_BYTES, STALE_SECONDS, Template};
use super::usage::Usage;
use super::{Error, Nanos, nanos};
use crate::clock;
use crate::protocol::Key;

/// How long to listen for duplicates after everything is answered.
const LINGER: Nanos = 20_000_000;

/// What all workers of a run share.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) key: Key,
    pub(super) run: Run,
    pub(super) questions: Arc<Questions>,
    /// By query.
    pub(super) templates: Arc<[Template]>,
    /// How much of the load is malformed, badly signed, stale: shares of 1.
    pub(super) damage: [f64; 3],
    /// Datagrams in a system call at most.
    pub(super) batch: usize,
    pub(super) segment: bool,
    /// One reply in so many is verified; 0: none.
    pub(super) verify: u32,
    /// Answers with equal serials must be equal.
    pub(super) compare: bool,
    /// A request is lost after this time.
    pub(super) patience: Nanos,
    pub(super) warm_up: Nanos,
    /// When sending ends.
    pub(super) end: Option<Nanos>,
    /// Length of the slices of time that are reported while it runs.
    pub(super) slice: Nanos,
    pub(super) targets: usize,
    /// Workers of the load.
    pub(super) workers: usize,
    pub(super) seed: u64,
    /// All workers start together, when all are ready.
    pub(super) ready: Barrier,
    pub(super) start: OnceLock<Instant>,
    /// Workers of the load that still send.
    pub(super) sending: AtomicUsize,
    /// Set from outside: end sending now.
    pub(super) stop: Arc<AtomicBool>,
}

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The load.
    Load,
    /// The slow measuring client beside it.
    Measure,
}

/// When a worker sends.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// So many requests are kept in flight.
    Closed(usize),
    /// By a schedule.
    Open(Schedule),
}

/// What one worker is to do.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) index: u8,
    pub(super) role: Role,
    pub(super) pace: Pace,
    pub(super) channels: Vec<Channel>,
    /// End sending after so many requests that count.
    pub(super) requests: Option<u64>,
}

/// What a worker has done.
#[derive(Debug)]
pub(super) struct WorkerResult {
    pub(super) role: Role,
    pub(super) stats: Stats,
    /// From the end of the warm-up to the end of sending.
    pub(super) sending: Nanos,
    /// The thread's use of the processor in that time.
    pub(super) usage: Option<Usage>,
    /// Replies dropped in full receive buffers.
    pub(super) dropped: u64,
}

/// A worker at work.
pub(super) struct Worker<'a> {
    setup: &'a Setup,
    job: Job,
    start: Instant,
    slices: Sender<(Role, usize, Slice)>,
    epoll: rustix::fd::OwnedFd,
    flights: InFlightTable,
    checker: Checker,
    random: fastrand::Rng,
    stats: Stats,
    slice: Slice,
    slices_done: usize,
    inbox: Inbox,
    outbox: Outbox,
    batch: Batch,
    /// Of the datagrams in `batch`.
    tags: Vec<Tag>,
    scratch: Vec<u8>,
    clock: WallClock,
    /// Closed loop, by socket: how many more requests it may have in flight.
    free: Vec<usize>,
    /// Sockets of which that is above zero.
    ready: Vec<u16>,
    next_socket: usize,
    /// Requests made, and replies taken.
    made: u64,
    taken: u64,
    remaining: Option<u64>,
    sending: bool,
    /// Set at the end of the warm-up and at the end of sending.
    began: Option<(Nanos, Option<Usage>)>,
    ended: Option<(Nanos, Option<Usage>)>,
}

impl<'a> Worker<'a> {
    /// A worker for `job`; its slices of time go to `slices`.
    ///
    /// # Errors
    ///
    /// The kernel refuses what it needs to wait for its sockets.
    pub(super) fn new(
        setup: &'a Setup,
        job: Job,
        slices: Sender<(Role, usize, Slice)>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::new(format!("epoll: {error}"));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        for (index, channel) in job.channels.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &channel.socket, data, epoll::EventFlags::IN).map_err(failed)?;
        }
        let sockets = job.channels.len();
        let in_flight = match job.pace {
            Pace::Closed(in_flight) => in_flight,
            Pace::Open(_) => 0,
        };
        let vacant: Vec<_> = (0..sockets)
            .map(|index| in_flight / sockets + usize::from(index < in_flight % sockets))
            .collect();
        Ok(Self {
            epoll,
            flights: InFlightTable::new(job.index, sockets, setup.patience),
            checker: Checker::new(setup.key.clone(), setup.templates.len(), setup.compare),
            random: fastrand::Rng::with_seed(setup.seed ^ u64::from(job.index) << 32),
            stats: match job.role {
                Role::Load => Stats::for_targets(setup.targets),
                Role::Measure => Stats::default(),
            },
            slice: Slice::default(),
            slices_done: 0,
            inbox: Inbox::new(),
            outbox: Outbox::new(setup.segment),
            batch: Batch::default(),
            tags: Vec::new(),
            scratch: Vec::new(),
            clock: WallClock::default(),
            ready: (0..sockets as u16)
                .filter(|&index| vacant[usize::from(index)] > 0)
                .collect(),
            free: vacant,
            next_socket: 0,
            made: 0,
            taken: 0,
            remaining: job.requests,
            sending: true,
            began: None,
            ended: None,
            start: Instant::now(),
            setup,
            job,
            slices,
        })
    }

    /// Sends, listens, and gives what was counted.
    pub(super) fn run(mut self) -> WorkerResult {
        // Fifty microseconds of slack are the default, and would be schedule lag.
        let _ = nix::sys::prctl::set_timerslack(1);
        self.start = *self.setup.start.get_or_init(Instant::now);
        let mut events = Vec::with_capacity(64);
        let mut quiet_since = None;
        loop {
            let now = self.now();
            self.note_phases(now);
            self.expire();
            self.send_due(now);
            self.deliver_slices(now);
            if !self.sending && self.flights.waiting() == 0 {
                if now >= *quiet_since.get_or_insert(now) + LINGER {
                    break;
                }
            } else {
                quiet_since = None;
            }
            let wake = self.next_wake(quiet_since);
            self.wait(wake, &mut events);
            for index in events.drain(..) {
                self.receive(index);
            }
        }
        self.finish()
    }

    fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }

    /// The warm-up ends, and sending does.
    fn note_phases(&mut self, now: Nanos) {
        if self.began.is_none() && now >= self.setup.warm_up {
            self.began = Some((now, Usage::of_this_thread()));
        }
        let over = self.setup.end.is_some_and(|end| now >= end)
            || self.remaining == Some(0)
            || self.setup.stop.load(Ordering::Relaxed)
            || self.job.role == Role::Measure && self.setup.sending.load(Ordering::Relaxed) == 0;
        if self.sending && over {
            self.sending = false;
            if self.job.role == Role::Load {
                self.setup.sending.fetch_sub(1, Ordering::Relaxed);
            }
            self.ended = Some((now, Usage::of_this_thread()));
            self.count_unsent(now);
        }
    }

    /// What the schedule asked for until the end and the generator did not manage.
    fn count_unsent(&mut self, now: Nanos) {
        if self.remaining == Some(0) {
            return;
        }
        let end = self.setup.end.map_or(now, |end| end.min(now));
        if let Pace::Open(schedule) = &mut self.job.pace {
            while schedule.due() < end {
                schedule.advance();
                self.stats.counts.unsent += 1;
            }
        }
    }

    fn send_due(&mut self, now: Nanos) {
        if !self.sending {
            return;
        }
        match self.job.pace {
            Pace::Closed(_) => {
                while let Some(socket) = self.ready.pop() {
                    if !self.fill(socket) {
                        // Damaged requests fill the table; there is room again when they expire.
                        self.ready.push(socket);
                        break;
                    }
                }
            }
            // One batch, so that replies are not left waiting behind a backlog.
            Pace::Open(_) => self.catch_up(now),
        }
    }

    /// Closed loop: sends until the socket has as many requests in flight as it may have; `false` if the table is full.
    fn fill(&mut self, socket: u16) -> bool {
        let index = usize::from(socket);
        let mut room = true;
        while room && self.free[index] > 0 && self.remaining != Some(0) {
            self.clock.look();
            let now = self.now();
            while self.batch.len() < self.setup.batch
                && self.free[index] > 0
                && self.remaining != Some(0)
            {
                let Some(damaged) = self.make(socket, now) else {
                    room = false;
                    break;
                };
                // Nobody answers a damaged one; it takes no place in flight.
                self.free[index] -= usize::from(!damaged);
            }
            self.send_batch(socket);
        }
        room
    }

    /// Open loop: sends what is due, at most a batch, through the next socket.
    fn catch_up(&mut self, now: Nanos) {
        let socket = self.next_socket as u16;
        self.clock.look();
        while self.batch.len() < self.setup.batch && self.remaining != Some(0) {
            let Pace::Open(schedule) = &mut self.job.pace else {
                return;
            };
            let due = schedule.due();
            if due > now || self.setup.end.is_some_and(|end| due >= end) {
                break;
            }
            schedule.advance();
            if self.make(socket, due).is_none() {
                self.stats.counts.unsent += 1;
                break;
            }
        }
        if self.batch.len() > 0 {
            self.next_socket = (self.next_socket + 1) % self.job.channels.len();
            self.send_batch(socket);
        }
    }

    /// Appends a request to the batch and says whether it is a damaged one; `None` if the table is full.
    fn make(&mut self, socket: u16, intended: Nanos) -> Option<bool> {
        let setup = self.setup;
        let number = self.made * setup.workers as u64 + u64::from(self.job.index);
        let query = setup.questions.next(number, &mut self.random);
        let damage = self.draw_corruption();
        let counted = intended >= setup.warm_up;
        let tag = self.flights.register(InFlight {
            intended,
            sent: intended,
            query: query as u32,
            socket,
            damaged: damage.is_some(),
            counted,
        })?;
        self.made += 1;
        if counted && let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        let template = &setup.templates[query];
        let salt = match damage {
            Some(Corruption::Stale) => &self.clock.stale,
            _ => &self.clock.fresh,
        };
        let rsalt = setup.run.rsalt(tag);
        let start = self.batch.start();
        let out = &mut self.batch.bytes;
        template.write(&setup.key, salt, &rsalt, &mut self.scratch, out);
        if let Some(damage) = damage {
            template.corrupt(damage, &mut out[start..]);
        }
        self.batch.close();
        self.tags.push(tag);
        Some(damage.is_some())
    }

    fn draw_corruption(&mut self) -> Option<Corruption> {
        let [malformed, badly_signed, stale] = self.setup.damage;
        if self.job.role == Role::Measure || malformed + badly_signed + stale == 0.0 {
            return None;
        }
        let point = self.random.f64();
        if point < malformed {
            Some(Corruption::Malformed(self.random.u8(..MALFORMED_KINDS)))
        } else if point < malformed + badly_signed {
            Some(Corruption::BadSignature)
        } else if point < malformed + badly_signed + stale {
            Some(Corruption::Stale)
        } else {
            None
        }
    }

    /// Sends the batch, and empties it.
    fn send_batch(&mut self, socket: u16) {
        let now = self.now();
        let scheduled = matches!(self.job.pace, Pace::Open(_));
        let target = self.job.channels[usize::from(socket)].target;
        for tag in self.tags.drain(..) {
            let flight = self.flights.sent(tag, now, scheduled);
            self.slice.sent += 1;
            if !flight.counted {
                continue;
            }
            if flight.damaged {
                self.stats.counts.damaged += 1;
            } else {
                self.stats.counts.sent += 1;
                let kind = self.setup.templates[flight.query as usize].kind;
                for tally in self.stats.tallies(kind, target) {
                    tally.sent += 1;
                }
            }
            if scheduled {
                self.stats.lag.record(now.saturating_sub(flight.intended));
            }
        }
        if now >= self.setup.warm_up {
            self.stats.counts.bytes_sent += self.batch.bytes.len() as u64;
        }
        let channel = &self.job.channels[usize::from(socket)];
        let trouble = self.outbox.send(&channel.socket, &self.batch);
        self.count_io_errors(trouble);
        self.batch.clear();
    }

    fn count_io_errors(&mut self, trouble: IoErrors) {
        self.stats.counts.refused += trouble.refused;
        self.stats.counts.unsendable += trouble.unsendable;
    }

    fn receive(&mut self, index: usize) {
        let mut trouble = IoErrors::default();
        let socket = &self.job.channels[index].socket;
        let count = self.inbox.receive(socket, self.setup.batch, &mut trouble);
        self.count_io_errors(trouble);
        let now = self.now();
        for index in 0..count {
            self.take(index, now);
        }
    }

    /// Takes one reply of the last batch.
    fn take(&mut self, index: usize, now: Nanos) {
        let (reply, len) = self.inbox.datagram(index);
        let counts = &mut self.stats.counts;
        let Some(tag) = self.setup.run.find(&reply[..len]) else {
            counts.stray += 1;
            return;
        };
        let (flight, reordered) = match self.flights.complete(tag) {
            ReplyKind::First { flight, reordered } => (flight, reordered),
            ReplyKind::Late { flight } => {
                let counted = u64::from(flight.counted);
                if flight.damaged {
                    // It was taken for silence too early.
                    counts.silent -= counted;
                    counts.unexpected += counted;
                } else {
                    counts.late += counted;
                }
                return;
            }
            ReplyKind::Duplicate => return counts.duplicated += 1,
            ReplyKind::Unknown => return counts.stray += 1,
        };
        if flight.damaged {
            counts.unexpected += u64::from(flight.counted);
            return;
        }
        self.taken += 1;
        let verify = u64::from(self.setup.verify);
        let query = flight.query as usize;
        let finding = if verify > 0 && self.taken.is_multiple_of(verify) {
            let rsalt = self.setup.run.rsalt(tag);
            self.checker.check(reply, len, &rsalt, query)
        } else {
            ReplyCheck::Ok
        };
        self.release(flight.socket);
        self.count_reply(flight, finding, reordered, len, now);
    }

    fn count_reply(
        &mut self,
        flight: InFlight,
        finding: ReplyCheck,
        reordered: bool,
        len: usize,
        now: Nanos,
    ) {
        let latency = now.saturating_sub(flight.intended);
        let counted = u64::from(flight.counted);
        let counts = &mut self.stats.counts;
        counts.reordered += u64::from(reordered) * counted;
        match finding {
            ReplyCheck::BadHmac => return counts.bad_hmac += counted,
            ReplyCheck::Malformed => return counts.malformed += counted,
            ReplyCheck::Inconsistent => return counts.inconsistent += counted,
            ReplyCheck::Ok | ReplyCheck::Error => {}
        }
        self.slice.record(latency);
        if !flight.counted {
            return;
        }
        let error = u64::from(finding == ReplyCheck::Error);
        counts.answered += 1;
        counts.errors += error;
        counts.bytes_received += len as u64;
        for tally in self.tallies(flight) {
            tally.answered += 1;
            tally.errors += error;
            tally.latency.record(latency);
        }
    }

    fn tallies(&mut self, flight: InFlight) -> impl Iterator<Item = &mut Tally> {
        let kind = self.setup.templates[flight.query as usize].kind;
        let target = self.job.channels[usize::from(flight.socket)].target;
        self.stats.tallies(kind, target)
    }

    /// Closed loop: a request in flight has ended.
    fn release(&mut self, socket: u16) {
        if let Pace::Closed(_) = self.job.pace {
            let vacant = &mut self.free[usize::from(socket)];
            if *vacant == 0 {
                self.ready.push(socket);
            }
            *vacant += 1;
        }
    }

    fn expire(&mut self) {
        let now = self.now();
        // A handful at a time: rare, and it keeps the borrows apart.
        let mut lost = Vec::new();
        self.flights.expire(now, |flight| lost.push(flight));
        for flight in lost {
            if flight.damaged {
                self.stats.counts.silent += u64::from(flight.counted);
                continue;
            }
            self.slice.lost += 1;
            self.release(flight.socket);
            if flight.counted {
                self.stats.counts.lost += 1;
                for tally in self.tallies(flight) {
                    tally.lost += 1;
                }
            }
        }
    }

    /// Hands over the slices of time that are over.
    fn deliver_slices(&mut self, now: Nanos) {
        while now >= self.setup.slice * (self.slices_done as u64 + 1) {
            let slice = std::mem::take(&mut self.slice);
            // Nobody listens if the run is being given up.
            let _ = self.slices.send((self.job.role, self.slices_done, slice));
            self.slices_done += 1;
        }
    }

    /// When there is something to do, even without a reply.
    fn next_wake(&mut self, quiet_since: Option<Nanos>) -> Nanos {
        let mut wake = self.setup.slice * (self.slices_done as u64 + 1);
        if self.sending {
            if let Pace::Open(schedule) = &self.job.pace {
                wake = wake.min(schedule.due());
            }
            wake = wake.min(self.setup.end.unwrap_or(wake));
        }
        let others = [
            self.flights.next_expiry(),
            quiet_since.map(|since| since + LINGER),
        ];
        others.into_iter().flatten().fold(wake, Nanos::min)
    }

    /// Waits for replies until `wake`, and gives the sockets that have some.
    fn wait(&mut self, wake: Nanos, ready: &mut Vec<usize>) {
        let pause = wake.saturating_sub(self.now());
        let pause = Timespec {
            tv_sec: (pause / 1_000_000_000) as i64,
            tv_nsec: (pause % 1_000_000_000) as i64,
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        // An interrupted wait is one that found nothing.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut events[..], Some(&pause)) {
            ready.extend(events.iter().map(|event| event.data.u64() as usize));
        }
    }

    fn finish(self) -> WorkerResult {
        let _ = self
            .slices
            .send((self.job.role, self.slices_done, self.slice));
        let (began, before) = self.began.unwrap_or_default();
        let (ended, after) = self.ended.unwrap_or_default();
        WorkerResult {
            role: self.job.role,
            stats: self.stats,
            sending: ended.saturating_sub(began),
            usage: before.zip(after).map(|(before, after)| after - before),
            dropped: super::dropped(&self.job.channels),
        }
    }
}

/// The salts of this second.
#[derive(Debug, Default)]
struct WallClock {
    seconds: u64,
    fresh: [u8; SALT_BYTES],
    stale: [u8; SALT_BYTES],
}

impl WallClock {
    fn look(&mut self) {
        let now = clock::unix_seconds();
        if now != self.seconds {
            self.seconds = now;
            self.fresh = Self::digits(now);
            self.stale = Self::digits(now.saturating_sub(STALE_SECONDS));
        }
    }

    fn digits(mut seconds: u64) -> [u8; SALT_BYTES] {
        let mut digits = [b'0'; SALT_BYTES];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (seconds % 10) as u8;
            seconds /= 10;
        }
        digits
    }
}

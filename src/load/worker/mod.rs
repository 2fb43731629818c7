//! A thread of the generator with its sockets, its requests in flight and its clock.
//!
//! It repeats: expire requests, send what is due, wait for replies or for the next deadline,
//! receive. A closed loop sends when a request in flight has ended. An open loop sends on its
//! schedule and measures latency from the scheduled time, so that a stalled server does not get
//! fewer requests (no coordinated omission).
//!
//! After sending has ended, the worker receives until every request is answered or lost.

mod job;
mod receive;
mod send;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::check::Checker;
use super::error::Error;
use super::error_queue::ErrorQueue;
use super::in_flight::InFlightTable;
use super::nanos::{Nanos, nanos};
use super::rsalt::RequestId;
use super::sockets::{self, Batch, Inbox, Outbox};
use super::stamps::AwaitedStamps;
use super::stats::{Slice, Stats};
use super::usage::Usage;
pub(super) use job::{Delivery, Job, Pace, Role, Setup, WorkerResult};
use send::WallClock;

/// How long before a request is due a worker starts to spin; the kernel may wake a thread this much
/// too late.
const SPIN: Nanos = 150_000;

/// How long to receive duplicates after the last request has ended.
const LINGER: Nanos = 20_000_000;

/// Restricts the calling thread to one processor.
fn pin_to(cpu: usize) -> Result<(), Error> {
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(format!(
            "cannot pin a thread to processor {cpu}: {why}; check --cpus"
        ))
    };
    if cpu >= CpuSet::MAX_CPU {
        return Err(failed(&"there is no such processor"));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| failed(&error))
}

/// A socket that is ready.
struct Event {
    socket: usize,
    is_error: bool,
}

/// A running worker.
pub(super) struct Worker<'a> {
    setup: &'a Setup,
    job: Job,
    start: Instant,
    slices: Sender<Delivery>,
    epoll: rustix::fd::OwnedFd,
    in_flight: InFlightTable,
    checker: Checker,
    random: fastrand::Rng,
    stats: Stats,
    slice: Slice,
    slices_done: usize,
    inbox: Inbox,
    outbox: Outbox,
    errors: ErrorQueue,
    /// By socket.
    stamps: Vec<AwaitedStamps>,
    /// Requests that were refused and are not counted as lost yet.
    refused: Vec<RequestId>,
    batch: Batch,
    /// The IDs of the requests in `batch`.
    ids: Vec<RequestId>,
    scratch: Vec<u8>,
    clock: WallClock,
    /// In a closed loop, by socket: how many more requests it may have in flight.
    free: Vec<usize>,
    /// In a closed loop: the sockets for which `free` is above 0.
    ready: Vec<u16>,
    next_socket: usize,
    /// Number of requests made.
    made: u64,
    /// Number of replies received.
    received: u64,
    remaining: Option<u64>,
    sending: bool,
    /// Time and processor use at the end of the warm-up.
    began: Option<(Nanos, Option<Usage>)>,
    /// Time and processor use at the end of sending. In a closed loop that ends after a number of
    /// requests: at the last answer, because sending may take no time at all.
    ended: Option<(Nanos, Option<Usage>)>,
}

impl<'a> Worker<'a> {
    /// A worker for `job`, which sends its time slices to `slices`.
    ///
    /// # Errors
    ///
    /// The kernel refuses an epoll instance, or this thread cannot run on the job's processor.
    pub(super) fn new(setup: &'a Setup, job: Job, slices: Sender<Delivery>) -> Result<Self, Error> {
        if let Some(cpu) = job.cpu {
            pin_to(cpu)?;
        }
        let failed = |error| Error::new(format!("cannot wait for sockets with epoll: {error}"));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        for (index, channel) in job.channels.iter().enumerate() {
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &channel.socket, data, epoll::EventFlags::IN).map_err(failed)?;
        }
        let (sockets, channels) = (job.channels.len(), job.channels.iter());
        let in_flight = match job.pace {
            Pace::Closed(in_flight) => in_flight,
            Pace::Open(_) => 0,
        };
        let free: Vec<_> = (0..sockets)
            .map(|index| in_flight / sockets + usize::from(index < in_flight % sockets))
            .collect();
        Ok(Self {
            epoll,
            in_flight: InFlightTable::new(job.index, sockets, setup.lost_after),
            checker: Checker::new(setup.key.clone(), setup.templates.len(), setup.compare),
            random: fastrand::Rng::with_seed(setup.seed ^ u64::from(job.index) << 32),
            stats: match job.role {
                Role::Load => Stats::for_targets(setup.targets),
                Role::Probe => Stats::default(),
            },
            slice: Slice::default(),
            slices_done: 0,
            inbox: Inbox::new(),
            outbox: Outbox::new(setup.segment),
            errors: ErrorQueue::new(),
            stamps: channels
                .map(|channel| AwaitedStamps::new(channel.is_stamped))
                .collect(),
            refused: Vec::new(),
            batch: Batch::default(),
            ids: Vec::new(),
            scratch: Vec::new(),
            clock: WallClock::default(),
            ready: (0..sockets as u16)
                .filter(|&index| free[usize::from(index)] > 0)
                .collect(),
            free,
            next_socket: 0,
            made: 0,
            received: 0,
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

    /// Runs until every request has ended; returns the counts.
    pub(super) fn run(mut self) -> WorkerResult {
        // The default timer slack of 50 us would add to the schedule lag.
        let _ = nix::sys::prctl::set_timerslack(1);
        self.start = *self.setup.start.get_or_init(Instant::now);
        let mut events = Vec::with_capacity(64);
        let mut quiet_since = None;
        loop {
            let now = self.now();
            self.update_phase(now);
            self.expire();
            self.send_due(now);
            self.deliver_slices(now);
            if !self.sending && self.in_flight.waiting() == 0 {
                if now >= *quiet_since.get_or_insert(now) + LINGER {
                    break;
                }
            } else {
                quiet_since = None;
            }
            let wake = self.next_wake(quiet_since);
            self.wait(wake, &mut events);
            for Event { socket, is_error } in events.drain(..) {
                if is_error {
                    self.read_error_queue(socket);
                }
                self.receive(socket);
            }
            self.lose_refused();
        }
        self.finish()
    }

    fn now(&self) -> Nanos {
        nanos(self.start.elapsed())
    }

    /// Notices the end of the warm-up and the end of sending.
    fn update_phase(&mut self, now: Nanos) {
        self.note_begin(now);
        let over = self.setup.end.is_some_and(|end| now >= end)
            || self.remaining == Some(0)
            || self.setup.stop.load(Ordering::Relaxed)
            || self.job.role == Role::Probe && self.setup.sending.load(Ordering::Relaxed) == 0;
        if self.sending && over {
            self.sending = false;
            if self.job.role == Role::Load {
                self.setup.sending.fetch_sub(1, Ordering::Relaxed);
            }
            self.ended = Some((now, Usage::of_this_thread()));
            self.count_unsent(now);
        }
    }

    /// Notices the end of the warm-up. Called before the first request that counts.
    fn note_begin(&mut self, now: Nanos) {
        if self.began.is_none() && now >= self.setup.warm_up {
            self.began = Some((now, Usage::of_this_thread()));
            self.restart_counting(now);
        }
    }

    /// The warm-up has ended: requests of its schedule that were not sent are dropped, so that they
    /// do not delay the ones that count.
    fn restart_counting(&mut self, now: Nanos) {
        if let Pace::Open(schedule) = &mut self.job.pace {
            schedule.skip_to(self.setup.warm_up);
        }
        for gaps in self.stats.all_gaps_mut() {
            gaps.restart(now);
        }
    }

    /// Counts the scheduled requests up to the end that the generator did not send.
    fn count_unsent(&mut self, now: Nanos) {
        if self.remaining == Some(0) {
            return;
        }
        let end = self.setup.end.map_or(now, |end| end.min(now));
        if let Pace::Open(schedule) = &mut self.job.pace {
            self.stats.counts.unsent += schedule.skip_to(end);
        }
    }

    /// Delivers the time slices that have ended.
    fn deliver_slices(&mut self, now: Nanos) {
        while now >= self.setup.slice * (self.slices_done as u64 + 1) {
            let slice = std::mem::take(&mut self.slice);
            self.deliver(slice);
            self.slices_done += 1;
        }
    }

    fn deliver(&self, slice: Slice) {
        // The receiver is gone only if the run failed.
        let _ = self.slices.send(Delivery::Slice {
            role: self.job.role,
            index: self.slices_done,
            slice,
        });
    }

    /// The time of the next deadline.
    fn next_wake(&mut self, quiet_since: Option<Nanos>) -> Nanos {
        if !self.refused.is_empty() {
            return 0;
        }
        let mut wake = self.setup.slice * (self.slices_done as u64 + 1);
        if self.sending {
            if let Pace::Open(schedule) = &self.job.pace {
                wake = wake.min(schedule.due());
            }
            wake = wake.min(self.setup.end.unwrap_or(wake));
        }
        let others = [
            self.in_flight.next_expiry(),
            quiet_since.map(|since| since + LINGER),
        ];
        others.into_iter().flatten().fold(wake, Nanos::min)
    }

    /// Waits for replies until `wake`, and appends the sockets that have some to `ready`.
    fn wait(&mut self, wake: Nanos, ready: &mut Vec<Event>) {
        let spin_from = self.spin_from(wake);
        loop {
            let now = self.now();
            let timeout = spin_from.unwrap_or(wake).saturating_sub(now);
            self.wait_for(timeout, ready);
            let is_spinning = spin_from.is_some() && self.now() < wake;
            if !ready.is_empty() || !is_spinning {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// When to start spinning, if the worker waits until a request is due.
    fn spin_from(&self, wake: Nanos) -> Option<Nanos> {
        let Pace::Open(schedule) = &self.job.pace else {
            return None;
        };
        let is_due = self.sending && self.setup.spin && schedule.due() == wake;
        is_due.then(|| wake.saturating_sub(SPIN))
    }

    /// Waits for replies for up to `timeout`.
    fn wait_for(&self, timeout: Nanos, ready: &mut Vec<Event>) {
        let timeout = Timespec {
            tv_sec: (timeout / 1_000_000_000) as i64,
            tv_nsec: (timeout % 1_000_000_000) as i64,
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        // An interrupted wait returns no events; the loop waits again.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            ready.extend(events.iter().map(|&epoll::Event { flags, data }| Event {
                socket: data.u64() as usize,
                is_error: flags.contains(epoll::EventFlags::ERR),
            }));
        }
    }

    fn finish(mut self) -> WorkerResult {
        let slice = std::mem::take(&mut self.slice);
        self.deliver(slice);
        let (began, before) = self.began.unwrap_or_default();
        let (ended, after) = self.ended.unwrap_or_default();
        for gaps in self.stats.all_gaps_mut() {
            gaps.finish(ended);
        }
        let inodes = self.job.channels.iter().map(|channel| channel.inode);
        let inodes: HashSet<_> = inodes.collect();
        WorkerResult {
            role: self.job.role,
            stats: self.stats,
            sending: ended.saturating_sub(began),
            usage: before.zip(after).map(|(before, after)| after - before),
            dropped: sockets::dropped(&inodes),
        }
    }
}

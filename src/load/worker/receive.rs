//! Receiving: replies are matched, checked and counted; requests that are refused or get no reply
//! are lost.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::check::ReplyCheck;
use super::super::error_queue::Entry;
use super::super::in_flight::{InFlight, ReplyKind};
use super::super::nanos::{Nanos, nanos};
use super::super::sockets::AGE_MAX;
use super::super::stats::Tally;
use super::super::usage::Usage;
use super::Worker;
use super::job::{Delivery, Pace};

/// When the kernel received a reply.
#[derive(Clone, Copy)]
struct Received {
    /// Since the start of the run.
    at: Nanos,
    /// Since the epoch, if the kernel stamped it.
    stamp: Option<Duration>,
}

impl Received {
    /// The time from leaving to receipt, both by the kernel's stamps.
    fn stamped_service(&self, request: &InFlight) -> Option<Nanos> {
        let left = (request.left > 0).then_some(request.left)?;
        let service = nanos(self.stamp?).checked_sub(left)?;
        // More means that the clock was set in between.
        (service < nanos(AGE_MAX)).then_some(service)
    }
}

impl Worker<'_> {
    /// Receives one batch from a socket.
    pub(super) fn receive(&mut self, index: usize) {
        let socket = &self.job.channels[index].socket;
        let count = self.inbox.receive(socket, self.setup.batch);
        let (now, unix_now) = (self.now(), unix_time());
        let answered_before = self.stats.counts.answered;
        for index in 0..count {
            let age = self.inbox.age(index, unix_now);
            let received = Received {
                at: now.saturating_sub(nanos(age)),
                stamp: self.inbox.stamp(index),
            };
            self.process(index, received);
        }
        let is_counted_loop =
            self.job.requests.is_some() && matches!(self.job.pace, Pace::Closed(_));
        if !self.sending && is_counted_loop && self.stats.counts.answered > answered_before {
            self.ended = Some((now, Usage::of_this_thread()));
        }
    }

    /// Reads when requests left, and which were refused. [`Worker::lose_refused`] counts these.
    pub(super) fn read_error_queue(&mut self, index: usize) {
        let run = self.setup.run;
        let socket = &self.job.channels[index].socket;
        let (stamps, in_flight) = (&mut self.stamps[index], &mut self.in_flight);
        self.errors.read(socket, |entry| match entry {
            Entry::Refused(start) => self.refused.extend(run.find(start)),
            Entry::Left { number, at } => {
                if let Some(id) = stamps.take(number) {
                    in_flight.left(id, nanos(at));
                }
            }
        });
    }

    /// Counts the refused requests as lost, unless their replies have arrived.
    pub(super) fn lose_refused(&mut self) {
        for id in std::mem::take(&mut self.refused) {
            if let Some(request) = self.in_flight.lose(id) {
                self.stats.counts.refused += u64::from(request.counted);
                self.lose(request);
            }
        }
    }

    /// Processes one datagram of the last batch.
    fn process(&mut self, index: usize, received: Received) {
        let (reply, len) = self.inbox.datagram(index);
        let counts = &mut self.stats.counts;
        let Some(id) = self.setup.run.find(&reply[..len]) else {
            counts.stray += 1;
            return;
        };
        let (request, reordered) = match self.in_flight.complete(id) {
            ReplyKind::First { request, reordered } => (request, reordered),
            ReplyKind::Late { request } => {
                let counted = u64::from(request.counted);
                if request.corrupted {
                    // It was counted as silent too early.
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
        if request.corrupted {
            counts.unexpected += u64::from(request.counted);
            return;
        }
        self.received += 1;
        let verify = u64::from(self.setup.verify);
        let query = request.query as usize;
        let check = if verify > 0 && self.received.is_multiple_of(verify) {
            let rsalt = self.setup.run.rsalt(id);
            self.checker.check(reply, len, &rsalt, query)
        } else {
            ReplyCheck::Ok
        };
        self.release(request.socket);
        self.count_reply(request, check, reordered, len, received);
    }

    fn count_reply(
        &mut self,
        request: InFlight,
        check: ReplyCheck,
        reordered: bool,
        len: usize,
        received: Received,
    ) {
        let latency = received.at.saturating_sub(request.intended);
        let counted = u64::from(request.counted);
        let counts = &mut self.stats.counts;
        counts.reordered += u64::from(reordered) * counted;
        let wrong = match check {
            ReplyCheck::BadHmac => Some(&mut counts.bad_hmac),
            ReplyCheck::Malformed => Some(&mut counts.malformed),
            ReplyCheck::Inconsistent => Some(&mut counts.inconsistent),
            ReplyCheck::Ok | ReplyCheck::Error => None,
        };
        let target = self.job.channels[usize::from(request.socket)].target;
        if let Some(count) = wrong {
            *count += counted;
            for gaps in self.stats.gaps_mut(target) {
                gaps.answered_wrongly();
            }
            return;
        }
        for gaps in self.stats.gaps_mut(target) {
            gaps.answered(received.at);
        }
        self.slice.record(latency);
        if !request.counted {
            return;
        }
        let error = u64::from(check == ReplyCheck::Error);
        let counts = &mut self.stats.counts;
        counts.answered += 1;
        counts.errors += error;
        counts.bytes_received += len as u64;
        let stamped = received.stamped_service(&request);
        counts.stamped += u64::from(stamped.is_some());
        let service = stamped.unwrap_or_else(|| received.at.saturating_sub(request.sent));
        for tally in self.tallies(request) {
            tally.answered += 1;
            tally.errors += error;
            tally.latency.record(latency);
            tally.service.record(service);
        }
    }

    fn tallies(&mut self, request: InFlight) -> impl Iterator<Item = &mut Tally> {
        let kind = self.setup.templates[request.query as usize].kind;
        let target = self.job.channels[usize::from(request.socket)].target;
        self.stats.tallies(kind, target)
    }

    /// Closed loop: lets the socket send another request.
    fn release(&mut self, socket: u16) {
        if let Pace::Closed(_) = self.job.pace {
            let free = &mut self.free[usize::from(socket)];
            if *free == 0 {
                self.ready.push(socket);
            }
            *free += 1;
        }
    }

    /// Counts the requests that are lost by now.
    pub(super) fn expire(&mut self) {
        let now = self.now();
        // Collected first, because counting borrows all of `self`. Losses are rare.
        let mut lost = Vec::new();
        self.in_flight.expire(now, |request| lost.push(request));
        for request in lost {
            self.lose(request);
        }
    }

    /// Counts a request that was lost.
    fn lose(&mut self, request: InFlight) {
        if request.corrupted {
            self.stats.counts.silent += u64::from(request.counted);
            return;
        }
        let target = self.job.channels[usize::from(request.socket)].target;
        for gaps in self.stats.gaps_mut(target) {
            gaps.lost();
        }
        self.lost_in_slice(request.sent);
        self.release(request.socket);
        if !request.counted {
            return;
        }
        self.stats.counts.lost += 1;
        let latency = self.setup.lost_latency;
        for tally in self.tallies(request) {
            tally.lost += 1;
            if let Some(latency) = latency {
                tally.latency.record(latency);
                tally.service.record(latency);
            }
        }
    }

    /// Counts the loss in the time slice in which the request was sent, which may have been
    /// delivered already.
    fn lost_in_slice(&mut self, sent: Nanos) {
        let index = (sent / self.setup.slice) as usize;
        if index >= self.slices_done {
            self.slice.lost += 1;
        } else {
            // The receiver is gone only if the run failed.
            let _ = self.slices.send(Delivery::Lost {
                role: self.job.role,
                index,
            });
        }
    }
}

/// The time since the epoch, as the kernel stamps datagrams.
fn unix_time() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

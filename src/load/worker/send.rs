//! Sending: when, through which socket, and which request.

use super::super::in_flight::InFlight;
use super::super::nanos::Nanos;
use super::super::rsalt::RequestId;
use super::super::template::{Corruption, MALFORMED_KINDS, SALT_BYTES, STALE_SECONDS};
use super::Worker;
use super::job::{Pace, Role};
use crate::clock;

impl Worker<'_> {
    /// Sends what is due.
    pub(super) fn send_due(&mut self, now: Nanos) {
        if !self.sending {
            return;
        }
        match self.job.pace {
            Pace::Closed(_) => {
                while let Some(socket) = self.ready.pop() {
                    if !self.fill(socket) {
                        // Corrupted requests fill the table until they expire.
                        self.ready.push(socket);
                        break;
                    }
                }
            }
            // At most one batch, so that replies are received between the batches of a backlog.
            Pace::Open(_) => self.catch_up(now),
        }
    }

    /// Closed loop: sends until the socket has all its requests in flight; `false` if the table is
    /// full.
    fn fill(&mut self, socket: u16) -> bool {
        let index = usize::from(socket);
        let mut room = true;
        while room && self.free[index] > 0 && self.remaining != Some(0) {
            self.clock.update();
            let now = self.now();
            self.note_begin(now);
            while self.batch.len() < self.setup.batch
                && self.free[index] > 0
                && self.remaining != Some(0)
            {
                let Some(corrupted) = self.make(socket, now) else {
                    room = false;
                    break;
                };
                // A corrupted request gets no answer, so it does not count as in flight.
                self.free[index] -= usize::from(!corrupted);
            }
            self.send_batch(socket);
        }
        room
    }

    /// Open loop: sends what is due, at most one batch, through the next socket.
    fn catch_up(&mut self, now: Nanos) {
        let socket = self.next_socket as u16;
        self.clock.update();
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

    /// Appends a request to the batch. Returns whether it is corrupted; `None` if the table is
    /// full.
    fn make(&mut self, socket: u16, intended: Nanos) -> Option<bool> {
        let setup = self.setup;
        let number = self.made * setup.workers as u64 + u64::from(self.job.index);
        let query = setup.workload.next(number, &mut self.random);
        let corruption = self.draw_corruption();
        let counted = intended >= setup.warm_up;
        let id = self.in_flight.register(InFlight {
            intended,
            sent: intended,
            left: 0,
            query: query as u32,
            socket,
            corrupted: corruption.is_some(),
            counted,
        })?;
        self.made += 1;
        if counted && let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        let template = &setup.templates[query];
        let salt = match corruption {
            Some(Corruption::Stale) => &self.clock.stale,
            _ => &self.clock.fresh,
        };
        let rsalt = setup.run.rsalt(id);
        let start = self.batch.start();
        let out = &mut self.batch.bytes;
        template.write(&setup.key, salt, &rsalt, &mut self.scratch, out);
        if let Some(corruption) = corruption {
            template.corrupt(corruption, &mut out[start..]);
        }
        self.batch.close();
        self.ids.push(id);
        Some(corruption.is_some())
    }

    fn draw_corruption(&mut self) -> Option<Corruption> {
        let [malformed, badly_signed, stale] = self.setup.corrupted_shares;
        if self.job.role == Role::Probe || malformed + badly_signed + stale == 0.0 {
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

    /// Sends the batch and clears it.
    fn send_batch(&mut self, socket: u16) {
        let channel = &self.job.channels[usize::from(socket)];
        let target = channel.target;
        let before = self.now();
        let outcome = self.outbox.send(&channel.socket, &self.batch);
        self.stats.counts.unsendable += outcome.unsendable;
        let took = self.now() - before;
        if before >= self.setup.warm_up {
            self.stats.counts.bytes_sent += self.batch.bytes.len() as u64;
        }
        self.batch.clear();
        let ids = std::mem::take(&mut self.ids);
        for (index, &id) in (0..).zip(&ids) {
            // The datagrams of a batch leave one after the other.
            let sent = before + took * index / ids.len() as u64;
            self.count_sent(id, sent, target);
        }
        let stamps = &mut self.stamps[usize::from(socket)];
        if !outcome.is_clean {
            stamps.disable();
        }
        ids.iter().for_each(|&id| stamps.sent(id));
        if stamps.is_enabled() {
            // The stamps of a local target are there already.
            self.read_error_queue(usize::from(socket));
        }
        self.ids = ids;
        self.ids.clear();
    }

    fn count_sent(&mut self, id: RequestId, sent: Nanos, target: usize) {
        let is_scheduled = matches!(self.job.pace, Pace::Open(_));
        let request = self.in_flight.sent(id, sent, is_scheduled);
        self.slice.sent += 1;
        if !request.corrupted {
            for gaps in self.stats.gaps_mut(target) {
                gaps.sent(sent);
            }
        }
        if !request.counted {
            return;
        }
        if request.corrupted {
            self.stats.counts.corrupted += 1;
        } else {
            self.stats.counts.sent += 1;
            let kind = self.setup.templates[request.query as usize].kind;
            for tally in self.stats.tallies(kind, target) {
                tally.sent += 1;
            }
        }
        if is_scheduled {
            let lag = sent.saturating_sub(request.intended);
            self.stats.lag.record(lag);
        }
    }
}

/// The salts of the current second.
#[derive(Debug, Default)]
pub(super) struct WallClock {
    seconds: u64,
    fresh: [u8; SALT_BYTES],
    stale: [u8; SALT_BYTES],
}

impl WallClock {
    /// Reads the clock.
    fn update(&mut self) {
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

//! The requests in flight of one worker, and how each ends: answered, lost, answered late,
//! answered twice or answered out of order.
//!
//! Pure: times are arguments, in nanoseconds since the start of the run. The slot number in its
//! salt leads a reply to its request, and the generation shows whether that request is still
//! waiting. Nothing is searched. Memory is bounded by [`IN_FLIGHT_MAX`] and [`LOST_MAX`].

use std::collections::{HashMap, VecDeque};

use super::nanos::Nanos;
use super::rsalt::{RequestId, SLOTS_MAX};

/// The limit of requests in flight per worker: 2 s at 500,000 per second without an answer.
pub(super) const IN_FLIGHT_MAX: usize = 1 << 20;

/// The number of lost requests whose late replies are recognized. When it is reached, the table of
/// lost requests is cleared, and late replies to them count as duplicates.
const LOST_MAX: usize = 1 << 19;

const _: () = assert!(IN_FLIGHT_MAX <= SLOTS_MAX);

/// A request, as known when it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    /// When it was due; in a closed loop, when it was sent.
    pub(super) intended: Nanos,
    /// When it was sent.
    pub(super) sent: Nanos,
    /// When it left, according to the kernel, in nanoseconds since the epoch; 0 if that is not
    /// known.
    pub(super) left: Nanos,
    /// Index of its query.
    pub(super) query: u32,
    /// Index of the worker's socket that sent it.
    pub(super) socket: u16,
    /// It is corrupted on purpose and must get no reply.
    pub(super) corrupted: bool,
    /// It was due after the warm-up, so it is counted.
    pub(super) counted: bool,
}

/// How a reply relates to the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// The first reply to a request that is waiting.
    First {
        /// The request.
        request: InFlight,
        /// A later request on the same socket was answered earlier.
        reordered: bool,
    },
    /// The first reply to a request that had expired.
    Late {
        /// The request.
        request: InFlight,
    },
    /// The request was already answered.
    Duplicate,
    /// No request of this worker has this ID.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    request: InFlight,
    generation: u32,
    /// Position in the order of the requests of its socket.
    sequence: u32,
    waiting: bool,
}

/// The table of requests in flight.
#[derive(Debug)]
pub(super) struct InFlightTable {
    thread: u8,
    lost_after: Nanos,
    slots: Vec<Entry>,
    free: Vec<u32>,
    /// Slots and generations in the order of sending, which is the order of expiry.
    order: VecDeque<(u32, u32)>,
    /// Expired requests by slot and generation; they may still be answered.
    lost: HashMap<(u32, u32), InFlight>,
    waiting: usize,
    /// By socket: the number of requests sent, and the highest position answered.
    positions: Vec<(u32, u32)>,
}

impl InFlightTable {
    /// An empty table for worker `thread`. A request is lost `lost_after` after it was sent.
    pub(super) fn new(thread: u8, sockets: usize, lost_after: Nanos) -> Self {
        Self {
            thread,
            lost_after,
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            lost: HashMap::new(),
            waiting: 0,
            positions: vec![(0, 0); sockets],
        }
    }

    /// The number of requests that have neither been answered nor expired.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a request; `None` if the table is full.
    pub(super) fn register(&mut self, request: InFlight) -> Option<RequestId> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < IN_FLIGHT_MAX => {
                self.slots.push(Entry::default());
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let (sent, _) = &mut self.positions[usize::from(request.socket)];
        *sent = sent.wrapping_add(1);
        let sequence = *sent;
        let entry = &mut self.slots[slot as usize];
        *entry = Entry {
            request,
            generation: entry.generation.wrapping_add(1),
            sequence,
            waiting: true,
        };
        self.waiting += 1;
        self.order.push_back((slot, entry.generation));
        Some(RequestId {
            thread: self.thread,
            slot,
            generation: entry.generation,
        })
    }

    /// Records when a request was sent; calls must be in the order of [`InFlightTable::register`].
    /// Unless it is `scheduled`, that is also when it was due.
    pub(super) fn sent(&mut self, id: RequestId, now: Nanos, scheduled: bool) -> InFlight {
        let request = &mut self.slots[id.slot as usize].request;
        request.sent = now;
        if !scheduled {
            request.intended = now;
        }
        *request
    }

    /// Records when a request left, in nanoseconds since the epoch, unless it has ended.
    pub(super) fn left(&mut self, id: RequestId, at: Nanos) {
        let entry = self.slots.get_mut(id.slot as usize);
        if let Some(entry) = entry.filter(|it| it.waiting && it.generation == id.generation) {
            entry.request.left = at;
        }
    }

    /// Records a reply.
    pub(super) fn complete(&mut self, id: RequestId) -> ReplyKind {
        let Some(entry) = self.slots.get_mut(id.slot as usize) else {
            return ReplyKind::Unknown;
        };
        if id.thread != self.thread {
            return ReplyKind::Unknown;
        }
        if !entry.waiting || entry.generation != id.generation {
            return match self.lost.remove(&(id.slot, id.generation)) {
                Some(request) => ReplyKind::Late { request },
                None => ReplyKind::Duplicate,
            };
        }
        entry.waiting = false;
        let (request, sequence) = (entry.request, entry.sequence);
        self.waiting -= 1;
        self.free.push(id.slot);
        let (_, highest) = &mut self.positions[usize::from(request.socket)];
        // Positions wrap around, but the ones in flight are close together.
        let ahead = sequence.wrapping_sub(*highest) as i32;
        if ahead > 0 {
            *highest = sequence;
        }
        ReplyKind::First {
            request,
            reordered: ahead < 0,
        }
    }

    /// Ends a waiting request as lost, before it expires; `None` if it is not waiting.
    pub(super) fn lose(&mut self, id: RequestId) -> Option<InFlight> {
        let entry = self.slots.get_mut(id.slot as usize)?;
        if id.thread != self.thread || !entry.waiting || entry.generation != id.generation {
            return None;
        }
        entry.waiting = false;
        let request = entry.request;
        self.keep_lost(id.slot, id.generation, request);
        Some(request)
    }

    /// Frees the slot of a lost request, and remembers it for a late reply.
    fn keep_lost(&mut self, slot: u32, generation: u32, request: InFlight) {
        self.waiting -= 1;
        self.free.push(slot);
        if self.lost.len() == LOST_MAX {
            self.lost.clear();
        }
        self.lost.insert((slot, generation), request);
    }

    /// Removes the requests that are lost, oldest first, and passes each to `lost`.
    pub(super) fn expire(&mut self, now: Nanos, mut lost: impl FnMut(InFlight)) {
        while let Some(&(slot, generation)) = self.order.front() {
            let entry = &mut self.slots[slot as usize];
            if entry.waiting && entry.generation == generation {
                if entry.request.sent + self.lost_after > now {
                    break;
                }
                entry.waiting = false;
                let request = entry.request;
                self.keep_lost(slot, generation, request);
                lost(request);
            }
            self.order.pop_front();
        }
    }

    /// When the next request expires, unless it is answered before.
    pub(super) fn next_expiry(&mut self) -> Option<Nanos> {
        while let Some(&(slot, generation)) = self.order.front() {
            let entry = &self.slots[slot as usize];
            if entry.waiting && entry.generation == generation {
                return Some(entry.request.sent + self.lost_after);
            }
            self.order.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> InFlightTable {
        InFlightTable::new(0, 2, 100)
    }

    fn at(now: Nanos) -> InFlight {
        InFlight {
            intended: now,
            sent: now,
            ..InFlight::default()
        }
    }

    fn expired(table: &mut InFlightTable, now: Nanos) -> Vec<Nanos> {
        let mut sent = Vec::new();
        table.expire(now, |request| sent.push(request.sent));
        sent
    }

    fn first(reply: ReplyKind) -> bool {
        matches!(
            reply,
            ReplyKind::First {
                reordered: false,
                ..
            }
        )
    }

    #[test]
    fn a_second_reply_is_a_duplicate() {
        let mut table = table();
        let id = table.register(at(5)).expect("room");
        assert_eq!(table.waiting(), 1);
        assert!(first(table.complete(id)));
        assert_eq!(table.complete(id), ReplyKind::Duplicate);
        assert_eq!(table.waiting(), 0);
        assert!(expired(&mut table, 1000).is_empty());
    }

    #[test]
    fn a_duplicate_is_recognized_after_its_slot_was_reused() {
        let mut table = table();
        let old = table.register(at(0)).expect("room");
        assert!(first(table.complete(old)));
        let new = table.register(at(1)).expect("room");
        assert_eq!(new.slot, old.slot);
        assert_eq!(table.complete(old), ReplyKind::Duplicate);
        assert!(first(table.complete(new)));
    }

    #[test]
    fn a_lost_request_can_be_answered_late_and_then_twice() {
        let mut table = table();
        let id = table.register(at(0)).expect("room");
        let other = table.register(at(50)).expect("room");
        assert!(expired(&mut table, 99).is_empty());
        assert_eq!(expired(&mut table, 100), [0]);
        assert_eq!(table.next_expiry(), Some(150));
        assert_eq!(table.complete(id), ReplyKind::Late { request: at(0) });
        assert_eq!(table.complete(id), ReplyKind::Duplicate);
        assert!(first(table.complete(other)));
    }

    #[test]
    fn the_time_of_leaving_is_that_of_a_waiting_request() {
        let mut table = table();
        let old = table.register(at(0)).expect("room");
        table.left(old, 7);
        let ReplyKind::First { request, .. } = table.complete(old) else {
            panic!("it waits");
        };
        assert_eq!(request.left, 7);
        let new = table.register(at(1)).expect("room");
        table.left(old, 8);
        let ReplyKind::First { request, .. } = table.complete(new) else {
            panic!("it waits");
        };
        assert_eq!(request.left, 0, "of another request in the same slot");
    }

    #[test]
    fn a_refused_request_is_lost_at_once() {
        let mut table = table();
        let id = table.register(at(0)).expect("room");
        assert_eq!(table.lose(id), Some(at(0)));
        assert_eq!(table.lose(id), None);
        assert_eq!(table.waiting(), 0);
        assert!(expired(&mut table, 1000).is_empty());
        assert_eq!(table.complete(id), ReplyKind::Late { request: at(0) });
    }

    #[test]
    fn reordering_is_recognized_per_socket() {
        let mut table = table();
        let mut on = |socket| {
            let request = InFlight { socket, ..at(0) };
            table.register(request).expect("room")
        };
        let (a, b, c, other) = (on(0), on(0), on(0), on(1));
        assert!(first(table.complete(b)));
        assert!(first(table.complete(other)), "on another socket");
        let reply = table.complete(a);
        assert!(matches!(
            reply,
            ReplyKind::First {
                reordered: true,
                ..
            }
        ));
        assert!(first(table.complete(c)));
    }

    #[test]
    fn an_id_that_was_never_sent_is_unknown() {
        let mut table = table();
        let id = table.register(at(0)).expect("room");
        assert_eq!(
            table.complete(RequestId { slot: 9, ..id }),
            ReplyKind::Unknown
        );
        assert_eq!(
            table.complete(RequestId { thread: 1, ..id }),
            ReplyKind::Unknown
        );
    }

    #[test]
    fn slots_are_reused_and_the_table_stays_small() {
        let mut table = table();
        for now in 0..10_000 {
            let id = table.register(at(now)).expect("room");
            if now % 10 != 0 {
                assert!(first(table.complete(id)));
            }
            expired(&mut table, now);
        }
        assert!(table.slots.len() <= 20, "{} slots", table.slots.len());
        assert!(table.order.len() <= 110);
    }
}

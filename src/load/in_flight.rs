//! The requests in flight of one worker, and what becomes of them: answered, lost, answered late, answered twice, answered out of order.
//!
//! Pure: times are arguments, in nanoseconds since the start of the run. A reply finds its request by the slot in its salt; the slot's
//! generation tells whether the request still waits there. Nothing is searched, and memory is bounded by [`IN_FLIGHT_MAX`] and
//! [`LOST_MAX`].

use std::collections::{HashMap, VecDeque};

use super::Nanos;
use super::rsalt::{SLOTS_MAX, Tag};

/// The most requests a worker has in flight: two seconds of 500,000 a second, none of them answered.
pub(super) const IN_FLIGHT_MAX: usize = 1 << 20;

/// Lost requests whose late replies are recognised. When there are more all are forgotten: late replies to them count as duplicates.
const LOST_MAX: usize = 1 << 19;

const _: () = assert!(IN_FLIGHT_MAX <= SLOTS_MAX);

/// What is known of a request when it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    /// When it was to be sent; in a closed loop, when it was.
    pub(super) intended: Nanos,
    /// When it was sent.
    pub(super) sent: Nanos,
    /// Which query it asks.
    pub(super) query: u32,
    /// Through which of the worker's sockets.
    pub(super) socket: u16,
    /// It is damaged: there must be no reply.
    pub(super) damaged: bool,
    /// It counts: the warm-up is over.
    pub(super) counted: bool,
}

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// The first reply to a request that waited for it.
    First {
        /// The request.
        flight: InFlight,
        /// A later request on the same socket was answered before.
        reordered: bool,
    },
    /// The first reply to a request that had been given up.
    Late {
        /// The request.
        flight: InFlight,
    },
    /// The request was answered before.
    Duplicate,
    /// No such request was ever sent.
    Unknown,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    flight: InFlight,
    generation: u32,
    /// Position among the requests of its socket.
    sequence: u32,
    waiting: bool,
}

/// The table of requests in flight.
#[derive(Debug)]
pub(super) struct InFlightTable {
    thread: u8,
    patience: Nanos,
    slots: Vec<Entry>,
    free: Vec<u32>,
    /// Slots and generations in the order of sending, which is that of expiry.
    order: VecDeque<(u32, u32)>,
    /// Those that were given up, by slot and generation: they may still be answered.
    lost: HashMap<(u32, u32), InFlight>,
    waiting: usize,
    /// For each socket, requests sent and the highest position answered.
    positions: Vec<(u32, u32)>,
}

impl InFlightTable {
    /// An empty table for worker `thread`; a request is lost after `patience`.
    pub(super) fn new(thread: u8, sockets: usize, patience: Nanos) -> Self {
        Self {
            thread,
            patience,
            slots: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            lost: HashMap::new(),
            waiting: 0,
            positions: vec![(0, 0); sockets],
        }
    }

    /// Requests that wait for a reply, or for the end of the time in which there must be none.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a request in; `None` if the table is full.
    pub(super) fn register(&mut self, flight: InFlight) -> Option<Tag> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < IN_FLIGHT_MAX => {
                self.slots.push(Entry::default());
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let (sent, _) = &mut self.positions[usize::from(flight.socket)];
        *sent = sent.wrapping_add(1);
        let sequence = *sent;
        let place = &mut self.slots[slot as usize];
        *place = Entry {
            flight,
            generation: place.generation.wrapping_add(1),
            sequence,
            waiting: true,
        };
        self.waiting += 1;
        self.order.push_back((slot, place.generation));
        Some(Tag {
            thread: self.thread,
            slot,
            generation: place.generation,
        })
    }

    /// Notes when a request just launched is really sent, never before an earlier one. Without a schedule that is also when it was
    /// to be sent.
    pub(super) fn sent(&mut self, tag: Tag, now: Nanos, scheduled: bool) -> InFlight {
        let flight = &mut self.slots[tag.slot as usize].flight;
        flight.sent = now;
        if !scheduled {
            flight.intended = now;
        }
        *flight
    }

    /// Takes in a reply.
    pub(super) fn complete(&mut self, tag: Tag) -> ReplyKind {
        let Some(place) = self.slots.get_mut(tag.slot as usize) else {
            return ReplyKind::Unknown;
        };
        if tag.thread != self.thread {
            return ReplyKind::Unknown;
        }
        if !place.waiting || place.generation != tag.generation {
            return match self.lost.remove(&(tag.slot, tag.generation)) {
                Some(flight) => ReplyKind::Late { flight },
                None => ReplyKind::Duplicate,
            };
        }
        place.waiting = false;
        let (flight, sequence) = (place.flight, place.sequence);
        self.waiting -= 1;
        self.free.push(tag.slot);
        let (_, highest) = &mut self.positions[usize::from(flight.socket)];
        // Positions wrap; those in flight are close together.
        let ahead = sequence.wrapping_sub(*highest) as i32;
        if ahead > 0 {
            *highest = sequence;
        }
        ReplyKind::First {
            flight,
            reordered: ahead < 0,
        }
    }

    /// Gives up what has waited too long, oldest first, and hands it to `lost`.
    pub(super) fn expire(&mut self, now: Nanos, mut lost: impl FnMut(InFlight)) {
        while let Some(&(slot, generation)) = self.order.front() {
            let place = &mut self.slots[slot as usize];
            if place.waiting && place.generation == generation {
                if place.flight.sent + self.patience > now {
                    break;
                }
                place.waiting = false;
                self.waiting -= 1;
                self.free.push(slot);
                if self.lost.len() == LOST_MAX {
                    self.lost.clear();
                }
                self.lost.insert((slot, generation), place.flight);
                lost(place.flight);
            }
            self.order.pop_front();
        }
    }

    /// When [`InFlightTable::expire`] has something to do next.
    pub(super) fn next_expiry(&mut self) -> Option<Nanos> {
        while let Some(&(slot, generation)) = self.order.front() {
            let place = &self.slots[slot as usize];
            if place.waiting && place.generation == generation {
                return Some(place.flight.sent + self.patience);
            }
            self.order.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights() -> InFlightTable {
        InFlightTable::new(0, 2, 100)
    }

    fn at(now: Nanos) -> InFlight {
        InFlight {
            intended: now,
            sent: now,
            ..InFlight::default()
        }
    }

    fn expired(flights: &mut InFlightTable, now: Nanos) -> Vec<Nanos> {
        let mut sent = Vec::new();
        flights.expire(now, |flight| sent.push(flight.sent));
        sent
    }

    fn first(landing: ReplyKind) -> bool {
        matches!(
            landing,
            ReplyKind::First {
                reordered: false,
                ..
            }
        )
    }

    #[test]
    fn answered_once_and_then_twice() {
        let mut flights = flights();
        let tag = flights.register(at(5)).expect("room");
        assert_eq!(flights.waiting(), 1);
        assert!(first(flights.complete(tag)));
        assert_eq!(flights.complete(tag), ReplyKind::Duplicate);
        assert_eq!(flights.waiting(), 0);
        assert!(expired(&mut flights, 1000).is_empty());
    }

    #[test]
    fn duplicates_are_seen_after_the_slot_is_taken_again() {
        let mut flights = flights();
        let old = flights.register(at(0)).expect("room");
        assert!(first(flights.complete(old)));
        let new = flights.register(at(1)).expect("room");
        assert_eq!(new.slot, old.slot);
        assert_eq!(flights.complete(old), ReplyKind::Duplicate);
        assert!(first(flights.complete(new)));
    }

    #[test]
    fn lost_then_late_then_a_duplicate() {
        let mut flights = flights();
        let tag = flights.register(at(0)).expect("room");
        let other = flights.register(at(50)).expect("room");
        assert!(expired(&mut flights, 99).is_empty());
        assert_eq!(expired(&mut flights, 100), [0]);
        assert_eq!(flights.next_expiry(), Some(150));
        assert_eq!(flights.complete(tag), ReplyKind::Late { flight: at(0) });
        assert_eq!(flights.complete(tag), ReplyKind::Duplicate);
        assert!(first(flights.complete(other)));
    }

    #[test]
    fn out_of_order_is_told_for_each_socket() {
        let mut flights = flights();
        let mut on = |socket| {
            let flight = InFlight { socket, ..at(0) };
            flights.register(flight).expect("room")
        };
        let (a, b, c, other) = (on(0), on(0), on(0), on(1));
        assert!(first(flights.complete(b)));
        assert!(first(flights.complete(other)), "of another socket");
        let landing = flights.complete(a);
        assert!(matches!(
            landing,
            ReplyKind::First {
                reordered: true,
                ..
            }
        ));
        assert!(first(flights.complete(c)));
    }

    #[test]
    fn what_was_never_sent_is_unknown() {
        let mut flights = flights();
        let tag = flights.register(at(0)).expect("room");
        assert_eq!(flights.complete(Tag { slot: 9, ..tag }), ReplyKind::Unknown);
        assert_eq!(
            flights.complete(Tag { thread: 1, ..tag }),
            ReplyKind::Unknown
        );
    }

    #[test]
    fn slots_are_used_again_and_the_table_stays_small() {
        let mut flights = flights();
        for now in 0..10_000 {
            let tag = flights.register(at(now)).expect("room");
            if now % 10 != 0 {
                assert!(first(flights.complete(tag)));
            }
            expired(&mut flights, now);
        }
        assert!(flights.slots.len() <= 20, "{} slots", flights.slots.len());
        assert!(flights.order.len() <= 110);
    }
}

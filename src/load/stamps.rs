//! Which request a time stamp of the kernel belongs to.
//!
//! Pure. The kernel numbers the datagrams of a socket from 0. Its stamps come in that order, but
//! some may be missing.

use std::collections::VecDeque;

use super::rsalt::RequestId;

/// Requests of one socket whose stamps are awaited; the stamps of older ones are given up.
const WAITING_MAX: usize = 4_096;

/// The requests of one socket that wait for a stamp.
#[derive(Clone, Debug)]
pub(super) struct AwaitedStamps {
    /// The number of the first one.
    first: u32,
    waiting: VecDeque<RequestId>,
    is_enabled: bool,
}

impl AwaitedStamps {
    /// `is_enabled`: the socket is stamped.
    pub(super) fn new(is_enabled: bool) -> Self {
        Self {
            first: 0,
            waiting: VecDeque::new(),
            is_enabled,
        }
    }

    /// Whether stamps are awaited at all.
    pub(super) fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// The numbers are not certain any more, because the kernel refused a datagram: kernels differ
    /// in whether it has a number. From now on, there are no stamps.
    pub(super) fn disable(&mut self) {
        self.is_enabled = false;
        self.waiting.clear();
    }

    /// A request was sent.
    pub(super) fn sent(&mut self, id: RequestId) {
        if !self.is_enabled {
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        self.waiting.push_back(id);
    }

    /// The request whose stamp has this number.
    pub(super) fn take(&mut self, number: u32) -> Option<RequestId> {
        let skipped = number.wrapping_sub(self.first) as usize;
        if skipped >= self.waiting.len() {
            return None;
        }
        self.waiting.drain(..skipped);
        self.first = number.wrapping_add(1);
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> RequestId {
        RequestId {
            thread: 0,
            slot,
            generation: 1,
        }
    }

    #[test]
    fn a_stamp_finds_its_request() {
        let mut stamps = AwaitedStamps::new(true);
        for slot in 0..5 {
            stamps.sent(id(slot));
        }
        assert_eq!(stamps.take(0), Some(id(0)));
        assert_eq!(stamps.take(2), Some(id(2)), "one is missing");
        assert_eq!(stamps.take(1), None, "out of order");
        assert_eq!(stamps.take(3), Some(id(3)));
        assert_eq!(stamps.take(7), None, "not sent yet");
        assert_eq!(stamps.take(4), Some(id(4)));
        stamps.disable();
        stamps.sent(id(9));
        assert_eq!(stamps.take(5), None);
    }

    #[test]
    fn numbers_wrap_and_memory_is_bounded() {
        let mut stamps = AwaitedStamps::new(true);
        stamps.first = u32::MAX;
        stamps.sent(id(0));
        stamps.sent(id(1));
        assert_eq!(stamps.take(u32::MAX), Some(id(0)));
        assert_eq!(stamps.take(0), Some(id(1)));
        for slot in 0..10_000 {
            stamps.sent(id(slot));
        }
        assert_eq!(stamps.waiting.len(), WAITING_MAX);
        assert_eq!(stamps.take(10_000), Some(id(9_999)));
    }
}

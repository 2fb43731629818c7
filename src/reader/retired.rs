//! What is not served any more, until no worker looks at it.
//!
//! A snapshot may hold a hundred megabytes; giving them back takes milliseconds, which a worker does not have. So the reader
//! keeps a count of its own on everything it replaced, and drops it when that is the only one left. There are never more
//! than one per worker, because a worker's cache holds only one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::responder::Served;

/// The first wait for the workers to let go. They were woken, and need one turn of their loop.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// The longest wait, for a worker that did not hear the call.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The replaced ones, and when to look whether they can go.
#[derive(Debug, Default)]
pub(super) struct Retired {
    waiting: Vec<Arc<Served>>,
    next: Option<(Instant, Duration)>,
}

impl Retired {
    /// Takes over what was just replaced.
    pub(super) fn push(&mut self, now: Instant, old: Arc<Served>) {
        self.waiting.push(old);
        self.next = Some((now + WAIT_MIN, WAIT_MIN));
    }

    /// When to [`sweep`](Self::sweep) next; `None` if nothing waits.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// Frees what nobody else holds, if the wait is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        let Some((_, waited)) = self.next.filter(|&(at, _)| at <= now) else {
            return;
        };
        // Nobody can take a new count on one that is not published any more: a count of one stays one.
        self.waiting.retain(|old| Arc::strong_count(old) > 1);
        let wait = (waited * 2).min(WAIT_MAX);
        self.next = (!self.waiting.is_empty()).then_some((now + wait, wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Key;
    use crate::snapshot::Snapshot;

    #[test]
    fn frees_what_the_workers_let_go_and_waits_longer_and_longer() {
        let served = Arc::new(Served {
            key: Arc::new(Key::new(b"k").expect("a key")),
            snapshot: Arc::new(Snapshot::unavailable("")),
        });
        let (worker, freed) = (served.clone(), Arc::downgrade(&served));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut retired = Retired::default();
        retired.push(start, served);
        assert_eq!(retired.next(), Some(at(10)));
        retired.sweep(at(10));
        assert_eq!(retired.next(), Some(at(30)));
        drop(worker);
        retired.sweep(at(29));
        assert!(freed.upgrade().is_some(), "its time has not come");
        retired.sweep(at(30));
        assert!(freed.upgrade().is_none(), "nobody holds it");
        assert_eq!(retired.next(), None);
    }
}

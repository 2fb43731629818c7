//! Defers freeing replaced snapshots until no worker uses them.
//!
//! A snapshot can occupy a hundred megabytes, and freeing it takes milliseconds, which is too long
//! for a worker. The reader therefore keeps a reference to every state it replaced, and drops it
//! once that is the last reference. A worker caches only one state at a time, so there is at most
//! one retired state per worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::responder::Served;

/// Delay of the first check. The workers have been woken and release the old state in their next
/// loop iteration.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// Upper bound of the delay, which doubles after each check.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The replaced states that workers may still use.
#[derive(Debug, Default)]
pub(super) struct Retired {
    waiting: Vec<Arc<Served>>,
    /// Time of the next check, and the delay before it.
    next: Option<(Instant, Duration)>,
}

impl Retired {
    /// Adds a state that was just replaced.
    pub(super) fn push(&mut self, now: Instant, old: Arc<Served>) {
        self.waiting.push(old);
        self.next = Some((now + WAIT_MIN, WAIT_MIN));
    }

    /// When to [`sweep`](Self::sweep) next; `None` if there is nothing to free.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// Frees the states that have no other reference, if a check is due.
    pub(super) fn sweep(&mut self, now: Instant) {
        let Some((_, waited)) = self.next.filter(|&(at, _)| at <= now) else {
            return;
        };
        // No new reference to an unpublished state can be made, so a count of one stays one.
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
    fn frees_unreferenced_states_and_doubles_the_delay() {
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
        assert!(freed.upgrade().is_some(), "freed before the check was due");
        retired.sweep(at(30));
        assert!(freed.upgrade().is_none(), "not freed although unreferenced");
        assert_eq!(retired.next(), None);
    }
}

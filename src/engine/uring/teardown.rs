//! The end of a worker: the kernel must be done with its memory before that is unmapped.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use io_uring::cqueue;

use super::Worker;
use super::ring::UserData;
use crate::engine::handler::Handler;
use crate::engine::send_queue::RETRY_INTERVAL;

/// How often, and how long each time, a worker that ends waits for the kernel to complete
/// operations.
pub(super) const QUIESCE_ATTEMPTS: u32 = 100;
pub(super) const QUIESCE_WAIT: Duration = Duration::from_millis(10);

impl<H: Handler> Worker<H> {
    /// Ends the receive, and answers everything that was received, within a bounded time.
    ///
    /// Later datagrams stay in the socket's receive buffer: for the next process, if the service
    /// manager also holds the socket.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.ring.cancel(UserData::Receive, QUIESCE_WAIT);
        let deadline = Instant::now() + QUIESCE_WAIT * QUIESCE_ATTEMPTS;
        while Instant::now() < deadline {
            self.process_completions()?;
            self.retry_sends()?;
            self.answer()?;
            self.ring.submit()?;
            self.release_unconfirmed();
            if !self.receiving && self.arrivals.is_empty() && self.slots.is_idle() {
                break;
            }
            if self.arrivals.is_empty() {
                self.ring.wait_for(RETRY_INTERVAL);
            }
        }
        Ok(())
    }
}

impl<A> Worker<A> {
    /// Cancels all operations and waits, for a bounded time, until they have completed. Returns
    /// whether they have: the kernel uses none of the worker's memory any more.
    fn quiesce(&mut self) -> bool {
        // The kernel does not know the sends that wait for room.
        self.drop_waiting();
        // An operation that is queued but was never submitted would look as if it were in flight.
        let _ = self.ring.submit();
        self.ring.cancel_all(QUIESCE_WAIT);
        for _ in 0..QUIESCE_ATTEMPTS {
            let mut completions = mem::take(&mut self.completions);
            completions.clear();
            self.ring.drain(&mut completions);
            for completion in &completions {
                self.note_ended(completion);
            }
            self.completions = completions;
            self.release_unconfirmed();
            if !self.receiving && !self.polling && self.slots.is_idle() {
                return true;
            }
            self.ring.wait_for(QUIESCE_WAIT);
        }
        false
    }

    /// Records which operation has ended; nothing is answered or sent any more.
    fn note_ended(&mut self, completion: &cqueue::Entry) {
        match UserData::decode(completion.user_data()) {
            Some(UserData::Receive) => self.receiving &= cqueue::more(completion.flags()),
            Some(UserData::Wake) => self.polling = false,
            Some(UserData::Send(head)) => {
                self.unconfirmed.retain(|other| *other != head);
                if let Some(count) = self.slots.sending(head) {
                    self.slots.release(&self.batch, head, count);
                }
            }
            None => {}
        }
    }
}

impl<A> Drop for Worker<A> {
    fn drop(&mut self) {
        if self.quiesce() {
            self.ring.unregister_file();
        } else {
            // Closing the ring does not wait either. A leak is better than memory that the kernel
            // writes to after it was freed.
            self.buffers.leak();
            self.slots.leak();
        }
    }
}

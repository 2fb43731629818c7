//! One io_uring instance, used by the thread that made it.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

/// Which operation a completion belongs to, encoded in `user_data`, which the kernel returns
/// unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserData {
    /// The multishot receive.
    Receive,
    /// The poll on the worker's event.
    Wake,
    /// The send that starts with this slot.
    Send(u16),
}

impl UserData {
    const RECEIVE: u64 = 1 << 16;
    const WAKE: u64 = 2 << 16;
    const SEND: u64 = 3 << 16;

    pub(super) fn encode(self) -> u64 {
        match self {
            Self::Receive => Self::RECEIVE,
            Self::Wake => Self::WAKE,
            Self::Send(slot) => Self::SEND | u64::from(slot),
        }
    }

    /// Decodes what [`UserData::encode`] returned; `None` for anything else.
    pub(super) fn decode(user_data: u64) -> Option<Self> {
        match (user_data & !0xffff, user_data as u16) {
            (Self::RECEIVE, 0) => Some(Self::Receive),
            (Self::WAKE, 0) => Some(Self::Wake),
            (Self::SEND, slot) => Some(Self::Send(slot)),
            _ => None,
        }
    }
}

/// The ring. Dropping it closes it; the kernel may then still use the memory of operations in
/// flight (see the drop order in the engine's documentation).
pub(super) struct Ring(IoUring);

impl Ring {
    /// Creates a ring that only this thread may use, with room for `entries` submissions and
    /// `completions` completions.
    pub(super) fn new(entries: u32, completions: u32) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(completions);
        let ring = match builder.clone().setup_no_sqarray().build(entries) {
            // NO_SQARRAY needs Linux 6.6, the other flags 6.1.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => builder.build(entries)?,
            built => built?,
        };
        Ok(Self(ring))
    }

    /// The handle for registering buffers and files.
    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.0.submitter()
    }

    /// Makes `fd` the ring's fixed file 0.
    pub(super) fn register_file(&self, fd: RawFd) -> io::Result<()> {
        self.0.submitter().register_files(&[fd])
    }

    /// Unregisters the fixed file at once, before the kernel tears down the closed ring.
    pub(super) fn unregister_file(&self) {
        // Fails only if nothing was registered.
        let _ = self.0.submitter().unregister_files();
    }

    /// Queues an operation, which the kernel sees at the next submit. A full queue is submitted
    /// first.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the queue is still full after that.
    ///
    /// # Safety
    ///
    /// All memory that `entry` points to must stay valid and unaliased, as the operation requires,
    /// until its completion, or forever.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the caller keeps the entry's memory.
        if unsafe { self.0.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.submit()?;
        // SAFETY: as above; the first attempt did not take the entry.
        unsafe { self.0.submission().push(entry) }.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Submits what is queued, without waiting.
    pub(super) fn submit(&self) -> io::Result<()> {
        self.0.submit().map(drop)
    }

    /// Submits what is queued, and waits for `want` completions.
    pub(super) fn submit_and_wait(&self, want: usize) -> io::Result<()> {
        self.0.submit_and_wait(want).map(drop)
    }

    /// Submits what is queued, and waits for one completion, at most for `timeout`.
    pub(super) fn submit_and_wait_for(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timeout);
        match self.0.submitter().submit_with_args(1, &args) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            entered => entered.map(drop),
        }
    }

    /// Whether the kernel has taken all that was queued.
    pub(super) fn is_submitted(&mut self) -> bool {
        self.0.submission().is_empty()
    }

    /// Waits for one completion, at most for `timeout`.
    pub(super) fn wait_for(&self, timeout: Duration) {
        // An error: the caller checks what has completed, and counts its attempts.
        let _ = self.submit_and_wait_for(timeout);
    }

    /// Cancels the operation `data`. Its last completion follows.
    pub(super) fn cancel(&self, data: UserData, timeout: Duration) {
        // ENOENT if there is none, ETIME if it takes longer: the caller counts the completions.
        let _ = self.0.submitter().register_sync_cancel(
            Some(timeout.into()),
            CancelBuilder::user_data(data.encode()),
        );
    }

    /// Cancels all operations in flight. Their completions follow.
    pub(super) fn cancel_all(&self, timeout: Duration) {
        // ENOENT if there were none, ETIME if it takes longer: the caller counts the completions.
        let _ = self
            .0
            .submitter()
            .register_sync_cancel(Some(timeout.into()), CancelBuilder::any());
    }

    /// Moves all completions to `out`. The kernel keeps those that overflowed the queue and adds
    /// them at the next submit.
    pub(super) fn drain(&mut self, out: &mut Vec<cqueue::Entry>) {
        out.extend(self.0.completion());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::opcode;

    #[test]
    fn user_data_round_trips() {
        for data in [
            UserData::Receive,
            UserData::Wake,
            UserData::Send(0),
            UserData::Send(u16::MAX),
        ] {
            assert_eq!(UserData::decode(data.encode()), Some(data));
        }
        for garbage in [0, 1, u64::MAX, UserData::RECEIVE | 1, 4 << 16] {
            assert_eq!(UserData::decode(garbage), None);
        }
    }

    /// With more operations than either queue holds, none is lost.
    #[test]
    fn full_queues_lose_nothing() {
        let Some(mut ring) = crate::engine::fixtures::uring_or_skip(Ring::new(4, 8)) else {
            return;
        };
        for slot in 0..40 {
            let entry = opcode::Nop::new()
                .build()
                .user_data(UserData::Send(slot).encode());
            // SAFETY: a no-op points to no memory.
            unsafe { ring.push(&entry) }.unwrap();
        }
        let mut completed = Vec::new();
        for _ in 0..40 {
            let _ = ring.submit_and_wait(1);
            ring.drain(&mut completed);
            if completed.len() == 40 {
                break;
            }
        }
        let mut slots: Vec<_> = completed
            .iter()
            .map(|entry| UserData::decode(entry.user_data()).unwrap())
            .collect();
        slots.sort_by_key(|data| data.encode());
        assert_eq!(slots, (0..40).map(UserData::Send).collect::<Vec<_>>());
    }
}

//! A wake-up between threads that can be polled: eventfd(2).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Readable from [`Event::signal`] until [`Event::clear`].
#[derive(Debug)]
pub(super) struct Event(File);

impl Event {
    /// Creates an event that is not signaled.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(fd.into()))
    }

    /// Makes the event readable.
    pub(super) fn signal(&self) {
        // Fails only if the counter is at its limit; then the event is readable already.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Makes the event unreadable again.
    pub(super) fn clear(&self) {
        // Fails only if it is not readable.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

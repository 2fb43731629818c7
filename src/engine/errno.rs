//! What a kernel error means for a worker, decided here for both engines.
//!
//! The rule is derived from attacks: nothing that a third party can cause ends a worker or makes it
//! spin. Datagrams, ICMP messages, routes and firewalls can make a send or a receive fail in many
//! ways (`ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`, `ENETDOWN`, `EPERM`, `EACCES`, `EMSGSIZE`,
//! `ENOBUFS`, `ENOMEM`, ...). So an error ends a worker only if it says that the socket, or memory
//! passed to the kernel, is wrong: that is a bug of ours or an unrecoverable state, and every
//! further call would fail alike. A failed send never ends a worker: the next receive shows the
//! same error.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

/// Whether receiving is impossible after `errno`.
pub(super) fn ends_worker(errno: i32) -> bool {
    matches!(
        errno,
        libc::EBADF
            | libc::ENOTSOCK
            | libc::EFAULT
            | libc::EINVAL
            | libc::EOPNOTSUPP
            | libc::ENOSYS
            | libc::ENXIO
    )
}

/// Whether `errno` says that the replies of a refused GSO send can still be sent one by one: the
/// segments exceed the path MTU, or the route or device does not support GSO (`udp_send_skb` in
/// net/ipv4/udp.c).
pub(super) fn refuses_gso(errno: i32) -> bool {
    matches!(
        errno,
        libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT
    )
}

/// The error number of a failed call; 0 never names a failure.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Keeps a worker from spinning on an error that repeats: after a few in a row, each one pauses the
/// worker.
#[derive(Debug, Default)]
pub(super) struct ErrorBackoff {
    in_a_row: u32,
}

impl ErrorBackoff {
    /// Errors in a row that are retried at once: more than a burst of ICMP messages causes.
    const IMMEDIATE_RETRIES: u32 = 16;
    /// Short enough that nobody notices the recovery, long enough that a failing worker uses no
    /// CPU.
    const PAUSE: Duration = Duration::from_millis(10);

    /// Resets the count after a success.
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }

    /// Counts a failure. Pauses the worker if there were many in a row.
    pub(super) fn failed(&mut self) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row > Self::IMMEDIATE_RETRIES {
            std::thread::sleep(Self::PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_network_ends_a_worker() {
        for errno in [
            libc::ECONNREFUSED,
            libc::ECONNRESET,
            libc::EHOSTUNREACH,
            libc::EHOSTDOWN,
            libc::ENETUNREACH,
            libc::ENETDOWN,
            libc::EMSGSIZE,
            libc::EPROTO,
            libc::EACCES,
            libc::EPERM,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EAGAIN,
            libc::EINTR,
            libc::ECANCELED,
            libc::ETIMEDOUT,
            libc::EIO,
        ] {
            assert!(!ends_worker(errno), "errno {errno}");
        }
        assert!(ends_worker(libc::EBADF));
    }

    #[test]
    fn only_many_failures_in_a_row_pause() {
        let mut backoff = ErrorBackoff::default();
        let start = std::time::Instant::now();
        for _ in 0..ErrorBackoff::IMMEDIATE_RETRIES {
            backoff.failed();
        }
        assert!(start.elapsed() < ErrorBackoff::PAUSE);
        backoff.failed();
        assert!(start.elapsed() >= ErrorBackoff::PAUSE);
        backoff.succeeded();
        assert_eq!(backoff.in_a_row, 0);
    }
}

//! What an error of the kernel means for a worker, decided here for both engines.
//!
//! The rule is argued from attack: nothing that a third party can cause ends a worker or lets it spin. Datagrams, ICMP
//! messages, routes and firewalls can make a send or a receive fail in many ways (`ECONNREFUSED`, `EHOSTUNREACH`,
//! `ENETUNREACH`, `ENETDOWN`, `EPERM`, `EACCES`, `EMSGSIZE`, `ENOBUFS`, `ENOMEM`, ...), so an error ends a worker only if it
//! says that the socket or the memory handed to the kernel is wrong: that is our bug or the end of the process's world,
//! and would repeat forever. A failed send never ends a worker: the same fault shows at the next receive.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

/// Whether receiving cannot go on after `errno`.
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

/// Whether `errno` says that the replies of a train may still be sent one by one: the segments are larger than the path
/// takes, or the route or device does not segment (`udp_send_skb` in net/ipv4/udp.c).
pub(super) fn refuses_train(errno: i32) -> bool {
    matches!(
        errno,
        libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT
    )
}

/// The error number of a failed call; 0 never names a failure.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Keeps a worker from spinning on an error that repeats: after a few in a row each costs a pause.
#[derive(Debug, Default)]
pub(super) struct ErrorBackoff {
    in_a_row: u32,
}

impl ErrorBackoff {
    /// Errors in a row that are retried at once: more than any burst of ICMP messages that one receive can meet.
    const AT_ONCE: u32 = 16;
    /// Short enough that recovery is not noticed, long enough that a failing worker costs no CPU.
    const PAUSE: Duration = Duration::from_millis(10);

    /// Something worked.
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }

    /// Something failed: returns at once, or after a pause if it keeps failing.
    pub(super) fn failed(&mut self) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row > Self::AT_ONCE {
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
    fn patience_pauses_only_after_many_failures() {
        let mut patience = ErrorBackoff::default();
        let start = std::time::Instant::now();
        for _ in 0..ErrorBackoff::AT_ONCE {
            patience.failed();
        }
        assert!(start.elapsed() < ErrorBackoff::PAUSE);
        patience.failed();
        assert!(start.elapsed() >= ErrorBackoff::PAUSE);
        patience.succeeded();
        assert_eq!(patience.in_a_row, 0);
    }
}

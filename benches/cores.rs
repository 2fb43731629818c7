//! One core for the server, another for its client.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;

/// Leaves a thread, and the processes that it starts from now on, one core.
pub(crate) fn pin(thread: Pid, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a small number");
    if let Err(error) = sched_setaffinity(thread, &cores) {
        eprintln!("cannot use core {core} alone: {error}");
    }
}

//! CPU affinity: one core for the server, another for its client.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;

/// Restricts a thread, and processes that it starts later, to one core.
pub(crate) fn pin(thread: Pid, core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a small number");
    if let Err(error) = sched_setaffinity(thread, &cores) {
        eprintln!("cannot pin a thread to core {core}: {error}");
    }
}

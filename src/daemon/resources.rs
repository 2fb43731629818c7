//! Checks before the start that the limits of this process allow what the daemon needs.
//!
//! A limit that is reached in the middle of the start would be reported for whatever came next, and
//! a library may panic. So the daemon first opens as many descriptors and starts as many threads as
//! it needs, and ends them again.
//!
//! Later failures are still reported with the remedy for their errno, because other processes of
//! the user or the host may use up a common limit in between.

use std::io::{self, PipeReader, PipeWriter, pipe};
use std::sync::mpsc;
use std::thread;

use super::error::Error;
use crate::remedy::{Operation, errno_of};

/// Descriptors that the daemon has or opens while it serves, except those of the workers: log, pid
/// file, runtime, inotify, the files that it loads, some for metrics and status, and 32 from which
/// it asks itself.
const DESCRIPTORS: usize = 56;
/// Descriptors for each worker: its socket, its ring and the event that wakes it.
const DESCRIPTORS_PER_WORKER: usize = 3;
/// Threads beside the workers and those that exist before the check: one that loads the files, and
/// one that starts the workers.
const THREADS: usize = 2;

/// Checks that the process can have the descriptors and threads of a daemon with this many workers.
///
/// # Errors
///
/// Names the limit that is too low.
pub(super) fn check(workers: usize) -> Result<(), Error> {
    let descriptors = DESCRIPTORS + DESCRIPTORS_PER_WORKER * workers;
    open_descriptors(descriptors).map_err(|error| {
        let what = format!("cannot open {descriptors} more descriptors, which the daemon needs");
        Error::of_call(what, Operation::Other, errno_of(&error))
    })?;
    let threads = THREADS + workers;
    start_threads(threads).map_err(|error| {
        let what = format!("cannot start {threads} threads, which the daemon needs");
        Error::of_call(what, Operation::Thread, errno_of(&error))
    })
}

/// Opens at least `count` descriptors, and closes them.
fn open_descriptors(count: usize) -> io::Result<()> {
    let _pipes = (0..count.div_ceil(2))
        .map(|_| pipe())
        .collect::<io::Result<Vec<(PipeReader, PipeWriter)>>>()?;
    Ok(())
}

/// Starts `count` threads that exist at the same time, and ends them.
fn start_threads(count: usize) -> io::Result<()> {
    let mut threads = Vec::new();
    let started = (0..count).try_for_each(|_| {
        let (end, ended) = mpsc::channel::<()>();
        // It ends when `end` is dropped.
        let thread = thread::Builder::new().spawn(move || ended.recv())?;
        threads.push((end, thread));
        Ok(())
    });
    for (end, thread) in threads {
        drop(end);
        let _ = thread.join();
    }
    started
}

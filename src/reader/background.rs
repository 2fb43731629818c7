//! Runs what can take long on threads of its own, so that it delays neither the control plane nor
//! the workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use nix::errno::Errno;

/// Nice increment of a loader thread.
///
/// The scheduler gives a nice 10 thread about a tenth of the weight of a nice 0 thread
/// (`sched(7)`). A worker on the same core is hardly slowed down, and an idle core is still fully
/// used.
pub(super) const NICE: i32 = 10;

/// Stack of a thread, in bytes. Parsing is at most [`DEPTH_MAX`](crate::config) levels deep.
const STACK_BYTES: usize = 2 << 20;

/// How a thread is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// As the control plane, for what takes microseconds unless the disk hangs.
    Normal,
    /// Below the workers, for what uses the processor for long.
    Low,
}

/// Error of running work in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackgroundError {
    /// The thread could not be started. A retry may succeed.
    NotStarted(Errno),
    /// The work panicked, which is a bug in the work.
    Panicked,
}

/// Runs `work` on a new thread named `confd-loader`, and passes its result to `done` on that
/// thread.
///
/// Each call starts a thread. Calls are at most a few per second, the thread's exit frees its
/// thread-local caches, and a panic becomes an error. If the thread cannot be started, `done` is
/// called on this one.
pub(super) fn in_background<T>(
    priority: Priority,
    work: impl FnOnce() -> T + Send + 'static,
    done: impl Fn(Result<T, BackgroundError>) + Clone + Send + 'static,
) {
    let report = done.clone();
    let run = move || {
        if priority == Priority::Low {
            // On Linux, nice applies to the calling thread only. If it is refused, the loader runs
            // at normal priority.
            let _ = rustix::process::nice(NICE);
        }
        let result = catch_unwind(AssertUnwindSafe(work));
        report(result.map_err(|_| BackgroundError::Panicked));
    };
    let started = thread::Builder::new()
        .name("confd-loader".into())
        .stack_size(STACK_BYTES)
        .spawn(run);
    if let Err(error) = started {
        let errno = error.raw_os_error().unwrap_or(libc::EAGAIN);
        done(Err(BackgroundError::NotStarted(Errno::from_raw(errno))));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn run<T: Send + 'static>(
        priority: Priority,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BackgroundError> {
        let (sender, results) = channel();
        in_background(priority, work, move |result| {
            sender.send(result).expect("the test waits");
        });
        results.recv().expect("a result")
    }

    #[test]
    fn only_a_low_priority_thread_has_lower_priority() {
        let nice = || rustix::process::getpriority_process(None).expect("a priority");
        let before = nice();
        let inside = move || (nice(), thread::current().name().map(str::to_owned));
        let name = Some("confd-loader".to_owned());
        let lower = (before + NICE).min(19);
        assert_eq!(run(Priority::Low, inside), Ok((lower, name.clone())));
        assert_eq!(run(Priority::Normal, inside), Ok((before, name)));
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_panic_is_returned_as_an_error() {
        let result: Result<(), _> = run(Priority::Low, || panic!("on purpose"));
        assert_eq!(result, Err(BackgroundError::Panicked));
    }
}

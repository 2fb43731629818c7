//! Runs long computations on a separate low-priority thread, so that they delay neither the control
//! plane nor the workers.

use std::io;
use std::thread;

use nix::errno::Errno;
use tokio::sync::oneshot;

/// Nice increment of the loader thread.
///
/// The scheduler gives a nice 10 thread about a tenth of the weight of a nice 0 thread
/// (`sched(7)`). A worker on the same core is hardly slowed down, and an idle core is still fully
/// used.
const NICE: i32 = 10;

/// Error of running work in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackgroundError {
    /// The thread could not be started. A retry may succeed.
    NotStarted(Errno),
    /// The work panicked, which is a bug in the work.
    Panicked,
}

/// Runs `work` on a new low-priority thread named `confd-loader` and waits for its result.
///
/// Each call starts a thread. Calls are at most one per second, the thread's exit frees its
/// thread-local caches, and a panic becomes an error. If the returned future is dropped, `work`
/// runs to its end and its result is dropped.
pub(super) async fn background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackgroundError> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // On Linux, nice applies to the calling thread only. If it is refused, the loader runs at
        // normal priority.
        let _ = rustix::process::nice(NICE);
        let _ = sender.send(work());
    };
    thread::Builder::new()
        .name("confd-loader".into())
        .spawn(run)
        .map_err(|e: io::Error| {
            BackgroundError::NotStarted(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EAGAIN)))
        })?;
    receiver.await.map_err(|_| BackgroundError::Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn only_the_loader_thread_has_lower_priority() {
        let nice = || rustix::process::getpriority_process(None).expect("a priority");
        let before = nice();
        let inside = block_on(background(move || {
            (nice(), thread::current().name().map(str::to_owned))
        }));
        let expected = (before + NICE).min(19);
        assert_eq!(inside, Ok((expected, Some("confd-loader".into()))));
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_panic_is_returned_as_an_error() {
        let result: Result<(), _> = block_on(background(|| panic!("on purpose")));
        assert_eq!(result, Err(BackgroundError::Panicked));
    }
}

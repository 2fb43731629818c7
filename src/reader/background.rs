//! Work that must not keep the control plane's thread from its signals, nor a worker from its core.

use std::io;
use std::thread;

use nix::errno::Errno;
use tokio::sync::oneshot;

/// How much nicer than the daemon a loader is: the weight of nice 10 is a tenth of that of nice 0 (`sched(7)`), so a
/// worker on the same core hardly notices it, and an idle core is still used whole.
const NICE: i32 = 10;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackgroundError {
    /// The thread could not be started; a later try may succeed.
    NotStarted(Errno),
    /// The work panicked, which is a bug in it.
    Panicked,
}

/// Runs `work` on a thread of its own, named `confd-loader`, at lower priority, and waits for its result.
///
/// A thread for each piece of work: there is at most one a second, what it leaves in thread-local caches goes with it, and
/// a panic in it is an error here. When the caller stops waiting, `work` ends by itself and its result is dropped.
pub(super) async fn background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackgroundError> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // On Linux this concerns the calling thread only. Being refused it costs no more than a politeness.
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
    fn only_the_loader_is_nicer() {
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
    fn a_panic_stays_inside() {
        let result: Result<(), _> = block_on(background(|| panic!("on purpose")));
        assert_eq!(result, Err(BackgroundError::Panicked));
    }
}

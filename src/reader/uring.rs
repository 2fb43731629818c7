//! Reads an open file through io_uring, with tokio-uring on a thread of its own.
//!
//! tokio-uring ignores errors of `io_uring_enter(2)`: a read that was not submitted never
//! completes, and dropping its runtime then waits or panics. So the thread is not joined. A caller
//! waits a bounded time for each read, then leaves the thread with its ring behind and does not use
//! io_uring again.
//!
//! Only reads go through the ring. The caller opens the file, checks what it is, and compares its
//! metadata before and after, in the same way with and without io_uring.
//!
//! Source: tokio-uring 0.5.0 (`Driver::submit`, `Runtime::drop`).

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Time in which one read of at most [`CHUNK_BYTES`] must complete. A slower disk is read with
/// system calls, which have no deadline.
const DEADLINE: Duration = Duration::from_secs(1);

/// Size of one read, in bytes.
const CHUNK_BYTES: u64 = 1 << 20;

/// Bytes of a buffer after those that are asked for. tokio-uring believes the length that the
/// kernel reports, and a file system in user space may report too many.
const SLACK_BYTES: u64 = 4_096;

/// Why io_uring could not be used. `Display` prints the cause.
#[derive(Debug)]
pub(super) enum Failure {
    /// There can be no ring.
    Setup(io::Error),
    /// A read was refused.
    Read(io::Error),
    /// A read returned more bytes than were asked for.
    TooLong {
        /// Bytes that were asked for.
        asked: u64,
        /// Bytes that were returned.
        returned: u64,
    },
    /// A read did not complete in time.
    Late,
    /// The thread ended by itself.
    Ended,
}

impl Failure {
    /// Whether every later use would fail or leave another thread behind.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Self::Setup(_) | Self::Late | Self::Ended)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "io_uring_setup: {error}"),
            Self::Read(error) => write!(f, "a read through io_uring failed: {error}"),
            Self::TooLong { asked, returned } => write!(
                f,
                "a read of {asked} bytes through io_uring returned {returned}"
            ),
            Self::Late => write!(
                f,
                "a read through io_uring did not complete within {} s",
                DEADLINE.as_secs()
            ),
            Self::Ended => f.write_str("the thread that reads through io_uring ended"),
        }
    }
}

/// Reads the first `size` bytes of `file` and passes them to `take` in order, in chunks.
///
/// Returns before `size` bytes if the file ends earlier, or if `take` returns false.
///
/// # Errors
///
/// io_uring could not be used. The chunks that were passed before are right.
pub(super) fn read(
    file: &File,
    size: u64,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), Failure> {
    let file = file.try_clone().map_err(Failure::Setup)?;
    let (sender, chunks) = sync_channel(1);
    thread::Builder::new()
        .name("confd-uring".into())
        .spawn(move || send_chunks(file, size, &sender))
        .map_err(Failure::Setup)?;
    receive(&chunks, size, &mut take)
}

fn receive(
    chunks: &Receiver<Result<Vec<u8>, Failure>>,
    size: u64,
    take: &mut impl FnMut(&[u8]) -> bool,
) -> Result<(), Failure> {
    let mut done = 0;
    while done < size {
        let chunk = chunks
            .recv_timeout(DEADLINE)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => Failure::Late,
                RecvTimeoutError::Disconnected => Failure::Ended,
            })??;
        done += chunk.len() as u64;
        if chunk.is_empty() || !take(&chunk) {
            break;
        }
    }
    Ok(())
}

#[cfg(feature = "tokio-uring")]
use ring::send_chunks;

#[cfg(not(feature = "tokio-uring"))]
fn send_chunks(_: File, _: u64, sender: &SyncSender<Result<Vec<u8>, Failure>>) {
    let _ = sender.send(Err(Failure::Setup(io::ErrorKind::Unsupported.into())));
}

/// The thread's part.
#[cfg(feature = "tokio-uring")]
mod ring {
    use tokio_uring::buf::BoundedBuf as _;

    use super::{CHUNK_BYTES, Failure, File, SLACK_BYTES, SyncSender, io};

    /// The thread: sends the file's bytes in chunks until it ends, with an empty chunk for an early
    /// end, or an error. Ends silently if the receiver has gone.
    pub(super) fn send_chunks(
        file: File,
        size: u64,
        sender: &SyncSender<Result<Vec<u8>, Failure>>,
    ) {
        let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = sender.send(Err(Failure::Setup(error)));
                return;
            }
        };
        let failed = runtime.block_on(async {
            let file = tokio_uring::fs::File::from_std(file);
            let mut done = 0;
            while done < size {
                let chunk = read_chunk(&file, done, CHUNK_BYTES.min(size - done)).await;
                let failed = chunk.is_err();
                let len = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                done += len;
                if sender.send(chunk).is_err() || failed {
                    return failed;
                }
                if len == 0 {
                    break;
                }
            }
            // Dropping the file closes it with close(2), not through the ring.
            false
        });
        if failed {
            // Dropping the runtime waits for operations that may never complete.
            std::mem::forget(runtime);
        }
    }

    async fn read_chunk(
        file: &tokio_uring::fs::File,
        at: u64,
        asked: u64,
    ) -> Result<Vec<u8>, Failure> {
        loop {
            let buffer = Vec::with_capacity((asked + SLACK_BYTES) as usize);
            let (result, buffer) = file.read_at(buffer.slice(..asked as usize), at).await;
            match result {
                Ok(returned) if returned as u64 > asked => {
                    let returned = returned as u64;
                    return Err(Failure::TooLong { asked, returned });
                }
                Ok(_) => return Ok(buffer.into_inner()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::Read(error)),
            }
        }
    }
}

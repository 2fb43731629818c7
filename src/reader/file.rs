//! Identifies and reads a single file.
//!
//! Files are read through io_uring or, where io_uring is not available, with blocking system calls
//! on a separate thread. Both return the same results. A file is read once, into one buffer of its
//! size. Its metadata is compared before and after the read, to detect concurrent writes.
//!
//! Sources: `statx(2)`, `open(2)`, and `Ganeti.ConfigReader` (`getFStat`) for the fields that
//! identify a version of a file. This module adds the device, the nanoseconds and the change time.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use tokio_uring::buf::BoundedBuf;

use super::background::{BackgroundError, background};

/// How files are read. Must match the runtime that runs the
/// [`Reader`](super::Reader).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Through the ring of a tokio-uring runtime.
    Uring,
    /// With blocking system calls on a separate thread, on any tokio runtime with I/O and time
    /// enabled.
    Blocking,
}

/// Size of one read through io_uring, in bytes.
///
/// The submitting system call itself copies cached pages. For 1 MiB that blocks the control plane's
/// thread for less than a millisecond.
const CHUNK_BYTES: usize = 1 << 20;

/// Identity of one version of a file, from its metadata. Equal identities normally mean equal
/// content.
///
/// Kernels before 6.13 take timestamps from the clock tick (1 to 10 ms), so two writes to the same
/// inode within one tick can have equal identities. For that reason
/// [`super::schedule::Hint::Changed`] forces a reload even if the identity is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    dev: u64,
    ino: u64,
    size: u64,
    /// Time of the last change of the content, in seconds and nanoseconds.
    mtime: (i64, i64),
    /// Time of the last change of content, owner, mode or links, in seconds and nanoseconds.
    ctime: (i64, i64),
}

impl FileId {
    /// Whether the same open file had the same content when `self` and `later` were taken.
    ///
    /// The change time is ignored because it changes when the file is unlinked. A version that was
    /// replaced while it was read has still been read completely.
    fn same_content(&self, later: &Self) -> bool {
        self.size == later.size && self.mtime == later.mtime
    }

    /// Version `n` of a test file of constant size.
    #[cfg(any(test, feature = "testing"))]
    pub fn of_test(n: i64) -> Self {
        Self {
            dev: 1,
            ino: 2,
            size: 3,
            mtime: (n, 0),
            ctime: (n, 0),
        }
    }
}

/// Error of identifying or reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// `stat` failed.
    Stat(Errno),
    /// `open` failed.
    Open(Errno),
    /// The file was opened, but reading it failed.
    Read(Errno),
    /// The path names a directory.
    Directory,
    /// The path names a device, socket or named pipe.
    NotRegular,
    /// The file is larger than the limit.
    TooLong {
        /// The file's size in bytes.
        bytes: u64,
        /// The largest size that is read, in bytes.
        limit: u64,
    },
    /// The file was written to while it was read.
    Changing,
}

impl ReadError {
    /// Whether the file does not exist, as opposed to an existing file that cannot be read.
    pub(super) fn is_missing(self) -> bool {
        matches!(
            self,
            Self::Stat(Errno::ENOENT | Errno::ENOTDIR) | Self::Open(Errno::ENOENT | Errno::ENOTDIR)
        )
    }
}

/// The content of a file and the version it belongs to.
pub(super) struct Contents {
    pub(super) id: FileId,
    pub(super) bytes: Vec<u8>,
}

/// Returns the current version of the file `path`. Follows symbolic links.
///
/// # Errors
///
/// Returns an error if `path` is not a regular file of at most `limit` bytes.
pub(super) fn stat(path: &Path, limit: u64) -> Result<FileId, ReadError> {
    let metadata = std::fs::metadata(path).map_err(|e| ReadError::Stat(errno(&e)))?;
    identify(&metadata, limit)
}

/// Reads the file `path`, which may have at most `limit` bytes.
///
/// # Errors
///
/// See [`ReadError`].
pub(super) async fn read(io: Io, path: &Path, limit: u64) -> Result<Contents, ReadError> {
    match io {
        Io::Uring => read_uring(path, limit).await,
        Io::Blocking => {
            let path = path.to_owned();
            match background(move || read_blocking(&path, limit)).await {
                Ok(result) => result,
                Err(BackgroundError::NotStarted(errno)) => Err(ReadError::Read(errno)),
                Err(BackgroundError::Panicked) => Err(ReadError::Read(Errno::EIO)),
            }
        }
    }
}

/// Like [`read`], with blocking system calls on the calling thread.
pub(super) fn read_blocking(path: &Path, limit: u64) -> Result<Contents, ReadError> {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        // Without O_NONBLOCK, opening a named pipe waits for a writer.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| ReadError::Open(errno(&e)))?;
    let identify_open = |file: &std::fs::File| {
        let metadata = file.metadata().map_err(|e| ReadError::Read(errno(&e)))?;
        identify(&metadata, limit)
    };
    let id = identify_open(&file)?;
    let mut bytes = buffer_for(&id)?;
    // One extra byte detects that the file grew. It also lets `read_to_end` find the end of the
    // file without growing the buffer.
    (&mut file)
        .take(id.size + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| ReadError::Read(errno(&e)))?;
    check_unchanged(id, &identify_open(&file)?, bytes)
}

/// Like [`read`], through the ring of the current tokio-uring runtime.
async fn read_uring(path: &Path, limit: u64) -> Result<Contents, ReadError> {
    // tokio-uring has no option to open with O_NONBLOCK, so named pipes are rejected before the
    // file is opened.
    stat(path, limit)?;
    let file = tokio_uring::fs::File::open(path)
        .await
        .map_err(|e| ReadError::Open(errno(&e)))?;
    let contents = read_open(&file, limit).await;
    // The file was only read, so an error of `close` loses no data.
    let _ = file.close().await;
    contents
}

async fn read_open(file: &tokio_uring::fs::File, limit: u64) -> Result<Contents, ReadError> {
    let id = identify_uring(file, limit).await?;
    let mut bytes = buffer_for(&id)?;
    let end = bytes.capacity();
    while bytes.len() < end {
        let start = bytes.len();
        let chunk = bytes.slice(start..end.min(start + CHUNK_BYTES));
        let (result, chunk) = file.read_at(chunk, start as u64).await;
        bytes = chunk.into_inner();
        match result {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(ReadError::Read(errno(&e))),
        }
    }
    check_unchanged(id, &identify_uring(file, limit).await?, bytes)
}

async fn identify_uring(file: &tokio_uring::fs::File, limit: u64) -> Result<FileId, ReadError> {
    let stat = file.statx().await.map_err(|e| ReadError::Read(errno(&e)))?;
    let id = FileId {
        dev: nix::sys::stat::makedev(stat.stx_dev_major.into(), stat.stx_dev_minor.into()),
        ino: stat.stx_ino,
        size: stat.stx_size,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec.into()),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec.into()),
    };
    validate(stat.stx_mode.into(), id, limit)
}

fn identify(metadata: &Metadata, limit: u64) -> Result<FileId, ReadError> {
    let id = FileId {
        dev: metadata.dev(),
        ino: metadata.ino(),
        size: metadata.size(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        ctime: (metadata.ctime(), metadata.ctime_nsec()),
    };
    validate(metadata.mode(), id, limit)
}

/// Returns `id` if it is a regular file of at most `limit` bytes.
fn validate(mode: u32, id: FileId, limit: u64) -> Result<FileId, ReadError> {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => Err(ReadError::Directory),
        libc::S_IFREG if id.size > limit => Err(ReadError::TooLong {
            bytes: id.size,
            limit,
        }),
        libc::S_IFREG => Ok(id),
        _ => Err(ReadError::NotRegular),
    }
}

/// Allocates a buffer for the whole file and one extra byte.
fn buffer_for(id: &FileId) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    usize::try_from(id.size)
        .ok()
        .and_then(|size| bytes.try_reserve_exact(size + 1).ok())
        .ok_or(ReadError::Read(Errno::ENOMEM))?;
    Ok(bytes)
}

/// Returns the content if the file did not change between `before` and `after`.
fn check_unchanged(before: FileId, after: &FileId, bytes: Vec<u8>) -> Result<Contents, ReadError> {
    if bytes.len() as u64 == before.size && before.same_content(after) {
        Ok(Contents { id: before, bytes })
    } else {
        Err(ReadError::Changing)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `path` through io_uring and with blocking system calls. Outside of CI, io_uring is
    /// skipped with a message if it is not available.
    fn read_both(path: &Path, limit: u64) -> Vec<Result<Contents, ReadError>> {
        let mut results = Vec::new();
        match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => results.push(runtime.block_on(read(Io::Uring, path, limit))),
            Err(e) if std::env::var_os("CI").is_none() => eprintln!("io_uring is skipped: {e}"),
            Err(e) => panic!("CI needs io_uring: {e}"),
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        results.push(runtime.block_on(read(Io::Blocking, path, limit)));
        results
    }

    fn check_refused(path: &Path, limit: u64, expect: ReadError) {
        for result in read_both(path, limit) {
            assert_eq!(result.err(), Some(expect));
        }
    }

    #[test]
    fn reads_the_same_through_io_uring_and_system_calls() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 17] {
            let content: Vec<u8> = (0..size).map(|i| (i * 7 / 5) as u8).collect();
            std::fs::write(&path, &content).expect("written");
            let current = stat(&path, size as u64).expect("a file");
            for contents in read_both(&path, size as u64) {
                let contents = contents.expect("readable");
                assert!(contents.bytes == content, "{size} bytes");
                assert_eq!(contents.id, current, "{size} bytes");
            }
        }
    }

    #[test]
    fn rejects_missing_oversized_and_non_regular_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        check_refused(dir.path(), 10, ReadError::Directory);

        std::fs::write(at("long"), b"12345678901").expect("written");
        let too_long = ReadError::TooLong {
            bytes: 11,
            limit: 10,
        };
        check_refused(&at("long"), 10, too_long);

        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        check_refused(&at("pipe"), 10, ReadError::NotRegular);

        for missing in ["missing", "long/missing"] {
            for result in read_both(&at(missing), 10) {
                let why = result.err().expect("no such file");
                assert!(why.is_missing(), "{missing}: {why:?}");
            }
        }
    }

    #[test]
    fn detects_a_write_during_the_read_but_accepts_an_unlinked_file() {
        let before = FileId::of_test(4);
        let check = |after: FileId, bytes: &[u8]| {
            check_unchanged(before, &after, bytes.to_vec())
                .map(|contents| contents.id)
                .err()
        };
        let written = FileId {
            mtime: (4, 6),
            ..before
        };
        let unlinked = FileId {
            ctime: (4, 6),
            ..before
        };
        assert_eq!(check(before, b"abc"), None);
        assert_eq!(check(unlinked, b"abc"), None);
        assert_eq!(check(written, b"abc"), Some(ReadError::Changing));
        assert_eq!(check(before, b"abcd"), Some(ReadError::Changing));
        assert_eq!(check(before, b"ab"), Some(ReadError::Changing));
    }
}

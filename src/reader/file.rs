//! One file: what it is now, and what is in it.
//!
//! Reading goes through io_uring, or through plain system calls on a thread of its own where io_uring is refused; both
//! give the same answers. A file is read once, into one buffer of its size, and compared with itself afterwards.
//!
//! Sources: `statx(2)`, `open(2)`; `Ganeti.ConfigReader` (`getFStat`) for what identifies a version of a file, to which
//! we add the device, nanoseconds and the change time.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use tokio_uring::buf::BoundedBuf;

use super::Io;
use super::background::{BackgroundError, background};

/// How much is read at a time through io_uring, in bytes.
///
/// Pages that are cached are copied inside the submitting system call; 1 MiB of them keeps the control plane's thread
/// from its signals for less than a millisecond.
const CHUNK_BYTES: usize = 1 << 20;

/// One version of a file. Two versions with equal identities have, as far as the file system can tell, equal content.
///
/// Kernels before 6.13 stamp times by the clock tick (1 to 10 ms), so two writes to one inode in one tick may look alike:
/// that is why [`super::schedule::Hint::Changed`] outranks equal identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    dev: u64,
    ino: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change of content.
    mtime: (i64, i64),
    /// Seconds and nanoseconds of the last change of content, owner, mode or links.
    ctime: (i64, i64),
}

impl FileId {
    /// Whether `self` and `later`, of one open file, have the same content. The change time is left out, because it
    /// moves when the file loses its name: a version that was replaced while it was read was still read whole.
    fn same_content(&self, later: &Self) -> bool {
        self.size == later.size && self.mtime == later.mtime
    }

    /// Version `n` of a file that keeps its size.
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

/// Why there is no content to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// `stat` refused.
    Stat(Errno),
    /// `open` refused.
    Open(Errno),
    /// It opened, but reading failed.
    Read(Errno),
    /// A directory.
    Directory,
    /// A device, socket or named pipe.
    NotRegular,
    /// More bytes than the limit.
    TooLong {
        /// The file's size in bytes.
        bytes: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// It was written to while it was read.
    Changing,
}

impl ReadError {
    /// Whether there is no such file, as opposed to one that cannot be read.
    pub(super) fn is_missing(self) -> bool {
        matches!(
            self,
            Self::Stat(Errno::ENOENT | Errno::ENOTDIR) | Self::Open(Errno::ENOENT | Errno::ENOTDIR)
        )
    }
}

/// A file's bytes, and which version of it they are.
pub(super) struct Contents {
    pub(super) id: FileId,
    pub(super) bytes: Vec<u8>,
}

/// Which version `path` names now, if it can be read at all and has at most `limit` bytes. Follows symbolic links.
pub(super) fn stat(path: &Path, limit: u64) -> Result<FileId, ReadError> {
    let metadata = std::fs::metadata(path).map_err(|e| ReadError::Stat(errno(&e)))?;
    identify(&metadata, limit)
}

/// Reads the file `path` of at most `limit` bytes.
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

/// [`read`] on the calling thread.
pub(super) fn read_blocking(path: &Path, limit: u64) -> Result<Contents, ReadError> {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        // Opening a named pipe must not wait for its writer.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| ReadError::Open(errno(&e)))?;
    let identify_open = |file: &std::fs::File| {
        let metadata = file.metadata().map_err(|e| ReadError::Read(errno(&e)))?;
        identify(&metadata, limit)
    };
    let id = identify_open(&file)?;
    let mut bytes = buffer_for(&id)?;
    // The byte past the end shows that the file grew, and lets the last read find the end without growing the buffer.
    (&mut file)
        .take(id.size + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| ReadError::Read(errno(&e)))?;
    unchanged(id, &identify_open(&file)?, bytes)
}

/// [`read`] through the ring of the tokio-uring runtime that runs this.
async fn read_uring(path: &Path, limit: u64) -> Result<Contents, ReadError> {
    // tokio-uring cannot be told to open without blocking: a named pipe is found out before.
    stat(path, limit)?;
    let file = tokio_uring::fs::File::open(path)
        .await
        .map_err(|e| ReadError::Open(errno(&e)))?;
    let contents = read_open(&file, limit).await;
    // Nothing was written, so closing has nothing to report.
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
    unchanged(id, &identify_uring(file, limit).await?, bytes)
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
    check(stat.stx_mode.into(), id, limit)
}

fn identify(metadata: &Metadata, limit: u64) -> Result<FileId, ReadError> {
    let id = FileId {
        dev: metadata.dev(),
        ino: metadata.ino(),
        size: metadata.size(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        ctime: (metadata.ctime(), metadata.ctime_nsec()),
    };
    check(metadata.mode(), id, limit)
}

/// `id`, if a file of this `mode` and size is one to read.
fn check(mode: u32, id: FileId, limit: u64) -> Result<FileId, ReadError> {
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

/// A buffer for all of `id` and one byte more.
fn buffer_for(id: &FileId) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    usize::try_from(id.size)
        .ok()
        .and_then(|size| bytes.try_reserve_exact(size + 1).ok())
        .ok_or(ReadError::Read(Errno::ENOMEM))?;
    Ok(bytes)
}

fn unchanged(before: FileId, after: &FileId, bytes: Vec<u8>) -> Result<Contents, ReadError> {
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

    /// Both ways of reading, which must agree. The first is left out, aloud, where io_uring is refused.
    fn read_both(path: &Path, limit: u64) -> Vec<Result<Contents, ReadError>> {
        let mut results = Vec::new();
        match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => results.push(runtime.block_on(read(Io::Uring, path, limit))),
            Err(e) if std::env::var_os("CI").is_none() => eprintln!("io_uring is left out: {e}"),
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
            let named = stat(&path, size as u64).expect("a file");
            for contents in read_both(&path, size as u64) {
                let contents = contents.expect("readable");
                assert!(contents.bytes == content, "{size} bytes");
                assert_eq!(contents.id, named, "{size} bytes");
            }
        }
    }

    #[test]
    fn refuses_what_is_no_file_of_bearable_size() {
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
    fn a_file_that_grew_or_was_written_is_changing_but_one_that_lost_its_name_is_not() {
        let before = FileId::of_test(4);
        let judge = |after: FileId, bytes: &[u8]| {
            unchanged(before, &after, bytes.to_vec())
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
        assert_eq!(judge(before, b"abc"), None);
        assert_eq!(judge(unlinked, b"abc"), None);
        assert_eq!(judge(written, b"abc"), Some(ReadError::Changing));
        assert_eq!(judge(before, b"abcd"), Some(ReadError::Changing));
        assert_eq!(judge(before, b"ab"), Some(ReadError::Changing));
    }
}

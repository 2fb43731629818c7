//! Identifies and reads a single file, on the calling thread.
//!
//! A file is opened, checked and identified with system calls, then read in chunks: through
//! io_uring as far as that works, with ordinary reads from there on. Its metadata is compared
//! before and after the read, to detect concurrent writes. All of this waits for the disk, so it
//! never runs on the control plane's thread.
//!
//! Sources: `statx(2)`, `open(2)`, and `Ganeti.ConfigReader` (`getFStat`) for the fields that
//! identify a version of a file. This module adds the device, the nanoseconds and the change time.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};

use super::memory::Shortage;
use super::uring;

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Through io_uring; with system calls where that fails, and in a build without the feature
    /// `tokio-uring`.
    Uring,
    /// With system calls.
    Blocking,
}

/// Size of one ordinary read, in bytes.
const CHUNK_BYTES: u64 = 1 << 20;

/// Identity of one version of a file, from its metadata. Equal identities normally mean equal
/// content.
///
/// Kernels before 6.13 take timestamps from the clock tick (1 to 10 ms), so two writes to the same
/// inode within one tick can have equal identities. For that reason
/// [`super::schedule::Hint::Changed`] forces a reload even if the identity is unchanged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct FileId {
    dev: u64,
    ino: u64,
    size: u64,
    /// Type and permissions.
    mode: u32,
    /// Time of the last change of the content, in seconds and nanoseconds.
    mtime: (i64, i64),
    /// Time of the last change of content, owner, mode or links, in seconds and nanoseconds.
    ctime: (i64, i64),
}

impl FileId {
    /// The file's size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether the same open file had the same content when `self` and `later` were taken.
    ///
    /// The change time is ignored because it changes when the file is unlinked. A version that was
    /// replaced while it was read has still been read completely.
    fn same_content(&self, later: &Self) -> bool {
        self.size == later.size && self.mtime == later.mtime
    }

    /// The permissions of the file's owner, its group and others.
    pub(super) fn permissions(&self) -> u32 {
        self.mode & 0o777
    }

    /// Version `n` of a test file of constant size.
    #[cfg(any(test, feature = "testing"))]
    pub fn of_test(n: i64) -> Self {
        Self {
            dev: 1,
            ino: 2,
            size: 3,
            mode: libc::S_IFREG | 0o400,
            mtime: (n, 0),
            ctime: (n, 0),
        }
    }
}

/// Error of identifying or reading a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum ReadError {
    /// `stat` failed.
    Stat(#[serde(with = "errno_number")] Errno),
    /// `open` failed.
    Open(#[serde(with = "errno_number")] Errno),
    /// The file was opened, but reading it failed.
    Read(#[serde(with = "errno_number")] Errno),
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
    /// The storage did not respond in time.
    Late,
    /// Loading the file takes more memory than there is.
    Memory(Shortage),
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

/// Error numbers as integers.
mod errno_number {
    use nix::errno::Errno;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(errno: &Errno, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i32(*errno as i32)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Errno, D::Error> {
        i32::deserialize(from).map(Errno::from_raw)
    }
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

/// Receives the content of a file.
pub(super) trait Sink {
    /// Prepares for the content of version `id`.
    ///
    /// # Errors
    ///
    /// The file is then not read.
    fn begin(&mut self, id: &FileId) -> Result<(), ReadError>;

    /// Receives the next bytes, in total at most one more than the size of the version.
    ///
    /// # Errors
    ///
    /// The file is then not read further.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ReadError>;
}

/// The whole file in one buffer.
impl Sink for Vec<u8> {
    /// Allocates a buffer for the whole file and one extra byte.
    fn begin(&mut self, id: &FileId) -> Result<(), ReadError> {
        usize::try_from(id.size)
            .ok()
            .and_then(|size| self.try_reserve_exact(size + 1).ok())
            .ok_or(ReadError::Read(Errno::ENOMEM))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads files, and remembers whether io_uring works.
#[derive(Debug)]
pub(super) struct FileReader {
    state: Mutex<RingState>,
}

#[derive(Debug)]
struct RingState {
    io: Io,
    /// Each cause for which io_uring was not used, once.
    causes: Vec<String>,
    /// How many of them were returned by [`FileReader::new_causes`].
    reported: usize,
}

impl FileReader {
    pub(super) fn new(io: Io) -> Self {
        let io = if cfg!(feature = "tokio-uring") {
            io
        } else {
            Io::Blocking
        };
        Self {
            state: Mutex::new(RingState {
                io,
                causes: Vec::new(),
                reported: 0,
            }),
        }
    }

    /// Reads the file `path` of at most `limit` bytes into `sink`. The content is valid only if
    /// this succeeds.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub(super) fn read_to(
        &self,
        path: &Path,
        limit: u64,
        sink: &mut impl Sink,
    ) -> Result<FileId, ReadError> {
        let file = open(path)?;
        let before = identify_open(&file, limit)?;
        // Without O_NONBLOCK, reads wait for the disk on every file system.
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(ReadError::Read)?;
        sink.begin(&before)?;
        let mut done = self.read_through_ring(&file, before.size, sink)?;
        let mut chunk = vec![0; CHUNK_BYTES.min(before.size + 1) as usize];
        // One extra byte detects that the file grew.
        while done <= before.size {
            let asked = (before.size + 1 - done).min(chunk.len() as u64) as usize;
            match file.read_at(&mut chunk[..asked], done) {
                Ok(0) => break,
                Ok(len) => {
                    sink.take(&chunk[..len])?;
                    done += len as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ReadError::Read(errno(&e))),
            }
        }
        check_unchanged(before, &identify_open(&file, limit)?, done)
    }

    /// Reads as many of the first `size` bytes through io_uring as possible; returns their number.
    fn read_through_ring(
        &self,
        file: &File,
        size: u64,
        sink: &mut impl Sink,
    ) -> Result<u64, ReadError> {
        if self.state(|state| state.io) == Io::Blocking {
            return Ok(0);
        }
        let mut done = 0;
        let mut taken = Ok(());
        let result = uring::read(file, size, |chunk| {
            taken = sink.take(chunk);
            done += chunk.len() as u64;
            taken.is_ok()
        });
        if let Err(failure) = result {
            self.state(|state| {
                let cause = failure.to_string();
                if !state.causes.contains(&cause) {
                    state.causes.push(cause);
                }
                if failure.is_permanent() {
                    state.io = Io::Blocking;
                }
            });
        }
        taken.map(|()| done)
    }

    /// Returns the causes, since the last call, for which a file was read without io_uring. Each
    /// cause is returned once, no matter how often it occurs.
    pub(super) fn new_causes(&self) -> Vec<String> {
        self.state(|state| {
            let reported = std::mem::replace(&mut state.reported, state.causes.len());
            state.causes[reported..].to_vec()
        })
    }

    fn state<T>(&self, access: impl FnOnce(&mut RingState) -> T) -> T {
        access(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Opens `path` without waiting.
fn open(path: &Path) -> Result<File, ReadError> {
    std::fs::OpenOptions::new()
        .read(true)
        // Without O_NONBLOCK, opening a named pipe waits for a writer.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| ReadError::Open(errno(&e)))
}

fn identify_open(file: &File, limit: u64) -> Result<FileId, ReadError> {
    let metadata = file.metadata().map_err(|e| ReadError::Read(errno(&e)))?;
    identify(&metadata, limit)
}

fn identify(metadata: &Metadata, limit: u64) -> Result<FileId, ReadError> {
    let id = FileId {
        dev: metadata.dev(),
        ino: metadata.ino(),
        size: metadata.size(),
        mode: metadata.mode(),
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

/// Returns the version that was read if the file did not change between `before` and `after`, and
/// `len` bytes of it were read.
fn check_unchanged(before: FileId, after: &FileId, len: u64) -> Result<FileId, ReadError> {
    if len == before.size && before.same_content(after) {
        Ok(before)
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

    /// Reads `path` through io_uring and with system calls. io_uring must work, unless it is not
    /// available outside of CI.
    fn read_both(path: &Path, limit: u64) -> [Result<(FileId, Vec<u8>), ReadError>; 2] {
        [Io::Uring, Io::Blocking].map(|io| {
            let (reader, mut bytes) = (FileReader::new(io), Vec::new());
            let id = reader.read_to(path, limit, &mut bytes);
            let causes = reader.new_causes();
            if causes.is_empty() || std::env::var_os("CI").is_some() {
                assert_eq!(causes, [""; 0]);
            } else {
                eprintln!("io_uring is skipped: {causes:?}");
            }
            id.map(|id| (id, bytes))
        })
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
        let chunk = CHUNK_BYTES as usize;
        for size in [0, 1, chunk - 1, chunk, 3 * chunk + 17] {
            let content: Vec<u8> = (0..size).map(|i| (i * 7 / 5) as u8).collect();
            std::fs::write(&path, &content).expect("written");
            let current = stat(&path, size as u64).expect("a file");
            for contents in read_both(&path, size as u64) {
                let (id, bytes) = contents.expect("readable");
                assert!(bytes == content, "{size} bytes");
                assert_eq!(id, current, "{size} bytes");
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
                let why = result.expect_err("no such file");
                assert!(why.is_missing(), "{missing}: {why:?}");
            }
        }
    }

    #[test]
    fn detects_a_write_during_the_read_but_accepts_an_unlinked_file() {
        let before = FileId::of_test(4);
        let check = |after: FileId, len| check_unchanged(before, &after, len).err();
        let written = FileId {
            mtime: (4, 6),
            ..before
        };
        let unlinked = FileId {
            ctime: (4, 6),
            ..before
        };
        assert_eq!(check(before, 3), None);
        assert_eq!(check(unlinked, 3), None);
        assert_eq!(check(written, 3), Some(ReadError::Changing));
        assert_eq!(check(before, 4), Some(ReadError::Changing));
        assert_eq!(check(before, 2), Some(ReadError::Changing));
    }
}

//! The log file: whole lines, appended without ever waiting.
//!
//! Invariants: a line is in the file as a whole or not at all; the number of lines that are missing
//! is written before the next line for which there is room.
//!
//! Source: open(2), write(2). A write to a file system without room writes a part, or fails with
//! `ENOSPC` or `EDQUOT`; beyond a limit of the file's size it fails with `EFBIG`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::Error;
use crate::remedy::{Operation, errno_of};

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    missing: Missing,
}

/// The lines that could not be written since the last one that could.
#[derive(Debug, Default)]
pub(super) struct Missing {
    pub(super) lines: u64,
    /// Why the last of them could not be written.
    pub(super) error: Option<io::Error>,
}

impl LogFile {
    /// Opens the file at `path` for appending, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or is neither a regular file nor a character device (such as
    /// `/dev/null`).
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        Self::open_with(path, &mut options)
    }

    /// Opens the file at `path` if it exists; otherwise checks that it can be made and returns
    /// `None`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(super) fn open_existing(path: &Path) -> Result<Option<Self>, Error> {
        if fs::symlink_metadata(path).is_err() {
            let what = format!("cannot open the log file {}", path.display());
            return Error::unless_creatable(what, path).map(|()| None);
        }
        Self::open_with(path, OpenOptions::new().append(true)).map(Some)
    }

    fn open_with(path: &Path, options: &mut OpenOptions) -> Result<Self, Error> {
        // Without O_NONBLOCK, opening a named pipe waits for a reader.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let opened = options.open(path).and_then(|file| {
            let kind = file.metadata()?.file_type();
            Ok((file, kind.is_file() || kind.is_char_device()))
        });
        let (file, usable) = opened.map_err(|error| {
            let what = format!("cannot open the log file {}", path.display());
            Error::of_call(what, Operation::WriteFile, errno_of(&error))
        })?;
        if !usable {
            return Err(Error::lasting(format!(
                "cannot open the log file {}: it is not a regular file; remove it",
                path.display()
            )));
        }
        Ok(Self {
            file,
            missing: Missing::default(),
        })
    }

    /// Opens the file at `path` in place of this one. On an error, this one stays in use.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub(super) fn reopen(&mut self, path: &Path) -> Result<(), Error> {
        self.file = Self::open(path)?.file;
        Ok(())
    }

    /// The open file, for output that bypasses the log.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Appends `line`, which ends with a newline. If lines before it are missing, `notice` makes
    /// the line that precedes it. What cannot be written is counted as missing.
    pub(super) fn append(&mut self, line: &str, notice: impl FnOnce(&Missing) -> String) {
        self.report_missing(notice);
        if self.missing.lines > 0 {
            // Still without room. This line may be shorter, but would come too early.
            self.missing.lines += 1;
        } else if let Err(error) = append_whole(&mut self.file, line) {
            self.missing = Missing {
                lines: 1,
                error: Some(error),
            };
        }
    }

    /// Appends the line that `notice` makes, if lines are missing. If there is no room for it, they
    /// stay counted.
    pub(super) fn report_missing(&mut self, notice: impl FnOnce(&Missing) -> String) {
        if self.missing.lines > 0 {
            match append_whole(&mut self.file, &notice(&self.missing)) {
                Ok(()) => self.missing = Missing::default(),
                Err(error) => self.missing.error = Some(error),
            }
        }
    }
}

/// Appends `line`, or leaves the file as it was.
fn append_whole(file: &mut File, line: &str) -> io::Result<()> {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let error = match file.write(rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(len) => {
                rest = &rest[len..];
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let written = (line.len() - rest.len()) as u64;
        if written > 0 {
            // Only this process appends to the file, so its end is the part of this line.
            let before = file.metadata()?.len().saturating_sub(written);
            let _ = file.set_len(before);
        }
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_character_devices_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let refused = |part: &str| {
            let error = LogFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("/log: "), "{error}");
        };
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused("remove what has its name and is not a regular file");
        let _reader = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap();
        refused("it is not a regular file; remove it");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        refused("remove what has its name and is not a regular file");
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        LogFile::open(&path).unwrap();
    }

    #[test]
    fn lines_without_room_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut full = LogFile::open(&path).unwrap();
        let notice = |missing: &Missing| format!("{} missing\n", missing.lines);
        full.append("a\n", notice);
        full.append("b\n", notice);
        full.report_missing(notice);
        assert_eq!(full.missing.lines, 2);
        assert_eq!(
            full.missing.error.as_ref().unwrap().raw_os_error(),
            Some(libc::ENOSPC)
        );
        // There is room again.
        full.file = File::options()
            .append(true)
            .create(true)
            .open(dir.path().join("b"))
            .unwrap();
        full.append("c\n", notice);
        full.append("d\n", notice);
        assert_eq!(
            std::fs::read_to_string(dir.path().join("b")).unwrap(),
            "2 missing\nc\nd\n"
        );
    }
}

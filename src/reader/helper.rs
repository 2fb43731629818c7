//! The helper process that accesses the disk, seen from the daemon.
//!
//! The helper is this executable again. Its standard input is a socket for requests. Each request
//! comes with the socket for its reply, so requests do not wait for each other, and a reply that
//! never comes holds nothing but its own thread. The helper ends when the daemon's end of the first
//! socket is closed, also if the daemon was killed.
//!
//! A helper that ended is replaced at the next request. After several failures in a row, for
//! example because a sandbox allows no new process, no helper is started any more.
//!
//! Source: unix(7), `SCM_RIGHTS`.

use std::env;
use std::io::{self, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::check::Checked;
use super::file::{FileId, Io, ReadError, Sink};

/// Environment variable of the helper; its value is the daemon's process ID.
pub(super) const PARENT_VAR: &str = "GANETI_CONFD_HELPER_OF";

/// Failures in a row after which no helper is used any more.
const FAILURES_MAX: u32 = 4;

/// How often, at intervals of a millisecond, the end of a helper is checked.
const REAP_ATTEMPTS: usize = 20;

/// Longest part of a reply, in bytes.
pub(super) const FRAME_BYTES_MAX: usize = 2 << 20;

/// The helper ended before it replied, or could not be started.
#[derive(Debug)]
pub(super) struct Lost;

impl From<io::Error> for Lost {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// What the helper is asked to do with a file. The path is in bytes.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Request {
    /// Renew the watches and identify the file. The reply is a [`Checked`].
    Check { path: Vec<u8>, limit: u64 },
    /// Read the file. The reply is the version, the content in chunks, and a [`End`].
    Read {
        path: Vec<u8>,
        limit: u64,
        uring: bool,
    },
}

/// The end of the reply to [`Request::Read`].
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct End {
    pub(super) result: Result<FileId, ReadError>,
    /// Why io_uring was not used, in new cases.
    pub(super) causes: Vec<String>,
}

/// The first byte of a part of a reply. The length as 32-bit number and the content follow.
pub(super) mod tag {
    /// The file's version, before its content.
    pub(in crate::reader) const BEGIN: u8 = b'b';
    /// The next bytes of the content.
    pub(in crate::reader) const CHUNK: u8 = b'c';
    /// The end.
    pub(in crate::reader) const END: u8 = b'e';
}

/// The helper process, started when needed.
#[derive(Debug)]
pub(super) struct Helper {
    io: Io,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    /// How often a helper was started or lost without a reply in between.
    failures: u32,
}

#[derive(Debug)]
struct Running {
    requests: OwnedFd,
    child: Child,
}

impl Drop for Running {
    /// Ends the helper and reaps it, unless its thread waits for the disk.
    fn drop(&mut self) {
        let _ = self.child.kill();
        for _ in 0..REAP_ATTEMPTS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Helper {
    pub(super) fn new(io: Io) -> Self {
        Self {
            io,
            state: Mutex::default(),
        }
    }

    /// See [`Storage::check`](super::storage::Storage::check).
    pub(super) fn check(
        &self,
        inotify: Option<&OwnedFd>,
        path: &Path,
        limit: u64,
    ) -> Result<Checked, Lost> {
        let path = path.as_os_str().as_bytes().to_vec();
        self.exchange(&Request::Check { path, limit }, inotify, |reply| {
            let (_, content) = next_frame(reply)?;
            from_json(&content)
        })
    }

    /// Reads a file into `sink`. Returns the result, and why io_uring was not used in new cases.
    pub(super) fn read(
        &self,
        path: &Path,
        limit: u64,
        sink: &mut impl Sink,
    ) -> Result<(Result<FileId, ReadError>, Vec<String>), Lost> {
        let request = Request::Read {
            path: path.as_os_str().as_bytes().to_vec(),
            limit,
            uring: self.io == Io::Uring,
        };
        self.exchange(&request, None, |reply| {
            loop {
                let (tag, content) = next_frame(reply)?;
                let taken = match tag {
                    tag::BEGIN => sink.begin(&from_json(&content)?),
                    tag::CHUNK => sink.take(&content),
                    _ => {
                        let End { result, causes } = from_json(&content)?;
                        return Ok((result, causes));
                    }
                };
                if let Err(why) = taken {
                    return Ok((Err(why), Vec::new()));
                }
            }
        })
    }

    /// Sends a request and reads its reply.
    fn exchange<T>(
        &self,
        request: &Request,
        inotify: Option<&OwnedFd>,
        read: impl FnOnce(&mut UnixStream) -> io::Result<T>,
    ) -> Result<T, Lost> {
        let (mut reply, theirs) = UnixStream::pair()?;
        let process = self.send(request, theirs.as_fd(), inotify)?;
        drop(theirs);
        let result = read(&mut reply);
        self.state(|state| match &result {
            Ok(_) => state.failures = 0,
            Err(_) => state.lost(process),
        });
        Ok(result?)
    }

    /// Sends a request to the helper, which is started if needed. Returns its process ID.
    fn send(
        &self,
        request: &Request,
        reply: BorrowedFd<'_>,
        inotify: Option<&OwnedFd>,
    ) -> Result<u32, Lost> {
        let request = serde_json::to_vec(request).map_err(|_| Lost)?;
        let mut descriptors = vec![reply];
        descriptors.extend(inotify.map(AsFd::as_fd));
        self.state(|state| {
            let running = state.running()?;
            let process = running.child.id();
            let sent = send_with(&running.requests, &request, &descriptors);
            if sent.is_err() {
                state.lost(process);
            }
            Ok(sent.map(|()| process)?)
        })
    }

    fn state<T>(&self, access: impl FnOnce(&mut State) -> T) -> T {
        access(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// The helper, which is started if needed.
    fn running(&mut self) -> Result<&mut Running, Lost> {
        if self.running.is_none() {
            if self.failures >= FAILURES_MAX {
                return Err(Lost);
            }
            self.running = Some(start().map_err(|error| self.failed(&error))?);
        }
        self.running.as_mut().ok_or(Lost)
    }

    /// Gives up the helper with this process ID, if it is the current one.
    fn lost(&mut self, process: u32) {
        if self.running.as_ref().map(|running| running.child.id()) == Some(process)
            && self.running.take().is_some()
        {
            self.failed(&"it ended");
        }
    }

    fn failed(&mut self, why: &dyn std::fmt::Display) -> Lost {
        self.failures += 1;
        if self.failures == FAILURES_MAX {
            tracing::warn!(
                "The process that accesses the disk cannot be used ({why}); the daemon now does so \
                 itself, and cannot end while the disk does not respond"
            );
        } else if self.failures < FAILURES_MAX {
            tracing::warn!("The process that accesses the disk is started again: {why}");
        }
        Lost
    }
}

/// Starts a helper.
fn start() -> io::Result<Running> {
    let (requests, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // An upgrade may have replaced the executable; /proc/self/exe is always the one that runs.
    let child = Command::new("/proc/self/exe")
        .arg0("confd-files")
        .env_clear()
        .env(PARENT_VAR, std::process::id().to_string())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in a terminal is for the daemon, which ends the helper.
        .process_group(0)
        .spawn()?;
    Ok(Running { requests, child })
}

/// Whether this process is a helper.
pub(crate) fn is_helper() -> bool {
    let parent = std::os::unix::process::parent_id().to_string();
    env::var(PARENT_VAR).is_ok_and(|value| value == parent)
}

fn send_with(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    let parts = [IoSlice::new(bytes)];
    sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn next_frame(reply: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    reply.read_exact(&mut head)?;
    let [tag, len @ ..] = head;
    let len = u32::from_ne_bytes(len) as usize;
    if len > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = vec![0; len];
    reply.read_exact(&mut content)?;
    Ok((tag, content))
}

fn from_json<T: DeserializeOwned>(text: &[u8]) -> io::Result<T> {
    serde_json::from_slice(text).map_err(io::Error::other)
}

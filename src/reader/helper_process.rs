//! The helper process itself: receives requests and accesses the disk, one thread per request.
//!
//! The daemon sends at most one request per file and kind at a time, which bounds the threads.
//! Signals are left to the daemon: the helper ends when the daemon has ended.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;

use super::background::NICE;
use super::check::check_here;
use super::file::{FileId, FileReader, Io, ReadError, Sink};
use super::helper::{End, FRAME_BYTES_MAX, Request, tag};

/// Longest request, in bytes. A path has at most 4,096 bytes, each of which takes up to four.
const REQUEST_BYTES_MAX: usize = 32 * 1024;

/// Runs the helper until the daemon ends.
pub(crate) fn run() -> ExitCode {
    let _ = nix::sys::prctl::set_name(c"confd-files");
    // Threads inherit this. SIGKILL remains.
    let _ = SigSet::all().thread_block();
    let Ok(requests) = io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::FAILURE;
    };
    let readers = Arc::new([Io::Uring, Io::Blocking].map(FileReader::new));
    loop {
        match receive(&requests) {
            Ok(Some((request, descriptors))) => {
                let readers = Arc::clone(&readers);
                let serve = move || serve(&readers, request, descriptors);
                // If it fails, the reply's socket is closed, and the daemon starts another helper.
                let _ = thread::Builder::new()
                    .name("confd-files".into())
                    .spawn(serve);
            }
            Ok(None) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// Receives a request with its descriptors; `None` if the daemon has ended.
fn receive(socket: &OwnedFd) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; REQUEST_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let request = serde_json::from_slice(&buffer[..received.bytes])?;
    Ok(Some((request, descriptors)))
}

/// Carries out a request. Errors of the reply's socket mean that nobody waits any more.
fn serve(readers: &[FileReader; 2], request: Request, descriptors: Vec<OwnedFd>) {
    let mut descriptors = descriptors.into_iter();
    let Some(reply) = descriptors.next() else {
        return;
    };
    let mut reply = Reply(UnixStream::from(reply));
    let _ = match request {
        Request::Check { path, limit } => {
            let path = Path::new(OsStr::from_bytes(&path));
            let checked = check_here(descriptors.next().as_ref(), path, limit);
            reply.json(tag::END, &checked)
        }
        Request::Read { path, limit, uring } => {
            // On Linux, nice applies to the calling thread only.
            let _ = rustix::process::nice(NICE);
            let path = Path::new(OsStr::from_bytes(&path));
            let reader = &readers[usize::from(!uring)];
            let result = reader.read_to(path, limit, &mut reply);
            let causes = reader.new_causes();
            reply.json(tag::END, &End { result, causes })
        }
    };
}

/// The socket for a reply.
struct Reply(UnixStream);

impl Reply {
    fn json(&mut self, tag: u8, content: &impl Serialize) -> io::Result<()> {
        self.frame(tag, &serde_json::to_vec(content)?)
    }

    fn frame(&mut self, tag: u8, content: &[u8]) -> io::Result<()> {
        debug_assert!(content.len() <= FRAME_BYTES_MAX);
        let [a, b, c, d] = (content.len() as u32).to_ne_bytes();
        self.0.write_all(&[tag, a, b, c, d])?;
        self.0.write_all(content)
    }
}

impl Sink for Reply {
    fn begin(&mut self, id: &FileId) -> Result<(), ReadError> {
        self.json(tag::BEGIN, id).map_err(gone)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.frame(tag::CHUNK, bytes).map_err(gone)
    }
}

/// The error of a sink that nobody reads.
fn gone(_: io::Error) -> ReadError {
    ReadError::Read(Errno::EPIPE)
}

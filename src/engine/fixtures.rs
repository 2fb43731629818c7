//! What the unit tests of several files share.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::handler::Handler;
use crate::protocol::{Key, Reject};
use crate::responder::{Datagram, ReplyInfo, Served};
use crate::snapshot::Snapshot;

/// How long a test waits for anything.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// Unwraps `made`; where io_uring is refused, prints why and returns `None`. With CI=true that is a
/// failure.
pub(super) fn uring_or_skip<T, E: fmt::Display>(made: Result<T, E>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(error) if std::env::var("CI").as_deref() == Ok("true") => {
            panic!("no io_uring: {error}")
        }
        Err(error) => {
            eprintln!("skipped, no io_uring: {error}");
            None
        }
    }
}

/// Sends datagrams back. At each "hold" it reports that it is held, and waits to be resumed.
pub(super) struct Echo {
    held: mpsc::Sender<()>,
    resume: mpsc::Receiver<()>,
    /// The first bytes of all datagrams, in the order in which they were answered.
    answered: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    /// Returns an echo, a channel that reports when it is held, and one that resumes it.
    pub(super) fn new() -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (held, is_held) = mpsc::channel();
        let (resume, resumed) = mpsc::channel();
        let echo = Self {
            held,
            resume: resumed,
            answered: Arc::default(),
        };
        (echo, is_held, resume)
    }

    /// The first byte of each datagram, in the order in which they were answered.
    pub(super) fn answered(&self) -> Arc<Mutex<Vec<u8>>> {
        Arc::clone(&self.answered)
    }
}

impl Handler for Echo {
    fn handle(
        &mut self,
        datagram: Datagram<'_>,
        _now: u64,
        _served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject> {
        if datagram.bytes().starts_with(b"hold") {
            self.held.send(()).unwrap();
            self.resume.recv_timeout(TIMEOUT).unwrap();
        }
        let mut answered = self.answered.lock().unwrap();
        answered.extend(datagram.bytes().first());
        drop(answered);
        let len = datagram.len();
        out[..len].copy_from_slice(datagram.bytes());
        Ok(ReplyInfo {
            len,
            kind: 0,
            is_error: false,
            too_large: false,
        })
    }
}

/// A published state that answers errors.
pub(super) fn published() -> Arc<ArcSwap<Served>> {
    Arc::new(ArcSwap::from_pointee(Served {
        key: Arc::new(Key::new(b"key").unwrap()),
        snapshot: Arc::new(Snapshot::unavailable("test")),
    }))
}

/// A client of the server at `addr`.
pub(super) fn client_of(addr: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(addr).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client
}

//! The shell for tokio: one task per socket receives, each call's future sends and keeps its times.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::calls::{Calls, Id};
use super::candidate::{self, Candidates};
use super::question::{self, Question};
use super::socket::{self, FamilySocket, Received, Sockets};
use super::{Candidate, Error, Outcome, Settings};
use crate::clock;
use crate::protocol::Key;

/// Asks a cluster's master candidates, for programs on tokio. Any number of calls are under way at the same time over the same sockets.
///
/// What can be asked is in [`question`]; the rules are in the [module's description](super). Dropping a call's future ends the call.
///
/// ```
/// use ganeti_confd::client::{AsyncConfdClient, question};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// let client = AsyncConfdClient::new(demo.key(), [demo.candidate()])?;
///
/// let (master, node2) = (question::cluster_master(), question::node_role("node2"));
/// let (master, role) = tokio::join!(client.ask(&master), client.ask(&node2));
/// assert_eq!(master?, "node1.example.com");
/// println!("node2 is {}", role?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncConfdClient {
    candidates: Candidates,
    settings: Settings,
    shared: Arc<Shared>,
    receivers: Vec<JoinHandle<()>>,
}

impl Drop for AsyncConfdClient {
    fn drop(&mut self) {
        for receiver in &self.receivers {
            receiver.abort();
        }
    }
}

#[derive(Debug)]
struct Shared {
    sockets: Sockets,
    state: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    calls: Calls,
    /// Who waits for which call.
    waiting: HashMap<Id, Arc<Notify>>,
    /// Why nothing is received any more.
    failed: Option<(ErrorKind, String)>,
}

impl AsyncConfdClient {
    /// A client for these candidates and this key. Its receiving tasks run on the calling task's runtime until it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`]; [`Error::NoCandidates`]; [`Error::Socket`] if no socket can be had.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time.
    pub fn new(key: &[u8], candidates: impl IntoIterator<Item = Candidate>) -> Result<Self, Error> {
        let key = Key::new(key).map_err(Error::EmptyKey)?;
        Self::with_key(key, candidates)
    }

    /// A client for the cluster that this host is a node of, as [`super::ConfdClient::of_this_node`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As of [`AsyncConfdClient::new`].
    pub fn of_this_node() -> Result<Self, Error> {
        let (key, candidates) = candidate::of_this_node()?;
        Self::with_key(key, candidates)
    }

    /// As [`AsyncConfdClient::new`], with a key that is prepared already.
    ///
    /// # Errors
    ///
    /// [`Error::NoCandidates`]; [`Error::Socket`] if no socket can be had.
    ///
    /// # Panics
    ///
    /// As of [`AsyncConfdClient::new`].
    pub fn with_key(
        key: Key,
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Result<Self, Error> {
        let candidates = Candidates::new(candidates)?;
        let shared = Arc::new(Shared {
            sockets: Sockets::open().map_err(Error::Socket)?,
            state: Mutex::new(Inner {
                calls: Calls::new(key).map_err(Error::Socket)?,
                waiting: HashMap::new(),
                failed: None,
            }),
        });
        let mut client = Self {
            candidates,
            settings: Settings::default(),
            shared: Arc::clone(&shared),
            receivers: Vec::new(),
        };
        for socket in shared.sockets.all() {
            // Only for its readiness; what has come is taken from the socket itself.
            let watched = socket.watched().map_err(Error::Socket)?;
            let receiver = Arc::clone(&shared).receive_until_failure(Arc::clone(socket), watched);
            client.receivers.push(tokio::spawn(receiver));
        }
        Ok(client)
    }

    /// The same client with other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The candidates that are asked.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.candidates.list()
    }

    /// As [`super::ConfdClient::refresh_candidates`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn refresh_candidates(&self) -> Result<Vec<Candidate>, Error> {
        let question = question::candidate_ips();
        let answer = match self.ask(&question).await {
            Err(Error::Silence(_)) if self.candidates.go_back() => self.ask(&question).await,
            answer => answer,
        };
        self.candidates.replace(&answer?)
    }

    /// As [`super::ConfdClient::ask`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn ask<T>(&self, question: &Question<T>) -> Result<T, Error> {
        self.query_all(question).await?.into_answer(question)
    }

    /// As [`super::ConfdClient::query_all`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn query_all<T>(&self, question: &Question<T>) -> Result<Outcome, Error> {
        self.query_all_with(question, self.settings).await
    }

    /// As [`super::ConfdClient::query_all_with`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn query_all_with<T>(
        &self,
        question: &Question<T>,
        settings: Settings,
    ) -> Result<Outcome, Error> {
        let call = self.start(question, settings)?;
        loop {
            let wake = match self.shared.proceed(call.id)? {
                Progress::Over(outcome) => return Ok(outcome),
                Progress::WaitUntil(wake) => wake,
            };
            // Woken or not, it looks how far it has come.
            let _ = tokio::time::timeout_at(wake.into(), call.changed.notified()).await;
        }
    }

    fn start<T>(&self, question: &Question<T>, settings: Settings) -> Result<Started<'_>, Error> {
        let candidates = self.candidates.list();
        let changed = Arc::new(Notify::new());
        let mut state = self.shared.lock();
        let asked = question.raw().clone();
        let id = state
            .calls
            .start(asked, &candidates, settings, Instant::now())?;
        state.waiting.insert(id, Arc::clone(&changed));
        Ok(Started {
            shared: &self.shared,
            id,
            changed,
        })
    }
}

/// A call under way; forgotten when dropped.
struct Started<'a> {
    shared: &'a Shared,
    id: Id,
    changed: Arc<Notify>,
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.calls.cancel(self.id);
        state.waiting.remove(&self.id);
    }
}

enum Progress {
    Over(Outcome),
    WaitUntil(Instant),
}

impl Shared {
    /// Sends what is due of a call, if it is not over.
    fn proceed(&self, id: Id) -> Result<Progress, Error> {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(outcome) = state.calls.finish(id, now) {
            return Ok(Progress::Over(outcome));
        }
        if let Some((kind, why)) = &state.failed {
            return Err(Error::Socket(io::Error::new(*kind, why.clone())));
        }
        let send = |datagram: &[u8], to| self.sockets.send(datagram, to);
        state.calls.transmit(id, now, clock::unix_seconds(), send);
        Ok(Progress::WaitUntil(state.calls.wake(id).unwrap_or(now)))
    }

    async fn receive_until_failure(self: Arc<Self>, socket: Arc<FamilySocket>, watched: UdpSocket) {
        let Err(error) = self.receive(&socket, &watched).await;
        let mut state = self.lock();
        state.failed = Some((error.kind(), error.to_string()));
        for waiting in state.waiting.values() {
            waiting.notify_one();
        }
    }

    async fn receive(&self, socket: &FamilySocket, watched: &UdpSocket) -> io::Result<Infallible> {
        let mut buffer = socket::buffer();
        loop {
            let ready = watched.ready(Interest::READABLE | Interest::ERROR).await?;
            // Tokio forgets readiness for one interest at a time.
            for (is_ready, interest) in [
                (ready.is_error(), Interest::ERROR),
                (ready.is_readable(), Interest::READABLE),
            ] {
                if is_ready {
                    self.take_all(socket, watched, interest, &mut buffer)?;
                }
            }
        }
    }

    fn take_all(
        &self,
        socket: &FamilySocket,
        watched: &UdpSocket,
        interest: Interest,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let taken = watched.try_io(interest, || match self.take(socket, buffer)? {
            Received::All => Err(ErrorKind::WouldBlock.into()),
            Received::Some => Ok(()),
        });
        match taken {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            taken => taken,
        }
    }

    fn take(&self, socket: &FamilySocket, buffer: &mut [u8]) -> io::Result<Received> {
        let mut state = self.lock();
        let Inner { calls, waiting, .. } = &mut *state;
        socket.take(calls, buffer, |id| {
            if let Some(waiting) = waiting.get(&id) {
                waiting.notify_one();
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panics between two datagrams leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

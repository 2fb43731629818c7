//! The client for tokio. One task per socket receives; the future of each call sends and keeps its
//! times.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::answer::{DataCollector, DrbdMinor, Master, NodeInstances, NodeRole};
use super::calls::{Calls, Id};
use super::candidate::Candidate;
use super::candidates::{self, Candidates};
use super::disk::Disk;
use super::error::Error;
use super::observer::Observer;
use super::outcome::Outcome;
use super::queries::for_each_query;
use super::question::{self, Question};
use super::settings::Settings;
use super::socket::{self, FamilySocket, Received, Sockets};
use crate::clock;
use crate::protocol::Key;

/// The time after an error of a socket until it is used again. Calls fail meanwhile.
const RECEIVE_PAUSE: Duration = Duration::from_secs(1);

/// Asks a cluster's master candidates, for programs on tokio. Calls run at the same time over the
/// same sockets.
///
/// The rules are in the [module's documentation](super). Dropping a call's future cancels the call.
///
/// ```
/// use ganeti_confd::client::AsyncConfdClient;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// let client = AsyncConfdClient::new(demo.key(), [demo.address()])?;
///
/// let (master, role) = tokio::join!(client.cluster_master(), client.node_role("node2"));
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
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: Calls,
    /// The futures that wait, by call.
    waiting: HashMap<Id, Arc<Notify>>,
    /// The error of a socket from which nothing is received for [`RECEIVE_PAUSE`].
    failed: Option<(ErrorKind, String)>,
}

impl AsyncConfdClient {
    /// A client for a cluster with this key and these candidates, in the forms that
    /// [`ConfdClient::new`](super::ConfdClient::new) takes. Host names are looked up on the calling
    /// thread.
    ///
    /// The client's tasks run on the current runtime until the client is dropped.
    ///
    /// # Errors
    ///
    /// See [`ConfdClient::new`](super::ConfdClient::new).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time.
    pub fn new<K, C>(key: K, candidates: impl IntoIterator<Item = C>) -> Result<Self, Error>
    where
        K: TryInto<Key, Error: Into<Error>>,
        C: TryInto<Candidate, Error: Into<Error>>,
    {
        let key = key.try_into().map_err(Into::into)?;
        let candidates = Candidates::new(candidates)?;
        let shared = Arc::new(Shared {
            sockets: Sockets::open(&Observer::default()).map_err(Error::Socket)?,
            state: Mutex::new(State {
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
            // Used for its readiness only; datagrams are received from the socket itself.
            let watched = socket.watched().map_err(Error::Socket)?;
            let receiver = Arc::clone(&shared).receive_all(Arc::clone(socket), watched);
            client.receivers.push(tokio::spawn(receiver));
        }
        Ok(client)
    }

    /// A client for the cluster that this host is a node of. Key and candidates are read from the
    /// node's files, below `GANETI_ROOTDIR` if that is set.
    ///
    /// # Errors
    ///
    /// [`Error::NodeFiles`]: a file is missing or cannot be used; [`Error::Socket`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time.
    pub fn of_this_node() -> Result<Self, Error> {
        let (key, candidates) = candidates::of_this_node()?;
        Self::new(key, candidates)
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

    /// Refreshes the list of candidates from the cluster, keeping the port. If no candidate
    /// replies, asks the candidates that the client was made with.
    ///
    /// # Errors
    ///
    /// See [`AsyncConfdClient::ask`]. The list is then unchanged, or that from the start.
    pub async fn refresh_candidates(&self) -> Result<Vec<Candidate>, Error> {
        let question = question::candidate_ips();
        let answer = match self.ask(&question).await {
            Err(Error::NoReply(_)) if self.candidates.restore_first() => self.ask(&question).await,
            answer => answer,
        };
        self.candidates.replace(&answer?)
    }

    /// Asks the candidates and returns the best answer.
    ///
    /// # Errors
    ///
    /// See [`ConfdClient::ask`](super::ConfdClient::ask).
    pub async fn ask<T>(&self, question: &Question<T>) -> Result<T, Error> {
        self.query_all(question).await?.into_answer(question)
    }

    /// Asks the candidates and returns the answers of all.
    ///
    /// # Errors
    ///
    /// [`Error::RequestTooLarge`], [`Error::Socket`].
    pub async fn query_all<T>(&self, question: &Question<T>) -> Result<Outcome, Error> {
        self.query_all_with(question, self.settings).await
    }

    /// Like [`AsyncConfdClient::query_all`], with other settings for this call.
    ///
    /// # Errors
    ///
    /// See [`AsyncConfdClient::query_all`].
    pub async fn query_all_with<T>(
        &self,
        question: &Question<T>,
        settings: Settings,
    ) -> Result<Outcome, Error> {
        let call = self.start(question, settings)?;
        loop {
            let wakeup = match self.shared.proceed(call.id)? {
                Progress::Over(outcome) => return Ok(outcome),
                Progress::WaitUntil(wakeup) => wakeup,
            };
            // Notified or not, the call's progress is checked.
            let _ = tokio::time::timeout_at(wakeup.into(), call.changed.notified()).await;
        }
    }

    fn start<T>(
        &self,
        question: &Question<T>,
        settings: Settings,
    ) -> Result<RunningCall<'_>, Error> {
        let candidates = self.candidates.list();
        let changed = Arc::new(Notify::new());
        let query = question.untyped().clone();
        let mut state = self.shared.lock();
        let id = state
            .calls
            .start(query, &candidates, settings, Instant::now())?;
        state.waiting.insert(id, Arc::clone(&changed));
        Ok(RunningCall {
            shared: &self.shared,
            id,
            changed,
        })
    }
}

/// A running call; cancelled when dropped.
struct RunningCall<'a> {
    shared: &'a Shared,
    id: Id,
    changed: Arc<Notify>,
}

impl Drop for RunningCall<'_> {
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
    /// Sends the requests of a call that are due, unless it is over.
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
        let clock = clock::unix_seconds();
        state.calls.transmit(id, now, clock, send);
        let wakeup = state.calls.next_wakeup(id).unwrap_or(now);
        Ok(Progress::WaitUntil(wakeup))
    }

    /// Receives until the task is aborted. An error of the socket ends the calls that are running.
    async fn receive_all(self: Arc<Self>, socket: Arc<FamilySocket>, watched: UdpSocket) {
        loop {
            let Err(error) = self.receive(&socket, &watched).await;
            self.fail(&error);
            tokio::time::sleep(RECEIVE_PAUSE).await;
            self.lock().failed = None;
        }
    }

    fn fail(&self, error: &io::Error) {
        let mut state = self.lock();
        state.failed = Some((error.kind(), error.to_string()));
        for waiting in state.waiting.values() {
            waiting.notify_one();
        }
    }

    /// Receives until an error of the socket.
    async fn receive(&self, socket: &FamilySocket, watched: &UdpSocket) -> io::Result<Infallible> {
        let mut buffer = socket::buffer();
        loop {
            let ready = watched.ready(Interest::READABLE | Interest::ERROR).await?;
            // `try_io` clears the readiness of one interest at a time.
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
        let State { calls, waiting, .. } = &mut *state;
        socket.take(calls, buffer, |id| {
            if let Some(waiting) = waiting.get(&id) {
                waiting.notify_one();
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A datagram is taken as a whole, so that a panic leaves the calls intact.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

macro_rules! async_methods {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// One method for each query of [`question`].
        impl AsyncConfdClient {
            $(
                $(#[$doc])*
                #[doc = concat!("Details: [`question::", stringify!($name), "`].")]
                ///
                /// # Errors
                ///
                /// See [`ConfdClient::ask`](super::ConfdClient::ask).
                pub async fn $name(&self, $($arg: $type),*) -> Result<$answer, Error> {
                    self.ask(&question::$name($($arg),*)).await
                }
            )*
        }
    };
}

for_each_query!(async_methods);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_socket_error_ends_the_running_calls() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            // A port at which nothing listens.
            let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .and_then(|socket| socket.local_addr())
                .expect("loopback has a port");
            let client = AsyncConfdClient::new(b"secret", [nobody]).expect("sockets");
            let broken = Sockets::broken().expect("there is a null device");
            let broken = Arc::clone(broken.all().next().expect("there is one"));
            // A readable socket, so that the broken one is used.
            let watched = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a port");
            let address = watched.local_addr().expect("it is bound");
            watched.send_to(b"", address).await.expect("loopback works");
            let receiver = Arc::clone(&client.shared).receive_all(broken, watched);
            let receiver = tokio::spawn(receiver);

            let error = client.ping().await.expect_err("the socket fails");
            assert!(matches!(error, Error::Socket(_)), "{error}");
            assert_eq!(client.shared.lock().calls.count(), 0);
            assert!(client.shared.lock().waiting.is_empty());

            // As after the pause, if the socket works again.
            receiver.abort();
            let _ = receiver.await;
            client.shared.lock().failed = None;
            let error = client.ping().await.expect_err("nothing listens there");
            assert!(matches!(error, Error::NoReply(_)), "{error}");
        });
    }
}

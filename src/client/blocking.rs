//! The blocking client.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

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
use super::skew::Skew;
use super::skew_pings;
use super::socket::{self, Sockets};
use crate::clock;
use crate::protocol::Key;

/// Asks a cluster's master candidates and waits for the answer.
///
/// All methods take `&self`: threads share one client, and their calls run at the same time over
/// the same sockets. One of the waiting threads receives the datagrams for all of them.
///
/// The rules for asking, and for choosing one of several answers, are in the
/// [module's documentation](super).
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// use ganeti_confd::ConfdClient;
///
/// let client = ConfdClient::new(demo.key(), [demo.address()])?;
/// println!("the master is {}", client.cluster_master()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ConfdClient {
    candidates: Candidates,
    settings: Settings,
    sockets: Sockets,
    shared: Mutex<Shared>,
    /// A datagram came, or the receiving thread stopped receiving.
    changed: Condvar,
}

#[derive(Debug)]
struct Shared {
    calls: Calls,
    /// Memory to receive into; `None` while a thread is receiving.
    buffer: Option<Box<[u8]>>,
}

impl ConfdClient {
    /// A client for a cluster with this key and these candidates.
    ///
    /// The key is a [`Key`] or the bytes of `hmac.key`; every byte counts. A candidate is a
    /// [`Candidate`], a socket address, an IP address, or a text such as `node1.example.com:1814`.
    /// Candidates with a common address are one. Host names are looked up now; one without an
    /// address is an unreachable candidate.
    ///
    /// # Errors
    ///
    /// * [`Error::EmptyKey`], [`Error::NoCandidates`].
    /// * [`Error::Address`]: a text is not an address.
    /// * [`Error::Socket`]: a socket cannot be opened.
    pub fn new<K, C>(key: K, candidates: impl IntoIterator<Item = C>) -> Result<Self, Error>
    where
        K: TryInto<Key, Error: Into<Error>>,
        C: TryInto<Candidate, Error: Into<Error>>,
    {
        let key = key.try_into().map_err(Into::into)?;
        Self::observed(key, candidates, &Observer::default())
    }

    /// As [`ConfdClient::new`]; `observer` sees the datagrams of calls, but not the pings of
    /// [`ConfdClient::estimate_skews`].
    pub(crate) fn observed<C>(
        key: Key,
        candidates: impl IntoIterator<Item = C>,
        observer: &Observer,
    ) -> Result<Self, Error>
    where
        C: TryInto<Candidate, Error: Into<Error>>,
    {
        Ok(Self {
            candidates: Candidates::new(candidates)?,
            settings: Settings::default(),
            sockets: Sockets::open(observer).map_err(Error::Socket)?,
            shared: Mutex::new(Shared {
                calls: Calls::new(key).map_err(Error::Socket)?,
                buffer: Some(socket::buffer()),
            }),
            changed: Condvar::new(),
        })
    }

    /// A client for the cluster that this host is a node of. Key and candidates are read from the
    /// node's files, below `GANETI_ROOTDIR` if that is set.
    ///
    /// # Errors
    ///
    /// [`Error::NodeFiles`]: a file is missing or cannot be used; [`Error::Socket`].
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
    /// See [`ConfdClient::ask`]. The list is then unchanged, or that from the start.
    pub fn refresh_candidates(&self) -> Result<Vec<Candidate>, Error> {
        let question = question::candidate_ips();
        let answer = match self.ask(&question) {
            Err(Error::NoReply(_)) if self.candidates.restore_first() => self.ask(&question),
            answer => answer,
        };
        self.candidates.replace(&answer?)
    }

    /// Asks the candidates and returns the best answer.
    ///
    /// # Errors
    ///
    /// * [`Error::NoReply`], [`Error::TooFewReplies`]: time is up.
    /// * [`Error::Answered`]: the best answer is an error. [`Error::is_not_found`] recognizes
    ///   unknown names.
    /// * [`Error::Unreadable`]: the answer does not have the expected type.
    /// * [`Error::RequestTooLarge`], [`Error::Socket`].
    pub fn ask<T>(&self, question: &Question<T>) -> Result<T, Error> {
        self.query_all(question)?.into_answer(question)
    }

    /// Asks the candidates and returns the answers of all.
    ///
    /// # Errors
    ///
    /// [`Error::RequestTooLarge`], [`Error::Socket`]. Candidates that do not reply, or reply with
    /// an error, are part of the outcome.
    pub fn query_all<T>(&self, question: &Question<T>) -> Result<Outcome, Error> {
        self.query_all_with(question, self.settings)
    }

    /// Like [`ConfdClient::query_all`], with other settings for this call.
    ///
    /// # Errors
    ///
    /// See [`ConfdClient::query_all`].
    pub fn query_all_with<T>(
        &self,
        question: &Question<T>,
        settings: Settings,
    ) -> Result<Outcome, Error> {
        let candidates = self.candidates.list();
        let query = question.untyped().clone();
        let mut shared = self.lock();
        let id = shared
            .calls
            .start(query, &candidates, settings, Instant::now())?;
        loop {
            let now = Instant::now();
            if let Some(outcome) = shared.calls.finish(id, now) {
                return Ok(outcome);
            }
            let send = |datagram: &[u8], to| self.sockets.send(datagram, to);
            let clock = clock::unix_seconds();
            shared.calls.transmit(id, now, clock, send);
            let waited;
            (shared, waited) = self.wait(shared, id);
            if let Err(error) = waited {
                shared.calls.cancel(id);
                return Err(Error::Socket(error));
            }
        }
    }

    /// Estimates how far each candidate's clock is from this host's; `None` for a candidate that
    /// does not answer.
    ///
    /// Confd answers only requests whose clock is within five minutes of its own, and drops others
    /// silently. So the candidates are sent pings with other times: at most about 150 to a
    /// candidate that answers and 700 to one that does not, within about two seconds. Clocks up to
    /// 26 hours off are found, which distinguishes a wrong clock from a wrong key.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// for (candidate, skew) in client.estimate_skews()? {
    ///     let skew = skew.expect("it answers");
    ///     println!("{candidate} is {} s ahead, plus or minus {} s", skew.seconds, skew.within);
    ///     assert!(skew.seconds.abs() <= 1);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn estimate_skews(&self) -> Result<Vec<(Candidate, Option<Skew>)>, Error> {
        let candidates = self.candidates.list();
        let key = self.lock().calls.key().clone();
        let skews = skew_pings::estimate(&key, &candidates).map_err(Error::Socket)?;
        Ok(candidates.into_iter().zip(skews).collect())
    }

    /// Waits for a datagram or for the call's next wakeup. Receives for all calls, unless another
    /// thread does.
    fn wait<'a>(
        &'a self,
        mut shared: MutexGuard<'a, Shared>,
        id: Id,
    ) -> (MutexGuard<'a, Shared>, std::io::Result<()>) {
        let now = Instant::now();
        let until = shared.calls.next_wakeup(id).unwrap_or(now);
        let Some(mut buffer) = shared.buffer.take() else {
            let left = until.saturating_duration_since(now);
            let woken = self.changed.wait_timeout(shared, left);
            return (woken.unwrap_or_else(PoisonError::into_inner).0, Ok(()));
        };
        drop(shared);
        let waited = self.sockets.wait(until);
        let mut shared = self.lock();
        let taken = waited.and_then(|()| self.sockets.take(&mut shared.calls, &mut buffer));
        shared.buffer = Some(buffer);
        self.changed.notify_all();
        (shared, taken)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A datagram is taken as a whole, so that a panic leaves the calls intact.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

macro_rules! blocking_methods {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        /// One method for each query of [`question`].
        impl ConfdClient {
            $(
                $(#[$doc])*
                #[doc = concat!("Details and an example: [`question::", stringify!($name), "`].")]
                ///
                /// # Errors
                ///
                /// See [`ConfdClient::ask`].
                pub fn $name(&self, $($arg: $type),*) -> Result<$answer, Error> {
                    self.ask(&question::$name($($arg),*))
                }
            )*
        }
    };
}

for_each_query!(blocking_methods);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_ends_with_a_socket_error() {
        let mut client = ConfdClient::new(b"secret", ["127.0.0.1:9"]).expect("sockets");
        client.sockets = Sockets::broken().expect("there is a null device");
        for _ in 0..3 {
            let error = client.ping().expect_err("it is not a socket");
            assert!(matches!(error, Error::Socket(_)), "{error}");
        }
        assert_eq!(client.lock().calls.count(), 0);
    }
}

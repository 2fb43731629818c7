//! The blocking shell.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;

use super::answer::NodeOfIp;
use super::calls::{Calls, Id};
use super::candidate::{self, Candidates};
use super::question::{self, Question};
use super::socket::{self, Sockets};
use super::{
    Candidate, DataCollector, Disk, DrbdMinor, Error, Master, NodeInstances, NodeRole, Outcome,
    Settings, Skew, clocks,
};
use crate::clock;
use crate::protocol::Key;

/// Asks a cluster's master candidates, and waits for the answer.
///
/// All methods take `&self`: threads share one client, and their calls are under way at the same time over the same sockets. The
/// thread that waits first takes the datagrams for all of them.
///
/// The rules by which it asks, and by which one answer is taken of many, are in the [module's description](super).
#[derive(Debug)]
pub struct ConfdClient {
    candidates: Candidates,
    settings: Settings,
    sockets: Sockets,
    shared: Mutex<Shared>,
    /// Something came, or the thread that receives stops to do so.
    changed: Condvar,
}

#[derive(Debug)]
struct Shared {
    calls: Calls,
    /// Memory to receive into; gone while a thread is receiving.
    buffer: Option<Box<[u8]>>,
}

impl ConfdClient {
    /// A client for these candidates and this key.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyKey`]; [`Error::NoCandidates`]; [`Error::Socket`] if no socket can be had.
    pub fn new(key: &[u8], candidates: impl IntoIterator<Item = Candidate>) -> Result<Self, Error> {
        let key = Key::new(key).map_err(Error::EmptyKey)?;
        Self::with_key(key, candidates)
    }

    /// As [`ConfdClient::new`], with a key that is prepared already.
    ///
    /// # Errors
    ///
    /// [`Error::NoCandidates`]; [`Error::Socket`] if no socket can be had.
    pub fn with_key(
        key: Key,
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Result<Self, Error> {
        Ok(Self {
            candidates: Candidates::new(candidates)?,
            settings: Settings::default(),
            sockets: Sockets::open().map_err(Error::Socket)?,
            shared: Mutex::new(Shared {
                calls: Calls::new(key).map_err(Error::Socket)?,
                buffer: Some(socket::buffer()),
            }),
            changed: Condvar::new(),
        })
    }

    /// A client for the cluster that this host is a node of: key and candidates are read from the node's files, below
    /// `GANETI_ROOTDIR` if that is set.
    ///
    /// # Errors
    ///
    /// A file is missing or of no use; as of [`ConfdClient::with_key`].
    pub fn of_this_node() -> Result<Self, Error> {
        let (key, candidates) = candidate::of_this_node()?;
        Self::with_key(key, candidates)
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

    /// Asks the candidates who the candidates are, and asks those from now on, at the port that the first was asked at. If none answers,
    /// those are asked that the client was made with.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`]; the list stays as it was then.
    pub fn refresh_candidates(&self) -> Result<Vec<Candidate>, Error> {
        let question = question::candidate_ips();
        let answer = match self.ask(&question) {
            Err(Error::Silence(_)) if self.candidates.go_back() => self.ask(&question),
            answer => answer,
        };
        self.candidates.replace(&answer?)
    }

    /// Asks, and gives the answer that counts.
    ///
    /// # Errors
    ///
    /// [`Error::Silence`] and [`Error::TooFewReplies`] when time is up; [`Error::Answered`] if the best answer is an error;
    /// and what can go wrong on this host.
    pub fn ask<T>(&self, question: &Question<T>) -> Result<T, Error> {
        self.query_all(question)?.into_answer(question)
    }

    /// Asks, and gives everybody's answer.
    ///
    /// # Errors
    ///
    /// What can go wrong on this host. Silence and errors of candidates are not errors here.
    pub fn query_all<T>(&self, question: &Question<T>) -> Result<Outcome, Error> {
        self.query_all_with(question, self.settings)
    }

    /// As [`ConfdClient::query_all`], with settings of its own.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::query_all`].
    pub fn query_all_with<T>(
        &self,
        question: &Question<T>,
        settings: Settings,
    ) -> Result<Outcome, Error> {
        let candidates = self.candidates.list();
        let mut shared = self.lock();
        let asked = question.raw().clone();
        let id = shared
            .calls
            .start(asked, &candidates, settings, Instant::now())?;
        loop {
            let now = Instant::now();
            if let Some(outcome) = shared.calls.finish(id, now) {
                return Ok(outcome);
            }
            let send = |datagram: &[u8], to| self.sockets.send(datagram, to);
            shared.calls.transmit(id, now, clock::unix_seconds(), send);
            shared = self.wait(shared, id)?;
        }
    }

    /// How far each candidate's clock is from this host's; none for a candidate that does not answer.
    ///
    /// Confd answers only those whose clock is within five minutes of its own, and is silent otherwise. The candidates' clocks are found by pings
    /// that pretend other times, at most some 150 a candidate that answers and 700 to a silent one, within some two seconds. The
    /// latter finds clocks up to 26 hours off, so that a wrong clock is told from a wrong key.
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
    ///     println!("{candidate} is {} s ahead, or {} s more or less", skew.seconds, skew.within);
    ///     assert!(skew.seconds.abs() <= 1);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn estimate_skews(&self) -> Result<Vec<(Candidate, Option<Skew>)>, Error> {
        let candidates = self.candidates.list();
        let key = self.lock().calls.key().clone();
        let skews = clocks::estimate(&key, &candidates).map_err(Error::Socket)?;
        Ok(candidates.into_iter().zip(skews).collect())
    }

    /// Waits until the call can have come further: receives, or lets the thread that is receiving do it.
    fn wait<'a>(
        &'a self,
        mut shared: MutexGuard<'a, Shared>,
        id: Id,
    ) -> Result<MutexGuard<'a, Shared>, Error> {
        let now = Instant::now();
        let until = shared.calls.wake(id).unwrap_or(now);
        let Some(mut buffer) = shared.buffer.take() else {
            let left = until.saturating_duration_since(now);
            let woken = self.changed.wait_timeout(shared, left);
            return Ok(woken.unwrap_or_else(PoisonError::into_inner).0);
        };
        drop(shared);
        let waited = self.sockets.wait(until);
        let mut shared = self.lock();
        let taken = waited.and_then(|()| self.sockets.take(&mut shared.calls, &mut buffer));
        shared.buffer = Some(buffer);
        self.changed.notify_all();
        taken.map_err(Error::Socket)?;
        Ok(shared)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A thread that panics between two datagrams leaves nothing half done.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One method per query.
impl ConfdClient {
    /// Whether the daemons are there: gives the configuration's version.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// assert_eq!(client.ping()?, 3_000_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ping(&self) -> Result<i64, Error> {
        self.ask(&question::ping())
    }

    /// What a node is: master, candidate, offline, drained or regular. Details: [`question::node_role`].
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// use ganeti_confd::client::NodeRole;
    ///
    /// assert_eq!(client.node_role("node1.example.com")?, NodeRole::Master);
    /// assert_eq!(client.node_role("node2")?, NodeRole::Regular);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn node_role(&self, node: &str) -> Result<NodeRole, Error> {
        self.ask(&question::node_role(node))
    }

    /// The primary address of the node on which the instance with this address runs. Details: [`question::node_of_ip`].
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// let ip = &client.instance_ips(None)?[0];
    /// let node = client.node_of_ip(ip, None)?;
    /// assert!(client.node_ips()?.contains(&node));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn node_of_ip(&self, ip: &str, link: Option<&str>) -> Result<String, Error> {
        self.ask(&question::node_of_ip(ip, link))
    }

    /// As [`ConfdClient::node_of_ip`] for many addresses at once, in the order asked for.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// let ip = &client.instance_ips(None)?[0];
    /// let nodes = client.nodes_of_ips(&[ip, "no address"], None)?;
    /// assert_eq!(nodes[0].0, Some(client.node_of_ip(ip, None)?));
    /// assert_eq!(nodes[1].0, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn nodes_of_ips(&self, ips: &[&str], link: Option<&str>) -> Result<Vec<NodeOfIp>, Error> {
        self.ask(&question::nodes_of_ips(ips, link))
    }

    /// The master node's full name.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// assert_eq!(client.cluster_master()?, "node1.example.com");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cluster_master(&self) -> Result<String, Error> {
        self.ask(&question::cluster_master())
    }

    /// The master node's name and address, and the cluster's own address.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// let master = client.master_addresses()?;
    /// assert_eq!(master.name, client.cluster_master()?);
    /// assert!(client.node_ips()?.contains(&master.primary_ip));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn master_addresses(&self) -> Result<Master, Error> {
        self.ask(&question::master_addresses())
    }

    /// The primary addresses of all nodes.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// assert_eq!(client.node_ips()?.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn node_ips(&self) -> Result<Vec<String>, Error> {
        self.ask(&question::node_ips())
    }

    /// The primary addresses of all master candidates.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// let nodes = client.node_ips()?;
    /// assert!(client.candidate_ips()?.iter().all(|ip| nodes.contains(ip)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn candidate_ips(&self) -> Result<Vec<String>, Error> {
        self.ask(&question::candidate_ips())
    }

    /// The addresses of all instances on a link, without one the cluster's default link.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// let default = client.config("/cluster/nicparams/default/link")?;
    /// assert_eq!(client.instance_ips(None)?, client.instance_ips(default.as_str())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn instance_ips(&self, link: Option<&str>) -> Result<Vec<String>, Error> {
        self.ask(&question::instance_ips(link))
    }

    /// A node's DRBD minors, with the instance, the role and the other end's node of each.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// for minor in client.node_drbd("node1.example.com")? {
    ///     println!("/dev/drbd{} {} of {}, {} to {}", minor.minor, minor.disk, minor.instance, minor.role, minor.peer);
    ///     assert_eq!(minor.node, "node1.example.com");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn node_drbd(&self, node: &str) -> Result<Vec<DrbdMinor>, Error> {
        self.ask(&question::node_drbd(node))
    }

    /// The instances that run on a node, and those that can be moved there.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// let instances = client.node_instances("node1.example.com")?;
    /// assert!(instances.primary.iter().all(|instance| instance.name().starts_with("instance")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn node_instances(&self, node: &str) -> Result<NodeInstances, Error> {
        self.ask(&question::node_instances(node))
    }

    /// An instance's disks.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// let disks = client.instance_disks("instance1.example.com")?;
    /// assert!(disks[0].size_mebibytes() > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn instance_disks(&self, instance: &str) -> Result<Vec<Disk>, Error> {
        self.ask(&question::instance_disks(instance))
    }

    /// The value at a path in the configuration. Details: [`question::config`].
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// assert_eq!(client.config("/cluster/cluster_name")?, "demo.example.com");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn config(&self, path: &str) -> Result<Value, Error> {
        self.ask(&question::config(path))
    }

    /// Which of the monitoring daemon's data collectors run, and how often.
    ///
    /// # Errors
    ///
    /// As of [`ConfdClient::ask`].
    ///
    /// ```
    /// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
    /// # let client = demo.client()?;
    /// assert!(client.data_collectors()?["drbd"].active);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn data_collectors(&self) -> Result<BTreeMap<String, DataCollector>, Error> {
        self.ask(&question::data_collectors())
    }
}

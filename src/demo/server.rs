//! A server for a sample cluster: the responder and an engine, without the daemon.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::SEED;
use super::configuration::configuration;
use crate::client::{self, Candidate, ConfdClient};
use crate::engine::{self, Workers};
use crate::protocol::Key;
use crate::responder::{ReplayTable, Responder, Served};
use crate::snapshot::Snapshot;

/// Serves a sample cluster on the loopback interface until it is dropped.
///
/// ```
/// let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// assert_eq!(demo.client()?.cluster_master()?, "node1.example.com");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    key: Vec<u8>,
    /// One for each candidate, at least one.
    workers: Vec<Workers>,
}

impl Server {
    /// Starts a cluster of `nodes` nodes and `instances` instances, with a new key. One candidate
    /// serves it, on a free port.
    ///
    /// # Errors
    ///
    /// The kernel refuses a socket, a thread or random bytes.
    pub fn start(nodes: usize, instances: usize) -> io::Result<Self> {
        Self::with_candidates(nodes, instances, 1)
    }

    /// Like [`Server::start`], with several candidates (at least one), each on a port of its own.
    ///
    /// # Errors
    ///
    /// See [`Server::start`].
    pub fn with_candidates(nodes: usize, instances: usize, candidates: usize) -> io::Result<Self> {
        let mut key = [0; 20];
        getrandom::fill(&mut key)?;
        let text = configuration(nodes, instances, SEED);
        let loaded = Snapshot::load(text.as_bytes()).expect("a sample cluster is valid");
        let served = Arc::new(ArcSwap::from_pointee(Served {
            key: Arc::new(Key::new(&key).expect("20 bytes are not empty")),
            snapshot: Arc::new(loaded.snapshot),
        }));
        let start = |_| {
            let sockets = engine::bind((Ipv4Addr::LOCALHOST, 0).into(), 1)?;
            let table = Arc::new(ReplayTable::new());
            let responder = || Responder::new().with_replay_protection(Arc::clone(&table));
            engine::start(sockets, None, &served, responder).map_err(io::Error::other)
        };
        Ok(Self {
            key: key.to_vec(),
            workers: (0..candidates.max(1))
                .map(start)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The bytes of the key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The address of the first candidate.
    pub fn address(&self) -> SocketAddr {
        self.workers[0].local_addr()
    }

    /// The first candidate.
    pub fn candidate(&self) -> Candidate {
        self.address().into()
    }

    /// All candidates.
    pub fn candidates(&self) -> Vec<Candidate> {
        let address = |workers: &Workers| workers.local_addr().into();
        self.workers.iter().map(address).collect()
    }

    /// A client for all candidates.
    ///
    /// # Errors
    ///
    /// [`client::Error::Socket`].
    pub fn client(&self) -> Result<ConfdClient, client::Error> {
        ConfdClient::new(self.key(), self.candidates())
    }
}

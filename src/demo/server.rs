//! A sample cluster's confd inside the calling process: the responder and an engine, without the daemon round them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{SEED, configuration};
use crate::client::{self, Candidate, ConfdClient};
use crate::engine::{self, Choice, Workers};
use crate::protocol::Key;
use crate::responder::{Responder, Served};
use crate::snapshot::Snapshot;

/// Serves a sample cluster on a free port of the loopback interface until it is dropped.
///
/// ```
/// let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// assert_eq!(demo.client()?.cluster_master()?, "node1.example.com");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    key: Vec<u8>,
    address: SocketAddr,
    _workers: Workers,
}

impl Server {
    /// Starts serving a cluster of `nodes` nodes and `instances` instances, with a new key.
    ///
    /// # Errors
    ///
    /// The kernel refuses a socket, a thread or random bytes.
    pub fn start(nodes: usize, instances: usize) -> io::Result<Self> {
        let mut key = [0; 20];
        getrandom::fill(&mut key)?;
        let text = configuration(nodes, instances, SEED);
        let loaded = Snapshot::load(text.as_bytes()).expect("a sample cluster is valid");
        let served = Served {
            key: Arc::new(Key::new(&key).expect("20 bytes are not empty")),
            snapshot: Arc::new(loaded.snapshot),
        };
        let sockets = engine::bind((Ipv4Addr::LOCALHOST, 0).into(), 1)?;
        let served = Arc::new(ArcSwap::from_pointee(served));
        let workers = engine::start(sockets, Choice::Auto, &served, Responder::new)
            .map_err(io::Error::other)?;
        Ok(Self {
            key: key.to_vec(),
            address: workers.local_addr(),
            _workers: workers,
        })
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers, for a client.
    pub fn candidate(&self) -> Candidate {
        self.address.into()
    }

    /// A client that asks it.
    ///
    /// # Errors
    ///
    /// The kernel refuses a socket.
    pub fn client(&self) -> Result<ConfdClient, client::Error> {
        ConfdClient::new(&self.key, [self.candidate()])
    }
}

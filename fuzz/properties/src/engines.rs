//! Both engines, serving the sample configuration on loopback.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ganeti_confd::engine::{self, EngineKind, Workers};
use ganeti_confd::protocol::REPLY_BYTES_MAX;
use ganeti_confd::responder::Responder;

use crate::sample;
use crate::signed_request::enveloped;

/// Timeout for a reply; long, because the machine may be busy.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// This process's engines, started on first use.
#[derive(Debug)]
pub struct Engines(Vec<Engine>);

#[derive(Debug)]
struct Engine {
    workers: Workers,
    client: UdpSocket,
}

impl Engines {
    /// Sends `message` to each engine and expects `reply`.
    ///
    /// # Panics
    ///
    /// If an engine cannot be started, or does not answer with `reply`.
    pub fn assert_same(message: &str, reply: &[u8]) {
        static ENGINES: LazyLock<Engines> = LazyLock::new(|| {
            Engines(
                [Some(EngineKind::Uring), Some(EngineKind::Mmsg)]
                    .map(Engine::start)
                    .into(),
            )
        });
        for engine in &ENGINES.0 {
            engine.assert_same(message, reply);
        }
    }
}

impl Engine {
    fn start(kind: Option<EngineKind>) -> Self {
        let sockets = engine::bind((Ipv4Addr::LOCALHOST, 0).into(), 1).expect("loopback is there");
        let served = Arc::new(ArcSwap::from_pointee(sample::served().clone()));
        let workers = engine::start(sockets, kind, &served, Responder::new)
            .unwrap_or_else(|error| panic!("{error}"));
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        client.connect(workers.local_addr()).expect("connected");
        client
            .set_read_timeout(Some(REPLY_TIMEOUT))
            .expect("a time limit");
        Self { workers, client }
    }

    fn assert_same(&self, message: &str, reply: &[u8]) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        self.client
            .send(&enveloped(&now.to_string(), message))
            .expect("sent");
        let mut buffer = vec![0; REPLY_BYTES_MAX];
        let kind = self.workers.kind();
        let len = self
            .client
            .recv(&mut buffer)
            .unwrap_or_else(|e| panic!("{kind}: {e}: {message}"));
        let ours = buffer[..len].escape_ascii().to_string();
        assert_eq!(ours, reply.escape_ascii().to_string(), "{kind}: {message}");
    }
}

//! What the daemon knows about itself, for the status socket and for metrics.
//!
//! Everything is read when it is asked for. Workers are not disturbed: their counters have one
//! writer and any number of readers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::sandbox::Sandbox;
use crate::engine::{BufferSize, BufferSizes, Counters, EngineKind, Sockets, Totals, Workers};
use crate::protocol::Reject;
use crate::protocol::request::RequestType;
use crate::reader::{SharedStatus, Status};
use crate::snapshot::Summary;

/// What the kernel granted to the sockets.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketFacts {
    pub(super) buffers: BufferSizes,
    gso: bool,
}

impl From<&Sockets> for SocketFacts {
    fn from(sockets: &Sockets) -> Self {
        Self {
            buffers: sockets.buffer_sizes(),
            gso: sockets.has_gso(),
        }
    }
}

/// The daemon's parts that can be observed. Clones observe the same daemon.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) started: SystemTime,
    pub(super) engine: EngineKind,
    fallback_reason: Option<String>,
    address: SocketAddr,
    counters: Vec<Arc<Counters>>,
    status: SharedStatus,
    sandbox: Sandbox,
    pub(super) sockets: SocketFacts,
}

impl Facts {
    /// The facts about a daemon that starts to serve now.
    pub(super) fn of(
        workers: &Workers,
        sockets: SocketFacts,
        status: &SharedStatus,
        sandbox: Sandbox,
    ) -> Self {
        Self {
            started: SystemTime::now(),
            engine: workers.kind(),
            fallback_reason: workers.fallback_reason().map(str::to_owned),
            address: workers.local_addr(),
            counters: workers.counters().to_vec(),
            status: status.clone(),
            sandbox,
            sockets,
        }
    }

    /// The number of workers.
    pub(super) fn workers(&self) -> usize {
        self.counters.len()
    }

    /// The counters of all workers, summed.
    pub(super) fn totals(&self) -> Totals {
        let counters = self.counters.iter();
        counters.map(|counters| counters.snapshot()).sum()
    }

    /// The state of the configuration and of the key.
    pub(super) fn status(&self) -> Status {
        self.status.read()
    }

    /// The features of the kernel that the workers use.
    fn features(&self) -> Vec<&'static str> {
        let mut features = match self.engine {
            // The engine does not start without these.
            EngineKind::Uring => vec![
                "io_uring",
                "multishot recvmsg",
                "provided buffers",
                "fixed file",
            ],
            EngineKind::Mmsg => vec!["recvmmsg", "sendmmsg"],
        };
        if self.sockets.gso {
            features.push("UDP_SEGMENT");
        }
        features
    }

    /// Everything, as `confdctl status --json` prints it.
    pub(super) fn json(&self) -> Value {
        let now = SystemTime::now();
        let workers = self.counters.iter().map(|c| counters(&c.snapshot()));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started_at": seconds(self.started),
            "uptime_seconds": age(self.started, now),
            "address": format!("{}/udp", self.address),
            "engine": {
                "name": self.engine.to_string(),
                "fallback_reason": self.fallback_reason,
                "features": self.features(),
            },
            "buffers": {
                "receive": buffer(self.sockets.buffers.receive),
                "send": buffer(self.sockets.buffers.send),
            },
            "sandbox": self.sandbox.parts().iter().cloned().collect::<BTreeMap<_, _>>(),
            "config": config(&self.status(), now),
            "key": key(&self.status()),
            "counters": counters(&self.totals()),
            "workers": workers.collect::<Vec<_>>(),
        })
    }
}

/// The size of a buffer in bytes.
fn buffer(size: BufferSize) -> Value {
    json!({ "requested_bytes": size.requested, "granted_bytes": size.granted })
}

/// The state of the configuration.
fn config(status: &Status, now: SystemTime) -> Value {
    let objects = status.summary.as_ref().map(|summary| {
        let counts = objects(summary);
        let counts = counts.map(|(name, count)| (name.to_owned(), count.into()));
        Value::Object(counts.into_iter().collect())
    });
    let summary = status.summary.as_ref();
    json!({
        "cluster": summary.map(|summary| &summary.cluster_name),
        "serial": summary.map(|summary| &summary.serial_no),
        "memory_bytes": summary.map(|summary| summary.bytes),
        "objects": objects,
        "loaded_at": status.loaded_at.map(seconds),
        "age_seconds": status.loaded_at.map(|at| age(at, now)),
        "load_seconds": status.load_time.as_secs_f64(),
        "loads": status.loads,
        "failures": status.failures,
        "last_error": status.last_error,
        "stale_since": status.kept_since.map(seconds),
        "served_until": status.kept_until.map(seconds),
        "served_error": status.unavailable,
    })
}

/// The state of the key.
fn key(status: &Status) -> Value {
    json!({ "changes": status.key_changes, "error": status.key_error })
}

/// The numbers of objects of a configuration, by kind.
pub(super) fn objects(summary: &Summary) -> [(&'static str, usize); 6] {
    [
        ("nodes", summary.nodes),
        ("groups", summary.groups),
        ("instances", summary.instances),
        ("disks", summary.disks),
        ("networks", summary.networks),
        ("filters", summary.filters),
    ]
}

/// Counters by name, as in the log line of SIGUSR1.
fn counters(totals: &Totals) -> Value {
    let numbers = totals
        .numbers()
        .map(|(name, n)| (name.to_owned(), n.into()));
    let mut all: serde_json::Map<_, Value> = numbers.collect();
    let by_query = |counts: &[u64; RequestType::COUNT]| -> Value {
        let named =
            RequestType::ALL.map(|kind| (kind.name().to_owned(), counts[kind as usize].into()));
        Value::Object(named.into_iter().collect())
    };
    let dropped =
        Reject::ALL.map(|reason| (reason.name().to_owned(), totals.rejected(reason).into()));
    all.insert(
        "dropped".into(),
        Value::Object(dropped.into_iter().collect()),
    );
    all.insert("requests".into(), by_query(&totals.requests));
    all.insert("too_large".into(), by_query(&totals.too_large));
    Value::Object(all)
}

/// A time in seconds since the epoch, to milliseconds.
pub(super) fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    rounded(since.unwrap_or_default())
}

/// The time from `then` to `now` in seconds, to milliseconds; 0 if the clock was set back.
fn age(then: SystemTime, now: SystemTime) -> f64 {
    rounded(now.duration_since(then).unwrap_or_default())
}

fn rounded(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1_000.0
}

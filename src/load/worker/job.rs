//! What the workers of a run share, what one worker does, and what it returns.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::Instant;

use super::super::mix::Workload;
use super::super::nanos::Nanos;
use super::super::rsalt::RunId;
use super::super::schedule::Schedule;
use super::super::sockets::Channel;
use super::super::stats::{Slice, Stats};
use super::super::template::Template;
use super::super::usage::Usage;
use crate::protocol::Key;

/// What all workers of a run share.
#[derive(Debug)]
pub(in super::super) struct Setup {
    pub(in super::super) key: Key,
    pub(in super::super) run: RunId,
    pub(in super::super) workload: Arc<Workload>,
    /// By query.
    pub(in super::super) templates: Arc<[Template]>,
    /// The shares of the load that are malformed, wrongly signed and stale.
    pub(in super::super) corrupted_shares: [f64; 3],
    /// The largest number of datagrams in a system call.
    pub(in super::super) batch: usize,
    pub(in super::super) segment: bool,
    /// Whether workers spin until the next request is due.
    pub(in super::super) spin: bool,
    /// One reply in this number is verified; 0: none.
    pub(in super::super) verify: u32,
    /// Whether a different answer with the same serial is wrong.
    pub(in super::super) compare: bool,
    /// A request is lost after this time.
    pub(in super::super) lost_after: Nanos,
    /// The latency of a lost request in percentiles; `None` if it is left out.
    pub(in super::super) lost_latency: Option<Nanos>,
    pub(in super::super) warm_up: Nanos,
    /// When sending ends.
    pub(in super::super) end: Option<Nanos>,
    /// Length of a time slice.
    pub(in super::super) slice: Nanos,
    pub(in super::super) targets: usize,
    /// Number of workers of the load.
    pub(in super::super) workers: usize,
    pub(in super::super) seed: u64,
    /// Passed by all workers together when all are ready.
    pub(in super::super) ready: Barrier,
    pub(in super::super) start: OnceLock<Instant>,
    /// Number of workers of the load that are still sending.
    pub(in super::super) sending: AtomicUsize,
    /// Set by the caller to end sending early.
    pub(in super::super) stop: Arc<AtomicBool>,
}

/// The purpose of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Role {
    /// It is part of the load.
    Load,
    /// It is the probe client, which sends a few requests beside the load.
    Probe,
}

/// When a worker sends.
#[derive(Clone, Debug)]
pub(in super::super) enum Pace {
    /// Closed loop: this number of requests is kept in flight.
    Closed(usize),
    /// Open loop: on a schedule.
    Open(Schedule),
}

/// What one worker does.
#[derive(Debug)]
pub(in super::super) struct Job {
    pub(in super::super) index: u8,
    pub(in super::super) role: Role,
    pub(in super::super) pace: Pace,
    pub(in super::super) channels: Vec<Channel>,
    /// The processor to run on.
    pub(in super::super) cpu: Option<usize>,
    /// Sending ends after this number of counted requests.
    pub(in super::super) requests: Option<u64>,
}

/// What a worker reports while it runs.
#[derive(Debug)]
pub(in super::super) enum Delivery {
    /// A time slice has ended.
    Slice {
        role: Role,
        index: usize,
        slice: Slice,
    },
    /// A request that was sent in an earlier slice is lost.
    Lost { role: Role, index: usize },
}

/// What one worker returns.
#[derive(Debug)]
pub(in super::super) struct WorkerResult {
    pub(in super::super) role: Role,
    pub(in super::super) stats: Stats,
    /// Time from the end of the warm-up to the end of sending, or to the last answer in a closed
    /// loop that ends after a number of requests.
    pub(in super::super) sending: Nanos,
    /// The processor use of the thread in that time.
    pub(in super::super) usage: Option<Usage>,
    /// Replies that the kernel dropped because receive buffers were full.
    pub(in super::super) dropped: u64,
}

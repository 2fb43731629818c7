//! The periodic report: logs the growth of the workers' counters at a bounded rate.
//!
//! The control plane reports every [`INTERVAL`]. Each reason is then logged at most once,
//! regardless of how many datagrams it applies to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::engine::{BufferSizes, Counters, Totals};
use crate::protocol::Reject;
use crate::protocol::request::RequestType;

/// Time between two reports.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// The counters of each worker at the time of the last report.
#[derive(Debug, Default)]
pub(super) struct Report {
    seen: Vec<Totals>,
}

impl Report {
    /// Logs every counter that has grown since the last report.
    pub(super) fn log_growth(&mut self, workers: &[Arc<Counters>]) {
        let now: Vec<_> = workers.iter().map(|counters| counters.snapshot()).collect();
        self.seen.resize_with(now.len(), Totals::default);
        for reason in Reject::ALL {
            let (count, worker) = self.growth(&now, |totals| totals.rejected(reason));
            if count > 0 {
                let peer = workers[worker].last_rejected(reason);
                log_ignored(reason, &ignored(reason, count, peer));
            }
        }
        for kind in RequestType::ALL {
            let (count, _) = self.growth(&now, |totals| totals.too_large[kind as usize]);
            if count > 0 {
                warn!(
                    "Answered {} with an error: the answer to {} (type {}) is larger than a \
                     datagram",
                    queries(count),
                    kind.ganeti_name(),
                    kind.number()
                );
            }
        }
        for event in &EVENTS {
            let (count, _) = self.growth(&now, event.counter);
            if count > 0 {
                event.log(count);
            }
        }
        self.seen = now;
    }

    /// Returns the growth of a counter over all workers, and the worker in which it grew most.
    fn growth(&self, now: &[Totals], counter: impl Fn(&Totals) -> u64) -> (u64, usize) {
        let each = || {
            let pairs = now.iter().zip(&self.seen);
            pairs.map(|(now, seen)| counter(now).saturating_sub(counter(seen)))
        };
        let most = each().enumerate().max_by_key(|&(_, growth)| growth);
        (each().sum(), most.map_or(0, |(worker, _)| worker))
    }
}

/// A counter of something that an administrator may want to look into.
struct Event {
    counter: fn(&Totals) -> u64,
    /// What happened `{n}` times, and the likely cause or the remedy.
    text: &'static str,
    /// Whether queries were lost.
    is_warning: bool,
}

const EVENTS: [Event; 7] = [
    Event {
        counter: |totals| totals.send_errors,
        text: "{n} replies were refused by the kernel (no route, or a firewall)",
        is_warning: true,
    },
    Event {
        counter: |totals| totals.send_timeouts,
        text: "{n} replies were dropped because the send buffer was full (a slow network, or large \
               replies to addresses that do not resolve; see the sysctl net.core.wmem_max)",
        is_warning: true,
    },
    Event {
        counter: |totals| totals.overruns,
        text: "{n} datagrams were lost because the receive buffer was full (more workers help, and a \
               larger sysctl net.core.rmem_max)",
        is_warning: true,
    },
    Event {
        counter: |totals| totals.receive_errors,
        text: "{n} receive errors",
        is_warning: true,
    },
    Event {
        counter: |totals| totals.malformed,
        text: "{n} datagrams without an address to reply to (source port 0)",
        is_warning: false,
    },
    Event {
        counter: |totals| totals.no_buffers,
        text: "{n} bursts used all receive buffers of a worker (nothing was lost)",
        is_warning: false,
    },
    Event {
        counter: |totals| totals.gso_refused,
        text: "{n} batches of replies were refused by the kernel and sent one by one",
        is_warning: false,
    },
];

impl Event {
    fn log(&self, count: u64) {
        let text = self.text.replace("{n}", &count.to_string());
        if self.is_warning {
            warn!("{text}");
        } else {
            info!("{text}");
        }
    }
}

/// Warns if the kernel has limited the sockets' buffers.
pub(super) fn warn_about_buffers(sizes: BufferSizes) {
    for (size, name, sysctl) in [
        (sizes.receive, "receive", "net.core.rmem_max"),
        (sizes.send, "send", "net.core.wmem_max"),
    ] {
        if size.is_cut() {
            warn!(
                "The kernel limits the {name} buffer of each socket to {} bytes, {} were requested: \
                 more datagrams are lost under load; set the sysctl {sysctl} to {} and restart",
                size.granted, size.requested, size.requested
            );
        }
    }
}

/// Logs every counter of every worker, one line each.
pub(super) fn log_all(workers: &[Arc<Counters>]) {
    for (index, counters) in workers.iter().enumerate() {
        info!(
            "Counters of worker {index}: {}",
            named(&counters.snapshot())
        );
    }
}

/// The counters as `name=value`. Those of drop reasons and request types only if they are not 0.
fn named(totals: &Totals) -> String {
    let mut line: Vec<_> = totals
        .numbers()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut add = |group: &str, name: &str, value: u64| {
        if value > 0 {
            line.push(format!("{group}_{name}={value}"));
        }
    };
    for reason in Reject::ALL {
        add("dropped", reason.name(), totals.rejected(reason));
    }
    for kind in RequestType::ALL {
        add("requests", kind.name(), totals.requests[kind as usize]);
        add("too_large", kind.name(), totals.too_large[kind as usize]);
    }
    line.join(" ")
}

/// Whether administrators must act: clients with a wrong key or a wrong clock get no answers at
/// all.
fn needs_action(reason: Reject) -> bool {
    matches!(reason, Reject::BadHmac | Reject::ClockSkew)
}

fn log_ignored(reason: Reject, line: &str) {
    if needs_action(reason) {
        warn!("{line}");
    } else {
        info!("{line}");
    }
}

fn ignored(reason: Reject, count: u64, peer: Option<SocketAddr>) -> String {
    let datagrams = if count == 1 { "datagram" } else { "datagrams" };
    let peer = peer.map_or(String::new(), |peer| format!(", last from {peer}"));
    format!("Ignored {count} {datagrams}: {reason}{peer}")
}

fn queries(count: u64) -> String {
    match count {
        1 => "1 query".to_owned(),
        _ => format!("{count} queries"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(bad_hmac: u64) -> Totals {
        let mut totals = Totals::default();
        totals.rejects[Reject::BadHmac as usize] = bad_hmac;
        totals
    }

    #[test]
    fn growth_is_summed_over_workers_and_names_the_worker_that_grew_most() {
        let report = Report {
            seen: vec![totals(5), totals(0)],
        };
        let growth = |now: [u64; 2]| {
            report.growth(&now.map(totals), |totals| totals.rejected(Reject::BadHmac))
        };
        assert_eq!(growth([6, 2]), (3, 1));
        assert_eq!(growth([5, 0]).0, 0);
    }

    #[test]
    fn only_a_wrong_key_and_a_wrong_clock_are_warnings() {
        let warnings: Vec<_> = Reject::ALL
            .into_iter()
            .filter(|r| needs_action(*r))
            .collect();
        assert_eq!(warnings, [Reject::BadHmac, Reject::ClockSkew]);
    }

    #[test]
    fn counters_are_logged_with_their_names() {
        let mut totals = totals(2);
        totals.received = 7;
        totals.requests[RequestType::Ping as usize] = 5;
        let line = named(&totals);
        assert!(line.starts_with("received=7 "), "{line}");
        assert!(
            line.ends_with(" dropped_bad_hmac=2 requests_ping=5"),
            "{line}"
        );
    }

    #[test]
    fn a_line_contains_the_count_the_reason_and_the_last_peer() {
        assert_eq!(
            ignored(Reject::BadFourcc, 2, Some("127.0.0.1:5".parse().unwrap())),
            "Ignored 2 datagrams: not a confd datagram (no plj0 magic), last from 127.0.0.1:5"
        );
    }
}

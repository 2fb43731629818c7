//! The command line of `confdctl bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use super::commands::Command;
use super::format::Format;
use super::mix::Mix;
use super::number::{parse_number, parse_share};
use super::profile::Stages;
use super::requirements::Requirements;
use super::schedule::Arrivals;
use super::sockets::BATCH_MAX;

/// The default number of requests in flight in a closed loop.
const IN_FLIGHT_DEFAULT: usize = 64;

/// How long requests are sent if neither a duration nor a number of requests is given.
pub(super) const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// The default mix: the queries that Ganeti's own tools send most.
const MIX_DEFAULT: &str = "role=4,master=2,disks=1,config=1,ping=1";

/// The reply salt has one byte for the thread, and the last number is that of the probe client.
const THREADS_MAX: u64 = 255;

/// Each socket needs its own source port.
const SOCKETS_MAX: u64 = 16_384;

/// The largest share of corrupted requests in a closed loop, where the valid ones set the pace.
const CORRUPTED_SHARE_MAX: f64 = 0.9;

/// The highest rate at which the kernel stamps what is sent, unless that is asked for.
const STAMPED_RATE_MAX: f64 = 50_000.0;

/// The text after the options in `--help`.
pub const EXAMPLES: &str = "\
Examples:
  The throughput: 64 requests in flight for ten seconds
    confdctl bench
  The round trip of single requests
    confdctl bench --in-flight 1
  The latency for independent clients that send 20,000 requests per second
    confdctl bench --rate 20k --arrivals poisson
  The highest rate that meets these requirements, with a bracket
    confdctl bench --search 'p99<1ms,loss<0.1%'
  In scripts: exit status 3 if a requirement does not hold
    confdctl bench --rate 5k --require 'p99.9<2ms,loss=0,wrong=0'
  Other queries, about the names of a large cluster
    confdctl bench --mix disks=9,drbd=1 --names-from /var/lib/ganeti/config.data
  The latency of a valid client while half of the load is forged
    confdctl bench --rate 10k --bad-signature 0.5 --probe 100
  Recorded requests in their order, each signed again
    confdctl bench --replay requests.jsonl --requests 5000 --in-flight 8
  A page with plots, and everything as JSON
    confdctl bench --report bench.html --json > bench.json
  Is the new version slower? Exit status 3 if it is
    confdctl bench compare before.json after.json
  Two processes on two hosts, as one result
    confdctl bench merge one.json two.json

Closed and open loop:
  A closed loop (--in-flight) sends a request when an answer arrives, so a slow
  server gets fewer requests. It shows the highest throughput. An open loop
  (--rate) sends on a schedule regardless of the answers and measures latency
  from the scheduled time, which is what independent clients experience. Compare
  latencies of open loops at the same rate.

Counts:
  lost        no reply within --lost-after; those that came later are \"late\"
  wrong       a wrong signature or form, a different answer with the same serial,
              or any answer to a corrupted request
  errors      valid replies with status 1, as for a name that does not exist
  reordered   answered after a later request from the same socket
  service     the time from the actual sending to the reply, by the kernel's time
              stamps if there are any, without the lateness of the generator
  stall       the longest time without an answer while requests wait
  A note in the report says if the generator itself was the limit.

Exit status:
  0  the run is complete, and the requirements hold
  1  the run failed, nothing was measured, or a server never answered or stopped
     answering
  2  the command line is wrong
  3  a requirement of --require or --search does not hold; compare: worse";

/// Loads confd servers with queries and measures throughput, latency and loss.
#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Options {
    /// What to do with the results of earlier runs, instead of a run.
    #[command(subcommand)]
    #[serde(skip)]
    pub command: Option<Command>,

    /// Read options from this file, such as rate = "20k"; those on the command line replace them
    #[arg(long, value_name = "FILE.toml", help_heading = "Load")]
    pub profile: Option<PathBuf>,

    /// Closed loop: keep N requests in flight in all; send one when one is answered or lost
    /// [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "rate", help_heading = "Load")]
    pub in_flight: Option<usize>,

    /// Open loop: send N requests per second in all, regardless of the answers (20k, 1.5M); with
    /// --search, the first rate to try [default with --search: the rate of a closed loop]
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Load")]
    pub rate: Option<f64>,

    /// Open loop with a rate that changes: steps like 1k:10s and ramps like 1k-50k:30s, one after
    /// the other
    #[arg(long, value_name = "STAGES", conflicts_with_all = ["in_flight", "rate", "duration", "search"], help_heading = "Load")]
    pub stages: Option<Stages>,

    /// The distribution of requests over time in an open loop
    #[arg(
        long,
        value_name = "HOW",
        default_value = "constant",
        help_heading = "Load"
    )]
    pub arrivals: Arrivals,

    /// Send for this long after the warm-up [default: 10s, or no limit with --requests; with
    /// --search: 2s for each rate]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Load")]
    #[serde(serialize_with = "seconds")]
    pub duration: Option<Duration>,

    /// Send N requests after the warm-up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load")]
    pub requests: Option<u64>,

    /// Send for this long before counting starts
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero, default_value = "500ms", help_heading = "Load")]
    #[serde(serialize_with = "seconds_of")]
    pub warm_up: Duration,

    /// Find the highest rate that meets these requirements (see --require)
    #[arg(long, value_name = "REQUIREMENTS", conflicts_with_all = ["in_flight", "requests"], help_heading = "Load")]
    pub search: Option<Requirements>,

    /// Also send N requests per second from a probe client with its own thread and socket, and
    /// report its latency separately
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Load")]
    pub probe: Option<f64>,

    /// Request types and their weights: role=3,master=1,config
    ///
    /// Types: ping, role, node-of, master, nodes, candidates, ips, drbd, instances-on, disks,
    /// config, collectors; or their numbers, 0 to 11.
    #[arg(long, value_name = "MIX", default_value = MIX_DEFAULT, help_heading = "Queries")]
    pub mix: Mix,

    /// Use the names in this configuration file [default: ask the first server for them]
    #[arg(long, value_name = "FILE", help_heading = "Queries")]
    pub names_from: Option<PathBuf>,

    /// Send recorded requests in their order, repeatedly; per line one inner message, datagram or
    /// {"request": "..."}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mix", "names_from"], help_heading = "Queries")]
    pub replay: Option<PathBuf>,

    /// The share of datagrams that are not valid requests, such as 0.1 or 10%
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "0", help_heading = "Queries")]
    pub malformed: f64,

    /// The share of requests with a wrong signature
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "0", help_heading = "Queries")]
    pub bad_signature: f64,

    /// The share of requests signed with a time one hour ago
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "0", help_heading = "Queries")]
    pub stale: f64,

    /// Count a request as lost after this time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s", help_heading = "Replies")]
    #[serde(serialize_with = "seconds_of")]
    pub lost_after: Duration,

    /// Whether percentiles include lost requests, each with the time of --lost-after [default: yes
    /// in an open loop, no in a closed loop]
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no, help_heading = "Replies")]
    pub lost_in_percentiles: Option<bool>,

    /// Check signature and content of all replies, of one in N (1/N), or of none
    ///
    /// Wrong answers and errors are counted among the checked replies only. Replies are always
    /// matched to requests by their salt.
    #[arg(long, value_name = "HOW", value_parser = verify, default_value = "all", help_heading = "Replies")]
    pub verify: u32,

    /// Do not compare answers with the same serial, because the configuration changes during the
    /// run
    #[arg(long, help_heading = "Replies")]
    pub config_changes: bool,

    /// Number of sockets, each with its own source port, distributed over the servers [default: 16,
    /// or --in-flight if that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SOCKETS_MAX), help_heading = "Sending")]
    pub sockets: Option<u64>,

    /// Number of threads that send and receive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..THREADS_MAX), default_value = "1", help_heading = "Sending")]
    pub threads: u64,

    /// Pin the threads to these processors in turn, such as 2,3
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        help_heading = "Sending"
    )]
    pub cpus: Vec<usize>,

    /// The largest number of datagrams in one system call
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=BATCH_MAX as u64), default_value = "64", help_heading = "Sending")]
    pub batch: u64,

    /// Send a batch as one GSO send (UDP_SEGMENT); requests are padded with spaces to one length
    #[arg(long, help_heading = "Sending")]
    pub segment: bool,

    /// How an open loop waits for the next request: spin or sleep [default: spin if this machine
    /// has more processors than threads]
    #[arg(long, value_name = "HOW", help_heading = "Sending")]
    pub pacing: Option<Pacing>,

    /// What determines when a request was sent, for service times: the kernel's time stamps or the
    /// clock before the system call [default: kernel in an open loop of at most 50,000 requests/s,
    /// otherwise clock]
    ///
    /// A stamp is the time at which the kernel passes the datagram to the device. Reading it costs
    /// about as much as receiving a reply.
    #[arg(
        long,
        value_name = "HOW",
        conflicts_with = "segment",
        help_heading = "Sending"
    )]
    pub send_times: Option<SendTimes>,

    /// The process of the first server, to report its processor time [default: the process that has
    /// the server's port, if it is on this machine]
    #[arg(long, value_name = "PID", help_heading = "Results")]
    pub server_pid: Option<u32>,

    /// The seed of the random choices, to repeat those of an earlier run
    #[arg(long, value_name = "N", help_heading = "Sending")]
    pub seed: Option<u64>,

    /// Exit with status 3 unless all of these hold: 'p99<1ms,loss<0.1%'
    ///
    /// Times from the schedule: p50, p99.9 or any percentile, mean, max. Times from sending:
    /// service_p99, service_mean, service_max. lag (p99 of how late requests were sent).
    /// Numbers, or percent of the requests sent: loss, late, duplicated, reordered, wrong, errors
    /// (status 1), unsent. Answers per second: rate. The longest time without an answer from one of
    /// the servers while requests wait: stall. For one type: role.p99, disks.loss. For the probe
    /// client: probe.p99. Comparisons: < <= > >= =
    #[arg(long, value_name = "REQUIREMENTS", help_heading = "Results")]
    pub require: Option<Requirements>,

    /// Write an HTML page with plots; it is a single file without scripts
    #[arg(long, value_name = "FILE.html", help_heading = "Results")]
    pub report: Option<PathBuf>,

    /// Write the figures over time as comma-separated values
    #[arg(long, value_name = "FILE.csv", help_heading = "Results")]
    pub csv: Option<PathBuf>,

    /// Write the latencies as a log that the tools of HdrHistogram read
    #[arg(long, value_name = "FILE.hlog", help_heading = "Results")]
    pub hdr: Option<PathBuf>,

    /// What to print [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Results")]
    pub format: Option<Format>,

    /// Do not show progress: a line on a terminal, otherwise one line every 10 s
    #[arg(long, help_heading = "Results")]
    pub quiet: bool,
}

impl Options {
    /// The shares of malformed, wrongly signed and stale datagrams.
    pub(super) fn corrupted_shares(&self) -> [f64; 3] {
        [self.malformed, self.bad_signature, self.stale]
    }

    /// Whether a lost request counts in percentiles with the time of `--lost-after`.
    pub(super) fn lost_in_percentiles(&self) -> bool {
        self.lost_in_percentiles.unwrap_or_else(|| self.is_open())
    }

    /// Whether workers spin until the next request is due, with this number of threads.
    pub(super) fn spins(&self, threads: usize) -> bool {
        match self.pacing {
            Some(pacing) => pacing == Pacing::Spin,
            None => {
                let processors = std::thread::available_parallelism().map_or(1, usize::from);
                self.is_open() && processors > threads
            }
        }
    }

    /// Whether the kernel stamps what is sent at this rate, or in a closed loop.
    pub(super) fn stamps_sends(&self, rate: Option<f64>) -> bool {
        let default = match rate {
            // A GSO send has one stamp for all its datagrams.
            Some(rate) if rate <= STAMPED_RATE_MAX && !self.segment => SendTimes::Kernel,
            _ => SendTimes::Clock,
        };
        self.send_times.unwrap_or(default) == SendTimes::Kernel
    }

    /// Whether requests are sent on a schedule.
    pub(super) fn is_open(&self) -> bool {
        self.rate.is_some() || self.search.is_some() || self.stages.is_some()
    }

    /// The rate of an open loop, or the mean rate of its stages.
    pub(super) fn open_rate(&self) -> Option<f64> {
        self.rate.or(self.stages.as_ref().map(Stages::mean_rate))
    }

    /// The number of requests in flight in a closed loop.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.unwrap_or(IN_FLIGHT_DEFAULT)
    }

    /// The number of sockets of the load.
    pub(super) fn sockets(&self, targets: usize) -> usize {
        let default = if self.is_open() {
            16
        } else {
            self.in_flight().min(16)
        };
        let sockets = self.sockets.map_or(default, |sockets| sockets as usize);
        sockets.max(targets).max(self.threads as usize)
    }

    /// Checks what the parser cannot: combinations of options.
    pub(super) fn check(&self) -> Result<(), String> {
        let corrupted: f64 = self.corrupted_shares().iter().sum();
        if corrupted > 1.0 {
            return Err(
                "the sum of --malformed, --bad-signature and --stale must be at most 1".into(),
            );
        }
        if !self.is_open() && corrupted > CORRUPTED_SHARE_MAX {
            return Err(format!(
                "without --rate, at least {:.0} % of the requests must be valid, because their \
                 answers set the pace",
                100.0 * (1.0 - CORRUPTED_SHARE_MAX)
            ));
        }
        let requirements = [&self.require, &self.search];
        let needs_probe = requirements
            .iter()
            .any(|one| one.as_ref().is_some_and(Requirements::need_probe));
        if needs_probe && self.probe.is_none() {
            return Err("a requirement about the probe client needs --probe".into());
        }
        Ok(())
    }
}

/// How an open loop waits for the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pacing {
    /// Check the clock continuously shortly before a request is due.
    Spin,
    /// Let the kernel wake the thread, which is up to 0.1 ms late.
    Sleep,
}

/// Where the times of sending come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SendTimes {
    /// The kernel's time stamps.
    Kernel,
    /// The clock directly before the system call.
    Clock,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("expected a number from 1 to 1000000".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    parse_number(text)
        .filter(|rate| (0.001..=1e8).contains(rate))
        .ok_or_else(|| "expected a rate like 500, 20k or 1.5M".into())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("expected yes or no".into()),
    }
}

fn verify(text: &str) -> Result<u32, String> {
    match text {
        "all" => Ok(1),
        "none" => Ok(0),
        _ => text
            .strip_prefix("1/")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| "expected all, none, or a share like 1/16".into()),
    }
}

/// Accepts at most a day, so that sums of nanoseconds cannot overflow.
fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time > Duration::from_secs(86_400) {
        return Err("must be at most a day".into());
    }
    Ok(time)
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = duration_or_zero(text)?;
    if time.is_zero() {
        return Err("must be longer than zero".into());
    }
    Ok(time)
}

fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

fn seconds_of<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &str) -> Result<Options, clap::Error> {
        let arguments = std::iter::once("bench").chain(arguments.split_whitespace());
        Ok(Line::try_parse_from(arguments)?.options)
    }

    #[test]
    fn the_definition_is_consistent() {
        <Line as clap::CommandFactory>::command().debug_assert();
        let options = parse("").expect("all options have defaults");
        assert_eq!(options.sockets(1), 16);
        assert_eq!(options.check(), Ok(()));
    }

    #[test]
    fn values_are_parsed() {
        let options =
            parse("--rate 20k --malformed 10% --stale 0.2 --verify 1/16 --lost-after 50ms")
                .expect("valid options");
        assert_eq!(options.rate, Some(20_000.0));
        assert_eq!(options.corrupted_shares(), [0.1, 0.0, 0.2]);
        assert_eq!(options.verify, 16);
        assert_eq!(options.lost_after, Duration::from_millis(50));
        let options = parse("--in-flight 4 --threads 8").expect("valid options");
        assert_eq!(options.sockets(3), 8);
    }

    #[test]
    fn invalid_combinations_are_refused() {
        for bad in [
            "--rate 5 --in-flight 5",
            "--search p99<1ms --requests 5",
            "--stages 5:1s --rate 5",
            "--stages 5",
            "--replay x --mix ping",
            "--rate 0",
            "--in-flight 0",
            "--malformed 2",
            "--verify 1/0",
            "--duration 0s",
            "--duration 2days",
            "--batch 65",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in [
            "--malformed 0.6 --stale 0.6",
            "--malformed 1",
            "--require probe.p99<1ms",
        ] {
            let options = parse(bad).expect("each option alone is valid");
            assert!(options.check().is_err(), "{bad}");
        }
        let flood = parse("--malformed 1 --rate 1k").expect("valid options");
        assert_eq!(flood.check(), Ok(()));
    }
}

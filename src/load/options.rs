//! What `confdctl bench` can be asked to do.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Serialize, Serializer};

use super::mix::Mix;
use super::requirements::{Requirements, parse_number};
use super::schedule::Arrivals;
use super::sockets::BATCH_MAX;

/// Requests in flight of a closed loop, if nothing else is said.
pub(super) const IN_FLIGHT_DEFAULT: usize = 64;

/// How long requests are sent, if neither a time nor a number is given.
pub(super) const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// The first rate of a search, if none is given, in requests a second.
pub(super) const SEARCH_RATE_DEFAULT: f64 = 1_000.0;

/// The mix, if none is given: what Ganeti's own tools ask most.
const MIX_DEFAULT: &str = "role=4,master=2,disks=1,config=1,ping=1";

/// Threads are told apart by a byte in the reply salt; the last number is the measuring client's.
const THREADS_MAX: u64 = 255;

/// Each socket takes a source port of its own.
const SOCKETS_MAX: u64 = 16_384;

/// In a closed loop it is the good requests that set the pace.
pub(super) const DAMAGE_MAX: f64 = 0.9;

/// What to show below the options in `--help`.
pub const EXAMPLES: &str = "\
Examples:
  How fast is it? 64 requests in flight for ten seconds
    confdctl bench
  The round trip, one request at a time
    confdctl bench --in-flight 1
  How long do independent clients wait, that ask 20,000 times a second in all?
    confdctl bench --rate 20k --arrivals poisson
  The highest rate at which this holds
    confdctl bench --search 'p99<1ms,loss<0.1%'
  For scripts: exit status 3 if it does not hold
    confdctl bench --rate 5k --require 'p99.9<2ms,loss=0,wrong=0'
  Other questions, about the names of a large cluster
    confdctl bench --mix disks=9,drbd=1 --names-from /var/lib/ganeti/config.data
  Half of it forged: does one honest client notice?
    confdctl bench --rate 10k --bad-signature 0.5 --measure 100
  Recorded requests in their order, each signed anew
    confdctl bench --replay requests.jsonl --requests 5000 --in-flight 8
  A page to look at, and everything for a program
    confdctl bench --report bench.html --json > bench.json

Closed or open loop:
  A closed loop (--in-flight) sends when an answer comes, so that a slow server
  is asked less. It shows the highest throughput. An open loop (--rate) sends by
  a schedule, whatever comes back, and counts latency from the time of the
  schedule: what clients see that do not know of each other. Compare latencies
  of open loops at the same rate.

What is counted:
  lost        no reply within --lost-after; late are those that came after all
  wrong       a bad signature or form, another answer than before under the same
              serial, or any answer to a damaged request: silence is right there
  errors      good replies of status 1, as for a name that does not exist
  reordered   answered after a later request from the same socket
  If the generator could not keep up it says so; the figures are about it, then.

Exit status:
  0  done, and what --require asks for holds
  1  it could not be done, or nothing was answered at all
  2  a wrong option
  3  what --require or --search asks for does not hold";

/// Loads confd servers with queries, and measures how they take it.
#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Closed loop: keep N requests in flight in all; the next one is sent when one is answered or lost [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "rate", help_heading = "Load")]
    pub in_flight: Option<usize>,

    /// Open loop: send N requests a second in all, whatever comes back (20k, 1.5M); with --search, try this rate first
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Load")]
    pub rate: Option<f64>,

    /// How the requests of an open loop are spread over time
    #[arg(
        long,
        value_name = "HOW",
        default_value = "constant",
        help_heading = "Load"
    )]
    pub arrivals: Arrivals,

    /// Send for this long, warm-up excluded [default: 10s, or without limit if --requests is given; with --search: 2s for each rate]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Load")]
    #[serde(serialize_with = "seconds")]
    pub duration: Option<Duration>,

    /// Send N requests, those of the warm-up excluded
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load")]
    pub requests: Option<u64>,

    /// Send for this long before anything counts
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero, default_value = "500ms", help_heading = "Load")]
    #[serde(serialize_with = "seconds_of")]
    pub warm_up: Duration,

    /// Find the highest rate that holds these requirements (see --require)
    #[arg(long, value_name = "REQUIREMENTS", conflicts_with_all = ["in_flight", "requests"], help_heading = "Load")]
    pub search: Option<Requirements>,

    /// Beside the load, send N requests a second from a thread and a socket of its own, and report their latency apart
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Load")]
    pub measure: Option<f64>,

    /// Types of requests and their weights: role=3,master=1,config
    ///
    /// Types: ping, role, node-of, master, nodes, candidates, ips, drbd, instances-on, disks, config, collectors; or their
    /// numbers, 0 to 11.
    #[arg(long, value_name = "MIX", default_value = MIX_DEFAULT, help_heading = "Questions")]
    pub mix: Mix,

    /// Ask about the names in this configuration file [default: ask the first server for them]
    #[arg(long, value_name = "FILE", help_heading = "Questions")]
    pub names_from: Option<PathBuf>,

    /// Ask recorded requests in their order, over and over: one inner message, datagram or {"request": "..."} a line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mix", "names_from"], help_heading = "Questions")]
    pub replay: Option<PathBuf>,

    /// A share of the datagrams that are no requests: 0.1 is a tenth
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0", help_heading = "Questions")]
    pub malformed: f64,

    /// A share of requests with a bad signature
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0", help_heading = "Questions")]
    pub bad_signature: f64,

    /// A share of requests that were signed an hour ago
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "0", help_heading = "Questions")]
    pub stale: f64,

    /// Give a request up after this time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s", help_heading = "Answers")]
    #[serde(serialize_with = "seconds_of")]
    pub lost_after: Duration,

    /// Check signature and content of all replies, of one in N (1/N), or of none
    ///
    /// Wrong answers and errors are then counted among those only. Replies are matched by salt in any case.
    #[arg(long, value_name = "HOW", value_parser = verify, default_value = "all", help_heading = "Answers")]
    pub verify: u32,

    /// The configuration changes meanwhile: do not compare answers that have the same serial
    #[arg(long, help_heading = "Answers")]
    pub config_changes: bool,

    /// Sockets, each with a source port of its own, shared among the servers in turns [default: 16, or --in-flight if that is less]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=SOCKETS_MAX), help_heading = "Sending")]
    pub sockets: Option<u64>,

    /// Threads that send and receive
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..THREADS_MAX), default_value = "1", help_heading = "Sending")]
    pub threads: u64,

    /// Datagrams in one system call at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=BATCH_MAX as u64), default_value = "64", help_heading = "Sending")]
    pub batch: u64,

    /// Send a batch as one (UDP_SEGMENT); requests are padded with spaces to one length
    #[arg(long, help_heading = "Sending")]
    pub segment: bool,

    /// Repeat the random choices of an earlier run
    #[arg(long, value_name = "N", help_heading = "Sending")]
    pub seed: Option<u64>,

    /// Exit with status 3 unless all of this holds: 'p99<1ms,loss<0.1%'
    ///
    /// Times: p50, p99.9 or any percentile, mean, max, lag (how late requests were sent, p99). Numbers, or percents of what
    /// was sent: loss, late, duplicated, reordered, wrong, errors (status 1), unsent. Answers a second: rate. For one type:
    /// role.p99, disks.loss. For the measuring client: measure.p99. Comparisons: < <= > >= =
    #[arg(long, value_name = "REQUIREMENTS", help_heading = "Results")]
    pub require: Option<Requirements>,

    /// Write a page with plots, which needs nothing but a browser
    #[arg(long, value_name = "FILE.html", help_heading = "Results")]
    pub report: Option<PathBuf>,

    /// Show no progress line
    #[arg(long, help_heading = "Results")]
    pub quiet: bool,
}

impl Options {
    /// Shares of malformed, badly signed and stale datagrams.
    pub(super) fn damage(&self) -> [f64; 3] {
        [self.malformed, self.bad_signature, self.stale]
    }

    /// Whether requests are sent by a schedule.
    pub(super) fn is_open(&self) -> bool {
        self.rate.is_some() || self.search.is_some()
    }

    /// How many sockets the load has, for so many targets.
    pub(super) fn sockets(&self, targets: usize) -> usize {
        let in_flight = self.in_flight.unwrap_or(IN_FLIGHT_DEFAULT);
        let some = if self.is_open() {
            16
        } else {
            in_flight.min(16)
        };
        let asked = self.sockets.map_or(some, |sockets| sockets as usize);
        asked.max(targets).max(self.threads as usize)
    }

    /// What cannot be said by one option alone.
    pub(super) fn check(&self) -> Result<(), String> {
        let damage: f64 = self.damage().iter().sum();
        if damage > 1.0 {
            return Err("--malformed, --bad-signature and --stale are more than all".into());
        }
        if !self.is_open() && damage > DAMAGE_MAX {
            return Err(format!(
                "without --rate at least {:.0} % of the requests must be good: their answers set the pace",
                100.0 * (1.0 - DAMAGE_MAX)
            ));
        }
        let wanted = [&self.require, &self.search];
        let measured = wanted
            .iter()
            .any(|wanted| wanted.as_ref().is_some_and(Requirements::need_measuring));
        if measured && self.measure.is_none() {
            return Err("a requirement about the measuring client needs --measure".into());
        }
        Ok(())
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err("not a number from 1 to 1000000".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    parse_number(text)
        .filter(|rate| (0.001..=1e8).contains(rate))
        .ok_or_else(|| "not a rate, like 500, 20k or 1.5M".into())
}

fn share(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => parse_number(percent).map(|percent| percent / 100.0),
        None => parse_number(text),
    };
    value
        .filter(|share| *share <= 1.0)
        .ok_or_else(|| "not a share, like 0.1 or 10%".into())
}

fn verify(text: &str) -> Result<u32, String> {
    match text {
        "all" => Ok(1),
        "none" => Ok(0),
        _ => text
            .strip_prefix("1/")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number > 0)
            .ok_or_else(|| "neither all nor none nor like 1/16".into()),
    }
}

/// A day is more than enough, and keeps sums of nanoseconds far from overflow.
fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time > Duration::from_secs(86_400) {
        return Err("longer than a day".into());
    }
    Ok(time)
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = duration_or_zero(text)?;
    if time.is_zero() {
        return Err("no time at all".into());
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
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &str) -> Result<Options, clap::Error> {
        let arguments = std::iter::once("bench").chain(arguments.split_whitespace());
        Ok(Command::try_parse_from(arguments)?.options)
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Command as clap::CommandFactory>::command().debug_assert();
        let options = parse("").expect("all have defaults");
        assert_eq!(options.sockets(1), 16);
        assert_eq!(options.check(), Ok(()));
    }

    #[test]
    fn values_are_read() {
        let options =
            parse("--rate 20k --malformed 10% --stale 0.2 --verify 1/16 --lost-after 50ms")
                .expect("good options");
        assert_eq!(options.rate, Some(20_000.0));
        assert_eq!(options.damage(), [0.1, 0.0, 0.2]);
        assert_eq!(options.verify, 16);
        assert_eq!(options.lost_after, Duration::from_millis(50));
        let options = parse("--in-flight 4 --threads 8").expect("good options");
        assert_eq!(options.sockets(3), 8);
    }

    #[test]
    fn contradictions_are_refused() {
        for bad in [
            "--rate 5 --in-flight 5",
            "--search p99<1ms --requests 5",
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
            "--require measure.p99<1ms",
        ] {
            let options = parse(bad).expect("each is good alone");
            assert!(options.check().is_err(), "{bad}");
        }
        let flood = parse("--malformed 1 --rate 1k").expect("good options");
        assert_eq!(flood.check(), Ok(()));
    }
}

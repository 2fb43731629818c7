//! The command line of `confdctl`. Completions and man pages are made from it as well.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::load;
use crate::protocol::SKEW_SECONDS_MAX;

const ABOUT: &str =
    "Asks the master candidates of a Ganeti cluster about its configuration, through ganeti-confd.";

const AFTER_HELP: &str = "\
Examples:
  confdctl --demo query master            ask a built-in sample cluster; needs nothing
  confdctl query master                   on a node: who is master?
  confdctl query node-of 192.0.2.7        on which node does this address run?
  confdctl query config /cluster/enabled_hypervisors
  confdctl query --all master             what does each candidate say?
  confdctl probe                          is each candidate up, up to date, and on time?
  confdctl --server 192.0.2.1 --key-file hmac.key --json query nodes

Whom is asked, and with which key:
  Without options, on a node, what Ganeti's files say (below $GANETI_ROOTDIR):
    /var/lib/ganeti/ssconf_master_candidates_ips  the master candidates
    /var/lib/ganeti/hmac.key                      the key
  The port is that of ganeti-confd/udp in /etc/services, else 1814.

Environment:
  CONFD_SERVERS   as --server, separated by commas
  CONFD_KEY_FILE  as --key-file
  CONFD_KEY       the key itself, before CONFD_KEY_FILE; every byte counts, and
                  $(cat FILE) would drop the final newline of hmac.key

Exit status:
  0  answered
  1  the cluster answered with an error: unknown node, no such path ...
  2  a mistake on the command line
  3  no answer
  4  this host's files or sockets fail
  confdctl bench: see its own help
  confdctl probe: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, as monitoring plugins do";

/// What was asked for on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "confdctl",
    version,
    about = ABOUT,
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,

    #[command(subcommand)]
    pub(super) command: Command,
}

/// What all commands take, before or behind the command's name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(super) struct Common {
    /// Ask this host, an address or a name; may be repeated [default: the node's list of master candidates]
    #[arg(
        long = "server",
        value_name = "ADDR[:PORT]",
        global = true,
        value_delimiter = ',',
        value_hint = ValueHint::Hostname
    )]
    pub(super) servers: Vec<String>,

    /// Sign with the key in this file [default: the node's key]
    #[arg(long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    pub(super) key_file: Option<PathBuf>,

    /// Wait this long for answers at most: 2, 2s, 500ms [default: 10s; probe: 5s]
    #[arg(long, value_name = "TIME", global = true, value_parser = time)]
    pub(super) timeout: Option<Duration>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Ask a built-in sample cluster of 3 nodes and 10 instances
    #[arg(long, global = true)]
    pub(super) demo: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask one question
    Query(QueryOptions),
    /// Check each candidate's serial, clock and round trip, as a monitoring plugin
    Probe(ProbeOptions),
    /// Load servers, and measure how they answer
    Bench(Box<load::Options>),
    /// Print a shell's completions
    Completions {
        /// Which shell's
        shell: Shell,
    },
    /// Write man pages for confdctl, its commands, and ganeti-confd
    Man {
        /// Where to write them: to man1 and man8 below this directory
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

/// What to ask, and how much to show.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(super) struct QueryOptions {
    /// Ask all candidates, and show each one's answer, serial and round trip
    #[arg(long, global = true)]
    pub(super) all: bool,

    #[command(subcommand)]
    pub(super) query: Query,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(super) enum Query {
    /// The master node's name
    Master {
        /// Its name, the cluster's address, and its primary address
        #[arg(long)]
        addresses: bool,
    },
    /// What a node is: master, candidate, offline, drained or regular
    Role {
        /// Name, uuid, or an unambiguous start of the name (which calls the master a candidate)
        node: String,
    },
    /// All nodes' primary addresses
    Nodes,
    /// All master candidates' primary addresses
    Candidates,
    /// The instances whose primary or secondary node this is
    InstancesOn {
        /// Name, uuid, or an unambiguous start of the name
        node: String,
    },
    /// An instance's disks
    Disks {
        /// Name, uuid, or an unambiguous start of the name
        instance: String,
    },
    /// A node's DRBD minors
    Drbd {
        /// Name, uuid, or an unambiguous start of the name
        node: String,
    },
    /// The primary address of the node that runs the instance with this address
    NodeOf {
        /// The instance's address; of several, each is answered, unknown ones with "-"
        #[arg(required = true, value_name = "IP")]
        ips: Vec<String>,
        /// On this link [default: the cluster's default link]
        #[arg(long)]
        link: Option<String>,
    },
    /// All instances' addresses on a link
    Ips {
        /// On this link [default: the cluster's default link]
        #[arg(long)]
        link: Option<String>,
    },
    /// Any value of the configuration
    Config {
        /// Like /cluster/cluster_name
        path: String,
    },
    /// The monitoring daemon's data collectors
    Collectors,
    /// Whether confd answers: the configuration's version
    Ping,
}

/// What to check, and how often.
#[derive(Debug, Args)]
#[command(after_help = probe_help(), max_term_width = 100)]
pub(super) struct ProbeOptions {
    /// Also ask what Ganeti's confd-client checks, query by query
    #[arg(long)]
    pub(super) checks: bool,

    /// Again and again until Ctrl-C or q, every so many seconds [default: 2]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = interval)]
    pub(super) watch: Option<Duration>,
}

fn probe_help() -> String {
    format!(
        "\
The first line is a monitoring plugin's: state, summary, performance data. Then one line per candidate.

Exit status:
  0  OK
  1  WARNING: a candidate is down, behind, calls another node master, or its
     clock is more than 60 s off; or one of --checks fails
  2  CRITICAL: fewer candidates answer than make an answer safe
  3  UNKNOWN: this host's files or sockets fail, or a wrong command line

A candidate answers only clients whose clock is at most {SKEW_SECONDS_MAX} s from its own.
Clocks are compared by pings that pretend other times, up to 26 hours off: some
150 small datagrams to a candidate, 700 to a silent one."
    )
}

/// A time like `500ms`, or a number of seconds.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .or_else(|| humantime::parse_duration(text).ok())
        .filter(|time| !time.is_zero() && *time <= TIME_MAX)
        .ok_or_else(|| "give a time like 10, 10s or 500ms, at most a day".to_owned())
}

/// Nobody waits longer, and sums of times stay far from what an `Instant` holds.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// As [`time`], but not shorter than candidates should be asked.
fn interval(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| {
        if time < INTERVAL_MIN {
            return Err(format!(
                "give at least {}",
                humantime::format_duration(INTERVAL_MIN)
            ));
        }
        Ok(time)
    })
}

const INTERVAL_MIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::protocol::request::RequestType;

    #[test]
    fn clap_finds_no_contradiction() {
        Options::command().debug_assert();
    }

    #[test]
    fn each_request_type_has_its_query() {
        let command = Options::command();
        let query = command
            .find_subcommand("query")
            .expect("query is a command");
        for kind in RequestType::ALL {
            assert!(query.find_subcommand(kind.name()).is_some(), "{kind:?}");
        }
        assert_eq!(query.get_subcommands().count(), RequestType::COUNT);
    }

    #[test]
    fn times() {
        assert_eq!(time("2"), Ok(Duration::from_secs(2)));
        assert_eq!(time("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in ["", "0", "0s", "x", "-1", "nan", "inf", "1e300", "2 days"] {
            time(bad).expect_err(bad);
        }
        interval("0.1").expect_err("too often");
    }

    #[test]
    fn common_options_go_before_or_behind() {
        let parse = |line: &str| Options::try_parse_from(line.split(' ')).expect(line);
        for line in [
            "confdctl --json --timeout 2 --server a,b --server c query --all role node1",
            "confdctl query role node1 --json --timeout 2 --server a,b --server c --all",
        ] {
            let options = parse(line);
            assert!(options.common.json);
            assert_eq!(options.common.timeout, Some(Duration::from_secs(2)));
            assert_eq!(options.common.servers, ["a", "b", "c"]);
            let Command::Query(query) = options.command else {
                panic!("it is a query");
            };
            assert!(query.all);
        }
        let Command::Probe(probe) = parse("confdctl probe --watch").command else {
            panic!("it is a probe");
        };
        assert_eq!(probe.watch, Some(Duration::from_secs(2)));
    }
}

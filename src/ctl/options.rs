//! The command line of `confdctl`. Completions and man pages are generated from it as well.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{
    Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint,
};
use clap_complete::Shell;

use super::color::ColorChoice;
use super::examples;
use super::limits::Thresholds;
#[cfg(feature = "bench")]
use crate::load;
use crate::protocol::SKEW_SECONDS_MAX;

const ABOUT: &str =
    "Queries the configuration of a Ganeti cluster through ganeti-confd on its master candidates.";

const AFTER_HELP: &str = "\
Examples:
  confdctl --demo query master            a built-in sample cluster; needs nothing else
  confdctl query master                   on a node: who is master?
  confdctl query node-of 192.0.2.7        on which node is the instance with this address?
  confdctl query config /cluster/enabled_hypervisors
  confdctl query --all master             what does each candidate say?
  confdctl probe                          is each candidate up, up to date, and on time?
  confdctl --server 192.0.2.1 --key-file hmac.key --json query nodes

Servers and key:
  Without options, on a node, from Ganeti's files (below $GANETI_ROOTDIR):
    /var/lib/ganeti/ssconf_master_candidates_ips  the master candidates
    /var/lib/ganeti/hmac.key                      the key
  The port is that of ganeti-confd/udp in /etc/services, or 1814.

Environment:
  CONFD_SERVERS   like --server, separated by commas
  CONFD_KEY_FILE  like --key-file
  CONFD_KEY       the key itself; takes precedence over CONFD_KEY_FILE. Every byte
                  counts: $(cat FILE) drops the final newline of hmac.key
  ganeti-confd --demo prints the values for its sample cluster.

Exit status:
  0  answered
  1  the cluster answered with an error: unknown node, no such path ...
  2  the command line is wrong
  3  no answer
  4  a file or a socket of this host failed
  5  with --strict: fewer candidates answered than the safe number
  confdctl bench: see confdctl bench --help
  confdctl probe: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, like a monitoring plugin";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "confdctl",
    version,
    about = ABOUT,
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100
)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,

    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of all commands, accepted before or after the command's name.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(super) struct Common {
    /// Query this host, an address or a name; may be repeated [default: the node's list of master
    /// candidates]
    #[arg(
        short,
        long = "server",
        value_name = "ADDR[:PORT]",
        global = true,
        value_delimiter = ',',
        value_hint = ValueHint::Hostname
    )]
    pub(super) servers: Vec<String>,

    /// Sign with the key in this file [default: the node's key]
    #[arg(short, long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    pub(super) key_file: Option<PathBuf>,

    /// Wait at most this long for answers: 2, 2s, 500ms [default: 10s; probe: 5s; raw: 2s]
    #[arg(short, long, value_name = "TIME", global = true, value_parser = time)]
    pub(super) timeout: Option<Duration>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,

    /// Show the packets in both directions on standard error (not the pings that compare clocks)
    #[arg(short, long, global = true)]
    pub(super) verbose: bool,

    /// When to print colors: auto, always, never [default: auto, which honors NO_COLOR]
    #[arg(long, value_name = "WHEN", global = true)]
    pub(super) color: Option<ColorChoice>,

    /// Use a built-in sample cluster of 3 nodes and 10 instances
    #[arg(long, global = true)]
    pub(super) demo: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Send one query and print the answer
    Query(QueryOptions),
    /// Check the serial, clock and round trip of each candidate, as a monitoring plugin
    Probe(ProbeOptions),
    /// Load servers with queries and measure throughput, latency and loss
    #[cfg(feature = "bench")]
    Bench(Box<load::Options>),
    /// Send a request as given, signed, and print the text of the reply
    Raw(RawOptions),
    /// Print the state of the daemon on this host: serial, last load, engine, counters
    Status(StatusOptions),
    /// Print the completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
        /// Print a script that does not call confdctl, and offers no names from the cluster
        #[arg(long)]
        no_names: bool,
    },
    /// Write man pages for confdctl, its commands, and ganeti-confd
    #[command(after_help = examples::MAN)]
    Man {
        /// Write to man1 and man8 below this directory
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

/// Options of `status`.
#[derive(Debug, Args)]
#[command(after_help = examples::STATUS)]
pub(super) struct StatusOptions {
    /// The daemon's status socket [default: /var/run/ganeti/ganeti-confd.sock]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) socket: Option<PathBuf>,
}

/// Options of `query`.
#[derive(Debug, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = examples::QUERY
)]
pub(super) struct QueryOptions {
    /// Query all candidates; show the answer, and whether each candidate agrees
    #[arg(short, long, global = true)]
    pub(super) all: bool,

    /// The output format
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        global = true,
        default_value = "table",
        conflicts_with = "json"
    )]
    pub(super) output: Format,

    /// Omit the headings of tables and CSV
    #[arg(long, global = true)]
    pub(super) no_headers: bool,

    /// Repeat at this interval until Ctrl-C [default: 2]
    #[arg(long, value_name = "TIME", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = interval)]
    pub(super) watch: Option<Duration>,

    /// Accept replies that come from another address than the one queried
    #[arg(long, global = true)]
    pub(super) any_source: bool,

    /// Exit with status 5 if fewer candidates answer than the safe number
    #[arg(long, global = true)]
    pub(super) strict: bool,

    #[command(subcommand)]
    pub(super) query: Query,
}

/// Output formats of `query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns that fit the terminal; tab-separated values if it is not one
    Table,
    /// Aligned columns, all of them
    Wide,
    /// The answer with serials and counts as JSON, like --json
    Json,
    /// The same as YAML
    Yaml,
    /// Comma-separated values
    Csv,
    /// The first column only
    Name,
}

impl Format {
    /// Whether it is a document with everything that is known, and not a table.
    pub(super) fn is_document(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// The queries.
#[derive(Debug, Subcommand)]
pub(super) enum Query {
    /// The name of the master node
    #[command(after_help = examples::MASTER)]
    Master {
        /// Its name, the cluster's address and its primary address
        #[arg(long)]
        addresses: bool,
    },
    /// The role of a node: master, candidate, offline, drained or regular
    #[command(after_help = examples::ROLE)]
    Role {
        /// Name, UUID or an unambiguous prefix of the name (with a prefix, the master's role is
        /// "candidate")
        node: String,
    },
    /// The names, addresses and states of all nodes
    #[command(after_help = examples::NODES)]
    Nodes {
        /// Only the primary addresses, which fit a datagram for more nodes
        #[arg(long)]
        addresses: bool,
    },
    /// The names and states of all instances
    #[command(after_help = examples::INSTANCES)]
    Instances,
    /// The primary addresses of all master candidates
    #[command(after_help = examples::CANDIDATES)]
    Candidates,
    /// The instances that have this node as primary or secondary
    #[command(after_help = examples::INSTANCES_ON)]
    InstancesOn {
        /// Name, UUID or an unambiguous prefix of the name
        node: String,
    },
    /// The disks of an instance
    #[command(after_help = examples::DISKS)]
    Disks {
        /// Name, UUID or an unambiguous prefix of the name
        instance: String,
    },
    /// The DRBD minors of a node
    #[command(after_help = examples::DRBD)]
    Drbd {
        /// Name, UUID or an unambiguous prefix of the name
        node: String,
    },
    /// The primary address of the primary node of the instance with this address
    #[command(after_help = examples::NODE_OF)]
    NodeOf {
        /// The instance's address; with several, unknown ones are shown as "-"
        #[arg(required = true, value_name = "IP")]
        ips: Vec<String>,
        /// Look on this link [default: the cluster's default link]
        #[arg(long)]
        link: Option<String>,
    },
    /// The addresses of all instances on a link
    #[command(after_help = examples::IPS)]
    Ips {
        /// Look on this link [default: the cluster's default link]
        #[arg(long)]
        link: Option<String>,
    },
    /// The value at a path in the configuration
    #[command(after_help = examples::CONFIG)]
    Config {
        /// A path like /cluster/cluster_name; nodes, instances, groups, networks and disks may be
        /// named by name or UUID: /nodes/node1.example.com/primary_ip
        path: String,
    },
    /// The data collectors of the monitoring daemon
    #[command(after_help = examples::COLLECTORS)]
    Collectors,
    /// The version of the configuration, to see whether confd answers
    #[command(after_help = examples::PING)]
    Ping,
}

/// Options of `raw`.
#[derive(Debug, Args)]
#[command(after_help = examples::RAW)]
pub(super) struct RawOptions {
    /// The number of a type, or the request's JSON text, which is sent unchanged; - reads standard
    /// input
    #[arg(allow_hyphen_values = true)]
    pub(super) request: String,

    /// The argument after the number of a type: JSON text, or a string if it is not JSON
    pub(super) query: Option<String>,

    /// Send to all servers, and not only to the first
    #[arg(short, long)]
    pub(super) all: bool,

    /// Sign with this salt in place of the time
    #[arg(long, value_name = "TEXT")]
    pub(super) salt: Option<String>,

    /// Accept a reply that comes from another address than the one asked
    #[arg(long)]
    pub(super) any_source: bool,
}

/// Options of `probe`.
#[derive(Debug, Args)]
#[command(after_help = probe_help(), max_term_width = 100)]
pub(super) struct ProbeOptions {
    /// Also run the queries that Ganeti's confd-client checks
    #[arg(long, conflicts_with = "watch")]
    pub(super) checks: bool,

    /// Print the format of monitoring plugins [default if standard output is not a terminal]
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub(super) plugin: bool,

    /// Warn above these: lag=N,skew=TIME,rtt=TIME,age=TIME [default: lag=0,skew=60s]
    #[arg(short, long, value_name = "THRESHOLDS")]
    pub(super) warning: Option<Thresholds>,

    /// Report CRITICAL above these
    #[arg(short, long, value_name = "THRESHOLDS")]
    pub(super) critical: Option<Thresholds>,

    /// Accept replies that come from another address than the one queried
    #[arg(long)]
    pub(super) any_source: bool,

    /// Repeat at this interval until Ctrl-C or q [default: 2]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = interval)]
    pub(super) watch: Option<Duration>,
}

fn probe_help() -> String {
    format!(
        "\
On a terminal, there is a table of the candidates, then the verdict and the problems. With
--plugin, or if standard output is not a terminal, the first line has the format of monitoring
plugins: state, summary, performance data.

{}

Exit status:
  0  OK
  1  WARNING: a candidate is down, reports another master, or exceeds a threshold;
     this node's configuration file has another serial than the one served, for
     more than 2 s; or one of --checks failed
  2  CRITICAL: fewer candidates answer than the safe number, or a candidate exceeds
     a critical threshold
  3  UNKNOWN: a file or socket of this host failed, or the command line is wrong

Thresholds:
  lag   how far the serial of a candidate is behind the newest
  skew  how far the clock of a candidate is from this host's
  rtt   the round trip
  age   the time since the configuration was changed

A candidate answers only requests whose clock is at most {SKEW_SECONDS_MAX} s from its own. The
clocks are compared with pings that carry other times, up to 26 hours off: about
150 small datagrams to a candidate, 700 to one that does not answer.

The configuration file is compared on a node, if the key is that node's key.",
        examples::PROBE
    )
}

impl Options {
    /// Parses the command line of this process, and the file of options that it names.
    pub(super) fn parse_command_line() -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let options = Self::from_arg_matches(&matches).map_err(|it| it.format(&mut command))?;
        #[cfg(feature = "bench")]
        if let (Command::Bench(bench), Some(("bench", matches))) =
            (&options.command, matches.subcommand())
        {
            let bench = load::with_profile(bench.as_ref().clone(), matches)?;
            let command = Command::Bench(Box::new(bench));
            return Ok(Self { command, ..options });
        }
        Ok(options)
    }

    /// Refuses options that the command would ignore.
    pub(super) fn refuse_ignored(&self) -> Result<(), clap::Error> {
        let common = &self.common;
        let (command, ignored): (_, &[(&str, bool)]) = match &self.command {
            Command::Completions { .. } | Command::Man { .. } => (
                "completions and man",
                &[
                    ("--server", !common.servers.is_empty()),
                    ("--key-file", common.key_file.is_some()),
                    ("--timeout", common.timeout.is_some()),
                    ("--json", common.json),
                    ("--verbose", common.verbose),
                    ("--color", common.color.is_some()),
                    ("--demo", common.demo),
                ],
            ),
            Command::Status(_) => (
                "status",
                &[
                    ("--server", !common.servers.is_empty()),
                    ("--key-file", common.key_file.is_some()),
                    ("--verbose", common.verbose),
                    ("--color", common.color.is_some()),
                    ("--demo", common.demo),
                ],
            ),
            Command::Raw(_) => ("raw", &[("--color", common.color.is_some())]),
            #[cfg(feature = "bench")]
            Command::Bench(bench) if bench.command.is_some() => (
                "bench merge and bench compare",
                &[
                    ("--server", !common.servers.is_empty()),
                    ("--key-file", common.key_file.is_some()),
                    ("--timeout", common.timeout.is_some()),
                    ("--color", common.color.is_some()),
                    ("--demo", common.demo),
                ],
            ),
            #[cfg(feature = "bench")]
            Command::Bench(_) => (
                "bench",
                &[
                    ("--timeout", common.timeout.is_some()),
                    ("--verbose", common.verbose),
                    ("--color", common.color.is_some()),
                ],
            ),
            Command::Query(_) | Command::Probe(_) => return Ok(()),
        };
        match ignored.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((option, _)) => {
                let why = format!("{option} has no effect on {command}");
                Err(Self::command().error(ErrorKind::ArgumentConflict, why))
            }
        }
    }
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
        .ok_or_else(|| "expected a time like 10, 10s or 500ms, at most a day".to_owned())
}

/// The longest time accepted, so that adding it to an `Instant` cannot overflow.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// As [`time`], but at least [`INTERVAL_MIN`].
fn interval(text: &str) -> Result<Duration, String> {
    time(text).and_then(|time| {
        if time < INTERVAL_MIN {
            return Err(format!(
                "must be at least {}",
                humantime::format_duration(INTERVAL_MIN)
            ));
        }
        Ok(time)
    })
}

/// The shortest `--watch` interval; a shorter one would load the candidates.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::request::RequestType;

    #[test]
    fn the_definition_is_consistent() {
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
        // `instances` is a configuration query.
        let others = ["instances"];
        assert_eq!(
            query.get_subcommands().count(),
            RequestType::COUNT + others.len()
        );
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
    fn common_options_may_precede_or_follow_the_command() {
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

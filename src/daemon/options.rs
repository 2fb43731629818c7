//! The command line: the options of the original `ganeti-confd`, and additional ones.
//!
//! Differences from the reference's getopt (`Ganeti.Daemon.parseOpts`): values are checked from
//! left to right, so that the first of two mistakes is reported; ports must be decimal and in
//! range; `--syslog` without a value means `yes`.
//!
//! Source: ganeti-confd(8), `Ganeti.Daemon`, `Ganeti.Common` of version 3.0.2.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory as _, Parser, ValueEnum};

use super::address;
use super::error::STATUS_LASTING;
use super::sandbox;
use crate::engine::EngineKind;
use crate::reader::KeepLastGood;

/// Upper limit of `--workers`. Each worker has a socket, a ring and its buffers.
const WORKERS_MAX: u64 = 256;
/// Upper limits of `--demo`, for about 2 GB of `config.data`.
const DEMO_NODES_MAX: usize = 10_000;
const DEMO_INSTANCES_MAX: usize = 1_000_000;

const ABOUT: &str =
    "Answers queries about a Ganeti cluster's configuration, as HMAC-signed JSON over UDP.

A drop-in replacement for Ganeti's ganeti-confd: same protocol, files, options and signals.";

const AFTER_HELP: &str = "\
Examples:
  ganeti-confd                       start the daemon, as Ganeti's daemon-util does
  ganeti-confd -f -d                 stay in the foreground and log debug messages
  ganeti-confd --check               check whether a start would succeed, then exit
  ganeti-confd --demo                serve a sample cluster; needs no files of Ganeti
  ganeti-confd --demo=50:500 -p 0    serve a larger one on any free port

Files (relative to $GANETI_ROOTDIR, if set):
  /var/lib/ganeti/config.data               the configuration; reloaded when it changes
  /var/lib/ganeti/hmac.key                  the key; reloaded when it changes
  /var/lib/ganeti/ssconf_primary_ip_family  2 (IPv4) or 10 (IPv6); used without --bind
  /var/run/ganeti/ganeti-confd.pid          the process ID; locked while the daemon runs
  /var/run/ganeti/ganeti-confd.sock         answers confdctl status
  /var/log/ganeti/conf-daemon.log           the log
  /etc/services                             the port of ganeti-confd/udp; used without --port

Signals:
  TERM, INT  stop; the status is 0 after TERM, and that of SIGINT after INT (130 in a shell)
  HUP        reopen the log file, after rotation
  USR1       log all counters (USR1 terminates the original)
  USR2       start or stop logging debug messages (USR2 terminates the original)
  QUIT       ignored

Exit status:
  0   success; without --foreground: the daemon is serving
  1   an invalid value, the wrong user, an unusable key or file, or a limit that is too low: another
      start does not help; with --check: a start would not serve
  2   an unknown option, or a missing value: another start does not help
  75  another failure, such as a port in use, or no memory: another start may help

The user check: the daemon must run as gnt-confd, and the accounts of Ganeti's daemons must exist.";

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(
    name = "ganeti-confd",
    about = ABOUT,
    after_help = AFTER_HELP,
    disable_help_flag = true,
    disable_version_flag = true,
    infer_long_args = true,
    args_override_self = true,
    max_term_width = 100
)]
pub(super) struct Options {
    /// Don't detach from the current terminal
    #[arg(short, long)]
    pub(super) foreground: bool,

    /// Ignore user checks
    #[arg(long)]
    pub(super) no_user_checks: bool,

    /// Enable debug messages
    // The reference takes --d and --de for --debug, which --demo would make ambiguous.
    #[arg(short, long, aliases = ["d", "de"])]
    pub(super) debug: bool,

    /// Network port, 1 to 65535, or 0 for any free port, which is logged [default: from
    /// /etc/services, else 1814]
    #[arg(short, long, value_parser = port, allow_hyphen_values = true)]
    pub(super) port: Option<u16>,

    /// Bind address: numeric IPv4 or IPv6, like 192.0.2.1, ::1 or fe80::1%eth0 [default: any
    /// address, IPv4 or IPv6 as in the cluster]
    #[arg(short, long, value_name = "ADDR", value_parser = address::parse)]
    pub(super) bind: Option<address::Numeric>,

    /// Log to syslog, without debug messages: never, in addition to the log file, or instead of it
    /// [default: no]
    #[arg(long, value_name = "WHEN", num_args = 0..=1, default_missing_value = "yes")]
    syslog: Option<Syslog>,

    /// Format of the log: lines of text, JSON objects, or events of the systemd journal in place of
    /// standard error [default: text, and the journal if standard error is the journal]
    #[arg(long, value_name = "FORMAT", help_heading = "Additional options")]
    pub(super) log_format: Option<LogFormat>,

    /// Give up rights at the start: files, system calls, capabilities. With auto, what the kernel
    /// has; with strict, all of it or no start, and a violation ends the daemon [default: auto]
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t = sandbox::Mode::Auto,
        hide_default_value = true,
        help_heading = "Additional options"
    )]
    pub(super) sandbox: sandbox::Mode,

    /// Serve metrics for Prometheus over HTTP at this address and TCP port, like 192.0.2.1:9814 or
    /// [::1]:9814 [default: none]
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics_address, help_heading = "Additional options")]
    pub(super) metrics: Option<SocketAddr>,

    /// Configuration file to serve [default: /var/lib/ganeti/config.data]
    #[arg(long, value_name = "FILE", help_heading = "Additional options")]
    pub(super) config: Option<PathBuf>,

    /// HMAC key file [default: /var/lib/ganeti/hmac.key]
    #[arg(long, value_name = "FILE", help_heading = "Additional options")]
    pub(super) key: Option<PathBuf>,

    /// Serve datagrams with io_uring, with recvmmsg(2), or with the first of them that works
    /// [default: auto]
    #[arg(
        long,
        value_name = "ENGINE",
        value_parser = engine_parser(),
        default_value = "auto",
        hide_default_value = true,
        help_heading = "Additional options"
    )]
    // The full path keeps clap from treating the field as an optional argument.
    pub(super) engine: std::option::Option<EngineKind>,

    /// Number of threads that serve datagrams [default: the available cores, at most 4]
    #[arg(long, value_name = "N", value_parser = workers, allow_hyphen_values = true, help_heading = "Additional options")]
    workers: Option<usize>,

    /// How long to serve the last good configuration once config.data is unusable, like 300s, 5m
    /// or forever; 0 answers errors at once, as the original does [default: 300s]
    #[arg(long, value_name = "DURATION", value_parser = keep_last_good, help_heading = "Additional options")]
    keep_last_good: Option<KeepLastGood>,

    /// The former name of --keep-last-good: "keep" is "forever", "error" is "0"
    // Hidden, and kept so that a daemon with it in CONFD_ARGS still starts.
    #[arg(
        long,
        value_name = "WHAT",
        value_parser = on_bad_config_parser(),
        hide = true,
        overrides_with = "keep_last_good",
        help_heading = "Additional options"
    )]
    on_bad_config: Option<KeepLastGood>,

    /// Answer a signed request only to the first address that it is received from [default: on]
    #[arg(long, value_name = "WHEN", help_heading = "Additional options")]
    replay_protection: Option<Switch>,

    /// Check the accounts, directories, files and engine as a start does, print what is found, and
    /// exit; with --config or --key, check only these files
    #[arg(long, help_heading = "Additional options")]
    pub(super) check: bool,

    /// Serve a sample cluster of this size on loopback, with a new key, from a temporary directory
    /// [default: 3:10]
    #[arg(
        long,
        value_name = "NODES:INSTANCES",
        num_args = 0..=1,
        default_missing_value = "3:10",
        value_parser = demo_size,
        conflicts_with_all = ["check", "config", "key"],
        help_heading = "Additional options"
    )]
    pub(super) demo: Option<DemoSize>,

    /// Show help
    #[arg(short, long, action = ArgAction::SetTrue)]
    help: bool,

    /// Show the version of the program
    #[arg(short = 'V', long, action = ArgAction::SetTrue)]
    version: bool,

    /// Show completion info
    #[arg(long, action = ArgAction::SetTrue)]
    help_completion: bool,
}

/// When to log to syslog: `SyslogUsage` of `Ganeti.Logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Syslog {
    No,
    Yes,
    Only,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
    Journal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// The size of a demo's cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DemoSize {
    pub(super) nodes: usize,
    pub(super) instances: usize,
}

/// The error for an invalid command line: the text to print, and the exit status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsageError {
    pub(super) text: String,
    pub(super) status: u8,
}

impl Options {
    /// Parses a command line that starts with the program's name.
    ///
    /// # Errors
    ///
    /// Status 2 for an unknown option or a missing value, status 1 for an invalid value.
    pub(super) fn parse_from_args(
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, UsageError> {
        Self::try_parse_from(args).map_err(|error| usage_error(&error))
    }

    /// Returns the text that `--help`, `--version` or `--help-completion` prints, if one is given.
    pub(super) fn information(&self) -> Option<String> {
        if self.help {
            Some(Self::command().render_help().to_string())
        } else if self.version {
            Some(version())
        } else {
            self.help_completion.then(completion)
        }
    }

    /// The value of `--syslog`.
    pub(super) fn syslog(&self) -> Syslog {
        self.syslog.unwrap_or(Syslog::No)
    }

    /// The value of `--workers`, if given.
    pub(super) fn requested_workers(&self) -> Option<usize> {
        self.workers
    }

    /// The number of workers to start.
    pub(super) fn workers(&self) -> usize {
        let available = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
        self.workers.unwrap_or_else(|| available().min(4))
    }

    /// How long the last good configuration is served once `config.data` is unusable.
    pub(super) fn keep_last_good(&self) -> KeepLastGood {
        self.keep_last_good
            .or(self.on_bad_config)
            .unwrap_or_default()
    }

    /// Whether a signed request is answered only to the first address that it is received from.
    pub(super) fn replay_protection(&self) -> bool {
        self.replay_protection != Some(Switch::Off)
    }
}

/// Parses `--engine`; `auto` is `None`.
fn engine_parser() -> impl TypedValueParser<Value = Option<EngineKind>> {
    PossibleValuesParser::new(["auto", "uring", "mmsg"]).map(|name| match name.as_str() {
        "uring" => Some(EngineKind::Uring),
        "mmsg" => Some(EngineKind::Mmsg),
        _ => None,
    })
}

/// Parses `--on-bad-config`.
fn on_bad_config_parser() -> impl TypedValueParser<Value = KeepLastGood> {
    PossibleValuesParser::new(["keep", "error"]).map(|name| match name.as_str() {
        "error" => KeepLastGood::For(Duration::ZERO),
        _ => KeepLastGood::Forever,
    })
}

/// The text of `--version`.
fn version() -> String {
    format!(
        "ganeti-confd (ganeti-confd in Rust) version {}\ncompatible with ganeti 3.0\nrunning on {} {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// The text of `--help-completion`: one line per option in the reference's format, such as
/// `-p,--port integer` (`Ganeti.Common.ComplOpt`).
fn completion() -> String {
    let line = |arg: &clap::Arg| {
        let long = arg.get_long()?;
        let short = arg.get_short().map_or(String::new(), |c| format!("-{c},"));
        let kind = match long {
            "port" | "workers" => "integer".to_owned(),
            "bind" | "metrics" => "inetaddr".to_owned(),
            "config" | "key" => "file".to_owned(),
            "demo" | "keep-last-good" => "string".to_owned(),
            _ if arg.get_num_args().is_some_and(|n| n.takes_values()) => {
                let values = arg.get_possible_values();
                let names: Vec<_> = values
                    .iter()
                    .map(clap::builder::PossibleValue::get_name)
                    .collect();
                format!("choices={}", names.join(","))
            }
            _ => "none".to_owned(),
        };
        Some(format!("{short}--{long} {kind}\n"))
    };
    let mut command = Options::command();
    command.build();
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(line).collect()
}

/// Converts an error of clap: one line for an invalid value, clap's text with usage for the rest.
fn usage_error(error: &clap::Error) -> UsageError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let value = context(ContextKind::InvalidValue);
    let option = context(ContextKind::InvalidArg);
    let option = option.split([' ', '=', '[']).next().unwrap_or_default();
    let one_line = |text: String| UsageError {
        text: format!("ganeti-confd: {text}\n"),
        status: STATUS_LASTING,
    };
    match error.kind() {
        ErrorKind::ValueValidation => {
            let reason =
                std::error::Error::source(error).map_or(String::new(), ToString::to_string);
            one_line(format!("{option}: '{value}' {reason}"))
        }
        ErrorKind::InvalidValue if !value.is_empty() => {
            let choices = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(choices)) => choices.join(", "),
                _ => String::new(),
            };
            one_line(format!("{option}: '{value}' is not one of {choices}"))
        }
        ErrorKind::UnknownArgument if !option.starts_with('-') => one_line(format!(
            "this program doesn't take any arguments, but got '{option}'"
        )),
        _ => UsageError {
            text: format!("{}\nFor more information, try '--help'.\n", error.render()),
            status: 2,
        },
    }
}

fn port(text: &str) -> Result<u16, String> {
    parse_decimal(text)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| "is not a port; use a number from 1 to 65535, or 0 for any free port".into())
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "is not an address with a port; use one like 127.0.0.1:9814 or [::1]:9814".into()
    })
}

fn workers(text: &str) -> Result<usize, String> {
    parse_decimal(text)
        .filter(|n| (1..=WORKERS_MAX).contains(n))
        .map(|n| n as usize)
        .ok_or_else(|| format!("is not a number of workers; use a number from 1 to {WORKERS_MAX}"))
}

/// Parses `--keep-last-good`: a duration, a number of seconds, or `forever`.
fn keep_last_good(text: &str) -> Result<KeepLastGood, String> {
    if text == "forever" {
        return Ok(KeepLastGood::Forever);
    }
    parse_decimal(text)
        .map(Duration::from_secs)
        .or_else(|| humantime::parse_duration(text).ok())
        .map(KeepLastGood::For)
        .ok_or_else(|| {
            "is not a duration; use one like 300s, 5m or 2h, 0 to answer errors at once, or forever"
                .into()
        })
}

fn demo_size(text: &str) -> Result<DemoSize, String> {
    let part = |text: &str, range: std::ops::RangeInclusive<usize>| {
        let number = usize::try_from(parse_decimal(text)?).ok()?;
        range.contains(&number).then_some(number)
    };
    text.split_once(':')
        .and_then(|(nodes, instances)| {
            Some(DemoSize {
                nodes: part(nodes, 1..=DEMO_NODES_MAX)?,
                instances: part(instances, 0..=DEMO_INSTANCES_MAX)?,
            })
        })
        .ok_or_else(|| {
            format!(
                "is not a size; use NODES:INSTANCES like 3:10, \
                 at most {DEMO_NODES_MAX}:{DEMO_INSTANCES_MAX}"
            )
        })
}

/// Parses a number of ASCII digits only; `str::parse` would accept a sign.
fn parse_decimal(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, UsageError> {
        let args = ["ganeti-confd"].iter().chain(args).map(OsString::from);
        Options::parse_from_args(args)
    }

    #[test]
    fn the_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_can_be_bundled_abbreviated_and_repeated() {
        let options = parse(&["-fdp18153", "--no", "--port=1", "--po", "18154"]).unwrap();
        assert!(options.foreground && options.debug && options.no_user_checks);
        assert_eq!(options.port, Some(18_154));
        assert!(parse(&["--d"]).unwrap().debug);
        assert!(parse(&["--fore", "--fore"]).unwrap().foreground);
        assert_eq!(parse(&["--sys", "only"]).unwrap().syslog(), Syslog::Only);
        assert_eq!(parse(&["--syslog"]).unwrap().syslog(), Syslog::Yes);
        assert_eq!(parse(&[]).unwrap().syslog(), Syslog::No);
    }

    #[test]
    fn the_last_good_configuration_is_kept_for_300_seconds_by_default() {
        let seconds = |n| KeepLastGood::For(Duration::from_secs(n));
        for (args, expected) in [
            (&[][..], seconds(300)),
            (&["--keep-last-good=0"], seconds(0)),
            (&["--keep-last-good=0s"], seconds(0)),
            (&["--keep-last-good", "90"], seconds(90)),
            (&["--keep-last-good=1h 30m"], seconds(5_400)),
            (
                &["--keep-last-good=250ms"],
                KeepLastGood::For(Duration::from_millis(250)),
            ),
            (&["--keep-last-good=forever"], KeepLastGood::Forever),
            (&["--keep=5m"], seconds(300)),
            // The former option. The last one on the command line counts.
            (&["--on-bad-config=keep"], KeepLastGood::Forever),
            (&["--on-bad-config", "error"], seconds(0)),
            (&["--on-bad-config=error", "--keep-last-good=7"], seconds(7)),
            (&["--keep-last-good=7", "--on-bad-config=error"], seconds(0)),
        ] {
            assert_eq!(parse(args).unwrap().keep_last_good(), expected, "{args:?}");
        }
        for bad in ["", "-1", "5 parsecs", "ever", "18446744073709551616"] {
            let error = parse(&["--keep-last-good", bad]).unwrap_err();
            assert_ne!(error.status, 0, "{bad}: {}", error.text);
        }
        let error = parse(&["--keep-last-good=soon"]).unwrap_err();
        assert_eq!(
            error.text,
            "ganeti-confd: --keep-last-good: 'soon' is not a duration; use one like 300s, 5m or \
             2h, 0 to answer errors at once, or forever\n"
        );
        assert_eq!(parse(&["--on-bad-config=no"]).unwrap_err().status, 1);
    }

    #[test]
    fn demo_sizes_are_parsed_and_limited() {
        let size = |args: &[&str]| parse(args).unwrap().demo.map(|d| (d.nodes, d.instances));
        assert_eq!(size(&[]), None);
        assert_eq!(size(&["--demo"]), Some((3, 10)));
        assert_eq!(size(&["--demo", "-f"]), Some((3, 10)));
        assert_eq!(size(&["--demo=50:500"]), Some((50, 500)));
        for bad in ["0:1", "3", ":", "3:", "3:-1", "10001:1", "a:b", "3:10:2"] {
            assert_eq!(parse(&["--demo", bad]).unwrap_err().status, 1, "{bad}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_value_is_one_line_with_option_and_remedy() {
        for (args, expected) in [
            (
                &["-p", "abc"][..],
                "ganeti-confd: --port: 'abc' is not a port; use a number from 1 to 65535, or 0 for any free port\n",
            ),
            (
                &["--syslog=maybe"],
                "ganeti-confd: --syslog: 'maybe' is not one of no, yes, only\n",
            ),
            (
                &["--workers", "0"],
                "ganeti-confd: --workers: '0' is not a number of workers; use a number from 1 to 256\n",
            ),
            (
                &["now"],
                "ganeti-confd: this program doesn't take any arguments, but got 'now'\n",
            ),
        ] {
            let error = parse(args).unwrap_err();
            assert_eq!(
                (error.text.as_str(), error.status),
                (expected, 1),
                "{args:?}"
            );
        }
        for bad in [
            "65536", "-5", "99999999", " 18153", "0x46E9", "(18153)", "+5", "",
        ] {
            assert_eq!(parse(&["-p", bad]).unwrap_err().status, 1, "{bad}");
        }
    }

    #[test]
    fn a_syntax_error_shows_usage_and_has_status_2() {
        for args in [
            &["--bogus"][..],
            &["-p"],
            &["--key"],
            &["--key", ""],
            &["--help=now"],
            &["--hel"],
            &["-x"],
            &["--demo", "--check"],
        ] {
            let error = parse(args).unwrap_err();
            assert_eq!(error.status, 2, "{args:?}: {}", error.text);
        }
    }

    #[test]
    fn help_takes_precedence_over_version_and_version_over_completion() {
        let text = |args: &[&str]| parse(args).unwrap().information().unwrap();
        assert!(text(&["--help-completion", "-V", "-h"]).contains("Usage: ganeti-confd"));
        assert!(text(&["--help-completion", "-V"]).starts_with("ganeti-confd ("));
        let completion = text(&["--help-completion"]);
        for line in [
            "-f,--foreground none",
            "--no-user-checks none",
            "-d,--debug none",
            "-p,--port integer",
            "-b,--bind inetaddr",
            "--syslog choices=no,yes,only",
            "-h,--help none",
            "-V,--version none",
            "--help-completion none",
            "--engine choices=auto,uring,mmsg",
        ] {
            assert!(
                completion.lines().any(|l| l == line),
                "{line:?} is missing in {completion}"
            );
        }
    }
}

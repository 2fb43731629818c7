//! Sends fuzzing corpora to a confd on this machine and reports the replies.
//!
//! Each input is sent from its own socket, so that replies cannot be confused. Pings follow it, one
//! after the other. When they are answered and the input is not, it counts as dropped, unless the
//! protocol or another daemon says that it has an answer: then the tool waits longer, because a
//! daemon may answer out of order.

mod daemons;
mod input;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use daemons::{Daemons, Replies, disagree};
use input::{Input, files, read};

/// Inputs in flight at once; bounded by the socket buffers on both sides.
const WINDOW: usize = 16;

const AFTER_HELP: &str = "\
What is sent for a file (--as, or the name of the file's folder):
  datagram        the file itself; if it is signed with the corpus's key, signed again with the
                  given key and this host's time
  signed_request  the request that the file's bytes choose, signed
  envelope        a fourcc and the file

Datagrams are sent to loopback addresses only.

Example, with the reference daemon on the same key and configuration:
  send --key-file hmac.key --reference 127.0.0.1:1815 127.0.0.1:1814 fuzz/corpus/signed_request

The project's documentation lists the intended differences from ganeti-confd.

Exit status:
  0  no disagreement, or no --reference
  1  a disagreement, or a daemon that stopped answering
  2  a command-line error, or a daemon that does not answer pings signed with the key";

/// Sends fuzzing corpora to a ganeti-confd on this machine and reports the replies.
#[derive(Parser)]
#[command(after_help = AFTER_HELP, max_term_width = 100)]
struct Options {
    /// The daemon's address and port
    #[arg(value_parser = loopback)]
    address: SocketAddr,

    /// Files, or folders of files
    #[arg(required = true)]
    corpora: Vec<PathBuf>,

    /// The daemon's hmac.key; every byte counts
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,

    /// Also send to this daemon, which has the same key and configuration, and report disagreements
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    reference: Option<SocketAddr>,

    /// What the files contain [default: the name of their folder]
    #[arg(long = "as", value_name = "KIND")]
    kind: Option<Kind>,

    /// Send at most this many inputs
    #[arg(long, value_name = "COUNT", default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,

    /// Timeout for an expected answer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200)]
    timeout: u64,

    /// Report disagreements and the total only
    #[arg(short, long)]
    quiet: bool,
}

/// What a file contains.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    Datagram,
    SignedRequest,
    Envelope,
}

/// Parses a loopback address.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| {
        "not an address and a port, such as 127.0.0.1:1814 or [::1]:1814".to_owned()
    })?;
    if address.ip().to_canonical().is_loopback() {
        Ok(address)
    } else {
        Err(
            "not an address of the loopback interface: sending to other hosts is not allowed"
                .to_owned(),
        )
    }
}

/// Why the run ends early.
enum Failure {
    Usage(String),
    Stopped(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(Failure::Stopped(why)) => {
            println!("STOPPED: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(why)) => {
            eprintln!("send: {why}");
            ExitCode::from(2)
        }
    }
}

/// Sends all inputs. Returns the number of disagreements.
fn run(options: &Options) -> Result<usize, Failure> {
    let key = read(&options.key_file)?;
    let daemons = Daemons {
        addresses: [options.address]
            .into_iter()
            .chain(options.reference)
            .collect(),
        timeout: Duration::from_millis(options.timeout),
        key,
    };
    daemons.greet()?;
    let mut files = files(&options.corpora)?;
    files.truncate(options.limit);
    let mut totals = Totals::default();
    for window in files.chunks(WINDOW) {
        let inputs = window
            .iter()
            .map(|file| Input::read(file, options.kind, &daemons.key))
            .collect::<Result<Vec<_>, _>>()?;
        let answers = daemons.ask(&inputs)?;
        for (input, mut answers) in inputs.into_iter().zip(answers) {
            if disagree(&answers) {
                // A datagram may have been lost. A disagreement is reported only if it can be
                // repeated.
                let again = Input::read(&input.file, options.kind, &daemons.key)?;
                answers = daemons.ask(&[again])?.remove(0);
            }
            totals.add(&answers);
            if disagree(&answers) || !options.quiet {
                print!(
                    "{}",
                    Report {
                        input: &input,
                        answers: &answers
                    }
                );
            }
        }
    }
    println!("{totals}");
    Ok(totals.disagreements)
}

/// The outcome of one input.
struct Report<'a> {
    input: &'a Input,
    answers: &'a [Replies],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.input.file.display();
        if disagree(self.answers) {
            writeln!(
                f,
                "{file}: DISAGREE about {}",
                self.input.datagram.escape_ascii()
            )?;
            for (who, replies) in ["daemon   ", "reference"].iter().zip(self.answers) {
                if replies.is_empty() {
                    writeln!(f, "  {who}  silence")?;
                }
                for reply in replies {
                    writeln!(f, "  {who}  {reply}")?;
                }
            }
            return Ok(());
        }
        match self.answers[0].as_slice() {
            [] => writeln!(f, "{file}: silence"),
            [reply] => match reply.status() {
                Some(status) => writeln!(f, "{file}: status {status}"),
                None => writeln!(f, "{file}: {reply}"),
            },
            replies => writeln!(f, "{file}: {} answers", replies.len()),
        }
    }
}

/// Counts of the daemon's reactions.
#[derive(Default)]
struct Totals {
    inputs: usize,
    silences: usize,
    answers: usize,
    errors: usize,
    odd: usize,
    disagreements: usize,
}

impl Totals {
    fn add(&mut self, answers: &[Replies]) {
        self.inputs += 1;
        self.disagreements += usize::from(disagree(answers));
        self.silences += usize::from(answers[0].is_empty());
        for reply in &answers[0] {
            *match reply.status() {
                Some(0) => &mut self.answers,
                Some(_) => &mut self.errors,
                None => &mut self.odd,
            } += 1;
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs,
            silences,
            answers,
            errors,
            odd,
            disagreements,
        } = self;
        write!(
            f,
            "{inputs} inputs: {silences} silences, {answers} answers, {errors} errors, {odd} invalid replies; {disagreements} disagreements"
        )
    }
}

//! Sends fuzzing corpora to a confd on this machine and reports the replies.
//!
//! Each input is sent from its own socket, so that replies cannot be confused. Pings follow it, one
//! after the other. When they are answered and the input is not, it counts as dropped, unless the
//! protocol or another daemon says that it has an answer: then the tool waits longer, because a
//! daemon may answer out of order.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use ganeti_confd::protocol::REPLY_BYTES_MAX;
use properties::reference_parser::{self, Answer, Envelope};
use properties::sample::{KEY, NOW};
use properties::signed_request;

/// Inputs in flight at once; bounded by the socket buffers on both sides.
const WINDOW: usize = 16;

/// Pings that must be answered after an input, one after the other.
const PINGS: usize = 3;

/// A daemon that answers no ping for this long has stopped.
const PING_DEADLINE: Duration = Duration::from_secs(5);

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

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
}

/// The given files, and all files below the given folders.
fn files(corpora: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut left: VecDeque<_> = corpora.iter().cloned().collect();
    while let Some(path) = left.pop_front() {
        let unreadable = |error| Failure::Usage(format!("{}: {error}", path.display()));
        if !fs::metadata(&path).map_err(unreadable)?.is_dir() {
            files.push(path);
            continue;
        }
        let mut inside = fs::read_dir(&path)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.path()))
                    .collect::<io::Result<Vec<_>>>()
            })
            .map_err(unreadable)?;
        inside.sort();
        left.extend(inside);
    }
    Ok(files)
}

/// A file's datagram.
struct Input {
    file: PathBuf,
    datagram: Vec<u8>,
    /// Whether the protocol has an answer to it.
    is_request: bool,
}

impl Input {
    fn read(file: &Path, kind: Option<Kind>, key: &[u8]) -> Result<Self, Failure> {
        let of_folder = || {
            let folder = file.parent()?.file_name()?.to_str()?;
            Kind::from_str(folder, false).ok()
        };
        let Some(kind) = kind.or_else(of_folder) else {
            let file = file.display();
            return Err(Failure::Usage(format!(
                "{file}: unknown kind of input; use --as KIND"
            )));
        };
        let bytes = read(file)?;
        let datagram = match kind {
            Kind::Datagram => signed_anew(&bytes, key),
            Kind::SignedRequest => signed(
                key,
                &now().to_string(),
                &signed_request::message(&bytes).text,
            ),
            Kind::Envelope => [b"plj0", &bytes[..]].concat(),
        };
        Ok(Self {
            file: file.to_owned(),
            is_request: reference_parser::judge(&datagram, now(), key).is_ok(),
            datagram,
        })
    }
}

/// This host's clock, in seconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs()
}

/// A signed datagram, in ASCII except for characters beyond U+FFFF: the reference reads bytes as
/// Latin-1, and a surrogate pair as two characters.
fn signed(key: &[u8], salt: &str, message: &str) -> Vec<u8> {
    let hmac = reference_parser::tag(key, salt, message);
    let envelope = serde_json::json!({ "msg": message, "salt": salt, "hmac": hmac }).to_string();
    let mut datagram = "plj0".to_owned();
    for c in envelope.chars() {
        match c {
            '\u{80}'..='\u{ffff}' => datagram.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => datagram.push(c),
        }
    }
    datagram.into_bytes()
}

/// `datagram` signed again with `key` and this host's clock, in the same notation. Unchanged if it
/// is not signed with the corpus's key.
fn signed_anew(datagram: &[u8], key: &[u8]) -> Vec<u8> {
    let Some(envelope) = Envelope::of_datagram(datagram).filter(|envelope| envelope.verifies(KEY))
    else {
        return datagram.to_vec();
    };
    // Keeps the difference to the corpus's clock.
    let salt = match envelope.salt.parse::<u64>() {
        Ok(sent) => (now() + sent).saturating_sub(NOW).to_string(),
        Err(_) => envelope.salt.replace(&NOW.to_string(), &now().to_string()),
    };
    let hmac = reference_parser::tag(key, &salt, &envelope.msg);
    let signed_again = String::from_utf8_lossy(datagram)
        .replacen(&envelope.hmac, &hmac, 1)
        .replace(&format!("\"{}\"", envelope.salt), &format!("\"{salt}\""))
        .into_bytes();
    let wanted = Envelope {
        msg: envelope.msg,
        salt,
        hmac,
    };
    if Envelope::of_datagram(&signed_again).as_ref() == Some(&wanted) {
        signed_again
    } else {
        signed(key, &wanted.salt, &wanted.msg)
    }
}

/// A daemon's replies to one input.
type Replies = Vec<Reply>;

#[derive(PartialEq, Eq)]
enum Reply {
    Verified {
        message: String,
        salt: String,
    },
    /// Not signed with the key.
    Odd(Vec<u8>),
}

impl Reply {
    fn read(datagram: &[u8], key: &[u8]) -> Self {
        // The reference sends each character as one byte.
        let latin: String = datagram.iter().copied().map(char::from).collect();
        [datagram, latin.as_bytes()]
            .into_iter()
            .filter_map(Envelope::of_datagram)
            .find(|envelope| envelope.verifies(key))
            .map_or_else(
                || Self::Odd(datagram.to_vec()),
                |Envelope { msg, salt, .. }| Self::Verified { message: msg, salt },
            )
    }

    fn status(&self) -> Option<u64> {
        let Self::Verified { message, .. } = self else {
            return None;
        };
        serde_json::from_str(message)
            .ok()
            .map(|answer: Answer| answer.status)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified { message, salt } => write!(f, "{message} to {salt:?}"),
            Self::Odd(bytes) => write!(f, "not signed: {}", bytes.escape_ascii()),
        }
    }
}

/// Whether daemons answered the same input differently.
fn disagree(answers: &[Replies]) -> bool {
    answers.windows(2).any(|pair| pair[0] != pair[1])
}

/// The daemons under test.
struct Daemons {
    addresses: Vec<SocketAddr>,
    key: Vec<u8>,
    timeout: Duration,
}

impl Daemons {
    /// Checks that each answers a ping.
    fn greet(&self) -> Result<(), Failure> {
        for address in &self.addresses {
            let mut line = Line::open(*address)?;
            line.send_ping(&self.key);
            if !line.await_ping(&self.key) {
                return Err(Failure::Usage(format!(
                    "{address} does not answer a ping: check that a confd runs there with this key, and its clock"
                )));
            }
        }
        Ok(())
    }

    /// Each daemon's replies to each input.
    fn ask(&self, inputs: &[Input]) -> Result<Vec<Vec<Replies>>, Failure> {
        let lines = inputs.iter().map(|input| {
            let lines = self.addresses.iter().map(|address| {
                let line = Line::open(*address)?;
                line.send(&input.datagram);
                Ok(line)
            });
            lines.collect::<io::Result<Vec<_>>>()
        });
        let mut lines = lines.collect::<io::Result<Vec<_>>>()?;
        for _ in 0..PINGS {
            for line in lines.iter_mut().flatten() {
                line.send_ping(&self.key);
            }
            for (input, lines) in inputs.iter().zip(&mut lines) {
                for line in lines {
                    if !line.await_ping(&self.key) {
                        let (address, file) = (line.address, input.file.display());
                        return Err(Failure::Stopped(format!(
                            "{address} does not answer a ping after {file}"
                        )));
                    }
                }
            }
        }
        let deadline = Instant::now() + self.timeout;
        for (input, lines) in inputs.iter().zip(&mut lines) {
            let answered = input.is_request || lines.iter().any(|line| !line.replies.is_empty());
            for line in lines
                .iter_mut()
                .filter(|line| answered && line.replies.is_empty())
            {
                // All share one deadline; replies that are already there are read in any case.
                let until = deadline.max(Instant::now() + Duration::from_millis(1));
                line.listen(until, |line| !line.replies.is_empty());
            }
        }
        let replies = |line: Line| {
            let replies = line.replies.iter();
            replies.map(|reply| Reply::read(reply, &self.key)).collect()
        };
        let each = lines.into_iter();
        Ok(each
            .map(|lines| lines.into_iter().map(replies).collect())
            .collect())
    }
}

/// The socket for one input and one daemon.
struct Line {
    address: SocketAddr,
    socket: UdpSocket,
    /// Everything received except answers to pings.
    replies: Vec<Vec<u8>>,
    pings_sent: usize,
    pings_answered: usize,
}

impl Line {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        Ok(Self {
            address,
            socket,
            replies: Vec::new(),
            pings_sent: 0,
            pings_answered: 0,
        })
    }

    /// Sends a datagram. An error is ignored: it has no answer then, as without a listener.
    fn send(&self, datagram: &[u8]) {
        let _ = self.socket.send(datagram);
    }

    fn send_ping(&mut self, key: &[u8]) {
        self.pings_sent += 1;
        let rsalt = ping_salt(self.pings_sent);
        let message = format!(r#"{{"protocol":1,"type":0,"rsalt":"{rsalt}"}}"#);
        self.send(&signed(key, &now().to_string(), &message));
    }

    /// Waits for the answer to the last ping, and repeats it if necessary; false after
    /// [`PING_DEADLINE`].
    fn await_ping(&mut self, key: &[u8]) -> bool {
        const PING_TIMEOUT: Duration = Duration::from_millis(500);
        let wanted = self.pings_sent;
        let deadline = Instant::now() + PING_DEADLINE;
        while !self.listen(Instant::now() + PING_TIMEOUT, |line| {
            line.pings_answered >= wanted
        }) {
            if Instant::now() > deadline {
                return false;
            }
            // The ping or its answer may have been lost.
            self.send_ping(key);
        }
        true
    }

    /// Receives until `done` (true), or until `deadline` (false).
    fn listen(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) -> bool {
        let mut buffer = vec![0; REPLY_BYTES_MAX + 1];
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            // A zero timeout would mean no timeout.
            if left.is_zero() || self.socket.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.socket.recv(&mut buffer) {
                Ok(len) => self.take(&buffer[..len]),
                // The daemon does not listen yet, or no longer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::thread::sleep(left.min(Duration::from_millis(10)));
                }
                Err(_) => {}
            }
        }
        true
    }

    fn take(&mut self, datagram: &[u8]) {
        let salt = Envelope::of_datagram(datagram).map(|envelope| envelope.salt);
        let ping = (1..=self.pings_sent).find(|ping| salt.as_ref() == Some(&ping_salt(*ping)));
        match ping {
            Some(ping) => self.pings_answered = self.pings_answered.max(ping),
            None => self.replies.push(datagram.to_vec()),
        }
    }
}

/// The salt of a ping's answer; no corpus uses it.
fn ping_salt(ping: usize) -> String {
    format!("send's own ping {ping}")
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

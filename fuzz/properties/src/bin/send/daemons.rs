//! Daemons under test, and what they answer.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ganeti_confd::protocol::REPLY_BYTES_MAX;
use properties::reference_parser::{Answer, Envelope};

use super::Failure;
use super::input::{Input, now, signed};

/// Pings that must be answered after an input, one after the other.
const PINGS: usize = 3;

/// A daemon that answers no ping for this long has stopped.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// A daemon's replies to one input.
pub(super) type Replies = Vec<Reply>;

#[derive(PartialEq, Eq)]
pub(super) enum Reply {
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

    pub(super) fn status(&self) -> Option<u64> {
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
pub(super) fn disagree(answers: &[Replies]) -> bool {
    answers.windows(2).any(|pair| pair[0] != pair[1])
}

/// The daemons under test.
pub(super) struct Daemons {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) key: Vec<u8>,
    pub(super) timeout: Duration,
}

impl Daemons {
    /// Checks that each answers a ping.
    pub(super) fn greet(&self) -> Result<(), Failure> {
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
    pub(super) fn ask(&self, inputs: &[Input]) -> Result<Vec<Vec<Replies>>, Failure> {
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

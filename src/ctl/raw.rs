//! `confdctl raw`: signs a request, sends it as given, and prints the text of the reply.
//!
//! For requests that the client library does not send: of unknown types, with unusual arguments, or
//! faulty. The text is not checked. The datagram is sent again, unchanged, until there is a reply.

use std::io::{self, Read as _};
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::exit::{CommandError, Exit, eprintln_prefixed, print};
use super::format::{self, json_line};
use super::options::{Common, RawOptions};
use super::packets;
use super::target::Target;
use crate::client::call::nonce;
use crate::client::{Candidate, Observer, Packet, open_text, question};
use crate::clock;
use crate::printable::printable;
use crate::protocol::{Key, REPLY_BYTES_MAX, envelope};

/// The default timeout. A daemon does not answer a request that is not valid, so silence is common.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);

/// The time after which the datagram is sent again. It doubles each time.
const RETRY_FIRST: Duration = Duration::from_millis(200);

/// A text that is longer than this does not fit a datagram.
const STDIN_BYTES_MAX: u64 = 65_536;

/// A signed reply.
struct RawReply {
    message: String,
    salt: String,
    round_trip: Duration,
}

impl RawReply {
    /// Whether it is a reply without an error.
    fn is_answer(&self) -> bool {
        let message: Option<Value> = serde_json::from_str(&self.message).ok();
        message.is_some_and(|message| message["status"] == 0)
    }
}

/// What is sent to one server after the other.
struct Request<'a> {
    datagram: Vec<u8>,
    key: &'a Key,
    timeout: Duration,
    any_source: bool,
    observer: Observer,
}

/// Runs the command.
///
/// # Errors
///
/// A file or socket of this host fails, or the request does not fit a datagram. A server that does
/// not answer is an exit status.
pub(super) fn run(common: &Common, options: &RawOptions) -> Result<Exit, CommandError> {
    let message = message(options)?;
    let target = Target::find(common)?;
    let (mut candidates, key) = target.candidates_and_key();
    if !options.all {
        candidates.truncate(1);
    }
    let salt = options.salt.clone();
    let salt = salt.unwrap_or_else(|| clock::unix_seconds().to_string());
    let datagram = envelope::signed(&key, &salt, &message).ok_or_else(|| {
        let text = format!("the signed request does not fit {REPLY_BYTES_MAX} bytes");
        CommandError::new(Exit::Usage, text)
    })?;
    let request = Request {
        datagram,
        key: &key,
        timeout: common.timeout.unwrap_or(TIMEOUT_DEFAULT),
        any_source: options.any_source,
        observer: packets::observer(common.verbose),
    };
    let replies: Vec<Result<RawReply, String>> = thread::scope(|scope| {
        let request = &request;
        let each = candidates.iter();
        let threads: Vec<_> = each
            .map(|candidate| scope.spawn(move || request.send(candidate)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect()
    });
    let mut exit = Exit::Answered;
    for (candidate, reply) in candidates.iter().zip(&replies) {
        print(&shown(candidate, reply, common.json, candidates.len()))?;
        match reply {
            Ok(reply) if reply.is_answer() => {}
            Ok(_) if exit == Exit::Answered => exit = Exit::ClusterError,
            Ok(_) => {}
            Err(why) => {
                eprintln_prefixed(format!("{candidate}: {why}"));
                exit = Exit::NoAnswer;
            }
        }
    }
    Ok(exit)
}

/// The inner message: as given, or made from the number of a type and an argument.
fn message(options: &RawOptions) -> Result<String, CommandError> {
    let local = |error: io::Error| CommandError::new(Exit::Local, error.to_string());
    let text = match options.request.as_str() {
        "-" => {
            let mut text = String::new();
            let read = io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text);
            read.map_err(local)?;
            // An editor or echo adds it.
            text.strip_suffix('\n').unwrap_or(&text).to_owned()
        }
        text => text.to_owned(),
    };
    let Ok(kind) = text.trim().parse() else {
        if options.query.is_some() {
            let text = "an argument needs the number of a type before it: confdctl raw 1 node1";
            return Err(CommandError::new(Exit::Usage, text));
        }
        return Ok(text);
    };
    let argument = match &options.query {
        None => Value::Null,
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
    };
    Ok(question::message(kind, &argument, &nonce().map_err(local)?))
}

impl Request<'_> {
    /// Sends the request to a server until it replies.
    ///
    /// # Errors
    ///
    /// A text that says why there is no reply.
    fn send(&self, candidate: &Candidate) -> Result<RawReply, String> {
        let Some(&to) = candidate.addresses().first() else {
            return Err(candidate.unresolved().unwrap_or_default().to_owned());
        };
        let local = |error: io::Error| format!("cannot use a UDP socket: {error}");
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).map_err(local)?;
        if !self.any_source {
            // The kernel then reports a port on which nothing listens.
            socket.connect(to).map_err(local)?;
        }
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let start = Instant::now();
        let mut interval = RETRY_FIRST;
        for sent in 1.. {
            let sending = match self.any_source {
                true => socket.send_to(&self.datagram, to),
                false => socket.send(&self.datagram),
            };
            let result = sending.as_ref().map(|_| ());
            self.observer
                .report(&Packet::Sent(result, &self.datagram, to));
            sending.map_err(|error| format::reason(&error.to_string()))?;
            let wait = interval.min(self.timeout.saturating_sub(start.elapsed()));
            if let Some(reply) = self.receive(&socket, &mut buffer, start, wait)? {
                return Ok(reply);
            }
            if start.elapsed() >= self.timeout {
                return Err(self.silence(sent));
            }
            interval = interval.saturating_mul(2);
        }
        unreachable!("the timeout ends the loop")
    }

    /// Waits for a signed message; `None` if none arrives within the time `wait`.
    fn receive(
        &self,
        socket: &UdpSocket,
        buffer: &mut [u8],
        start: Instant,
        wait: Duration,
    ) -> Result<Option<RawReply>, String> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let text = |error: io::Error| format::reason(&error.to_string());
            socket.set_read_timeout(Some(left)).map_err(text)?;
            let (len, from) = match socket.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if is_timeout(&error) => continue,
                Err(error) => return Err(text(error)),
            };
            let opened = open_text(self.key, &buffer[..len]);
            let result = opened.as_ref().map(|_| ()).map_err(|why| *why);
            let packet = Packet::Received(result, &buffer[..len], from);
            self.observer.report(&packet);
            if let Ok((message, salt)) = opened {
                return Ok(Some(RawReply {
                    message,
                    salt,
                    round_trip: start.elapsed(),
                }));
            }
        }
    }

    fn silence(&self, sent: usize) -> String {
        format!(
            "no reply within {:.1} s to {sent} requests. ganeti-confd does not answer a request \
             that is not valid or of an unknown type; its log says why. It does not answer a wrong \
             key or clock either: \"confdctl probe\" checks these",
            self.timeout.as_secs_f64()
        )
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// What standard output shows of a server.
fn shown(
    candidate: &Candidate,
    reply: &Result<RawReply, String>,
    is_json: bool,
    servers: usize,
) -> String {
    match reply {
        Ok(reply) if is_json => {
            let message: Option<&RawValue> = serde_json::from_str(&reply.message).ok();
            json_line(&json!({
                "server": candidate.name(),
                "reply": message.map_or_else(|| json!(reply.message), |message| json!(message)),
                "salt": reply.salt,
                "round_trip_ms": reply.round_trip.as_secs_f64() * 1000.0,
            }))
        }
        Err(why) if is_json => json_line(&json!({"server": candidate.name(), "error": why})),
        Ok(reply) if servers > 1 => format!("{candidate}: {}\n", printable(&reply.message)),
        Ok(reply) => format!("{}\n", printable(&reply.message)),
        Err(_) => String::new(),
    }
}

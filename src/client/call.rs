//! One call without sockets and clocks, for other transports and runtimes.
//!
//! A [`Call`] takes times and datagrams, and returns datagrams to send and decisions. Both clients
//! of this crate use it; a program with a transport, an event loop or a clock of its own can too:
//!
//! ```
//! use std::net::UdpSocket;
//! use std::time::{Duration, Instant, SystemTime};
//!
//! use ganeti_confd::client::call::Call;
//! use ganeti_confd::client::{Settings, question};
//! use ganeti_confd::Key;
//!
//! # let demo = ganeti_confd::demo::Server::start(3, 10)?;
//! let key = Key::new(demo.key())?;
//! let question = question::cluster_master();
//! let socket = UdpSocket::bind("127.0.0.1:0")?;
//! let mut buffer = [0; 65_536];
//!
//! let settings = Settings::default();
//! let mut call = Call::new(&key, &question, [demo.candidate()], settings, Instant::now())?;
//! let outcome = loop {
//!     let now = Instant::now();
//!     if call.is_over(now) {
//!         break call.into_outcome(now);
//!     }
//!     let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
//!     while let Some(request) = call.poll_transmit(now, clock) {
//!         socket.send_to(&request.datagram, request.to)?;
//!     }
//!     let wait = call.next_wakeup().saturating_duration_since(now);
//!     socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
//!     if let Ok((len, from)) = socket.recv_from(&mut buffer) {
//!         // A rejected datagram is ignored: anyone can send one.
//!         let _ = call.receive(&buffer[..len], from, Instant::now());
//!     }
//! };
//! assert_eq!(outcome.into_answer(&question)?, "node1.example.com");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::candidate::{Candidate, distinct};
use super::error::Error;
use super::exchange::Exchange;
use super::outcome::Outcome;
use super::question::{Query, Question};
use super::reply::{self, RejectedReply, SignedReply};
use super::settings::{Coverage, Settings};
use crate::protocol::{Key, REQUEST_BYTES_MAX, envelope};

/// One query to several candidates.
///
/// The `rsalt` of a request is `TAG.CANDIDATE.ATTEMPT`, where the tag is random. So a reply belongs
/// to one request, and its round trip is known.
#[derive(Debug)]
pub struct Call {
    key: Key,
    query: Query,
    tag: String,
    exchange: Exchange,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transmit {
    /// The destination.
    pub to: SocketAddr,
    /// The signed request.
    pub datagram: Vec<u8>,
}

impl Call {
    /// Starts a call at the time `now`. Nothing is sent yet.
    ///
    /// The settings say how many of the candidates are asked. These are drawn at random. Candidates
    /// with a common address are one.
    ///
    /// # Errors
    ///
    /// [`Error::NoCandidates`]; [`Error::RequestTooLarge`]; [`Error::Socket`] if the kernel has no
    /// random bytes.
    pub fn new<T>(
        key: &Key,
        question: &Question<T>,
        candidates: impl IntoIterator<Item = Candidate>,
        settings: Settings,
        now: Instant,
    ) -> Result<Self, Error> {
        let candidates = choose(distinct(candidates), settings.coverage);
        let tag = nonce().map_err(Error::Socket)?;
        Self::with_tag(
            key,
            question.untyped().clone(),
            candidates,
            settings,
            now,
            tag,
        )
    }

    /// Starts a call to all `candidates`.
    pub(super) fn with_tag(
        key: &Key,
        query: Query,
        candidates: Vec<Candidate>,
        settings: Settings,
        now: Instant,
        tag: String,
    ) -> Result<Self, Error> {
        if candidates.is_empty() {
            return Err(Error::NoCandidates);
        }
        let call = Self {
            key: key.clone(),
            query,
            tag,
            exchange: Exchange::new(candidates, settings, now),
        };
        // No request of this call is longer.
        call.request(usize::MAX, usize::MAX, u64::MAX)
            .filter(|datagram| datagram.len() <= REQUEST_BYTES_MAX)
            .ok_or(Error::RequestTooLarge)?;
        Ok(call)
    }

    /// A signed request; `None` if it does not fit a datagram.
    fn request(&self, candidate: usize, attempt: usize, clock: u64) -> Option<Vec<u8>> {
        let rsalt = format!("{}.{candidate}.{attempt}", self.tag);
        let message = self.query.message(&rsalt);
        envelope::signed(&self.key, &clock.to_string(), &message)
    }

    /// Returns the next datagram to send; `None` until [`Call::next_wakeup`]. `clock` is the wall
    /// clock in seconds since the epoch: candidates reply only if it is within five minutes of
    /// theirs.
    pub fn poll_transmit(&mut self, now: Instant, clock: u64) -> Option<Transmit> {
        let due = self.exchange.due(now)?;
        let datagram = self
            .request(due.candidate, due.attempt, clock)
            .expect("the longest request fits: checked in `with_tag`");
        Some(Transmit {
            to: due.to,
            datagram,
        })
    }

    /// Takes a datagram that came `from` an address.
    ///
    /// # Errors
    ///
    /// The reason why it is not accepted. The call is unchanged then, apart from
    /// [`CandidateResult::other_source`](super::CandidateResult::other_source).
    pub fn receive(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
    ) -> Result<(), RejectedReply> {
        let signed = reply::open(&self.key, datagram)?;
        self.accept(signed, from, now)
    }

    /// Takes a message whose signature was verified.
    pub(super) fn accept(
        &mut self,
        signed: SignedReply,
        from: SocketAddr,
        now: Instant,
    ) -> Result<(), RejectedReply> {
        let rest = signed.rsalt.strip_prefix(self.tag.as_str());
        let numbers = rest.and_then(|rest| rest.strip_prefix('.')?.split_once('.'));
        let (candidate, attempt) = numbers.ok_or(RejectedReply::Unsolicited)?;
        let number = |text: &str| text.parse().map_err(|_| RejectedReply::Unsolicited);
        let (candidate, attempt) = (number(candidate)?, number(attempt)?);
        self.exchange
            .answered(candidate, attempt, from, signed.reply, now)
    }

    /// Records that a datagram to an address cannot be sent or did not arrive.
    pub fn unreachable(&mut self, to: SocketAddr, why: &str) {
        self.exchange.unreachable(to, why);
    }

    /// The time at which to call [`Call::poll_transmit`] or [`Call::is_over`] if nothing arrives.
    pub fn next_wakeup(&self) -> Instant {
        self.exchange.next_wakeup()
    }

    /// Whether the call is over: enough replies came, or no more can come, or its time is up.
    pub fn is_over(&self, now: Instant) -> bool {
        self.exchange.is_over(now)
    }

    /// Ends the call, over or not. [`Outcome::into_answer`] reads its answer.
    pub fn into_outcome(self, now: Instant) -> Outcome {
        self.exchange.into_outcome(now)
    }
}

/// Draws the candidates that a call asks.
pub(super) fn choose(mut candidates: Vec<Candidate>, coverage: Coverage) -> Vec<Candidate> {
    fastrand::shuffle(&mut candidates);
    candidates.truncate(coverage.of(candidates.len()));
    candidates
}

/// 128 random bits in hexadecimal.
///
/// # Errors
///
/// The kernel has no random bytes.
pub(crate) fn nonce() -> io::Result<String> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(nonce)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::question;

    fn key() -> Key {
        Key::new(b"secret").expect("not empty")
    }

    fn call(settings: Settings, now: Instant) -> (Call, Transmit) {
        let candidate = Candidate::at([127, 0, 0, 1].into(), 1814);
        let mut call = Call::new(&key(), &question::ping(), [candidate], settings, now)
            .expect("there is a candidate");
        let request = call.poll_transmit(now, 42).expect("it is due at once");
        (call, request)
    }

    /// The reply to a request, with this message.
    fn reply(request: &Transmit, message: &str) -> Vec<u8> {
        let text = std::str::from_utf8(&request.datagram[4..]).expect("requests are ASCII");
        let envelope: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let inner = envelope["msg"].as_str().expect("a string");
        let inner: serde_json::Value = serde_json::from_str(inner).expect("JSON");
        let rsalt = inner["rsalt"].as_str().expect("a string");
        envelope::signed(&key(), rsalt, message).expect("it is short")
    }

    const ANSWER: &str = r#"{"protocol":1,"status":0,"answer":3000000,"serial":0}"#;

    #[test]
    fn datagrams_go_in_and_out() {
        let now = Instant::now();
        let (mut call, request) = call(Settings::default(), now);
        assert_eq!(call.poll_transmit(now, 42), None);
        assert!(!call.is_over(now));
        assert_eq!(
            call.receive(b"plj0{}", request.to, now),
            Err(RejectedReply::Malformed)
        );
        call.receive(&reply(&request, ANSWER), request.to, now)
            .expect("it is the reply");
        assert!(call.is_over(now));
        let outcome = call.into_outcome(now);
        let version = outcome.into_answer(&question::ping());
        assert_eq!(version.expect("it answered"), 3_000_000);
    }

    #[test]
    fn a_reply_to_another_call_is_unsolicited() {
        let now = Instant::now();
        let (mut call, request) = call(Settings::default(), now);
        for rsalt in [
            "",
            "R",
            "0.0",
            "..",
            &format!("{}.0", call.tag),
            &format!("{}0.0", call.tag),
        ] {
            let datagram = envelope::signed(&key(), rsalt, ANSWER).expect("it is short");
            let rejected = call.receive(&datagram, request.to, now);
            assert_eq!(rejected, Err(RejectedReply::Unsolicited), "{rsalt}");
        }
    }

    #[test]
    fn a_serial_that_is_not_one_is_malformed_and_not_silence() {
        for serial in ["9223372036854775808", "1.5"] {
            let now = Instant::now();
            let (mut call, request) = call(Settings::default(), now);
            let message = format!(r#"{{"protocol":1,"status":0,"answer":1,"serial":{serial}}}"#);
            call.receive(&reply(&request, &message), request.to, now)
                .expect("it answers the request");
            assert!(call.is_over(now));
            let error = call.into_outcome(now).into_answer(&question::ping());
            let error = error.expect_err("there is no answer").to_string();
            assert!(error.contains("1 malformed"), "{error}");
        }
    }
}

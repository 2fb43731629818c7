//! A second, slow parser of datagrams: serde_json for envelopes and requests, the hmac crate for
//! signatures.
//!
//! It was written from the protocol, not from the daemon's code: what is accepted, what it means,
//! and in which order a datagram is checked.

use std::fmt;

use ganeti_confd::protocol::Reject;
use ganeti_confd::protocol::request::{self, ReqField};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha1::Sha1;

/// The first bytes of every datagram.
const FOURCC: &[u8; 4] = b"plj0";

/// The longest request, in bytes (a documented difference from ganeti-confd).
const REQUEST_BYTES_MAX: usize = 61_440;

/// The largest accepted difference of clocks, in seconds, inclusive.
const SKEW_SECONDS_MAX: u64 = 300;

/// An envelope's strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The inner message.
    pub msg: String,
    /// The clock of a request's sender, or the `rsalt` that a reply answers to.
    pub salt: String,
    /// The signature's digits as sent.
    pub hmac: String,
}

/// A request's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// 0 to 11.
    pub kind: u8,
    /// The salt for the reply.
    pub rsalt: String,
    /// The argument.
    pub query: Query,
}

/// A request's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Absent or null.
    Empty,
    /// A string.
    Plain(String),
    /// An object.
    Dict(Dict),
}

/// An argument that is an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dict {
    /// `"0"`: a link.
    pub link: Option<String>,
    /// `"1"`: an address.
    pub ip: Option<String>,
    /// `"2"`: addresses.
    pub ips: Vec<String>,
    /// `"3"`: fields of the master, by number.
    pub fields: Vec<i64>,
}

/// A reply's inner message.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Always 1.
    pub protocol: u64,
    /// 0, or 1 for an error.
    pub status: u64,
    /// The answer.
    pub answer: Box<RawValue>,
    /// The serial number of the object or cluster in question.
    pub serial: serde_json::Number,
}

impl Envelope {
    /// Parses an envelope; `None` for anything else.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (mut msg, mut salt, mut hmac) = (None, None, None);
        for (key, value) in members(std::str::from_utf8(text).ok()?)? {
            let place = match key.as_str() {
                "msg" => &mut msg,
                "salt" => &mut salt,
                "hmac" => &mut hmac,
                _ => return None,
            };
            if place.replace(string(value)?).is_some() {
                return None;
            }
        }
        Some(Self {
            msg: msg?,
            salt: salt?,
            hmac: hmac?,
        })
    }

    /// Parses a datagram's envelope, which follows the fourcc.
    pub fn of_datagram(datagram: &[u8]) -> Option<Self> {
        Self::read(datagram.strip_prefix(FOURCC)?)
    }

    /// Whether the signature is valid under `key`.
    pub fn verifies(&self, key: &[u8]) -> bool {
        let tag = tag(key, &self.salt, &self.msg);
        self.hmac.len() == 40 && self.hmac.eq_ignore_ascii_case(&tag)
    }
}

impl Request {
    /// Parses a request; `None` for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let (mut protocol, mut kind, mut rsalt, mut query) = (None, None, None, None);
        for (key, value) in members(text)? {
            let twice = match key.as_str() {
                "protocol" => protocol.replace(number(value)?).is_some(),
                "type" => kind.replace(whole(value)?).is_some(),
                "rsalt" => rsalt.replace(string(value)?).is_some(),
                "query" => query.replace(Query::read(value)?).is_some(),
                _ => return None,
            };
            if twice {
                return None;
            }
        }
        protocol?;
        Some(Self {
            kind: u8::try_from(kind?).ok().filter(|kind| *kind < 12)?,
            rsalt: rsalt?,
            query: query.unwrap_or(Query::Empty),
        })
    }
}

impl Query {
    /// The argument as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Empty => Value::Null,
            Self::Plain(text) => json!(text),
            Self::Dict(dict) => {
                json!({ "0": dict.link, "1": dict.ip, "2": dict.ips, "3": dict.fields })
            }
        }
    }

    fn read(value: &RawValue) -> Option<Self> {
        match value.get().as_bytes()[0] {
            b'n' => Some(Self::Empty),
            b'"' => string(value).map(Self::Plain),
            b'{' => Dict::read(value.get()).map(Self::Dict),
            _ => None,
        }
    }
}

impl Dict {
    fn read(text: &str) -> Option<Self> {
        let mut dict = Self::default();
        let mut seen = Vec::new();
        for (key, value) in members(text)? {
            let is_null = value.get() == "null";
            match key.as_str() {
                "0" | "1" | "2" | "3" if is_null => {}
                "0" => dict.link = Some(string(value)?),
                "1" => dict.ip = Some(string(value)?),
                "2" => {
                    dict.ips = list(value)?
                        .into_iter()
                        .map(string)
                        .collect::<Option<_>>()?
                }
                "3" => dict.fields = fields(value)?,
                _ => return None,
            }
            if seen.contains(&key) {
                return None;
            }
            seen.push(key);
        }
        Some(dict)
    }
}

/// Fields of the master: numbers, or exactly the list that Ganeti's `confd-client` sends.
fn fields(value: &RawValue) -> Option<Vec<i64>> {
    let values = list(value)?;
    let strings: Option<Vec<_>> = values.iter().map(|value| string(value)).collect();
    if strings.is_some_and(|strings| strings == ["0", "1", "2"]) {
        return Some(vec![0, 1, 2]);
    }
    let is_field = |number: &i64| (0..3).contains(number);
    values
        .into_iter()
        .map(|value| whole(value).filter(is_field))
        .collect()
}

impl PartialEq<request::Request<'_>> for Request {
    fn eq(&self, ours: &request::Request<'_>) -> bool {
        self.kind == ours.kind as u8
            && self.rsalt.as_bytes() == ours.rsalt
            && self.query == ours.query
    }
}

impl PartialEq<request::Query<'_>> for Query {
    fn eq(&self, ours: &request::Query<'_>) -> bool {
        match (self, ours) {
            (Self::Empty, request::Query::Empty) => true,
            (Self::Plain(text), request::Query::Plain(ours)) => text == ours,
            (Self::Dict(dict), request::Query::Dict(ours)) => {
                let fields = ours.fields().map(|field| match field {
                    ReqField::Name => 0,
                    ReqField::Ip => 1,
                    ReqField::MNodePip => 2,
                });
                dict.link.as_deref() == ours.link
                    && dict.ip.as_deref() == ours.ip
                    && ours.ip_list().eq(dict.ips.iter().map(String::as_bytes))
                    && fields.eq(dict.fields.iter().copied())
            }
            _ => false,
        }
    }
}

/// The expected outcome of `datagram` at `now` under `key`: a request to be answered, or the reason
/// for none.
///
/// # Errors
///
/// The first check that fails.
pub fn judge(datagram: &[u8], now: u64, key: &[u8]) -> Result<Request, Reject> {
    if datagram.len() > REQUEST_BYTES_MAX {
        return Err(Reject::TooLong);
    }
    let text = datagram.strip_prefix(FOURCC).ok_or(Reject::BadFourcc)?;
    let envelope = Envelope::read(text).ok_or(Reject::BadEnvelope)?;
    let has_pairs = text.is_ascii() && envelope.msg.chars().any(|c| c > '\u{ffff}');
    if has_pairs || !envelope.verifies(key) {
        return Err(Reject::BadHmac);
    }
    let digits = !envelope.salt.is_empty() && envelope.salt.bytes().all(|b| b.is_ascii_digit());
    let sent = digits.then(|| envelope.salt.parse::<u64>().ok()).flatten();
    if sent.is_none_or(|sent| sent.abs_diff(now) > SKEW_SECONDS_MAX) {
        return Err(Reject::ClockSkew);
    }
    Request::read(&envelope.msg).ok_or(Reject::BadRequest)
}

/// The signature over `salt` and `message`, in hexadecimal digits.
pub fn tag(key: &[u8], salt: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(salt.as_bytes());
    mac.update(message.as_bytes());
    let tag = mac.finalize().into_bytes();
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks that `reply` is signed with `key` and answers a request with `rsalt`. Returns its
/// message.
///
/// # Panics
///
/// If a check fails.
pub fn assert_reply(reply: &[u8], rsalt: &str, key: &[u8]) -> String {
    let shown = || reply.escape_ascii();
    let envelope = Envelope::of_datagram(reply).unwrap_or_else(|| panic!("no reply: {}", shown()));
    assert!(envelope.verifies(key), "not signed: {}", shown());
    assert_eq!(
        envelope.salt,
        rsalt,
        "the reply to another request: {}",
        shown()
    );
    let answer: Answer =
        serde_json::from_str(&envelope.msg).unwrap_or_else(|error| panic!("{error}: {}", shown()));
    assert_eq!(answer.protocol, 1, "{}", shown());
    assert!(answer.status < 2, "{}", shown());
    envelope.msg
}

/// An object's members in order, duplicates included; `None` if `text` is not exactly one object.
pub(crate) fn members(text: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    // White space before the object is not accepted.
    text.starts_with('{').then_some(())?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = serde::Deserializer::deserialize_map(&mut deserializer, Members).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

fn list(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The nearest double; `None` beyond the range of doubles.
fn number(value: &RawValue) -> Option<f64> {
    let number = value.get().parse().ok();
    number.filter(|number: &f64| number.is_finite())
}

/// A whole number, in any notation.
fn whole(value: &RawValue) -> Option<i64> {
    number(value)
        .filter(|number| number.fract() == 0.0 && number.abs() < 1e15)
        .map(|number| number as i64)
}

//! Datagrams with what the model needs to predict their outcome, which depends on the key, the
//! clock and the cluster at the time of arrival.

use fastrand::Rng;
use ganeti_confd::protocol::{REQUEST_BYTES_MAX, Reject};
use serde_json::{Value, json};

use super::model::Question;
use crate::common::{quote_ascii, sign_hex};
use properties::generate::values::pick;

/// Keys of the cluster. One is longer than a SHA-1 block; two differ in a single byte.
pub(super) const KEYS: [&[u8]; 4] = [b"first key\n", b"first kez\n", b"2", &[0xa5; 80]];

/// The sender's clock minus the daemon's, in seconds: mostly at a limit of the accepted window.
const SKEWS: [i64; 12] = [0, 0, 0, 0, 1, -299, 299, -300, 300, -301, 301, 100_000];

/// A datagram and what the model knows about it.
#[derive(Clone, Debug)]
pub(super) struct SimDatagram {
    pub(super) bytes: Vec<u8>,
    pub(super) form: Form,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Dropped for this reason, independent of key and clock.
    Unreadable(Reject),
    /// A readable signed message.
    Signed {
        /// The index in [`KEYS`] of the key that signed it; `None` if the signature is invalid.
        key: Option<usize>,
        /// The sender's time, if the salt is one.
        sent: Option<u64>,
        /// The question and the `rsalt`, if the message is a request.
        asked: Option<(Question, String)>,
    },
}

/// The strings of an envelope.
struct Parts {
    message: String,
    salt: String,
    hmac: String,
}

impl Parts {
    fn signed(key: usize, salt: &str, message: &str) -> Self {
        Self {
            message: message.to_owned(),
            salt: salt.to_owned(),
            hmac: sign_hex(KEYS[key], format!("{salt}{message}").as_bytes()),
        }
    }

    /// Writes a datagram in a layout that clients use, or in one that only a complete parser reads.
    fn write(&self, rng: &mut Rng) -> Vec<u8> {
        let [message, salt, hmac] = [&self.message, &self.salt, &self.hmac].map(|s| quote_ascii(s));
        match rng.u8(..4) {
            0 => format!(r#"plj0{{"hmac":{hmac},"msg":{message},"salt":{salt}}}"#),
            1 => format!("plj0{{ \"salt\":{salt}\n,\t\"hmac\" : {hmac},\"msg\":{message} }}\r\n"),
            2 => {
                let message = message.replace("type", r"\u0074ype");
                format!(r#"plj0{{"m\u0073g":{message},"salt":{salt},"hmac":{hmac}}}"#)
            }
            _ => format!(r#"plj0{{"msg": {message}, "salt": {salt}, "hmac": {hmac}}}"#),
        }
        .into_bytes()
    }
}

impl SimDatagram {
    /// A datagram from a sender whose clock is near `now` and whose key is usually `key`.
    pub(super) fn any(rng: &mut Rng, now: u64, key: usize) -> Self {
        match rng.u8(..24) {
            0 => Self::wrong_fourcc(rng, now, key),
            1 => Self::padded(rng, now, key),
            2 => Self::bad_envelope(rng, now, key),
            3 | 4 => Self::forged(rng, now, key),
            5 => Self::moved_border(rng, now, key),
            6 => Self::bad_salt(rng, now, key),
            7 | 8 => Self::bad_request(rng, now, key),
            9 => {
                let any_key = rng.usize(..KEYS.len());
                Self::good(rng, now, any_key)
            }
            10 => Self::good(rng, now, key).truncated(rng),
            _ => Self::good(rng, now, key),
        }
    }

    /// A valid request; the clock skew decides whether it is accepted.
    fn good(rng: &mut Rng, now: u64, key: usize) -> Self {
        let (parts, form) = question(rng, now, key);
        Self {
            bytes: parts.write(rng),
            form,
        }
    }

    fn unreadable(bytes: impl Into<Vec<u8>>, reject: Reject) -> Self {
        Self {
            bytes: bytes.into(),
            form: Form::Unreadable(reject),
        }
    }

    fn wrong_fourcc(rng: &mut Rng, now: u64, key: usize) -> Self {
        let mut bytes = Self::good(rng, now, key).bytes;
        match rng.u8(..4) {
            0 => bytes.truncate(rng.usize(..4)),
            1 => bytes.insert(0, b' '),
            2 => bytes.iter_mut().for_each(|byte| *byte = rng.u8(..b'p')),
            _ => bytes[rng.usize(..4)] ^= 1 << rng.u8(..8),
        }
        Self::unreadable(bytes, Reject::BadFourcc)
    }

    /// Padded to the longest request that is accepted, or beyond it.
    fn padded(rng: &mut Rng, now: u64, key: usize) -> Self {
        let mut datagram = Self::good(rng, now, key);
        // Long texts are slow, so they are rare.
        if rng.u8(..8) > 0 {
            return datagram;
        }
        let over = rng.usize(..2) * rng.usize(1..4_000);
        datagram.bytes.resize(REQUEST_BYTES_MAX + over, b' ');
        if over > 0 {
            datagram.form = Form::Unreadable(Reject::TooLong);
        }
        datagram
    }

    /// Valid strings in an invalid envelope.
    fn bad_envelope(rng: &mut Rng, now: u64, key: usize) -> Self {
        let (parts, _) = question(rng, now, key);
        let [message, salt, hmac] =
            [&parts.message, &parts.salt, &parts.hmac].map(|text| quote_ascii(text));
        let number = &parts.salt;
        let texts = [
            String::new(),
            "{}".to_owned(),
            format!(r#"["msg",{message},"salt",{salt},"hmac",{hmac}]"#),
            format!(r#"{{"msg":{message},"salt":{salt}}}"#),
            format!(r#"{{"msg":{message},"salt":{number},"hmac":{hmac}}}"#),
            format!(r#"{{"msg":{message},"salt":{salt},"hmac":{hmac},"fourcc":"plj0"}}"#),
            format!(r#"{{"msg":{message},"salt":{salt},"hmac":{hmac},"salt":{salt}}}"#),
            format!(r#"{{"msg":{message},"salt":{salt},"hmac":{hmac}}}{{}}"#),
            format!(r#" {{"msg":{message},"salt":{salt},"hmac":{hmac}}}"#),
            format!(r#"{{"msg":{message},"salt":{salt},"hmac":{hmac},}}"#),
        ];
        let text = rng.choice(&texts).expect("there are some");
        Self::unreadable(format!("plj0{text}"), Reject::BadEnvelope)
    }

    /// With an invalid signature.
    fn forged(rng: &mut Rng, now: u64, key: usize) -> Self {
        let (mut parts, form) = question(rng, now, key);
        match rng.u8(..6) {
            0 => drop(parts.hmac.pop()),
            1 => parts.hmac.push('0'),
            2 => parts.hmac = "0".repeat(40),
            3 => parts.message = parts.message.replace("protocol\":1", "protocol\":2"),
            4 => parts.salt.push('0'),
            _ => {
                let at = rng.usize(..40);
                let other = if parts.hmac.as_bytes()[at] == b'0' {
                    "1"
                } else {
                    "0"
                };
                parts.hmac.replace_range(at..=at, other);
            }
        }
        let Form::Signed { sent, asked, .. } = form else {
            unreachable!("a request is signed");
        };
        Self {
            bytes: parts.write(rng),
            form: Form::Signed {
                key: None,
                sent,
                asked,
            },
        }
    }

    /// With the boundary between salt and message moved. The signature covers their concatenation,
    /// so it is still valid.
    fn moved_border(rng: &mut Rng, now: u64, key: usize) -> Self {
        let (mut parts, _) = question(rng, now, key);
        let sent = if rng.bool() {
            let digit = parts.salt.pop().expect("a time has digits");
            parts.message.insert(0, digit);
            parts.salt.parse().ok()
        } else {
            parts.salt.push(parts.message.remove(0));
            None
        };
        Self {
            bytes: parts.write(rng),
            form: Form::Signed {
                key: Some(key),
                sent,
                asked: None,
            },
        }
    }

    /// Signed, with a salt that is not a time, or only to a lenient reader.
    fn bad_salt(rng: &mut Rng, now: u64, key: usize) -> Self {
        let (question, rsalt) = (Question::any(rng), any_rsalt(rng, now));
        let (salt, sent) = match rng.u8(..10) {
            0 => (format!("+{now}"), None),
            1 => (format!("-{now}"), None),
            2 => (format!(" {now}"), None),
            3 => (format!("{now} "), None),
            4 => (format!("{now}.0"), None),
            5 => (format!("0x{now:x}"), None),
            6 => (String::new(), None),
            7 => (format!("1{now:020}"), None),
            8 => (u64::MAX.to_string(), Some(u64::MAX)),
            _ => (format!("000{now}"), Some(now)),
        };
        let message = question.message(&rsalt).to_string();
        Self {
            bytes: Parts::signed(key, &salt, &message).write(rng),
            form: Form::Signed {
                key: Some(key),
                sent,
                asked: Some((question, rsalt)),
            },
        }
    }

    /// Signed, but not a request.
    fn bad_request(rng: &mut Rng, now: u64, key: usize) -> Self {
        let sent = skewed(rng, now);
        let mut message = Question::any(rng).message("r");
        let members = message.as_object_mut().expect("a request is an object");
        let member = pick(rng, &["protocol", "type", "rsalt"]);
        let text = match rng.u8(..8) {
            0 => {
                members.remove(member);
                message.to_string()
            }
            1 => {
                members.insert("more".to_owned(), Value::Null);
                message.to_string()
            }
            2 => {
                members[member] = json!([]);
                message.to_string()
            }
            3 => {
                members["type"] = pick_type(rng);
                message.to_string()
            }
            4 => {
                members["query"] = json!(["a list"]);
                message.to_string()
            }
            5 => {
                members["query"] = json!({"4": "br0"});
                message.to_string()
            }
            6 => {
                let mut text = message.to_string();
                text.truncate(rng.usize(..text.len()));
                text
            }
            _ => format!("{message}x"),
        };
        Self {
            bytes: Parts::signed(key, &sent.to_string(), &text).write(rng),
            form: Form::Signed {
                key: Some(key),
                sent: Some(sent),
                asked: None,
            },
        }
    }

    /// A prefix of this datagram. An unreadable one is returned whole, because a prefix of it might
    /// be readable.
    pub(super) fn truncated(&self, rng: &mut Rng) -> Self {
        if let Form::Unreadable(_) = self.form {
            return self.clone();
        }
        let text = self.bytes.trim_ascii_end().len();
        let cut = &self.bytes[..rng.usize(..text)];
        let reject = match cut.starts_with(b"plj0") {
            true => Reject::BadEnvelope,
            false => Reject::BadFourcc,
        };
        Self::unreadable(cut, reject)
    }

    /// A reply of the daemon under `key` and this salt, sent back to it: signed, but not a request.
    pub(super) fn reflected(reply: Vec<u8>, key: usize, rsalt: &str) -> Self {
        let digits = rsalt.bytes().all(|byte| byte.is_ascii_digit());
        Self {
            bytes: reply,
            form: Form::Signed {
                key: Some(key),
                sent: if digits { rsalt.parse().ok() } else { None },
                asked: None,
            },
        }
    }
}

/// A request whose salt is a time near `now`.
fn question(rng: &mut Rng, now: u64, key: usize) -> (Parts, Form) {
    let (question, rsalt, sent) = (Question::any(rng), any_rsalt(rng, now), skewed(rng, now));
    let message = question.message(&rsalt).to_string();
    let mut parts = Parts::signed(key, &sent.to_string(), &message);
    if rng.u8(..8) == 0 {
        parts.hmac.make_ascii_uppercase();
    }
    let form = Form::Signed {
        key: Some(key),
        sent: Some(sent),
        asked: Some((question, rsalt)),
    };
    (parts, form)
}

fn skewed(rng: &mut Rng, now: u64) -> u64 {
    now.saturating_add_signed(pick(rng, &SKEWS))
}

/// A request type that does not exist.
fn pick_type(rng: &mut Rng) -> Value {
    [json!(12), json!(-1), json!(0.5), json!("0"), Value::Null][rng.usize(..5)].clone()
}

/// Any `rsalt`; sometimes a time, so that the reply could be sent back as a request.
fn any_rsalt(rng: &mut Rng, now: u64) -> String {
    match rng.u8(..8) {
        0 => String::new(),
        1 => "\"\\\n\u{e9}\u{20ac}".to_owned(),
        2 => "r".repeat(rng.usize(..200)),
        3 | 4 => now.to_string(),
        _ => format!("{:x}", rng.u64(..)),
    }
}

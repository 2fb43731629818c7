//! Inputs: files of a corpus, and the datagrams that they mean.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum as _;
use properties::reference_parser::{self, Envelope};
use properties::sample::{KEY, NOW};
use properties::signed_request;

use super::{Failure, Kind};

pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
}

/// The given files, and all files below the given folders.
pub(super) fn files(corpora: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
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
pub(super) struct Input {
    pub(super) file: PathBuf,
    pub(super) datagram: Vec<u8>,
    /// Whether the protocol has an answer to it.
    pub(super) is_request: bool,
}

impl Input {
    pub(super) fn read(file: &Path, kind: Option<Kind>, key: &[u8]) -> Result<Self, Failure> {
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
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs()
}

/// A signed datagram, in ASCII except for characters beyond U+FFFF: the reference reads bytes as
/// Latin-1, and a surrogate pair as two characters.
pub(super) fn signed(key: &[u8], salt: &str, message: &str) -> Vec<u8> {
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

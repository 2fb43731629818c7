//! Whom to ask.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::client;
use crate::node_files::{self, NodeFiles, NodeFilesError};
use crate::protocol::Key;

/// A master candidate: its name, and the addresses that confd may be asked at.
///
/// A name can have several addresses, of both families; they are tried in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    name: String,
    /// At least one.
    addresses: Vec<SocketAddr>,
}

/// A host that has no address.
#[derive(Debug)]
pub struct Unresolved {
    name: String,
    why: Option<io::Error>,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.why {
            Some(why) => write!(f, "cannot find the address of {name:?}: {why}"),
            None => write!(f, "{name:?} has no address"),
        }
    }
}

impl Error for Unresolved {}

impl From<SocketAddr> for Candidate {
    fn from(address: SocketAddr) -> Self {
        Self {
            name: address.to_string(),
            addresses: vec![address],
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl Candidate {
    /// A candidate by its address or its name, with a port or without: `192.0.2.1`, `192.0.2.1:1814`, `2001:db8::1`,
    /// `[2001:db8::1]:1814`, `node1.example.com`, `node1.example.com:1814`. Without one it is
    /// [`node_files::port`].
    ///
    /// A name is looked up on the calling thread, which can take seconds.
    ///
    /// # Errors
    ///
    /// The name has no address, or this is neither.
    pub fn resolve(text: &str) -> Result<Self, Unresolved> {
        let unresolved = |why| Unresolved {
            name: text.to_owned(),
            why,
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
            return Ok(Self::at(ip, node_files::port()));
        }
        let found = match text.rsplit_once(':') {
            Some(_) => text.to_socket_addrs(),
            None => (text, node_files::port()).to_socket_addrs(),
        };
        let addresses: Vec<SocketAddr> = found.map_err(|why| unresolved(Some(why)))?.collect();
        if addresses.is_empty() {
            return Err(unresolved(None));
        }
        Ok(Self {
            name: text.to_owned(),
            addresses,
        })
    }

    /// A candidate at an address and port.
    pub fn at(ip: IpAddr, port: u16) -> Self {
        Self {
            name: ip.to_string(),
            addresses: vec![(ip, port).into()],
        }
    }

    /// The name or address that it was made from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is asked; at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// The key and the candidates in the files of the node that this is.
pub(super) fn of_this_node() -> Result<(Key, Vec<Candidate>), NodeFilesError> {
    let files = NodeFiles::from_env();
    let port = node_files::port();
    let ips = files.read_candidates()?.into_iter();
    let candidates = ips.map(|ip| Candidate::at(ip, port)).collect();
    Ok((files.read_key()?, candidates))
}

/// Whom a client asks now, and whom it was told to ask first.
#[derive(Debug)]
pub(super) struct Candidates {
    first: Vec<Candidate>,
    /// Never empty.
    now: Mutex<Vec<Candidate>>,
}

impl Candidates {
    pub(super) fn new(
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Result<Self, client::Error> {
        let first: Vec<Candidate> = candidates.into_iter().collect();
        if first.is_empty() {
            return Err(client::Error::NoCandidates);
        }
        Ok(Self {
            now: Mutex::new(first.clone()),
            first,
        })
    }

    pub(super) fn list(&self) -> Vec<Candidate> {
        self.lock().clone()
    }

    /// Asks those at these addresses from now on, at the port in use.
    pub(super) fn replace(&self, ips: &[String]) -> Result<Vec<Candidate>, client::Error> {
        let mut now = self.lock();
        let port = now[0].addresses[0].port();
        let ips = ips.iter().filter_map(|ip| ip.parse().ok());
        let candidates: Vec<Candidate> = ips.map(|ip| Candidate::at(ip, port)).collect();
        if candidates.is_empty() {
            return Err(client::Error::NoCandidates);
        }
        now.clone_from(&candidates);
        Ok(candidates)
    }

    /// Asks the first ones again; whether that is a change.
    pub(super) fn go_back(&self) -> bool {
        let mut now = self.lock();
        let is_change = *now != self.first;
        now.clone_from(&self.first);
        is_change
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Candidate>> {
        // The list is replaced as a whole or not at all.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:1814"),
            ("127.0.0.1:99", "127.0.0.1:99"),
            ("::1", "[::1]:1814"),
            ("[::1]", "[::1]:1814"),
            ("[::1]:99", "[::1]:99"),
            ("localhost:99", "127.0.0.1:99"),
        ] {
            let candidate = Candidate::resolve(text).expect(text);
            let address: SocketAddr = address.parse().expect(address);
            assert!(candidate.addresses().contains(&address), "{candidate:?}");
        }
        for text in ["", "127.0.0.1:x", "no host", "[::1", "localhost:99999"] {
            Candidate::resolve(text).expect_err(text);
        }
    }
}

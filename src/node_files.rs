//! Ganeti's files on a node: where they are, and what a client needs of them.
//!
//! All paths are below `GANETI_ROOTDIR` if that is set, with nothing between it and the path (`Ganeti.Path`).
//!
//! Source: `Ganeti.Path`, `Ganeti.Ssconf`, `lib/confd/client.py` (`GetConfdClient`), services(5).
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::protocol::PORT_DEFAULT;

/// Where Ganeti keeps things on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    root: PathBuf,
}

/// Why a node does not tell who the master candidates are. Prints as one line that names the file and the remedy.
#[derive(Debug)]
pub struct CandidatesError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unreadable(io::Error),
    NoAddress(String),
    Empty,
}

impl fmt::Display for CandidatesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Why::Unreadable(error) => {
                write!(f, "cannot read the master candidates from {path}: {error}")
            }
            Why::NoAddress(line) => {
                write!(
                    f,
                    "{path} has {line:?} where the address of a master candidate belongs"
                )
            }
            Why::Empty => write!(f, "{path} names no master candidates"),
        }?;
        f.write_str("; restore it with gnt-cluster redist-conf, or name whom to ask yourself")
    }
}

impl std::error::Error for CandidatesError {}

impl NodeFiles {
    /// The files of this node.
    pub fn from_env() -> Self {
        Self::below(
            std::env::var_os("GANETI_ROOTDIR")
                .unwrap_or_default()
                .into(),
        )
    }

    /// The files below `root`.
    pub fn below(root: PathBuf) -> Self {
        Self { root }
    }

    /// `path`, which starts with a slash, below the root.
    fn path(&self, path: &str) -> PathBuf {
        let mut whole = self.root.clone().into_os_string();
        whole.push(path);
        whole.into()
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.path("/var/lib/ganeti/config.data")
    }

    /// The key.
    pub fn key(&self) -> PathBuf {
        self.path("/var/lib/ganeti/hmac.key")
    }

    /// The cluster's address family, 2 or 10.
    pub fn family(&self) -> PathBuf {
        self.path("/var/lib/ganeti/ssconf_primary_ip_family")
    }

    /// The daemon's pid.
    pub fn pid(&self) -> PathBuf {
        self.path("/var/run/ganeti/ganeti-confd.pid")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.path("/var/log/ganeti/conf-daemon.log")
    }

    /// The master candidates' addresses, one a line.
    pub fn candidates(&self) -> PathBuf {
        self.path("/var/lib/ganeti/ssconf_master_candidates_ips")
    }

    /// Reads [`NodeFiles::candidates`].
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds something else, or nothing.
    pub fn read_candidates(&self) -> Result<Vec<IpAddr>, CandidatesError> {
        let path = self.candidates();
        read_addresses(&path).map_err(|why| CandidatesError { path, why })
    }
}

fn read_addresses(path: &Path) -> Result<Vec<IpAddr>, Why> {
    let text = std::fs::read_to_string(path).map_err(Why::Unreadable)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let addresses: Vec<IpAddr> = lines
        .map(|line| line.parse().map_err(|_| Why::NoAddress(line.to_owned())))
        .collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err(Why::Empty);
    }
    Ok(addresses)
}

/// The port of confd on this host: that of `ganeti-confd/udp` in the services database, or 1814.
pub fn port() -> u16 {
    service_port(Path::new("/etc/services"))
}

/// The port of `ganeti-confd/udp`, or the default.
fn service_port(services: &Path) -> u16 {
    let text = std::fs::read(services).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(confd_entry).unwrap_or(PORT_DEFAULT)
}

/// The port in a line like `ganeti-confd 1814/udp # a comment`, by name or alias.
fn confd_entry(line: &str) -> Option<u16> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    let port = words.next()?.strip_suffix("/udp")?.parse().ok()?;
    (name == "ganeti-confd" || words.any(|alias| alias == "ganeti-confd")).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates() {
        let root = tempfile::tempdir().unwrap();
        let files = NodeFiles::below(root.path().to_owned());
        std::fs::create_dir_all(files.candidates().parent().unwrap()).unwrap();
        let read = |text: &str| {
            std::fs::write(files.candidates(), text).unwrap();
            files.read_candidates()
        };
        let addresses = read("192.0.2.1\n2001:db8::2\n").unwrap();
        assert_eq!(addresses[0], IpAddr::from([192, 0, 2, 1]));
        assert_eq!(addresses.len(), 2);
        for text in ["", "\n", "node1.example.com\n"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("ssconf_master_candidates_ips"), "{error}");
        }
        let missing = NodeFiles::below("/nonexistent".into()).read_candidates();
        assert!(missing.unwrap_err().to_string().contains("No such file"));
    }

    #[test]
    fn services() {
        assert_eq!(
            confd_entry("ganeti-confd\t1815/udp\t\t# Ganeti"),
            Some(1815)
        );
        assert_eq!(confd_entry("other 1816/udp ganeti-confd"), Some(1816));
        assert_eq!(confd_entry("ganeti-confd 1815/tcp"), None);
        assert_eq!(confd_entry("# ganeti-confd 1815/udp"), None);
        assert_eq!(confd_entry("ganeti-confd 99999/udp"), None);
        assert_eq!(confd_entry(""), None);
        assert_eq!(service_port(Path::new("/nonexistent")), PORT_DEFAULT);
    }
}

//! Ganeti's files on a node: their paths, and the two that a client reads, with std alone.
//!
//! All paths are below `GANETI_ROOTDIR` if that is set; the two are concatenated without a
//! separator, as `Ganeti.Path` does.
//!
//! Source: `Ganeti.Path`, `Ganeti.Ssconf`, `lib/confd/client.py` (`GetConfdClient`), services(5).
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::protocol::{KEY_BYTES_MAX, Key, PORT_DEFAULT};
use crate::remedy::{Operation, errno_of, remedy};

/// The longest list of master candidates that is read, in bytes: 25,000 IPv6 addresses.
const CANDIDATES_BYTES_MAX: u64 = 1024 * 1024;
/// The services database.
pub const SERVICES: &str = "/etc/services";
/// The longest services database that is read, in bytes: 80 times that of Debian.
const SERVICES_BYTES_MAX: u64 = 1024 * 1024;

/// The paths of Ganeti's files on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    root: PathBuf,
}

/// A file of the node that a client cannot use. Displays one line with the file and the remedy.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeFilesError {
    /// The key, `hmac.key`.
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// The list of the master candidates' addresses, `ssconf_master_candidates_ips`.
    Candidates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
}

/// What is wrong with a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileProblem {
    /// It is missing or cannot be read.
    Unreadable(io::Error),
    /// It is a directory, a pipe or a device.
    NotRegular,
    /// It is longer than such a file can be.
    TooLong {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It has no content.
    Empty,
    /// A line is not an IP address.
    NotAnAddress(String),
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "it cannot be read ({error})"),
            Self::NotRegular => f.write_str("it is not a regular file"),
            Self::TooLong { limit } => write!(f, "it has more than {limit} bytes"),
            Self::Empty => f.write_str("it is empty"),
            Self::NotAnAddress(line) => write!(f, "{line:?} is not an address"),
        }
    }
}

impl fmt::Display for NodeFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { path, problem } => display_key_problem(&path.display(), problem, f),
            Self::Candidates { path, problem } => {
                display_candidates_problem(&path.display(), problem, f)
            }
        }
    }
}

fn display_key_problem(
    path: &impl fmt::Display,
    problem: &FileProblem,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    const COPY: &str = "copy it from the master node (gnt-cluster redist-conf)";
    match problem {
        FileProblem::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
            write!(
                f,
                "HMAC key {path} does not exist: {COPY}, or name another file"
            )
        }
        FileProblem::Unreadable(error) => write!(
            f,
            "HMAC key {path} cannot be read ({error}): {}",
            remedy(Operation::ReadFile, errno_of(error))
        ),
        FileProblem::NotRegular => {
            write!(f, "HMAC key {path} is not a regular file: name one that is")
        }
        FileProblem::TooLong { limit } => {
            write!(
                f,
                "HMAC key {path} has more than {limit} bytes: name the right file"
            )
        }
        FileProblem::Empty => {
            write!(
                f,
                "HMAC key {path} is empty, anybody could sign with it: {COPY}"
            )
        }
        FileProblem::NotAnAddress(_) => write!(f, "HMAC key {path} cannot be used"),
    }
}

fn display_candidates_problem(
    path: &impl fmt::Display,
    problem: &FileProblem,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match problem {
        FileProblem::Unreadable(error) => {
            write!(f, "cannot read the master candidates from {path}: {error}")
        }
        FileProblem::NotRegular => write!(f, "{path} is not a regular file"),
        FileProblem::TooLong { limit } => write!(f, "{path} has more than {limit} bytes"),
        FileProblem::Empty => write!(f, "{path} lists no master candidates"),
        FileProblem::NotAnAddress(line) => {
            write!(
                f,
                "{path} has {line:?} where a master candidate's address belongs"
            )
        }
    }?;
    f.write_str("; restore it with gnt-cluster redist-conf, or name the servers")
}

impl std::error::Error for NodeFilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key { problem, .. } | Self::Candidates { problem, .. } => match problem {
                FileProblem::Unreadable(error) => Some(error),
                _ => None,
            },
        }
    }
}

impl NodeFiles {
    /// The files of this node.
    pub fn from_env() -> Self {
        let root = std::env::var_os("GANETI_ROOTDIR").unwrap_or_default();
        Self::below(root.into())
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

    /// The daemon's pid file.
    pub fn pid(&self) -> PathBuf {
        self.path("/var/run/ganeti/ganeti-confd.pid")
    }

    /// The socket of `confdctl status`.
    pub fn status_socket(&self) -> PathBuf {
        self.path("/var/run/ganeti/ganeti-confd.sock")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.path("/var/log/ganeti/conf-daemon.log")
    }

    /// The master candidates' addresses, one per line.
    pub fn candidates(&self) -> PathBuf {
        self.path("/var/lib/ganeti/ssconf_master_candidates_ips")
    }

    /// Reads [`NodeFiles::key`].
    ///
    /// # Errors
    ///
    /// See [`read_key`].
    pub fn read_key(&self) -> Result<Key, NodeFilesError> {
        read_key(&self.key())
    }

    /// Reads [`NodeFiles::candidates`]; there is at least one.
    ///
    /// # Errors
    ///
    /// [`NodeFilesError::Candidates`]: the file cannot be read, contains anything but addresses, or
    /// is empty.
    pub fn read_candidates(&self) -> Result<Vec<IpAddr>, NodeFilesError> {
        let path = self.candidates();
        read_addresses(&path).map_err(|problem| NodeFilesError::Candidates { path, problem })
    }
}

/// Reads a key from the file `path`. Every byte counts, including a trailing newline.
///
/// # Errors
///
/// [`NodeFilesError::Key`]: the file cannot be read, is not a regular file, is empty, or is longer
/// than [`KEY_BYTES_MAX`].
pub fn read_key(path: &Path) -> Result<Key, NodeFilesError> {
    read(path, KEY_BYTES_MAX)
        .and_then(|bytes| Key::new(&bytes).map_err(|_| FileProblem::Empty))
        .map_err(|problem| NodeFilesError::Key {
            path: path.to_owned(),
            problem,
        })
}

fn read_addresses(path: &Path) -> Result<Vec<IpAddr>, FileProblem> {
    let text = String::from_utf8_lossy(&read(path, CANDIDATES_BYTES_MAX)?).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let address = |line: &str| {
        line.parse()
            .map_err(|_| FileProblem::NotAnAddress(line.to_owned()))
    };
    let addresses: Vec<IpAddr> = lines.map(address).collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err(FileProblem::Empty);
    }
    Ok(addresses)
}

/// Reads a regular file of at most `limit` bytes. Never waits, whatever the path names.
///
/// # Errors
///
/// The file cannot be read, is not a regular file, or is longer.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileProblem> {
    // Without O_NONBLOCK, opening a named pipe waits for a writer.
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        // A socket, or a device without a driver.
        Some(libc::ENXIO) => FileProblem::NotRegular,
        _ => FileProblem::Unreadable(error),
    })?;
    if !file.metadata().map_err(FileProblem::Unreadable)?.is_file() {
        return Err(FileProblem::NotRegular);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(FileProblem::Unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(FileProblem::TooLong { limit });
    }
    Ok(bytes)
}

/// The port of confd on this host: that of `ganeti-confd/udp` in [`SERVICES`], or 1814.
pub fn port() -> u16 {
    match services_port() {
        Ok(port) => port.unwrap_or(PORT_DEFAULT),
        Err(_) => PORT_DEFAULT,
    }
}

/// The port of `ganeti-confd/udp` in [`SERVICES`]; `None` without such an entry or file.
///
/// # Errors
///
/// The file exists and cannot be used. 1814 is then the port, as it is without an entry.
pub fn services_port() -> Result<Option<u16>, FileProblem> {
    port_in(Path::new(SERVICES))
}

fn port_in(services: &Path) -> Result<Option<u16>, FileProblem> {
    let text = match read(services, SERVICES_BYTES_MAX) {
        Ok(text) => text,
        Err(FileProblem::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(problem) => return Err(problem),
    };
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().find_map(confd_entry))
}

/// The port in a line like `ganeti-confd 1814/udp # a comment`, by name or alias. Never 0.
fn confd_entry(line: &str) -> Option<u16> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let name = words.next()?;
    let port = words.next()?.strip_suffix("/udp")?.parse().ok()?;
    let named = name == "ganeti-confd" || words.any(|alias| alias == "ganeti-confd");
    (named && port != 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    fn a_key_is_every_byte_of_a_bounded_regular_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hmac.key");
        let problem = || match read_key(&path).unwrap_err() {
            NodeFilesError::Key { problem, .. } => problem,
            other => panic!("{other}"),
        };
        assert!(matches!(problem(), FileProblem::Unreadable(_)));
        fs::write(&path, "").unwrap();
        assert!(matches!(problem(), FileProblem::Empty));
        fs::write(&path, "secret\n").unwrap();
        assert_eq!(read_key(&path).unwrap(), Key::new(b"secret\n").unwrap());
        fs::write(&path, vec![b'x'; KEY_BYTES_MAX as usize]).unwrap();
        read_key(&path).unwrap();
        fs::write(&path, vec![b'x'; KEY_BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(problem(), FileProblem::TooLong { .. }));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(problem(), FileProblem::NotRegular));
        let error = read_key(&path).unwrap_err().to_string();
        assert!(error.contains("hmac.key"), "{error}");
        // Neither waits for a writer, nor reads without end.
        fs::remove_dir(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(problem(), FileProblem::NotRegular));
        fs::remove_file(&path).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(problem(), FileProblem::NotRegular));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(matches!(problem(), FileProblem::NotRegular));
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
        assert_eq!(confd_entry("ganeti-confd 0/udp"), None);
        assert_eq!(confd_entry(""), None);
        assert_eq!(port_in(Path::new("/nonexistent")).unwrap(), None);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("services");
        fs::write(&path, "http 80/tcp\nganeti-confd 1815/udp\n").unwrap();
        assert_eq!(port_in(&path).unwrap(), Some(1815));
        assert!(matches!(port_in(dir.path()), Err(FileProblem::NotRegular)));
        assert!(matches!(
            port_in(Path::new("/dev/zero")),
            Err(FileProblem::NotRegular)
        ));
    }
}

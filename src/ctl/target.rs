//! Which servers to use and with which key: options first, then the environment, then the node's
//! files.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::exit::{CommandError, Exit};
use super::options::Common;
use super::packets;
use crate::client::{Candidate, ConfdClient, Observer};
use crate::demo;
use crate::node_files::{self, NodeFiles};
use crate::protocol::Key;

/// The size of the sample cluster of `--demo`, as in `ganeti-confd --demo`.
const DEMO_NODES: usize = 3;
const DEMO_INSTANCES: usize = 10;

/// The servers to use, and the key.
#[derive(Debug)]
pub(super) struct Target {
    candidates: Vec<Candidate>,
    key: Key,
    /// Printed in a diagnosis, because a wrong key looks like silence.
    pub(super) key_source: KeySource,
    /// Prints the packets, with `--verbose`.
    observer: Observer,
    /// The sample cluster of `--demo`; it stops when dropped.
    _demo: Option<demo::Server>,
}

/// Where the key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeySource {
    /// A file.
    File(PathBuf),
    /// `CONFD_KEY`.
    Environment,
    /// The sample cluster.
    Demo,
}

impl Target {
    /// Reads the options, the environment and the node's files.
    ///
    /// # Errors
    ///
    /// Options exclude each other, a file is missing or invalid, a name has no address, or the
    /// sample cluster cannot be started.
    pub(super) fn find(options: &Common) -> Result<Self, CommandError> {
        if options.demo {
            return Self::demo(options);
        }
        let local =
            |error: &dyn std::fmt::Display| CommandError::new(Exit::Local, error.to_string());
        let candidates = candidates(options)?;
        let (key, key_source) = match KeyGiven::find(options) {
            KeyGiven::Bytes(bytes) => {
                let key = Key::new(&bytes).map_err(|_| {
                    local(&"CONFD_KEY is empty: set it to the cluster's key, or unset it")
                })?;
                (key, KeySource::Environment)
            }
            KeyGiven::File(path) => {
                let key = node_files::read_key(&path).map_err(|error| local(&error))?;
                (key, KeySource::File(path))
            }
        };
        Ok(Self {
            candidates,
            key,
            key_source,
            observer: packets::observer(options.verbose),
            _demo: None,
        })
    }

    fn demo(options: &Common) -> Result<Self, CommandError> {
        if !options.servers.is_empty() || options.key_file.is_some() {
            return Err(CommandError::new(
                Exit::Usage,
                "--demo uses a cluster of its own: omit --server and --key-file",
            ));
        }
        let demo = demo::Server::start(DEMO_NODES, DEMO_INSTANCES).map_err(|error| {
            CommandError::new(
                Exit::Local,
                format!("cannot start the sample cluster: {error}"),
            )
        })?;
        Ok(Self {
            candidates: vec![demo.candidate()],
            key: Key::new(demo.key()).expect("a demo's key is not empty"),
            key_source: KeySource::Demo,
            observer: packets::observer(options.verbose),
            _demo: Some(demo),
        })
    }

    /// The servers and the key.
    pub(super) fn candidates_and_key(&self) -> (Vec<Candidate>, Key) {
        (self.candidates.clone(), self.key.clone())
    }

    /// This node's configuration file, if the key is this node's key, so that the servers are those
    /// of its cluster.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        let files = NodeFiles::from_env();
        let is_own_key = self.key_source == KeySource::File(files.key());
        is_own_key.then(|| files.config())
    }

    /// A client for these servers.
    ///
    /// # Errors
    ///
    /// No socket can be opened.
    pub(super) fn client(&self) -> Result<ConfdClient, CommandError> {
        let (candidates, key) = self.candidates_and_key();
        ConfdClient::observed(key, candidates, &self.observer)
            .map_err(|error| CommandError::of_client(&error))
    }
}

/// The key's source before it is read.
enum KeyGiven {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl KeyGiven {
    fn find(options: &Common) -> Self {
        if let Some(path) = &options.key_file {
            return Self::File(path.clone());
        }
        if let Some(key) = std::env::var_os("CONFD_KEY") {
            return Self::Bytes(key.into_vec());
        }
        let file = std::env::var_os("CONFD_KEY_FILE").filter(|path| !path.is_empty());
        Self::File(file.map_or_else(|| NodeFiles::from_env().key(), PathBuf::from))
    }
}

fn candidates(options: &Common) -> Result<Vec<Candidate>, CommandError> {
    let mut names = options.servers.clone();
    if let Some(empty) = names.iter().find(|name| name.trim().is_empty()) {
        let text = format!("--server {empty:?} names no server; {SERVER_HELP}");
        return Err(CommandError::new(Exit::Usage, text));
    }
    if names.is_empty() {
        let listed = std::env::var_os("CONFD_SERVERS").unwrap_or_default();
        names.extend(listed.to_string_lossy().split(',').map(str::to_owned));
        names.retain(|name| !name.trim().is_empty());
    }
    if !names.is_empty() {
        let resolve = |name: &String| Candidate::resolve(name.trim());
        let found: Result<Vec<_>, _> = names.iter().map(resolve).collect();
        return found
            .map_err(|error| CommandError::new(Exit::Usage, format!("{error}; {SERVER_HELP}")));
    }
    let files = NodeFiles::from_env();
    let ips = files.read_candidates().map_err(|error| {
        let hint = if is_node(&files.candidates()) {
            ""
        } else {
            NO_NODE
        };
        CommandError::new(Exit::Local, format!("{error} (--server){hint}"))
    })?;
    let port = node_files::port();
    Ok(ips.into_iter().map(|ip| Candidate::at(ip, port)).collect())
}

/// Whether Ganeti's data directory exists on this host.
fn is_node(file: &Path) -> bool {
    file.parent().is_some_and(Path::is_dir)
}

const SERVER_HELP: &str = "name a server as ADDR, ADDR:PORT, [IPV6]:PORT, HOST or HOST:PORT";

const NO_NODE: &str = "\nThis host is not a node of a Ganeti cluster. \
                       To try confdctl without a cluster: confdctl --demo query master";

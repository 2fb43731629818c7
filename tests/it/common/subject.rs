//! Daemons under test: ours on either engine, the reference, or one that somebody else runs.
//!
//! Each daemon gets a root directory of its own with the layout of `GANETI_ROOTDIR`, and a loopback port of its own. There is one
//! daemon per configuration: a start costs 20 ms, and no test has to guess when a new file is being served.

use super::Client;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Debian's package `ganeti-haskell-3.0` puts it here.
const REFERENCE: &str = "/usr/lib/ganeti/3.0/usr/sbin/ganeti-confd";

/// How long a daemon may take until it answers its first ping.
const START_SECONDS_MAX: u64 = 20;

/// Which daemon is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours, on io_uring.
    Uring,
    /// Ours, on recvmmsg and sendmmsg.
    Mmsg,
    /// Ganeti's.
    Reference,
    /// At this address, with the key in the file `CONFD_KEY`, serving the committed configuration `CONFD_CONFIG`.
    Address(SocketAddr),
}

/// The daemons that `CONFD_SUBJECT` names (`reference`, `uring`, `mmsg` or `ADDR:PORT`); without it ours, on both engines.
pub(crate) fn subjects() -> Vec<Kind> {
    let chosen = match std::env::var("CONFD_SUBJECT").ok().as_deref() {
        None | Some("") => vec![Kind::Uring, Kind::Mmsg],
        Some("uring") => vec![Kind::Uring],
        Some("mmsg") => vec![Kind::Mmsg],
        Some("reference") => vec![Kind::Reference],
        Some(address) => {
            vec![Kind::Address(address.parse().expect(
                "CONFD_SUBJECT is reference, uring, mmsg or ADDR:PORT",
            ))]
        }
    };
    chosen.into_iter().filter(Kind::is_here).collect()
}

/// Says why a test does less than it could. In CI nothing may be missing.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "missing in CI: {why}");
    eprintln!("skipped: {why}");
}

impl Kind {
    /// Whether this machine has it; says so if not.
    pub(crate) fn is_here(&self) -> bool {
        let missing = match self {
            Self::Reference if !Path::new(REFERENCE).exists() => {
                "the reference daemon (Debian package ganeti-haskell-3.0)"
            }
            Self::Uring if io_uring::IoUring::new(2).is_err() => {
                "io_uring (refused by this kernel)"
            }
            _ => return true,
        };
        skip(missing);
        false
    }

    /// The program, with the options that only ours has.
    pub(crate) fn command(self) -> Command {
        let engine = match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
            Self::Reference => return Command::new(REFERENCE),
            Self::Address(_) => unreachable!("somebody else started it"),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_ganeti-confd"));
        command.args(["--engine", engine]);
        command
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    key: Vec<u8>,
    address: SocketAddr,
    child: Option<Child>,
    root: TempDir,
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Subject {
    /// Starts a daemon on `config` (`None`: there is no such file) and waits until it answers.
    pub(crate) fn start(kind: Kind, config: Option<&[u8]>, key: &[u8]) -> Self {
        if let Kind::Address(address) = kind {
            return Self::attach(address);
        }
        // Somebody may take the port between our look and the daemon's bind.
        (0..3)
            .find_map(|_| Self::try_start(kind, Layout::new(config, key), free_port(), key))
            .unwrap_or_else(|| panic!("{kind:?} does not start; its standard error is above"))
    }

    fn attach(address: SocketAddr) -> Self {
        let file =
            std::env::var("CONFD_KEY").expect("CONFD_KEY names the key file of CONFD_SUBJECT");
        Self {
            kind: Kind::Address(address),
            key: fs::read(file).expect("CONFD_KEY is readable"),
            address,
            child: None,
            root: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn try_start(kind: Kind, layout: Layout, port: u16, key: &[u8]) -> Option<Self> {
        let errors = layout.0.path().join("stderr");
        let child = kind
            .command()
            .args(["-f", "--no-user-checks", "-b", "127.0.0.1", "-p"])
            .arg(port.to_string())
            .env("GANETI_ROOTDIR", layout.0.path())
            .env("GANETI_HOSTNAME", "localhost")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&errors).expect("a fresh directory is writable"))
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?} cannot be run: {error}"));
        let mut subject = Self {
            kind,
            key: key.to_vec(),
            address: (Ipv4Addr::LOCALHOST, port).into(),
            child: Some(child),
            root: layout.0,
        };
        let answers = subject.await_first_answer();
        if !answers {
            eprintln!(
                "{kind:?}: {}",
                fs::read_to_string(errors).unwrap_or_default()
            );
        }
        answers.then_some(subject)
    }

    /// Pings until there is an answer or the daemon has ended.
    fn await_first_answer(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < deadline {
            if self.client().answers_within(Duration::from_millis(20)) {
                return true;
            }
            let child = self.child.as_mut().expect("a started daemon has a process");
            if child.try_wait().expect("our child").is_some() {
                return false;
            }
            // A port nobody listens on refuses at once, and there is no event for the bind.
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// A client on a fresh socket.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address, &self.key)
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key it was started with.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its `GANETI_ROOTDIR`, as it appears in error texts.
    pub(crate) fn root(&self) -> &str {
        self.root
            .path()
            .to_str()
            .expect("temporary directories have plain names")
    }
}

/// A directory laid out as `GANETI_ROOTDIR`.
pub(crate) struct Layout(pub(crate) TempDir);

impl Layout {
    pub(crate) fn new(config: Option<&[u8]>, key: &[u8]) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        for directory in ["var/lib/ganeti", "var/run/ganeti", "var/log/ganeti"] {
            fs::create_dir_all(root.path().join(directory)).expect("a fresh directory is writable");
        }
        let data = root.path().join("var/lib/ganeti");
        fs::write(data.join("hmac.key"), key).expect("a fresh directory is writable");
        if let Some(config) = config {
            fs::write(data.join("config.data"), config).expect("a fresh directory is writable");
        }
        Self(root)
    }
}

/// A UDP port nobody uses now.
fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    socket
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

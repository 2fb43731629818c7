//! Daemons under test: this project's on either engine, the reference, or one that already runs.
//!
//! Each daemon has its own `GANETI_ROOTDIR` and loopback port. Tests start one daemon per
//! configuration: that takes 20 ms, and no test has to wait for a reload.

use super::Client;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Installed by Debian's package `ganeti-haskell-3.0`.
const REFERENCE: &str = "/usr/lib/ganeti/3.0/usr/sbin/ganeti-confd";

/// Timeout for a daemon's first answer to a ping.
const START_SECONDS_MAX: u64 = 20;

/// The daemon to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project's, with io_uring.
    Uring,
    /// This project's, with recvmmsg and sendmmsg.
    Mmsg,
    /// Ganeti's.
    Reference,
    /// At this address, with the key in the file `CONFD_KEY` and the committed configuration
    /// `CONFD_CONFIG`.
    Address(SocketAddr),
}

/// The daemons that `CONFD_SUBJECT` names (`reference`, `uring`, `mmsg` or `ADDR:PORT`); by default
/// this project's with both engines.
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
    chosen.into_iter().filter(Kind::is_available).collect()
}

/// Prints why a test is skipped or incomplete. In CI it panics instead: nothing may be missing
/// there.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "missing in CI: {why}");
    eprintln!("skipped: {why}");
}

impl Kind {
    /// Whether this machine can run it; if not, the test is reported as skipped.
    pub(crate) fn is_available(&self) -> bool {
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

    /// The command, with the options that only this project's daemon has.
    pub(crate) fn command(self) -> Command {
        let engine = match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
            Self::Reference => return Command::new(REFERENCE),
            Self::Address(_) => unreachable!("it already runs"),
        };
        let mut command = Command::new(program());
        command.args(["--engine", engine]);
        command
    }
}

/// This project's daemon. `CONFD_PROGRAM` names another build of it, for comparisons.
pub(crate) fn program() -> OsString {
    let program = std::env::var_os("CONFD_PROGRAM");
    program.unwrap_or_else(|| env!("CARGO_BIN_EXE_ganeti-confd").into())
}

/// A running daemon, killed when dropped.
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
    /// Starts a daemon with `config` (`None`: no such file) and waits until it answers.
    pub(crate) fn start(kind: Kind, config: Option<&[u8]>, key: &[u8]) -> Self {
        Self::start_with(kind, &[], config, key)
    }

    /// As [`Subject::start`], with more command-line arguments.
    pub(crate) fn start_with(kind: Kind, args: &[&str], config: Option<&[u8]>, key: &[u8]) -> Self {
        if let Kind::Address(address) = kind {
            return Self::attach(address);
        }
        // Another process may take the port before the daemon binds it.
        (0..3)
            .find_map(|_| Self::try_start(kind, args, Layout::new(config, key), free_port(), key))
            .unwrap_or_else(|| panic!("{kind:?} does not start; see its standard error above"))
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

    fn try_start(kind: Kind, args: &[&str], layout: Layout, port: u16, key: &[u8]) -> Option<Self> {
        let errors = layout.0.path().join("stderr");
        let child = kind
            .command()
            .args(args)
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

    /// Pings until the daemon answers or has exited.
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
            // A port without a listener refuses at once, and no event reports the bind.
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// A client with a new socket.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address, &self.key)
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its key.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its `GANETI_ROOTDIR` as it appears in error messages.
    pub(crate) fn root(&self) -> &str {
        self.root
            .path()
            .to_str()
            .expect("names of temporary directories are ASCII")
    }
}

/// A `GANETI_ROOTDIR`.
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

/// A UDP port that is currently free.
fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    socket
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

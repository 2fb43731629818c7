//! `--demo`: a sample cluster in a temporary directory, on loopback, for as long as somebody watches.
//!
//! Needs none of Ganeti's files, directories or accounts and leaves nothing behind.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::error::Error;
use super::options::{DemoSize, Options};
use crate::demo;
use crate::engine::{self, Sockets};
use crate::protocol::PORT_DEFAULT;
use crate::reader::Files;

/// How many ports are tried from the default one on, if none is asked for.
const PORTS: u16 = 100;

/// A demo's files, removed when dropped.
#[derive(Debug)]
pub(super) struct Demo {
    _dir: TempDir,
    pub(super) files: Files,
    size: DemoSize,
}

impl Demo {
    /// Writes the files.
    ///
    /// # Errors
    ///
    /// The temporary directory cannot be written.
    pub(super) fn create(size: DemoSize, options: &Options) -> Result<Self, Error> {
        let try_create = || {
            let dir = tempfile::Builder::new()
                .prefix("ganeti-confd-demo-")
                .tempdir()?;
            let files = Files {
                config: dir.path().join("config.data"),
                key: dir.path().join("hmac.key"),
                on_bad_config: options.on_bad_config(),
            };
            let text = demo::configuration(size.nodes, size.instances, demo::SEED);
            fs::write(&files.config, text)?;
            write_key(&files.key)?;
            Ok(Self {
                _dir: dir,
                files,
                size,
            })
        };
        try_create().map_err(|error: io::Error| {
            Error::new(format!(
                "cannot write the demo's files below {}: {error}; set TMPDIR to a directory with space",
                std::env::temp_dir().display()
            ))
        })
    }

    /// Tells where and what to ask.
    pub(super) fn print_demo_help(&self, address: SocketAddr) {
        let DemoSize { nodes, instances } = self.size;
        let key = self.files.key.display();
        let mut names = vec![demo::node_name(1)];
        if instances > 0 {
            names.push(demo::instance_name(1));
        }
        let text = format!(
            "Serving a sample cluster of {nodes} nodes and {instances} instances until interrupted (Ctrl-C).\n\
             \n\
             \x20 address        {address}/udp\n\
             \x20 key            {key}\n\
             \x20 configuration  {}\n\
             \x20 names          {}\n\
             \n\
             Ask it:\n\
             \n\
             \x20 {} --server {address} --key-file {key} query master\n\
             \n\
             or with any confd client that is given this address and key. Edit the configuration to see it reload.\n",
            self.files.config.display(),
            names.join(", "),
            confdctl(),
        );
        // Without an audience it serves all the same.
        let _ = io::stdout().write_all(text.as_bytes());
        let _ = io::stdout().flush();
    }
}

/// How `confdctl` is called from where this program was: it stands beside it, or cargo, which runs this, builds it, or it is installed.
fn confdctl() -> String {
    let this = std::env::current_exe().unwrap_or_default();
    let beside = this.with_file_name("confdctl");
    if beside.is_file() {
        beside.display().to_string()
    } else if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
        "cargo run --bin confdctl --".to_owned()
    } else {
        "confdctl".to_owned()
    }
}

/// 160 random bits in hexadecimal and a newline, as `gnt-cluster init` writes it.
fn write_key(path: &Path) -> io::Result<()> {
    let mut random = [0; 20];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{digits}")
}

/// Binds on loopback: the port asked for, else the first free one from the default on.
///
/// # Errors
///
/// As of [`engine::bind`].
pub(super) fn bind(options: &Options) -> Result<Sockets, Error> {
    let with_port = |port| match options.bind {
        Some(bind) => bind.with_port(port),
        None => (Ipv4Addr::LOCALHOST, port).into(),
    };
    let ports = match options.port {
        Some(port) => port..=port,
        None => PORT_DEFAULT..=PORT_DEFAULT + PORTS - 1,
    };
    let last = *ports.end();
    for port in ports {
        let address = with_port(port);
        match engine::bind(address, options.workers()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port != last => {}
            bound => return super::bound(bound, address),
        }
    }
    unreachable!("the last port returns")
}

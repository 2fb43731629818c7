//! `--demo`: a sample cluster in a temporary directory, served on loopback until interrupted.
//!
//! A demo needs no files, directories or accounts of Ganeti. It removes its own files when it ends.

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
use crate::remedy::limit_or;

/// Number of ports to try, starting at the default one, if `--port` is absent.
const PORTS: u16 = 100;

/// A demo's files. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Demo {
    _dir: TempDir,
    pub(super) files: Files,
    size: DemoSize,
}

impl Demo {
    /// Creates a temporary directory with a configuration and a key.
    ///
    /// # Errors
    ///
    /// The directory cannot be created or written.
    pub(super) fn create(size: DemoSize, options: &Options) -> Result<Self, Error> {
        let try_create = || {
            let dir = tempfile::Builder::new()
                .prefix("ganeti-confd-demo-")
                .tempdir()?;
            let files = Files {
                config: dir.path().join("config.data"),
                key: dir.path().join("hmac.key"),
                keep_last_good: options.keep_last_good(),
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
                "cannot write the demo's files in {}: {error}; {}",
                std::env::temp_dir().display(),
                limit_or(&error, "set TMPDIR to a writable directory with free space")
            ))
        })
    }

    /// Prints the address, the files, names to query, and how to use `confdctl` with this cluster.
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
             To query it, paste these lines into another terminal:\n\
             \n\
             \x20 export CONFD_SERVERS={address}\n\
             \x20 export CONFD_KEY_FILE={}\n\
             \x20 {} query master\n\
             \n\
             The daemon loads the configuration again when you edit it.\n",
            self.files.config.display(),
            names.join(", "),
            shell_word(&self.files.key.to_string_lossy()),
            confdctl(),
        );
        // The demo keeps serving if standard output is closed.
        let _ = io::stdout().write_all(text.as_bytes());
        let _ = io::stdout().flush();
    }
}

/// Returns the command that runs `confdctl`.
///
/// The executable in this program's directory is preferred. Otherwise it is run through cargo if
/// cargo runs this program, or looked up in `PATH`.
fn confdctl() -> String {
    let this = std::env::current_exe().unwrap_or_default();
    let sibling = this.with_file_name("confdctl");
    if sibling.is_file() {
        shell_word(&sibling.to_string_lossy())
    } else if std::env::var_os("CARGO_MANIFEST_DIR").is_some() {
        "cargo run --bin confdctl --".to_owned()
    } else {
        "confdctl".to_owned()
    }
}

/// Quotes `text` for a POSIX shell if it contains characters other than ASCII letters, digits and
/// `/._-`.
fn shell_word(text: &str) -> String {
    let is_ordinary = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(is_ordinary) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Writes a new key: 160 random bits in hexadecimal and a newline, as `gnt-cluster init` does.
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

/// Binds the address given by `--bind`, or a loopback address.
///
/// The port is the one given by `--port`, or the first free port from the default upward.
///
/// # Errors
///
/// See [`engine::bind`].
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
    unreachable!("the loop returns at the last port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_word_quotes_only_words_that_a_shell_would_change() {
        for (text, word) in [
            (
                "/tmp/ganeti-confd-demo-x/hmac.key",
                "/tmp/ganeti-confd-demo-x/hmac.key",
            ),
            ("/tmp/a b/$c", "'/tmp/a b/$c'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}

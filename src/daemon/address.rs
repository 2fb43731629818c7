//! The address to serve: `--bind` and `--port`, with defaults from the cluster's address family and
//! the services database.
//!
//! No host name is resolved. The reference resolves its own host name and exits if that fails.
//!
//! Source: `Ganeti.Daemon.parseAddress`, `Ganeti.Ssconf.getPrimaryIPFamily` of version 3.0.2;
//! services(5).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use tracing::{info, warn};

use super::error::Error;
use crate::node_files::{self, FileProblem, SERVICES};
use crate::protocol::PORT_DEFAULT;
use crate::remedy::{Operation, errno_of, remedy};

/// The longest file with an address family that is read, in bytes.
const FAMILY_BYTES_MAX: u64 = 1024;

/// A numeric IP address, with its zone if it has one. The port is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numeric(SocketAddr);

impl Numeric {
    /// Returns the address with this port.
    pub(super) fn with_port(self, port: u16) -> SocketAddr {
        let mut address = self.0;
        address.set_port(port);
        address
    }
}

/// Parses a numeric address: dotted IPv4, or IPv6 with or without a zone.
///
/// Refuses host names, ports, brackets and the short forms of `inet_aton` (`127.1`, `2130706433`).
pub(super) fn parse(text: &str) -> Result<Numeric, String> {
    let refused = "is not a numeric address; use one like 192.0.2.1, :: or fe80::1%eth0";
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Numeric(SocketAddr::new(ip, 0)));
    }
    let (ip, _zone) = text.split_once('%').ok_or(refused)?;
    ip.parse::<Ipv6Addr>().map_err(|_| refused)?;
    // The address is numeric, so this looks up only the zone, among the interfaces of this host.
    let mut found = (text, 0).to_socket_addrs().map_err(|_| {
        "has a zone that is not an interface of this host; list them with: ip link".to_owned()
    })?;
    found.next().map(Numeric).ok_or_else(|| refused.into())
}

/// The address to bind, and where its port comes from.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) address: SocketAddr,
    pub(super) port_origin: PortOrigin,
}

/// Where the port of the daemon comes from.
#[derive(Debug)]
pub(super) enum PortOrigin {
    /// The option `--port`.
    Option,
    /// The entry `ganeti-confd/udp` of the services database.
    Services,
    /// The default, because the services database has no such entry.
    Default,
    /// The default, because the services database cannot be used, for this reason.
    ServicesUnusable(FileProblem),
}

impl Chosen {
    /// Logs the port's origin, with a warning if some clients of Ganeti will ask another port.
    ///
    /// Ganeti's Python code looks the port up in the services database of its host
    /// (`netutils.GetDaemonPort`); its Haskell code always asks 1814 (`Ganeti.Constants`).
    pub(super) fn log_port_origin(&self) {
        let port = self.address.port();
        match &self.port_origin {
            PortOrigin::Option => info!("Port {port} is from --port"),
            PortOrigin::Services if port == PORT_DEFAULT => {
                info!("Port {port} is from ganeti-confd/udp in {SERVICES}");
            }
            PortOrigin::Services => warn!(
                "Port {port} is from ganeti-confd/udp in {SERVICES}; Ganeti's Haskell clients (such \
                 as mon-collector) ask port {PORT_DEFAULT} and get no answer; change the entry to \
                 {PORT_DEFAULT}, or use --port={PORT_DEFAULT}"
            ),
            PortOrigin::Default => {
                info!("Port {port} is the default, {SERVICES} has no ganeti-confd/udp");
            }
            PortOrigin::ServicesUnusable(problem) => warn!(
                "Port {port} is the default, {SERVICES} cannot be used: {problem}; repair the file, \
                 or use --port"
            ),
        }
    }
}

/// Chooses the address to bind.
///
/// # Errors
///
/// The cluster's address family cannot be read or is unknown.
pub(super) fn choose(
    bind: Option<Numeric>,
    port: Option<u16>,
    family_file: &Path,
) -> Result<Chosen, Error> {
    let (port, port_origin) = match port {
        Some(port) => (port, PortOrigin::Option),
        None => match node_files::services_port() {
            Ok(Some(port)) => (port, PortOrigin::Services),
            Ok(None) => (PORT_DEFAULT, PortOrigin::Default),
            Err(problem) => (PORT_DEFAULT, PortOrigin::ServicesUnusable(problem)),
        },
    };
    let address = match bind {
        Some(bind) => bind.with_port(port),
        None => SocketAddr::new(any_address(family_file)?, port),
    };
    Ok(Chosen {
        address,
        port_origin,
    })
}

/// Returns the wildcard address of the family in the file at `path` (`ssconf_primary_ip_family`).
///
/// Without that file, the family is IPv4.
fn any_address(path: &Path) -> Result<IpAddr, Error> {
    let shown = path.display();
    let text = match node_files::read(path, FAMILY_BYTES_MAX) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(FileProblem::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
            "2".to_owned()
        }
        Err(problem) => {
            let remedy = match &problem {
                FileProblem::Unreadable(error) => remedy(Operation::ReadFile, errno_of(error)),
                _ => "restore it with gnt-cluster redist-conf",
            };
            return Err(Error::lasting(format!(
                "cannot read the cluster's address family from {shown}: {problem}; {remedy}, or \
                 use --bind"
            )));
        }
    };
    match text.trim() {
        "2" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        "10" => Ok(Ipv6Addr::UNSPECIFIED.into()),
        other => Err(Error::lasting(format!(
            "{shown} has the address family {other:?}, which is neither 2 (IPv4) nor 10 (IPv6); \
             restore it with gnt-cluster redist-conf, or use --bind"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numeric_addresses_are_parsed() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:0"),
            ("::", "[::]:0"),
            ("::1", "[::1]:0"),
            ("fe80::1%lo", "[fe80::1%1]:0"),
            ("fe80::1%1", "[fe80::1%1]:0"),
        ] {
            assert_eq!(parse(text), Ok(Numeric(address.parse().unwrap())), "{text}");
        }
        for text in [
            "localhost",
            "",
            " 127.0.0.1",
            "127.0.0.1.",
            "[::1]",
            "127.0.0.1:1",
            "127.1",
            "127.0.0.1%lo",
            "fe80::1%no-such-interface",
            "fe80::1%",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_wildcard_address_follows_the_address_family() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ssconf_primary_ip_family");
        assert_eq!(any_address(&path).unwrap(), Ipv4Addr::UNSPECIFIED);
        for (text, address) in [("2\n", "0.0.0.0"), (" 10 \n", "::")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(any_address(&path).unwrap().to_string(), address);
        }
        for text in ["4\n", "x", "", &"2".repeat(2000)] {
            std::fs::write(&path, text).unwrap();
            let failure = any_address(&path).unwrap_err().to_string();
            assert!(failure.contains(path.to_str().unwrap()), "{failure}");
        }
        // Neither waits for a writer, nor reads without end.
        for special in ["/dev/zero", "pipe"] {
            std::fs::remove_file(&path).unwrap();
            match special {
                "pipe" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                device => std::os::unix::fs::symlink(device, &path).unwrap(),
            }
            let failure = any_address(&path).unwrap_err().to_string();
            assert!(failure.contains("it is not a regular file"), "{failure}");
        }
    }
}

//! A master candidate, and the forms in which its address can be written.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};

use crate::node_files;

/// A master candidate: its name, and the addresses at which confd can be asked.
///
/// A name can have several addresses, of both families. They are tried in turn.
///
/// ```
/// use ganeti_confd::client::Candidate;
///
/// let candidates: [Candidate; 4] = [
///     std::net::SocketAddr::from(([192, 0, 2, 1], 1814)).into(),
///     std::net::IpAddr::from([192, 0, 2, 1]).into(),
///     "192.0.2.1:1814".try_into()?,
///     "[2001:db8::1]:1814".try_into()?,
/// ];
/// # Ok::<(), ganeti_confd::client::InvalidAddress>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    name: String,
    addresses: Vec<SocketAddr>,
    /// The reason why there are no addresses.
    unresolved: Option<String>,
}

/// A text that is not an address or a host name, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAddress {
    text: String,
    why: &'static str,
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a server's address: {}", self.text, self.why)
    }
}

impl Error for InvalidAddress {}

impl From<SocketAddr> for Candidate {
    fn from(address: SocketAddr) -> Self {
        Self {
            name: address.to_string(),
            addresses: vec![address],
            unresolved: None,
        }
    }
}

/// At the port of confd on this host: that of `ganeti-confd/udp` in `/etc/services`, or 1814.
impl From<IpAddr> for Candidate {
    fn from(ip: IpAddr) -> Self {
        Self::at(ip, node_files::port())
    }
}

impl From<(IpAddr, u16)> for Candidate {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        Self::at(ip, port)
    }
}

impl From<&Self> for Candidate {
    fn from(candidate: &Self) -> Self {
        candidate.clone()
    }
}

/// See [`Candidate::resolve`].
impl TryFrom<&str> for Candidate {
    type Error = InvalidAddress;

    fn try_from(text: &str) -> Result<Self, InvalidAddress> {
        Self::resolve(text)
    }
}

/// See [`Candidate::resolve`].
impl TryFrom<String> for Candidate {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        Self::resolve(&text)
    }
}

/// See [`Candidate::resolve`].
impl TryFrom<&String> for Candidate {
    type Error = InvalidAddress;

    fn try_from(text: &String) -> Result<Self, InvalidAddress> {
        Self::resolve(text)
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl Candidate {
    /// A candidate by its address or name, with or without a port: `192.0.2.1`, `192.0.2.1:1814`,
    /// `2001:db8::1`, `[2001:db8::1]:1814`, `fe80::1%eth0`, `[fe80::1%eth0]:1814`,
    /// `node1.example.com`, `node1.example.com:1814`. The default port is that of
    /// `ganeti-confd/udp` in `/etc/services`, or 1814.
    ///
    /// A name is looked up on the calling thread, which can take seconds. If it has no address, the
    /// candidate has none either, and every call finds it unreachable; see
    /// [`Candidate::unresolved`].
    ///
    /// # Errors
    ///
    /// The text has none of these forms, or the port is not 1 to 65535.
    pub fn resolve(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |why| InvalidAddress {
            text: text.to_owned(),
            why,
        };
        let (host, port) = split_port(text).map_err(invalid)?;
        let port = port.unwrap_or_else(node_files::port);
        let (addresses, unresolved) = match parse_ip(host).map_err(invalid)? {
            Some(Ok(address)) => (vec![at_port(address, port)], None),
            Some(Err(why)) => (Vec::new(), Some(why.to_string())),
            None => look_up(host, port),
        };
        Ok(Self {
            name: text.to_owned(),
            addresses,
            unresolved,
        })
    }

    /// A candidate at an address and port.
    pub fn at(ip: IpAddr, port: u16) -> Self {
        Self {
            name: ip.to_string(),
            addresses: vec![(ip, port).into()],
            unresolved: None,
        }
    }

    /// The name or address from which it was made.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The addresses at which it is asked; none if its name could not be resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The reason why its name has no address.
    pub fn unresolved(&self) -> Option<&str> {
        self.unresolved.as_deref()
    }

    /// Whether both have an address in common; without addresses, the same name.
    fn is_same(&self, other: &Self) -> bool {
        if self.addresses.is_empty() && other.addresses.is_empty() {
            return self.name == other.name;
        }
        let is_shared = |address| other.addresses.contains(address);
        self.addresses.iter().any(is_shared)
    }
}

/// Removes candidates that are the same host as an earlier one.
pub(super) fn distinct(candidates: impl IntoIterator<Item = Candidate>) -> Vec<Candidate> {
    let mut distinct: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if !distinct.iter().any(|earlier| earlier.is_same(&candidate)) {
            distinct.push(candidate);
        }
    }
    distinct
}

/// Splits `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT` or `IPV6`. The error says what is wrong.
fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let port = |text: &str| match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(port)),
        _ => Err("the port is not 1 to 65535"),
    };
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("] is missing")?;
        if !host.contains(':') {
            return Err("only an IPv6 address may have brackets");
        }
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((host, port(digits)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("only a port may follow ]"),
        };
    }
    let (host, port) = match text.split_once(':') {
        // More than one colon: an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => (text, None),
        Some((host, digits)) => (host, port(digits)?),
        None => (text, None),
    };
    match host {
        "" => Err("the host is missing"),
        host if host.contains(char::is_whitespace) => Err("a host name has no spaces"),
        host => Ok((host, port)),
    }
}

/// Parses an address, perhaps with a zone. `None` for a name; the inner error if the zone is not an
/// interface of this host.
fn parse_ip(host: &str) -> Result<Option<io::Result<SocketAddr>>, &'static str> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Some(Ok((ip, 0).into())));
    }
    if !host.contains(':') {
        return Ok(None);
    }
    let (ip, zone) = host.split_once('%').ok_or("not an IPv6 address")?;
    let ip: Ipv6Addr = ip.parse().map_err(|_| "not an IPv6 address")?;
    Ok(Some(
        interface_index(zone).map(|scope| SocketAddrV6::new(ip, 0, 0, scope).into()),
    ))
}

/// The index of a network interface, by its name or its number.
fn interface_index(zone: &str) -> io::Result<u32> {
    match zone.parse() {
        Ok(index) => Ok(index),
        Err(_) => Ok(nix::net::if_::if_nametoindex(zone)?),
    }
}

fn at_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// The addresses of a host name, or the reason why it has none.
fn look_up(host: &str, port: u16) -> (Vec<SocketAddr>, Option<String>) {
    match (host, port).to_socket_addrs() {
        Ok(found) => {
            let addresses: Vec<SocketAddr> = found.collect();
            let why = addresses
                .is_empty()
                .then(|| "the name has no address".to_owned());
            (addresses, why)
        }
        Err(error) => (Vec::new(), Some(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_resolves() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:1814"),
            ("127.0.0.1:99", "127.0.0.1:99"),
            ("::1", "[::1]:1814"),
            ("[::1]", "[::1]:1814"),
            ("[::1]:99", "[::1]:99"),
            ("fe80::1%7", "[fe80::1%7]:1814"),
            ("[fe80::1%7]:99", "[fe80::1%7]:99"),
            ("localhost:99", "127.0.0.1:99"),
        ] {
            let candidate = Candidate::resolve(text).expect(text);
            let address: SocketAddr = address.parse().expect(address);
            assert!(candidate.addresses().contains(&address), "{candidate:?}");
            assert_eq!(candidate.unresolved(), None);
        }
    }

    #[test]
    fn a_zone_is_an_interface() {
        let lo = nix::net::if_::if_nametoindex("lo").expect("there is a loopback interface");
        let candidate = Candidate::resolve("[fe80::1%lo]:1814").expect("it is an address");
        let SocketAddr::V6(address) = candidate.addresses()[0] else {
            panic!("{candidate:?}");
        };
        assert_eq!((address.scope_id(), address.port()), (lo, 1814));
        // An interface can appear later; the address is well-formed.
        let absent = Candidate::resolve("fe80::1%nosuch0").expect("it is an address");
        assert!(absent.unresolved().is_some() && absent.addresses().is_empty());
    }

    #[test]
    fn other_texts_are_not_addresses() {
        for text in [
            "",
            ":99",
            "127.0.0.1:x",
            "127.0.0.1:",
            "127.0.0.1:+9",
            "no host",
            "[::1",
            "[::1]x",
            "[host]:99",
            "localhost:0",
            "localhost:99999",
            "[::1]:0",
            "1::2::3",
        ] {
            Candidate::resolve(text).expect_err(text);
        }
    }

    #[test]
    fn a_name_without_an_address_is_a_candidate() {
        let candidate = Candidate::resolve("nosuch.invalid").expect("it is a name");
        assert_eq!(candidate.name(), "nosuch.invalid");
        assert!(candidate.addresses().is_empty());
        assert!(candidate.unresolved().is_some());
    }

    #[test]
    fn candidates_with_a_common_address_are_one() {
        let at = |last, port| Candidate::at([127, 0, 0, last].into(), port);
        let resolved = |text| Candidate::resolve(text).expect("it is an address");
        let list = [
            at(1, 1),
            at(1, 2),
            at(2, 1),
            resolved("127.0.0.1:1"),
            at(2, 1),
            resolved("nosuch.invalid"),
            resolved("nosuch.invalid"),
        ];
        let names: Vec<_> = distinct(list)
            .iter()
            .map(|candidate| candidate.addresses().to_vec())
            .collect();
        let address = |last, port| vec![SocketAddr::from(([127, 0, 0, last], port))];
        assert_eq!(
            names,
            [address(1, 1), address(1, 2), address(2, 1), Vec::new()]
        );
    }
}

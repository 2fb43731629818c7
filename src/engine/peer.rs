//! Socket addresses as the kernel writes them.
//!
//! A [`Peer`] keeps the bytes that the kernel delivered, so that a reply goes to exactly that
//! address without conversion, and so that the addresses of two datagrams can be compared as bytes.
//! Layout: `struct sockaddr_in` and `struct sockaddr_in6` (ip(7), ipv6(7)).
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either address family. A dual-stack socket delivers IPv4 peers as mapped IPv6
/// addresses.
pub(super) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

const INET_BYTES: usize = size_of::<libc::sockaddr_in>();
const INET6_BYTES: usize = size_of::<libc::sockaddr_in6>();

const _: () = assert!(NAME_BYTES >= INET_BYTES);

/// The address that a datagram came from, and that its reply is sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Peer {
    /// A `sockaddr_in` or `sockaddr_in6`, then zeros.
    bytes: [u8; NAME_BYTES],
    len: u8,
}

impl Peer {
    /// Parses a `msg_name`; `None` if no reply can be sent there: another family, too short, or
    /// port 0 (which anyone can write into a datagram).
    pub fn parse(name: &[u8]) -> Option<Self> {
        let family = u16::from_ne_bytes(*name.first_chunk()?);
        let len = match i32::from(family) {
            libc::AF_INET => INET_BYTES,
            libc::AF_INET6 => INET6_BYTES,
            _ => return None,
        };
        let name = name.get(..len)?;
        if name[2..4] == [0, 0] {
            return None;
        }
        let mut bytes = [0; NAME_BYTES];
        bytes[..len].copy_from_slice(name);
        Some(Self {
            bytes,
            len: len as u8,
        })
    }

    /// The `sockaddr` for the kernel.
    pub fn name(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// A hash of the address and port, good enough for a small table.
    pub(super) fn fold(&self) -> u64 {
        let (words, _) = self.bytes.as_chunks::<4>();
        words.iter().fold(u64::from(self.len), |hash, word| {
            (hash ^ u64::from(u32::from_ne_bytes(*word))).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        })
    }

    /// The address without the port. On a dual-stack socket, an IPv4 peer has a mapped address.
    pub(super) fn ip(&self) -> IpAddr {
        let b = &self.bytes;
        if usize::from(self.len) == INET_BYTES {
            return Ipv4Addr::new(b[4], b[5], b[6], b[7]).into();
        }
        let address: [u8; 16] = *b[8..].first_chunk().expect("a sockaddr_in6 has 28 bytes");
        Ipv6Addr::from(address).into()
    }

    /// The address for display: an IPv4-mapped address becomes the IPv4 address.
    pub fn socket_addr(&self) -> SocketAddr {
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        match self.ip().to_canonical() {
            IpAddr::V4(address) => SocketAddrV4::new(address, port).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, 0).into(),
        }
    }
}

#[cfg(test)]
impl Peer {
    /// An address as the kernel would write it, for tests of other files.
    pub(super) fn from_socket_addr(address: SocketAddr) -> Self {
        let mut bytes = [0; NAME_BYTES];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, len) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (libc::AF_INET, INET_BYTES)
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (libc::AF_INET6, INET6_BYTES)
            }
        };
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        Self {
            bytes,
            len: len as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_round_trips() {
        for text in ["127.0.0.2:1814", "[::1]:65535", "[2001:db8::1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let peer = Peer::from_socket_addr(address);
            assert_eq!(Peer::parse(peer.name()), Some(peer));
            assert_eq!(peer.socket_addr(), address);
        }
    }

    #[test]
    fn a_mapped_address_reads_as_ipv4() {
        let peer = Peer::from_socket_addr("[::ffff:127.0.0.3]:9".parse().unwrap());
        assert_eq!(peer.socket_addr(), "127.0.0.3:9".parse().unwrap());
        assert_eq!(peer.name().len(), INET6_BYTES);
    }

    #[test]
    fn names_that_cannot_be_replied_to_are_refused() {
        let peer = Peer::from_socket_addr("127.0.0.1:7".parse().unwrap());
        for len in 0..INET_BYTES {
            assert_eq!(Peer::parse(&peer.name()[..len]), None);
        }
        let peer = Peer::from_socket_addr("[::1]:7".parse().unwrap());
        assert_eq!(Peer::parse(&peer.name()[..INET_BYTES]), None);
        assert_eq!(Peer::parse(&[0xff; NAME_BYTES]), None);
        let no_port = Peer::from_socket_addr("127.0.0.1:0".parse().unwrap());
        assert_eq!(Peer::parse(no_port.name()), None);
    }
}

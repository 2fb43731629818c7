//! Control messages: the address that a datagram was sent to, the kernel's drop counter, and the
//! GSO segment size.
//!
//! They are built and parsed as bytes of the kernel's ABI (`include/linux/socket.h`: `struct
//! cmsghdr { size_t cmsg_len; int cmsg_level; int cmsg_type; }` followed by data, everything
//! aligned to `size_t`). So this needs no unsafe code, and a malformed message is ignored. Sources:
//! cmsg(3), ip(7) `IP_PKTINFO`, RFC 3542 section 6.1 `IPV6_PKTINFO`, udp(7) `UDP_SEGMENT`,
//! socket(7) `SO_RXQ_OVFL`.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr};

const ALIGN: usize = size_of::<usize>();
const HEADER_BYTES: usize = size_of::<usize>() + 2 * size_of::<i32>();
const IN_PKTINFO_BYTES: usize = size_of::<libc::in_pktinfo>();
const IN6_PKTINFO_BYTES: usize = size_of::<libc::in6_pktinfo>();

/// Bytes of control data reserved for each received datagram: both packet infos, which a dual-stack
/// socket gets for a datagram over IPv4, and the drop counter.
pub(super) const RECEIVED_BYTES: usize =
    space(IN6_PKTINFO_BYTES) + space(IN_PKTINFO_BYTES) + space(size_of::<u32>());

/// Most bytes of control data that are sent with a reply: the larger packet info and a segment
/// size.
const SENT_BYTES: usize = space(IN6_PKTINFO_BYTES) + space(size_of::<u16>());

/// Bytes that a control message with `data` bytes occupies (`CMSG_SPACE`).
const fn space(data: usize) -> usize {
    HEADER_BYTES + data.next_multiple_of(ALIGN)
}

/// The address from which a reply is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalAddr {
    /// Chosen by the kernel: the socket is bound to one address, or the datagram was sent to a
    /// group.
    #[default]
    Any,
    /// The address that was asked, of an IPv4 socket.
    V4(Ipv4Addr),
    /// The address that was asked, of an IPv6 socket; IPv4-mapped if a dual-stack socket was asked
    /// over IPv4.
    V6(Ipv6Addr),
}

/// The control data of a received datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecvControl {
    /// The local address that was asked, or that answers for the group that was asked.
    pub local_addr: LocalAddr,
    /// Whether the datagram was sent to a broadcast or multicast address.
    pub is_group: bool,
    /// Datagrams that this socket has lost because its receive buffer was full, modulo 2^32; absent
    /// before the first loss.
    pub overruns: Option<u32>,
}

impl RecvControl {
    /// Parses control data. Skips unknown messages, and stops at the first malformed one.
    pub fn parse(mut control: &[u8]) -> Self {
        let mut received = Self::default();
        while let Some((level, kind, data, rest)) = split_first(control) {
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    if let Some((local, asked)) = parse_in_pktinfo(data) {
                        received.local_addr = local_v4(local);
                        // The addresses of a datagram to one host are equal
                        // (`fib_compute_spec_dst` in net/ipv4/fib_frontend.c).
                        received.is_group |=
                            is_v4_group(asked) || (asked != local && !asked.is_unspecified());
                    }
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    if let Some(octets) = data.first_chunk::<16>() {
                        received.note_v6((*octets).into());
                    }
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    received.overruns = data.first_chunk().map(|b| u32::from_ne_bytes(*b));
                }
                _ => {}
            }
            control = rest;
        }
        received
    }
}

impl RecvControl {
    /// Records the destination in the packet info of an IPv6 socket. For a datagram over IPv4 the
    /// IPv4 packet info takes precedence: this one has the address of the group, from which no
    /// reply can be sent.
    fn note_v6(&mut self, asked: Ipv6Addr) {
        self.is_group |= asked.is_multicast() || asked.to_ipv4_mapped().is_some_and(is_v4_group);
        if self.local_addr == LocalAddr::Any {
            self.local_addr = local_v6(asked);
        }
    }
}

/// `ipi_spec_dst`, which is a local address whatever was asked, and `ipi_addr`, the destination of
/// the datagram (`struct in_pktinfo`, ip(7)).
fn parse_in_pktinfo(data: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let address = |at: usize| data.get(at..)?.first_chunk::<4>().copied();
    Some((address(4)?.into(), address(8)?.into()))
}

fn is_v4_group(address: Ipv4Addr) -> bool {
    address.is_multicast() || address.is_broadcast()
}

fn local_v4(address: Ipv4Addr) -> LocalAddr {
    if address.is_unspecified() || is_v4_group(address) {
        LocalAddr::Any
    } else {
        LocalAddr::V4(address)
    }
}

fn local_v6(address: Ipv6Addr) -> LocalAddr {
    if address.is_unspecified() || address.is_multicast() {
        return LocalAddr::Any;
    }
    match address.to_ipv4_mapped().map(local_v4) {
        Some(LocalAddr::Any) => LocalAddr::Any,
        _ => LocalAddr::V6(address),
    }
}

/// Level, type and data of the first message, and the bytes after it.
fn split_first(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let (len, after) = control.split_first_chunk()?;
    let (level, after) = after.split_first_chunk()?;
    let (kind, _) = after.split_first_chunk()?;
    let len = usize::from_ne_bytes(*len);
    let data = control.get(HEADER_BYTES..len)?;
    let rest = control.get(len.next_multiple_of(ALIGN)..).unwrap_or(&[]);
    Some((
        i32::from_ne_bytes(*level),
        i32::from_ne_bytes(*kind),
        data,
        rest,
    ))
}

/// The control data of one send.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct SendControl {
    bytes: [u8; SENT_BYTES],
    len: usize,
}

impl SendControl {
    /// No control data.
    pub(super) const EMPTY: Self = Self {
        bytes: [0; SENT_BYTES],
        len: 0,
    };

    /// Control data that sends from `local_addr`, split into datagrams of `segment_bytes` if given.
    pub fn new(local_addr: LocalAddr, segment_bytes: Option<u16>) -> Self {
        let mut control = Self::EMPTY;
        match local_addr {
            LocalAddr::Any => {}
            LocalAddr::V4(address) => {
                // No interface index: routing decides, as for any reply.
                let mut info = [0; IN_PKTINFO_BYTES];
                info[4..8].copy_from_slice(&address.octets());
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            LocalAddr::V6(address) => {
                // The interface of a link-local peer is in its sin6_scope_id.
                let mut info = [0; IN6_PKTINFO_BYTES];
                info[..16].copy_from_slice(&address.octets());
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
        if let Some(segment_bytes) = segment_bytes {
            control.push(
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                &segment_bytes.to_ne_bytes(),
            );
        }
        control
    }

    /// The bytes of `msg_control`; empty if there are no messages.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let message = &mut self.bytes[self.len..][..space(data.len())];
        let len = HEADER_BYTES + data.len();
        message[..ALIGN].copy_from_slice(&len.to_ne_bytes());
        message[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        message[ALIGN + 4..HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
        message[HEADER_BYTES..len].copy_from_slice(data);
        self.len += space(data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_data_round_trips() {
        for local_addr in [
            LocalAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
            LocalAddr::V6(Ipv6Addr::LOCALHOST),
            LocalAddr::V6(Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped()),
            LocalAddr::Any,
        ] {
            let control = SendControl::new(local_addr, Some(400));
            assert_eq!(
                RecvControl::parse(control.as_bytes()).local_addr,
                local_addr
            );
        }
        assert!(SendControl::new(LocalAddr::Any, None).as_bytes().is_empty());
    }

    #[test]
    fn group_addresses_are_not_used_for_replies() {
        for address in ["224.0.0.1", "255.255.255.255", "0.0.0.0"] {
            let v4: Ipv4Addr = address.parse().unwrap();
            assert_eq!(local_v4(v4), LocalAddr::Any);
            assert_eq!(local_v6(v4.to_ipv6_mapped()), LocalAddr::Any);
        }
        assert_eq!(local_v6("ff02::1".parse().unwrap()), LocalAddr::Any);
    }

    #[test]
    fn the_drop_counter_follows_packet_info() {
        let mut control = SendControl::new(LocalAddr::V4(Ipv4Addr::LOCALHOST), None);
        control.push(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes());
        assert_eq!(
            RecvControl::parse(control.as_bytes()),
            RecvControl {
                local_addr: LocalAddr::V4(Ipv4Addr::LOCALHOST),
                is_group: false,
                overruns: Some(7)
            }
        );
    }

    /// The packet info of a datagram to `asked`, received by the host `local`.
    fn in_pktinfo(local: [u8; 4], asked: [u8; 4]) -> [u8; IN_PKTINFO_BYTES] {
        let mut info = [0; IN_PKTINFO_BYTES];
        info[4..8].copy_from_slice(&local);
        info[8..].copy_from_slice(&asked);
        info
    }

    #[test]
    fn datagrams_to_groups_are_recognized() {
        let local = [10, 0, 0, 1];
        for (asked, is_group) in [
            (local, false),
            ([10, 0, 0, 255], true),
            ([255, 255, 255, 255], true),
            ([224, 0, 0, 1], true),
        ] {
            let mut control = SendControl::EMPTY;
            control.push(
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                &in_pktinfo(local, asked),
            );
            let parsed = RecvControl::parse(control.as_bytes());
            assert_eq!(parsed.local_addr, LocalAddr::V4(local.into()));
            assert_eq!(parsed.is_group, is_group, "{asked:?}");
        }
        let control = SendControl::new(LocalAddr::V6("ff02::1".parse().unwrap()), None);
        assert!(RecvControl::parse(control.as_bytes()).is_group);
        let control = SendControl::new(LocalAddr::V6(Ipv6Addr::LOCALHOST), None);
        assert!(!RecvControl::parse(control.as_bytes()).is_group);
    }

    #[test]
    fn a_dual_stack_socket_answers_a_broadcast_from_its_own_address() {
        let (local, asked) = ([10, 0, 0, 1], [10, 0, 0, 255]);
        let mut v6 = [0; IN6_PKTINFO_BYTES];
        v6[..16].copy_from_slice(&Ipv4Addr::from(asked).to_ipv6_mapped().octets());
        let v4 = in_pktinfo(local, asked);
        let messages: [(i32, i32, &[u8]); 2] = [
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &v6),
            (libc::IPPROTO_IP, libc::IP_PKTINFO, &v4),
        ];
        for order in [[0, 1], [1, 0]] {
            let mut control = Vec::new();
            for (level, kind, data) in order.map(|at: usize| messages[at]) {
                let mut message = SendControl::EMPTY;
                message.push(level, kind, data);
                control.extend_from_slice(message.as_bytes());
            }
            let parsed = RecvControl::parse(&control);
            assert_eq!(parsed.local_addr, LocalAddr::V4(local.into()));
            assert!(parsed.is_group);
        }
    }

    #[test]
    fn malformed_control_data_is_survived() {
        let control = SendControl::new(LocalAddr::V6(Ipv6Addr::LOCALHOST), Some(9));
        let bytes = control.as_bytes();
        for cut in 0..bytes.len() {
            RecvControl::parse(&bytes[..cut]);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut malformed = bytes.to_vec();
                malformed[at] = value;
                RecvControl::parse(&malformed);
            }
        }
        RecvControl::parse(&[0; RECEIVED_BYTES]);
        RecvControl::parse(&[0xff; RECEIVED_BYTES]);
    }

    #[test]
    fn the_layout_is_that_of_the_c_library() {
        assert_eq!(HEADER_BYTES, size_of::<libc::cmsghdr>());
        assert_eq!(ALIGN, align_of::<libc::cmsghdr>());
        assert_eq!(libc::IPPROTO_IPV6, libc::SOL_IPV6);
    }
}

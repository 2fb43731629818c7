//! Whatever the kernel writes into a receive buffer, the engine finds the same datagram as a slow
//! parser, inside the buffer and followed by the general parser's padding; or both find none.
//!
//! The first two bytes are the length that the kernel reports, the others are what it wrote.
//!
//! Source: `struct io_uring_recvmsg_out` (include/uapi/linux/io_uring.h), cmsg(3), ip(7), ipv6(7),
//! socket(7).

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ganeti_confd::protocol::PADDING;
use ganeti_confd::testing::engine::{LocalAddr, Peer, RecvBuffers, RecvControl, SendControl};

const HEADER_BYTES: usize = 16;
const NAME_BYTES: usize = 28;
/// `CMSG_SPACE` of a `struct in6_pktinfo`, a `struct in_pktinfo` and a counter.
const CONTROL_BYTES: usize = (16 + 24) + (16 + 16) + (16 + 8);
const PAYLOAD_AT: usize = HEADER_BYTES + NAME_BYTES + CONTROL_BYTES;
const PAYLOAD_BYTES_MAX: usize = 61_440 + 1;
const KERNEL_BYTES: usize = PAYLOAD_AT + PAYLOAD_BYTES_MAX;

const MSG_TRUNC: u32 = 0x20;

/// A datagram found in a buffer.
#[derive(Debug, PartialEq)]
struct Found<'a> {
    peer: SocketAddr,
    control: RecvControl,
    truncated: bool,
    payload: &'a [u8],
}

/// The buffers, and the bytes to write: the input, then zeros.
struct Kernel {
    buffers: RecvBuffers,
    /// Buffers taken since start, modulo 2^16.
    head: u16,
    image: Vec<u8>,
}

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::new(Kernel {
        buffers: RecvBuffers::new(2).expect("memory for two buffers"),
        head: 0,
        image: vec![0; KERNEL_BYTES],
    });
}

/// Writes `bytes` to a buffer and looks for a datagram.
pub fn check(bytes: &[u8]) {
    let Some((&written, bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let written = usize::from(u16::from_le_bytes(written));
    let bytes = &bytes[..bytes.len().min(KERNEL_BYTES)];
    control(bytes);
    name(bytes.get(HEADER_BYTES..).unwrap_or_default());
    KERNEL.with_borrow_mut(|kernel| {
        kernel.deliver(bytes, written);
    });
}

impl Kernel {
    fn deliver(&mut self, bytes: &[u8], written: usize) {
        let Self {
            buffers,
            head,
            image,
        } = self;
        let entry = buffers
            .published(*head)
            .expect("one buffer is published at least");
        *head = head.wrapping_add(1);
        assert_eq!(entry.len, KERNEL_BYTES);
        image[..bytes.len()].copy_from_slice(bytes);
        buffers.write(entry.id, &image[..bytes.len()]);
        let expected = find(&image[..written.min(KERNEL_BYTES)]);
        let lease = buffers.lease(entry.id, written);
        let mut lease = lease.expect("the kernel has the buffer");
        let found = lease.received().map(|received| {
            let padded = received.buffer.len() >= received.len + PADDING;
            assert!(padded, "no padding");
            Found {
                peer: received.peer.socket_addr(),
                control: received.control,
                truncated: received.truncated,
                payload: &received.buffer[..received.len],
            }
        });
        assert_eq!(found, expected);
        drop(lease);
        image[..bytes.len()].fill(0);
        buffers.publish();
        // Restores zeros for the next input.
        buffers.write(entry.id, &image[..bytes.len()]);
    }
}

/// Parses `bytes` as control messages, and checks the control messages of a reply.
fn control(bytes: &[u8]) {
    let parsed = RecvControl::parse(bytes);
    assert_eq!(parsed, read_control(bytes));
    let local_addr = parsed.local_addr;
    let segment = parsed.overruns.map(|count| count as u16);
    let sent = SendControl::new(local_addr, segment);
    let sent = sent.as_bytes();
    assert_eq!(read_messages(sent), messages(local_addr, segment));
    assert_eq!(sent.len() % 8, 0, "the kernel expects padded messages");
    assert_eq!(RecvControl::parse(sent).local_addr, local_addr);
}

/// The control messages that a send must have: local address and segment size.
fn messages(source: LocalAddr, segment: Option<u16>) -> Vec<(i32, i32, Vec<u8>)> {
    let source = match source {
        LocalAddr::Any => None,
        // No interface; the kernel ignores the header's address.
        LocalAddr::V4(v4) => Some((0, 8, [[0; 4], v4.octets(), [0; 4]].concat())),
        LocalAddr::V6(v6) => Some((41, 50, [&v6.octets()[..], &[0; 4]].concat())),
    };
    // SOL_UDP, UDP_SEGMENT.
    let segment = segment.map(|bytes| (17, 103, bytes.to_ne_bytes().to_vec()));
    source.into_iter().chain(segment).collect()
}

/// Parses `bytes` as a peer's name; a reply must be sent to exactly these bytes.
fn name(bytes: &[u8]) {
    let expected = read_peer(bytes).map(|peer| {
        let len = if bytes[0] == 2 { 16 } else { NAME_BYTES };
        (peer, bytes[..len].to_vec())
    });
    let peer = Peer::parse(bytes).map(|peer| (peer.socket_addr(), peer.name().to_vec()));
    assert_eq!(peer, expected);
}

fn find(image: &[u8]) -> Option<Found<'_>> {
    let field = |at: usize| {
        let bytes = image.get(4 * at..4 * at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let payload = image.get(PAYLOAD_AT..)?;
    let cut = |at: usize, len: u32, max: usize| &image[at..at + max.min(len as usize)];
    let name = cut(HEADER_BYTES, field(0)?, NAME_BYTES);
    let control = cut(HEADER_BYTES + NAME_BYTES, field(1)?, CONTROL_BYTES);
    Some(Found {
        peer: read_peer(name)?,
        control: read_control(control),
        truncated: field(3)? & MSG_TRUNC != 0,
        payload: &payload[..payload.len().min(field(2)? as usize)],
    })
}

/// A `sockaddr_in` or `sockaddr_in6` with a port; an IPv4-mapped address is an IPv4 address.
fn read_peer(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    let address: IpAddr = match family {
        2 if name.len() >= 16 => <[u8; 4]>::try_from(&name[4..8]).ok()?.into(),
        10 if name.len() >= 28 => <[u8; 16]>::try_from(&name[8..24]).ok()?.into(),
        _ => return None,
    };
    (port != 0).then(|| SocketAddr::new(address.to_canonical(), port))
}

/// Level, type and data of a sequence of messages. Each has a `size_t` length, level, type, data,
/// and padding to the next `size_t`.
fn read_messages(mut rest: &[u8]) -> Vec<(i32, i32, Vec<u8>)> {
    let mut messages = Vec::new();
    while rest.len() >= 16 {
        let len = u64::from_ne_bytes(rest[..8].try_into().expect("eight bytes"));
        let Some(len) = usize::try_from(len)
            .ok()
            .filter(|len| (16..=rest.len()).contains(len))
        else {
            break;
        };
        let int = |at: usize| i32::from_ne_bytes(rest[at..at + 4].try_into().expect("four bytes"));
        messages.push((int(8), int(12), rest[16..len].to_vec()));
        let padding = (8 - len % 8) % 8;
        rest = &rest[(len + padding).min(rest.len())..];
    }
    messages
}

/// The drop counter, from the last message that has it; the local address, from the last IPv4
/// packet info, or else from the first IPv6 one; and whether any message has a group's address.
fn read_control(bytes: &[u8]) -> RecvControl {
    let mut found = RecvControl::default();
    for (level, kind, data) in read_messages(bytes) {
        match (level, kind) {
            // IPPROTO_IP, IP_PKTINFO: interface, local address, the header's address.
            (0, 8) if data.len() >= 12 => {
                let address = |at: usize| <[u8; 4]>::try_from(&data[at..at + 4]);
                let local = address(4).expect("four bytes").into();
                let asked = address(8).expect("four bytes").into();
                found.local_addr = usable(IpAddr::V4(local));
                let differ = local != asked && asked != Ipv4Addr::UNSPECIFIED;
                found.is_group |= differ || is_group(IpAddr::V4(asked));
            }
            // IPPROTO_IPV6, IPV6_PKTINFO: local address, interface.
            (41, 50) if data.len() >= 16 => {
                let address: [u8; 16] = data[..16].try_into().expect("sixteen bytes");
                let asked = IpAddr::V6(address.into());
                found.is_group |= is_group(asked);
                if found.local_addr == LocalAddr::Any {
                    found.local_addr = usable(asked);
                }
            }
            // SOL_SOCKET, SO_RXQ_OVFL.
            (1, 40) => {
                found.overruns = data.first_chunk().map(|count| u32::from_ne_bytes(*count));
            }
            _ => {}
        }
    }
    found
}

fn is_group(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4 == Ipv4Addr::BROADCAST || v4.octets()[0] >> 4 == 14,
        IpAddr::V6(v6) => v6.octets()[0] == 0xff,
    }
}

/// The address, if a reply can be sent from it.
fn usable(address: IpAddr) -> LocalAddr {
    match address {
        _ if is_group(address) || address.to_canonical().is_unspecified() => LocalAddr::Any,
        IpAddr::V4(v4) => LocalAddr::V4(v4),
        IpAddr::V6(v6) => LocalAddr::V6(v6),
    }
}

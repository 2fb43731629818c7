//! The requests in a capture of network traffic, in the formats pcap and pcapng.
//!
//! Of each packet, only what begins with the fourcc of confd is read, so every link type and both
//! IP versions are accepted. Replies and other traffic are ignored. A request that was fragmented
//! or cut off by the capture is not readable.

use memchr::memmem;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

/// The start of every datagram of confd.
const START: &[u8] = b"plj0{";

/// What only replies have.
const OF_REPLIES: &[u8] = br#"\"status\""#;

/// The buffer of the reader; the longest packet must fit.
const BUFFER_BYTES: usize = 1 << 20;

/// Whether a file is a capture, by its first bytes.
pub(super) fn is_capture(file: &[u8]) -> bool {
    let magics = [
        0xa1b2_c3d4_u32,
        0xd4c3_b2a1,
        0xa1b2_3c4d,
        0x4d3c_b2a1,
        0x0a0d_0d0a,
    ];
    let first = file.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    first.is_some_and(|first| magics.contains(&first))
}

/// Passes the datagrams of confd in a capture to `take`, each with the number of its packet, from
/// 1. Replies are left out.
///
/// # Errors
///
/// The capture is damaged; what precedes the damage has been passed.
pub(super) fn read(file: &[u8], mut take: impl FnMut(usize, &[u8])) -> Result<(), String> {
    let mut reader = create_reader(BUFFER_BYTES, file).map_err(|error| damage(&error))?;
    let (mut number, mut is_refilled) = (0, false);
    loop {
        match reader.next() {
            Ok((len, block)) => {
                if let Some(packet) = packet(&block) {
                    number += 1;
                    datagrams(packet).for_each(|datagram| take(number, datagram));
                }
                reader.consume(len);
                is_refilled = false;
            }
            Err(PcapError::Eof) => return Ok(()),
            // A second time in a row, there is nothing more to read.
            Err(PcapError::Incomplete(_)) if !is_refilled => {
                reader.refill().map_err(|error| damage(&error))?;
                is_refilled = true;
            }
            Err(PcapError::Incomplete(_)) => return Err("the capture is cut off".into()),
            Err(error) => return Err(damage(&error)),
        }
    }
}

/// What is wrong, without the bytes of the file.
fn damage(error: &PcapError<&[u8]>) -> String {
    match error {
        PcapError::NomError(_, kind) | PcapError::OwnedNomError(_, kind) => {
            format!("the capture is damaged: {kind:?}")
        }
        PcapError::BufferTooSmall => "the capture has a block of more than 1 MB".into(),
        _ => "the capture is damaged or cut off".into(),
    }
}

/// The bytes of a packet; `None` for a block of another kind.
fn packet<'b>(block: &'b PcapBlockOwned<'_>) -> Option<&'b [u8]> {
    match block {
        PcapBlockOwned::Legacy(packet) => Some(packet.data),
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            // The data is padded to a multiple of four bytes.
            Some(&packet.data[..packet.data.len().min(packet.caplen as usize)])
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => Some(packet.data),
        _ => None,
    }
}

/// The requests in a packet. Several of a GSO send share one on a loopback interface.
fn datagrams(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> = memmem::find_iter(packet, START).collect();
    let ends: Vec<usize> = starts
        .iter()
        .skip(1)
        .copied()
        .chain([packet.len()])
        .collect();
    let datagrams = starts.into_iter().zip(ends);
    let datagrams = datagrams.map(|(start, end)| &packet[start..end]);
    datagrams.filter(|datagram| memmem::find(datagram, OF_REPLIES).is_none())
}

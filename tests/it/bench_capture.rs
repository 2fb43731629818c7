//! The service times of `confdctl bench`, compared with a capture of its datagrams on a loopback
//! interface of their own.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};

use crate::common::namespace::{IP, Namespace, namespaces_available};
use crate::load::{Generator, count, daemon, words};

/// The offsets of the UDP ports and of the payload in an Ethernet frame with IPv4.
const DESTINATION_PORT: usize = 14 + 20 + 2;
const PAYLOAD: usize = 14 + 20 + 8;

/// Holds all frames of a second, so that nothing needs to read them during the run.
const BUFFER_BYTES: usize = 256 << 20;

/// The longest frame, of a datagram that is not segmented.
const FRAME_BYTES_MAX: usize = 66_000;

/// The length of a reply salt.
const RSALT_BYTES: usize = 36;

/// Captures all frames in the network namespace of this thread.
struct Capture(OwnedFd);

impl Capture {
    fn start() -> Self {
        let family = AddressFamily::Packet;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Raw, flags, SockProtocol::EthAll);
        let socket = socket.expect("root may capture");
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).expect("root may set it");
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("every kernel has it");
        Self(socket)
    }

    /// The captured frames, each with its time since the epoch. Loopback shows each frame twice.
    fn frames(self) -> impl Iterator<Item = (Duration, Vec<u8>)> {
        std::iter::from_fn(move || {
            let mut frame = vec![0; FRAME_BYTES_MAX];
            let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
            let mut slices = [IoSliceMut::new(&mut frame)];
            let message = recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::empty(),
            )
            .ok()?;
            let stamp = message.cmsgs().ok()?.find_map(|control| match control {
                ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                _ => None,
            })?;
            let len = message.bytes;
            frame.truncate(len);
            Some((stamp, frame))
        })
    }
}

/// The reply salts in a frame, which look like UUIDs. The daemon's replies to one client may share
/// a frame, because loopback does not segment them.
fn rsalts(payload: &[u8]) -> Vec<Vec<u8>> {
    let is_salt = |text: &&[u8]| {
        let mut bytes = text.iter().enumerate();
        bytes.all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    let texts = payload.windows(RSALT_BYTES);
    texts.filter(is_salt).map(<[u8]>::to_vec).collect()
}

/// The times from each captured request to its reply, sorted.
fn round_trips(capture: Capture, port: u16) -> Vec<Duration> {
    let mut requests = HashMap::new();
    let mut replies = HashMap::new();
    for (stamp, frame) in capture.frames() {
        let Some(payload) = frame.get(PAYLOAD..).filter(|it| it.starts_with(b"plj0")) else {
            continue;
        };
        let to = [frame[DESTINATION_PORT], frame[DESTINATION_PORT + 1]];
        let is_request = u16::from_be_bytes(to) == port;
        let seen = if is_request {
            &mut requests
        } else {
            &mut replies
        };
        for rsalt in rsalts(payload) {
            seen.entry(rsalt).or_insert(stamp);
        }
    }
    let mut times: Vec<Duration> = requests
        .iter()
        .filter_map(|(rsalt, request)| replies.get(rsalt)?.checked_sub(*request))
        .collect();
    times.sort();
    times
}

#[test]
fn service_times_are_those_of_a_capture() {
    if !namespaces_available(&[IP]) {
        return;
    }
    let namespace = Namespace::new().expect("namespaces are available");
    namespace.ip("link set lo up\n");
    let entered = namespace.enter();
    let daemon = daemon();
    let capture = Capture::start();
    let arguments = words("--rate 5k --duration 1s --warm-up 0s --mix ping --quiet");
    let results = Generator::new().json(&[daemon.address()], &arguments);
    drop(entered);

    let answered = count(&results, "answered");
    let times = round_trips(capture, daemon.address().port());
    // The daemon's own test at its start is a ping as well.
    assert!(
        times.len() as u64 >= answered,
        "{} of {answered}",
        times.len()
    );
    let stamped = count(&results, "stamped");
    assert!(
        stamped as f64 >= 0.99 * answered as f64,
        "{stamped} of {answered}"
    );

    let captured = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let service = &results["load"]["service"]["percentiles_ns"];
    let measured = |percent: &str| {
        let ns = service[percent].as_u64().expect("a number");
        Duration::from_nanos(ns)
    };
    let latency = &results["load"]["latency"]["percentiles_ns"];
    eprintln!("percentile, capture, service, from the schedule (ns)");
    for (percent, name) in [(50, "50"), (90, "90"), (99, "99")] {
        let (captured, measured) = (captured(percent), measured(name));
        eprintln!("p{percent} {captured:?} {measured:?} {}", latency[name]);
    }
    // The tails are a few requests, which other work on the machine delays between two stamps.
    for (percent, name) in [(50, "50"), (90, "90")] {
        let ratio = measured(name).as_secs_f64() / captured(percent).as_secs_f64();
        assert!((0.85..=1.15).contains(&ratio), "p{percent}: {ratio}");
    }
}

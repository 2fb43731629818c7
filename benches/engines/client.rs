//! The client: keeps a number of requests in flight, over a number of sockets, until all are
//! answered.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::server::{Protocol, Server, bind};

/// Longest time to wait for a reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request without a reply after this time counts as lost, and is sent again.
const LOST: Duration = Duration::from_millis(200);
/// The client sends several requests with one call (`UDP_SEGMENT`). Otherwise it would be slower
/// than the servers.
const TRAIN_MAX: usize = 64;

/// A load.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) sockets: usize,
    pub(crate) in_flight: usize,
    pub(crate) requests: usize,
}

/// The result of one round.
pub(crate) struct Round {
    /// CPU time of the server for each request, in microseconds.
    pub(crate) cpu: f64,
    /// Answered requests per second.
    pub(crate) rate: f64,
    /// The median round trip in microseconds, if requests were sent one by one.
    pub(crate) round_trip: f64,
    /// Lost datagrams, in percent of the requests.
    pub(crate) lost: f64,
}

pub(crate) fn round(server: &Server, load: &Load) -> Round {
    let sockets: Vec<UdpSocket> = (0..load.sockets)
        .map(|_| {
            let socket = bind();
            socket.connect(server.address).expect("loopback works");
            socket
                .set_nonblocking(load.in_flight > 1)
                .expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
            socket
        })
        .collect();
    let request = server.speaks.request();
    let (before, begin) = (server.cpu(), Instant::now());
    let (round_trip, lost) = if load.in_flight == 1 {
        (
            one_at_a_time(&sockets[0], server.speaks, &request, load.requests),
            0,
        )
    } else {
        (
            f64::NAN,
            keep_in_flight(&sockets, server.speaks, &request, load),
        )
    };
    let (cpu, took) = (server.cpu() - before, begin.elapsed());
    let requests = load.requests as f64;
    Round {
        cpu: cpu.as_secs_f64() * 1e6 / requests,
        rate: requests / took.as_secs_f64(),
        round_trip,
        lost: lost as f64 / requests * 100.0,
    }
}

fn one_at_a_time(socket: &UdpSocket, speaks: Protocol, request: &[u8], count: usize) -> f64 {
    let mut reply = [0; 2048];
    let mut round_trips: Vec<f64> = (0..count)
        .map(|_| {
            let begin = Instant::now();
            socket.send(request).expect("loopback works");
            let len = socket.recv(&mut reply).expect("a reply");
            let took = begin.elapsed();
            assert!(speaks.is_reply(&reply[..len]));
            took.as_secs_f64() * 1e6
        })
        .collect();
    median(&mut round_trips)
}

/// Sends a new request for every reply, until all requests are answered.
///
/// Returns the number of requests that were sent again because no reply came.
fn keep_in_flight(sockets: &[UdpSocket], speaks: Protocol, request: &[u8], load: &Load) -> usize {
    let each = load.in_flight / sockets.len();
    let train = request.repeat(TRAIN_MAX);
    let send = |socket: &UdpSocket, mut count: usize| {
        while count > 0 {
            let now = count.min(TRAIN_MAX);
            let bytes = &train[..now * request.len()];
            socket.send(bytes).expect("loopback works");
            count -= now;
        }
    };
    let (mut sent, mut answered, mut lost) = (0, 0, 0);
    for socket in sockets {
        setsockopt(socket, sockopt::UdpGsoSegment, &(request.len() as i32)).expect("Linux 4.18");
        send(socket, each);
        sent += each;
    }
    let mut reply = [0; 2048];
    let mut last = Instant::now();
    while answered < load.requests {
        let mut any = false;
        for socket in sockets {
            let mut free = 0;
            loop {
                match socket.recv(&mut reply) {
                    Ok(len) => {
                        assert!(speaks.is_reply(&reply[..len]));
                        free += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            answered += free;
            any |= free > 0;
            let next = free.min(load.requests.saturating_sub(sent));
            send(socket, next);
            sent += next;
        }
        if any {
            last = Instant::now();
        } else if last.elapsed() > LOST {
            // A socket's send buffer was full.
            assert!(lost < load.requests, "the server does not answer");
            for socket in sockets.iter().cycle().take(sent - answered) {
                socket.send(request).expect("loopback works");
                lost += 1;
            }
            last = Instant::now();
        }
    }
    lost
}

/// Datagrams in a group before its ping. The answer to the ping shows that the server has processed
/// the group.
pub(crate) const FILLERS: usize = 15;
const FILLER_SOCKETS: usize = 64;
const FILLER_ROUNDS: usize = 100;

/// CPU time of the server for each `filler`, in microseconds, with a ping after every fifteen of
/// them. With an empty `filler` only the pings are sent, and the time is that of a ping.
pub(crate) fn cpu_of_fillers(server: &Server, filler: &[u8], is_answered: bool) -> f64 {
    let ping = server.speaks.request();
    let train = [filler.repeat(FILLERS), ping.clone()].concat();
    let replies = if is_answered { FILLERS + 1 } else { 1 };
    let sockets: Vec<UdpSocket> = (0..FILLER_SOCKETS)
        .map(|_| {
            let socket = bind();
            socket.connect(server.address).expect("loopback works");
            socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
            setsockopt(&socket, sockopt::UdpGsoSegment, &(ping.len() as i32)).expect("Linux 4.18");
            socket
        })
        .collect();
    let mut reply = [0; 2048];
    let before = server.cpu();
    for _ in 0..FILLER_ROUNDS {
        for socket in &sockets {
            socket.send(&train).expect("loopback works");
        }
        for socket in &sockets {
            for _ in 0..replies {
                socket.recv(&mut reply).expect("a reply");
            }
        }
    }
    let spent = (server.cpu() - before).as_secs_f64() * 1e6;
    let groups = (FILLER_SOCKETS * FILLER_ROUNDS) as f64;
    spent / groups
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

//! The client: keeps so many requests in flight, over so many sockets, until so many are answered.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::server::{Protocol, Server, bind};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What does not come back within this time is lost, and asked again.
const LOST: Duration = Duration::from_millis(200);
/// Several requests leave in one call, cut into datagrams by the kernel: or the client would be slower than the servers.
const TRAIN_MAX: usize = 64;

/// What the client does.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) sockets: usize,
    pub(crate) in_flight: usize,
    pub(crate) requests: usize,
}

/// What a round of a load gave.
pub(crate) struct Round {
    /// The server's CPU time for each request, in microseconds.
    pub(crate) cpu: f64,
    /// Requests answered in a second.
    pub(crate) rate: f64,
    /// The median round trip in microseconds, if requests went one by one.
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

/// Sends a request for every reply, until all are answered.
///
/// Gives the number of those that were asked again, as nothing came.
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
            // A socket's queue was full.
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

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

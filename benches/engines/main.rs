//! The cost of a request to the server, compared with a bare echo, by engine: CPU time and rate.
//!
//! All servers run in turns in one process, each on its own thread on the first core; the client
//! runs on the second. A round sends a number of requests and receives their replies; the median
//! of the rounds counts. CPU time is that of the server's thread, user and system, as the scheduler
//! accounts it. On loopback it includes the delivery of the reply to the client's socket, because
//! the sender does that work.
//!
//! The echoes return every datagram unchanged. `ring echo` is this crate's engine with a handler
//! that copies, sending replies one by one; `ring echo, GSO` is the same engine with one send for
//! several replies to one peer. `blocking`, `mmsg` and `tokio-uring` are written here, as simply as
//! possible, so that the engines are not only measured against themselves.
//!
//! With Debian's packages `ganeti-haskell-3.0`, `knot` and `nsd` installed, the bench measures the
//! reference daemon and two DNS servers as well.
//!
//! `cargo bench --bench engines` takes about two minutes.

mod client;
#[path = "../cores.rs"]
mod cores;
mod echo;
#[path = "../node.rs"]
mod node;
mod process;
mod server;

use std::sync::Arc;

use arc_swap::ArcSwap;
use ganeti_confd::demo;
use ganeti_confd::engine::{EngineKind, Workers};
use ganeti_confd::protocol::Key;
use ganeti_confd::responder::{Responder, Served};
use ganeti_confd::snapshot::Snapshot;
use nix::unistd::gettid;

use client::{FILLERS, Load, Round, cpu_of_fillers, median, round};
use cores::{CLIENT_CORE, pin};
use echo::{Echo, Gso, blocking, mmsg, on_thread, tokio_uring, worker};
use node::KEY;
use server::{Protocol, Server};

/// The server that the others are compared with: an echo on this crate's ring that sends replies
/// one by one.
const FLOOR: &str = "ring echo";
const ROUNDS: usize = 7;

const LOADS: [Load; 4] = [
    Load {
        name: "many clients (512 sockets, one request each in flight)",
        sockets: 512,
        in_flight: 512,
        requests: 100_000,
    },
    Load {
        name: "scattered clients (64 sockets, 512 in flight)",
        sockets: 64,
        in_flight: 512,
        requests: 100_000,
    },
    Load {
        name: "one client (1 socket, 512 in flight)",
        sockets: 1,
        in_flight: 512,
        requests: 100_000,
    },
    Load {
        name: "one request at a time",
        sockets: 1,
        in_flight: 1,
        requests: 10_000,
    },
];

fn main() {
    pin(gettid(), CLIENT_CORE);
    let configuration = demo::configuration(3, 10, 1);
    let loaded = Snapshot::load(configuration.as_bytes()).expect("a sample cluster is valid");
    let served = Arc::new(ArcSwap::from_pointee(Served {
        key: Arc::new(Key::new(KEY).expect("not empty")),
        snapshot: Arc::new(loaded.snapshot),
    }));
    let engines: Vec<_> = [
        worker(FLOOR, Some(EngineKind::Uring), Gso::No, &served, || Echo),
        worker(
            "ring echo, GSO",
            Some(EngineKind::Uring),
            Gso::Yes,
            &served,
            || Echo,
        ),
        worker(
            "uring",
            Some(EngineKind::Uring),
            Gso::Yes,
            &served,
            Responder::new,
        ),
        worker(
            "mmsg",
            Some(EngineKind::Mmsg),
            Gso::Yes,
            &served,
            Responder::new,
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (engines, workers): (Vec<Server>, Vec<Workers>) = engines.into_iter().unzip();
    let mut servers = vec![
        on_thread("blocking echo", blocking),
        on_thread("mmsg echo", mmsg),
        on_thread("tokio-uring echo", tokio_uring),
    ];
    servers.extend(engines);
    servers.extend(process::all(&configuration));

    for load in &LOADS {
        let mut rounds: Vec<Vec<Round>> = servers.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (server, rounds) in servers.iter().zip(&mut rounds) {
                let is_slow = server.name == "reference";
                // Its socket holds no more requests, and it is slow.
                let share = if is_slow { 20 } else { 1 };
                let load = Load {
                    requests: load.requests / share,
                    in_flight: (load.in_flight / share.min(8)).max(1),
                    sockets: if is_slow {
                        load.sockets.min(64)
                    } else {
                        load.sockets
                    },
                    ..*load
                };
                rounds.push(round(server, &load));
            }
        }
        print(load, &servers, &rounds);
    }
    garbage(&servers);
    drop(workers);
}

/// Measures the cost of dropping unsigned datagrams, compared with answering.
fn garbage(servers: &[Server]) {
    let good = Protocol::Confd.request();
    let mut bad_hmac = good.clone();
    let digits = good
        .windows(6)
        .position(|bytes| bytes == b"hmac\":")
        .expect("a key")
        + 8;
    bad_hmac[digits] = if good[digits] == b'0' { b'1' } else { b'0' };
    let mut bad_fourcc = good.clone();
    bad_fourcc[3] = b'1';
    println!("\ndropped datagrams (64 sockets, a ping behind every fifteen)");
    println!(
        "{:20}{:>12}{:>14}{:>12}{:>14}{:>12}",
        "", "a ping, us", "bad HMAC, us", "/ ping", "bad fourcc, us", "/ ping"
    );
    for server in servers
        .iter()
        .filter(|server| ["uring", "mmsg"].contains(&server.name))
    {
        let cost = |filler: &[u8], is_answered| {
            let mut rounds: Vec<f64> = (0..ROUNDS)
                .map(|_| {
                    cpu_of_fillers(server, filler, is_answered) - cpu_of_fillers(server, &[], false)
                })
                .collect();
            median(&mut rounds) / FILLERS as f64
        };
        let (ping, hmac, fourcc) = (
            cost(&good, true),
            cost(&bad_hmac, false),
            cost(&bad_fourcc, false),
        );
        println!(
            "{:20}{ping:12.2}{hmac:14.2}{:12.2}{fourcc:14.2}{:12.2}",
            server.name,
            hmac / ping,
            fourcc / ping
        );
    }
}

fn print(load: &Load, servers: &[Server], rounds: &[Vec<Round>]) {
    let of = |index: usize, value: fn(&Round) -> f64| {
        median(&mut rounds[index].iter().map(value).collect::<Vec<_>>())
    };
    let floor = servers.iter().position(|server| server.name == FLOOR);
    let floor = floor.map_or(f64::NAN, |index| of(index, |round| round.cpu));
    println!("\n{}", load.name);
    let last = if load.in_flight == 1 {
        "round trip, us"
    } else {
        "lost, %"
    };
    println!(
        "{:20}{:>12}{:>14}{:>12}{last:>16}",
        "", "CPU, us", "/ ring echo", "per second"
    );
    for (index, server) in servers.iter().enumerate() {
        let cpu = of(index, |round| round.cpu);
        let rate = of(index, |round| round.rate);
        print!(
            "{:20}{cpu:12.2}{:14.2}{rate:12.0}",
            server.name,
            cpu / floor
        );
        if load.in_flight == 1 {
            print!("{:16.1}", of(index, |round| round.round_trip));
        } else {
            print!("{:16.2}", of(index, |round| round.lost));
        }
        println!();
    }
}

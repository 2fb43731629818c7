//! Measures the whole pure path, datagram in to reply out, for each query and three cluster sizes;
//! what replay protection adds to a query; and loading a configuration.
//!
//! Included: authenticating, parsing, looking up, signing and writing, and copying the request into
//! its buffer, because parsing modifies it (about 10 ns). Not included: the kernel and the engine.
//!
//! `cargo bench --bench respond`; `-- node_role` runs only the benchmarks whose name contains it.

mod datagrams;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datagrams::NOW;
use ganeti_confd::demo;
use ganeti_confd::protocol::{PADDING, REPLY_BYTES_MAX, envelope};
use ganeti_confd::responder::{Datagram, REPLAY_ENTRIES, ReplayTable, Responder, Served};
use ganeti_confd::snapshot::Snapshot;

fn respond(criterion: &mut Criterion) {
    let key = Arc::new(datagrams::key());
    for (size, nodes, instances) in [
        ("3 nodes", 3, 10),
        ("1000 nodes", 1_000, 2_000),
        ("20000 instances", 1_000, 20_000),
    ] {
        let text = demo::configuration(nodes, instances, 1);
        let loaded = Snapshot::load(text.as_bytes()).expect("sample clusters load");
        let served = Served {
            key: Arc::clone(&key),
            snapshot: Arc::new(loaded.snapshot),
        };
        let mut responder = Responder::new();
        let mut out = vec![0; REPLY_BYTES_MAX];
        let mut group = criterion.benchmark_group("respond");
        for (name, request) in datagrams::all() {
            let mut buffer = vec![0; request.len() + PADDING];
            let mut answer = || {
                buffer[..request.len()].copy_from_slice(&request);
                let datagram = Datagram::new(&mut buffer, request.len());
                responder.respond(black_box(datagram), NOW, &served, &mut out)
            };
            let reply_bytes = answer().map_or(0, |reply| reply.len);
            group.throughput(Throughput::Bytes((request.len() + reply_bytes) as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(&mut answer);
            });
        }
        group.finish();
    }
}

/// Pings with different signatures, without and with replay protection: after the first round, the
/// table has all of them. And the table alone, for signatures that it does not have.
fn replay(criterion: &mut Criterion) {
    let text = demo::configuration(3, 10, 1);
    let loaded = Snapshot::load(text.as_bytes()).expect("sample clusters load");
    let served = Served {
        key: Arc::new(datagrams::key()),
        snapshot: Arc::new(loaded.snapshot),
    };
    let ping = |number: usize| {
        let message = format!(r#"{{"protocol":1,"type":0,"rsalt":"{number:036}"}}"#);
        envelope::request(&served.key, NOW, &message)
    };
    let pings: Vec<_> = (0..REPLAY_ENTRIES / 2).map(ping).collect();
    let table = Arc::new(ReplayTable::new());
    let mut out = vec![0; REPLY_BYTES_MAX];
    let mut buffer = vec![0; pings[0].len() + PADDING];
    let mut group = criterion.benchmark_group("replay");
    for (name, mut responder) in [
        ("off", Responder::new()),
        (
            "on",
            Responder::new().with_replay_protection(Arc::clone(&table)),
        ),
    ] {
        let mut next = pings.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let ping = next.next().expect("pings repeat");
                buffer[..ping.len()].copy_from_slice(ping);
                let datagram = Datagram::new(&mut buffer, ping.len());
                responder.respond(black_box(datagram), NOW, &served, &mut out)
            });
        });
    }
    let mut random = fastrand::Rng::with_seed(1);
    // So many that the table has lost a tag before it comes again.
    let tags: Vec<[u8; 20]> = (0..8 * REPLAY_ENTRIES)
        .map(|_| std::array::from_fn(|_| random.u8(..)))
        .collect();
    let mut next = tags.iter().cycle();
    let peer = Ipv4Addr::LOCALHOST.into();
    group.bench_function("new signature", |bencher| {
        bencher.iter(|| table.admit(next.next().expect("tags repeat"), black_box(peer), NOW));
    });
    group.finish();
}

fn load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    for instances in [1_000, 10_000, 20_000, 100_000] {
        let text = demo::configuration(instances / 20, instances, 1);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("instances", instances), |bencher| {
            bencher.iter_with_large_drop(|| Snapshot::load(text.as_bytes()));
        });
    }
    group.finish();
}

criterion_group!(benches, respond, replay, load);
criterion_main!(benches);

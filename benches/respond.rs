//! Measures the whole pure path, datagram in to reply out, for each query and three cluster sizes;
//! and loading a configuration.
//!
//! Included: authenticating, parsing, looking up, signing and writing, and copying the request into
//! its buffer, because parsing modifies it (about 10 ns). Not included: the kernel and the engine.
//!
//! `cargo bench --bench respond`; `-- node_role` runs only the benchmarks whose name contains it.

mod datagrams;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datagrams::NOW;
use ganeti_confd::demo;
use ganeti_confd::protocol::{PADDING, REPLY_BYTES_MAX};
use ganeti_confd::responder::{Datagram, Responder, Served};
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

criterion_group!(benches, respond, load);
criterion_main!(benches);

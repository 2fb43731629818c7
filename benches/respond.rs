//! The whole pure path, datagram in to reply out, for each query and two sizes of cluster; and loading a configuration.
//!
//! What is measured: authenticating, parsing, looking up, signing and writing, and copying the request into its buffer,
//! because parsing changes it there (some 10 ns). What is not: the kernel, and the engine round this call.
//!
//! `cargo bench --bench respond`; with a name, as in `-- node_role`, only what contains it.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, PADDING, REPLY_BYTES_MAX, signed_message};
use ganeti_confd::responder::{Datagram, Responder, Served};
use ganeti_confd::snapshot::Snapshot;

const NOW: u64 = 1_800_000_000;

/// Every query, as a client would ask it of a sample cluster: type, name, argument as JSON.
fn queries() -> Vec<(u8, &'static str, String)> {
    let node = format!("\"{}\"", demo::node_name(2));
    let instance = format!("\"{}\"", demo::instance_name(7));
    vec![
        (0, "ping", "null".into()),
        (1, "node_role_by_name", node.clone()),
        (2, "node_pip_by_inst_pip", r#"{"1":"10.2.0.7"}"#.into()),
        (3, "cluster_master", "null".into()),
        (4, "node_pip_list", "null".into()),
        (5, "mc_pip_list", "null".into()),
        (6, "inst_ips_list", "\"no such link\"".into()),
        (7, "node_drbd", node.clone()),
        (8, "node_instances", node),
        (9, "instance_disks", instance),
        (10, "config_query", "\"/cluster/cluster_name\"".into()),
        (11, "data_collectors", "null".into()),
    ]
}

fn request(key: &Key, kind: u8, query: &str) -> Vec<u8> {
    let rsalt = "3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11";
    let message =
        format!(r#"{{"protocol": 1, "type": {kind}, "query": {query}, "rsalt": "{rsalt}"}}"#);
    signed_message::request(key, NOW, &message)
}

fn respond(criterion: &mut Criterion) {
    let key = Arc::new(Key::new(b"a key for benchmarks").expect("the key has bytes"));
    for (size, nodes, instances) in [("3 nodes", 3, 10), ("1000 nodes", 1_000, 20_000)] {
        let text = demo::configuration(nodes, instances, 1);
        let loaded = Snapshot::load(text.as_bytes()).expect("sample clusters load");
        let served = Served {
            key: Arc::clone(&key),
            snapshot: Arc::new(loaded.snapshot),
        };
        let mut responder = Responder::new();
        let mut out = vec![0; REPLY_BYTES_MAX];
        let mut group = criterion.benchmark_group("respond");
        for (kind, name, query) in queries() {
            let request = request(&key, kind, &query);
            let mut buffer = vec![0; request.len() + PADDING];
            let mut answer = || {
                buffer[..request.len()].copy_from_slice(&request);
                let datagram = Datagram::new(&mut buffer, request.len());
                responder
                    .respond(black_box(datagram), NOW, &served, &mut out)
                    .expect("an answer")
            };
            let reply = answer();
            group.throughput(Throughput::Bytes(reply.len as u64));
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

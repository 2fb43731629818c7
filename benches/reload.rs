//! Publishing a snapshot under readers: what it takes away from answering, and what it costs itself.
//!
//! A reader does what a worker does for a batch of one: it looks at what is published, and answers a ping. The other thread publishes one
//! of two snapshots in turns, a thousand times a second, which is a thousand times as often as the daemon does. Nothing is loaded
//! meanwhile, and nothing freed.
//!
//! `cargo bench --bench reload`

mod datagrams;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use criterion::{Criterion, criterion_group, criterion_main};
use datagrams::NOW;
use ganeti_confd::demo;
use ganeti_confd::protocol::{PADDING, REPLY_BYTES_MAX};
use ganeti_confd::responder::{Datagram, Responder, Served};
use ganeti_confd::snapshot::Snapshot;

const PERIOD: Duration = Duration::from_millis(1);

fn served() -> Arc<Served> {
    let text = demo::configuration(3, 10, 1);
    let loaded = Snapshot::load(text.as_bytes()).expect("sample clusters load");
    Arc::new(Served {
        key: Arc::new(datagrams::key()),
        snapshot: Arc::new(loaded.snapshot),
    })
}

/// Looks at what is published and answers a ping.
fn reader(published: &ArcSwap<Served>) -> impl FnMut() -> usize {
    let (_, request) = datagrams::all().swap_remove(0);
    let mut cache = Cache::new(published);
    let mut responder = Responder::new();
    let mut out = vec![0; REPLY_BYTES_MAX];
    let mut buffer = vec![0; request.len() + PADDING];
    move || {
        buffer[..request.len()].copy_from_slice(&request);
        let datagram = Datagram::new(&mut buffer, request.len());
        let reply = responder.respond(datagram, NOW, cache.load(), &mut out);
        reply.expect("a ping is answered").len
    }
}

/// Does `task` again and again on another thread while `bench` runs.
fn beside(mut task: impl FnMut() + Send, bench: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                task();
            }
        });
        bench();
        stop.store(true, Ordering::Relaxed);
    });
}

fn reload(criterion: &mut Criterion) {
    let two = [served(), served()];
    let published = ArcSwap::new(Arc::clone(&two[0]));
    let mut group = criterion.benchmark_group("reload");
    group.bench_function("a ping, nothing published", |bencher| {
        bencher.iter(reader(&published));
    });
    let mut turns = two.iter().cycle();
    let publish = || {
        published.store(Arc::clone(turns.next().expect("a cycle has no end")));
        thread::sleep(PERIOD);
    };
    beside(publish, || {
        group.bench_function("a ping, published a thousand times a second", |bencher| {
            bencher.iter(reader(&published));
        });
    });
    let mut read = reader(&published);
    beside(
        move || {
            read();
        },
        || {
            let mut turns = two.iter().cycle();
            group.bench_function("publishing beside a reader", |bencher| {
                bencher.iter(|| {
                    published.store(Arc::clone(turns.next().expect("a cycle has no end")));
                });
            });
        },
    );
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);

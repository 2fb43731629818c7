//! The cost of publishing a snapshot, and its effect on concurrent readers.
//!
//! A reader does what a worker does for a batch of one: it loads the published snapshot through its
//! cache and answers a ping. The other thread alternately publishes two snapshots, a thousand times
//! a second. The daemon publishes at most once a second. Nothing is loaded or freed during the
//! measurement.
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

/// A reader that loads the published snapshot and answers a ping.
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

/// Repeats `task` on another thread while `bench` runs.
fn concurrently(mut task: impl FnMut() + Send, bench: impl FnOnce()) {
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
    group.bench_function("a ping, without publishing", |bencher| {
        bencher.iter(reader(&published));
    });
    let mut snapshots = two.iter().cycle();
    let publish = || {
        published.store(Arc::clone(snapshots.next().expect("a cycle does not end")));
        thread::sleep(PERIOD);
    };
    concurrently(publish, || {
        group.bench_function("a ping, publishing 1,000 times a second", |bencher| {
            bencher.iter(reader(&published));
        });
    });
    let mut read = reader(&published);
    concurrently(
        move || {
            read();
        },
        || {
            let mut snapshots = two.iter().cycle();
            group.bench_function("publishing, with a reader", |bencher| {
                bencher.iter(|| {
                    published.store(Arc::clone(snapshots.next().expect("a cycle does not end")));
                });
            });
        },
    );
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);

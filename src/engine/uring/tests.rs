//! Tests of one worker with few buffers and slots.

use super::teardown::{QUIESCE_ATTEMPTS, QUIESCE_WAIT};
use super::*;
use crate::engine::counters::{Counters, Totals};
use crate::engine::fixtures::{Echo, TIMEOUT, client_of, published, uring_or_skip};
use crate::engine::{Sockets, bind};

/// Runs a worker of the given sizes while `test` sends to it. Returns its counters at the end.
fn serve(sizes: Sizes, echo: Echo, test: impl FnOnce(&Sockets)) -> Option<Totals> {
    let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let counters = Arc::new(Counters::default());
    let signal = Arc::new(Signal::new().unwrap());
    let dispatcher = Dispatcher::new(echo, published(), Arc::clone(&counters), true);
    let socket = Arc::clone(&sockets.sockets[0]);
    std::thread::scope(|scope| {
        let (ready, started) = std::sync::mpsc::channel();
        let its_signal = Arc::clone(&signal);
        let worker = scope.spawn(move || {
            // Only the thread that creates a ring may use it.
            let worker = Worker::with_sizes(sizes, socket, true, dispatcher, its_signal);
            ready
                .send(worker.as_ref().map(drop).map_err(String::clone))
                .unwrap();
            worker.map_or(Ok(()), Worker::run)
        });
        uring_or_skip(started.recv().unwrap())?;
        test(&sockets);
        signal.stop();
        worker.join().unwrap().unwrap();
        Some(counters.snapshot())
    })
}

/// Sends bursts of 100 datagrams to a worker of these sizes, with an empty one after each if
/// `with_empty`, and checks that all come back in order.
fn bursts(sizes: Sizes, with_empty: bool) -> Option<Totals> {
    let (echo, is_held, resume) = Echo::new();
    let totals = serve(sizes, echo, |sockets| {
        let client = client_of(sockets.local_addr());
        let mut reply = [0; 8];
        for round in 0..5 {
            client.send(b"hold").unwrap();
            is_held.recv_timeout(TIMEOUT).unwrap();
            let numbers = (0..100u32).map(|i| (round * 100 + i).to_le_bytes());
            for number in numbers.clone() {
                client.send(&number).unwrap();
                if with_empty {
                    client.send(&[]).unwrap();
                }
            }
            resume.send(()).unwrap();
            assert_eq!(client.recv(&mut reply).unwrap(), 4);
            for number in numbers {
                assert_eq!(client.recv(&mut reply).unwrap(), 4);
                assert_eq!(reply[..4], number);
                if with_empty {
                    assert_eq!(client.recv(&mut reply).unwrap(), 0);
                }
            }
        }
    })?;
    let received = if with_empty { 5 * 201 } else { 5 * 101 };
    assert_eq!(totals.received, received);
    assert_eq!((totals.malformed, totals.send_errors), (0, 0), "{totals:?}");
    Some(totals)
}

/// The receive ends with `ENOBUFS`, and is re-armed once each time when the buffers are returned.
#[test]
fn buffers_run_out() {
    for buffers in [1, 2, 8, 16] {
        let Some(totals) = bursts(Sizes { buffers, slots: 16 }, false) else {
            return;
        };
        assert!(totals.no_buffers > 0, "{totals:?}");
        assert!(totals.no_buffers <= totals.received, "{totals:?}");
        assert_eq!(totals.rearmed, totals.no_buffers + 1, "{totals:?}");
    }
}

/// With fewer slots than a batch has datagrams, the rest waits in the receive buffers until sends
/// complete.
#[test]
fn slots_run_out() {
    for (buffers, slots) in [(8, 1), (8, 3), (16, 16), (1, 1)] {
        for with_empty in [false, true] {
            if bursts(Sizes { buffers, slots }, with_empty).is_none() {
                return;
            }
        }
    }
}

/// Each empty datagram ends the receive.
#[test]
fn empty_datagrams_rearm() {
    let sizes = Sizes {
        buffers: 8,
        slots: 8,
    };
    if let Some(totals) = bursts(sizes, true) {
        assert!(totals.rearmed >= 500, "{totals:?}");
    }
}

/// The kernel must be done with the memory before it is unmapped, even with operations in flight.
#[test]
fn a_worker_ends_with_datagrams_in_its_buffers() {
    for _ in 0..20 {
        let start = std::time::Instant::now();
        let (echo, is_held, resume) = Echo::new();
        let served = serve(
            Sizes {
                buffers: 8,
                slots: 2,
            },
            echo,
            |sockets| {
                let client = client_of(sockets.local_addr());
                client.send(b"hold").unwrap();
                is_held.recv_timeout(TIMEOUT).unwrap();
                for _ in 0..50 {
                    client.send(b"more").unwrap();
                }
                resume.send(()).unwrap();
            },
        );
        if served.is_none() {
            return;
        }
        // If the kernel still held memory, the worker would have waited longer.
        assert!(start.elapsed() < QUIESCE_WAIT * QUIESCE_ATTEMPTS);
    }
}

#[test]
fn a_refusal_names_the_remedy() {
    for (errno, remedy) in [
        (libc::EPERM, "kernel.io_uring_disabled"),
        (libc::ENOSYS, "seccomp"),
        (libc::EINVAL, "Linux 6.1"),
        (libc::ENOMEM, "RLIMIT_MEMLOCK"),
        (libc::EMFILE, "ulimit -n"),
        (libc::ENFILE, "fs.file-max"),
    ] {
        let text = refused("io_uring_setup", &io::Error::from_raw_os_error(errno));
        assert!(text.contains(remedy), "{text}");
    }
}

//! Servers inside this process: bare echoes, and this crate's engines.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use arc_swap::ArcSwap;
use ganeti_confd::engine::{self, EngineKind, Handler, Workers};
use ganeti_confd::protocol::Reject;
use ganeti_confd::responder::{Datagram, ReplyInfo, Served};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use nix::unistd::{Pid, gettid};
use tokio_uring::buf::BoundedBuf as _;

use super::cores::{SERVER_CORE, pin};
use super::server::{Protocol, Server, Tasks, bind};

/// Runs an echo on a thread of its own.
pub(crate) fn on_thread(
    name: &'static str,
    serve: impl FnOnce(UdpSocket, &dyn Fn()) + Send + 'static,
) -> Server {
    let (ready, started) = channel();
    thread::spawn(move || {
        let socket = bind();
        let address = socket.local_addr().expect("it is bound");
        let tell = move || announce(&ready, address);
        serve(socket, &tell);
    });
    let (thread, address) = started.recv().expect("it starts");
    pin(thread, SERVER_CORE);
    Server {
        name,
        address,
        speaks: Protocol::Confd,
        tasks: Tasks::Thread(thread),
    }
}

fn announce(ready: &Sender<(Pid, SocketAddr)>, address: SocketAddr) {
    ready.send((gettid(), address)).expect("main waits");
}

/// Receives and sends one datagram at a time.
pub(crate) fn blocking(socket: UdpSocket, ready: &dyn Fn()) {
    ready();
    let mut buffer = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).expect("loopback works");
        socket
            .send_to(&buffer[..len], from)
            .expect("loopback works");
    }
}

/// Receives and sends up to 64 datagrams with each call.
pub(crate) fn mmsg(socket: UdpSocket, ready: &dyn Fn()) {
    const BATCH: usize = 64;
    ready();
    let mut buffers = vec![[0_u8; 2048]; BATCH];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut answers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    loop {
        let mut received = Vec::with_capacity(BATCH);
        {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers
                .iter_mut()
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let flags = MsgFlags::MSG_WAITFORONE;
            let messages = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, flags, None);
            for message in messages.expect("loopback works") {
                received.push((message.bytes, message.address));
            }
        }
        let slices: Vec<[IoSlice<'_>; 1]> = buffers
            .iter()
            .zip(&received)
            .map(|(buffer, (len, _))| [IoSlice::new(&buffer[..*len])])
            .collect();
        let addresses: Vec<_> = received.iter().map(|(_, address)| *address).collect();
        let flags = MsgFlags::empty();
        sendmmsg(
            socket.as_raw_fd(),
            &mut answers,
            &slices,
            &addresses,
            [],
            flags,
        )
        .expect("loopback works")
        .for_each(drop);
    }
}

/// Keeps as many receives in flight as a batch has datagrams.
pub(crate) fn tokio_uring(socket: UdpSocket, ready: &dyn Fn()) {
    const TASKS: usize = 64;
    tokio_uring::start(async {
        let socket = Rc::new(tokio_uring::net::UdpSocket::from_std(socket));
        for _ in 0..TASKS {
            let socket = Rc::clone(&socket);
            tokio_uring::spawn(async move {
                let mut buffer = vec![0; 2048];
                loop {
                    let (received, all) = socket.recv_from(buffer).await;
                    let (len, from) = received.expect("loopback works");
                    let (sent, slice) = socket.send_to(all.slice(..len), from).await;
                    sent.expect("loopback works");
                    buffer = slice.into_inner();
                }
            });
        }
        ready();
        std::future::pending::<()>().await;
    });
}

/// Sends every datagram back.
pub(crate) struct Echo;

impl Handler for Echo {
    fn handle(
        &mut self,
        datagram: Datagram<'_>,
        _now: u64,
        _served: &Served,
        out: &mut [u8],
    ) -> Result<ReplyInfo, Reject> {
        let len = datagram.len();
        out[..len].copy_from_slice(datagram.bytes());
        Ok(ReplyInfo {
            len,
            kind: 0,
            is_error: false,
            too_large: false,
        })
    }
}

/// Whether several replies to one peer are sent with one call (`UDP_SEGMENT`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gso {
    Yes,
    No,
}

/// Starts one worker of an engine; `None` if this kernel refuses it.
pub(crate) fn worker<A: Handler + Send + 'static>(
    name: &'static str,
    kind: Option<EngineKind>,
    gso: Gso,
    served: &Arc<ArcSwap<Served>>,
    make: fn() -> A,
) -> Option<(Server, Workers)> {
    let before = threads();
    let address = "127.0.0.1:0".parse().expect("an address");
    let mut sockets = engine::bind(address, 1).expect("loopback has a port");
    if gso == Gso::No {
        sockets = sockets.without_gso();
    }
    let workers = match engine::start(sockets, kind, served, make) {
        Ok(workers) => workers,
        Err(error) => {
            eprintln!("{name}: {error}");
            return None;
        }
    };
    let thread = threads()
        .into_iter()
        .find(|thread| !before.contains(thread));
    let thread = Pid::from_raw(thread.expect("the worker's thread"));
    pin(thread, SERVER_CORE);
    let server = Server {
        name,
        address: workers.local_addr(),
        speaks: Protocol::Confd,
        tasks: Tasks::Thread(thread),
    };
    Some((server, workers))
}

fn threads() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs");
    tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

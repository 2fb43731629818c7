//! Counts the instructions of the pure path, datagram in to reply out, with callgrind. The counts
//! do not depend on the load of the machine.
//!
//! `cargo bench --bench instructions` prints the table in `benches/instructions.md`; redirect it
//! there after an intended change. Requires valgrind. Each count is the mean of several calls; a
//! first call is not counted.

mod datagrams;

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use datagrams::NOW;
use ganeti_confd::demo;
use ganeti_confd::protocol::{PADDING, REPLY_BYTES_MAX};
use ganeti_confd::responder::{Datagram, Responder, Served};
use ganeti_confd::snapshot::Snapshot;

/// Calls that are counted: the difference between two runs, which excludes setup and the first
/// call.
const CALLS: u64 = 10;

/// Nodes and instances of the sample cluster. A query's cost depends on the size of its answer, not
/// on them.
const CLUSTER: (usize, usize) = (3, 10);

const SHA1: &str = "sha1::block_api::compress";

fn main() -> ExitCode {
    let datagrams = datagrams::all();
    // The benchmark runs itself under callgrind with two arguments: calls, and a datagram's name.
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [calls, name] = &arguments[..] {
        let datagram = datagrams.iter().find(|(known, _)| known == name);
        let (_, datagram) = datagram.expect("a known datagram");
        answer_repeatedly(datagram, calls.parse().expect("a number of calls"));
        return ExitCode::SUCCESS;
    }
    println!("# Instructions per datagram, datagram in to reply out\n");
    println!(
        "`cargo bench --bench instructions` on x86-64, for a sample cluster of {} nodes and {} instances.\n\
         Valgrind does not support SHA-NI: the portable SHA-1 is counted, in its own column. SHA-NI takes\n\
         less than a tenth of these instructions.\n",
        CLUSTER.0, CLUSTER.1
    );
    println!("| datagram | instructions | portable SHA-1 |\n|---|---:|---:|");
    for (name, _) in &datagrams {
        let (Some(all), Some(own)) = (
            per_call(name, &["*counted*"]),
            per_call(name, &["*counted*", SHA1]),
        ) else {
            eprintln!("callgrind did not count: is valgrind installed?");
            return ExitCode::FAILURE;
        };
        println!("| {name} | {own} | {} |", all - own);
    }
    ExitCode::SUCCESS
}

/// Returns the instructions per call. Entering or leaving a function in `toggles` turns counting on
/// or off.
fn per_call(name: &str, toggles: &[&str]) -> Option<u64> {
    let collected = |calls: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .args(
                toggles
                    .iter()
                    .map(|toggle| format!("--toggle-collect={toggle}")),
            )
            .arg(std::env::current_exe().ok()?)
            .args([&calls.to_string(), name])
            .output()
            .ok()?;
        let log = String::from_utf8_lossy(&output.stderr);
        let (_, count) = log
            .lines()
            .find_map(|line| line.split_once("Collected :"))?;
        count.trim().parse::<u64>().ok()
    };
    Some((collected(1 + CALLS)? - collected(1)?) / CALLS)
}

fn answer_repeatedly(request: &[u8], calls: u64) {
    let text = demo::configuration(CLUSTER.0, CLUSTER.1, 1);
    let loaded = Snapshot::load(text.as_bytes()).expect("sample clusters load");
    let served = Served {
        key: Arc::new(datagrams::key()),
        snapshot: Arc::new(loaded.snapshot),
    };
    let mut responder = Responder::new();
    let mut out = vec![0; REPLY_BYTES_MAX];
    let mut buffer = vec![0; request.len() + PADDING];
    for _ in 0..calls {
        buffer[..request.len()].copy_from_slice(request);
        counted(
            &mut responder,
            Datagram::new(&mut buffer, request.len()),
            &served,
            &mut out,
        );
    }
}

#[inline(never)]
fn counted(responder: &mut Responder, datagram: Datagram<'_>, served: &Served, out: &mut [u8]) {
    let _ = black_box(responder.respond(datagram, NOW, served, out));
}

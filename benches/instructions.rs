//! Counts the instructions of the pure path, datagram in to reply out, with callgrind. The counts
//! do not depend on the load of the machine.
//!
//! `cargo bench --bench instructions` prints the tables in `benches/instructions.md`; redirect it
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

/// The function that hashes. Its instructions are counted apart.
const SHA1: &str = "sha1::block_api::compress";

/// A benchmark's input: a name and a datagram.
type Input = (&'static str, Vec<u8>);

fn main() -> ExitCode {
    let tables = [
        datagrams::all(),
        datagrams::unauthenticated(),
        datagrams::longest(),
    ];
    // The benchmark runs itself under callgrind with three arguments: calls, a table and a name.
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [calls, table, name] = &arguments[..] {
        let table = &tables[table.parse::<usize>().expect("a table's number")];
        let input = table.iter().find(|(known, _)| known == name);
        let (_, datagram) = input.expect("a known datagram");
        let calls = calls.parse().expect("a number of calls");
        Answering::new(datagram).repeat(calls);
        return ExitCode::SUCCESS;
    }
    match print(&tables) {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("callgrind did not count: is valgrind installed?");
            ExitCode::FAILURE
        }
    }
}

/// Prints all tables; `None` if callgrind does not run.
fn print(tables: &[Vec<Input>; 3]) -> Option<()> {
    println!(
        "# Instructions per datagram, datagram in to reply out\n\n\
         `cargo bench --bench instructions` on x86-64, for a sample cluster of {} nodes and {} instances.\n\
         Valgrind does not support SHA-NI: the portable SHA-1 is counted, in its own column. SHA-NI takes\n\
         less than a tenth of these instructions, and hashes a byte in about two cycles. With it, the most\n\
         expensive datagrams below take up to twice as long to read as to verify.\n\n\
         | datagram | instructions | portable SHA-1 |\n|---|---:|---:|",
        CLUSTER.0, CLUSTER.1
    );
    for (name, _) in &tables[0] {
        let Cost { own, sha1 } = Cost::of(0, name)?;
        println!("| {name} | {own} | {sha1} |");
    }
    println!(
        "\n## The most expensive datagrams without a valid signature\n\n\
         The longest requests, filled with what is most expensive to read. The bound is HMAC-SHA1 over as\n\
         many bytes.\n\n\
         | filled with | instructions per byte |\n|---|---:|"
    );
    let hashing = print_per_byte(1, &tables[1])?;
    println!("| **bound** | **{hashing:.1}** |");
    println!(
        "\n## The most expensive requests\n\n\
         The longest requests, signed. The cost is per byte of request and reply; a reply that turns out to\n\
         be too large for a datagram counts as the largest datagram. The bound is HMAC-SHA1 over twice as\n\
         many bytes.\n\n\
         | filled with | instructions per byte |\n|---|---:|"
    );
    print_per_byte(2, &tables[2])?;
    println!("| **bound** | **{:.1}** |", 2.0 * hashing);
    Some(())
}

/// Prints the cost of each datagram in `table` per byte. Returns the highest cost of hashing.
fn print_per_byte(number: usize, table: &[Input]) -> Option<f64> {
    let (mut worst, mut hashing) = (0.0_f64, 0.0_f64);
    for (name, datagram) in table {
        let reply_len = Answering::new(datagram).reply_len();
        let bytes = (datagram.len() + reply_len) as f64;
        let Cost { own, sha1 } = Cost::of(number, name)?;
        println!("| {name} | {:.1} |", own as f64 / bytes);
        worst = worst.max(own as f64 / bytes);
        hashing = hashing.max(sha1 as f64 / bytes);
    }
    println!("| **worst** | **{worst:.1}** |");
    Some(hashing)
}

/// Instructions for a datagram.
struct Cost {
    /// Of this crate, and of what it calls other than SHA-1.
    own: u64,
    sha1: u64,
}

impl Cost {
    /// Counts with callgrind. `None` if it does not run.
    fn of(table: usize, name: &str) -> Option<Self> {
        let all = per_call(table, name, &["*counted*"])?;
        let own = per_call(table, name, &["*counted*", SHA1])?;
        let sha1 = all - own;
        Some(Self { own, sha1 })
    }
}

/// Returns the instructions per call. Entering or leaving a function in `toggles` turns counting on
/// or off.
fn per_call(table: usize, name: &str, toggles: &[&str]) -> Option<u64> {
    let collected = |calls: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .args(
                toggles
                    .iter()
                    .map(|toggle| format!("--toggle-collect={toggle}")),
            )
            .arg(std::env::current_exe().ok()?)
            .args([&calls.to_string(), &table.to_string(), name])
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

/// Answers one datagram repeatedly.
struct Answering<'a> {
    datagram: &'a [u8],
    served: Served,
    responder: Responder,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl<'a> Answering<'a> {
    fn new(datagram: &'a [u8]) -> Self {
        let text = demo::configuration(CLUSTER.0, CLUSTER.1, 1);
        let loaded = Snapshot::load(text.as_bytes()).expect("sample clusters load");
        Self {
            datagram,
            served: Served {
                key: Arc::new(datagrams::key()),
                snapshot: Arc::new(loaded.snapshot),
            },
            responder: Responder::new(),
            buffer: vec![0; datagram.len() + PADDING],
            out: vec![0; REPLY_BYTES_MAX],
        }
    }

    fn repeat(&mut self, calls: u64) {
        for _ in 0..calls {
            self.reply_len();
        }
    }

    /// Answers, and returns the length of the reply that was written, even if it did not fit; 0 if
    /// there is none.
    fn reply_len(&mut self) -> usize {
        let len = self.datagram.len();
        self.buffer[..len].copy_from_slice(self.datagram);
        let datagram = Datagram::new(&mut self.buffer, len);
        counted(&mut self.responder, datagram, &self.served, &mut self.out)
    }
}

#[inline(never)]
fn counted(
    responder: &mut Responder,
    datagram: Datagram<'_>,
    served: &Served,
    out: &mut [u8],
) -> usize {
    let reply = black_box(responder.respond(datagram, NOW, served, out));
    reply.map_or(0, |reply| match reply.too_large {
        true => REPLY_BYTES_MAX,
        false => reply.len,
    })
}

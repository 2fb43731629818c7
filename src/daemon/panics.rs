//! Panics, as one line each on standard error. Nothing should panic; a line says where and asks for
//! a report, without the source text that only a developer can use.
//!
//! In the background, standard error is the log file.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write as _};
use std::panic::{self, PanicHookInfo};
use std::thread;

use super::journal;
use crate::printable::printable;

/// The thread of tokio-uring, which panics if the kernel refuses io_uring to it. The reader logs
/// the end of this thread, and goes on with ordinary system calls.
const CONTAINED: &str = "confd-uring";

/// Replaces the standard library's report of a panic.
pub(super) fn report_in_one_line() {
    panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    if name == CONTAINED {
        return;
    }
    let place = info
        .location()
        .map_or(String::new(), |place| format!(" at {place}"));
    let what = printable(info.payload_as_str().unwrap_or("no reason was given"));
    let line = format!(
        "ganeti-confd: internal error in the thread {name}{place}: {what}; please report it\n"
    );
    // The log is not used, because the panic may have happened while it was locked.
    let _ = io::stderr().write_all(journal::marked_as_error(&line).as_bytes());
    // Only if RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = writeln!(io::stderr(), "{backtrace}");
    }
}

//! The program `ganeti-confd`. Its code is in [`ganeti_confd::daemon`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ganeti_confd::daemon::main()
}

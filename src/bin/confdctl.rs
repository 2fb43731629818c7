//! The program `confdctl`. Its code is in [`ganeti_confd::ctl`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ganeti_confd::ctl::main()
}

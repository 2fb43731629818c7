//! Provisional: only `bench`.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ganeti_confd::load;
use ganeti_confd::protocol::Key;

#[derive(Parser)]
#[command(name = "confdctl")]
enum Command {
    Bench {
        #[arg(long, required = true)]
        server: Vec<SocketAddr>,
        #[arg(long)]
        key_file: PathBuf,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        options: Box<load::Options>,
    },
}

fn main() -> ExitCode {
    let Command::Bench {
        server,
        key_file,
        json,
        options,
    } = Command::parse();
    let bench = || {
        let key = std::fs::read(&key_file).map_err(|error| error.to_string())?;
        let key = Key::new(&key).map_err(|error| error.to_string())?;
        load::run(&options, &server, &key, json).map_err(|error| error.to_string())
    };
    bench().unwrap_or_else(|error| {
        eprintln!("confdctl: {error}");
        ExitCode::FAILURE
    })
}

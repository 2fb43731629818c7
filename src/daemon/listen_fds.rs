//! Sockets passed by a systemd socket unit, and the options that conflict with them.

use std::net::SocketAddr;

use super::error::Error;
use super::options::Options;
use crate::engine::{self, Sockets};

/// Takes the sockets that the service manager passed; `None` if there are no such sockets.
///
/// Must be called before the process opens any file descriptor.
///
/// # Errors
///
/// The sockets cannot be served, or an option conflicts with them.
pub(super) fn take(options: &Options) -> Result<Option<Sockets>, Error> {
    let sockets = engine::take_passed().map_err(|error| Error::lasting(error.to_string()))?;
    if let Some(sockets) = &sockets {
        check(options, sockets.local_addr(), sockets.count())?;
    }
    Ok(sockets)
}

/// Checks that the options are compatible with `count` sockets at the address `passed`.
fn check(options: &Options, passed: SocketAddr, count: usize) -> Result<(), Error> {
    let conflict = |what: String, remedy: &str| {
        Err(Error::lasting(format!(
            "the socket unit passes {count} sockets at {passed}, but {what}; {remedy}"
        )))
    };
    if !options.foreground {
        return conflict("the daemon would detach".into(), "add --foreground");
    }
    if options.demo.is_some() {
        return conflict("a demo binds its own sockets".into(), "omit --demo");
    }
    if let Some(workers) = options
        .requested_workers()
        .filter(|workers| *workers != count)
    {
        return conflict(
            format!("--workers is {workers}"),
            "omit it, or have one ListenDatagram= line for each worker",
        );
    }
    if let Some(port) = options.port.filter(|port| *port != passed.port()) {
        return conflict(
            format!("--port is {port}"),
            "omit it, or change ListenDatagram=",
        );
    }
    if let Some(bind) = options.bind.map(|bind| bind.with_port(passed.port()))
        && bind != passed
    {
        return conflict(
            format!("--bind is {}", bind.ip()),
            "omit it, or change ListenDatagram=",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_conflict_with_the_socket_unit_are_refused_with_a_remedy() {
        let check = |args: &[&str]| {
            let args = ["ganeti-confd"].iter().chain(args).map(Into::into);
            let options = Options::parse_from_args(args).unwrap();
            let passed = "0.0.0.0:1814".parse().unwrap();
            check(&options, passed, 4).map_err(|error| error.to_string())
        };
        for good in [
            &["-f"][..],
            &["-f", "--workers=4", "-p", "1814", "-b", "0.0.0.0"],
            &["-f", "--engine=mmsg", "-d"],
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for (bad, part) in [
            (&[][..], "add --foreground"),
            (&["-f", "--demo"], "omit --demo"),
            (
                &["-f", "--workers=2"],
                "--workers is 2; omit it, or have one",
            ),
            (&["-f", "-p", "1815"], "--port is 1815; omit it"),
            (&["-f", "-b", "127.0.0.1"], "--bind is 127.0.0.1; omit it"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.starts_with("the socket unit passes 4 sockets at 0.0.0.0:1814, but "));
            assert!(error.contains(part), "{error}");
        }
    }
}

//! The user check: Ganeti's accounts must exist, and this process must run as confd's user.
//!
//! The names are the ones that Debian's build uses (`lib/_constants.py`: `*_USER`, `*_GROUP`).
//! Builds with other names need `--no-user-checks`.
//!
//! Source: `Ganeti.Runtime.getEnts`, `Ganeti.Runtime.verifyDaemonUser` of version 3.0.2.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{self, Group, Uid, User};

use super::error::Error;
use crate::remedy::{Operation, limit, reason};

/// The user that confd must run as.
pub(super) const CONFD_USER: &str = "gnt-confd";
/// The users of all Ganeti daemons.
const USERS: [&str; 5] = ["root", "gnt-masterd", "gnt-confd", "gnt-rapi", "gnt-metad"];
/// The groups of all Ganeti daemons.
const GROUPS: [&str; 8] = [
    "root",
    "gnt-masterd",
    "gnt-confd",
    "gnt-luxid",
    "gnt-rapi",
    "gnt-metad",
    "gnt-daemons",
    "gnt-admin",
];

/// Checks the users, the groups and the user ID of this process.
///
/// # Errors
///
/// An account is missing or cannot be looked up, or the process runs as another user.
pub(super) fn check() -> Result<(), Error> {
    let mut expected = Uid::from_raw(0);
    for name in USERS {
        let user = User::from_name(name).map_err(|errno| lookup_failed("user", name, errno))?;
        let user = user.ok_or_else(|| missing("user", name))?;
        if name == CONFD_USER {
            expected = user.uid;
        }
    }
    for name in GROUPS {
        Group::from_name(name)
            .map_err(|errno| lookup_failed("group", name, errno))?
            .ok_or_else(|| missing("group", name))?;
    }
    let own = unistd::getuid();
    if own != expected {
        return Err(Error::lasting(format!(
            "started using wrong user ID ({own}), expected {expected} ({CONFD_USER}); \
             start it with daemon-util, or use --no-user-checks"
        )));
    }
    Ok(())
}

/// Changes from root to confd's user, as a start by `daemon-util` does.
///
/// # Errors
///
/// The account does not exist, or the kernel refuses.
pub(super) fn become_daemon() -> Result<(), Error> {
    let user =
        User::from_name(CONFD_USER).map_err(|errno| lookup_failed("user", CONFD_USER, errno))?;
    let user = user.ok_or_else(|| missing("user", CONFD_USER))?;
    let name = CString::new(CONFD_USER).unwrap_or_default();
    unistd::initgroups(&name, user.gid)
        .and_then(|()| unistd::setgid(user.gid))
        .and_then(|()| unistd::setuid(user.uid))
        .map_err(|errno| {
            let what = format!("cannot become the user {CONFD_USER}");
            Error::of_call(what, Operation::Other, errno)
        })
}

fn missing(kind: &str, name: &str) -> Error {
    Error::lasting(format!(
        "can't find required user/groups: there is no {kind} {name}; \
         create the accounts that Ganeti's package creates, or use --no-user-checks"
    ))
}

fn lookup_failed(kind: &str, name: &str, errno: Errno) -> Error {
    let remedy = limit(Operation::ReadFile, errno)
        .unwrap_or("repair the lookup (see: getent), or use --no-user-checks");
    Error::new(format!(
        "cannot look up the {kind} {name}: {}; {remedy}",
        reason(errno)
    ))
}

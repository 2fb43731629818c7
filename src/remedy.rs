//! Remedies for failed system calls: what an administrator can do, by operation and errno.
//!
//! This is the only place that maps an errno to a remedy, except for what an errno means for
//! io_uring alone (`engine::uring`). A limit is called by its own name (the option of ulimit, the
//! sysctl, the line of a systemd unit), whichever file or port the operation was about.
//!
//! Source: errno(3), open(2), bind(2), clone(2), pthread_create(3), inotify(7), setrlimit(2),
//! systemd.exec(5), systemd.resource-control(5).
#![forbid(unsafe_code)]

use std::io;

use nix::errno::Errno;

/// What the program was doing when a system call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Opening or reading a file.
    ReadFile,
    /// Creating, opening or writing a file.
    WriteFile,
    /// Making a UDP socket or binding it.
    Bind,
    /// Starting a thread.
    Thread,
    /// Starting a process.
    Process,
    /// Making an inotify instance.
    WatchInstance,
    /// Adding an inotify watch for a directory.
    WatchDirectory,
    /// Making other objects of the kernel: pipes, event queues, signal handlers.
    Other,
}

/// Returns what to do, as one clause.
pub(crate) fn remedy(operation: Operation, errno: Errno) -> &'static str {
    limit(operation, errno)
        .or_else(|| particular(operation, errno))
        .unwrap_or_else(|| general(operation))
}

/// Describes that `what` failed, with the remedy.
pub(crate) fn failed(what: &str, operation: Operation, error: &io::Error) -> String {
    format!("{what}: {error}; {}", remedy(operation, errno_of(error)))
}

/// Returns what to do if `error` means that a limit was reached, otherwise `remedy`.
pub(crate) fn limit_or(error: &io::Error, remedy: &'static str) -> &'static str {
    limit(Operation::Other, errno_of(error)).unwrap_or(remedy)
}

/// Whether the failure lasts until somebody changes the host or the options, so that another
/// attempt alone cannot succeed.
pub(crate) fn lasts(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EACCES
            | Errno::EPERM
            | Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::EISDIR
            | Errno::ELOOP
            | Errno::ENAMETOOLONG
            | Errno::ENXIO
            | Errno::EINVAL
            | Errno::EROFS
            | Errno::EMFILE
            | Errno::EAFNOSUPPORT
            | Errno::ENOSYS
    )
}

/// Describes `errno` in the words of the C library.
pub(crate) fn reason(errno: Errno) -> &'static str {
    match errno {
        Errno::EAGAIN => "Resource temporarily unavailable",
        other => other.desc(),
    }
}

/// The errno of `error`; `EIO` if it has none.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Returns what to do if `errno` means that a limit was reached.
pub(crate) fn limit(operation: Operation, errno: Errno) -> Option<&'static str> {
    Some(match (errno, operation) {
        (Errno::EMFILE, Operation::WatchInstance) => {
            "raise the sysctl fs.inotify.max_user_instances or the limit of open files (ulimit -n, \
             LimitNOFILE= in the unit)"
        }
        (Errno::EMFILE, _) => "raise the limit of open files (ulimit -n, LimitNOFILE= in the unit)",
        (Errno::ENFILE, _) => "raise the host's limit of open files (sysctl fs.file-max)",
        // A thread reads the files.
        (Errno::EAGAIN, Operation::Thread | Operation::Process | Operation::ReadFile) => {
            "raise the limit of processes (ulimit -u, LimitNPROC= or TasksMax= in the unit, sysctl \
             kernel.threads-max) or of memory (ulimit -v, MemoryMax= in the unit)"
        }
        (Errno::ENOSPC, Operation::WatchDirectory) => {
            "raise the sysctl fs.inotify.max_user_watches"
        }
        (Errno::ENOMEM | Errno::ENOBUFS, _) => {
            "free memory, or raise its limit (ulimit -v, LimitAS= or MemoryMax= in the unit)"
        }
        (Errno::ENOSPC, _) => "free space on its file system (see: df -h, df -i)",
        (Errno::EDQUOT, _) => "raise the disk quota of this user (see: quota), or remove files",
        (Errno::EFBIG, _) => {
            "raise the limit of a file's size (ulimit -f, LimitFSIZE= in the unit)"
        }
        _ => return None,
    })
}

/// The remedy if the errno has a particular meaning for the operation.
fn particular(operation: Operation, errno: Errno) -> Option<&'static str> {
    use Operation::{Bind, Process, ReadFile, Thread, WatchDirectory, WriteFile};
    Some(match (operation, errno) {
        (ReadFile | WriteFile, Errno::EIO) => "look for errors of the storage (see: dmesg)",
        (ReadFile | WriteFile, Errno::ESTALE) => "mount its file system again",
        (ReadFile | WriteFile, Errno::ELOOP) => "correct its symbolic links, which form a loop",
        (WriteFile, Errno::EROFS) => {
            "mount its file system writable (in a unit: ReadWritePaths= for its directory)"
        }
        (WriteFile, Errno::ENOENT | Errno::ENOTDIR) => {
            "make its directory, as Ganeti's ensure-dirs does"
        }
        (WriteFile, Errno::EACCES | Errno::EPERM) => {
            "make it and its directory writable for the user that runs this program"
        }
        (WriteFile, Errno::EISDIR | Errno::ENXIO | Errno::EINVAL) => {
            "remove what has its name and is not a regular file"
        }
        (ReadFile | WatchDirectory, Errno::EACCES | Errno::EPERM) => {
            "make it readable for the user that runs this program"
        }
        (WatchDirectory, Errno::ENOENT | Errno::ENOTDIR) => "make the directory",
        (Bind, Errno::EADDRINUSE) => {
            "stop the process that uses this port (see: ss -ulpn), or use another --port"
        }
        (Bind, Errno::EADDRNOTAVAIL) => "use an address of this host for --bind (see: ip address)",
        (Bind, Errno::EACCES) => "use a --port above 1023, or start it as root",
        (Bind, Errno::EAFNOSUPPORT) => {
            "use an address of a family that this host has for --bind (IPv6 may be disabled)"
        }
        (_, Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => {
            "allow the system call (seccomp profile of the container, SystemCallFilter= or \
             RestrictAddressFamilies= in the unit)"
        }
        (Process, Errno::ENOENT) => "mount /proc",
        (Thread, Errno::EINVAL) => "free memory",
        _ => return None,
    })
}

/// The remedy for any other errno.
fn general(operation: Operation) -> &'static str {
    match operation {
        Operation::ReadFile => "make sure that it is a readable regular file",
        Operation::WriteFile => "make sure that its directory exists and is writable",
        Operation::Bind => "use another --bind or --port",
        Operation::WatchInstance | Operation::WatchDirectory => "raise the limits fs.inotify.*",
        Operation::Thread | Operation::Process | Operation::Other => {
            "look at the limits of this process (/proc/PID/limits, the service's cgroup)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: [Operation; 8] = [
        Operation::ReadFile,
        Operation::WriteFile,
        Operation::Bind,
        Operation::Thread,
        Operation::Process,
        Operation::WatchInstance,
        Operation::WatchDirectory,
        Operation::Other,
    ];

    #[test]
    fn a_limit_has_its_own_name_in_every_operation() {
        for operation in OPERATIONS {
            for (errno, name) in [
                (Errno::EMFILE, "ulimit -n"),
                (Errno::ENFILE, "fs.file-max"),
                (Errno::ENOMEM, "MemoryMax="),
            ] {
                let text = remedy(operation, errno);
                assert!(text.contains(name), "{operation:?} {errno:?}: {text}");
            }
        }
        for (operation, errno, name) in [
            (Operation::Thread, Errno::EAGAIN, "TasksMax="),
            (Operation::ReadFile, Errno::EAGAIN, "TasksMax="),
            (Operation::Process, Errno::EAGAIN, "ulimit -u"),
            (
                Operation::WatchInstance,
                Errno::EMFILE,
                "fs.inotify.max_user_instances",
            ),
            (
                Operation::WatchDirectory,
                Errno::ENOSPC,
                "fs.inotify.max_user_watches",
            ),
            (Operation::WriteFile, Errno::ENOSPC, "df -h"),
            (Operation::WriteFile, Errno::EDQUOT, "quota"),
            (Operation::WriteFile, Errno::EROFS, "writable"),
            (Operation::WriteFile, Errno::EFBIG, "ulimit -f"),
        ] {
            let text = remedy(operation, errno);
            assert!(text.contains(name), "{operation:?} {errno:?}: {text}");
        }
    }

    #[test]
    fn only_a_file_has_a_remedy_about_its_permissions() {
        for operation in OPERATIONS {
            let about_files = matches!(
                operation,
                Operation::ReadFile | Operation::WriteFile | Operation::WatchDirectory
            );
            let text = remedy(operation, Errno::EACCES);
            let permissions = text.contains("readable") || text.contains("writable");
            assert_eq!(permissions, about_files, "{operation:?}: {text}");
        }
    }

    #[test]
    fn a_shortage_does_not_last() {
        for errno in [
            Errno::EAGAIN,
            Errno::ENOMEM,
            Errno::ENOSPC,
            Errno::EADDRINUSE,
        ] {
            assert!(!lasts(errno), "{errno:?}");
        }
        for errno in [Errno::EACCES, Errno::ENOENT, Errno::EMFILE, Errno::EROFS] {
            assert!(lasts(errno), "{errno:?}");
        }
    }
}

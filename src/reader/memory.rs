//! Compares the memory that a load needs with the memory that there is.
//!
//! A load that does not fit would end the daemon: Rust's collections abort the process if an
//! allocation fails, and the kernel kills a process that exceeds its cgroup. So the need is
//! estimated from the file's size before anything is read, and compared with each limit. It is also
//! allocated once as a whole and freed unused, which finds limits on address space and on
//! overcommitment that are known only to the kernel. A load that fails after that, because another
//! process grows, is not covered.
//!
//! The alternative, to load in another process that hands over the result, was not taken: the
//! daemon would still need two thirds of the memory for the result.
//!
//! Source: proc(5), getrlimit(2), the kernel's documentation of cgroups (`cgroup-v2.rst`,
//! `cgroup-v1/memory.rst`).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// Bytes of memory that a load takes per byte of the file, at its peak: text, parts being parsed,
/// and the new snapshot. Measured: 2.5 to 2.6 for sample clusters. The rest is for files of another
/// shape, and for holes in the heap.
const NEED_FACTOR: (u64, u64) = (7, 2);

/// Bytes that a load of a file of any size takes: the thread, buffers.
const NEED_BASE: u64 = 4 << 20;

/// What limits the memory.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub enum Limit {
    /// `RLIMIT_AS`.
    AddressSpace,
    /// A cgroup, or one that it is in.
    Cgroup,
    /// The host.
    Host,
    /// The kernel refused to promise so much.
    Kernel,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressSpace => "the limit on address space (ulimit -v, LimitAS=)",
            Self::Cgroup => "the memory limit of the cgroup (MemoryMax=)",
            Self::Host => "the host's available memory",
            Self::Kernel => "what the kernel allocates (vm.overcommit_memory, ulimit -v)",
        })
    }
}

/// A load needs more memory than there is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Shortage {
    /// Bytes that the load needs.
    pub needed: u64,
    /// Bytes that there are.
    pub available: u64,
    /// What limits them.
    pub limit: Limit,
}

/// Checks that a file of `size` bytes can be loaded.
///
/// # Errors
///
/// The load does not fit the memory that there is.
pub(super) fn check(size: u64) -> Result<(), Shortage> {
    let needed = size / NEED_FACTOR.1 * NEED_FACTOR.0 + NEED_BASE;
    let available = [
        (address_space(), Limit::AddressSpace),
        (cgroups(), Limit::Cgroup),
        (host(), Limit::Host),
    ];
    for (available, limit) in available {
        if let Some(available) = available
            && available < needed
        {
            return Err(Shortage {
                needed,
                available,
                limit,
            });
        }
    }
    let mut probe = Vec::<u8>::new();
    let fits = usize::try_from(needed).is_ok_and(|needed| probe.try_reserve_exact(needed).is_ok());
    if fits {
        Ok(())
    } else {
        Err(Shortage {
            needed,
            available: 0,
            limit: Limit::Kernel,
        })
    }
}

/// Address space that is left under `RLIMIT_AS`, if it is limited.
fn address_space() -> Option<u64> {
    let limit = getrlimit(Resource::As).current?;
    let used = kilobytes("/proc/self/status", "VmSize:")?;
    Some(limit.saturating_sub(used))
}

/// Available memory of the host.
fn host() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// The value of a line `NAME   N kB`, in bytes.
fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1_024)
}

/// The least memory that is left in any cgroup of this process, of either version.
fn cgroups() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(in_hierarchy).min()
}

/// The least memory that is left in the cgroup of a line of `/proc/self/cgroup`, and in those that
/// it is in.
fn in_hierarchy(line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (mounts, files) = match controllers {
        "" => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"][..], &V2),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (&["/sys/fs/cgroup/memory"][..], &V1)
        }
        _ => return None,
    };
    mounts
        .iter()
        .filter_map(|mount| least_left(Path::new(mount), path, files))
        .min()
}

/// Names of the files of a cgroup.
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// The line of `memory.stat` with the cached bytes that the kernel takes back first.
    cache: &'static str,
}

const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file ",
};

const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    cache: "inactive_file ",
};

/// The least memory that is left in the cgroup `path` below `mount`, and in those that it is in.
fn least_left(mount: &Path, path: &str, names: &Names) -> Option<u64> {
    let group = mount.join(path.trim_start_matches('/'));
    group
        .ancestors()
        .take_while(|group| group.starts_with(mount))
        .filter_map(|group| left(group, names))
        .min()
}

/// Memory that is left in one cgroup, if it is limited.
fn left(group: &Path, names: &Names) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(PathBuf::from(group).join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let limit = number(names.limit)?;
    let cache = read("memory.stat").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(names.cache))?;
        line.trim().parse::<u64>().ok()
    });
    let used = number(names.usage)?.saturating_sub(cache.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_fit_is_refused_and_a_small_one_is_not() {
        assert_eq!(check(1_000), Ok(()));
        let shortage = check(1 << 50).expect_err("a petabyte");
        assert!(shortage.needed > shortage.available, "{shortage:?}");
    }

    #[test]
    fn the_tightest_cgroup_up_to_the_root_counts() {
        let mount = tempfile::tempdir().expect("a directory");
        let write = |group: &str, limit: &str, usage: &str, cache: &str| {
            let group = mount.path().join(group);
            fs::create_dir_all(&group).expect("a directory");
            for (name, text) in [
                ("memory.max", limit),
                ("memory.current", usage),
                ("memory.stat", cache),
            ] {
                fs::write(group.join(name), format!("{text}\n")).expect("written");
            }
        };
        write("a", "1000", "700", "file 300\ninactive_file 100");
        write("a/b", "max", "600", "inactive_file 1");
        assert_eq!(least_left(mount.path(), "/a/b", &V2), Some(400));
        write("a/b", "650", "600", "inactive_file 1");
        assert_eq!(least_left(mount.path(), "/a/b", &V2), Some(51));
        assert_eq!(least_left(mount.path(), "/", &V2), None);
    }
}

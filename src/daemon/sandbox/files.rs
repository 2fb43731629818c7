//! Restricts access to files, TCP ports and other processes with Landlock.
//!
//! Rules name folders, never `config.data` itself: Ganeti replaces the file, and a rule belongs to
//! the file that was there.
//!
//! Source: landlock(7).

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath,
    PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope,
};

/// What the rules are written for. Older kernels enforce what they know.
const VERSION: ABI = ABI::V6;

/// Files that are read when the helper process starts: system files, and this executable, wherever
/// it is.
const SYSTEM: [&str; 5] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc/self/exe",
];

/// Limits and use of memory, which a load is compared with.
const MEMORY: [&str; 4] = [
    "/proc/meminfo",
    "/proc/self",
    "/proc/sys/vm",
    "/sys/fs/cgroup",
];

/// The places that the daemon uses.
#[derive(Clone, Debug, Default)]
pub(in crate::daemon) struct Places {
    /// Files that are read, and are replaced by others.
    pub(in crate::daemon) read: Vec<PathBuf>,
    /// Files that are created, written and removed.
    pub(in crate::daemon) written: Vec<PathBuf>,
}

/// How narrow the rules are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// The folders of the files. Another program cannot be started.
    Narrow,
    /// As well what is next to these folders, so that a folder can be replaced as a whole, and what
    /// a helper process reads when it starts.
    Wide,
}

/// Restricts the calling thread, and threads that it starts later. Returns what the kernel
/// enforces.
///
/// # Errors
///
/// The kernel refused a rule. With [`Width::Narrow`]: the kernel does not enforce all of it.
pub(super) fn restrict(places: &Places, width: Width) -> Result<RulesetStatus, RulesetError> {
    let level = match width {
        Width::Narrow => CompatLevel::HardRequirement,
        Width::Wide => CompatLevel::BestEffort,
    };
    let mut handled = AccessFs::from_all(VERSION);
    if width == Width::Wide {
        handled.remove(AccessFs::Execute);
    }
    let rules = Ruleset::default()
        .set_compatibility(level)
        .handle_access(handled)?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::Signal)?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // The log is shortened by the part of a line that had no room.
    let write = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let mut rules = rules;
    for path in &places.read {
        for folder in folders(path, width) {
            rules = allow(rules, &folder, read)?;
        }
    }
    for path in &places.written {
        for folder in folders(path, width) {
            rules = allow(rules, &folder, write)?;
        }
    }
    for path in MEMORY {
        rules = allow(rules, Path::new(path), read)?;
    }
    rules = allow(
        rules,
        Path::new("/dev/null"),
        AccessFs::ReadFile | AccessFs::WriteFile,
    )?;
    if width == Width::Wide {
        for path in SYSTEM {
            rules = allow(rules, Path::new(path), read)?;
        }
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Allows `access` to `path` and all below. A path that does not exist has no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(descriptor) = PathFd::new(path) else {
        return Ok(rules);
    };
    // Rights to folders cannot be granted for a file.
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(VERSION)
    };
    rules.add_rule(PathBeneath::new(descriptor, access))
}

/// The folders in which `path` is, as named and after symbolic links are followed.
fn folders(path: &Path, width: Width) -> Vec<PathBuf> {
    let folder = |path: &Path| {
        let folder = path.parent()?;
        match width {
            Width::Narrow => Some(folder.to_owned()),
            Width::Wide => Some(folder.parent().unwrap_or(folder).to_owned()),
        }
    };
    let real = path.canonicalize().ok();
    let mut folders: Vec<_> = [Some(path), real.as_deref()]
        .into_iter()
        .flatten()
        .filter_map(folder)
        .collect();
    folders.dedup();
    folders
}

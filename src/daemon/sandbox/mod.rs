//! Containment from inside: the daemon drops the rights that it does not need once its files and
//! sockets are open.
//!
//! In this order: no core dumps and no tracing by processes of the same user (they would show the
//! key), no new privileges, no capabilities, [`files`], [`system_calls`] of the process, and later
//! of each worker. All of it is inherited by threads, so it happens before the workers and loaders
//! start. The thread for signals exists before; it has no rights from its start.
//!
//! With [`Mode::Auto`] the daemon uses what the kernel has, keeps the right to files of other users
//! if it runs as root, and leaves room for a helper process. With [`Mode::Strict`] a missing part
//! prevents the start, and a violation ends the process.

mod capabilities;
mod files;
mod system_calls;

use std::fmt;
use std::io;

use landlock::RulesetStatus;
use nix::sys::prctl;
use nix::unistd::geteuid;
use rustix::thread::CapabilitySet;

use super::error::Error;
use files::Width;
use system_calls::Violation;

pub(super) use files::Places;

/// How much containment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    Auto,
    Off,
    Strict,
}

/// The parts of the containment that are active, each with its name and what it does.
#[derive(Clone, Debug, Default)]
pub(super) struct Sandbox {
    mode: Option<Mode>,
    parts: Vec<(&'static str, String)>,
}

impl Sandbox {
    /// Contains the process. `places` are the files that it uses from now on.
    ///
    /// # Errors
    ///
    /// With [`Mode::Strict`]: the kernel lacks or refused a part.
    pub(super) fn enter(mode: Mode, places: &Places) -> Result<Self, Error> {
        let mut sandbox = Self {
            mode: Some(mode),
            parts: Vec::new(),
        };
        if mode == Mode::Off {
            return Ok(sandbox);
        }
        let (width, violation, kept) = match mode {
            Mode::Strict => (Width::Narrow, Violation::Kills, CapabilitySet::empty()),
            // Root has no other right to the files of Ganeti's users.
            _ if geteuid().is_root() => {
                (Width::Wide, Violation::Fails, CapabilitySet::DAC_OVERRIDE)
            }
            _ => (Width::Wide, Violation::Fails, CapabilitySet::empty()),
        };
        let done = |()| "yes".to_owned();
        sandbox.add("no_dumps", prctl::set_dumpable(false).map(done))?;
        sandbox.add("no_new_privileges", prctl::set_no_new_privs().map(done))?;
        let dropped = capabilities::drop_all_except(kept).map(|()| {
            let kept: Vec<_> = kept.iter_names().map(|(name, _)| name).collect();
            match kept[..] {
                [] => "none".to_owned(),
                _ => kept.join(", "),
            }
        });
        sandbox.add("capabilities", dropped)?;
        let restricted = files::restrict(places, width).map(|status| match status {
            RulesetStatus::FullyEnforced => "all rules",
            RulesetStatus::PartiallyEnforced => "the rules that this kernel knows",
            RulesetStatus::NotEnforced => {
                "not enforced: the kernel has no Landlock, or a filter forbids it"
            }
        });
        sandbox.add("landlock", restricted.map(str::to_owned))?;
        let filtered = system_calls::filter_process(violation).map(|()| match violation {
            Violation::Fails => "other calls fail".to_owned(),
            Violation::Kills => "other calls end the process".to_owned(),
        });
        sandbox.add("seccomp", filtered)?;
        Ok(sandbox)
    }

    /// Records a part that is active. One that failed is an error with [`Mode::Strict`] only.
    fn add(
        &mut self,
        name: &'static str,
        result: Result<String, impl fmt::Display>,
    ) -> Result<(), Error> {
        let state = match result {
            Ok(state) => state,
            Err(error) if self.mode == Some(Mode::Strict) => {
                return Err(Error::lasting(format!(
                    "cannot contain the daemon ({name}): {error}; use a kernel that has it, or \
                     --sandbox=auto"
                )));
            }
            Err(error) => format!("not available: {error}"),
        };
        self.parts.push((name, state));
        Ok(())
    }

    /// What a worker's thread does before it serves: filters its system calls.
    pub(super) fn worker_setup(&self) -> impl Fn() -> io::Result<()> + Send + Sync + 'static {
        let mode = self.mode;
        move || match mode {
            Some(Mode::Strict) => system_calls::filter_worker(Violation::Kills),
            Some(Mode::Auto) => {
                // Like the other parts, it is used if the kernel has it.
                let _ = system_calls::filter_worker(Violation::Fails);
                Ok(())
            }
            Some(Mode::Off) | None => Ok(()),
        }
    }

    /// The parts that are active, by name.
    pub(super) fn parts(&self) -> &[(&'static str, String)] {
        &self.parts
    }
}

/// Takes all rights from the calling thread, which only waits for signals.
///
/// Errors are ignored: the thread handles no data.
pub(super) fn give_up_everything() {
    let _ = prctl::set_no_new_privs();
    let _ = capabilities::drop_all_except(CapabilitySet::empty());
    let _ = files::restrict(&Places::default(), Width::Wide);
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("off");
        }
        for (index, (name, state)) in self.parts.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{name}: {state}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

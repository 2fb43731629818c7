//! The machine of a run, because figures are meaningful only together with it.

use serde::Serialize;

/// The machine on which the generator runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    /// Name and release, as uname(2) returns them.
    pub(super) kernel: String,
    /// The model name of the processor.
    pub(super) processor: String,
    /// Number of processors that this process may use.
    pub(super) processors: usize,
    /// Total memory in bytes.
    pub(super) memory_bytes: u64,
    /// Whether this program was built with optimization.
    pub(super) optimized: bool,
}

impl Machine {
    /// This machine. What cannot be determined is empty or 0.
    pub(super) fn this() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            kernel: format!("Linux {} {}", release.trim(), std::env::consts::ARCH),
            processor: field(&read("/proc/cpuinfo"), "model name")
                .unwrap_or_default()
                .to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok())
                .map_or(0, |kilobytes| kilobytes * 1024),
            optimized: !cfg!(debug_assertions),
        }
    }
}

/// The value of a `name: value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.kernel.starts_with("Linux "));
        assert!(machine.processors > 0 && machine.memory_bytes > 0);
    }
}

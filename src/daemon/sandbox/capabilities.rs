//! Drops capabilities of the calling thread, and of threads that it starts later.
//!
//! Source: capabilities(7).

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// Drops all capabilities except `kept`.
///
/// # Errors
///
/// The kernel's. A filter of system calls can forbid it.
pub(super) fn drop_all_except(kept: CapabilitySet) -> std::io::Result<()> {
    // Without CAP_SETPCAP the bounding set stays. It only matters for the execution of another
    // program, which gains nothing without new privileges.
    for capability in CapabilitySet::all().difference(kept).iter() {
        let _ = remove_capability_from_bounding_set(capability);
    }
    clear_ambient_capability_set()?;
    // A service manager may have given none, and may forbid the call.
    if kept.contains(capabilities(None)?.permitted) {
        return Ok(());
    }
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

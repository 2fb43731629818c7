//! To come.

/// See the module.
pub fn check(_bytes: &[u8]) {}

//! Insides of the crate that `fuzz/` and the tests examine. Not part of the public interface:
//! anything here may change or go at any time.
//!
//! The items are `pub` in private modules and re-exported here, so that there are no copies of them
//! to keep in step. Only [`engine`] has code of its own, because its memory is otherwise read by
//! the kernel.
#![forbid(unsafe_code)]

pub use crate::json::steps::steps;

/// Numbers as the reference reads and prints them.
pub mod number {
    pub use crate::config::number::{double, int, integer, is_integral, nearest, rational, time};
}

/// Configuration paths as the reference reads them.
pub mod path {
    pub use crate::snapshot::path::{canonical_token, index, tokens};
}

/// When `config.data` is checked and loaded, and what is served then.
pub mod reader {
    pub use nix::errno::Errno;

    pub use crate::reader::file::{FileId, ReadError};
    pub use crate::reader::policy::{Decision, LoadFailure, Policy};
    pub use crate::reader::schedule::{Hint, Schedule, Step};
}

/// Memory that the engines share with the kernel.
pub mod engine {
    pub use crate::engine::testing::{
        LocalAddr, Peer, Published, Received, RecvBuffers, RecvControl, SendControl, SendGroup,
        SendSlots, Sent,
    };
}

//! `config.data` to the canonical text that the reference would print.
#![forbid(unsafe_code)]

/// Why a configuration file cannot be served, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The place inside the document as a path, `/instances/UUID/nics/0/mac`; empty at the top.
    pub path: String,
    /// What is wrong there, for an administrator.
    pub what: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.path, self.what)
        }
    }
}

impl std::error::Error for Error {}

//! Why a configuration file is refused, and where in it.
//!
//! An error is made at the value that is wrong and passed outward; each level adds its key in front
//! of the path with [`Error::under`]. Texts quote the file, so they are cut to a length that fits a
//! log line.

/// Text that a message quotes from the file, in bytes. Keys and values may be of any length.
const QUOTED_BYTES_MAX: usize = 1_000;

/// Why a configuration file cannot be served, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The place inside the document as a path, `/instances/UUID/nics/0/mac`; empty at the top.
    pub path: String,
    /// What is wrong there, for an administrator.
    pub what: String,
}

impl Error {
    /// An error at the value that is being read; callers add the path with [`Error::under`].
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            what: what.into(),
        }
    }

    /// A syntax error, with the line and column of the byte at `offset` (both count from 1).
    pub(super) fn at_offset(text: &[u8], offset: usize, what: &str) -> Self {
        let before = &text[..offset.min(text.len())];
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        let column = 1 + offset - memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self::new(format!("line {line}, column {column}: {what}"))
    }

    /// The same error, seen from the object or array that has the value under `key`.
    pub(super) fn under(mut self, key: &str) -> Self {
        self.path.insert_str(
            0,
            &format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        );
        self
    }

    /// The same error with path and text cut to what a log line may hold.
    pub(crate) fn bounded(self) -> Self {
        Self {
            path: quotable(self.path),
            what: quotable(self.what),
        }
    }
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

/// `text`, cut to what a message may quote.
pub(super) fn quotable(mut text: String) -> String {
    if text.len() > QUOTED_BYTES_MAX {
        text.truncate(text.floor_char_boundary(QUOTED_BYTES_MAX));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::snapshot::Snapshot;

    #[test]
    fn messages_are_short_when_keys_and_values_are_long() {
        let long = "é".repeat(50_000);
        let sample = crate::demo::configuration(1, 1, 1);
        let unknown = sample.replacen('{', &format!("{{\"{long}\":0,"), 1);
        let warnings = Snapshot::load(unknown.as_bytes()).map(|loaded| loaded.warnings);
        let warnings = warnings.expect("an unknown key is served");
        assert!(!warnings.is_empty() && warnings.iter().all(|line| line.len() < 1_200));
        for (place, bad) in [
            ("\"nodes\":{", format!("\"nodes\":{{\"{long}\":0,")),
            ("\"ssh_key_type\":\"", format!("\"ssh_key_type\":\"{long}")),
        ] {
            let file = sample.replacen(place, &bad, 1);
            assert_ne!(file, sample);
            let error = Snapshot::load(file.as_bytes()).expect_err("the file must be refused");
            assert!(
                error.to_string().len() < 2_400,
                "{} bytes",
                error.to_string().len()
            );
        }
    }
}

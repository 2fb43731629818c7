//! Why a configuration file is refused, and where in it.
//!
//! An error is made at the value that is wrong and passed outward; each level adds its key in front
//! of the path with [`Error::under`]. Texts quote the file, whose keys and values may be of any
//! length, so quotations are cut to a length that fits a log line.

/// Bytes of one key or value that a message quotes.
const QUOTED_BYTES_MAX: usize = 200;

/// Bytes of a path, and of the text of an error.
const TEXT_BYTES_MAX: usize = 1_000;

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

    /// The same error, seen from the object or array that has the value under `key`.
    pub(super) fn under(mut self, key: &str) -> Self {
        let key = excerpt(key).replace('~', "~0").replace('/', "~1");
        self.path.insert_str(0, &key);
        self.path.insert(0, '/');
        self
    }

    /// The same error with path and text cut to what a log line may hold.
    pub(crate) fn bounded(mut self) -> Self {
        for text in [&mut self.path, &mut self.what] {
            if text.len() > TEXT_BYTES_MAX {
                text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
                text.push_str("...");
            }
        }
        self
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

/// Why a value cannot be written as its field table says.
pub(super) enum Problem {
    /// The value is not of the type. If no query needs it, it is written as it is.
    Mismatch(String),
    /// The file is refused.
    Refusal(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Refusal(error)
    }
}

/// `text` in quotes with escapes, cut to what a message may quote.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// `text` with escapes, cut to what a message may quote.
pub(super) fn escaped(text: &str) -> String {
    excerpt(text).escape_debug().to_string()
}

/// `text`, cut to what a message may quote.
fn excerpt(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= QUOTED_BYTES_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(QUOTED_BYTES_MAX);
    format!("{}...", &text[..end]).into()
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
            (
                "\"master_node\":\"",
                format!("\"master_node\":[\"{long}\"],\"x\":\""),
            ),
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

//! Decides what is served and logged after each check of `config.data`. Performs no I/O.
//!
//! | state of the file     | valid one served, [`OnBadConfig::KeepLast`] | otherwise     |
//! |-----------------------|---------------------------------------------|---------------|
//! | valid                 | serve it                                    | serve it      |
//! | invalid or unreadable | keep the last valid configuration           | error answers |
//! | missing               | error answers                               | error answers |
//!
//! Ganeti removes `config.data` from a node that is no longer a master candidate. Such a node must
//! not keep answering from an outdated configuration, so a missing file always discards the last
//! valid one.
//!
//! Source of the error answers: `Ganeti.ConfigReader` (`loadConfig`, `updateConfig`), version
//! 3.0.2. The text after `parsing configuration: ` is our own.

use nix::errno::Errno;

use super::file::ReadError;
use crate::config;
use crate::printable::printable_start;
use crate::snapshot::{Loaded, Snapshot};

/// Maximum length of the reported detail of an invalid file, in characters.
const DETAIL_CHARS_MAX: usize = 1_000;

/// What is served when `config.data` becomes unusable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadConfig {
    /// The last valid configuration, until the file is repaired or removed.
    #[default]
    KeepLast,
    /// Error answers, like the reference.
    Error,
}

/// Error of loading `config.data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// The file could not be read.
    Unreadable(ReadError),
    /// The file was read, but is not a valid configuration.
    Invalid(config::Error),
}

/// What to publish and log after a check.
#[derive(Debug, Default)]
pub struct Decision {
    /// The snapshot to publish; `None` to keep the current one.
    pub publish: Option<Snapshot>,
    /// The error answer in `publish`, if it holds one.
    pub unavailable: Option<String>,
    /// The error to log, if there is one to log.
    pub error: Option<String>,
    /// The warnings to log. Empty if the last load had the same warnings.
    pub warnings: Vec<String>,
}

/// State kept between checks of `config.data`.
#[derive(Debug)]
pub struct Policy {
    /// The path of `config.data` as configured by the administrator.
    path: String,
    on_bad_config: OnBadConfig,
    /// Whether a valid configuration is served.
    serving_valid: bool,
    /// The error answer of the last check, if it failed. Answers are compared instead of failures,
    /// so that a missing file is reported once, whether `stat` or `open` detects it.
    last_answer: Option<String>,
    /// The warnings of the last load.
    warnings: Vec<String>,
}

impl Policy {
    /// Creates the policy for the file `path`, before its first check.
    pub fn new(path: String, on_bad_config: OnBadConfig) -> Self {
        Self {
            path,
            on_bad_config,
            serving_valid: false,
            last_answer: None,
            warnings: Vec::new(),
        }
    }

    /// Handles a successful load.
    pub fn loaded(&mut self, loaded: Loaded) -> Decision {
        self.serving_valid = true;
        self.last_answer = None;
        let warnings = if loaded.warnings == self.warnings {
            Vec::new()
        } else {
            self.warnings.clone_from(&loaded.warnings);
            loaded.warnings
        };
        Decision {
            publish: Some(loaded.snapshot),
            warnings,
            ..Decision::default()
        }
    }

    /// Handles a failed load or check.
    ///
    /// An unreadable file is retried even if it has not changed, so its error is logged only when
    /// it differs from the last one. An invalid file is reloaded only after a change, so its error
    /// is always logged. Both happen at most about once per second.
    pub fn failed(&mut self, failure: LoadFailure) -> Decision {
        let answer = self.answer(&failure);
        let is_new = self.last_answer.as_ref() != Some(&answer);
        let readable = matches!(failure, LoadFailure::Invalid(_));
        let missing = matches!(failure, LoadFailure::Unreadable(why) if why.is_missing());
        // A partially written file may be valid once it is complete. It is retried within a second.
        let incomplete = failure == LoadFailure::Unreadable(ReadError::Changing);
        let keep = self.serving_valid
            && !missing
            && (incomplete || self.on_bad_config == OnBadConfig::KeepLast);
        self.serving_valid = keep;
        self.last_answer = Some(answer.clone());

        let mut decision = Decision::default();
        if is_new || readable {
            let consequence = if keep {
                "; keeping the last good configuration"
            } else {
                ""
            };
            decision.error = Some(format!("Failed to load config: {answer}{consequence}"));
        }
        if !keep && is_new {
            decision.publish = Some(Snapshot::unavailable(&answer));
            decision.unavailable = Some(answer);
        }
        decision
    }

    /// Returns the reference's error answer for `failure`, or a similar one if the reference has no
    /// such failure.
    fn answer(&self, failure: &LoadFailure) -> String {
        let path = &self.path;
        let update = |what: String| format!("Failure during configuration update: {path}: {what}");
        let load = |what: String| format!("Cannot load configuration from {path}: {what}");
        let open = |what: &str| load(format!("{path}: openFile: {what}"));
        match failure {
            LoadFailure::Invalid(error) => load(format!(
                "parsing configuration: {}",
                printable_start(&error.to_string(), DETAIL_CHARS_MAX)
            )),
            LoadFailure::Unreadable(why) => match *why {
                // A file removed between `stat` and `open` gets the same answer as a missing one.
                ReadError::Stat(errno) | ReadError::Open(errno) if why.is_missing() => {
                    update(format!("getFileStatus: {}", io_error(errno)))
                }
                ReadError::Stat(errno) => update(format!("getFileStatus: {}", io_error(errno))),
                ReadError::Open(errno) => open(&io_error(errno)),
                ReadError::Read(errno) => update(format!("hGetContents: {}", io_error(errno))),
                ReadError::Directory => open("inappropriate type (is a directory)"),
                ReadError::NotRegular => open("inappropriate type (not a regular file)"),
                ReadError::TooLong { bytes, limit } => load(format!(
                    "parsing configuration: {bytes} bytes are more than the {limit} that can be served"
                )),
                ReadError::Changing => load("it was written to while it was read".into()),
            },
        }
    }
}

/// Formats an I/O error like the reference (`Show IOException` in GHC's `GHC.IO.Exception`).
fn io_error(errno: Errno) -> String {
    let kind = match errno {
        Errno::ENOENT => "does not exist",
        Errno::EACCES | Errno::EPERM | Errno::EROFS => "permission denied",
        Errno::ENOTDIR | Errno::EISDIR => "inappropriate type",
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => "resource exhausted",
        Errno::ELOOP | Errno::EINVAL | Errno::ENAMETOOLONG => "invalid argument",
        Errno::EIO => "hardware fault",
        _ => "failed",
    };
    format!("{kind} ({})", errno.desc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: LoadFailure = LoadFailure::Unreadable(ReadError::Stat(Errno::ENOENT));
    const MISSING_ANSWER: &str = "Failure during configuration update: /d/config.data: \
        getFileStatus: does not exist (No such file or directory)";

    fn policy(on_bad_config: OnBadConfig) -> Policy {
        Policy::new("/d/config.data".into(), on_bad_config)
    }

    fn valid(warnings: &[&str]) -> Loaded {
        Loaded {
            snapshot: Snapshot::unavailable("placeholder for a valid snapshot"),
            warnings: warnings.iter().map(|&w| w.into()).collect(),
        }
    }

    fn invalid() -> LoadFailure {
        LoadFailure::Invalid(config::Error {
            path: "/nodes/N/name".into(),
            what: "is a number".into(),
        })
    }

    /// What a decision publishes: nothing, a valid configuration, or an error answer.
    #[derive(Debug, PartialEq)]
    enum Published {
        Nothing,
        Valid,
        Error(String),
    }

    fn published(decision: &Decision) -> Published {
        match (&decision.publish, &decision.unavailable) {
            (None, None) => Published::Nothing,
            (Some(_), None) => Published::Valid,
            (Some(_), Some(answer)) => Published::Error(answer.clone()),
            (None, Some(_)) => panic!("an error answer without a snapshot to publish"),
        }
    }

    #[test]
    fn keep_last_survives_invalid_files_but_not_a_missing_file() {
        let mut policy = policy(OnBadConfig::KeepLast);
        assert_eq!(published(&policy.loaded(valid(&[]))), Published::Valid);

        let decision = policy.failed(invalid());
        assert_eq!(published(&decision), Published::Nothing);
        let error = decision.error.expect("an error is logged");
        assert_eq!(
            error,
            "Failed to load config: Cannot load configuration from /d/config.data: parsing configuration: \
             /nodes/N/name: is a number; keeping the last good configuration"
        );

        let unreadable = LoadFailure::Unreadable(ReadError::Open(Errno::EACCES));
        assert_eq!(published(&policy.failed(unreadable)), Published::Nothing);

        let decision = policy.failed(MISSING);
        assert_eq!(
            published(&decision),
            Published::Error(MISSING_ANSWER.into())
        );
        // The missing file discarded the last valid configuration.
        assert!(matches!(
            published(&policy.failed(invalid())),
            Published::Error(_)
        ));
        assert_eq!(published(&policy.loaded(valid(&[]))), Published::Valid);
    }

    #[test]
    fn error_mode_answers_errors_immediately() {
        let mut policy = policy(OnBadConfig::Error);
        policy.loaded(valid(&[]));
        let decision = policy.failed(invalid());
        let answer = "Cannot load configuration from /d/config.data: parsing configuration: /nodes/N/name: is a number";
        assert_eq!(published(&decision), Published::Error(answer.into()));
        assert_eq!(
            decision.error,
            Some(format!("Failed to load config: {answer}"))
        );
    }

    #[test]
    fn a_file_that_is_being_written_keeps_the_current_snapshot() {
        let mut policy = policy(OnBadConfig::Error);
        policy.loaded(valid(&[]));
        let changing = LoadFailure::Unreadable(ReadError::Changing);
        assert_eq!(published(&policy.failed(changing)), Published::Nothing);
    }

    #[test]
    fn keep_last_answers_errors_if_no_valid_configuration_was_loaded() {
        let mut policy = policy(OnBadConfig::KeepLast);
        assert!(matches!(
            published(&policy.failed(invalid())),
            Published::Error(_)
        ));
    }

    #[test]
    fn every_invalid_version_is_logged_but_an_unreadable_file_only_once() {
        let mut policy = policy(OnBadConfig::KeepLast);
        policy.loaded(valid(&[]));
        assert!(policy.failed(invalid()).error.is_some());
        assert!(policy.failed(invalid()).error.is_some());
        let unreadable = || LoadFailure::Unreadable(ReadError::Open(Errno::EMFILE));
        assert!(policy.failed(unreadable()).error.is_some());
        assert!(policy.failed(unreadable()).error.is_none());
        policy.loaded(valid(&[]));
        assert!(policy.failed(unreadable()).error.is_some());
    }

    #[test]
    fn a_file_removed_between_stat_and_open_is_reported_once() {
        let mut policy = policy(OnBadConfig::KeepLast);
        policy.loaded(valid(&[]));
        let decision = policy.failed(LoadFailure::Unreadable(ReadError::Open(Errno::ENOENT)));
        assert_eq!(
            published(&decision),
            Published::Error(MISSING_ANSWER.into())
        );
        assert!(decision.error.is_some());
        // The next check.
        let decision = policy.failed(MISSING);
        assert_eq!(published(&decision), Published::Nothing);
        assert_eq!(decision.error, None);
    }

    #[test]
    fn warnings_are_logged_only_when_they_change() {
        let mut policy = policy(OnBadConfig::KeepLast);
        assert_eq!(policy.loaded(valid(&["a"])).warnings, ["a"]);
        assert!(policy.loaded(valid(&["a"])).warnings.is_empty());
        assert_eq!(policy.loaded(valid(&["a", "b"])).warnings, ["a", "b"]);
        assert!(policy.loaded(valid(&[])).warnings.is_empty());
        assert_eq!(policy.loaded(valid(&["a"])).warnings, ["a"]);
    }

    #[test]
    fn the_detail_is_one_line_of_bounded_length() {
        let policy = policy(OnBadConfig::KeepLast);
        let answer = |what: &str| {
            let (path, what) = (String::new(), what.to_owned());
            let answer = policy.answer(&LoadFailure::Invalid(config::Error { path, what }));
            let (_, detail) = answer.split_once("configuration: ").expect("a detail");
            detail.to_owned()
        };
        assert_eq!(answer("/a\n\u{e9}\0"), "/a\\n\u{e9}\\u{0}");
        let longest = "x".repeat(DETAIL_CHARS_MAX);
        assert_eq!(answer(&longest), longest);
        assert_eq!(answer(&(longest.clone() + "y")), longest + "...");
    }

    #[test]
    fn io_errors_are_formatted_like_the_reference() {
        let policy = policy(OnBadConfig::KeepLast);
        let check = |why, expect: &str| {
            assert_eq!(policy.answer(&LoadFailure::Unreadable(why)), expect);
        };
        check(ReadError::Stat(Errno::ENOENT), MISSING_ANSWER);
        check(ReadError::Open(Errno::ENOENT), MISSING_ANSWER);
        check(
            ReadError::Directory,
            "Cannot load configuration from /d/config.data: /d/config.data: openFile: inappropriate type (is a directory)",
        );
        check(
            ReadError::Open(Errno::EACCES),
            "Cannot load configuration from /d/config.data: /d/config.data: openFile: permission denied (Permission denied)",
        );
        check(
            ReadError::Read(Errno::EIO),
            "Failure during configuration update: /d/config.data: hGetContents: hardware fault (I/O error)",
        );
    }
}

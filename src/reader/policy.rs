//! What is served and logged after each look at `config.data`. Pure: outcomes in, verdicts out.
//!
//! | the file is              | there was a good one, [`OnBadConfig::KeepLast`] | otherwise               |
//! |--------------------------|-------------------------------------------------|-------------------------|
//! | good                     | it is served                                    | it is served            |
//! | bad, or cannot be read   | the last good one is served on                  | error answers           |
//! | missing                  | error answers                                   | error answers           |
//!
//! A missing file is no accident: Ganeti removes `config.data` from a node that is no candidate any more, and such a node
//! must not go on answering from an ever older configuration. So it also ends the last good one's life.
//!
//! Source of the error answers: `Ganeti.ConfigReader` (`loadConfig`, `updateConfig`), version 3.0.2. The part after
//! `parsing configuration: ` is ours.

use nix::errno::Errno;

use super::OnBadConfig;
use super::file::ReadError;
use crate::config;
use crate::printable::printable_start;
use crate::snapshot::{Loaded, Snapshot};

/// How much of what is wrong inside a file is told, in characters.
const DETAIL_CHARS_MAX: usize = 1_000;

/// Why a look at `config.data` gave nothing to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// There is nothing to judge.
    Unreadable(ReadError),
    /// It was read, and is no configuration.
    Invalid(config::Error),
}

/// What to do after a look.
#[derive(Debug, Default)]
pub struct Decision {
    /// The snapshot to publish; `None` to serve on what is served.
    pub publish: Option<Snapshot>,
    /// The error answer that `publish` gives, if it is one.
    pub unavailable: Option<String>,
    /// What went wrong, if it is not what the last look already said.
    pub error: Option<String>,
    /// What is odd, if it is not what the last load already said.
    pub warnings: Vec<String>,
}

/// What is remembered from look to look.
#[derive(Debug)]
pub struct Policy {
    /// `config.data` as the administrator wrote it.
    path: String,
    on_bad_config: OnBadConfig,
    /// Whether a good snapshot is served.
    good: bool,
    /// What the last look was told as, if it was a failure. Not the failure itself: a file that is missed at two calls is told once.
    failure: Option<String>,
    /// The warnings of the last load.
    warnings: Vec<String>,
}

impl Policy {
    /// The policy for the file `path`, of which nothing has been seen.
    pub fn new(path: String, on_bad_config: OnBadConfig) -> Self {
        Self {
            path,
            on_bad_config,
            good: false,
            failure: None,
            warnings: Vec::new(),
        }
    }

    /// A good configuration was loaded.
    pub fn loaded(&mut self, loaded: Loaded) -> Decision {
        self.good = true;
        self.failure = None;
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

    /// Nothing usable was found.
    ///
    /// A file that cannot be read is tried again without having changed, so that is only said when it is news; a file
    /// that was judged has changed since, so that is always said. Neither happens more than about once a second.
    pub fn failed(&mut self, failure: LoadFailure) -> Decision {
        let answer = self.answer(&failure);
        let news = self.failure.as_ref() != Some(&answer);
        let readable = matches!(failure, LoadFailure::Invalid(_));
        let missing = matches!(failure, LoadFailure::Unreadable(why) if why.is_missing());
        // Half of a file says nothing, neither good nor bad; the next try comes in a second.
        let half = failure == LoadFailure::Unreadable(ReadError::Changing);
        let keep = self.good && !missing && (half || self.on_bad_config == OnBadConfig::KeepLast);
        self.good = keep;
        self.failure = Some(answer.clone());

        let mut verdict = Decision::default();
        if news || readable {
            let consequence = if keep {
                "; the last good configuration is served on"
            } else {
                ""
            };
            verdict.error = Some(format!("Failed to load config: {answer}{consequence}"));
        }
        if !keep && news {
            verdict.publish = Some(Snapshot::unavailable(&answer));
            verdict.unavailable = Some(answer);
        }
        verdict
    }

    /// The reference's error answer for `failure`, where it has one, and one in its spirit where not.
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
                // It vanished between the two calls, which is no news of its own.
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

/// An I/O error as the reference prints it (`Show IOException` in GHC's `GHC.IO.Exception`).
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

    fn good(warnings: &[&str]) -> Loaded {
        Loaded {
            snapshot: Snapshot::unavailable("stands for a good one"),
            warnings: warnings.iter().map(|&w| w.into()).collect(),
        }
    }

    fn invalid() -> LoadFailure {
        LoadFailure::Invalid(config::Error {
            path: "/nodes/N/name".into(),
            what: "is a number".into(),
        })
    }

    /// What a verdict publishes: nothing, a good snapshot, or an error answer.
    #[derive(Debug, PartialEq)]
    enum Published {
        Nothing,
        Good,
        Error(String),
    }

    fn published(verdict: &Decision) -> Published {
        match (&verdict.publish, &verdict.unavailable) {
            (None, None) => Published::Nothing,
            (Some(_), None) => Published::Good,
            (Some(_), Some(answer)) => Published::Error(answer.clone()),
            (None, Some(_)) => panic!("an answer that is not published"),
        }
    }

    #[test]
    fn keeping_the_last_good_one_outlives_bad_files_but_not_a_missing_one() {
        let mut policy = policy(OnBadConfig::KeepLast);
        assert_eq!(published(&policy.loaded(good(&[]))), Published::Good);

        let verdict = policy.failed(invalid());
        assert_eq!(published(&verdict), Published::Nothing);
        let error = verdict.error.expect("an error is logged");
        assert_eq!(
            error,
            "Failed to load config: Cannot load configuration from /d/config.data: parsing configuration: \
             /nodes/N/name: is a number; the last good configuration is served on"
        );

        let unreadable = LoadFailure::Unreadable(ReadError::Open(Errno::EACCES));
        assert_eq!(published(&policy.failed(unreadable)), Published::Nothing);

        let verdict = policy.failed(MISSING);
        assert_eq!(published(&verdict), Published::Error(MISSING_ANSWER.into()));
        // Nothing good is left to fall back on.
        assert!(matches!(
            published(&policy.failed(invalid())),
            Published::Error(_)
        ));
        assert_eq!(published(&policy.loaded(good(&[]))), Published::Good);
    }

    #[test]
    fn the_reference_way_answers_errors_at_once() {
        let mut policy = policy(OnBadConfig::Error);
        policy.loaded(good(&[]));
        let verdict = policy.failed(invalid());
        let answer = "Cannot load configuration from /d/config.data: parsing configuration: /nodes/N/name: is a number";
        assert_eq!(published(&verdict), Published::Error(answer.into()));
        assert_eq!(
            verdict.error,
            Some(format!("Failed to load config: {answer}"))
        );
    }

    #[test]
    fn a_file_that_is_being_written_changes_nothing() {
        let mut policy = policy(OnBadConfig::Error);
        policy.loaded(good(&[]));
        let changing = LoadFailure::Unreadable(ReadError::Changing);
        assert_eq!(published(&policy.failed(changing)), Published::Nothing);
    }

    #[test]
    fn without_a_good_one_even_keeping_answers_errors() {
        let mut policy = policy(OnBadConfig::KeepLast);
        assert!(matches!(
            published(&policy.failed(invalid())),
            Published::Error(_)
        ));
    }

    #[test]
    fn a_bad_version_is_always_logged_and_an_unreadable_file_only_once() {
        let mut policy = policy(OnBadConfig::KeepLast);
        policy.loaded(good(&[]));
        assert!(policy.failed(invalid()).error.is_some());
        assert!(policy.failed(invalid()).error.is_some());
        let unreadable = || LoadFailure::Unreadable(ReadError::Open(Errno::EMFILE));
        assert!(policy.failed(unreadable()).error.is_some());
        assert!(policy.failed(unreadable()).error.is_none());
        policy.loaded(good(&[]));
        assert!(policy.failed(unreadable()).error.is_some());
    }

    #[test]
    fn a_file_that_vanishes_before_it_is_opened_is_told_once() {
        let mut policy = policy(OnBadConfig::KeepLast);
        policy.loaded(good(&[]));
        let verdict = policy.failed(LoadFailure::Unreadable(ReadError::Open(Errno::ENOENT)));
        assert_eq!(published(&verdict), Published::Error(MISSING_ANSWER.into()));
        assert!(verdict.error.is_some());
        // The look that follows.
        let verdict = policy.failed(MISSING);
        assert_eq!(published(&verdict), Published::Nothing);
        assert_eq!(verdict.error, None);
    }

    #[test]
    fn warnings_are_told_when_they_change() {
        let mut policy = policy(OnBadConfig::KeepLast);
        assert_eq!(policy.loaded(good(&["a"])).warnings, ["a"]);
        assert!(policy.loaded(good(&["a"])).warnings.is_empty());
        assert_eq!(policy.loaded(good(&["a", "b"])).warnings, ["a", "b"]);
        assert!(policy.loaded(good(&[])).warnings.is_empty());
        assert_eq!(policy.loaded(good(&["a"])).warnings, ["a"]);
    }

    #[test]
    fn details_are_one_bounded_line() {
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
    fn errors_read_as_the_reference_prints_them() {
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

//! How a client asks.

use std::time::Duration;

/// The number of candidates that a call asks by default (`confdDefaultReqCoverage`).
const COVERAGE_DEFAULT: usize = 6;
/// The time that a call has by default (`confdClientExpireTimeout`).
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// How a client asks. The default is what Ganeti's own clients do.
///
/// ```
/// use std::time::Duration;
///
/// use ganeti_confd::client::{Coverage, Settings};
///
/// let settings = Settings::default()
///     .with_coverage(Coverage::All)
///     .with_deadline(Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The number of candidates that a call asks.
    pub coverage: Coverage,
    /// The replies that a call waits for.
    pub wait_for: WaitFor,
    /// The longest time that a call takes.
    pub deadline: Duration,
    /// Whether a reply may come from another address than the one that was asked. Only such replies
    /// are affected that have the right signature and answer a request of this client; see
    /// [`CandidateResult::other_source`](super::CandidateResult::other_source).
    pub any_source: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            coverage: Coverage::default(),
            wait_for: WaitFor::default(),
            deadline: DEADLINE_DEFAULT,
            any_source: false,
        }
    }
}

impl Settings {
    /// The same settings with another [`coverage`](Self::coverage).
    #[must_use]
    pub fn with_coverage(mut self, coverage: Coverage) -> Self {
        self.coverage = coverage;
        self
    }

    /// The same settings with another [`wait_for`](Self::wait_for).
    #[must_use]
    pub fn with_wait_for(mut self, wait_for: WaitFor) -> Self {
        self.wait_for = wait_for;
        self
    }

    /// The same settings with another [`deadline`](Self::deadline).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same settings with another [`any_source`](Self::any_source).
    #[must_use]
    pub fn with_any_source(mut self, any_source: bool) -> Self {
        self.any_source = any_source;
        self
    }
}

/// The number of candidates that a call asks. They are drawn at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coverage {
    /// Six, or all if there are fewer.
    #[default]
    Default,
    /// All.
    All,
    /// This number, at least one, or all if there are fewer.
    Exactly(usize),
}

impl Coverage {
    /// The number of candidates that are asked if there are `candidates`.
    pub fn of(self, candidates: usize) -> usize {
        match self {
            Self::Default => candidates.min(COVERAGE_DEFAULT),
            Self::All => candidates,
            Self::Exactly(count) => candidates.min(count.max(1)),
        }
    }
}

/// The replies that a call waits for. It ends earlier at its deadline, or when all have answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitFor {
    /// A [`quorum`] of replies, and then as long again as the slowest of them took.
    #[default]
    Enough,
    /// All replies: if a candidate does not answer, every call takes until its deadline.
    All,
}

/// The number of replies that make an answer safe if `asked` candidates were asked: 1, 2, 2, 3, 3,
/// 4, 4, 5 for 1 to 8.
///
/// Source: `ConfdClient._NeededReplies` of `lib/confd/client.py`. Its comment says two of four; its
/// code requires three.
pub fn quorum(asked: usize) -> usize {
    match asked {
        0..3 => asked,
        3..5 => asked - 1,
        _ => asked / 2 + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_that_of_the_reference() {
        let numbers: Vec<usize> = (1..=9).map(quorum).collect();
        assert_eq!(numbers, [1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn coverage_is_at_most_all_candidates() {
        assert_eq!([2, 6, 9].map(|n| Coverage::Default.of(n)), [2, 6, 6]);
        assert_eq!([2, 6, 9].map(|n| Coverage::All.of(n)), [2, 6, 9]);
        assert_eq!([2, 6, 9].map(|n| Coverage::Exactly(4).of(n)), [2, 4, 4]);
        assert_eq!(Coverage::Exactly(0).of(3), 1);
    }
}

//! How a client asks.

use std::time::Duration;

/// How many candidates are asked if nothing else is said (`confdDefaultReqCoverage`).
const COVERAGE_DEFAULT: usize = 6;
/// How long a call may take if nothing else is said (`confdClientExpireTimeout`).
const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// How a client asks. The default is what Ganeti's own clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many candidates are asked.
    pub coverage: Coverage,
    /// When a call is over.
    pub patience: WaitFor,
    /// How long a call may take at most.
    pub deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            coverage: Coverage::default(),
            patience: WaitFor::default(),
            deadline: DEADLINE_DEFAULT,
        }
    }
}

/// How many candidates one call asks; they are drawn at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coverage {
    /// Six, or all if there are fewer.
    #[default]
    Default,
    /// All.
    All,
    /// This many, at least one, or all if there are fewer.
    Exactly(usize),
}

impl Coverage {
    /// How many of `candidates` are asked.
    pub fn of(self, candidates: usize) -> usize {
        match self {
            Self::Default => candidates.min(COVERAGE_DEFAULT),
            Self::All => candidates,
            Self::Exactly(count) => candidates.min(count.max(1)),
        }
    }
}

/// When a call is over, other than by its deadline or because all have answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// When the safe number of replies is there, and the others had as long again as the slowest of these took.
    #[default]
    Enough,
    /// Not before: with a candidate that is down without a word, every call takes until its deadline.
    All,
}

/// How many replies make an answer safe if `asked` candidates were asked: 1, 2, 2, 3, 3, 4, 4, 5 ... of 1, 2, 3, 4, 5, 6, 7, 8.
///
/// Source: `ConfdClient._NeededReplies` of `lib/confd/client.py`. (Its comment says two of four; its code asks for three.)
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
    fn safe_numbers_are_those_of_the_reference() {
        let numbers: Vec<usize> = (1..=9).map(quorum).collect();
        assert_eq!(numbers, [1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }

    #[test]
    fn nobody_asks_more_than_there_are() {
        assert_eq!([2, 6, 9].map(|n| Coverage::Default.of(n)), [2, 6, 6]);
        assert_eq!([2, 6, 9].map(|n| Coverage::All.of(n)), [2, 6, 9]);
        assert_eq!([2, 6, 9].map(|n| Coverage::Exactly(4).of(n)), [2, 4, 4]);
        assert_eq!(Coverage::Exactly(0).of(3), 1);
    }
}

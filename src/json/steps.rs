//! Counts the steps of reading a text, in debug builds with the feature `testing`: a measure of
//! work that does not depend on the machine. Elsewhere, [`step`] does nothing.

#[cfg(all(feature = "testing", debug_assertions))]
mod counter {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    /// Counts `count` steps of this thread.
    pub(crate) fn step(count: usize) {
        STEPS.set(STEPS.get() + count);
    }

    /// Returns the number of steps that `read` takes: rounds of loops, and words that are copied.
    pub fn steps(read: impl FnOnce()) -> usize {
        let before = STEPS.get();
        read();
        STEPS.get() - before
    }
}

#[cfg(all(feature = "testing", debug_assertions))]
pub use counter::steps;

#[cfg(all(feature = "testing", debug_assertions))]
pub(crate) use counter::step;

/// Does nothing.
#[cfg(not(all(feature = "testing", debug_assertions)))]
#[inline(always)]
pub(crate) const fn step(_count: usize) {}

/// Runs `read`, and returns 0: steps are not counted.
#[cfg(all(feature = "testing", not(debug_assertions)))]
pub fn steps(read: impl FnOnce()) -> usize {
    read();
    0
}

#[cfg(all(test, feature = "testing", debug_assertions))]
mod tests {
    use super::*;
    use crate::json::unescape_in_place;

    #[test]
    fn steps_are_counted_by_word_and_by_byte() {
        let count = |unit: &str| {
            let mut text = unit.repeat(800 / unit.len()).into_bytes();
            text.extend([b'"'; 8]);
            steps(|| assert!(unescape_in_place(&mut text, 0).is_some()))
        };
        let check = |unit, expected: std::ops::Range<usize>| {
            assert!(expected.contains(&count(unit)), "{unit}: {}", count(unit));
        };
        check("letters ", 100..120);
        check("\\n", 400..420);
        check("\u{e9}", 100..120);
    }
}

//! Where a generator's choices come from: a fuzzer's bytes, or a seed.

use std::ops::Range;

use arbitrary::Unstructured;

/// A source of choices. From bytes, every choice is the lowest one when they have run out, so generators must end then.
#[derive(Debug)]
pub struct Choices<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Bytes(Unstructured<'a>),
    Seed(fastrand::Rng),
}

impl<'a> Choices<'a> {
    /// Choices that a fuzzer's input makes.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(Source::Bytes(Unstructured::new(bytes)))
    }

    /// Choices that a seed makes.
    pub fn from_seed(seed: u64) -> Self {
        Self(Source::Seed(fastrand::Rng::with_seed(seed)))
    }

    /// A number in `range`, which must not be empty.
    pub fn usize(&mut self, range: Range<usize>) -> usize {
        match &mut self.0 {
            Source::Bytes(bytes) => bytes
                .int_in_range(range.start..=range.end - 1)
                .unwrap_or(range.start),
            Source::Seed(random) => random.usize(range),
        }
    }

    /// Any number.
    pub fn u64(&mut self) -> u64 {
        match &mut self.0 {
            Source::Bytes(bytes) => bytes.arbitrary().unwrap_or_default(),
            Source::Seed(random) => random.u64(..),
        }
    }

    /// Any byte.
    pub fn u8(&mut self) -> u8 {
        match &mut self.0 {
            Source::Bytes(bytes) => bytes.arbitrary().unwrap_or_default(),
            Source::Seed(random) => random.u8(..),
        }
    }

    /// Yes or no; no in the end.
    pub fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// Yes, once in `times`; no in the end, unless `times` is 1.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.usize(0..times) == times - 1
    }

    /// One of `of`, which must not be empty.
    pub fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.usize(0..of.len())].clone()
    }

    /// Whether a fuzzer's bytes have run out; a seed's never do.
    pub fn is_at_end(&self) -> bool {
        matches!(&self.0, Source::Bytes(bytes) if bytes.is_empty())
    }
}

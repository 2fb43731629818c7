//! The source of a generator's choices: a fuzzer's bytes, or a seed.

use std::ops::Range;

use arbitrary::Unstructured;

/// A source of choices. When a fuzzer's bytes have run out, every choice is the lowest one, and a
/// generator must end on that.
#[derive(Debug)]
pub struct Choices<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Bytes(Unstructured<'a>),
    Seed(fastrand::Rng),
}

impl<'a> Choices<'a> {
    /// Choices from a fuzzer's input.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(Source::Bytes(Unstructured::new(bytes)))
    }

    /// Choices from a seed.
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

    /// True or false; false when the bytes have run out.
    pub fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// True with a probability of one in `times`. False when the bytes have run out, unless `times`
    /// is 1.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.usize(0..times) == times - 1
    }

    /// An element of `of`, which must not be empty.
    pub fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.usize(0..of.len())].clone()
    }

    /// Whether the fuzzer's bytes have run out; always false with a seed.
    pub fn is_at_end(&self) -> bool {
        matches!(&self.0, Source::Bytes(bytes) if bytes.is_empty())
    }
}

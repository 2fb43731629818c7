//! A random number generator whose output does not depend on the version of a crate.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`. The bias is negligible for bounds far below 2^64.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index into a list of `count` elements.
    pub(super) fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }

    /// A version 4 UUID. Those for `i` from 0 to `n` are in ascending order, so that maps are
    /// written in key order without sorting.
    pub(super) fn uuid(&mut self, i: usize, n: usize) -> String {
        let share = (1 << 32) / n as u64;
        let first = i as u64 * share + self.below(share);
        let (a, b) = (self.next(), self.next());
        format!(
            "{first:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a & 0xffff,
            a >> 16 & 0xfff,
            0x8000 | a >> 28 & 0x3fff,
            b & 0xffff_ffff_ffff
        )
    }

    /// `digits` random hexadecimal digits.
    pub(super) fn hex(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|_| char::from(b"0123456789abcdef"[self.index(16)]))
            .collect()
    }
}

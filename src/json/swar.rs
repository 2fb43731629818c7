//! SWAR: tests on eight bytes at a time, loaded into one little-endian `u64`.
//!
//! Most strings here are shorter than the cost of a call to `memchr`. Each function returns a mask
//! with the high bit of every matching byte set; `mask.trailing_zeros() / 8` is then the offset of
//! the first match.

/// The high bit of each byte.
pub(super) const HIGH_BITS: u64 = splat(0x80);

/// Returns a word with `byte` in each of its eight bytes.
pub(crate) const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Marks the bytes of `word` that equal `byte`. Exact up to the first match only: bytes after it
/// may be marked by mistake.
pub(super) const fn first_equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ splat(byte);
    difference.wrapping_sub(splat(1)) & !difference & HIGH_BITS
}

/// Marks the bytes of `word` that equal `byte`. Exact for every byte.
pub(super) const fn equal(word: u64, byte: u8) -> u64 {
    const LOW_BITS: u64 = splat(0x7f);
    let difference = word ^ splat(byte);
    !(((difference & LOW_BITS) + LOW_BITS) | difference | LOW_BITS)
}

/// Marks the bytes of `word` that equal the ASCII character `byte`. Exact up to the first byte that
/// is not ASCII.
pub(super) const fn equal_ascii(word: u64, byte: u8) -> u64 {
    !(word ^ splat(byte)).wrapping_add(splat(0x7f)) & HIGH_BITS
}

/// Marks the bytes of `word` that a JSON string can hold only as escapes: quotes, backslashes and
/// control characters. Exact up to the first match only, as [`first_equal`]. No byte that is not
/// ASCII is marked.
pub(super) const fn first_special(word: u64) -> u64 {
    let control = word.wrapping_sub(splat(0x20));
    let quote = (word ^ splat(b'"')).wrapping_sub(splat(1));
    let backslash = (word ^ splat(b'\\')).wrapping_sub(splat(1));
    (control | quote | backslash) & !word & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offset of the first marked byte, or 8.
    fn first(mask: u64) -> usize {
        mask.trailing_zeros() as usize / 8
    }

    #[test]
    fn masks_are_exact_as_far_as_documented() {
        const BYTES: &[u8] = b"\"\"\\\\a!#[]\0\x01\x1f \x7f\x80\xa2\xdc\xff";
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let bytes: [u8; 8] = std::array::from_fn(|_| BYTES[random.usize(..BYTES.len())]);
            let word = u64::from_le_bytes(bytes);
            let position = |is: fn(&u8) -> bool| bytes.iter().position(is).unwrap_or(8);

            assert_eq!(first(first_equal(word, b'"')), position(|b| *b == b'"'));
            let special = position(|b| matches!(b, 0..0x20 | b'"' | b'\\'));
            assert_eq!(first(first_special(word)), special, "{bytes:?}");

            let all = |mask: u64| std::array::from_fn(|at| mask >> (8 * at + 7) & 1 == 1);
            assert_eq!(all(equal(word, b'\\')), bytes.map(|b| b == b'\\'));
            let ascii = position(|b| !b.is_ascii());
            let marked: [bool; 8] = all(equal_ascii(word, b'"'));
            let expected = bytes.map(|b| b == b'"');
            assert_eq!(marked[..ascii], expected[..ascii], "{bytes:?}");
        }
    }
}

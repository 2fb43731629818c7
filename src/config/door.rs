//! A door to how numbers are read and printed, for `fuzz/` and the tests; not for use.
//!
//! Texts are numbers of RFC 8259.

use super::number;

/// The number as a Haskell `Int`.
pub fn int(text: &[u8]) -> i64 {
    number::int(text)
}

/// The number as a Haskell `Integer`, printed.
pub fn integer(text: &[u8]) -> Vec<u8> {
    written(|out| number::integer(text, out))
}

/// Whether the number is an integer.
pub fn is_integral(text: &[u8]) -> bool {
    number::is_integral(text)
}

/// The number as a free-form value, printed.
pub fn rational(text: &[u8]) -> Vec<u8> {
    written(|out| number::rational(text, out))
}

/// The number as a double, printed.
pub fn double(text: &[u8]) -> Vec<u8> {
    written(|out| number::double(number::nearest(text), out))
}

/// The number as a time in seconds, printed.
pub fn time(text: &[u8]) -> Vec<u8> {
    written(|out| number::time(number::nearest(text), out))
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

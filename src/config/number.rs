//! Reads numbers and times as the reference reads them, and prints them as it prints them.
//!
//! The reference reads every number as an exact rational. From the text of a number this module
//! makes what a field asks for: an integer (rounded half to even, wrapped to 64 bits or not), the
//! nearest double, or the number itself.
//!
//! Texts are numbers of RFC 8259.
//!
//! Source: `Text.JSON` (`showJSRational`), `GHC.Float.floatToDigits` and `Ganeti.Objects`
//! (`TimeAsDoubleJSON`), as observed on the reference daemon.

use num_bigint::BigInt;

/// The largest exponent of an integer that is printed in full. Larger numbers exceed every double
/// and are printed as infinity.
const EXPONENT_MAX: i64 = 308;

/// The value `digits` × 10^`exponent`, without leading or trailing zeros. Zero has no digits and
/// the exponent 0.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Reads a number of RFC 8259. Exponents are limited to ±2^40, which is beyond any effect.
    fn parse(text: &[u8]) -> Self {
        let (mantissa, power) = match memchr::memchr2(b'e', b'E', text) {
            Some(at) => (&text[..at], exponent(&text[at + 1..])),
            None => (text, 0),
        };
        let fraction = memchr::memchr(b'.', mantissa).map_or(0, |dot| mantissa.len() - dot - 1);
        let mut digits: Vec<u8> = mantissa
            .iter()
            .copied()
            .filter(u8::is_ascii_digit)
            .skip_while(|&digit| digit == b'0')
            .collect();
        let significant = digits
            .iter()
            .rposition(|&digit| digit != b'0')
            .map_or(0, |last| last + 1);
        let zeros = digits.len() - significant;
        digits.truncate(significant);
        let exponent = if digits.is_empty() {
            0
        } else {
            power - fraction as i64 + zeros as i64
        };
        Self {
            negative: text.first() == Some(&b'-'),
            digits,
            exponent,
        }
    }

    /// The digits before and after the decimal point; zeros next to the point are left out.
    fn split(&self) -> (&[u8], &[u8]) {
        let whole = self.digits.len() as i64 + self.exponent.min(0);
        self.digits.split_at(whole.max(0) as usize)
    }

    /// Whether the magnitude rounds up to the next integer: its fraction is over a half, or is a
    /// half after an odd digit.
    fn rounds_up(&self) -> bool {
        let (whole, fraction) = self.split();
        let first = if self.digits.len() as i64 + self.exponent < 0 {
            None
        } else {
            fraction.first()
        };
        match first {
            Some(b'5') if fraction.len() == 1 => whole.last().is_some_and(|digit| digit % 2 == 1),
            Some(digit) => *digit >= b'5',
            None => false,
        }
    }
}

/// The value of an exponent with its sign, limited to ±2^40.
fn exponent(text: &[u8]) -> i64 {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    let size = digits.fold(0_i64, |sum, digit| {
        (sum * 10 + i64::from(digit - b'0')).min(1 << 40)
    });
    if text.first() == Some(&b'-') {
        -size
    } else {
        size
    }
}

/// The number as a Haskell `Int`: rounded half to even, wrapped to signed 64 bits.
pub fn int(text: &[u8]) -> i64 {
    let decimal = Decimal::parse(text);
    let horner = |sum: u64, digit: &u8| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
    let mut value = decimal.split().0.iter().fold(0, horner);
    // 2^64 divides 10^64, so that larger powers wrap to zero.
    for _ in 0..decimal.exponent.clamp(0, 64) {
        value = value.wrapping_mul(10);
    }
    value = value.wrapping_add(u64::from(decimal.rounds_up()));
    (if decimal.negative {
        value.wrapping_neg()
    } else {
        value
    })
    .cast_signed()
}

/// Whether the number is an integer, so that [`integer`] does not round it.
pub fn is_integral(text: &[u8]) -> bool {
    Decimal::parse(text).exponent >= 0
}

/// Writes the number as a Haskell `Integer`: rounded half to even, all its digits.
pub fn integer(text: &[u8], out: &mut Vec<u8>) {
    let decimal = Decimal::parse(text);
    if decimal.exponent >= 0 {
        return write_integral(&decimal, out);
    }
    let mut whole = decimal.split().0.to_vec();
    if decimal.rounds_up() {
        increment(&mut whole);
    }
    if whole.is_empty() {
        out.push(b'0');
    } else {
        out.extend(decimal.negative.then_some(b'-'));
        out.extend_from_slice(&whole);
    }
}

/// Adds one to a decimal number; no digits are zero.
fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit != b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

/// Writes the number as a free-form value: an integer with all its digits, any other as the nearest
/// double.
pub fn rational(text: &[u8], out: &mut Vec<u8>) {
    let decimal = Decimal::parse(text);
    if decimal.exponent >= 0 {
        write_integral(&decimal, out);
    } else {
        show(nearest(text), out);
    }
}

/// Writes an integer with all its digits, or 2^1024 if it is larger than any double.
fn write_integral(decimal: &Decimal, out: &mut Vec<u8>) {
    if decimal.digits.is_empty() {
        out.push(b'0');
    } else if decimal.exponent > EXPONENT_MAX {
        write_infinity(decimal.negative, out);
    } else {
        if decimal.negative {
            out.push(b'-');
        }
        out.extend_from_slice(&decimal.digits);
        out.resize(out.len() + decimal.exponent as usize, b'0');
    }
}

/// The nearest double; infinity beyond the range of doubles.
pub fn nearest(text: &[u8]) -> f64 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// Writes a double: an integral one with all its digits, any other by `show`.
pub fn double(value: f64, out: &mut Vec<u8>) {
    if value.is_infinite() {
        write_infinity(value.is_sign_negative(), out);
    } else if value.fract() != 0.0 {
        show(value, out);
    } else {
        // Adding zero turns -0.0, which must not print a sign, into 0.0.
        out.extend_from_slice(format!("{:.0}", value + 0.0).as_bytes());
    }
}

/// Writes 2^1024, to which the reference widens an infinite double.
fn write_infinity(negative: bool, out: &mut Vec<u8>) {
    let magnitude = BigInt::from(1) << 1024_u32;
    let signed = if negative { -magnitude } else { magnitude };
    out.extend_from_slice(signed.to_string().as_bytes());
}

/// Writes a time in seconds. The reference converts it to picoseconds and back, which may change
/// it.
pub fn time(seconds: f64, out: &mut Vec<u8>) {
    const PICO: f64 = 1e12;
    let picoseconds = (seconds * PICO).round_ties_even();
    if picoseconds.abs() < 1e38 {
        let exact = picoseconds as i128;
        let (whole, fraction) = (
            exact.div_euclid(PICO as i128),
            exact.rem_euclid(PICO as i128),
        );
        return double(whole as f64 + fraction as f64 / PICO, out);
    }
    let exact = exact_integer(picoseconds);
    let pico = BigInt::from(PICO as i64);
    let mut whole = &exact / &pico;
    let mut fraction = exact % &pico;
    if fraction < BigInt::ZERO {
        whole -= 1;
        fraction += &pico;
    }
    let as_double = |value: &BigInt| nearest(value.to_string().as_bytes());
    double(as_double(&whole) + as_double(&fraction) / PICO, out);
}

/// An integral double as an integer; an infinite one as 2^1024, like in the reference.
fn exact_integer(value: f64) -> BigInt {
    let magnitude = if value.is_infinite() {
        BigInt::from(1) << 1024_u32
    } else {
        let (mantissa, exponent) = parts(value.abs());
        BigInt::from(mantissa) << u32::try_from(exponent).unwrap_or(0)
    };
    if value < 0.0 { -magnitude } else { magnitude }
}

/// Mantissa and exponent of a finite positive double: `value` = mantissa × 2^exponent.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let (biased, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    if biased == 0 {
        (fraction, -1074)
    } else {
        (fraction | 1 << 52, biased - 1075)
    }
}

/// Writes a double in Haskell's `show` form: `0.1`, `9999999.5`, `1.0e-2`, `1.363620258608976e9`.
fn show(value: f64, out: &mut Vec<u8>) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value == 0.0 {
        return out.extend_from_slice(b"0.0");
    }
    let (digits, point) = digits(value.abs());
    let part = |digits: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(if digits.is_empty() { b"0" } else { digits });
    };
    // 0.1 <= value < 10^7 is written without an exponent.
    if (0..=7).contains(&point) {
        let whole = digits.len().min(point as usize);
        part(&digits[..whole], out);
        out.resize(out.len() + point as usize - whole, b'0');
        out.push(b'.');
        part(&digits[whole..], out);
    } else {
        out.push(digits[0]);
        out.push(b'.');
        part(&digits[1..], out);
        out.push(b'e');
        out.extend_from_slice(itoa::Buffer::new().format(point - 1).as_bytes());
    }
}

/// The shortest digits that identify a finite positive double, and the place of the decimal point:
/// 0.d₁d₂… × 10^point.
fn digits(value: f64) -> (Digits, i32) {
    let (mantissa, _) = parts(value);
    // Between these bounds the fast digits differ from the reference's only at ties and at bounds
    // of the rounding interval. Both need a mantissa that ends in zeros.
    let usual = (9.5e-7..1.7e10).contains(&value) && mantissa.trailing_zeros() < 10;
    if usual {
        fast_digits(value)
    } else {
        reference_digits(value)
    }
}

/// [`digits`] by a shortest-digits algorithm with other tie rules.
fn fast_digits(value: f64) -> (Digits, i32) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    let (mantissa, power) = match text.iter().position(|byte| *byte == b'e') {
        Some(at) => (&text[..at], exponent(&text[at + 1..]) as i32),
        None => (text, 0),
    };
    let whole = mantissa
        .iter()
        .position(|byte| *byte == b'.')
        .unwrap_or(mantissa.len());
    let mut digits = Digits::default();
    let mut leading = 0;
    for digit in mantissa.iter().filter(|byte| byte.is_ascii_digit()) {
        if digits.len == 0 && *digit == b'0' {
            leading += 1;
        } else {
            digits.push(*digit);
        }
    }
    digits.trim_zeros();
    (digits, whole as i32 - leading + power)
}

/// The digits of a double; 17 are enough to identify any.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Digits {
    digits: [u8; 20],
    len: usize,
}

impl Digits {
    fn push(&mut self, digit: u8) {
        self.digits[self.len] = digit;
        self.len += 1;
    }

    /// Drops zeros at the end.
    fn trim_zeros(&mut self) {
        while self.len > 0 && self.digits[self.len - 1] == b'0' {
            self.len -= 1;
            self.digits[self.len] = 0;
        }
    }
}

impl std::ops::Deref for Digits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

/// [`digits`] by Steele and White's free-format algorithm with the reference's choices: the bounds
/// of the rounding interval are excluded, and a last digit at a tie is rounded up.
fn reference_digits(value: f64) -> (Digits, i32) {
    let (mantissa, exponent) = parts(value);
    // The gap to the next double below a power of two is half the gap above it.
    let narrow = mantissa == 1 << 52 && exponent > -1074;
    let shift = 1 + u32::from(narrow);
    let mut rest = BigInt::from(mantissa) << (shift + exponent.max(0).unsigned_abs());
    let mut scale = BigInt::from(1) << (shift + exponent.min(0).unsigned_abs());
    let mut below = BigInt::from(1) << exponent.max(0).unsigned_abs();
    let mut above = &below << u32::from(narrow);

    let mut point = value.log10().ceil() as i32 - 1;
    if point >= 0 {
        scale *= BigInt::from(10).pow(point.unsigned_abs());
    } else {
        let factor = BigInt::from(10).pow(point.unsigned_abs());
        (rest, above, below) = (rest * &factor, above * &factor, below * &factor);
    }
    while &rest + &above > scale {
        scale *= 10;
        point += 1;
    }

    let mut digits = Digits::default();
    loop {
        (rest, above, below) = (rest * 10, above * 10, below * 10);
        let mut digit = b'0';
        while rest >= scale {
            rest -= &scale;
            digit += 1;
        }
        let (low, high) = (rest < below, &rest + &above > scale);
        if low || high {
            let up = high && !(low && &rest * 2 < scale);
            digits.push(digit + u8::from(up));
            return (digits, point);
        }
        digits.push(digit);
    }
}

/// Reads the integer at the start of `text` as Haskell's `reads` does for `Int`, wrapped to 64
/// bits: white space, then decimal, `0x` or `0o`, a sign, parentheses. Returns the rest of the text
/// as well.
pub(super) fn read_int(text: &str) -> Option<(i64, &str)> {
    let mut text = text.trim_start();
    let mut parentheses = 0_usize;
    while let Some(inner) = text.strip_prefix('(') {
        text = inner.trim_start();
        parentheses += 1;
    }
    let (value, mut rest) = match text.strip_prefix('-') {
        Some(magnitude) => {
            let (value, rest) = read_magnitude(magnitude.trim_start())?;
            (value.wrapping_neg(), rest)
        }
        None => read_magnitude(text)?,
    };
    for _ in 0..parentheses {
        rest = rest.trim_start().strip_prefix(')')?;
    }
    Some((value.cast_signed(), rest))
}

/// [`read_int`] without sign and parentheses.
fn read_magnitude(text: &str) -> Option<(u64, &str)> {
    let prefixed = |radix, prefixes: [&str; 2]| {
        let digits = prefixes
            .into_iter()
            .find_map(|prefix| text.strip_prefix(prefix))?;
        digits
            .starts_with(|first: char| first.is_digit(radix))
            .then_some((radix, digits))
    };
    let (radix, digits) = prefixed(16, ["0x", "0X"])
        .or_else(|| prefixed(8, ["0o", "0O"]))
        .unwrap_or((10, text));
    let end = digits
        .find(|digit: char| !digit.is_digit(radix))
        .unwrap_or(digits.len());
    let horner = |sum: u64, digit: char| {
        sum.wrapping_mul(u64::from(radix))
            .wrapping_add(u64::from(digit.to_digit(radix).unwrap_or(0)))
    };
    (end > 0).then(|| (digits[..end].chars().fold(0, horner), &digits[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("numbers are ASCII")
    }

    #[test]
    fn rationals_print_as_the_reference_prints_them() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("0e5", "0"),
            ("5000000.0", "5000000"),
            ("1e22", "10000000000000000000000"),
            ("1e23", "100000000000000000000000"),
            ("-12345678901234567890", "-12345678901234567890"),
            ("0.1", "0.1"),
            ("0.10e0", "0.1"),
            ("0.01", "1.0e-2"),
            ("0.09999", "9.999e-2"),
            ("0.25", "0.25"),
            ("1e-3", "1.0e-3"),
            ("123e-5", "1.23e-3"),
            ("9.5367431640625e-7", "9.5367431640625e-7"),
            ("-1.5", "-1.5"),
            ("123456.789", "123456.789"),
            ("9999999.5", "9999999.5"),
            ("9999999.999999999", "9999999.999999998"),
            ("10000000.5", "1.00000005e7"),
            ("33554432.125", "3.3554432125e7"),
            ("1363620258.608976", "1.363620258608976e9"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("0.3333333333333333333333333", "0.3333333333333333"),
            ("9007199254740993.5", "9.007199254740994e15"),
            ("18446744073709551616.5", "1.8446744073709552e19"),
            ("4503599627370497.5", "4.503599627370498e15"),
            ("5e-324", "5.0e-324"),
            ("2.5e-324", "5.0e-324"),
            ("2e-324", "0.0"),
            ("-1e-400", "-0.0"),
            ("2.2250738585072011e-308", "2.225073858507201e-308"),
            ("725941401564874.25", "7.259414015648743e14"),
            ("-189231196179362.125", "-1.8923119617936213e14"),
            ("-80815306768942.625", "-8.081530676894263e13"),
            ("1.5", "1.5"),
            ("100.5", "100.5"),
        ] {
            assert_eq!(
                written(|out| rational(text.as_bytes(), out)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn ints_round_half_to_even_and_wrap() {
        for (text, expected) in [
            ("1.5", 2),
            ("2.5", 2),
            ("-1.5", -2),
            ("0.5", 0),
            ("0.05", 0),
            ("0.051e1", 1),
            ("2.50000000000000000000001", 3),
            ("1e3", 1000),
            ("1e-400", 0),
            ("9223372036854775808", i64::MIN),
            ("18446744073709551616", 0),
            ("1e30", 5_076_944_270_305_263_616),
            ("-9223372036854775809", i64::MAX),
            ("1e999999999999999999999", 0),
        ] {
            assert_eq!(int(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn integers_keep_all_digits() {
        for (text, expected) in [
            ("2.5", "2"),
            ("-3.5", "-4"),
            ("1e20", "100000000000000000000"),
            ("0.4", "0"),
            ("-0.4", "0"),
            ("9.5", "10"),
            ("-99.51", "-100"),
        ] {
            assert_eq!(
                written(|out| integer(text.as_bytes(), out)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn parentheses_may_be_nested_to_any_depth() {
        let nested = |depth: usize| "(".repeat(depth) + " -7" + &" )".repeat(depth) + "x";
        assert_eq!(read_int(&nested(3)), Some((-7, "x")));
        assert_eq!(read_int(&nested(1_000_000)), Some((-7, "x")));
        assert_eq!(read_int("((7)"), None);
    }

    #[test]
    fn every_spelling_of_zero_is_an_integer() {
        for text in ["0", "-0", "0.0", "-0.00", "0e-5", "0.0E7", "7.0", "70e-1"] {
            assert!(is_integral(text.as_bytes()), "{text}");
        }
        assert!(!is_integral(b"7.5"));
    }

    #[test]
    fn times_are_converted_to_picoseconds_and_back() {
        for (text, expected) in [
            ("1358348755.779906", "1.3583487557799058e9"),
            ("-0.1", "-9.999999999999998e-2"),
            ("1e-12", "1.0e-12"),
            ("-1e-12", "-9.999778782798785e-13"),
            ("1e-13", "0"),
            ("5e-13", "0"),
            ("1.5", "1.5"),
            ("1700000000", "1700000000"),
            ("1700000000.123456", "1.700000000123456e9"),
            ("12345.6789012345678", "12345.678901234567"),
        ] {
            assert_eq!(
                written(|out| time(nearest(text.as_bytes()), out)),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn doubles_of_any_size_print_in_full() {
        assert_eq!(written(|out| double(1e23, out)), "99999999999999991611392");
        assert_eq!(written(|out| double(-0.0, out)), "0");
        assert!(
            written(|out| double(f64::INFINITY, out))
                .starts_with("1797693134862315907729305190789")
        );
    }

    #[test]
    fn fast_digits_equal_the_reference_s_digits() {
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        let mut compared = 0;
        while compared < 3_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Exponents of 2^-20 to 2^34, mantissas with at most nine trailing zeros.
            let value = f64::from_bits((bits >> 12) | (1003 + (bits % 54)) << 52);
            if (value.to_bits().trailing_zeros() < 10) && value < 1.7e10 {
                assert_eq!(fast_digits(value), reference_digits(value), "{value:e}");
                compared += 1;
            }
        }
    }
}

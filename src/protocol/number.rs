//! Numbers in requests. Only small whole numbers mean anything: a request type, or a field.
//!
//! Any other number a double can hold is valid where the value is ignored, in any notation and of
//! any length. The cost is linear in the length: a general conversion to a double can take
//! thousands of steps for a few digits.

use crate::json::steps::step;

/// A number in a request, as the nearest double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// A whole number from 0 to [`SMALL_MAX`].
    Small(u8),
    /// Any other number.
    Other,
}

/// The largest number that has a meaning: the last request type.
const SMALL_MAX: u8 = 11;

/// Significant digits that are evaluated; the others only count. A double has 17.
const DIGITS_MAX: u32 = 19;

/// Reads the number at the start of `text`, in RFC 8259's grammar. Returns it and its length.
/// `None` if there is none, or if it is too large for a double.
pub(super) fn read(text: &[u8]) -> Option<(Number, usize)> {
    let byte = |at: usize| text.get(at).copied().unwrap_or_default();
    let negative = byte(0) == b'-';
    let mut at = usize::from(negative);
    let mut decimal = Decimal::default();
    match byte(at) {
        b'0' => at += 1,
        b'1'..=b'9' => {
            while byte(at).is_ascii_digit() {
                decimal.push(byte(at) - b'0', false);
                at += 1;
            }
        }
        _ => return None,
    }
    if byte(at) == b'.' {
        at += 1;
        if !byte(at).is_ascii_digit() {
            return None;
        }
        while byte(at).is_ascii_digit() {
            decimal.push(byte(at) - b'0', true);
            at += 1;
        }
    }
    if matches!(byte(at), b'e' | b'E') {
        let sign = byte(at + 1);
        at += 1 + usize::from(matches!(sign, b'+' | b'-'));
        if !byte(at).is_ascii_digit() {
            return None;
        }
        let mut exponent = 0_i64;
        while byte(at).is_ascii_digit() {
            step(1);
            exponent = exponent
                .saturating_mul(10)
                .saturating_add(i64::from(byte(at) - b'0'));
            at += 1;
        }
        let exponent = if sign == b'-' { -exponent } else { exponent };
        decimal.exponent = decimal.exponent.saturating_add(exponent);
    }
    let number = decimal.round()?;
    match number {
        Number::Small(1..) if negative => Some((Number::Other, at)),
        _ => Some((number, at)),
    }
}

/// A positive decimal number: `digits` times ten to the power of `exponent`.
#[derive(Clone, Copy, Debug, Default)]
struct Decimal {
    digits: u64,
    /// The number of digits in `digits`; 0 if that is 0.
    len: u32,
    exponent: i64,
}

impl Decimal {
    /// Appends a digit of the integral part, or of the fraction.
    fn push(&mut self, digit: u8, is_fraction: bool) {
        step(1);
        let is_zero = self.digits == 0 && digit == 0;
        if is_zero {
            self.exponent -= i64::from(is_fraction);
        } else if self.len < DIGITS_MAX {
            self.digits = 10 * self.digits + u64::from(digit);
            self.len += 1;
            self.exponent -= i64::from(is_fraction);
        } else {
            self.exponent += i64::from(!is_fraction);
        }
    }

    /// Rounds to the nearest double. `None` if it is infinite.
    fn round(self) -> Option<Number> {
        if self.digits == 0 {
            return Some(Number::Small(0));
        }
        // The number is at least 10 to the power of `magnitude - 1`, and less than 10 times that.
        let magnitude = self.exponent.saturating_add(i64::from(self.len));
        let leading = self.digits * 10_u64.pow(DIGITS_MAX - self.len);
        match magnitude {
            // Halfway from the largest double to the next power of two:
            // 1.797693134862315807937e308.
            309 if leading > 1_797_693_134_862_315_807 => None,
            310.. => None,
            // Half of the smallest double: 2.4703282292062327208e-324.
            -323 if leading <= 2_470_328_229_206_232_720 => Some(Number::Small(0)),
            ..-323 => Some(Number::Small(0)),
            0..=2 => Some(self.small()),
            _ => Some(Number::Other),
        }
    }

    /// Rounds a number from 0.1 to 100.
    fn small(self) -> Number {
        let digits = u128::from(self.digits);
        let shift = |exponent: i64| 10_u128.pow(exponent.unsigned_abs() as u32);
        let (digits, one) = match self.exponent {
            0.. => (digits * shift(self.exponent), 1),
            _ => (digits, shift(self.exponent)),
        };
        let whole = (digits + one / 2) / one;
        if whole == 0 || whole > u128::from(SMALL_MAX) {
            return Number::Other;
        }
        // Doubles near `whole` are 2^(log2 - 52) apart, just below a power of two half of that. At
        // the midpoint the even one is nearest: `whole`.
        let difference = digits.abs_diff(whole * one);
        let is_below_power = whole.is_power_of_two() && digits < whole * one;
        let bits = if is_below_power { 54 } else { 53 };
        if difference << bits <= one << whole.ilog2() {
            Number::Small(whole as u8)
        } else {
            Number::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the standard library reads it.
    fn expected(text: &str) -> Option<Number> {
        let value: f64 = text.parse().expect("a number");
        value.is_finite().then(|| {
            let is_small = value.fract() == 0.0 && (0.0..=f64::from(SMALL_MAX)).contains(&value);
            if is_small {
                Number::Small(value as u8)
            } else {
                Number::Other
            }
        })
    }

    fn check(text: &str) {
        let len = text.len();
        for after in ["", ",", "}", " ", "]x"] {
            let read = read(format!("{text}{after}").as_bytes());
            assert_eq!(read, expected(text).map(|number| (number, len)), "{text}");
        }
    }

    #[test]
    fn numbers_are_rounded_as_doubles() {
        for text in [
            "0",
            "-0",
            "7",
            "11",
            "12",
            "-1",
            "-11",
            "99",
            "100",
            "4.0",
            "40e-1",
            "0.4e1",
            "0.04E+2",
            "1.5",
            "0.5",
            "0e5",
            "0.0e-7",
            "-0.0",
            "1e0",
            "1e1",
            "1.1e1",
            "1e2",
            "1e-1",
            "1e30",
            "1e308",
            "1.7976931348623157e308",
            "1.7976931348623158e308",
            "1.7976931348623159e308",
            "1e309",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "5e-324",
            "2e-324",
            "2.4703282292062327e-324",
            "2.4703282292062328e-324",
            "1e-323",
            "1e-325",
            "0.99999999999999994",
            "0.99999999999999995",
            "0.99999999999999989",
            "1.0000000000000001",
            "1.0000000000000002",
            "1.9999999999999998",
            "1.9999999999999999",
            "11.000000000000001",
            "10.999999999999999",
            "10.9999999999999999",
            "99999999999999999999999",
            "18446744073709551616",
            "0.00000000000000000000000000000000001e35",
            "100000000000000000000000000000000000e-35",
            "4503599627370496.5",
        ] {
            check(text);
        }
        check(&format!("0.{}1e400", "0".repeat(400)));
        check(&format!("1{}e-400", "0".repeat(400)));
        check(&format!("3.{}", "0".repeat(50_000)));
        check(&"9".repeat(309));
        check(&"9".repeat(308));
    }

    #[test]
    fn random_numbers_are_rounded_as_doubles() {
        for seed in 0..50_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut text = String::new();
            if random.u8(..4) == 0 {
                text.push('-');
            }
            let digits = |random: &mut fastrand::Rng, len: usize| -> String {
                let one = ['0', '1', '9', '9', '0', '5'][random.usize(..6)];
                (0..len)
                    .map(|_| match random.u8(..4) {
                        0 => char::from(random.u8(b'0'..=b'9')),
                        _ => one,
                    })
                    .collect()
            };
            let len = random.usize(1..4);
            let whole = digits(&mut random, len);
            let whole = whole.trim_start_matches('0');
            text.push_str(if whole.is_empty() { "0" } else { whole });
            if random.bool() {
                let len = random.usize(1..25);
                text.push('.');
                text.push_str(&digits(&mut random, len));
            }
            if random.bool() {
                let limit = [2, 20, 330][random.usize(..3)];
                text.push_str(&format!("e{}", random.i32(-limit..=limit)));
            }
            check(&text);
        }
    }

    #[test]
    fn other_text_is_not_a_number() {
        for text in [
            "", "-", "x", "+1", ".5", "1.", "1.e1", "1e", "1e+", "--1", "NaN", "\"1\"",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        // Only the digit belongs to the number: what follows is for the caller to reject.
        assert_eq!(read(b"01"), None.or(Some((Number::Small(0), 1))));
        assert_eq!(read(b"1x"), Some((Number::Small(1), 1)));
    }
}

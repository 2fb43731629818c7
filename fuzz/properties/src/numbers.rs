//! Numbers are read and printed as exact rational arithmetic says, alone and inside a file.
//!
//! An input of digits, signs, points and exponent letters is the number's text; any other input
//! chooses a number.

use std::sync::LazyLock;

use ganeti_confd::snapshot::Snapshot;
use ganeti_confd::testing::number;
use num_bigint::BigInt;
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::pointer;

/// The longest text, in bytes.
const TEXT_BYTES_MAX: usize = 900;

/// Exponents are clamped here: beyond this, [`TEXT_BYTES_MAX`] digits cannot bring a number back
/// into the range of doubles.
const POWER_MAX: i64 = 1_300;

/// An integer with more trailing zeros than this is printed as infinity (a documented difference
/// from ganeti-confd).
const ZEROS_MAX: usize = 308;

/// Checks the number that `bytes` contain or choose.
pub fn check(bytes: &[u8]) {
    let is_text = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let text = match str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(is_text) => text.to_owned(),
        _ => text(&mut Choices::from_bytes(bytes)),
    };
    if text.len() <= TEXT_BYTES_MAX {
        check_text(&text);
    }
}

fn check_text(text: &str) {
    let file = PLACES.source.filled(|_| text.to_owned());
    let loaded = Snapshot::load(file.as_bytes());
    let Some(number) = Exact::read(text) else {
        assert!(loaded.is_err(), "{text:?} is no number");
        return;
    };
    let printed = Kind::ALL.map(|kind| kind.printed(&number));
    let ours = |write: fn(&[u8], &mut Vec<u8>)| {
        let mut out = Vec::new();
        write(text.as_bytes(), &mut out);
        String::from_utf8(out).expect("numbers are ASCII")
    };
    let is_integral = number.as_integral().is_some();
    assert_eq!(number::is_integral(text.as_bytes()), is_integral, "{text}");
    for (write, kind) in [
        (number::rational as fn(&[u8], &mut Vec<u8>), Kind::Any),
        (
            |text, out| out.extend(number::int(text).to_string().bytes()),
            Kind::Int,
        ),
        (number::integer, Kind::Integer),
        (
            |text, out| number::double(number::nearest(text), out),
            Kind::Double,
        ),
        (
            |text, out| number::time(number::nearest(text), out),
            Kind::Time,
        ),
    ] {
        assert_eq!(ours(write), printed[kind as usize], "{text} as {kind:?}");
    }

    let snapshot = loaded.unwrap_or_else(|error| panic!("{text}: {error}"));
    let served = pointer::served_snapshot(snapshot.snapshot);
    let expected = PLACES.printed.filled(|kind| printed[kind as usize].clone());
    assert_eq!(pointer::query(&served, "/cluster"), expected, "{text}");
}

/// How a field of the configuration interprets a number.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Any,
    Int,
    Integer,
    Double,
    Time,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Any,
        Self::Int,
        Self::Integer,
        Self::Double,
        Self::Time,
    ];

    /// The number that marks a field of this kind in a template. All kinds print it the same way.
    fn placeholder(self) -> u64 {
        90_001 + self as u64
    }

    fn printed(self, number: &Exact) -> String {
        match self {
            Self::Int => number.wrapped().to_string(),
            Self::Integer => match number.as_integral() {
                Some(whole) => integral(&whole),
                None => number.rounded().to_string(),
            },
            Self::Any => match number.as_integral() {
                Some(whole) => integral(&whole),
                None => show(number.numerator < BigInt::ZERO, number.nearest().abs()),
            },
            Self::Double => double(number.nearest()),
            Self::Time => time(number.nearest()),
        }
    }
}

/// A text with placeholders for numbers.
struct Template(Vec<(String, Option<Kind>)>);

impl Template {
    /// Cuts `text` at its placeholders.
    fn of(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let next = Kind::ALL
                .into_iter()
                .filter_map(|kind| Some((rest.find(&kind.placeholder().to_string())?, kind)))
                .min_by_key(|(at, _)| *at);
            let Some((at, kind)) = next else {
                pieces.push((rest.to_owned(), None));
                return Self(pieces);
            };
            pieces.push((rest[..at].to_owned(), Some(kind)));
            rest = &rest[at + kind.placeholder().to_string().len()..];
        }
    }

    fn filled(&self, number: impl Fn(Kind) -> String) -> String {
        let mut text = String::new();
        for (piece, kind) in &self.0 {
            text.push_str(piece);
            text.extend(kind.map(&number));
        }
        text
    }
}

/// A file with a number in fields of all kinds, and the reply to `/cluster`.
struct Places {
    source: Template,
    printed: Template,
}

static PLACES: LazyLock<Places> = LazyLock::new(|| {
    let number = |kind: Kind| json!(kind.placeholder());
    let any = number(Kind::Any);
    let file = include_bytes!("../../../tests/data/configs/empty.json");
    let mut file: Value = serde_json::from_slice(file).expect("JSON");
    let cluster = &mut file["cluster"];
    cluster["default_iallocator_params"] = json!({ "any": ["-1", any, { "-2": any }, -3, any] });
    cluster["highest_used_port"] = number(Kind::Int);
    cluster["uid_pool"] = json!([[number(Kind::Int), 5]]);
    cluster["data_collectors"] =
        json!({ "x": { "active": true, "interval": number(Kind::Integer) } });
    cluster["ipolicy"]["spindle-ratio"] = number(Kind::Double);
    cluster["ctime"] = number(Kind::Time);
    let served = pointer::served(&file);
    Places {
        source: Template::of(&file.to_string()),
        printed: Template::of(&pointer::query(&served, "/cluster")),
    }
});

/// An exact number: `numerator` / `denominator`. The denominator is positive.
struct Exact {
    numerator: BigInt,
    denominator: BigInt,
}

impl Exact {
    /// Parses a number of RFC 8259; `None` for anything else.
    fn read(text: &str) -> Option<Self> {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, Some(power)),
            None => (text, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let is_number = is_digits(digits)
            && (digits == "0" || !digits.starts_with('0'))
            && fraction.is_none_or(is_digits)
            && power.is_none_or(|power| is_digits(power.strip_prefix(['-', '+']).unwrap_or(power)));
        if !is_number {
            return None;
        }
        let power = power.map_or(BigInt::ZERO, |power| power.parse().expect("digits"));
        let power = power.clamp(BigInt::from(-POWER_MAX), BigInt::from(POWER_MAX));
        let power = i64::try_from(power).expect("cut") - fraction.unwrap_or_default().len() as i64;
        let numerator: BigInt = format!("{digits}{}", fraction.unwrap_or_default())
            .parse()
            .expect("digits");
        let numerator = if text.starts_with('-') {
            -numerator
        } else {
            numerator
        };
        Some(Self {
            numerator: numerator * ten_to(power),
            denominator: ten_to(-power),
        })
    }

    /// A double's exact value. Infinity is 2^1024, as in the reference.
    fn of(value: f64) -> Self {
        let (mantissa, exponent) = parts(value.abs());
        let numerator = BigInt::from(mantissa) << exponent.max(0);
        Self {
            numerator: if value < 0.0 { -numerator } else { numerator },
            denominator: BigInt::from(1) << (-exponent).max(0),
        }
    }

    fn as_integral(&self) -> Option<BigInt> {
        let is_integral = &self.numerator % &self.denominator == BigInt::ZERO;
        is_integral.then(|| &self.numerator / &self.denominator)
    }

    /// The nearest integer; the even one on a tie.
    fn rounded(&self) -> BigInt {
        let twice: BigInt = 2 * &self.numerator + &self.denominator;
        let up = floor(&twice, &(2 * &self.denominator));
        let is_tie = &twice % (2 * &self.denominator) == BigInt::ZERO;
        if is_tie && &up % 2 != BigInt::ZERO {
            up - 1
        } else {
            up
        }
    }

    /// The nearest integer, wrapped to a signed 64-bit number.
    fn wrapped(&self) -> i64 {
        let modulus: BigInt = BigInt::from(1) << 64;
        let rounded = self.rounded();
        let wrapped = &rounded - floor(&rounded, &modulus) * &modulus;
        u64::try_from(wrapped)
            .expect("less than the modulus")
            .cast_signed()
    }

    /// The nearest double; the one with the even mantissa on a tie. Infinity from half a step above
    /// the largest double.
    fn nearest(&self) -> f64 {
        let numerator = BigInt::from(self.numerator.magnitude().clone());
        if numerator == BigInt::ZERO {
            return 0.0;
        }
        let bits = numerator.bits() as i64 - self.denominator.bits() as i64;
        // The number is between 2^(bits - 1) and 2^(bits + 1). A double's mantissa has 53 bits, or
        // fewer at the lowest exponent.
        let exponents = [bits - 53, bits - 52].map(|exponent| exponent.max(-1074));
        let mantissa = |exponent: i64| Self {
            numerator: &numerator << (-exponent).max(0),
            denominator: &self.denominator << exponent.max(0),
        };
        let fits = |scaled: &Self| scaled.numerator < &scaled.denominator << 53;
        let (exponent, scaled) = exponents
            .map(|exponent| (exponent, mantissa(exponent)))
            .into_iter()
            .find(|(_, scaled)| fits(scaled))
            .expect("one more bit is enough");
        let mantissa = u64::try_from(scaled.rounded()).expect("53 bits");
        let magnitude = match u64::try_from(exponent + 1074) {
            // Adding the mantissa's implicit bit, or 2^53 after rounding up, increments the
            // exponent.
            Ok(exponent @ ..=2045) => f64::from_bits((exponent << 52) + mantissa),
            _ => f64::INFINITY,
        };
        if self.numerator < BigInt::ZERO {
            -magnitude
        } else {
            magnitude
        }
    }
}

/// 10^`power`, or 1 if `power` is negative.
fn ten_to(power: i64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(power).unwrap_or(0))
}

/// The quotient, rounded down.
fn floor(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    let quotient = numerator / denominator;
    if &quotient * denominator > *numerator {
        quotient - 1
    } else {
        quotient
    }
}

/// Mantissa and exponent of a non-negative double: mantissa × 2^exponent. Infinity is 2^1024.
fn parts(value: f64) -> (u64, i64) {
    let fraction = value.to_bits() % (1 << 52);
    match (value.to_bits() >> 52) as i64 {
        0 => (fraction, -1074),
        exponent => (fraction + (1 << 52), exponent - 1075),
    }
}

/// An integer in full, unless it has too many trailing zeros.
fn integral(value: &BigInt) -> String {
    let text = value.to_string();
    let zeros = text.len() - text.trim_end_matches('0').len();
    match text.starts_with('-') {
        _ if zeros <= ZEROS_MAX => text,
        true => double(f64::NEG_INFINITY),
        false => double(f64::INFINITY),
    }
}

fn double(value: f64) -> String {
    match Exact::of(value).as_integral() {
        Some(whole) => whole.to_string(),
        None => show(value < 0.0, value.abs()),
    }
}

/// A time, rounded to picoseconds as the reference does (`TimeAsDoubleJSON`).
fn time(seconds: f64) -> String {
    let pico = BigInt::from(10_u64.pow(12));
    let picoseconds = Exact::of(seconds * 1e12).rounded();
    let whole = floor(&picoseconds, &pico);
    let fraction = picoseconds - &whole * pico;
    let nearest = |value: BigInt| {
        let exact = Exact {
            numerator: value,
            denominator: 1.into(),
        };
        exact.nearest()
    };
    double(nearest(whole) + nearest(fraction) / 1e12)
}

/// A double in Haskell's `show` format.
fn show(negative: bool, value: f64) -> String {
    let sign = if negative { "-" } else { "" };
    if value == 0.0 {
        return format!("{sign}0.0");
    }
    let (digits, point) = digits(value);
    let (whole, fraction, power) = if (0.1..1e7).contains(&value) {
        let digits = format!("{digits:0<width$}", width = point as usize);
        let (whole, fraction) = digits.split_at(point as usize);
        (whole.to_owned(), fraction.to_owned(), String::new())
    } else {
        (
            digits[..1].to_owned(),
            digits[1..].to_owned(),
            format!("e{}", point - 1),
        )
    };
    let some = |digits: String| {
        if digits.is_empty() {
            "0".to_owned()
        } else {
            digits
        }
    };
    format!("{sign}{}.{}{power}", some(whole), some(fraction))
}

/// The shortest digits of a number strictly between the midpoints to a double's neighbors, and the
/// position of their decimal point. Of two such numbers, the nearer one; on a tie the larger.
fn digits(value: f64) -> (String, i64) {
    let (mantissa, exponent) = parts(value);
    // In quarters of the last place, because the neighbor below a power of two is half as far away.
    let is_power = mantissa == 1 << 52 && exponent > -1074;
    let quarters = [0, if is_power { 1 } else { 2 }, -2].map(|off| 4 * i128::from(mantissa) - off);
    let [value_, low, high] = quarters.map(|count| BigInt::from(count) << (exponent - 2).max(0));
    let unit = BigInt::from(1) << (2 - exponent).max(0);

    let guess = value.log10().floor() as i64 - 1;
    let point = (guess..)
        .find(|&point| &high * ten_to(-point) <= &unit * ten_to(point))
        .expect("some power of ten is larger");
    assert!(point > guess, "the search must not start above the answer");
    for count in 1.. {
        let place = point - count;
        let (scale, unit) = (ten_to(-place), &unit * ten_to(place));
        let exact = &value_ * &scale;
        let digits: BigInt = floor(&exact, &unit);
        let down = &digits * &unit;
        let up = &down + &unit;
        let (down_is_in, up_is_in) = (down > &low * &scale, up < &high * &scale);
        let down_is_nearer = &exact - &down < &up - &exact;
        if down_is_in && (!up_is_in || down_is_nearer) {
            return (digits.to_string(), point);
        } else if up_is_in {
            return ((digits + 1_u32).to_string(), point);
        }
    }
    unreachable!("a double has finitely many digits")
}

/// A number's text.
fn text(choices: &mut Choices<'_>) -> String {
    let text = match choices.usize(0..8) {
        0 => {
            let (whole, fraction) = (choices.usize(1..25), choices.usize(0..25));
            digit_run(choices, whole) + "." + &digit_run(choices, fraction)
        }
        1 => near(choices),
        2 => format!("{:e}", any_double(choices)),
        3 => middle(choices),
        4 => {
            // A present time in microseconds.
            let seconds = 1_000_000_000 + choices.u64() % 1_000_000_000;
            format!("{seconds}.{}", digit_run(choices, 6))
        }
        5 => {
            // Few binary places, so that ties occur.
            let halves = choices.u64() >> choices.usize(1..64);
            exactly(halves, choices.usize(1..12))
        }
        6 => format!(
            "{}{}",
            digit_run(choices, 3),
            "0".repeat(choices.usize(0..400))
        ),
        _ => format!(
            "0.{}{}",
            "0".repeat(choices.usize(0..400)),
            digit_run(choices, 3)
        ),
    };
    let text = text.trim_start_matches('0').to_owned();
    let text = if text.starts_with(['.', 'e']) || text.is_empty() {
        format!("0{text}")
    } else {
        text
    };
    let text = text.trim_end_matches('.').to_owned();
    let sign = if choices.once_in(3) { "-" } else { "" };
    // A number has at most one exponent.
    if text.contains('e') || choices.bool() {
        return format!("{sign}{text}");
    }
    format!("{sign}{text}{}", power(choices))
}

fn digit_run(choices: &mut Choices<'_>, len: usize) -> String {
    match choices.usize(0..6) {
        0 => "9".repeat(len),
        1 => "0".repeat(len),
        _ => (0..len)
            .map(|_| char::from(b'0' + choices.u8() % 10))
            .collect(),
    }
}

/// A number at, or slightly beside, a point where the behavior changes.
fn near(choices: &mut Choices<'_>) -> String {
    const EDGES: [u128; 10] = [
        0,
        1,
        1 << 53,
        1 << 63,
        1 << 64,
        1 << 65,
        10_u128.pow(7),
        10_u128.pow(16),
        10_u128.pow(22),
        10_u128.pow(38),
    ];
    let edge = choices.one_of(&EDGES);
    let off = choices.usize(0..5) as u128;
    let whole = if choices.bool() {
        edge.saturating_sub(off)
    } else {
        edge + off
    };
    let fraction = choices.one_of(&["", "0", "5", "50", "4", "6", "25", "75"]);
    let more = match choices.usize(0..4) {
        0 => "9".repeat(choices.usize(0..40)),
        1 => "0".repeat(choices.usize(0..40)) + "1",
        _ => String::new(),
    };
    format!("{whole}.{fraction}{more}")
}

/// A double of any magnitude, or one near the limits.
fn any_double(choices: &mut Choices<'_>) -> f64 {
    let exponent = match choices.usize(0..4) {
        0 => choices.one_of(&[0, 1, 2, 2045, 2046]),
        1 => 1023 - 20 + choices.u64() % 60,
        _ => choices.u64() % 2047,
    };
    let fraction = match choices.usize(0..4) {
        0 => 0,
        1 => choices.usize(0..3) as u64,
        2 => choices.u64() << choices.usize(0..52),
        _ => choices.u64(),
    };
    f64::from_bits((exponent << 52) + fraction % (1 << 52))
}

/// The midpoint between a double and the next, or a number slightly beside it.
fn middle(choices: &mut Choices<'_>) -> String {
    let (mantissa, exponent) = parts(any_double(choices));
    let twice: BigInt = 2 * BigInt::from(mantissa) + 1;
    let places = u32::try_from(1 - exponent).unwrap_or(0);
    let digits = (twice << (exponent - 1).max(0)) * BigInt::from(5).pow(places);
    let beside = choices.one_of(&[0, 1, -1]);
    format!("{}e-{}", digits * 10 + beside, places + 1)
}

/// `value` / 2^`places` in full.
fn exactly(value: u64, places: usize) -> String {
    let digits = u128::from(value) * 5_u128.pow(places as u32);
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{whole}.{fraction}")
}

fn power(choices: &mut Choices<'_>) -> String {
    let sign = choices.one_of(&["e", "E", "e+", "E+", "e-", "E-"]);
    let power = match choices.usize(0..6) {
        0 => choices.usize(0..30),
        1 => choices.usize(300..330),
        2 => choices.usize(0..400),
        3 => choices.one_of(&[
            0, 1, 7, 16, 22, 63, 64, 65, 307, 308, 309, 323, 324, 325, 400,
        ]),
        4 => choices.usize(0..3_000),
        _ => return sign.to_owned() + &"9".repeat(choices.usize(1..30)),
    };
    let zeros = if choices.once_in(8) { "00" } else { "" };
    format!("{sign}{zeros}{power}")
}

/// The model itself, compared with recorded output of the reference.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_prints_what_the_reference_printed() {
        for (text, kind, expected) in [
            ("0.09999", Kind::Any, "9.999e-2"),
            ("9999999.999999999", Kind::Any, "9999999.999999998"),
            ("9007199254740993.5", Kind::Any, "9.007199254740994e15"),
            ("2.5e-324", Kind::Any, "5.0e-324"),
            ("-1e-400", Kind::Any, "-0.0"),
            ("725941401564874.25", Kind::Any, "7.259414015648743e14"),
            ("-189231196179362.125", Kind::Any, "-1.8923119617936213e14"),
            ("-80815306768942.625", Kind::Any, "-8.081530676894263e13"),
            ("1e23", Kind::Double, "99999999999999991611392"),
            ("2.5", Kind::Integer, "2"),
            ("-3.5", Kind::Integer, "-4"),
            ("1e30", Kind::Int, "5076944270305263616"),
            ("-9223372036854775809", Kind::Int, "9223372036854775807"),
            ("1358348755.779906", Kind::Time, "1.3583487557799058e9"),
            ("-0.1", Kind::Time, "-9.999999999999998e-2"),
            ("-1e-12", Kind::Time, "-9.999778782798785e-13"),
            ("5e-13", Kind::Time, "0"),
        ] {
            let number = Exact::read(text).expect("a number");
            assert_eq!(kind.printed(&number), expected, "{text}");
        }
    }
}

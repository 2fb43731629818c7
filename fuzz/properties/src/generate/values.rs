//! Numbers and strings of every form that the daemon must print as the reference does.

use super::json::Json;
use fastrand::Rng;

/// A random element of `choices`.
pub fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    *rng.choice(choices).expect("there is something to choose")
}

/// A number for an `int` field. The reference rounds it half to even and wraps it to 64 bits, so
/// any number is valid.
pub fn int(rng: &mut Rng) -> Json {
    const SHAPES: &[&str] = &[
        "0",
        "-0",
        "-0.0",
        "0.0",
        "0.5",
        "1.5",
        "2.5",
        "-1.5",
        "-2.5",
        "0.49999999999999999",
        "3.0",
        "1e3",
        "1E+2",
        "100e-2",
        "123e-1",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551617",
        "1e18",
        "1e19",
        "1e30",
        "1e-30",
        "99999999999999999999.5",
        "4503599627370497.5",
        "2147483648",
    ];
    any_number(rng, SHAPES, |rng| rng.i64(-5..100_000).to_string())
}

/// A number for a `double` field, including overflow and underflow.
pub fn double(rng: &mut Rng) -> Json {
    const SHAPES: &[&str] = &[
        "0",
        "-0",
        "-0.0",
        "1",
        "1.0",
        "1.10",
        "0.1",
        "0.01",
        "0.09999",
        "1e7",
        "9999999.5",
        "10000000.5",
        "9999999.999999999",
        "123456.789",
        "1e16",
        "1e21",
        "1e22",
        "1e23",
        "1e400",
        "-1e400",
        "1e-400",
        "1e308",
        "5e-324",
        "2.5e-324",
        "2e-324",
        "2.2250738585072011e-308",
        "9007199254740993",
        "9007199254740993.5",
        "4503599627370497.5",
        "0.30000000000000004",
        "2.675",
        "725941401564874.25",
        "-189231196179362.125",
        "-80815306768942.625",
        "3.14159265358979323846264338327950288",
        "0.3333333333333333333333333",
        "18446744073709551617",
        "12345678901234567890",
        "1.7976931348623157e308",
        "1e0",
        "12E-3",
    ];
    any_number(rng, SHAPES, random_double)
}

/// A time in seconds with microseconds, usually of this century.
pub fn time(rng: &mut Rng) -> Json {
    const SHAPES: &[&str] = &[
        "0",
        "-0.1",
        "1e-12",
        "-1e-12",
        "1e-13",
        "5e-13",
        "1.5",
        "1700000000",
        "1358348755.779906",
        "1363620258.608976",
        "12345.6789012345678",
        "1e9",
        "1.7e9",
        "9007199254740993",
        "-1",
        "-1.5",
        "0.5",
    ];
    any_number(rng, SHAPES, |rng| {
        format!("{}.{:06}", rng.u32(..2_000_000_000), rng.u32(..1_000_000))
    })
}

/// A free-form number: a 64-bit integer, or a number that a double represents or prints like the
/// exact rational.
pub fn free_number(rng: &mut Rng) -> Json {
    const SHAPES: &[&str] = &[
        "0",
        "-0",
        "0.0",
        "-0.0",
        "1.0",
        "0.1e1",
        "100e-2",
        "5000000.0",
        "1e3",
        "1E3",
        "1e+3",
        "1e7",
        "1e16",
        "1e21",
        "1e22",
        "0.1",
        "0.10e0",
        "0.01",
        "0.09999",
        "0.25",
        "1e-3",
        "123e-5",
        "0.000001",
        "1e-7",
        "1.5",
        "-1.5",
        "2.675",
        "4.35",
        "1.10",
        "1000000.1",
        "9999999.5",
        "9999999.999999999",
        "10000000.5",
        "33554432.125",
        "0.30000000000000004",
        "0.3333333333333333333333333",
        "5e-324",
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "725941401564874.25",
        "-189231196179362.125",
        "2.2250738585072014e-308",
        "12345678901234567890",
    ];
    any_number(rng, SHAPES, |rng| {
        loop {
            let number = random_double(rng);
            let value: f64 = number.parse().expect("written by us");
            if value.fract() != 0.0 {
                return number;
            }
        }
    })
}

fn any_number(rng: &mut Rng, shapes: &[&str], random: impl Fn(&mut Rng) -> String) -> Json {
    if rng.u8(..3) == 0 {
        Json::number(pick(rng, shapes))
    } else {
        Json::Number(random(rng))
    }
}

/// Any finite double: random bits, or a few digits around the point.
fn random_double(rng: &mut Rng) -> String {
    match rng.u8(..3) {
        0 => loop {
            let value = f64::from_bits(rng.u64(..));
            if value.is_finite() {
                return format!("{value:e}");
            }
        },
        1 => format!("{}.{}", rng.i32(-1000..1_000_000), rng.u32(..100_000)),
        _ => format!(
            "{}.{:0width$}e{}",
            rng.i8(-9..10),
            rng.u64(..1_000_000_000),
            rng.i16(-20..20),
            width = rng.usize(9..16)
        ),
    }
}

/// `number` in a notation for a request's `type` or a field selector.
pub fn spelled(rng: &mut Rng, number: i64) -> Json {
    Json::Number(match rng.u8(..12) {
        0 => format!("{number}.0"),
        1 => format!("{number}e0"),
        2 if number != 0 => format!("{number}0e-1"),
        _ => number.to_string(),
    })
}

/// Short ASCII text; sometimes with characters that need an escape.
pub fn text(rng: &mut Rng) -> String {
    const ODD: &[&str] = &[
        "",
        " ",
        "a b",
        "\"",
        "\\",
        "/",
        "a/b",
        "~",
        "~0",
        "m~n",
        "\n",
        "\t\r",
        "\u{8}\u{c}",
        "\u{0}",
        "\u{1b}[0m",
        "\u{1f}",
        "\u{7f}",
        "<&>'",
        "null",
        "0",
        "00",
        "1x",
        "-1",
        "{\"a\":[1]}",
        "\u{e}H",
        "\u{7}1",
        ".",
        "a.",
        ".a",
        "x,\"y\":1",
    ];
    const PLAIN: &[&str] = &[
        "eth0",
        "br0",
        "xenvg",
        "kvm",
        "default",
        "debootstrap+default",
        "/srv/ganeti",
        "00:aa:bb",
        "192.0.2.1",
        "fe80::1",
        "A",
        "b",
        "Zz9",
    ];
    match rng.u8(..6) {
        0 => pick(rng, ODD).to_owned(),
        1 => (0..rng.usize(..12))
            .map(|_| rng.char('\0'..='\u{7f}'))
            .collect(),
        _ => pick(rng, PLAIN).to_owned(),
    }
}

/// Any JSON value of small depth without duplicate keys.
pub fn any(rng: &mut Rng, depth: u8) -> Json {
    match rng.u8(..if depth == 0 { 5 } else { 7 }) {
        0 => Json::Null,
        1 => Json::Bool(rng.bool()),
        2 | 3 => free_number(rng),
        4 => Json::Text(text(rng)),
        5 => Json::List((0..rng.usize(..4)).map(|_| any(rng, depth - 1)).collect()),
        _ => map(rng, 4, |rng| any(rng, depth - 1)),
    }
}

/// An object of up to `size_max` members with distinct, unsorted keys.
pub fn map(rng: &mut Rng, size_max: usize, mut value: impl FnMut(&mut Rng) -> Json) -> Json {
    let mut members: Vec<(String, Json)> = Vec::new();
    for _ in 0..rng.usize(..=size_max) {
        let key = text(rng);
        if members.iter().all(|(other, _)| *other != key) {
            let value = value(rng);
            members.push((key, value));
        }
    }
    Json::Object(members)
}

//! Numbers on the command line.

/// Parses a number that is not negative, with `k` for thousands and `M` for millions.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let (digits, factor) = match text.trim().strip_suffix(['k', 'M']) {
        Some(digits) if text.ends_with('k') => (digits, 1e3),
        Some(digits) => (digits, 1e6),
        None => (text.trim(), 1.0),
    };
    let value = digits.parse::<f64>().ok()? * factor;
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// Parses a share like `0.1` or `10%`.
pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => parse_number(percent).map(|percent| percent / 100.0),
        None => parse_number(text),
    };
    value
        .filter(|share| *share <= 1.0)
        .ok_or_else(|| "expected a share like 0.1 or 10%".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_a_suffix() {
        for (text, number) in [("5", 5.0), ("20k", 20_000.0), ("1.5M", 1.5e6), (" 0 ", 0.0)] {
            assert_eq!(parse_number(text), Some(number), "{text}");
        }
        for text in ["", "k", "-1", "nan", "inf", "1e400", "5G"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }
}

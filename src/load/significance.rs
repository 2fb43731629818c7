//! Whether two samples differ by more than chance.
//!
//! Pure. The samples are figures of time slices. They have outliers and no known distribution, so
//! ranks are compared (the test of Mann and Whitney), and not means.

/// With fewer values, the normal distribution is no approximation.
const VALUES_MIN: usize = 8;

/// The confidence, from 0 to 1, that the values of two samples differ in general: 1 less the
/// two-sided p-value. `None` if there are too few values.
pub(super) fn of_samples(one: &[f64], two: &[f64]) -> Option<f64> {
    if one.len() < VALUES_MIN || two.len() < VALUES_MIN {
        return None;
    }
    let mut all: Vec<(f64, bool)> = one.iter().map(|&value| (value, true)).collect();
    all.extend(two.iter().map(|&value| (value, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (n1, n2) = (one.len() as f64, two.len() as f64);
    let n = n1 + n2;
    // Equal values share the mean of their ranks, which also lowers the variance.
    let (mut ranks_of_one, mut ties, mut before) = (0.0, 0.0, 0);
    for equal in all.chunk_by(|a, b| a.0 == b.0) {
        let len = equal.len() as f64;
        let rank = before as f64 + (len + 1.0) / 2.0;
        let of_one = equal.iter().filter(|(_, is_one)| *is_one).count();
        ranks_of_one += rank * of_one as f64;
        ties += len.powi(3) - len;
        before += equal.len();
    }
    let u = ranks_of_one - n1 * (n1 + 1.0) / 2.0;
    let variance = n1 * n2 / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        return Some(0.0);
    }
    let distance = ((u - n1 * n2 / 2.0).abs() - 0.5).max(0.0);
    Some(within(distance / variance.sqrt()))
}

/// The confidence that two shares differ: `part` of `whole` each.
pub(super) fn of_shares(one: (u64, u64), two: (u64, u64)) -> Option<f64> {
    let (whole_1, whole_2) = (one.1 as f64, two.1 as f64);
    if one.1 == 0 || two.1 == 0 {
        return None;
    }
    let pooled = (one.0 + two.0) as f64 / (whole_1 + whole_2);
    let variance = pooled * (1.0 - pooled) * (1.0 / whole_1 + 1.0 / whole_2);
    if variance <= 0.0 {
        return Some(0.0);
    }
    let distance = (one.0 as f64 / whole_1 - two.0 as f64 / whole_2).abs();
    Some(within(distance / variance.sqrt()))
}

/// The share of a normal distribution within this number of standard deviations on both sides.
fn within(deviations: f64) -> f64 {
    // The error function to seven digits: Abramowitz and Stegun, 7.1.26.
    let x = deviations / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let factors = [
        1.061_405_429,
        -1.453_152_027,
        1.421_413_741,
        -0.284_496_736,
        0.254_829_592,
    ];
    let sum = factors.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    (1.0 - sum * (-x * x).exp()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_has_its_known_values() {
        for (deviations, share) in [
            (0.0, 0.0),
            (1.0, 0.682_689),
            (1.96, 0.950_004),
            (3.0, 0.997_3),
        ] {
            assert!((within(deviations) - share).abs() < 1e-5, "{deviations}");
        }
        assert_eq!(within(1e9), 1.0);
    }

    /// Of samples from one distribution, about one pair in twenty seems to differ with 95 %
    /// confidence.
    #[test]
    fn equal_distributions_rarely_seem_to_differ() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut draw = || -> Vec<f64> { (0..40).map(|_| random.f64().powi(8)).collect() };
        let differ = (0..2_000)
            .filter(|_| of_samples(&draw(), &draw()) > Some(0.95))
            .count();
        assert!((60..140).contains(&differ), "{differ} of 2000");
    }

    #[test]
    fn a_shift_is_noticed_in_spite_of_outliers() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut draw = |shift: f64| -> Vec<f64> {
            (0..40)
                .map(|index| {
                    if index == 7 {
                        1e6
                    } else {
                        random.f64() + shift
                    }
                })
                .collect()
        };
        let confidence = of_samples(&draw(0.0), &draw(0.5)).expect("enough values");
        assert!(confidence > 0.999, "{confidence}");
        assert_eq!(of_samples(&draw(0.0)[..7], &draw(1.0)), None);
        assert_eq!(of_samples(&[5.0; 10], &[5.0; 10]), Some(0.0));
    }

    #[test]
    fn shares_differ_if_their_counts_are_large_enough() {
        assert!(of_shares((5, 100), (8, 100)) < Some(0.9));
        assert!(of_shares((500, 10_000), (800, 10_000)) > Some(0.999));
        assert_eq!(of_shares((0, 100), (0, 100)), Some(0.0));
        assert_eq!(of_shares((0, 0), (0, 100)), None);
    }
}

//! The thresholds of `probe`: `lag=5,skew=30s,rtt=100ms,age=7d`.

use std::str::FromStr;
use std::time::Duration;

/// A clock that differs by more than this is a warning, long before confd stops answering.
const SKEW_WARNING: Duration = Duration::from_secs(60);

/// Values that are a problem if they are exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thresholds {
    /// How far a serial is behind the newest.
    pub(super) lag: Option<i64>,
    /// The distance of a clock from this host's.
    pub(super) skew: Option<Duration>,
    pub(super) round_trip: Option<Duration>,
    /// The time since the configuration was changed.
    pub(super) age: Option<Duration>,
}

impl FromStr for Thresholds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut thresholds = Self::default();
        for part in text.split(',').map(str::trim) {
            let wrong = || format!("'{part}': expected lag=N, skew=TIME, rtt=TIME or age=TIME");
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let time = || -> Result<_, String> {
                let seconds = value.parse().map(Duration::from_secs);
                let time = seconds.or_else(|_| humantime::parse_duration(value));
                time.map(Some).map_err(|_| wrong())
            };
            match name {
                "lag" => thresholds.lag = Some(value.parse().map_err(|_| wrong())?),
                "skew" => thresholds.skew = time()?,
                "rtt" => thresholds.round_trip = time()?,
                "age" => thresholds.age = time()?,
                _ => return Err(wrong()),
            }
        }
        Ok(thresholds)
    }
}

/// The thresholds of both severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) warning: Thresholds,
    pub(super) critical: Thresholds,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Limits {
    /// The given thresholds. By default, a lag and a skew of more than a minute are warnings.
    pub(super) fn new(warning: Option<Thresholds>, critical: Option<Thresholds>) -> Self {
        let mut warning = warning.unwrap_or_default();
        warning.lag.get_or_insert(0);
        warning.skew.get_or_insert(SKEW_WARNING);
        Self {
            warning,
            critical: critical.unwrap_or_default(),
        }
    }

    /// Whether a threshold is exceeded: `None`, or whether it is the critical one. A critical
    /// threshold below that of the warning counts as well.
    pub(super) fn exceeded<T: PartialOrd>(
        &self,
        value: T,
        threshold: impl Fn(&Thresholds) -> Option<T>,
    ) -> Option<Severity> {
        let is_above =
            |thresholds| threshold(thresholds).is_some_and(|threshold| value > threshold);
        if is_above(&self.critical) {
            Some(Severity::Critical)
        } else if is_above(&self.warning) {
            Some(Severity::Warning)
        } else {
            None
        }
    }
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Warning,
    Critical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_parsed() {
        let thresholds: Thresholds = "lag=5,skew=30,rtt=100ms, age=7d".parse().expect("valid");
        assert_eq!(thresholds.lag, Some(5));
        assert_eq!(thresholds.skew, Some(Duration::from_secs(30)));
        assert_eq!(thresholds.round_trip, Some(Duration::from_millis(100)));
        assert_eq!(thresholds.age, Some(Duration::from_secs(7 * 86_400)));
        for bad in ["", "lag", "lag=x", "skew=x", "load=5", "lag=1,,"] {
            assert!(bad.parse::<Thresholds>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_more_severe_threshold_counts() {
        let limits = Limits::new(None, Some("lag=10".parse().expect("valid")));
        let lag = |value| limits.exceeded(value, |it| it.lag);
        assert_eq!(lag(0), None);
        assert_eq!(lag(1), Some(Severity::Warning));
        assert_eq!(lag(11), Some(Severity::Critical));
        let rtt = limits.exceeded(Duration::from_secs(9), |it| it.round_trip);
        assert_eq!(rtt, None, "no threshold");
    }
}

//! The results as OpenMetrics text, for the text-file collector of a monitoring system.

use std::fmt::Write as _;

use super::{PERCENTILES, Report};

impl Report<'_> {
    /// Gauges with the prefix `confd_bench_`.
    pub(in super::super) fn openmetrics(&self) -> String {
        let results = &self.results;
        let counts = &results.load.counts;
        let mut out = String::new();
        for (name, help, value) in [
            (
                "sent_rate",
                "Valid requests per second.",
                results.sent_rate(),
            ),
            (
                "answered_rate",
                "Valid replies per second.",
                results.answered_rate(),
            ),
            (
                "loss_ratio",
                "Share of the requests that was lost.",
                counts.loss(),
            ),
            ("requests", "Valid requests sent.", counts.sent as f64),
            ("wrong", "Wrong replies.", counts.wrong() as f64),
            (
                "stall_seconds",
                "Longest time without an answer.",
                results.load.stall() as f64 / 1e9,
            ),
            (
                "failed",
                "1 if the run failed.",
                f64::from(u8::from(!self.failures().is_empty())),
            ),
        ] {
            let _ = writeln!(
                out,
                "# TYPE confd_bench_{name} gauge\n# HELP confd_bench_{name} {help}\n\
                 confd_bench_{name} {value}"
            );
        }
        for (name, help, times) in [
            (
                "latency_seconds",
                "Latency from the schedule.",
                results.load.latency(),
            ),
            (
                "service_seconds",
                "Time from sending to the reply.",
                results.load.service(),
            ),
        ] {
            let _ = writeln!(
                out,
                "# TYPE confd_bench_{name} gauge\n# UNIT confd_bench_{name} seconds\n\
                 # HELP confd_bench_{name} {help}"
            );
            for percent in PERCENTILES {
                if let Some(ns) = times.supported_percentile(percent) {
                    let (quantile, seconds) = (round(percent / 100.0), ns as f64 / 1e9);
                    let _ = writeln!(
                        out,
                        "confd_bench_{name}{{quantile=\"{quantile}\"}} {seconds}"
                    );
                }
            }
        }
        out + "# EOF\n"
    }
}

/// Removes the rounding error of a division.
fn round(quantile: f64) -> f64 {
    (quantile * 1e6).round() / 1e6
}

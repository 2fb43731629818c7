//! The figures over time as comma-separated values: one line per time slice, including the warm-up.

use std::fmt::Write as _;

use super::Report;

/// The first line. Times are in seconds and milliseconds, rates per second.
const HEADINGS: &str = "time_s,sent_rate,answered_rate,lost_rate,p50_ms,p99_ms,max_ms\n";

impl Report<'_> {
    /// The whole file. Latencies are empty where nothing was answered.
    pub(in super::super) fn csv(&self) -> String {
        let ms =
            |ns: Option<u64>| ns.map_or_else(String::new, |ns| format!("{:.6}", ns as f64 / 1e6));
        let mut text = HEADINGS.to_owned();
        for point in &self.results.series {
            let _ = writeln!(
                text,
                "{:.3},{},{},{},{},{},{}",
                point.time_seconds,
                point.sent_rate,
                point.answered_rate,
                point.lost_rate,
                ms(point.p50_ns),
                ms(point.p99_ns),
                ms(point.max_ns),
            );
        }
        text
    }
}

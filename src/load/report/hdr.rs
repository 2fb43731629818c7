//! Histograms in the V2 format of HdrHistogram with compression, which its tools read.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};

use super::super::error::Error;
use super::super::stats::Times;
use super::Report;

/// Nanoseconds in a millisecond, the unit of the maximum in a log.
const MAX_DIVISOR: f64 = 1e6;

impl Report<'_> {
    /// A log with one interval for the whole run, and one per type and server, which are tagged.
    /// Values are in nanoseconds, maxima in milliseconds.
    pub(in super::super) fn histogram_log(&self) -> Result<String, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(format!("cannot convert the latencies to a log: {error}"))
        };
        let mut text = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let duration = Duration::from_secs_f64(self.results.seconds);
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment(&format!("confdctl bench: {}", self.load()))
            .with_start_time(self.started)
            .with_base_time(self.started)
            .with_max_value_divisor(MAX_DIVISOR)
            .begin_log_with(&mut text, &mut serializer)
            .map_err(|error| failed(&error))?;
        let start = self.options.warm_up;
        let all = self.results.load.latency();
        log.write_histogram(&all.0, start, duration, None)
            .map_err(|error| failed(&error))?;
        for (name, tally) in self.tallies() {
            log.write_histogram(&tally.latency.0, start, duration, Tag::new(&name))
                .map_err(|error| failed(&error))?;
        }
        drop(log);
        String::from_utf8(text).map_err(|error| failed(&error))
    }
}

/// A histogram as Base64, as in a log.
pub(super) fn base64(times: &Times) -> String {
    let mut bytes = Vec::new();
    let written = V2DeflateSerializer::new().serialize(&times.0, &mut bytes);
    written.expect("a Vec takes any number of bytes");
    BASE64_STANDARD.encode(bytes)
}

/// Reads such text; `None` if it is damaged.
pub(in super::super) fn times_of_base64(text: &str) -> Option<Times> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    let histogram = Deserializer::new().deserialize(&mut bytes.as_slice());
    histogram.ok().map(Times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_its_text() {
        let mut times = Times::default();
        for time in 1..2_000 {
            times.record(time * 777);
        }
        let read = times_of_base64(&base64(&times)).expect("it is intact");
        assert_eq!(read.0, times.0);
        for damaged in ["", "x", "HISTFAAAAA==", &base64(&times)[..40]] {
            assert!(times_of_base64(damaged).is_none(), "{damaged}");
        }
    }
}

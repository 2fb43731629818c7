//! The JSON document of an earlier run, as `confdctl bench --json` prints it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::error::Error;
use super::report::times_of_base64;
use super::stats::{Counts, Point, Stats, Tally, Times};
use crate::protocol::request::RequestType;

/// The results of an earlier run.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) file: PathBuf,
    pub(super) document: Document,
    pub(super) load: Stats,
}

/// The parts of the document that are read.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Document {
    pub(super) started: String,
    pub(super) targets: Vec<String>,
    /// The options of the run, which are passed on as they are.
    pub(super) options: Value,
    pub(super) seconds: f64,
    pub(super) offered_rate: Option<f64>,
    pub(super) sent_rate: f64,
    pub(super) answered_rate: f64,
    pub(super) lost_in_percentiles: bool,
    load: Load,
    pub(super) series: Vec<Point>,
    pub(super) failures: Vec<String>,
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Load {
    counts: Counts,
    schedule_lag: Option<Histogram>,
    stall_of_all_ns: u64,
    types: BTreeMap<String, Part>,
    by_target: Vec<Part>,
}

/// The tally of a type or a target.
#[derive(Clone, Debug, Deserialize)]
struct Part {
    sent: u64,
    answered: u64,
    errors: u64,
    lost: u64,
    latency: Option<Histogram>,
    service: Option<Histogram>,
    #[serde(default)]
    stall_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Histogram {
    histogram: String,
}

impl Recorded {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not such a document.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let failed = |why: &dyn std::fmt::Display| Error::new(format!("{}: {why}", file.display()));
        let text = std::fs::read(file).map_err(|error| failed(&error))?;
        let document: Document = serde_json::from_slice(&text).map_err(|error| {
            failed(&format!(
                "not a document of confdctl bench --json ({error})"
            ))
        })?;
        let load = stats(&document.load)
            .ok_or_else(|| failed(&"a histogram is damaged or a request type is unknown"))?;
        Ok(Self {
            file: file.to_owned(),
            document,
            load,
        })
    }

    /// The whole time slices between the warm-up and the end of sending.
    pub(super) fn slices(&self) -> impl Iterator<Item = &Point> {
        let warm_up = self.document.options["warm_up"].as_f64().unwrap_or(0.0);
        let end = warm_up + self.document.seconds;
        let mut before = 0.0;
        self.document.series.iter().filter(move |point| {
            let start = std::mem::replace(&mut before, point.time_seconds);
            // The end is noticed a moment late, and times are rounded.
            start >= warm_up - 1e-3 && point.time_seconds <= end + 1e-3
        })
    }
}

/// `None` if a part is not readable.
fn stats(load: &Load) -> Option<Stats> {
    let mut stats = Stats::for_targets(load.by_target.len());
    stats.counts = load.counts.clone();
    stats.lag = times(load.schedule_lag.as_ref())?;
    stats.gaps_of_all.longest = load.stall_of_all_ns;
    for (name, part) in &load.types {
        let kind = RequestType::from_name(name)?;
        stats.by_type[kind as usize] = tally(part)?;
    }
    for (index, part) in load.by_target.iter().enumerate() {
        stats.by_target[index] = tally(part)?;
        stats.gaps[index].longest = part.stall_ns;
    }
    Some(stats)
}

fn tally(part: &Part) -> Option<Tally> {
    Some(Tally {
        sent: part.sent,
        answered: part.answered,
        errors: part.errors,
        lost: part.lost,
        latency: times(part.latency.as_ref())?,
        service: times(part.service.as_ref())?,
    })
}

fn times(histogram: Option<&Histogram>) -> Option<Times> {
    match histogram {
        Some(histogram) => times_of_base64(&histogram.histogram),
        None => Some(Times::default()),
    }
}

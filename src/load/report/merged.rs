//! The report on several runs that are added up.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::error::Error;
use super::super::stats::{Point, Stats};
use super::json::stats;
use super::text;

/// The sum of several runs.
#[derive(Debug)]
pub(in super::super) struct Merged {
    pub(in super::super) description: String,
    pub(in super::super) files: Vec<PathBuf>,
    /// When the first one started.
    pub(in super::super) started: Option<String>,
    pub(in super::super) targets: Vec<String>,
    /// The options of the first one.
    pub(in super::super) options: Option<Value>,
    /// The duration of the longest one.
    pub(in super::super) seconds: f64,
    pub(in super::super) offered_rate: Option<f64>,
    pub(in super::super) sent_rate: f64,
    pub(in super::super) answered_rate: f64,
    pub(in super::super) lost_in_percentiles: bool,
    pub(in super::super) load: Stats,
    pub(in super::super) series: Vec<Point>,
    pub(in super::super) failures: Vec<String>,
    pub(in super::super) notes: Vec<String>,
}

impl Merged {
    /// A document with the fields of a single run, as far as they can be added.
    pub(in super::super) fn json(&self) -> Result<String, Error> {
        let document = json!({
            "tool": {"name": "confdctl bench merge", "version": env!("CARGO_PKG_VERSION")},
            "merged": self.files,
            "started": self.started,
            "targets": self.targets,
            "description": self.description,
            "options": self.options,
            "seconds": self.seconds,
            "offered_rate": self.offered_rate,
            "sent_rate": self.sent_rate,
            "answered_rate": self.answered_rate,
            "load": stats(&self.load),
            "lost_in_percentiles": self.lost_in_percentiles,
            "series": self.series,
            "failures": self.failures,
            "notes": self.notes,
        });
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Error::new(format!("cannot convert the results to JSON: {error}")))?;
        Ok(text + "\n")
    }

    /// The latencies as a table.
    pub(in super::super) fn latency_table(&self) -> String {
        let named = [
            ("all", self.load.latency()),
            ("all, from sending", self.load.service()),
        ];
        text::latency_table(&named)
    }
}

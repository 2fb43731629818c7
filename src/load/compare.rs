//! `confdctl bench compare`: what differs between the JSON documents of two runs, and whether the
//! second one is worse.
//!
//! A difference counts if it is larger than a threshold and more certain than a confidence. The
//! confidence of rates, p50 and p99 comes from their values in the time slices of both runs, that
//! of the loss from the counts. Other percentiles have none, and do not count.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::commands::CompareOptions;
use super::error::Error;
use super::recorded::Recorded;
use super::significance;
use super::stats::Point;

/// An absolute difference of the loss that does not count.
const LOSS_THRESHOLD: f64 = 0.001;

/// Options that may differ between runs that are compared.
const IRRELEVANT: [&str; 10] = [
    "server_pid",
    "report",
    "csv",
    "hdr",
    "quiet",
    "seed",
    "require",
    "profile",
    "format",
    "record",
];

/// One figure of both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    name: String,
    /// `None` if it is not known.
    a: Option<f64>,
    b: Option<f64>,
    /// The relative difference; that of the loss is absolute.
    change: Option<f64>,
    /// That the difference is not by chance.
    confidence: Option<f64>,
    worse: bool,
}

/// The comparison of two runs.
#[derive(Debug)]
pub(super) struct Comparison {
    rows: Vec<Row>,
    /// Options that differ.
    differing: Vec<String>,
    failures: Vec<String>,
}

impl Comparison {
    /// Reads both documents and compares them.
    ///
    /// # Errors
    ///
    /// A file is not a document of a run.
    pub(super) fn read(options: &CompareOptions) -> Result<Self, Error> {
        let (a, b) = (Recorded::read(&options.a)?, Recorded::read(&options.b)?);
        let of_b = b.document.failures.iter();
        Ok(Self {
            rows: rows(&a, &b, options),
            differing: differing(&a.document.options, &b.document.options),
            failures: of_b
                .map(|why| format!("{}: {why}", b.file.display()))
                .collect(),
        })
    }

    /// Whether the second run failed or is worse than the first.
    pub(super) fn is_worse(&self) -> bool {
        !self.failures.is_empty() || self.rows.iter().any(|row| row.worse)
    }

    /// One JSON document.
    pub(super) fn json(&self) -> String {
        let document = json!({
            "worse": self.is_worse(),
            "figures": self.rows,
            "differing_options": self.differing,
            "failures": self.failures,
        });
        format!("{document:#}\n")
    }

    /// A table, then the verdict.
    pub(super) fn text(&self) -> String {
        let mut out = format!(
            "{:<12}{:>14}{:>14}{:>12}{:>12}\n",
            "", "A", "B", "change", "confidence"
        );
        for row in &self.rows {
            let [a, b, change, confidence] = row.cells();
            let worse = if row.worse { "  worse" } else { "" };
            let name = &row.name;
            let _ = writeln!(
                out,
                "{name:<12}{a:>14}{b:>14}{change:>12}{confidence:>12}{worse}"
            );
        }
        out + &self.verdict("\n")
    }

    /// The same for a page in Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut out =
            "| | A | B | change | confidence | |\n|---|---:|---:|---:|---:|---|\n".to_owned();
        for row in &self.rows {
            let cells = row.cells().join(" | ");
            let worse = if row.worse { "worse" } else { "" };
            let _ = writeln!(out, "| {} | {cells} | {worse} |", row.name);
        }
        out + &self.verdict("\n")
    }

    fn verdict(&self, start: &str) -> String {
        let mut out = start.to_owned();
        for failure in &self.failures {
            let _ = writeln!(out, "FAILED: {failure}");
        }
        if !self.differing.is_empty() {
            let _ = writeln!(
                out,
                "The runs are not the same test. These options differ: {}",
                self.differing.join(", ")
            );
        }
        let verdict = match (self.is_worse(), self.is_known()) {
            (true, _) => "B is worse than A.",
            (false, true) => "B is not worse than A.",
            (false, false) => "The runs are too short: they have fewer than 8 time slices.",
        };
        out + verdict + "\n"
    }

    fn is_known(&self) -> bool {
        let of_slices = self.rows.iter().filter(|row| row.name != "lost, %");
        of_slices.into_iter().any(|row| row.confidence.is_some())
    }
}

impl Row {
    /// A figure that is worse if it is `Some(true)`: higher, `Some(false)`: lower; `None`: it does
    /// not count.
    fn new(
        name: &str,
        (a, b): (Option<f64>, Option<f64>),
        confidence: Option<f64>,
        worse_if_higher: Option<bool>,
        options: &CompareOptions,
    ) -> Self {
        let change = a.zip(b).filter(|(a, _)| *a > 0.0).map(|(a, b)| b / a - 1.0);
        let is_certain = confidence.is_some_and(|it| it >= options.confidence);
        let worse = match (change, worse_if_higher) {
            (Some(change), Some(true)) => is_certain && change > options.threshold,
            (Some(change), Some(false)) => is_certain && -change > options.threshold,
            _ => false,
        };
        Self {
            name: name.to_owned(),
            a,
            b,
            change,
            confidence,
            worse,
        }
    }

    fn cells(&self) -> [String; 4] {
        let digits = if self.name == "answers/s" { 0 } else { 3 };
        let number = |it: Option<f64>| it.map_or("-".into(), |it| format!("{it:.digits$}"));
        let percent = |it: f64| format!("{:+.1} %", it * 100.0);
        let confidence = self.confidence.map_or("-".into(), |it| match it {
            it if it > 0.999 => "> 99.9 %".into(),
            it => format!("{:.1} %", it * 100.0),
        });
        [
            number(self.a),
            number(self.b),
            self.change.map_or("-".into(), percent),
            confidence,
        ]
    }
}

fn rows(a: &Recorded, b: &Recorded, options: &CompareOptions) -> Vec<Row> {
    let of_slices = |value: fn(&Point) -> Option<f64>| {
        let values = |run: &Recorded| run.slices().filter_map(value).collect::<Vec<_>>();
        significance::of_samples(&values(a), &values(b))
    };
    let mut rows = vec![
        Row::new(
            "answers/s",
            (
                Some(a.document.answered_rate),
                Some(b.document.answered_rate),
            ),
            of_slices(|point| Some(point.answered_rate)),
            Some(false),
            options,
        ),
        loss(a, b, options),
    ];
    let (latency_a, latency_b) = (a.load.latency(), b.load.latency());
    for percent in [50.0, 90.0, 99.0, 99.9] {
        let ms = |times: &super::stats::Times| {
            times
                .supported_percentile(percent)
                .map(|ns| ns as f64 / 1e6)
        };
        let confidence = match percent {
            50.0 => of_slices(|point| point.p50_ns.map(|ns| ns as f64)),
            99.0 => of_slices(|point| point.p99_ns.map(|ns| ns as f64)),
            _ => None,
        };
        rows.push(Row::new(
            &format!("p{percent}, ms"),
            (ms(&latency_a), ms(&latency_b)),
            confidence,
            Some(true),
            options,
        ));
    }
    rows
}

/// The loss, whose difference is absolute because it is often 0.
fn loss(a: &Recorded, b: &Recorded, options: &CompareOptions) -> Row {
    let [one, two] = [a, b].map(|run| &run.load.counts);
    let confidence = significance::of_shares((one.lost, one.sent), (two.lost, two.sent));
    let change = two.loss() - one.loss();
    Row {
        name: "lost, %".into(),
        a: Some(one.loss() * 100.0),
        b: Some(two.loss() * 100.0),
        change: Some(change),
        confidence,
        worse: change > LOSS_THRESHOLD && confidence.is_some_and(|it| it >= options.confidence),
    }
}

/// The names of options with different values.
fn differing(a: &Value, b: &Value) -> Vec<String> {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return Vec::new();
    };
    let names = a.iter().filter(|(name, value)| {
        !IRRELEVANT.contains(&name.as_str()) && b.get(*name) != Some(*value)
    });
    names
        .map(|(name, _)| format!("--{}", name.replace('_', "-")))
        .collect()
}

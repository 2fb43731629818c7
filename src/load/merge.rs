//! `confdctl bench merge`: one result from the JSON documents of several processes that loaded the
//! same servers at the same time.
//!
//! Counts and rates are added, and so are the histograms, so percentiles are exact. The series
//! keeps the rates only, because percentiles of slices cannot be added.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::error::Error;
use super::recorded::Recorded;
use super::report::{Merged, significant};
use super::stats::{Point, Stats};

/// Reads the documents and adds them up; returns the result as text, or as a document with the
/// same fields if `json`.
///
/// # Errors
///
/// A file is not a document of a run.
pub(super) fn merge(files: &[PathBuf], json: bool) -> Result<String, Error> {
    let runs: Vec<Recorded> = files
        .iter()
        .map(|file| Recorded::read(file))
        .collect::<Result<_, _>>()?;
    let merged = sum(&runs);
    if json {
        merged.json()
    } else {
        Ok(merged.text())
    }
}

fn sum(runs: &[Recorded]) -> Merged {
    let documents = || runs.iter().map(|run| &run.document);
    let mut targets: Vec<String> = Vec::new();
    for target in documents().flat_map(|document| &document.targets) {
        if !targets.contains(target) {
            targets.push(target.clone());
        }
    }
    let mut load = Stats::for_targets(targets.len());
    for run in runs {
        load.add(&by_target(run, &targets));
    }
    let of_file = |run: &Recorded, text: &String| format!("{}: {text}", run.file.display());
    let mut notes: Vec<String> = runs
        .iter()
        .flat_map(|run| run.document.notes.iter().map(|note| of_file(run, note)))
        .collect();
    if !overlap(runs) {
        notes.push("the runs were not at the same time, so their rates do not add up".into());
    }
    let offered: Option<f64> = documents().map(|document| document.offered_rate).sum();
    let pace = offered.map_or("in closed loops".into(), |rate| {
        format!("open loops, {} requests/s", significant(rate))
    });
    Merged {
        description: format!("{} runs, {pace}", runs.len()),
        files: runs.iter().map(|run| run.file.clone()).collect(),
        started: documents().map(|it| it.started.clone()).min(),
        targets,
        options: documents().next().map(|it| it.options.clone()),
        seconds: documents().map(|it| it.seconds).fold(0.0, f64::max),
        offered_rate: offered,
        sent_rate: documents().map(|it| it.sent_rate).sum(),
        answered_rate: documents().map(|it| it.answered_rate).sum(),
        lost_in_percentiles: documents().any(|it| it.lost_in_percentiles),
        load,
        series: series(runs),
        failures: runs
            .iter()
            .flat_map(|run| run.document.failures.iter().map(|why| of_file(run, why)))
            .collect(),
        notes,
    }
}

/// The counts of a run with those of each target at its index in `targets`.
fn by_target(run: &Recorded, targets: &[String]) -> Stats {
    let mut load = run.load.clone();
    let mut sorted = Stats::for_targets(targets.len());
    let parts = std::mem::take(&mut load.by_target).into_iter();
    let gaps = std::mem::take(&mut load.gaps).into_iter();
    for (target, (tally, gaps)) in run.document.targets.iter().zip(parts.zip(gaps)) {
        if let Some(index) = targets.iter().position(|other| other == target) {
            sorted.by_target[index] = tally;
            sorted.gaps[index] = gaps;
        }
    }
    load.by_target = sorted.by_target;
    load.gaps = sorted.gaps;
    load
}

/// The rates of all runs, slice by slice, as far as their slices have the same length.
fn series(runs: &[Recorded]) -> Vec<Point> {
    let Some((first, others)) = runs.split_first() else {
        return Vec::new();
    };
    let mut sum = first.document.series.clone();
    for run in others {
        let points = &run.document.series;
        let same =
            |(one, two): (&Point, &Point)| (one.time_seconds - two.time_seconds).abs() < 1e-6;
        sum.truncate(sum.iter().zip(points).take_while(|it| same(*it)).count());
        for (point, more) in sum.iter_mut().zip(points) {
            point.sent_rate += more.sent_rate;
            point.answered_rate += more.answered_rate;
            point.lost_rate += more.lost_rate;
        }
    }
    if !others.is_empty() {
        for point in &mut sum {
            (point.p50_ns, point.p99_ns, point.max_ns) = (None, None, None);
        }
    }
    sum
}

/// Whether each run started before the first one ended.
fn overlap(runs: &[Recorded]) -> bool {
    let start = |run: &Recorded| humantime::parse_rfc3339(&run.document.started).ok();
    let starts: Option<Vec<SystemTime>> = runs.iter().map(start).collect();
    let Some((first, last)) = starts.and_then(|it| Some((*it.iter().min()?, *it.iter().max()?)))
    else {
        return true;
    };
    let shortest = runs.iter().map(|run| run.document.seconds);
    let shortest = shortest.fold(f64::INFINITY, f64::min);
    last.duration_since(first)
        .is_ok_and(|apart| apart.as_secs_f64() <= shortest)
}

impl Merged {
    /// A short summary.
    fn text(&self) -> String {
        let counts = &self.load.counts;
        let mut out = String::new();
        for failure in &self.failures {
            let _ = writeln!(out, "FAILED: {failure}");
        }
        let _ = writeln!(
            out,
            "{}: {}, {:.1} s\n\nrequests   {} sent, {:.0}/s\nanswers    {}, {:.0}/s; {} of them \
             errors\nlost       {} ({:.3} %)\nwrong      {}\n",
            self.targets.join(", "),
            self.description,
            self.seconds,
            counts.sent,
            self.sent_rate,
            counts.answered,
            self.answered_rate,
            counts.errors,
            counts.lost,
            100.0 * counts.loss(),
            counts.wrong()
        );
        out += &self.latency_table();
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }
}

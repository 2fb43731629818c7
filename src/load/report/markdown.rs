//! The report in Markdown, for a page or a comment of a code review.

use std::fmt::Write as _;

use super::super::stats::share;
use super::{PERCENTILES, Report};

impl Report<'_> {
    /// Tables of the counts, the latencies and the requirements.
    pub(in super::super) fn markdown(&self) -> String {
        let mut out = String::new();
        self.write_markdown(&mut out)
            .expect("writing to a String does not fail");
        out
    }

    fn write_markdown(&self, out: &mut String) -> std::fmt::Result {
        let results = &self.results;
        let counts = &results.load.counts;
        writeln!(out, "### confdctl bench: {}\n", cell(&self.targets()))?;
        for failure in self.failures() {
            writeln!(out, "**Failed:** {}\n", cell(&failure))?;
        }
        writeln!(out, "{}; {}\n", cell(&self.load()), cell(&self.queries()))?;
        writeln!(
            out,
            "| | number | per second | share |\n|---|---:|---:|---:|"
        )?;
        let rates = [
            ("requests", counts.sent, Some(results.sent_rate())),
            ("answers", counts.answered, Some(results.answered_rate())),
            ("lost", counts.lost, None),
            ("wrong", counts.wrong(), None),
        ];
        for (name, count, rate) in rates {
            let rate = rate.map_or(String::new(), |rate| format!("{rate:.0}"));
            let percent = 100.0 * share(count, counts.sent);
            writeln!(out, "| {name} | {count} | {rate} | {percent:.3} % |")?;
        }
        write!(out, "\n| latency, ms |")?;
        for percent in PERCENTILES {
            write!(out, " p{percent} |")?;
        }
        let right = "---:|".repeat(PERCENTILES.len() + 1);
        writeln!(out, " max |\n|---|{right}")?;
        for (name, times) in self.named_times() {
            write!(out, "| {} |", cell(&name))?;
            for percent in PERCENTILES.into_iter().chain([100.0]) {
                match times.supported_percentile(percent) {
                    Some(ns) => write!(out, " {:.3} |", ns as f64 / 1e6)?,
                    None => write!(out, " - |")?,
                }
            }
            writeln!(out)?;
        }
        let checks = self.checks();
        if !checks.is_empty() {
            writeln!(out, "\n| requirement | measured | |\n|---|---:|---|")?;
        }
        for check in checks {
            let result = if check.held {
                "holds"
            } else {
                "**does not hold**"
            };
            let (requirement, actual) = (cell(&check.requirement), cell(&check.actual));
            writeln!(out, "| {requirement} | {actual} | {result} |")?;
        }
        if !self.notes.is_empty() {
            writeln!(out)?;
        }
        for note in &self.notes {
            writeln!(out, "- {}", cell(note))?;
        }
        Ok(())
    }
}

/// Escapes what Markdown interprets in a table.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if matches!(character, '|' | '<' | '>' | '*' | '_' | '`' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

//! The report as text for a terminal.

use std::fmt::{Result, Write};

use super::super::stats::{Times, share};
use super::{PERCENTILES, Report};

impl Report<'_> {
    /// A summary of about twenty lines.
    pub(in super::super) fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out)
            .expect("writing to a String does not fail");
        out
    }

    fn write_text(&self, out: &mut String) -> Result {
        writeln!(out, "{}: {}", self.targets(), self.load())?;
        writeln!(out)?;
        self.write_counts(out)?;
        writeln!(out)?;
        self.write_latencies(out)?;
        writeln!(out)?;
        self.write_generator(out)?;
        for check in self.checks() {
            let result = if check.held { "holds" } else { "DOES NOT HOLD" };
            writeln!(
                out,
                "require {}: {}: {result}",
                check.requirement, check.actual
            )?;
        }
        if let Some(requirements) = &self.options.search {
            match self.best_rate() {
                Some(rate) => writeln!(
                    out,
                    "search {requirements}: holds up to {rate:.0} requests/s"
                )?,
                None => writeln!(out, "search {requirements}: holds at no rate")?,
            }
        }
        if let Some(why) = self.silence() {
            writeln!(out, "{why}")?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        Ok(())
    }

    fn write_counts(&self, out: &mut String) -> Result {
        let results = &self.results;
        let counts = &results.load.counts;
        let percent = |part| 100.0 * share(part, counts.sent);
        writeln!(out, "queries    {}", self.queries())?;
        writeln!(
            out,
            "requests   {} sent, {:.0}/s",
            counts.sent,
            results.sent_rate()
        )?;
        writeln!(
            out,
            "answers    {} ({:.3} %), {:.0}/s; {} of them errors",
            counts.answered,
            percent(counts.answered),
            results.answered_rate(),
            counts.errors
        )?;
        writeln!(
            out,
            "lost       {} ({:.3} %), {} of them answered late",
            counts.lost,
            percent(counts.lost),
            counts.late
        )?;
        writeln!(
            out,
            "wrong      {} ({} signatures, {} malformed, {} inconsistent, {} to corrupted requests)",
            counts.wrong(),
            counts.bad_hmac,
            counts.malformed,
            counts.inconsistent,
            counts.unexpected
        )?;
        writeln!(
            out,
            "other      {} duplicated, {} reordered, {} stray",
            counts.duplicated, counts.reordered, counts.stray
        )?;
        if counts.corrupted > 0 {
            let (corrupted, silent) = (counts.corrupted, counts.silent);
            writeln!(
                out,
                "corrupted  {corrupted} sent, {silent} correctly not answered"
            )?;
        }
        if counts.refused + counts.unsendable > 0 {
            let (refused, unsendable) = (counts.refused, counts.unsendable);
            writeln!(
                out,
                "errors     {refused} refused by the port, {unsendable} could not be sent"
            )?;
        }
        Ok(())
    }

    fn write_latencies(&self, out: &mut String) -> Result {
        write!(out, "{:<22}", "latency, ms")?;
        for percent in PERCENTILES {
            write!(out, "{:>10}", format!("p{percent}"))?;
        }
        writeln!(out, "{:>10}{:>12}", "max", "answers")?;
        write_times(out, "all", &self.results.load.latency())?;
        for (name, tally) in self.tallies() {
            write_times(out, &name, &tally.latency)?;
        }
        if let Some(probe) = &self.results.probe {
            write_times(out, "probe client", &probe.latency())?;
            let counts = &probe.counts;
            writeln!(
                out,
                "probe client: {} sent, {} lost, {} wrong",
                counts.sent,
                counts.lost,
                counts.wrong()
            )?;
        }
        Ok(())
    }

    fn write_generator(&self, out: &mut String) -> Result {
        let lag = &self.results.load.lag;
        if let (Some(p50), Some(p99)) = (lag.percentile(50.0), lag.percentile(99.0)) {
            let ms = |ns: u64| ns as f64 / 1e6;
            writeln!(
                out,
                "schedule   requests were sent {:.3} ms (p50), {:.3} ms (p99) late",
                ms(p50),
                ms(p99)
            )?;
        }
        for (index, thread) in self.results.threads.iter().enumerate() {
            if let Some(usage) = thread.usage {
                writeln!(
                    out,
                    "thread {index:<3} used {:.0} % of a processor, waited for one {:.0} % of the time",
                    100.0 * share(usage.cpu_ns, thread.sending),
                    100.0 * share(usage.waited_ns, thread.sending)
                )?;
            }
        }
        Ok(())
    }
}

fn write_times(out: &mut String, name: &str, times: &Times) -> Result {
    write!(out, "{name:<22}")?;
    for percent in PERCENTILES.into_iter().chain([100.0]) {
        match times.percentile(percent) {
            Some(ns) => write!(out, "{:>10.3}", ns as f64 / 1e6)?,
            None => write!(out, "{:>10}", "-")?,
        }
    }
    writeln!(out, "{:>12}", times.0.len())
}

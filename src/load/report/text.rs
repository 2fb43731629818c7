//! The report as text for a terminal.

use std::fmt::{Result, Write};

use super::super::stats::{Times, share};
use super::{PERCENTILES, Report, Search};

impl Report<'_> {
    /// A summary of about twenty lines.
    pub(in super::super) fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out)
            .expect("writing to a String does not fail");
        out
    }

    fn write_text(&self, out: &mut String) -> Result {
        for failure in self.failures() {
            writeln!(out, "FAILED: {failure}")?;
        }
        writeln!(out, "{}: {}", self.targets(), self.load())?;
        writeln!(out)?;
        self.write_counts(out)?;
        writeln!(out)?;
        self.write_latencies(out)?;
        writeln!(out)?;
        self.write_targets(out)?;
        self.write_generator(out)?;
        for check in self.checks() {
            let result = if check.held { "holds" } else { "DOES NOT HOLD" };
            writeln!(
                out,
                "require {}: {}: {result}",
                check.requirement, check.actual
            )?;
        }
        if let (Some(requirements), Some(search)) = (&self.options.search, &self.search) {
            write_search(out, &requirements.to_string(), search)?;
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
        let is_lost_included = self.options.lost_in_percentiles();
        let count = if is_lost_included {
            "requests"
        } else {
            "answers"
        };
        writeln!(out, "{:>10}{count:>12}", "max")?;
        write_times(out, "all", &self.results.load.latency())?;
        if self.results.offered.is_some() {
            write_times(out, "all, from sending", &self.results.load.service())?;
            let counts = &self.results.load.counts;
            if counts.stamped < counts.answered {
                let percent = 100.0 * share(counts.stamped, counts.answered);
                writeln!(
                    out,
                    "(the kernel reported the time of sending of {percent:.1} %)"
                )?;
            }
        }
        for (name, tally) in self.tallies() {
            write_times(out, &name, &tally.latency)?;
        }
        let lost = self.results.load.counts.lost;
        if is_lost_included && lost > 0 {
            let ms = self.options.lost_after.as_secs_f64() * 1e3;
            writeln!(out, "(with {lost} lost requests, each as {ms:.0} ms)")?;
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

    /// What was lost and the longest stall, for each target.
    fn write_targets(&self, out: &mut String) -> Result {
        let load = &self.results.load;
        if self.targets.len() == 1 {
            let stall = load.stall() as f64 / 1e6;
            return writeln!(out, "stall      {stall:.3} ms at most without an answer");
        }
        writeln!(
            out,
            "{:<22}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "server", "sent", "answered", "lost", "lost, %", "stall, ms"
        )?;
        let targets = self.targets.iter().zip(&load.by_target).zip(&load.gaps);
        for ((target, tally), gaps) in targets {
            writeln!(
                out,
                "{:<22}{:>10}{:>10}{:>10}{:>10.3}{:>10.3}",
                target.to_string(),
                tally.sent,
                tally.answered,
                tally.lost,
                100.0 * share(tally.lost, tally.sent),
                gaps.longest as f64 / 1e6
            )?;
        }
        writeln!(out)
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
        for server in &self.results.servers {
            let (target, dropped) = (server.target, server.dropped);
            if let (Some(pid), Some(cpu)) = (server.pid, server.cpu_ns) {
                let seconds = cpu as f64 / 1e9;
                write!(
                    out,
                    "server     {target} (process {pid}) used {seconds:.2} s of a processor"
                )?;
            } else {
                write!(out, "server     {target}")?;
            }
            writeln!(out, "; its socket dropped {dropped} requests")?;
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

/// Latencies in milliseconds, one line for each name.
pub(super) fn latency_table(named: &[(&str, Times)]) -> String {
    let mut out = format!("{:<22}", "latency, ms");
    for percent in PERCENTILES {
        out += &format!("{:>10}", format!("p{percent}"));
    }
    out += &format!("{:>10}{:>12}\n", "max", "count");
    for (name, times) in named {
        write_times(&mut out, name, times).expect("writing to a String does not fail");
    }
    out
}

fn write_search(out: &mut String, requirements: &str, search: &Search) -> Result {
    let Some(lower) = search.lower else {
        return writeln!(out, "search {requirements}: holds at no rate");
    };
    write!(
        out,
        "search {requirements}: holds at {:.0} requests/s ({} of {} trials)",
        lower.rate,
        lower.held,
        lower.held + lower.failed
    )?;
    match search.upper {
        Some(upper) if upper.generator_limited => write!(
            out,
            ", the generator cannot send {:.0} requests/s",
            upper.rate
        )?,
        Some(upper) => write!(
            out,
            ", fails at {:.0} ({} of {} trials)",
            upper.rate,
            upper.failed,
            upper.held + upper.failed
        )?,
        None => {}
    }
    let percent = 100.0 * search.confidence();
    writeln!(out, "; confidence {percent:.0} %")
}

fn write_times(out: &mut String, name: &str, times: &Times) -> Result {
    write!(out, "{name:<22}")?;
    for percent in PERCENTILES.into_iter().chain([100.0]) {
        match times.supported_percentile(percent) {
            Some(ns) => write!(out, "{:>10.3}", ns as f64 / 1e6)?,
            None => write!(out, "{:>10}", "-")?,
        }
    }
    writeln!(out, "{:>12}", times.0.len())
}

//! The report as a single HTML page, which loads no scripts, fonts or other resources.

use std::fmt::Write;

use super::super::error::Error;
use super::super::search::TrialResult;
use super::super::stats::{Point, Times};
use super::markup::escape;
use super::plot::{Axis, Band, Line, Meaning, Plot};
use super::{PERCENTILES, Report, Search};

/// The curve of percentiles ends at this number of nines, beyond which there are hardly any
/// requests.
const NINES_MAX: f64 = 6.0;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;\
color:#222;background:#fff;color-scheme:light dark}\
h1{font-size:1.4em;overflow-wrap:anywhere}h2{font-size:1.1em;margin-top:2em}\
.plot,.table{overflow-x:auto}svg{width:100%;min-width:620px;height:auto}\
table{border-collapse:collapse;white-space:nowrap}\
td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #8886}\
td:first-child,th:first-child{text-align:left;padding-left:0}\
.good{color:#070}.bad{color:#b00;font-weight:bold}\
pre{overflow-x:auto;background:#8882;padding:.8em}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}\
.good{color:#6d6}.bad{color:#f77}}";

const TIME: Axis = Axis {
    name: "seconds since the start, including the warm-up",
    label: |seconds| format!("{seconds:.1}"),
};

const LATENCY: Axis = Axis {
    name: "latency, ms",
    label: |ms| format!("{}", (ms * 1e4).round() / 1e4),
};

const SEARCH_RATE: Axis = Axis {
    name: "requests per second",
    label: |rate| format!("{rate:.0}"),
};

const RATE: Axis = Axis {
    name: "per second",
    label: |rate| format!("{rate:.0}"),
};

/// The number of nines of a percentile: 0 is the fastest request, 2 is p99, 3 is p99.9.
const NINES: Axis = Axis {
    name: "percentile",
    label: |nines| {
        let percent = 100.0 - 100.0 / 10_f64.powf(*nines);
        format!("{} %", (percent * 1e4).round() / 1e4)
    },
};

impl Report<'_> {
    /// The whole page.
    pub(in super::super) fn html(&self) -> Result<String, Error> {
        let mut page = String::new();
        self.write_page(&mut page)
            .map_err(|error| Error::new(format!("cannot write the page: {error}")))?;
        Ok(page)
    }

    fn write_page(&self, page: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let title = escape(&format!("confdctl bench: {}", self.targets()));
        write!(
            page,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{}</p>\n<p>{}, {}</p>\n",
            escape(&self.load()),
            humantime::format_rfc3339_seconds(self.started),
            escape(&format!(
                "{}, {} processors, {}",
                self.machine.processor, self.machine.processors, self.machine.kernel
            ))
        )?;
        self.write_checks(page)?;
        self.write_plots(page)?;
        write!(page, "<h2>Latency, ms</h2>\n{}", self.latency_table())?;
        if let Some(search) = &self.search {
            let trials: Vec<_> = search.trials.iter().map(ToString::to_string).collect();
            let trials = escape(&trials.join("\n"));
            let by_rate = Plot {
                lines: &p99_by_rate(search),
                bands: &[],
                horizontal: &SEARCH_RATE,
                vertical: &LATENCY,
                logarithmic: true,
            }
            .svg()?;
            write!(page, "<h2>Search</h2>\n{by_rate}\n<pre>{trials}</pre>\n")?;
        }
        write!(
            page,
            "<h2>Summary</h2>\n<pre>{}</pre>\n<h2>Options</h2>\n<pre>{}</pre>\n</body></html>\n",
            escape(&self.text()),
            escape(&serde_json::to_string_pretty(self.options)?)
        )?;
        Ok(())
    }

    fn write_checks(&self, page: &mut String) -> std::fmt::Result {
        for why in self.failures() {
            writeln!(page, "<p class=\"bad\">{}</p>", escape(&why))?;
        }
        for check in self.checks() {
            let (class, result) = if check.held {
                ("good", "holds")
            } else {
                ("bad", "does not hold")
            };
            let text = format!("{}: {}: {result}", check.requirement, check.actual);
            writeln!(page, "<p class=\"{class}\">{}</p>", escape(&text))?;
        }
        for note in &self.notes {
            writeln!(page, "<p class=\"bad\">{}</p>", escape(note))?;
        }
        Ok(())
    }

    fn write_plots(&self, page: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let by_percentile = Plot {
            lines: &self.percentile_lines(),
            bands: &[],
            horizontal: &NINES,
            vertical: &LATENCY,
            logarithmic: true,
        }
        .svg()?;
        write!(page, "<h2>Latency by percentile</h2>\n{by_percentile}\n")?;

        let bands = self.bands();
        let over_time = |name: &str, value: fn(&Point) -> Option<f64>| -> Line {
            let points = self.whole_slices(&self.results.series);
            let points = points.filter_map(|point| Some((point.time_seconds, value(point)?)));
            (name.to_owned(), points.collect())
        };
        let rates = Plot {
            lines: &[
                over_time("sent", |point| Some(point.sent_rate)),
                over_time("answered", |point| Some(point.answered_rate)),
                over_time("lost", |point| Some(point.lost_rate)),
            ],
            bands: &bands,
            horizontal: &TIME,
            vertical: &RATE,
            logarithmic: false,
        }
        .svg()?;
        write!(page, "<h2>Rate over time</h2>\n{rates}\n")?;

        let ms = |ns: u64| ns as f64 / 1e6;
        let mut lines = vec![
            over_time("p50", |point| point.p50_ns.map(|ns| ns as f64 / 1e6)),
            over_time("p99", |point| point.p99_ns.map(|ns| ns as f64 / 1e6)),
            over_time("max", |point| point.max_ns.map(|ns| ns as f64 / 1e6)),
        ];
        let probe: Vec<_> = self
            .whole_slices(&self.results.probe_series)
            .filter_map(|point| Some((point.time_seconds, ms(point.p99_ns?))))
            .collect();
        if !probe.is_empty() {
            lines.push(("probe client p99".into(), probe));
        }
        let latencies = Plot {
            lines: &lines,
            bands: &bands,
            horizontal: &TIME,
            vertical: &LATENCY,
            logarithmic: true,
        }
        .svg()?;
        write!(page, "<h2>Latency over time</h2>\n{latencies}\n")?;
        Ok(())
    }

    /// The points up to the end of sending: the last slice is not a whole one.
    fn whole_slices<'p>(&self, points: &'p [Point]) -> impl Iterator<Item = &'p Point> {
        let end = self.options.warm_up.as_secs_f64() + self.results.seconds;
        // The end is noticed a moment late, and times are rounded.
        points
            .iter()
            .take_while(move |point| point.time_seconds <= end + 1e-3)
    }

    /// The warm-up, and the times without an answer.
    fn bands(&self) -> Vec<Band> {
        let mut bands = Vec::new();
        let warm_up = self.options.warm_up.as_secs_f64();
        if warm_up > 0.0 {
            bands.push(Band {
                from: 0.0,
                to: warm_up,
                meaning: Meaning::WarmUp,
            });
        }
        let mut from = 0.0;
        for point in self.whole_slices(&self.results.series) {
            if point.sent_rate > 0.0 && point.answered_rate == 0.0 {
                bands.push(Band {
                    from,
                    to: point.time_seconds,
                    meaning: Meaning::Outage,
                });
            }
            from = point.time_seconds;
        }
        bands
    }

    /// One line for all requests, for each type and target if there are several, and for the probe
    /// client.
    fn percentile_lines(&self) -> Vec<Line> {
        self.named_times()
            .into_iter()
            .map(|(name, times)| (name, curve(&times)))
            .collect()
    }

    fn latency_table(&self) -> String {
        let mut table = "<div class=\"table\"><table><tr><th></th>".to_owned();
        for percent in PERCENTILES {
            table += &format!("<th>p{percent}</th>");
        }
        table += "<th>max</th><th>answers</th></tr>\n";
        for (name, times) in self.named_times() {
            table += &format!("<tr><td>{}</td>", escape(&name));
            for percent in PERCENTILES.into_iter().chain([100.0]) {
                let time = times.supported_percentile(percent);
                let time = time.map_or("-".into(), |ns| format!("{:.3}", ns as f64 / 1e6));
                table += &format!("<td>{time}</td>");
            }
            table += &format!("<td>{}</td></tr>\n", times.0.len());
        }
        table + "</table></div>\n"
    }
}

/// The p99 of each trial by its rate: of those that held and of those that failed.
fn p99_by_rate(search: &Search) -> Vec<Line> {
    let of = |name: &str, result: TrialResult| -> Line {
        let trials = search.trials.iter().filter(|trial| trial.result == result);
        let points = trials.filter_map(|trial| Some((trial.rate, trial.p99_ns? as f64 / 1e6)));
        let mut points: Vec<(f64, f64)> = points.collect();
        points.sort_by(|one, two| one.0.total_cmp(&two.0));
        (name.to_owned(), points)
    };
    vec![
        of("p99 of trials that held", TrialResult::Held),
        of("p99 of trials that failed", TrialResult::Failed),
    ]
}

/// Points of the number of nines of a percentile and the latency in milliseconds.
fn curve(times: &Times) -> Vec<(f64, f64)> {
    times
        .0
        .iter_quantiles(8)
        .map(|step| {
            let nines = -(1.0 - step.quantile_iterated_to()).log10();
            // The axis is logarithmic, so 0 is drawn as 1 ns.
            (nines, step.value_iterated_to().max(1) as f64 / 1e6)
        })
        .take_while(|(nines, _)| *nines <= NINES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_and_is_limited() {
        let mut times = Times::default();
        for time in 1..=10_000 {
            times.record(time * 1_000);
        }
        let curve = curve(&times);
        assert!(curve.len() > 20);
        assert!(curve.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        let (nines, ms) = curve[curve.len() - 1];
        assert!(
            nines > 3.0 && nines <= NINES_MAX && ms > 9.9,
            "{nines} {ms}"
        );
    }

    #[test]
    fn plots_load_no_resources() {
        let line = ("a < b".to_owned(), vec![(0.0, 1.0), (1.0, 20.0)]);
        let band = Band {
            from: 0.2,
            to: 0.4,
            meaning: Meaning::Outage,
        };
        let plot = |lines: &[Line]| {
            Plot {
                lines,
                bands: &[band],
                horizontal: &TIME,
                vertical: &LATENCY,
                logarithmic: true,
            }
            .svg()
            .expect("it is drawn")
        };
        let svg = plot(&[line]);
        assert!(svg.contains("<svg") && svg.contains("</span> a &lt; b"));
        assert!(svg.contains("no answer"));
        assert!(!svg.contains("http"));
        // The colors of text and axes are those of the page.
        assert!(svg.contains("currentColor") && !svg.contains("#000000"));
        assert!(!svg.contains("#FFFFFF"), "there is no background");
        assert_eq!(plot(&[]), "");
    }
}

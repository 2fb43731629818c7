//! The report as one JSON document. Times are in nanoseconds, rates in requests per second, and
//! shares are fractions of 1.

use serde_json::{Map, Value, json};

use super::super::error::Error;
use super::super::stats::{Stats, Tally, Times, share};
use super::{PERCENTILES, Report, hdr};
use crate::protocol::request::RequestType;

impl Report<'_> {
    /// The document with a final newline.
    pub(in super::super) fn json(&self) -> Result<String, Error> {
        let text = serde_json::to_string_pretty(&self.document())
            .map_err(|error| Error::new(format!("cannot convert the results to JSON: {error}")))?;
        Ok(text + "\n")
    }

    fn document(&self) -> Value {
        let results = &self.results;
        json!({
            "tool": {"name": "confdctl bench", "version": env!("CARGO_PKG_VERSION")},
            "started": humantime::format_rfc3339_millis(self.started).to_string(),
            "targets": self.targets,
            "machine": self.machine,
            "description": self.load(),
            "options": self.options,
            "seed": self.seed,
            "queries": self.queries,
            "seconds": results.seconds,
            "offered_rate": results.offered,
            "sent_rate": results.sent_rate(),
            "answered_rate": results.answered_rate(),
            "load": stats(&results.load),
            "lost_in_percentiles": self.options.lost_in_percentiles(),
            "probe": results.probe.as_ref().map(stats),
            "series": results.series,
            "probe_series": results.probe_series,
            "generator": {
                "threads": results.threads.iter().map(|thread| json!({
                    "sending_ns": thread.sending,
                    "usage": thread.usage,
                    "busy": thread.usage.map(|usage| share(usage.cpu_ns, thread.sending)),
                })).collect::<Vec<_>>(),
                "replies_dropped": results.dropped,
            },
            "servers": results.servers,
            "search": self.search.as_ref().map(|search| json!({
                "requirements": self.options.search,
                "rate": self.best_rate(),
                "lower": search.lower,
                "upper": search.upper,
                "confidence": search.confidence(),
                "trials": search.trials,
            })),
            "requirements": self.checks(),
            "failures": self.failures(),
            "notes": self.notes,
        })
    }
}

/// The counts and latencies of a load.
pub(super) fn stats(stats: &Stats) -> Value {
    let mut types = Map::new();
    for (kind, of_type) in RequestType::ALL.into_iter().zip(&stats.by_type) {
        if of_type.sent > 0 {
            types.insert(kind.name().to_owned(), tally(of_type));
        }
    }
    json!({
        "counts": stats.counts,
        "wrong": stats.counts.wrong(),
        "loss": stats.counts.loss(),
        "latency": times(&stats.latency()),
        "service": times(&stats.service()),
        "schedule_lag": times(&stats.lag),
        "stall_ns": stats.stall(),
        "stall_of_all_ns": stats.gaps_of_all.longest,
        "types": types,
        // In the order of "targets".
        "by_target": stats.by_target.iter().zip(&stats.gaps).map(|(of_target, gaps)| {
            let mut json = tally(of_target);
            json["stall_ns"] = json!(gaps.longest);
            json
        }).collect::<Vec<_>>(),
    })
}

fn tally(tally: &Tally) -> Value {
    json!({
        "sent": tally.sent,
        "answered": tally.answered,
        "errors": tally.errors,
        "lost": tally.lost,
        "latency": times(&tally.latency),
        "service": times(&tally.service),
    })
}

/// Percentiles, and the histogram in the V2 format of HdrHistogram, compressed and as Base64.
fn times(times: &Times) -> Value {
    if times.0.is_empty() {
        return Value::Null;
    }
    let percentiles: Map<_, _> = PERCENTILES
        .iter()
        .map(|percent| {
            let time = times.supported_percentile(*percent);
            (percent.to_string(), json!(time))
        })
        .collect();
    json!({
        "count": times.0.len(),
        "min_ns": times.0.min(),
        "mean_ns": times.0.mean(),
        "stdev_ns": times.0.stdev(),
        "percentiles_ns": percentiles,
        "max_ns": times.0.max(),
        "histogram": hdr::base64(times),
    })
}

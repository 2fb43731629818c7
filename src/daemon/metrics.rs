//! The daemon's metrics, in the formats of OpenMetrics and Prometheus.
//!
//! All names start with `ganeti_confd_`. The counters of the workers have the names of the log line
//! of SIGUSR1, and are summed when they are asked for. Every series exists from the start. Times
//! are timestamps, not ages. `docs/operations.md` says what each metric means and what to do.
//!
//! Source: the OpenMetrics specification 1.0; "Metric and label naming" of Prometheus.

use std::fmt;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::facts::{self, Facts};
use crate::engine::{BATCH_SIZES, SERVICE_TIMES, Totals};
use crate::protocol::Reject;
use crate::protocol::request::RequestType;
use crate::reader::Status;

/// What all names start with.
const PREFIX: &str = "ganeti_confd";

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    /// The format for a client that sends this `Accept` header.
    pub(super) fn accepted(accept: &str) -> Self {
        let media_types = accept.split(',').map(|range| {
            let (media_type, parameters) = range.split_once(';').unwrap_or((range, ""));
            (media_type.trim(), parameters)
        });
        let refused = |parameters: &str| parameters.split(';').any(|p| p.trim() == "q=0");
        let mut open = media_types.filter(|(t, _)| *t == "application/openmetrics-text");
        if open.any(|(_, parameters)| !refused(parameters)) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The value of the `Content-Type` header.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The metrics of one daemon.
#[derive(Debug)]
pub(super) struct Metrics(Registry);

impl Metrics {
    pub(super) fn new(facts: Facts) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Observed(facts)));
        Self(registry)
    }

    /// All metrics, as text.
    pub(super) fn text(&self, format: Format) -> String {
        let mut out = String::new();
        let written = match format {
            Format::OpenMetrics => text::encode(&mut out, &self.0),
            Format::Prometheus => prometheus_text::encode(&mut out, &self.0),
        };
        written.expect("writing to a String does not fail");
        out
    }
}

#[derive(Debug)]
struct Observed(Facts);

impl Collector for Observed {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let Self(facts) = self;
        families.process(facts)?;
        let totals = facts.totals();
        families.workers(&totals)?;
        families.batches(&totals)?;
        families.reader(&facts.status())
    }
}

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn process(&mut self, facts: &Facts) -> fmt::Result {
        let engine = facts.engine.to_string();
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("engine", &engine)];
        let mut info = self.family("build", "Version and engine.", MetricType::Info)?;
        info.encode_info(&labels)?;
        let started = facts::seconds(facts.started);
        self.gauge(
            "start_time_seconds",
            "When the daemon started to serve.",
            started,
        )?;
        let buffers = facts.sockets.buffers;
        let help = "Receive buffer of each socket, as granted by the kernel.";
        self.gauge("receive_buffer_bytes", help, buffers.receive.granted as f64)?;
        let help = "Send buffer of each socket, as granted by the kernel.";
        self.gauge("send_buffer_bytes", help, buffers.send.granted as f64)?;
        self.gauge("workers", "Threads that serve.", facts.workers() as f64)
    }

    /// The counters of the workers.
    fn workers(&mut self, totals: &Totals) -> fmt::Result {
        for ((name, value), help) in totals.numbers().zip(Totals::descriptions()) {
            self.counter(name, help, value)?;
        }
        let reasons = Reject::ALL.map(|reason| (reason.name(), totals.rejected(reason)));
        self.counters(
            "dropped",
            "Datagrams that got no reply.",
            "reason",
            &reasons,
        )?;
        let by_query = |counts: &[u64; RequestType::COUNT]| {
            RequestType::ALL.map(|kind| (kind.name(), counts[kind as usize]))
        };
        let requests = by_query(&totals.requests);
        self.counters("requests", "Requests that got a reply.", "query", &requests)?;
        let too_large = by_query(&totals.too_large);
        let help = "Answers larger than a datagram, replaced by an error.";
        self.counters("too_large", help, "query", &too_large)
    }

    fn batches(&mut self, totals: &Totals) -> fmt::Result {
        let limits = BATCH_SIZES
            .iter()
            .map(|size| *size as f64)
            .chain([f64::INFINITY]);
        let buckets: Vec<_> = limits.zip(totals.batch_sizes).collect();
        let help = "Datagrams that a worker processed together.";
        let mut family = self.family("batch_datagrams", help, MetricType::Histogram)?;
        let sum = totals.received as f64;
        let count = totals.batch_sizes.iter().sum();
        family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;

        let limits = SERVICE_TIMES.iter().map(Duration::as_secs_f64);
        let limits = limits.chain([f64::INFINITY]);
        let buckets: Vec<_> = limits.zip(totals.service_times).collect();
        let help = "Time to answer a batch, without sending, of one batch in 16.";
        let mut family = self.family("service_seconds", help, MetricType::Histogram)?;
        let sum = Duration::from_nanos(totals.service_ns).as_secs_f64();
        let count = totals.service_times.iter().sum();
        family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    /// The state of the configuration and of the key.
    fn reader(&mut self, status: &Status) -> fmt::Result {
        let flag = |state: bool| f64::from(u8::from(state));
        let time = |time: Option<SystemTime>| time.map_or(0.0, facts::seconds);
        let summary = status.summary.clone().unwrap_or_default();
        let serial = summary.serial_no.parse().unwrap_or(0.0);
        self.counter(
            "config_loads",
            "Complete reads of config.data.",
            status.loads,
        )?;
        let help = "Times that config.data was unusable.";
        self.counter("config_failures", help, status.failures)?;
        let help = "Whether config.data is usable.";
        self.gauge("config_valid", help, flag(status.last_error.is_none()))?;
        let help = "Whether answers come from a configuration; if not, each is an error.";
        self.gauge("config_served", help, flag(status.summary.is_some()))?;
        self.gauge(
            "config_serial",
            "The serial that is served; 0 for none.",
            serial,
        )?;
        let help = "When the configuration that is served was loaded; 0 for never.";
        self.gauge(
            "config_loaded_timestamp_seconds",
            help,
            time(status.loaded_at),
        )?;
        let help = "Since when an older configuration than config.data is served; 0 if it is not.";
        self.gauge(
            "config_stale_since_timestamp_seconds",
            help,
            time(status.kept_since),
        )?;
        let help = "Time to parse and index the configuration that is served.";
        self.gauge("config_load_seconds", help, status.load_time.as_secs_f64())?;
        let help = "Memory of the configuration that is served.";
        self.gauge("config_memory_bytes", help, summary.bytes as f64)?;
        let help = "Objects in the configuration that is served.";
        let mut family = self.family("config_objects", help, MetricType::Gauge)?;
        for (kind, count) in facts::objects(&summary) {
            let labels = [("kind", kind)];
            ConstGauge::new(count as f64).encode(family.encode_family(&labels)?)?;
        }
        self.counter(
            "key_changes",
            "Times that hmac.key was replaced.",
            status.key_changes,
        )?;
        let help = "Whether hmac.key is usable; if not, an older key is in use.";
        self.gauge("key_valid", help, flag(status.key_error.is_none()))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.family(name, help, MetricType::Counter)?)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(&str, u64)],
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        for (value, count) in values {
            let labels = [(label, *value)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.family(name, help, MetricType::Gauge)?)
    }

    fn family<'a>(
        &'a mut self,
        name: &'a str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_accepts() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
                          application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            (
                "text/plain, application/openmetrics-text",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text; q=0, */*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}

//! The formats in which results are printed.

use clap::ValueEnum;
use serde::Serialize;

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A summary for a terminal
    Text,
    /// Everything, like --json
    Json,
    /// Tables for a page or a review
    Markdown,
    /// Gauges for a monitoring system
    Openmetrics,
    /// The requirements as test cases for a CI system
    Junit,
}

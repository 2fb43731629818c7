//! The command line of the commands below `confdctl bench`, which read documents of earlier runs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::format::Format;
use super::number::parse_share;

/// Commands that work with the results of earlier runs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Add up the results of several processes that loaded servers at the same time
    ///
    /// Each FILE is the output of confdctl bench --json. Counts, rates and latencies are added.
    /// With --json, the sum is such a document as well.
    #[command(after_help = MERGE_EXAMPLES)]
    Merge {
        /// The documents
        #[arg(required = true, num_args = 2.., value_name = "FILE.json", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Compare two results; exit with status 3 if the second one is worse
    ///
    /// Each file is the output of confdctl bench --json. It is worse if answers per second, p50 or
    /// p99 differ by more than --threshold, or the loss by more than 0.1 % of the requests, with at
    /// least this --confidence, or if the second run failed. The confidence of rates and latencies
    /// is that of a rank test over the time slices of both runs.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareOptions),
}

const MERGE_EXAMPLES: &str = "\
Examples:
  The load of two hosts, measured at the same time
    confdctl bench merge host1.json host2.json
  The sum as a document again
    confdctl bench merge --json host1.json host2.json > sum.json";

const COMPARE_EXAMPLES: &str = "\
Examples:
  Is the new version slower? Status 3 if it is
    confdctl bench compare before.json after.json
  Only a difference of more than a tenth counts
    confdctl bench compare --threshold 10% before.json after.json";

/// Options of `confdctl bench compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// The first result, for example of the version before
    #[arg(value_name = "A.json", value_hint = ValueHint::FilePath)]
    pub a: PathBuf,

    /// The second result
    #[arg(value_name = "B.json", value_hint = ValueHint::FilePath)]
    pub b: PathBuf,

    /// A difference up to this share is not worse
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "5%")]
    pub threshold: f64,

    /// A difference that is less certain than this is not worse
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "95%")]
    pub confidence: f64,

    /// Print text, json or markdown [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
}

//! The progress line on standard error, if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::stats::Point;

/// The template. The message is truncated if the terminal is narrow.
const BAR: &str = "{elapsed:>4} [{bar:12}] {wide_msg}";

/// The progress line of one run.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A line for a run that takes `total`, if that is known; nothing is shown if `quiet`.
    pub(super) fn new(total: Option<Duration>, quiet: bool) -> Self {
        if quiet {
            return Self(ProgressBar::hidden());
        }
        let bar = match total {
            Some(total) => {
                let style = ProgressStyle::with_template(BAR).expect("the template is valid");
                ProgressBar::new(total.as_millis() as u64).with_style(style)
            }
            None => ProgressBar::new_spinner(),
        };
        Self(bar)
    }

    /// Shows the latest time slice.
    pub(super) fn show(&self, point: &Point) {
        self.0.set_position((point.time_seconds * 1e3) as u64);
        self.0.set_message(line(point));
    }

    /// Removes the line.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn line(point: &Point) -> String {
    // The lost requests were sent in earlier slices; the share is close enough for a display.
    let loss = 100.0 * point.lost_rate / point.sent_rate.max(1.0);
    let p99 = match point.p99_ns {
        Some(p99) => format!("p99 {:.2} ms", p99 as f64 / 1e6),
        None => "no answer".into(),
    };
    format!(
        "sent {:.0}/s  answered {:.0}/s  lost {:.2} %  {p99}",
        point.sent_rate, point.answered_rate, loss
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_rate_loss_and_p99() {
        let mut point = Point {
            time_seconds: 1.0,
            sent_rate: 1000.0,
            answered_rate: 990.0,
            lost_rate: 10.0,
            p50_ns: Some(1),
            p99_ns: Some(1_234_567),
            max_ns: Some(2_000_000),
        };
        assert_eq!(
            line(&point),
            "sent 1000/s  answered 990/s  lost 1.00 %  p99 1.23 ms"
        );
        point.p99_ns = None;
        assert!(line(&point).ends_with("no answer"));
    }
}

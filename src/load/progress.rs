//! The progress on standard error: a line on a terminal, or a line every ten seconds for a log.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::stats::Point;

/// The template. The message is truncated if the terminal is narrow.
const BAR: &str = "{elapsed:>4} [{bar:12}] {wide_msg}";

/// Without a terminal, a line is printed at this interval.
const LOG_SECONDS: f64 = 10.0;

/// The progress of one run.
#[derive(Debug)]
pub(super) enum Progress {
    /// A line on a terminal.
    Bar(ProgressBar),
    /// Lines for a log; the time of the next one in seconds.
    Log(f64),
    Quiet,
}

impl Progress {
    /// The progress of a run that takes `total`, if that is known.
    pub(super) fn new(total: Option<Duration>, quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !io::stderr().is_terminal() {
            return Self::Log(LOG_SECONDS);
        }
        Self::Bar(match total {
            Some(total) => {
                let style = ProgressStyle::with_template(BAR).expect("the template is valid");
                ProgressBar::new(total.as_millis() as u64).with_style(style)
            }
            None => ProgressBar::new_spinner(),
        })
    }

    /// Shows the latest time slice.
    pub(super) fn show(&mut self, point: &Point) {
        match self {
            Self::Bar(bar) => {
                bar.set_position((point.time_seconds * 1e3) as u64);
                bar.set_message(line(point));
            }
            Self::Log(next) if point.time_seconds >= *next => {
                // A closed standard error does not end the run.
                let _ = writeln!(io::stderr(), "{:.0} s  {}", point.time_seconds, line(point));
                *next += LOG_SECONDS;
            }
            Self::Log(_) | Self::Quiet => {}
        }
    }

    /// Removes the line from the terminal.
    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
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

//! The result of a probe for people on a terminal: a table, then the verdict and the problems.

use super::super::color::Color;
use super::super::options::Common;
use super::super::table::Alignment;
use super::super::terminal;
use super::health::Health;
use super::plugin;
use crate::printable::printable;

/// The properties of the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    width: Option<usize>,
    color: bool,
}

impl Look {
    /// Those of standard output and of `--color`.
    pub(super) fn of_stdout(common: &Common) -> Self {
        Self {
            width: terminal::width(),
            color: common.color.unwrap_or_default().is_on(),
        }
    }
}

/// Everything that is printed.
pub(super) fn text(health: &Health, look: Look) -> String {
    let mut text = plugin::candidates(health).aligned(Alignment {
        width: look.width,
        headings: true,
        color: look.color,
    });
    let paint = |state: &str| match Color::of_state(state).filter(|_| look.color) {
        Some(color) => color.paint(state),
        None => state.to_owned(),
    };
    if let Some(checks) = &health.checks {
        text.push('\n');
        for check in checks {
            let state = if check.ok { "OK" } else { "FAILED" };
            let padding = " ".repeat("FAILED".len() - state.len());
            let result = printable(&check.text);
            text += &format!("{}{padding}  {}: {result}\n", paint(state), check.name);
        }
    }
    let needed = if health.up() < health.needed {
        format!(", {} are needed", health.needed)
    } else {
        String::new()
    };
    let serial = health.newest();
    let serial = serial.map_or_else(String::new, |serial| format!(", serial {serial}"));
    text += &format!(
        "\n{}: {} of {} candidates answer{needed}{serial}\n",
        paint(health.service_state().name()),
        health.up(),
        health.candidates.len(),
    );
    for problem in plugin::problems(health) {
        text += &format!("  {}\n", printable(&problem));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::health::ProbeState;
    use super::super::health::testing::{down, health, up};
    use super::*;

    #[test]
    fn the_verdict_follows_the_table() {
        let health = health(vec![
            up("a", 77, 0, 0),
            up("b", 77, 0, 0),
            down("c\u{1b}", ProbeState::Silent, None),
        ]);
        let plain = Look {
            width: Some(80),
            color: false,
        };
        let text = text(&health, plain);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("CANDIDATE"), "{text}");
        assert_eq!(
            lines[4..],
            [
                "",
                "WARNING: 2 of 3 candidates answer, serial 77",
                "  c\\u{1b}: no answer"
            ]
        );
        let colored = Look {
            width: None,
            color: true,
        };
        let text = super::text(&health, colored);
        assert!(
            text.contains("\u{1b}[33mWARNING\u{1b}[0m: 2 of 3"),
            "{text:?}"
        );
        assert!(text.contains("\u{1b}[32mup\u{1b}[0m"), "{text:?}");
    }
}

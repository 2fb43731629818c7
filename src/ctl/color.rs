//! Colors of states on a terminal.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;

/// When to print colors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// Whether standard output gets colors. `NO_COLOR` counts if it is not empty (no-color.org).
    pub(super) fn is_on(self) -> bool {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
            }
        }
    }
}

/// The color of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Color {
    /// The color of a state by its name; `None` for one that is neither good nor bad.
    pub(super) fn of_state(state: &str) -> Option<Self> {
        let first = state.split([' ', ':', ',']).next()?;
        match first {
            "up" | "OK" | "agrees" => Some(Self::Green),
            "drained" | "WARNING" | "behind" | "UNKNOWN" => Some(Self::Yellow),
            "down" | "offline" | "error" | "silent" | "differs" | "unreachable" | "FAILED"
            | "CRITICAL" => Some(Self::Red),
            _ => None,
        }
    }

    /// The text between the escape sequences for the color and for the default.
    pub(super) fn paint(self, text: &str) -> String {
        format!("\u{1b}[{}m{text}\u{1b}[0m", self as u8)
    }
}

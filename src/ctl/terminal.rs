//! The terminal at standard output.

use std::io;

/// Moves the cursor to the top left corner and clears the screen.
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";

/// The width in characters; `None` if standard output is not a terminal.
pub(super) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

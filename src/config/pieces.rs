//! Cuts `config.data` into pieces that are parsed one by one.
//!
//! A parser's tape takes many times the memory of its text. Cut into one piece per object, a load
//! needs the tape of one object at a time, and that fits the processor's cache. The cuts are at the
//! commas of the two outer levels.
//!
//! Only the outermost braces are checked here. Each piece must later parse as the inside of an
//! object with exactly one member ([`super::value`]), which finds any other error between two cuts.

use std::ops::Range;

use super::error::Error;

/// One member of the top-level object.
pub(super) struct Piece {
    /// From after the previous comma (or brace) to the next, white space included.
    pub(super) text: Range<usize>,
    /// The same for the members or elements of the member's value; empty if the value is a scalar.
    pub(super) inner: Vec<Range<usize>>,
}

/// Where the scan is: the pieces so far, and the starts of those that are open.
struct Cuts {
    pieces: Vec<Piece>,
    inner: Vec<Range<usize>>,
    depth: usize,
    outer_start: usize,
    inner_start: usize,
}

impl Cuts {
    /// A bracket opens at `here`.
    fn open(&mut self, here: usize) {
        self.depth += 1;
        if self.depth == 2 {
            self.inner_start = here + 1;
        }
    }

    /// A bracket closes at `here`. Returns whether it ends the top-level object.
    fn close(&mut self, here: usize) -> bool {
        self.depth -= 1;
        match self.depth {
            0 => self.end_piece(here),
            1 => self.inner.push(self.inner_start..here),
            _ => {}
        }
        self.depth == 0
    }

    /// A comma is at `here`.
    fn comma(&mut self, here: usize) {
        match self.depth {
            1 => self.end_piece(here),
            2 => {
                self.inner.push(self.inner_start..here);
                self.inner_start = here + 1;
            }
            _ => {}
        }
    }

    fn end_piece(&mut self, here: usize) {
        self.pieces.push(Piece {
            text: self.outer_start..here,
            inner: std::mem::take(&mut self.inner),
        });
        self.outer_start = here + 1;
    }
}

/// Cuts the object that starts at the first byte of `text`; only white space may follow it.
///
/// # Errors
///
/// If the text does not start with `{`, ends before that brace is closed, or goes on after it.
pub(super) fn pieces(text: &[u8]) -> Result<Vec<Piece>, Error> {
    if text.first() != Some(&b'{') {
        return Err(Error::at_offset(
            text,
            0,
            "the file must start with `{`, without white space before it",
        ));
    }
    let mut cuts = Cuts {
        pieces: Vec::new(),
        inner: Vec::new(),
        depth: 1,
        outer_start: 1,
        inner_start: 0,
    };
    let mut here = 1;
    while here < text.len() {
        let byte = text[here];
        match CLASS[usize::from(byte)] {
            Class::Other => {}
            Class::Quote => {
                here = crate::text::string_end(text, here);
                continue;
            }
            Class::Open => cuts.open(here),
            Class::Close if cuts.close(here) => {
                return end_of_file(text, here).map(|()| cuts.pieces);
            }
            Class::Close => {}
            Class::Comma => cuts.comma(here),
        }
        here += 1;
    }
    Err(Error::at_offset(
        text,
        text.len(),
        "the file ends in the middle (truncated?)",
    ))
}

/// Checks that the bracket at `close` is a brace, and that only white space follows.
fn end_of_file(text: &[u8], close: usize) -> Result<(), Error> {
    if text[close] != b'}' {
        return Err(Error::at_offset(
            text,
            close,
            "found `]` where `}` should close the object that is the file",
        ));
    }
    match text[close + 1..]
        .iter()
        .position(|byte| !b" \t\r\n".contains(byte))
    {
        Some(found) => Err(Error::at_offset(
            text,
            close + 1 + found,
            "text after the end of the JSON object",
        )),
        None => Ok(()),
    }
}

/// The key of a member as it is written, without its quotes; `None` if the text does not start with
/// a string.
pub(super) fn raw_key(member: &[u8]) -> Option<&[u8]> {
    let quote = member.iter().position(|byte| !b" \t\r\n".contains(byte))?;
    (member[quote] == b'"').then(|| {
        let end = crate::text::string_end(member, quote);
        &member[quote + 1..(end - 1).max(quote + 1)]
    })
}

/// What a byte outside of strings means for the cuts.
#[derive(Clone, Copy)]
enum Class {
    Other,
    Quote,
    Open,
    Close,
    Comma,
}

const CLASS: [Class; 256] = {
    let mut class = [Class::Other; 256];
    class[b'"' as usize] = Class::Quote;
    class[b'{' as usize] = Class::Open;
    class[b'[' as usize] = Class::Open;
    class[b'}' as usize] = Class::Close;
    class[b']' as usize] = Class::Close;
    class[b',' as usize] = Class::Comma;
    class
};

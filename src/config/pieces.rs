//! Cuts `config.data` into pieces that are parsed one by one.
//!
//! A parser's tape takes many times the memory of its text. Cut into one piece per object, a load
//! needs the tape of one object at a time, and that fits the processor's cache. The cuts are at the
//! commas of the two outer levels.
//!
//! Only the outermost braces are checked here. Each piece must later parse as the inside of an
//! object with exactly one member ([`super::value`]), which finds any other error between two cuts.

use std::ops::Range;

/// One member of the top-level object.
pub(super) struct Piece {
    /// From after the previous comma (or brace) to the next, white space included.
    pub(super) text: Range<usize>,
    /// The same for the members of the member's value, if that is an object to be cut.
    pub(super) inner: Option<Vec<Range<usize>>>,
}

/// Where the scan is: the pieces so far, and the starts of those that are open.
struct Cuts<'t> {
    text: &'t [u8],
    /// Whether the value of a key of the top level is to be cut.
    is_cut: fn(&[u8]) -> bool,
    pieces: Vec<Piece>,
    inner: Option<Vec<Range<usize>>>,
    /// Whether the value of the open piece has had its bracket.
    has_bracket: bool,
    depth: usize,
    outer_start: usize,
    inner_start: usize,
}

impl Cuts<'_> {
    /// A bracket opens at `here`. `None` if the member has a second value.
    fn open(&mut self, here: usize) -> Option<()> {
        self.depth += 1;
        if self.depth != 2 {
            return Some(());
        }
        if std::mem::replace(&mut self.has_bracket, true) {
            return None;
        }
        let key = raw_key(&self.text[self.outer_start..here]).unwrap_or_default();
        // A key with escapes may be any key.
        let is_cut = memchr::memchr(b'\\', key).is_some() || (self.is_cut)(key);
        if self.text[here] == b'{' && is_cut {
            self.inner = Some(Vec::new());
            self.inner_start = here + 1;
        }
        Some(())
    }

    /// A bracket closes at `here`. Returns whether it ends the top-level object.
    fn close(&mut self, here: usize) -> bool {
        self.depth -= 1;
        match (self.depth, &mut self.inner) {
            (0, _) => self.end_piece(here),
            (1, Some(inner)) => inner.push(self.inner_start..here),
            _ => {}
        }
        self.depth == 0
    }

    /// A comma is at `here`.
    fn comma(&mut self, here: usize) {
        match (self.depth, &mut self.inner) {
            (1, _) => self.end_piece(here),
            (2, Some(inner)) => {
                inner.push(self.inner_start..here);
                self.inner_start = here + 1;
            }
            _ => {}
        }
    }

    fn end_piece(&mut self, here: usize) {
        self.pieces.push(Piece {
            text: self.outer_start..here,
            inner: self.inner.take(),
        });
        self.has_bracket = false;
        self.outer_start = here + 1;
    }
}

/// Cuts the object that starts at the first byte of `text`; only white space may follow it. The
/// values of those of its members are cut again whose keys satisfy `is_cut`.
///
/// `None` if the text is not JSON for certain. The reverse does not hold.
pub(super) fn pieces(text: &[u8], is_cut: fn(&[u8]) -> bool) -> Option<Vec<Piece>> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let mut cuts = Cuts {
        text,
        is_cut,
        pieces: Vec::new(),
        inner: None,
        has_bracket: false,
        depth: 1,
        outer_start: 1,
        inner_start: 0,
    };
    let mut here = 1;
    while here < text.len() {
        match CLASS[usize::from(text[here])] {
            Class::Other => {}
            Class::Quote => {
                here = crate::json::string_end(text, here);
                continue;
            }
            Class::Open => cuts.open(here)?,
            Class::Close if cuts.close(here) => {
                let is_end = text[here] == b'}' && is_space(&text[here + 1..]);
                return is_end.then_some(cuts.pieces);
            }
            Class::Close => {}
            Class::Comma => cuts.comma(here),
        }
        here += 1;
    }
    None
}

/// Whether `text` is nothing but white space of JSON.
pub(super) fn is_space(text: &[u8]) -> bool {
    text.iter().all(|byte| b" \t\r\n".contains(byte))
}

/// The key of a member as it is written, without its quotes; `None` if the text does not start with
/// a string.
pub(super) fn raw_key(member: &[u8]) -> Option<&[u8]> {
    let quote = member.iter().position(|byte| !b" \t\r\n".contains(byte))?;
    (member[quote] == b'"').then(|| {
        let end = crate::json::string_end(member, quote);
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

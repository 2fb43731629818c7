//! Cuts `config.data` into pieces that are parsed one by one.
//!
//! A parser's tape takes many times the memory of its text; cut into one piece per object, loading needs the tape of one
//! object at a time, and that stays in the processor's cache. The cuts are at the commas of the outer two levels. No
//! grammar is checked here but the outermost braces: each piece must then parse as the inside of an object with exactly one
//! member ([`super::value`]), so that whatever is wrong between two cuts is found there.

use std::ops::Range;

use super::Error;

/// One member of the top-level object: where its text is, and where its value's own members or elements are.
pub(super) struct Piece {
    /// From behind the previous comma (or brace) to the next, white space included.
    pub(super) text: Range<usize>,
    /// The same for what the commas of the next level divide; empty if the value is scalar.
    pub(super) inner: Vec<Range<usize>>,
}

/// Cuts the object that starts at the first byte of `text` and ends at its last, but for white space.
pub(super) fn pieces(text: &[u8]) -> Result<Vec<Piece>, Error> {
    if text.first() != Some(&b'{') {
        return Err(Error::at_offset(
            text,
            0,
            "the file must start with `{`, without white space before it",
        ));
    }
    let mut pieces = Vec::new();
    let mut inner = Vec::new();
    let (mut depth, mut outer_start, mut inner_start) = (1_usize, 1, 0);
    let mut here = 1;
    while here < text.len() {
        let byte = text[here];
        match CLASS[usize::from(byte)] {
            Class::Other => {}
            Class::Quote => {
                here = crate::text::string_end(text, here);
                continue;
            }
            Class::Open => {
                depth += 1;
                if depth == 2 {
                    inner_start = here + 1;
                }
            }
            Class::Close => {
                depth -= 1;
                if depth == 1 {
                    inner.push(inner_start..here);
                } else if depth == 0 {
                    pieces.push(Piece {
                        text: outer_start..here,
                        inner,
                    });
                    return end_of_file(text, here, byte).map(|()| pieces);
                }
            }
            Class::Comma if depth == 2 => {
                inner.push(inner_start..here);
                inner_start = here + 1;
            }
            Class::Comma if depth == 1 => {
                pieces.push(Piece {
                    text: outer_start..here,
                    inner: std::mem::take(&mut inner),
                });
                outer_start = here + 1;
            }
            Class::Comma => {}
        }
        here += 1;
    }
    Err(Error::at_offset(
        text,
        text.len(),
        "the file ends in the middle (truncated?)",
    ))
}

fn end_of_file(text: &[u8], close: usize, byte: u8) -> Result<(), Error> {
    if byte != b'}' {
        return Err(Error::at_offset(
            text,
            close,
            "`]` where `}` should close the file's object",
        ));
    }
    match text[close + 1..]
        .iter()
        .position(|byte| !b" \t\r\n".contains(byte))
    {
        Some(behind) => Err(Error::at_offset(
            text,
            close + 1 + behind,
            "text after the end of the JSON object",
        )),
        None => Ok(()),
    }
}

/// The key of a member's text as it is written, quotes not included, if it starts with a string at all.
pub(super) fn raw_key(member: &[u8]) -> Option<&[u8]> {
    let quote = member.iter().position(|byte| !b" \t\r\n".contains(byte))?;
    (member[quote] == b'"').then(|| {
        let end = crate::text::string_end(member, quote);
        &member[quote + 1..(end - 1).max(quote + 1)]
    })
}

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

use std::ops::Range;

/// A byte range in a text of at most 4 GiB.
///
/// Half the size of a slice, and without its lifetime: an index can be stored next to the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Offset of the first byte.
    pub(crate) start: u32,
    /// Offset just past the last byte.
    pub(crate) end: u32,
}

impl Span {
    /// Converts a range of offsets.
    ///
    /// # Panics
    ///
    /// If an offset is 4 GiB or more. `config` refuses to write such a text.
    pub(crate) fn new(range: Range<usize>) -> Self {
        let offset = |at| u32::try_from(at).expect("canonical text is shorter than 4 GiB");
        Self {
            start: offset(range.start),
            end: offset(range.end),
        }
    }

    /// Returns this part of `text`.
    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }

    /// Extends the span of a string's content to include its quotes.
    pub(crate) fn quoted(self) -> Self {
        Self {
            start: self.start - 1,
            end: self.end + 1,
        }
    }

    /// Shrinks the span of a quoted string to its content.
    pub(crate) fn unquoted(self) -> Self {
        Self {
            start: self.start + 1,
            end: self.end - 1,
        }
    }
}

use std::fmt;

use simd_json::{Buffers, Node, Tape};

use super::REQUEST_BYTES_MAX;

/// simd-json with buffers that are reused for every datagram.
pub struct Parser {
    buffers: Buffers,
    nodes: Vec<Node<'static>>,
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parser")
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// Levels for which memory is reserved. A valid request nests three: an object, its query and a
    /// list.
    const DEPTH_MAX: usize = 8;

    /// Allocates the memory that parsing the longest request needs.
    pub fn new() -> Self {
        let buffers = Buffers::with_max_depth(REQUEST_BYTES_MAX, Self::DEPTH_MAX);
        // In an array, at least every second byte is a comma: a request holds no more values.
        let mut parser = Self {
            buffers,
            nodes: Vec::with_capacity(REQUEST_BYTES_MAX / 2 + 2),
        };
        // The list of structural characters grows only while parsing: parse the text that has most.
        let mut worst = vec![b'['; REQUEST_BYTES_MAX + super::PADDING];
        let refused = parser.parse(&mut worst, REQUEST_BYTES_MAX, |_| ());
        debug_assert!(refused.is_none(), "unclosed brackets are not JSON");
        parser
    }

    /// Parses the first `len` bytes of `text` and passes the nodes to `read`. `None` if they are
    /// not JSON. Strings are unescaped in place.
    pub(super) fn parse<'t, R>(
        &mut self,
        text: &'t mut [u8],
        len: usize,
        read: impl FnOnce(&[Node<'t>]) -> R,
    ) -> Option<R> {
        let mut tape = Tape(std::mem::take(&mut self.nodes)).reset();
        let outcome = simd_json::fill_tape_padded(text, len, &mut self.buffers, &mut tape);
        let result = outcome.ok().map(|()| read(&tape.0));
        self.nodes = tape.reset().0;
        result
    }
}

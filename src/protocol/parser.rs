use simd_json::{Buffers, Node, Tape};

use super::REQUEST_BYTES_MAX;

/// simd-json with memory that is kept from one datagram to the next.
pub struct Parser {
    buffers: Buffers,
    nodes: Vec<Node<'static>>,
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parser")
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A request nests an object, its query and a list; a few levels more do not cost anything.
    const DEPTH_MAX: usize = 8;

    /// Takes the memory for the longest request at once.
    pub fn new() -> Self {
        let buffers = Buffers::with_max_depth(REQUEST_BYTES_MAX, Self::DEPTH_MAX);
        // At least every second byte of an array is a comma: that many values fit a request, and no more.
        let mut parser = Self {
            buffers,
            nodes: Vec::with_capacity(REQUEST_BYTES_MAX / 2 + 2),
        };
        // The list of structural characters grows only while parsing, so it is grown here, by the worst text there is.
        let mut worst = vec![b'['; REQUEST_BYTES_MAX + super::PADDING];
        let refused = parser.parse(&mut worst, REQUEST_BYTES_MAX, |_| ());
        debug_assert!(refused.is_none(), "a text of open brackets is no JSON");
        parser
    }

    /// Parses the first `len` bytes of `text` and hands the nodes to `read`; `None` if it is no JSON. Strings are unescaped
    /// in place.
    pub(crate) fn parse<'t, R>(
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

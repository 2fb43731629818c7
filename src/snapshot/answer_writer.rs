//! The inner message of a reply while it is written.
//!
//! Invariants: an answer takes no more memory than a datagram can carry, and writing one does not
//! allocate.

use crate::json;
use crate::protocol::reply::{self, ErrorCode, NO_SERIAL, Status};
use crate::protocol::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX};

/// The longest inner message that can fit a reply: the envelope takes at least 64 bytes.
const MESSAGE_BYTES_MAX: usize = REPLY_BYTES_MAX - 64;

/// The longest text that an error quotes: a name of a request, or one of the file that fits a
/// reply.
pub(super) const NAME_BYTES_MAX: usize = if REQUEST_BYTES_MAX > MESSAGE_BYTES_MAX {
    REQUEST_BYTES_MAX
} else {
    MESSAGE_BYTES_MAX
};

/// The most disks with DRBD minors that a reply can list: each takes more than 32 bytes.
pub(super) const MINORS_MAX: usize = REPLY_BYTES_MAX / 32;

/// A disk of an instance that has DRBD minors of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Minor {
    /// The index of the instance.
    pub(super) instance: u32,
    /// The position of the disk in the instance.
    pub(super) position: u32,
    /// The index of the first of its DRBD minors.
    pub(super) end: u32,
}

/// Where the answer to a request is.
pub(crate) enum Rendered<'a> {
    /// In the snapshot, written when the configuration was loaded.
    Ready(&'a ReadyAnswer),
    /// In the [`AnswerWriter`] of the call.
    Written,
}

/// An inner message that is the same for every client, with its escaped form.
#[derive(Debug)]
pub(crate) struct ReadyAnswer {
    pub(crate) message: Box<[u8]>,
    pub(crate) escaped: Box<[u8]>,
}

impl ReadyAnswer {
    /// An answer whose JSON is `answer`.
    pub(super) fn new(status: Status, answer: &[u8], serial: &[u8]) -> Self {
        let mut message = Vec::new();
        reply::begin(status, &mut message);
        message.extend_from_slice(answer);
        reply::end(serial, &mut message);
        let mut escaped = Vec::new();
        json::escape(&message, &mut escaped);
        Self {
            message: message.into(),
            escaped: escaped.into(),
        }
    }

    /// An error whose text is `why`.
    pub(super) fn error(why: &str) -> Self {
        let mut answer = vec![b'"'];
        json::escape(why.as_bytes(), &mut answer);
        answer.push(b'"');
        Self::new(Status::Error, &answer, NO_SERIAL)
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        self.message.len() + self.escaped.len()
    }
}

/// Buffers that queries write their answers to, reused from one datagram to the next.
///
/// JSON that does not fit a reply is left out, and [`AnswerWriter::is_too_large`] is set.
#[derive(Debug)]
pub(crate) struct AnswerWriter {
    message: Vec<u8>,
    too_large: bool,
    /// For names with characters that need an escape, for path tokens, and for names as Haskell
    /// shows them.
    scratch: Vec<u8>,
    /// For a link, while `scratch` is in use.
    link_scratch: Vec<u8>,
    /// For the disks of an answer with DRBD minors.
    minors: Vec<Minor>,
}

impl AnswerWriter {
    /// Allocates memory for the longest answer.
    pub(crate) fn new() -> Self {
        Self {
            // The length of a text is checked before it is escaped, which may double it.
            message: Vec::with_capacity(2 * REPLY_BYTES_MAX),
            too_large: false,
            // Haskell shows a byte as at most four (`\DEL`); the words around it are shorter than
            // 256.
            scratch: Vec::with_capacity(4 * NAME_BYTES_MAX + 256),
            link_scratch: Vec::with_capacity(NAME_BYTES_MAX),
            minors: Vec::with_capacity(MINORS_MAX),
        }
    }

    /// The finished inner message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// A buffer for one step of a lookup.
    pub(super) fn scratch(&mut self) -> &mut Vec<u8> {
        &mut self.scratch
    }

    /// A buffer for the link of a lookup.
    pub(super) fn link_scratch(&mut self) -> &mut Vec<u8> {
        &mut self.link_scratch
    }

    /// A buffer for the disks of an answer with DRBD minors.
    pub(super) fn minors(&mut self) -> &mut Vec<Minor> {
        &mut self.minors
    }

    /// Marks the answer as one that does not fit a reply.
    pub(super) fn set_too_large(&mut self) {
        self.too_large = true;
    }

    /// Starts a new message with `status`.
    pub(super) fn begin(&mut self, status: Status) {
        self.too_large = false;
        reply::begin(status, &mut self.message);
    }

    /// Ends the message.
    pub(super) fn end(&mut self, serial: &[u8]) {
        reply::end(serial, &mut self.message);
    }

    /// Writes a whole message with the status Ok.
    pub(super) fn ok(&mut self, json: &[u8], serial: &[u8]) {
        self.begin(Status::Ok);
        self.push(json);
        self.end(serial);
    }

    /// Writes a whole message with a numbered error.
    pub(crate) fn error_code(&mut self, code: ErrorCode) {
        self.begin(Status::Error);
        self.push(&[b'0' + code as u8]);
        self.end(NO_SERIAL);
    }

    /// Writes a whole message with an error text.
    pub(super) fn error_text(&mut self, text: &str) {
        self.error_with(|answer| answer.push_escaped(text.as_bytes()));
    }

    /// Writes a whole message with an error text. `write` appends the text, escaped.
    pub(super) fn error_with(&mut self, write: impl FnOnce(&mut Self)) {
        self.begin(Status::Error);
        self.push(b"\"");
        write(self);
        self.push(b"\"");
        self.end(NO_SERIAL);
    }

    /// Appends JSON.
    pub(super) fn push(&mut self, json: &[u8]) {
        if self.message.len() + json.len() > MESSAGE_BYTES_MAX {
            self.too_large = true;
        } else {
            self.message.extend_from_slice(json);
        }
    }

    /// Appends text as the inside of a string.
    pub(super) fn push_escaped(&mut self, text: &[u8]) {
        self.too_large |= self.message.len() + text.len() > MESSAGE_BYTES_MAX;
        if !self.too_large {
            json::escape(text, &mut self.message);
            self.too_large = self.message.len() > MESSAGE_BYTES_MAX;
        }
    }

    /// Appends JSON values with commas between them.
    pub(super) fn push_list<'a>(&mut self, values: impl Iterator<Item = &'a [u8]>) {
        self.push(b"[");
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.push(b",");
            }
            self.push(value);
            if self.too_large {
                break;
            }
        }
        self.push(b"]");
    }
}

//! Parses one piece of the file and gives access to its values.
//!
//! simd-json makes a tape: one node per value, in the order of the text. It lacks two things that
//! are added here:
//!
//! * The text of a number. The reference's numbers are exact, the tape's are doubles. Every node
//!   has one structural index, which is the offset at which it starts.
//! * Numbers beyond the range of a double, which simd-json refuses. They are masked, the piece is
//!   parsed again, and their values are read from the text.
//!
//! Invariant: nesting is at most [`DEPTH_MAX`] deep, so that code that walks values may recurse.

use std::borrow::Cow;

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::error::Error;
use super::number;

/// How deep a value may be nested. The reference has no limit; 256 is far beyond any configuration
/// and bounds the stack.
pub(super) const DEPTH_MAX: usize = 256;

/// Replaces a number that is too large for a double while parsing. It makes a node of the type
/// double, whose value is read from the text.
const MASK: &[u8] = b"0.5";

/// Parses one piece after another with the same buffers.
pub(super) struct Parser {
    buffers: Buffers,
    nodes: Vec<Node<'static>>,
    scratch: Vec<u8>,
}

impl Parser {
    pub(super) fn new() -> Self {
        let buffers = Buffers::with_max_depth(4096, DEPTH_MAX);
        Self {
            buffers,
            nodes: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Parses `text[piece]` as the inside of an object with one member, and calls `read` with its
    /// key and value.
    ///
    /// # Errors
    ///
    /// If it is something else, or what `read` returns.
    pub(super) fn member<R>(
        &mut self,
        text: &[u8],
        piece: std::ops::Range<usize>,
        read: impl FnOnce(&str, Value<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let source = &text[piece.clone()];
        let mut nodes = std::mem::take(&mut self.nodes);
        nodes.clear();
        let mut tape = Tape(nodes).reset();
        let mut outcome = parse(source, &mut self.scratch, &mut self.buffers, &mut tape);
        let mut masked = false;
        if outcome.is_err() {
            let mut copy = source.to_vec();
            masked = mask_overflows(&mut copy, self.buffers.structural_indexes());
            if masked {
                tape = tape.reset();
                outcome = parse(&copy, &mut self.scratch, &mut self.buffers, &mut tape);
            }
        }
        let result = match (outcome, tape.0.as_slice()) {
            (Ok(()), [Node::Object { len: 1, .. }, Node::String(key), ..]) => {
                let parsed = Parsed {
                    nodes: &tape.0,
                    source,
                    starts: self.buffers.structural_indexes(),
                    masked,
                };
                read(
                    key,
                    Value {
                        parsed: &parsed,
                        at: 2,
                    },
                )
            }
            (Ok(()), _) => Err(Error::at_offset(
                text,
                piece.start,
                "expected a member `\"key\": value`",
            )),
            (Err(error), _) => {
                let offset = (piece.start + error.index().saturating_sub(BRACE)).min(piece.end);
                Err(Error::at_offset(
                    text,
                    offset,
                    &format!("not valid JSON ({})", describe(&error)),
                ))
            }
        };
        self.nodes = tape.reset().0;
        result
    }
}

/// Bytes of the brace that is put before each piece: offsets in the piece are smaller by this much.
const BRACE: usize = 1;

/// Parses `source` with braces around it.
fn parse<'t>(
    source: &[u8],
    scratch: &'t mut Vec<u8>,
    buffers: &mut Buffers,
    tape: &mut Tape<'t>,
) -> Result<(), simd_json::Error> {
    let len = source.len() + 2 * BRACE;
    scratch.clear();
    scratch.reserve(len + simd_json::INPUT_PADDING);
    scratch.push(b'{');
    scratch.extend_from_slice(source);
    scratch.push(b'}');
    scratch.resize(len + simd_json::INPUT_PADDING, 0);
    simd_json::fill_tape_padded(scratch, len, buffers, tape)
}

/// Masks the numbers in `source` that are too large for a double. Returns whether there were any.
fn mask_overflows(source: &mut [u8], starts: &[u32]) -> bool {
    let mut found = false;
    for &start in starts {
        let Some(start) = (start as usize).checked_sub(BRACE) else {
            continue;
        };
        let Some(token) = source.get(start..).map(number_token) else {
            continue;
        };
        if is_number(token) && number::nearest(token).is_infinite() && token.len() >= MASK.len() {
            let end = start + token.len();
            source[start..end].fill(b' ');
            source[start..start + MASK.len()].copy_from_slice(MASK);
            found = true;
        }
    }
    found
}

/// Whether `token` is a number of RFC 8259. The standard library accepts more (`1.`, `01`, `inf`).
fn is_number(token: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unsigned = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits(unsigned);
    if whole == 0 || (whole > 1 && unsigned[0] == b'0') {
        return false;
    }
    let mut rest = &unsigned[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', power @ ..] | [b'e' | b'E', power @ ..] => {
            !power.is_empty() && digits(power) == power.len()
        }
        _ => false,
    }
}

/// The bytes at the start of `text` that may belong to a number.
fn number_token(text: &[u8]) -> &[u8] {
    let belongs = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    &text[..text.iter().take_while(|byte| belongs(byte)).count()]
}

/// The parser's description of an error without its offset, which is that in the piece.
fn describe(error: &simd_json::Error) -> String {
    let text = error.to_string();
    text.split(" at character")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// A parsed piece.
struct Parsed<'a> {
    nodes: &'a [Node<'a>],
    source: &'a [u8],
    /// Structural indexes, in the text with its brace.
    starts: &'a [u32],
    /// Whether numbers were masked, so that the values of doubles on the tape do not count.
    masked: bool,
}

/// A value of the parsed piece.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    parsed: &'a Parsed<'a>,
    at: usize,
}

/// A number as it is on the tape.
pub(super) enum Number<'a> {
    Signed(i64),
    Unsigned(u64),
    /// Any other number, as it is written.
    Text(&'a [u8]),
}

impl<'a> Value<'a> {
    fn node(&self) -> &'a Node<'a> {
        &self.parsed.nodes[self.at]
    }

    /// The tape index of this value, which takes half the space of the value. Never 0.
    pub(super) fn position(&self) -> u32 {
        self.at as u32
    }

    /// The value of the same piece at a [`Value::position`].
    pub(super) fn at_position(&self, position: u32) -> Self {
        Self {
            parsed: self.parsed,
            at: position as usize,
        }
    }

    /// The tape index after this value.
    fn end(&self) -> usize {
        match self.node() {
            Node::Object { count, .. } | Node::Array { count, .. } => self.at + 1 + count,
            _ => self.at + 1,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node(), Node::Static(StaticNode::Null))
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self.node() {
            Node::Static(StaticNode::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&'a str> {
        match self.node() {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    /// A string, or an array of one-character strings, which the reference reads as one.
    pub(super) fn as_text(&self) -> Option<Cow<'a, str>> {
        if let Some(text) = self.as_str() {
            return Some(Cow::Borrowed(text));
        }
        let character = |element: Value<'a>| {
            element
                .as_str()
                .filter(|text| text.chars().nth(1).is_none() && !text.is_empty())
        };
        self.elements()?
            .map(character)
            .collect::<Option<String>>()
            .map(Cow::Owned)
    }

    pub(super) fn as_number(&self) -> Option<Number<'a>> {
        match self.node() {
            Node::Static(StaticNode::I64(value)) => Some(Number::Signed(*value)),
            Node::Static(StaticNode::U64(value)) => Some(Number::Unsigned(*value)),
            Node::Static(StaticNode::F64(_)) => Some(Number::Text(self.number_text())),
            _ => None,
        }
    }

    /// The nearest double of a number.
    pub(super) fn as_double(&self) -> Option<f64> {
        match self.node() {
            Node::Static(StaticNode::F64(value)) if !self.parsed.masked => Some(*value),
            _ => self.as_number().map(|number| match number {
                Number::Signed(value) => value as f64,
                Number::Unsigned(value) => value as f64,
                Number::Text(text) => number::nearest(text),
            }),
        }
    }

    /// The text of this number. Node `n` of the tape starts at the `n`th structural index that
    /// starts a value.
    fn number_text(&self) -> &'a [u8] {
        let source = self.parsed.source;
        let in_source = self
            .parsed
            .starts
            .iter()
            .filter_map(|start| (*start as usize).checked_sub(BRACE));
        let mut values = in_source.filter(|&start| {
            source
                .get(start)
                .is_some_and(|byte| !b",:]}".contains(byte))
        });
        // The object of the added braces has a node, but does not start in the source.
        let start = values.nth(self.at - 1);
        start.map_or(&[], |start| number_token(&source[start..]))
    }

    /// The elements, if this is an array.
    pub(super) fn elements(&self) -> Option<impl Iterator<Item = Self> + use<'a>> {
        let Node::Array { len, .. } = *self.node() else {
            return None;
        };
        let (parsed, mut next) = (self.parsed, self.at + 1);
        Some((0..len).map(move |_| {
            let element = Value { parsed, at: next };
            next = element.end();
            element
        }))
    }

    /// The members in the order of the file, if this is an object.
    pub(super) fn members(
        &self,
    ) -> Option<impl Iterator<Item = (&'a str, Self)> + Clone + use<'a>> {
        let Node::Object { len, .. } = *self.node() else {
            return None;
        };
        let (parsed, mut next) = (self.parsed, self.at + 1);
        Some((0..len).map(move |_| {
            let key = Value { parsed, at: next };
            let value = Value {
                parsed,
                at: next + 1,
            };
            next = value.end();
            (key.as_str().unwrap_or_default(), value)
        }))
    }

    /// The member `key`, if this is an object that has it.
    pub(super) fn member(&self, key: &str) -> Option<Self> {
        self.members()?
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The type of this value, for a message: `a string`, `null`.
    pub(super) fn kind(&self) -> &'static str {
        match self.node() {
            Node::String(_) => "a string",
            Node::Object { .. } => "an object",
            Node::Array { .. } => "an array",
            Node::Static(StaticNode::Null) => "null",
            Node::Static(StaticNode::Bool(_)) => "a boolean",
            Node::Static(_) => "a number",
        }
    }
}

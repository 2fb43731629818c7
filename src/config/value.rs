//! Parses one piece of the file and gives access to its values.
//!
//! simd-json makes a tape: one node per value, in the order of the text. It lacks three things that
//! are added here:
//!
//! * The text of a number. The reference's numbers are exact, the tape's are doubles. Every node
//!   has one structural index, which is the offset at which it starts.
//! * Numbers beyond the range of a double, which simd-json refuses. They are masked, the piece is
//!   parsed again, and their values are read from the text.
//! * Lone surrogate escapes, which simd-json refuses and the reference reads. They are replaced by
//!   U+FFFD, as text in UTF-8 cannot hold them, and the piece is parsed again.
//!
//! Invariants: nesting is at most [`DEPTH_MAX`] deep, so that code that walks values may recurse;
//! parsing a piece and reading all its numbers takes time linear in its length.

use std::borrow::Cow;
use std::cell::OnceCell;

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::error::Error;
use super::number;

/// How deep a value may be nested. The reference has no limit; 256 is far beyond any configuration
/// and bounds the stack.
pub(super) const DEPTH_MAX: usize = 256;

/// Replaces a number that is too large for a double while parsing. It makes a node of the type
/// double, whose value is read from the text.
const MASK: &[u8] = b"0.5";

/// Why a piece is not read.
pub(super) enum Failure {
    /// It is not a member, `"key": value`, in JSON.
    Malformed,
    /// The reader of its value refused it.
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    /// The same failure, seen from the object that has the piece under `key`.
    pub(super) fn under(self, key: &str) -> Self {
        match self {
            Self::Malformed => self,
            Self::Refused(error) => Self::Refused(error.under(key)),
        }
    }
}

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

    /// Parses `source` as the inside of an object with one member, and calls `read` with its key
    /// and value.
    ///
    /// # Errors
    ///
    /// If it is something else, or what `read` returns.
    pub(super) fn member<R>(
        &mut self,
        source: &[u8],
        read: impl FnOnce(&str, Value<'_>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let mut nodes = std::mem::take(&mut self.nodes);
        nodes.clear();
        let mut tape = Tape(nodes).reset();
        let mut is_parsed = parse(source, &mut self.scratch, &mut self.buffers, &mut tape);
        let mut repairs = Repairs::default();
        if !is_parsed {
            let mut copy = source.to_vec();
            repairs = Repairs {
                numbers: mask_overflows(&mut copy, self.buffers.structural_indexes()),
                surrogates: replace_surrogates(&mut copy),
            };
            if repairs != Repairs::default() {
                tape = tape.reset();
                is_parsed = parse(&copy, &mut self.scratch, &mut self.buffers, &mut tape);
            }
        }
        let result = match tape.0.as_slice() {
            [Node::Object { len: 1, .. }, Node::String(key), ..] if is_parsed => {
                let parsed = Parsed {
                    nodes: &tape.0,
                    source,
                    structurals: self.buffers.structural_indexes(),
                    starts: OnceCell::new(),
                    repairs,
                };
                let value = Value {
                    parsed: &parsed,
                    at: 2,
                };
                read(key, value)
            }
            _ => Err(Failure::Malformed),
        };
        self.nodes = tape.reset().0;
        result
    }
}

/// What was changed in a copy of a piece, so that it could be parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Repairs {
    /// Numbers were masked: the values of doubles on the tape do not count.
    numbers: bool,
    /// Lone surrogate escapes were replaced.
    surrogates: bool,
}

/// Bytes of the brace that is put before each piece: offsets in the piece are smaller by this much.
const BRACE: usize = 1;

/// Parses `source` with braces around it. Returns whether it is JSON.
fn parse<'t>(
    source: &[u8],
    scratch: &'t mut Vec<u8>,
    buffers: &mut Buffers,
    tape: &mut Tape<'t>,
) -> bool {
    let len = source.len() + 2 * BRACE;
    scratch.clear();
    scratch.reserve(len + simd_json::INPUT_PADDING);
    scratch.push(b'{');
    scratch.extend_from_slice(source);
    scratch.push(b'}');
    scratch.resize(len + simd_json::INPUT_PADDING, 0);
    simd_json::fill_tape_padded(scratch, len, buffers, tape).is_ok()
}

/// Masks the numbers in `source` that are too large for a double. Returns whether there were any.
fn mask_overflows(source: &mut [u8], structurals: &[u32]) -> bool {
    let mut found = false;
    for &start in structurals {
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

/// Replaces the escapes of surrogates that are not half of a pair by that of U+FFFD. Returns
/// whether there were any.
fn replace_surrogates(source: &mut [u8]) -> bool {
    let mut found = false;
    let mut here = 0;
    while let Some(backslash) = memchr::memchr(b'\\', &source[here..]) {
        here += backslash;
        let rest = &mut source[here..];
        here += match (escaped_unit(rest), rest.get(6..).and_then(escaped_unit)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                rest[2..6].copy_from_slice(b"fffd");
                found = true;
                6
            }
            _ => 2,
        };
        here = here.min(source.len());
    }
    found
}

/// The UTF-16 unit of an escape `\uXXXX` at the start of `text`.
fn escaped_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    u16::from_str_radix(digits, 16).ok()
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

/// A parsed piece.
struct Parsed<'a> {
    nodes: &'a [Node<'a>],
    source: &'a [u8],
    /// Structural indexes, in the text with its brace.
    structurals: &'a [u32],
    /// Those that start a value or key, in `source`: one for each node but the first. Made when a
    /// number's text is needed.
    starts: OnceCell<Box<[u32]>>,
    repairs: Repairs,
}

impl Parsed<'_> {
    fn starts(&self) -> &[u32] {
        self.starts.get_or_init(|| {
            let in_source = self
                .structurals
                .iter()
                .filter_map(|start| start.checked_sub(BRACE as u32));
            in_source
                .filter(|&start| {
                    let byte = self.source.get(start as usize);
                    byte.is_some_and(|byte| !b",:]}".contains(byte))
                })
                .collect()
        })
    }
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
            Node::Static(StaticNode::F64(value)) if !self.parsed.repairs.numbers => Some(*value),
            _ => self.as_number().map(|number| match number {
                Number::Signed(value) => value as f64,
                Number::Unsigned(value) => value as f64,
                Number::Text(text) => number::nearest(text),
            }),
        }
    }

    /// The text of this number. The object of the added braces has a node, but does not start in
    /// the source.
    fn number_text(&self) -> &'a [u8] {
        let start = self.parsed.starts().get(self.at - 1);
        start.map_or(&[], |&start| {
            number_token(&self.parsed.source[start as usize..])
        })
    }

    /// A number, rounded half to even and wrapped to 64 bits.
    pub(super) fn as_int(&self) -> Option<i64> {
        self.as_number().map(|number| match number {
            Number::Signed(value) => value,
            Number::Unsigned(value) => value.cast_signed(),
            Number::Text(text) => number::int(text),
        })
    }

    /// Whether lone surrogate escapes were replaced in the piece of this value.
    pub(super) fn has_replaced_surrogates(&self) -> bool {
        self.parsed.repairs.surrogates
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

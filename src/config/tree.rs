//! Offsets of the larger objects and arrays of a canonical text, and of their children.
//!
//! Only composites of at least [`BRANCH_BYTES_MIN`] bytes have an entry: shorter ones are scanned
//! faster than looked up, and a tree of everything would be larger than the text.

use std::cmp::Ordering;

use crate::text;

/// Objects and arrays with at least this much text have an entry in the tree.
const BRANCH_BYTES_MIN: usize = 256;

/// Objects with at most this many members keep them in the order of the text, for a linear search.
pub(super) const LINEAR_MAX: usize = 64;

/// One object or array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    start: u32,
    /// Offset after its closing bracket.
    pub(super) end: u32,
    /// Its children's offsets are `children[first..first + count]`.
    first: u32,
    count: u32,
}

/// The larger objects and arrays of a text, sorted by offset.
///
/// The children of an array are the offsets of its elements, in order. The children of an object
/// are the offsets of its keys, sorted by key if there are more than [`LINEAR_MAX`].
#[derive(Debug, Default)]
pub(super) struct Tree {
    branches: Box<[Branch]>,
    children: Box<[u32]>,
}

impl Tree {
    /// The object or array that starts at `at`, if it is large enough to have an entry.
    pub(super) fn branch(&self, at: usize) -> Option<&Branch> {
        let at = u32::try_from(at).ok()?;
        self.branches
            .binary_search_by_key(&at, |branch| branch.start)
            .ok()
            .map(|found| &self.branches[found])
    }

    /// The offsets of the children of `branch`.
    pub(super) fn children(&self, branch: &Branch) -> &[u32] {
        &self.children[branch.first as usize..][..branch.count as usize]
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        size_of_val::<[Branch]>(&self.branches) + size_of_val::<[u32]>(&self.children)
    }
}

/// Builds a [`Tree`] while its text is written.
#[derive(Default)]
pub(super) struct TreeBuilder {
    branches: Vec<Branch>,
    children: Vec<u32>,
    /// Children of all the composites that are still open, innermost last.
    open_children: Vec<u32>,
    /// Where the children of each open composite begin in `open_children`.
    open: Vec<usize>,
}

impl TreeBuilder {
    /// An object or array starts.
    pub(super) fn open(&mut self) {
        self.open.push(self.open_children.len());
    }

    /// A child of the innermost open composite starts at `at`.
    pub(super) fn child(&mut self, at: usize) {
        // `Writer::checked_len` refuses a text with offsets over 32 bits before anything reads
        // them.
        self.open_children.push(at as u32);
    }

    /// The innermost composite, which started at `start`, ends where `text` ends.
    pub(super) fn close(&mut self, start: usize, text: &[u8]) {
        let mark = self.open.pop().unwrap_or(0);
        if text.len() - start < BRANCH_BYTES_MIN || u32::try_from(text.len()).is_err() {
            self.open_children.truncate(mark);
            return;
        }
        let first = self.children.len();
        self.children.extend(self.open_children.drain(mark..));
        let children = &mut self.children[first..];
        if text[start] == b'{' && children.len() > LINEAR_MAX {
            sort_by_key(children, text);
        }
        let count = children.len() as u32;
        self.branches.push(Branch {
            start: start as u32,
            end: text.len() as u32,
            first: first as u32,
            count,
        });
    }

    /// Drops the child that was started last. It must have been too short for a branch.
    pub(super) fn forget_last(&mut self) {
        self.open_children.pop();
    }

    /// The finished tree.
    pub(super) fn finish(mut self) -> Tree {
        self.branches.sort_unstable_by_key(|branch| branch.start);
        Tree {
            branches: self.branches.into_boxed_slice(),
            children: self.children.into_boxed_slice(),
        }
    }
}

/// Sorts the offsets of an object's keys by key; equal keys keep their order.
fn sort_by_key(children: &mut [u32], text: &[u8]) {
    let key = |&child: &u32| &text[child as usize + 1..text::string_end(text, child as usize) - 1];
    let compare = |left: &u32, right: &u32| text::compare(key(left), key(right));
    if !children.is_sorted_by(|left, right| compare(left, right) == Ordering::Less) {
        children.sort_by(compare);
    }
}

//! Offsets of the larger objects and arrays of a canonical text, and of their children.
//!
//! Only composites of at least [`BRANCH_BYTES_MIN`] bytes have an entry: shorter ones are scanned
//! faster than looked up, and a tree of everything would be larger than the text.

use crate::json;

/// Objects and arrays with at least this much text have an entry in the tree.
const BRANCH_BYTES_MIN: usize = 256;

/// Objects with at most this many members keep them in the order of the text, for a linear search.
const LINEAR_MAX: usize = 64;

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

    /// The offset of the text of the first key of an object that equals `key` (canonical, without
    /// quotes).
    ///
    /// The cost depends on the length of `key`, not on that of the object's keys.
    pub(super) fn find_member(&self, branch: &Branch, text: &[u8], key: &[u8]) -> Option<usize> {
        let children = self.children(branch);
        // Keys are compared with their closing quotes, which no other byte of a canonical string
        // equals unless a backslash precedes it. Two strings that differ do so before or at the
        // first quote.
        let compare = |&child: &u32| {
            let start = child as usize + 1;
            let end = (start + key.len()).min(text.len());
            text[start..end].cmp(key).then_with(|| text[end].cmp(&b'"'))
        };
        let found = if children.len() <= LINEAR_MAX {
            children.iter().find(|child| compare(child).is_eq())
        } else {
            let first = children.partition_point(|child| compare(child).is_lt());
            children.get(first).filter(|child| compare(child).is_eq())
        };
        found.map(|&child| child as usize + 1)
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

/// The state of a [`TreeBuilder`] that [`TreeBuilder::rewind`] returns to.
pub(super) struct TreeMark {
    branches: usize,
    children: usize,
    open_children: usize,
    open: usize,
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

    /// The state between two children of the innermost open composite.
    pub(super) fn mark(&self) -> TreeMark {
        TreeMark {
            branches: self.branches.len(),
            children: self.children.len(),
            open_children: self.open_children.len(),
            open: self.open.len(),
        }
    }

    /// Forgets what was added after `mark`.
    pub(super) fn rewind(&mut self, mark: TreeMark) {
        self.branches.truncate(mark.branches);
        self.children.truncate(mark.children);
        self.open_children.truncate(mark.open_children);
        self.open.truncate(mark.open);
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
    let key = |&child: &u32| &text[child as usize + 1..json::string_end(text, child as usize)];
    if !children.is_sorted_by(|left, right| key(left) < key(right)) {
        children.sort_by(|left, right| key(left).cmp(key(right)));
    }
}

//! The whole configuration as canonical text, with the places of its values.
//!
//! Paths are followed in the text, with the offsets in [`super::tree`] for the larger objects and
//! arrays.
//!
//! Invariant: every [`Span`] that is returned is a whole value (or a key) of the text.
//!
//! Source: `Ganeti.JSON` (`nestedAccessByKey`).

use super::error::Error;
use super::loader::{self, Loaded};
use super::section::{Entry, Section};
use super::tree::Tree;
use super::warnings::Warnings;
use crate::json::{self, Span};

/// A configuration in canonical form, immutable.
#[derive(Debug)]
pub(crate) struct Document {
    text: Box<[u8]>,
    tree: Tree,
    sections: [Box<[Entry]>; 6],
    /// The length of the longest key of any object, in canonical form.
    key_len_max: usize,
}

impl Document {
    /// Checks a whole file and writes it in canonical form.
    ///
    /// # Errors
    ///
    /// If `source` is not JSON, or a value that a query needs is missing or of the wrong type.
    pub(crate) fn read(source: &[u8], warnings: &mut Warnings) -> Result<Self, Error> {
        let Loaded {
            text,
            tree,
            sections,
            key_len_max,
        } = loader::load(source, warnings)?;
        Ok(Self {
            text,
            tree,
            sections,
            key_len_max,
        })
    }

    /// The canonical text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The length of the longest key of any object, in canonical form: no longer one is found.
    pub(crate) fn key_len_max(&self) -> usize {
        self.key_len_max
    }

    /// The entries of a section, ascending by key (UTF-8 bytes): the reference's map order.
    pub(crate) fn entries(&self, section: Section) -> &[Entry] {
        &self.sections[section as usize]
    }

    /// The value under `key` (canonical, without quotes) in the object at `at`.
    pub(crate) fn member(&self, at: usize, key: &[u8]) -> Option<Span> {
        let Some(branch) = self.tree.branch(at) else {
            return json::member(&self.text, at, key).map(Span::new);
        };
        let name_start = self.tree.find_member(branch, &self.text, key)?;
        Some(self.value(name_start + key.len() + "\":".len()))
    }

    /// The values of `names` in the object at `at`; a name must need no escape.
    pub(crate) fn fields<const N: usize>(&self, at: Span, names: [&str; N]) -> [Option<Span>; N] {
        let start = at.start as usize;
        if self.tree.branch(start).is_some() {
            return names.map(|name| self.member(start, name.as_bytes()));
        }
        let mut found = [None; N];
        for (key, value) in json::members(&self.text, start) {
            let key = &self.text[key];
            if let Some(index) = names.iter().position(|name| name.as_bytes() == key) {
                found[index].get_or_insert(Span::new(value));
            }
        }
        found
    }

    /// Calls `visit` with each element of the array at `at`.
    ///
    /// The cost does not depend on the length of elements that have an entry in the tree.
    pub(crate) fn for_each_element(&self, at: Span, mut visit: impl FnMut(Span)) {
        match self.tree.branch(at.start as usize) {
            Some(branch) => {
                for &child in self.tree.children(branch) {
                    visit(self.value(child as usize));
                }
            }
            None => json::elements(&self.text, at.start as usize)
                .map(Span::new)
                .for_each(visit),
        }
    }

    /// The element at `index` of the array at `at`.
    pub(crate) fn element(&self, at: usize, index: usize) -> Option<Span> {
        match self.tree.branch(at) {
            Some(branch) => self
                .tree
                .children(branch)
                .get(index)
                .map(|&child| self.value(child as usize)),
            None => json::elements(&self.text, at).nth(index).map(Span::new),
        }
    }

    /// The whole value that starts at `at`.
    fn value(&self, at: usize) -> Span {
        let end = self.tree.branch(at).map_or_else(
            || json::value_end(&self.text, at),
            |branch| branch.end as usize,
        );
        Span::new(at..end)
    }

    /// The value at the path of `keys`, which the field tables mark as mandatory.
    ///
    /// # Panics
    ///
    /// If there is no such value.
    pub(crate) fn mandatory(&self, keys: &[&str]) -> Span {
        self.find(keys)
            .expect("the field tables refuse files without a mandatory field")
    }

    /// The value at the path of `keys`, if there is one.
    pub(crate) fn find(&self, keys: &[&str]) -> Option<Span> {
        let top = Span::new(0..self.text.len());
        keys.iter().try_fold(top, |value, key| {
            let at = value.start as usize;
            let is_object = self.text[at] == b'{';
            is_object.then(|| self.member(at, key.as_bytes())).flatten()
        })
    }

    /// Bytes of memory that this holds.
    pub(crate) fn bytes(&self) -> usize {
        let entries: usize = self
            .sections
            .iter()
            .map(|entries| size_of_val::<[Entry]>(entries))
            .sum();
        self.text.len() + self.tree.bytes() + entries
    }
}

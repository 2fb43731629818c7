//! The maps of the top level whose entries have an index.

use crate::json::Span;

/// A map at the top level whose entries have an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Nodes,
    NodeGroups,
    Instances,
    Networks,
    Disks,
    Filters,
}

impl Section {
    /// All of them, in the order in which they are printed.
    pub(super) const ALL: [Self; 6] = [
        Self::Nodes,
        Self::NodeGroups,
        Self::Instances,
        Self::Networks,
        Self::Disks,
        Self::Filters,
    ];

    /// Its key at the top level.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::NodeGroups => "nodegroups",
            Self::Instances => "instances",
            Self::Networks => "networks",
            Self::Disks => "disks",
            Self::Filters => "filters",
        }
    }
}

/// One entry of a [`Section`]: `"key":value`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The key without its quotes, canonical.
    pub(crate) key: Span,
    pub(crate) value: Span,
}

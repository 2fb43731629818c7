//! One loaded configuration and the answers to all queries about it.
//!
//! The indexes are built when a configuration is loaded. A query is a lookup in an index and a few
//! slices of the document's text; only lists of DRBD minors are put together per answer.
//!
//! * `index`: all indexes of one configuration, built from
//!   `objects` (fields of nodes and instances), `placement` (instances and disks per node),
//!   `drbd_tree` and `drbd` (minors), `directory` (names), `links` (addresses) and `ready` (answers
//!   that never change). `groups` holds lists by number.
//! * `queries`: one function for each query, named like the query.
//! * `answer_writer`: the inner message of a reply while it is written.
//! * `path`: configuration paths. `error_text`, `haskell_show`: error texts in the reference's
//!   wording.
//!
//! Invariants: a snapshot is immutable; every span in it is inside its document's text; time and
//! memory of building it are linear in the length of that text; the cost of a query depends on its
//! length and its answer, and on the size of the cluster only by a binary search for abbreviated
//! names and large objects.
//!
//! This module does not sign replies, and knows neither sockets nor files.
//!
//! Source: `Ganeti.Confd.Server` (`buildResponse`), `Ganeti.Config`, `Ganeti.Confd.Utils`.
#![forbid(unsafe_code)]

mod answer_writer;
mod directory;
mod drbd;
mod drbd_tree;
mod error_text;
mod groups;
mod haskell_show;
mod index;
mod links;
mod objects;
pub(crate) mod path;
mod placement;
mod queries;
mod ready;

use answer_writer::ReadyAnswer;
pub(crate) use answer_writer::{AnswerWriter, Rendered};
use index::Index;

use crate::config::{self, Document, Section, Warnings};
use crate::protocol::request::Request;

/// Everything a worker needs to answer any query about one version of `config.data`; immutable.
#[derive(Debug)]
pub struct Snapshot(Content);

#[derive(Debug)]
enum Content {
    Loaded(Box<Index>),
    /// The same error for every request.
    Error(ReadyAnswer),
}

/// The result of [`Snapshot::load`].
#[derive(Debug)]
pub struct Loaded {
    /// The snapshot to publish.
    pub snapshot: Snapshot,
    /// What is unusual but served (unknown keys, missing keys that no query needs): a bounded
    /// number of lines, one for each kind.
    pub warnings: Vec<String>,
}

/// A description of a loaded snapshot, for logs and `--check`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// `cluster.cluster_name`, as in the file.
    pub cluster_name: String,
    /// The top-level `serial_no`.
    pub serial_no: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of node groups.
    pub groups: usize,
    /// Number of instances, including forthcoming ones.
    pub instances: usize,
    /// Number of disks, without children.
    pub disks: usize,
    /// Number of networks.
    pub networks: usize,
    /// Number of filter rules.
    pub filters: usize,
    /// Bytes of memory that the snapshot holds.
    pub bytes: usize,
}

impl Snapshot {
    /// Loads the text of a whole `config.data`.
    ///
    /// # Errors
    ///
    /// If the text is not JSON, or a value that a query needs is missing or of the wrong type.
    pub fn load(text: &[u8]) -> Result<Loaded, config::Error> {
        let mut warnings = Warnings::default();
        let document = Document::read(text, &mut warnings).map_err(config::Error::bounded)?;
        let snapshot = Self(Content::Loaded(Box::new(Index::new(document))));
        Ok(Loaded {
            snapshot,
            warnings: warnings.lines(),
        })
    }

    /// A snapshot without a configuration: every request gets the error text `why` (status 1,
    /// serial 0).
    pub fn unavailable(why: &str) -> Self {
        Self(Content::Error(ReadyAnswer::error(why)))
    }

    /// A description of this snapshot; `None` for [`Snapshot::unavailable`].
    pub fn summary(&self) -> Option<Summary> {
        let Content::Loaded(index) = &self.0 else {
            return None;
        };
        let document = &index.document;
        let count = |section| document.entries(section).len();
        let unquoted = |keys: &[&str]| {
            let text = document
                .find(keys)
                .map_or(&b"?"[..], |span| span.of(document.text()));
            String::from_utf8_lossy(text).trim_matches('"').to_owned()
        };
        Some(Summary {
            cluster_name: unquoted(&["cluster", "cluster_name"]),
            serial_no: unquoted(&["serial_no"]),
            nodes: count(Section::Nodes),
            groups: count(Section::NodeGroups),
            instances: count(Section::Instances),
            disks: count(Section::Disks),
            networks: count(Section::Networks),
            filters: count(Section::Filters),
            bytes: index.bytes(),
        })
    }

    /// Answers `request`: with an answer that is ready, or else into `answer`.
    pub(crate) fn answer<'a>(
        &'a self,
        request: &Request<'_>,
        answer: &mut AnswerWriter,
    ) -> Rendered<'a> {
        match &self.0 {
            Content::Loaded(index) => index.answer(request, answer),
            Content::Error(ready) => Rendered::Ready(ready),
        }
    }
}

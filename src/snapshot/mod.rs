//! One configuration, ready to be asked.
//!
//! All cost is paid when a configuration is loaded, none when a datagram is answered: a query is a lookup in an index and a few
//! slices of the document's text.
//!
//! * `cluster`: what is known about one configuration, and how it is found out.
//! * `directory`: names to nodes and instances; `links`: addresses to nodes.
//! * `queries`: one function per query, named as the query.
//! * `answer`: the inner message of a reply while it is put together.
//! * `path`, `show`: the reference's ways with configuration paths, and with quoted names.
//!
//! Invariants: a snapshot never changes; every span in it lies in its document's text; the cost of a query depends on
//! what it answers, not on the size of the cluster.
//!
//! Source: `Ganeti.Confd.Server` (`buildResponse`), `Ganeti.Config`, `Ganeti.Confd.Utils`.
#![forbid(unsafe_code)]

mod answer_writer;
mod directory;
mod haskell_show;
mod index;
mod links;
pub(crate) mod path;
mod queries;

pub(crate) use answer_writer::{AnswerWriter, ReadyAnswer};
use index::Cluster;

use crate::config::{self, Document, Section, Warnings};
use crate::protocol::request::Request;

/// Everything a worker needs to answer any query about one version of `config.data`; immutable.
#[derive(Debug)]
pub struct Snapshot(Content);

#[derive(Debug)]
enum Content {
    Loaded(Box<Cluster>),
    /// The same error for every request.
    Unavailable(ReadyAnswer),
}

/// What [`Snapshot::load`] read.
#[derive(Debug)]
pub struct Loaded {
    /// The snapshot to publish.
    pub snapshot: Snapshot,
    /// Oddities that were served all the same (unknown keys, missing keys no query needs), one line each, bounded.
    pub warnings: Vec<String>,
}

/// What a loaded snapshot is about, for logs and `--check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// `cluster.cluster_name`, as in the file.
    pub cluster_name: String,
    /// The top-level `serial_no`.
    pub serial_no: String,
    /// Nodes.
    pub nodes: usize,
    /// Node groups.
    pub groups: usize,
    /// Instances, forthcoming ones included.
    pub instances: usize,
    /// Disks, without children.
    pub disks: usize,
    /// Networks.
    pub networks: usize,
    /// Filter rules.
    pub filters: usize,
    /// Bytes of memory the snapshot holds.
    pub bytes: usize,
}

/// How a request was answered.
pub(crate) enum Rendered<'a> {
    /// With a message that was made when the snapshot was.
    Ready(&'a ReadyAnswer),
    /// With the message in the [`AnswerWriter`] that was given.
    Written,
}

impl Snapshot {
    /// Reads a whole `config.data`.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, and where.
    pub fn load(text: &[u8]) -> Result<Loaded, config::Error> {
        let mut warnings = Warnings::default();
        let document = Document::read(text, &mut warnings).map_err(config::Error::bounded)?;
        let snapshot = Self(Content::Loaded(Box::new(Cluster::new(document))));
        Ok(Loaded {
            snapshot,
            warnings: warnings.lines(),
        })
    }

    /// A snapshot for when there is no usable configuration: every request gets the error `why` (status 1, serial 0).
    pub fn unavailable(why: &str) -> Self {
        Self(Content::Unavailable(ReadyAnswer::error(why)))
    }

    /// What this snapshot is about; `None` when it is [`Snapshot::unavailable`].
    pub fn summary(&self) -> Option<Summary> {
        let Content::Loaded(cluster) = &self.0 else {
            return None;
        };
        let document = &cluster.document;
        let count = |section| document.entries(section).len();
        let shown = |keys: &[&str]| {
            let text = document
                .find(keys)
                .map_or(&b"?"[..], |span| span.of(document.text()));
            String::from_utf8_lossy(text).trim_matches('"').to_owned()
        };
        Some(Summary {
            cluster_name: shown(&["cluster", "cluster_name"]),
            serial_no: shown(&["serial_no"]),
            nodes: count(Section::Nodes),
            groups: count(Section::NodeGroups),
            instances: count(Section::Instances),
            disks: count(Section::Disks),
            networks: count(Section::Networks),
            filters: count(Section::Filters),
            bytes: cluster.bytes(),
        })
    }

    /// Answers `request`, in `answer` unless there is one ready.
    pub(crate) fn answer<'a>(
        &'a self,
        request: &Request<'_>,
        answer: &mut AnswerWriter,
    ) -> Rendered<'a> {
        match &self.0 {
            Content::Loaded(cluster) => cluster.answer(request, answer),
            Content::Unavailable(ready) => Rendered::Ready(ready),
        }
    }
}

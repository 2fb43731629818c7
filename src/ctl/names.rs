//! The names of nodes and instances in the files of this node, for clusters whose lists do not fit
//! a datagram.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use super::target::Target;
use crate::node_files::NodeFiles;

/// The part of a file that is read, in bytes; names of a hundred thousand instances.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is named.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named {
    Nodes,
    Instances,
}

impl Named {
    /// The file in which Ganeti's master distributes the names, one per line.
    ///
    /// Source: `lib/ssconf.py`.
    fn file(self) -> PathBuf {
        NodeFiles::from_env()
            .candidates()
            .with_file_name(match self {
                Self::Nodes => "ssconf_node_list",
                Self::Instances => "ssconf_instance_list",
            })
    }

    /// The names, and their file, if this host is a node of the cluster that `target` is.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(super) fn of_this_node(self, target: &Target) -> io::Result<(PathBuf, Vec<String>)> {
        let path = self.file();
        if target.config_file().is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut text = String::new();
        File::open(&path)?
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)?;
        let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok((path, names.map(str::to_owned).collect()))
    }
}

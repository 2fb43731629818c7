//! The client of each example: for the candidates on the command line, or for a demo cluster.

use std::error::Error;

use ganeti_confd::client::ConfdClient;
use ganeti_confd::demo;

/// A client, and the demo cluster that it asks, if it asks one.
pub(crate) struct Connection {
    pub(crate) client: ConfdClient,
    _demo: Option<demo::Server>,
}

/// Connects as the arguments say: `KEY_FILE SERVER...`; `node` for the cluster that this host is a
/// node of; nothing for a demo cluster of three nodes and ten instances.
pub(crate) fn connect(
    mut args: impl Iterator<Item = String>,
) -> Result<Connection, Box<dyn Error>> {
    let (client, demo) = match args.next().as_deref() {
        None => {
            let demo = demo::Server::start(3, 10)?;
            (demo.client()?, Some(demo))
        }
        Some("node") => (ConfdClient::of_this_node()?, None),
        Some(key_file) => (ConfdClient::new(std::fs::read(key_file)?, args)?, None),
    };
    Ok(Connection {
        client,
        _demo: demo,
    })
}

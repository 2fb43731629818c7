//! Whom the examples ask: the candidates on the command line, or a demo cluster of their own.

use std::error::Error;

use ganeti_confd::client::{Candidate, ConfdClient};
use ganeti_confd::demo;

/// A client, and the demo cluster that it asks, if it does.
pub(crate) struct Connection {
    pub(crate) client: ConfdClient,
    _demo: Option<demo::Server>,
}

/// `KEY_FILE SERVER...`, or `node` for the cluster that this host is a node of, or nothing for a demo cluster of three nodes and ten
/// instances.
pub(crate) fn connect(
    mut args: impl Iterator<Item = String>,
) -> Result<Connection, Box<dyn Error>> {
    let Some(key_file) = args.next() else {
        let demo = demo::Server::start(3, 10)?;
        return Ok(Connection {
            client: demo.client()?,
            _demo: Some(demo),
        });
    };
    if key_file == "node" {
        return Ok(Connection {
            client: ConfdClient::of_this_node().map_err(|error| error.to_string())?,
            _demo: None,
        });
    }
    let servers: Vec<Candidate> = args
        .map(|server| Candidate::resolve(&server))
        .collect::<Result<_, _>>()?;
    Ok(Connection {
        client: ConfdClient::new(&std::fs::read(key_file)?, servers)?,
        _demo: None,
    })
}

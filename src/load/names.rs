//! The names, addresses and paths of a cluster that queries can ask about, from a configuration
//! file or from the cluster itself.
//!
//! The cluster is asked with ordinary queries: `/nodes` and `/instances` with type 10, addresses
//! with type 6. On a large cluster, the answers do not fit a datagram. Then nodes are found by
//! following DRBD peers from the master, and instances by asking each node. Both walks are bounded,
//! and they miss nodes without DRBD peers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::{Error, silence_causes};
use crate::client::{self, ConfdClient, Settings};
use crate::protocol::Key;
use crate::protocol::request::RequestType;

/// Paths that exist in every configuration.
const PATHS: [&str; 4] = [
    "/cluster/cluster_name",
    "/cluster/master_node",
    "/cluster/serial_no",
    "/version",
];

/// The number of nodes that a walk asks for their peers or instances.
const WALK_NODES_MAX: usize = 200;

/// How long to wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// The arguments for queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) nodes: Vec<String>,
    pub(super) instances: Vec<String>,
    /// Addresses of instances, with their link unless it is the default one.
    pub(super) addresses: Vec<(Option<String>, String)>,
    /// Paths for configuration queries.
    pub(super) paths: Vec<String>,
}

impl Names {
    /// Reads the names from a `config.data`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not JSON.
    pub(super) fn of_file(file: &Path) -> Result<Self, Error> {
        let failed = |why: &dyn std::fmt::Display| Error::new(format!("{}: {why}", file.display()));
        let text = std::fs::read(file).map_err(|error| failed(&error))?;
        let config: ConfigData = serde_json::from_slice(&text)
            .map_err(|error| failed(&format!("not a config.data: {error}")))?;
        let mut names = Self::default();
        names.add_paths(config.nodes.keys());
        names.nodes = config
            .nodes
            .into_values()
            .filter_map(|node| node.name)
            .collect();
        for instance in config.instances.into_values() {
            names.instances.extend(instance.name);
            let nics = instance.nics.into_iter();
            let with_address = nics.filter_map(|nic| Some((nic.nicparams.link, nic.ip?)));
            names.addresses.extend(with_address);
        }
        Ok(names)
    }

    /// Asks `server` for the names that queries of these types need.
    ///
    /// # Errors
    ///
    /// It does not answer, or cannot provide the names.
    pub(super) fn ask(server: SocketAddr, key: &Key, types: &[RequestType]) -> Result<Self, Error> {
        use RequestType as Kind;
        let client = NameClient::new(server, key)?;
        let mut names = Self::default();
        let needs_disks = types.contains(&Kind::InstanceDisks);
        let needs_nodes = [Kind::NodeRoleByName, Kind::NodeDrbd, Kind::NodeInstances]
            .iter()
            .any(|kind| types.contains(kind));
        let needs_addresses = types.contains(&Kind::NodePipByInstPip);
        if (needs_disks || needs_nodes || needs_addresses) && !client.answers() {
            return Err(Error::new(format!(
                "{server} does not answer a ping. {}",
                silence_causes()
            )));
        }
        let mut node_objects = Value::Null;
        if needs_disks || needs_nodes {
            names.nodes = match client.inner.config("/nodes") {
                Ok(list) => {
                    node_objects = list;
                    object_names(&node_objects)
                }
                Err(_) => client.walk_nodes()?,
            };
        }
        if needs_disks {
            names.instances = match client.inner.config("/instances") {
                Ok(list) => object_names(&list),
                Err(_) => client.walk_instances(&names.nodes),
            };
        }
        if needs_addresses {
            let ips = client.inner.instance_ips(None);
            let ips = ips.map_err(|_| client.unknown("the addresses of instances"))?;
            names.addresses = ips.iter().map(|ip| (None, ip.to_string())).collect();
        }
        names.add_paths(objects(&node_objects).map(|(uuid, _)| uuid));
        Ok(names)
    }

    fn add_paths<'u>(&mut self, nodes: impl Iterator<Item = &'u String>) {
        self.paths = PATHS.map(String::from).into();
        for uuid in nodes {
            let uuid = uuid.replace('~', "~0").replace('/', "~1");
            self.paths.push(format!("/nodes/{uuid}/primary_ip"));
        }
    }
}

/// The parts of a `config.data` that are used; the rest is skipped.
#[derive(Deserialize)]
struct ConfigData {
    nodes: BTreeMap<String, Node>,
    instances: BTreeMap<String, Instance>,
}

#[derive(Deserialize)]
struct Node {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Instance {
    name: Option<String>,
    #[serde(default)]
    nics: Vec<Nic>,
}

#[derive(Deserialize)]
struct Nic {
    ip: Option<String>,
    #[serde(default)]
    nicparams: NicParams,
}

#[derive(Default, Deserialize)]
struct NicParams {
    link: Option<String>,
}

fn objects(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flatten()
}

fn object_names(map: &Value) -> Vec<String> {
    objects(map)
        .filter_map(|(_, object)| Some(object["name"].as_str()?.to_owned()))
        .collect()
}

/// Queries one server for names.
struct NameClient {
    server: SocketAddr,
    inner: ConfdClient,
}

impl NameClient {
    fn new(server: SocketAddr, key: &Key) -> Result<Self, Error> {
        let client = ConfdClient::new(key, [server]);
        let client = client.map_err(|error| Error::new(format!("{server}: {error}")))?;
        let settings = Settings {
            deadline: TIMEOUT,
            ..Settings::default()
        };
        Ok(Self {
            server,
            inner: client.with_settings(settings),
        })
    }

    /// Whether the server answers requests signed with this key.
    fn answers(&self) -> bool {
        !matches!(self.inner.ping(), Err(client::Error::NoReply(_)))
    }

    fn unknown(&self, what: &str) -> Error {
        Error::new(format!(
            "cannot get {what} from {}: pass a config.data with --names-from FILE, or select other \
             types with --mix",
            self.server
        ))
    }

    /// Finds nodes by following DRBD peers from the master.
    fn walk_nodes(&self) -> Result<Vec<String>, Error> {
        let master = self.inner.cluster_master();
        let master = master.map_err(|_| self.unknown("the names of nodes"))?;
        let mut known = BTreeSet::from([master.clone()]);
        let mut next = VecDeque::from([master]);
        for _ in 0..WALK_NODES_MAX {
            let Some(node) = next.pop_front() else { break };
            for minor in self.inner.node_drbd(&node).into_iter().flatten() {
                if known.insert(minor.peer.clone()) {
                    next.push_back(minor.peer);
                }
            }
        }
        Ok(known.into_iter().collect())
    }

    /// Finds the instances of the first [`WALK_NODES_MAX`] nodes.
    fn walk_instances(&self, nodes: &[String]) -> Vec<String> {
        let mut instances = BTreeSet::new();
        for node in nodes.iter().take(WALK_NODES_MAX) {
            if let Ok(lists) = self.inner.node_instances(node) {
                let both = lists.primary.iter().chain(&lists.secondary);
                instances.extend(both.filter_map(|instance| instance.name.clone()));
            }
        }
        // Instances without a name cannot be asked about.
        instances.remove("");
        instances.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;

    #[test]
    fn names_are_read_from_a_configuration() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), demo::configuration(3, 10, 1)).expect("writable");
        let names = Names::of_file(file.path()).expect("a configuration");
        let mut nodes = names.nodes.clone();
        nodes.sort();
        assert_eq!(nodes, [1, 2, 3].map(demo::node_name));
        assert_eq!(names.instances.len(), 10);
        assert!(!names.addresses.is_empty());
        assert_eq!(names.paths.len(), PATHS.len() + 3);
    }

    #[test]
    fn the_error_names_the_file() {
        let error = Names::of_file(Path::new("/nonexistent/config.data")).expect_err("no file");
        assert!(error.to_string().contains("/nonexistent/config.data"));
    }
}

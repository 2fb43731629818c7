//! What can be asked about: names, addresses and paths of a cluster, from a configuration file or from the cluster itself.
//!
//! Asking uses the protocol's own queries (`/nodes` and `/instances` through type 10, addresses through type 6). An answer must fit
//! a datagram, which on a large cluster these do not: then nodes are found by following DRBD peers from the master on,
//! and instances by asking each node for its own. Both walks are bounded, and may miss what has no DRBD peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::mix::Mix;
use super::{Error, silence_causes};
use crate::client::{self, ConfdClient, Settings};
use crate::protocol::Key;
use crate::protocol::request::RequestType;

/// Paths that every configuration has.
const PATHS: [&str; 4] = [
    "/cluster/cluster_name",
    "/cluster/master_node",
    "/cluster/serial_no",
    "/version",
];

/// Nodes asked for their peers or instances, where lists are too long for a datagram.
const WALK_NODES_MAX: usize = 200;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// What can be asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) nodes: Vec<String>,
    pub(super) instances: Vec<String>,
    /// Instances' addresses, with their link if it is not the default one.
    pub(super) addresses: Vec<(Option<String>, String)>,
    /// Paths for configuration queries.
    pub(super) paths: Vec<String>,
}

impl Names {
    /// Those of a `config.data`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not JSON.
    pub(super) fn of_file(file: &Path) -> Result<Self, Error> {
        let failed = |why: &dyn std::fmt::Display| Error::new(format!("{}: {why}", file.display()));
        let text = std::fs::read(file).map_err(|error| failed(&error))?;
        let config: ConfigData = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
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

    /// Asks `server` for what `mix` needs.
    ///
    /// # Errors
    ///
    /// It does not answer, or not with what was asked for.
    pub(super) fn ask(server: SocketAddr, key: &Key, mix: &Mix) -> Result<Self, Error> {
        use RequestType as Kind;
        let asker = Asker::new(server, key)?;
        let mut names = Self::default();
        let needs_disks = mix.has(Kind::InstanceDisks);
        let needs_nodes = [Kind::NodeRoleByName, Kind::NodeDrbd, Kind::NodeInstances]
            .iter()
            .any(|&kind| mix.has(kind));
        let needs_addresses = mix.has(Kind::NodePipByInstPip);
        if (needs_disks || needs_nodes || needs_addresses) && !asker.answers() {
            return Err(Error::new(format!(
                "{server} does not answer a ping. {}",
                silence_causes()
            )));
        }
        let mut node_objects = Value::Null;
        if needs_disks || needs_nodes {
            names.nodes = match asker.client.config("/nodes") {
                Ok(list) => {
                    node_objects = list;
                    object_names(&node_objects)
                }
                Err(_) => asker.walk_nodes()?,
            };
        }
        if needs_disks {
            names.instances = match asker.client.config("/instances") {
                Ok(list) => object_names(&list),
                Err(_) => asker.walk_instances(&names.nodes),
            };
        }
        if needs_addresses {
            let ips = asker.client.instance_ips(None);
            let ips = ips.map_err(|_| asker.silent("the instances' addresses"))?;
            names.addresses = ips.into_iter().map(|ip| (None, ip)).collect();
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

/// What is read of a `config.data`; all else is passed over without being kept.
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

/// Asks one server for names.
struct Asker {
    server: SocketAddr,
    client: ConfdClient,
}

impl Asker {
    fn new(server: SocketAddr, key: &Key) -> Result<Self, Error> {
        let client = ConfdClient::with_key(key.clone(), [server.into()]);
        let client = client.map_err(|error| Error::new(format!("{server}: {error}")))?;
        let settings = Settings {
            deadline: PATIENCE,
            ..Settings::default()
        };
        Ok(Self {
            server,
            client: client.with_settings(settings),
        })
    }

    /// Whether there is anybody, with the same key.
    fn answers(&self) -> bool {
        !matches!(self.client.ping(), Err(client::Error::Silence(_)))
    }

    fn silent(&self, what: &str) -> Error {
        Error::new(format!(
            "{} does not tell {what}: give them with --names-from FILE, a config.data, or ask about something else (--mix)",
            self.server
        ))
    }

    /// Nodes from the master on, by DRBD peers.
    fn walk_nodes(&self) -> Result<Vec<String>, Error> {
        let master = self.client.cluster_master();
        let master = master.map_err(|_| self.silent("the names of its nodes"))?;
        let mut known = BTreeSet::from([master.clone()]);
        let mut next = VecDeque::from([master]);
        for _ in 0..WALK_NODES_MAX {
            let Some(node) = next.pop_front() else { break };
            for minor in self.client.node_drbd(&node).into_iter().flatten() {
                if known.insert(minor.peer.clone()) {
                    next.push_back(minor.peer);
                }
            }
        }
        Ok(known.into_iter().collect())
    }

    /// The instances of some nodes.
    fn walk_instances(&self, nodes: &[String]) -> Vec<String> {
        let mut instances = BTreeSet::new();
        for node in nodes.iter().take(WALK_NODES_MAX) {
            if let Ok(lists) = self.client.node_instances(node) {
                let both = lists.primary.iter().chain(&lists.secondary);
                instances.extend(both.map(|instance| instance.name().to_owned()));
            }
        }
        // Those without one cannot be asked about by it.
        instances.remove("");
        instances.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;

    #[test]
    fn a_configuration_names_its_parts() {
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
    fn a_bad_file_is_named() {
        let error = Names::of_file(Path::new("/nonexistent/config.data")).expect_err("no file");
        assert!(error.to_string().contains("/nonexistent/config.data"));
    }
}

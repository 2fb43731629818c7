//! What can be asked about: names, addresses and paths of a cluster, from a configuration file or from the cluster itself.
//!
//! Asking uses the protocol's own queries (`/nodes` and `/instances` through type 10, addresses through type 6). An answer must fit
//! a datagram, which on a large cluster these do not: then nodes are found by following DRBD peers from the master on,
//! and instances by asking each node for its own. Both walks are bounded, and may miss what has no DRBD peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};

use super::mix::Mix;
use super::{Error, SILENCE};
use crate::protocol::request::RequestType;
use crate::protocol::{Key, REPLY_BYTES_MAX, signed_message};

/// Paths that every configuration has.
const PATHS: [&str; 4] = [
    "/cluster/cluster_name",
    "/cluster/master_node",
    "/cluster/serial_no",
    "/version",
];

/// Nodes asked for their peers or instances, where lists are too long for a datagram.
const WALK_NODES_MAX: usize = 200;

/// How long an answer may take, and how often it is asked for.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

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
                "{server} does not answer a ping. {SILENCE}"
            )));
        }
        let mut node_objects = Value::Null;
        if needs_disks || needs_nodes {
            names.nodes = match asker.ask(Kind::ConfigQuery, json!("/nodes")) {
                Some(list) => {
                    node_objects = list;
                    object_names(&node_objects)
                }
                None => asker.walk_nodes()?,
            };
        }
        if needs_disks {
            let list = asker.ask(Kind::ConfigQuery, json!("/instances"));
            names.instances = match list {
                Some(list) => object_names(&list),
                None => asker.walk_instances(&names.nodes),
            };
        }
        if needs_addresses {
            let ips = asker.ask(Kind::InstIpsList, Value::Null);
            let ips = ips.ok_or_else(|| asker.silent("the instances' addresses"))?;
            let ips = ips.as_array().into_iter().flatten();
            names.addresses = ips
                .filter_map(|ip| Some((None, ip.as_str()?.to_owned())))
                .collect();
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

/// Asks one question at a time.
struct Asker<'a> {
    key: &'a Key,
    server: SocketAddr,
    socket: UdpSocket,
}

impl<'a> Asker<'a> {
    fn new(server: SocketAddr, key: &'a Key) -> Result<Self, Error> {
        let any = super::sockets::any_address(server);
        let open = || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(server)?;
            Ok(socket)
        };
        let socket =
            open().map_err(|error: std::io::Error| Error::new(format!("{server}: {error}")))?;
        Ok(Self {
            key,
            server,
            socket,
        })
    }

    /// Whether there is anybody, with the same key.
    fn answers(&self) -> bool {
        (0..ATTEMPTS).any(|_| self.try_ask(RequestType::Ping, &Value::Null).is_some())
    }

    /// The answer, if there is one and it is good.
    fn ask(&self, kind: RequestType, query: Value) -> Option<Value> {
        (0..ATTEMPTS).find_map(|_| self.try_ask(kind, &query))?
    }

    /// `None` is silence; `Some(None)` an answer that says no.
    fn try_ask(&self, kind: RequestType, query: &Value) -> Option<Option<Value>> {
        let rsalt = format!("names-{:016x}", fastrand::u64(..));
        let request =
            json!({"protocol": 1, "type": kind as u8, "query": query, "rsalt": rsalt}).to_string();
        let request = super::template::ascii_json(&request);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        self.socket
            .send(&signed_message::request(self.key, now, &request))
            .ok()?;
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; REPLY_BYTES_MAX];
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            // Zero would mean for ever.
            let left = left.max(Duration::from_micros(1));
            self.socket.set_read_timeout(Some(left)).ok()?;
            let len = self.socket.recv(&mut buffer).ok()?;
            if let Some(answer) = self.read(&rsalt, &buffer[..len]) {
                return Some(answer);
            }
        }
    }

    /// The reply's answer; `None` if it is no reply to `rsalt`.
    fn read(&self, rsalt: &str, reply: &[u8]) -> Option<Option<Value>> {
        let envelope: Value = serde_json::from_slice(reply.strip_prefix(b"plj0")?).ok()?;
        let (message, salt) = (envelope["msg"].as_str()?, envelope["salt"].as_str()?);
        let tag = self.key.sign(salt.as_bytes(), message.as_bytes());
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        if salt != rsalt || envelope["hmac"].as_str()? != hex {
            return None;
        }
        let mut message: Value = serde_json::from_str(message).ok()?;
        Some((message["status"] == 0).then(|| message["answer"].take()))
    }

    fn silent(&self, what: &str) -> Error {
        Error::new(format!(
            "{} does not tell {what}: give them with --names-from FILE, a config.data, or ask about something else (--mix)",
            self.server
        ))
    }

    /// Nodes from the master on, by DRBD peers.
    fn walk_nodes(&self) -> Result<Vec<String>, Error> {
        let master = self.ask(RequestType::ClusterMaster, Value::Null);
        let master = master.as_ref().and_then(Value::as_str);
        let master = master.ok_or_else(|| self.silent("the names of its nodes"))?;
        let mut known = BTreeSet::from([master.to_owned()]);
        let mut next = VecDeque::from([master.to_owned()]);
        for _ in 0..WALK_NODES_MAX {
            let Some(node) = next.pop_front() else { break };
            let minors = self.ask(RequestType::NodeDrbd, json!(node));
            for minor in minors.iter().flat_map(Value::as_array).flatten() {
                if let Some(peer) = minor[5].as_str()
                    && known.insert(peer.to_owned())
                {
                    next.push_back(peer.to_owned());
                }
            }
        }
        Ok(known.into_iter().collect())
    }

    /// The instances of some nodes.
    fn walk_instances(&self, nodes: &[String]) -> Vec<String> {
        let mut instances = BTreeSet::new();
        for node in nodes.iter().take(WALK_NODES_MAX) {
            let lists = self.ask(RequestType::NodeInstances, json!(node));
            let lists = lists.iter().flat_map(Value::as_array).flatten();
            for instance in lists.flat_map(Value::as_array).flatten() {
                instances.extend(instance["name"].as_str().map(String::from));
            }
        }
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

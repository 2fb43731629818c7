//! What can be asked, and of what type each answer is: one function per query.
//!
//! A [`Question`] is what both clients take; the blocking one has a method of the same name for each.
//!
//! Source: `Ganeti.Confd.Server.buildResponse`, `Ganeti.Confd.Types`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{DataCollector, Disk, DrbdMinor, Master, NodeInstances, NodeOfIp, NodeRole};
use super::{Error, Reply};
use crate::json;
use crate::protocol::RequestType;
use crate::protocol::reply::Status;

/// Something to ask whose answer is a `T`.
pub struct Question<T> {
    asked: RawQuestion,
    read: fn(&str) -> serde_json::Result<T>,
}

/// A question without its answer's type.
#[derive(Clone, Debug)]
pub(super) struct RawQuestion {
    kind: RequestType,
    query: Value,
}

impl<T> Clone for Question<T> {
    fn clone(&self) -> Self {
        Self {
            asked: self.asked.clone(),
            read: self.read,
        }
    }
}

impl<T> fmt::Debug for Question<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.asked.fmt(f)
    }
}

impl RawQuestion {
    /// The inner message of a request, in ASCII.
    pub(super) fn message(&self, rsalt: &str) -> String {
        let message = json!({
            "protocol": 1,
            "type": self.kind as u8,
            "query": self.query,
            "rsalt": rsalt,
        });
        json::ascii_json(&message.to_string())
    }
}

impl<T: DeserializeOwned> Question<T> {
    fn new(kind: RequestType, query: Value) -> Self {
        Self {
            asked: RawQuestion { kind, query },
            read: |text| serde_json::from_str(text),
        }
    }
}

impl<T> Question<T> {
    /// The query's type.
    pub fn kind(&self) -> RequestType {
        self.asked.kind
    }

    /// The query's argument, as it is sent.
    pub fn query(&self) -> &Value {
        &self.asked.query
    }

    pub(super) fn raw(&self) -> &RawQuestion {
        &self.asked
    }

    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`Error::Answered`] if the candidate answered with an error, [`Error::Unreadable`] if the answer is not of the
    /// question's type.
    pub fn read(&self, reply: &Reply) -> Result<T, Error> {
        match reply.status {
            Status::Ok => (self.read)(reply.answer.get()).map_err(|why| Error::Unreadable {
                question: self.kind(),
                why: why.to_string(),
            }),
            Status::Error => Err(Error::Answered(reply.error())),
        }
    }
}

/// Is the daemon there? The answer is the configuration's version: 3000000 for Ganeti 3.0.
pub fn ping() -> Question<i64> {
    Question::new(RequestType::Ping, Value::Null)
}

/// What a node is: master, candidate, offline, drained or regular.
///
/// `node` is its full name, its uuid, or as much of the name as is unambiguous. The master is called [`NodeRole::Master`]
/// only if it is asked for by its full name.
pub fn node_role(node: &str) -> Question<NodeRole> {
    Question::new(RequestType::NodeRoleByName, node.into())
}

/// The primary address of the primary node of the instance that has the address `ip` on `link`, without one the
/// cluster's default link.
pub fn node_of_ip(ip: &str, link: Option<&str>) -> Question<String> {
    Question::new(RequestType::NodePipByInstPip, json!({"0": link, "1": ip}))
}

/// As [`node_of_ip`] for many addresses at once; `None` where an address is unknown. In the order asked for.
pub fn nodes_of_ips(ips: &[&str], link: Option<&str>) -> Question<Vec<NodeOfIp>> {
    Question::new(RequestType::NodePipByInstPip, json!({"0": link, "2": ips}))
}

/// The master node's full name.
pub fn cluster_master() -> Question<String> {
    Question::new(RequestType::ClusterMaster, Value::Null)
}

/// The master node's name and address, and the cluster's own address, which the master holds.
pub fn master_addresses() -> Question<Master> {
    Question::new(RequestType::ClusterMaster, json!({"3": [0, 1, 2]}))
}

/// The primary addresses of all nodes.
pub fn node_ips() -> Question<Vec<String>> {
    Question::new(RequestType::NodePipList, Value::Null)
}

/// The primary addresses of all master candidates.
pub fn candidate_ips() -> Question<Vec<String>> {
    Question::new(RequestType::McPipList, Value::Null)
}

/// The addresses of all instances on `link`, without one the cluster's default link; sorted as text.
pub fn instance_ips(link: Option<&str>) -> Question<Vec<String>> {
    Question::new(RequestType::InstIpsList, json!(link))
}

/// The DRBD minors of a node, which may be named as in [`node_role`].
pub fn node_drbd(node: &str) -> Question<Vec<DrbdMinor>> {
    Question::new(RequestType::NodeDrbd, node.into())
}

/// The instances whose primary or secondary node this is, which may be named as in [`node_role`].
pub fn node_instances(node: &str) -> Question<NodeInstances> {
    Question::new(RequestType::NodeInstances, node.into())
}

/// The disks of an instance: its full name, its uuid, or as much of the name as is unambiguous.
pub fn instance_disks(instance: &str) -> Question<Vec<Disk>> {
    Question::new(RequestType::InstanceDisks, instance.into())
}

/// The value at `path` in the configuration, like `/cluster/cluster_name`. Defaults are filled in.
pub fn config(path: &str) -> Question<Value> {
    Question::new(RequestType::ConfigQuery, path.into())
}

/// Which of the monitoring daemon's data collectors run, and how often, by name.
pub fn data_collectors() -> Question<BTreeMap<String, DataCollector>> {
    Question::new(RequestType::DataCollectors, Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_ascii() {
        let message = node_role("n\u{e9}\u{1f600}\"").asked.message("R");
        assert_eq!(
            message,
            r#"{"protocol":1,"type":1,"query":"n\u00e9\ud83d\ude00\"","rsalt":"R"}"#
        );
        let value: Value = serde_json::from_str(&message).expect("it is JSON");
        assert_eq!(value["query"], "n\u{e9}\u{1f600}\"");
    }

    #[test]
    fn no_link_is_null() {
        let message = node_of_ip("192.0.2.7", None).asked.message("R");
        assert_eq!(
            message,
            r#"{"protocol":1,"type":2,"query":{"0":null,"1":"192.0.2.7"},"rsalt":"R"}"#
        );
    }
}

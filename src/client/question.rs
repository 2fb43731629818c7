//! The queries, and the types of their answers: one function for each query.
//!
//! Both clients take a [`Question`], and both have a method of the same name for each of these
//! functions.
//!
//! Source: `Ganeti.Confd.Server.buildResponse`, `Ganeti.Confd.Types`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Value, json};

use super::answer::{DataCollector, DrbdMinor, DrbdRole, Master, NodeInstances, NodeRole};
use super::disk::Disk;
use super::error::Error;
use super::outcome::{CandidateResult, Outcome};
use super::reply::Reply;
use crate::json;
use crate::protocol::RequestType;
use crate::protocol::reply::Status;

/// A query whose answer is a `T`.
pub struct Question<T> {
    query: Query,
    read: fn(&str) -> serde_json::Result<T>,
}

/// A query without its answer's type.
#[derive(Clone, Debug)]
pub(super) struct Query {
    kind: RequestType,
    argument: Value,
}

impl<T> Clone for Question<T> {
    fn clone(&self) -> Self {
        Self {
            query: self.query.clone(),
            read: self.read,
        }
    }
}

impl<T> fmt::Debug for Question<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.query.fmt(f)
    }
}

impl Query {
    /// The inner message of a request.
    ///
    /// It is ASCII: the reference reads the bytes of a request as Latin-1.
    pub(super) fn message(&self, rsalt: &str) -> String {
        message(self.kind.number().into(), &self.argument, rsalt)
    }
}

/// The inner message of a request of any type, known or not.
pub(crate) fn message(kind: u64, argument: &Value, rsalt: &str) -> String {
    let message = json!({
        "protocol": 1,
        "type": kind,
        "query": argument,
        "rsalt": rsalt,
    });
    json::ascii_json(&message.to_string())
}

impl<T: DeserializeOwned> Question<T> {
    fn new(kind: RequestType, argument: Value) -> Self {
        Self::with_reader(kind, argument, |text| serde_json::from_str(text))
    }
}

impl<T> Question<T> {
    fn with_reader(
        kind: RequestType,
        argument: Value,
        read: fn(&str) -> serde_json::Result<T>,
    ) -> Self {
        let query = Query { kind, argument };
        Self { query, read }
    }

    /// The query's type.
    pub fn kind(&self) -> RequestType {
        self.query.kind
    }

    /// The query's argument, as it is sent.
    pub fn query(&self) -> &Value {
        &self.query.argument
    }

    pub(super) fn untyped(&self) -> &Query {
        &self.query
    }

    /// Reads the answer of a reply.
    ///
    /// # Errors
    ///
    /// * [`Error::Answered`]: the reply is an error.
    /// * [`Error::Unreadable`]: the answer is not a `T`.
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

impl Outcome {
    /// Reads the best reply, if there are enough replies to make it safe.
    ///
    /// # Errors
    ///
    /// [`Error::NoReply`], [`Error::TooFewReplies`], and the errors of [`Question::read`].
    pub fn into_answer<T>(self, question: &Question<T>) -> Result<T, Error> {
        match self.best().and_then(CandidateResult::reply) {
            None => Err(Error::NoReply(Box::new(self))),
            Some(_) if !self.is_enough() => Err(Error::TooFewReplies(Box::new(self))),
            Some(reply) => question.read(reply),
        }
    }
}

/// Asks whether the daemon serves. The answer is the configuration's version, 3000000 for
/// Ganeti 3.0.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// assert_eq!(client.ping()?, 3_000_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ping() -> Question<i64> {
    Question::new(RequestType::Ping, Value::Null)
}

/// Asks for a node's role.
///
/// `node` is the node's full name, its UUID, or a start of the name that no other node has. The
/// answer is [`NodeRole::Master`] only for the full name of the master.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// use ganeti_confd::client::NodeRole;
///
/// assert_eq!(client.node_role("node1.example.com")?, NodeRole::Master);
/// assert_eq!(client.node_role("node2")?, NodeRole::Regular);
/// assert!(client.node_role("node9").unwrap_err().is_not_found());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn node_role(node: &str) -> Question<NodeRole> {
    Question::with_reader(RequestType::NodeRoleByName, node.into(), |text| {
        let number = serde_json::from_str(text)?;
        let unknown = || serde_json::Error::custom(format!("unknown node role {number}"));
        NodeRole::from_number(number).ok_or_else(unknown)
    })
}

/// Asks for the primary address of the node on which an instance runs. The instance has the address
/// `ip` on `link`; `None` means the cluster's default link.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// let ip = client.instance_ips(None)?[0];
/// let node = client.node_of_ip(ip, None)?;
/// assert!(client.node_ips()?.contains(&node));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn node_of_ip(ip: impl fmt::Display, link: Option<&str>) -> Question<IpAddr> {
    let argument = json!({"0": link, "1": ip.to_string()});
    Question::new(RequestType::NodePipByInstPip, argument)
}

/// Asks as [`node_of_ip`] for several addresses at once. The answers are in the order of `ips`;
/// `None` for an unknown address.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// let ip = client.instance_ips(None)?[0];
/// let nodes = client.nodes_of_ips(&[ip, [192, 0, 2, 1].into()], None)?;
/// assert_eq!(nodes, [Some(client.node_of_ip(ip, None)?), None]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn nodes_of_ips(
    ips: &[impl fmt::Display],
    link: Option<&str>,
) -> Question<Vec<Option<IpAddr>>> {
    let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
    let argument = json!({"0": link, "2": ips});
    Question::with_reader(RequestType::NodePipByInstPip, argument, |text| {
        let answers: Vec<(u8, Value, i64)> = serde_json::from_str(text)?;
        let answer = |(status, answer, _serial)| match status {
            0 => serde_json::from_value(answer).map(Some),
            1 => Ok(None),
            other => Err(serde_json::Error::custom(format!("unknown status {other}"))),
        };
        answers.into_iter().map(answer).collect()
    })
}

/// Asks for the master node's full name.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// assert_eq!(client.cluster_master()?, "node1.example.com");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn cluster_master() -> Question<String> {
    Question::new(RequestType::ClusterMaster, Value::Null)
}

/// Asks for the master node's name and address, and the cluster's own address.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// let master = client.master_addresses()?;
/// assert_eq!(master.name, client.cluster_master()?);
/// assert!(client.node_ips()?.contains(&master.primary_ip));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn master_addresses() -> Question<Master> {
    let argument = json!({"3": [0, 1, 2]});
    Question::with_reader(RequestType::ClusterMaster, argument, |text| {
        let (name, cluster_ip, primary_ip) = serde_json::from_str(text)?;
        Ok(Master {
            name,
            cluster_ip,
            primary_ip,
        })
    })
}

/// Asks for the primary addresses of all nodes.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// assert_eq!(client.node_ips()?.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn node_ips() -> Question<Vec<IpAddr>> {
    Question::new(RequestType::NodePipList, Value::Null)
}

/// Asks for the primary addresses of all master candidates.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// let nodes = client.node_ips()?;
/// assert!(client.candidate_ips()?.iter().all(|ip| nodes.contains(ip)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn candidate_ips() -> Question<Vec<IpAddr>> {
    Question::new(RequestType::McPipList, Value::Null)
}

/// Asks for the addresses of all instances on `link`, sorted as text; `None` means the cluster's
/// default link.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// let default = client.config("/cluster/nicparams/default/link")?;
/// assert_eq!(client.instance_ips(None)?, client.instance_ips(default.as_str())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn instance_ips(link: Option<&str>) -> Question<Vec<IpAddr>> {
    Question::new(RequestType::InstIpsList, json!(link))
}

/// Asks for the DRBD minors of a node, named as for [`node_role`].
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// for minor in client.node_drbd("node1.example.com")? {
///     assert_eq!(minor.node, "node1.example.com");
///     println!("/dev/drbd{}: {} of {}, {}", minor.minor, minor.disk, minor.instance, minor.role);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn node_drbd(node: &str) -> Question<Vec<DrbdMinor>> {
    type Row = (String, u32, String, String, DrbdRole, String);
    Question::with_reader(RequestType::NodeDrbd, node.into(), |text| {
        let rows: Vec<Row> = serde_json::from_str(text)?;
        let minor = |(node, minor, instance, disk, role, peer)| DrbdMinor {
            node,
            minor,
            instance,
            disk,
            role,
            peer,
        };
        Ok(rows.into_iter().map(minor).collect())
    })
}

/// Asks for the instances that have a node as their primary or secondary node. The node is named as
/// for [`node_role`].
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// for instance in client.node_instances("node1.example.com")?.primary {
///     println!("{} is {}", instance.name.unwrap(), instance.admin_state.unwrap());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn node_instances(node: &str) -> Question<NodeInstances> {
    Question::with_reader(RequestType::NodeInstances, node.into(), |text| {
        let (primary, secondary) = serde_json::from_str(text)?;
        Ok(NodeInstances { primary, secondary })
    })
}

/// Asks for the disks of an instance: its full name, its UUID, or a start of the name that no other
/// instance has.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// use ganeti_confd::client::DiskKind;
///
/// for disk in client.instance_disks("instance1.example.com")? {
///     if let DiskKind::Drbd { nodes, .. } = &disk.kind {
///         println!("{} is mirrored on {nodes:?}", disk.uuid);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn instance_disks(instance: &str) -> Question<Vec<Disk>> {
    Question::new(RequestType::InstanceDisks, instance.into())
}

/// Asks for the value at `path` in the configuration. Absent fields have their default values.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// assert_eq!(client.config("/cluster/cluster_name")?, "demo.example.com");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn config(path: &str) -> Question<Value> {
    Question::new(RequestType::ConfigQuery, path.into())
}

/// Asks which data collectors of the monitoring daemon run, and how often. The keys are their
/// names.
///
/// ```
/// # let demo = ganeti_confd::demo::Server::start(3, 10)?;
/// # let client = demo.client()?;
/// assert!(client.data_collectors()?["drbd"].active);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn data_collectors() -> Question<BTreeMap<String, DataCollector>> {
    Question::new(RequestType::DataCollectors, Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_ascii() {
        let message = node_role("n\u{e9}\u{1f600}\"").untyped().message("R");
        assert_eq!(
            message,
            r#"{"protocol":1,"type":1,"query":"n\u00e9\ud83d\ude00\"","rsalt":"R"}"#
        );
        let value: Value = serde_json::from_str(&message).expect("it is JSON");
        assert_eq!(value["query"], "n\u{e9}\u{1f600}\"");
    }

    #[test]
    fn no_link_is_null() {
        let message = node_of_ip("192.0.2.7", None).untyped().message("R");
        assert_eq!(
            message,
            r#"{"protocol":1,"type":2,"query":{"0":null,"1":"192.0.2.7"},"rsalt":"R"}"#
        );
    }

    #[test]
    fn answers_of_another_form_are_unreadable() {
        let master = master_addresses();
        let object = r#"{"name":"n","cluster_ip":"192.0.2.1","primary_ip":"192.0.2.2"}"#;
        (master.read)(object).expect_err("the answer is an array");
        (master.read)(r#"["n","192.0.2.1","192.0.2.2"]"#).expect("this is one");
        (master.read)(r#"["n","192.0.2.1","somewhere"]"#).expect_err("not an address");
        (node_role("n").read)("5").expect_err("there are five roles");
        (node_role("n").read)("4").expect("regular");
        (data_collectors().read)(r#"{"a":[true,5]}"#).expect_err("a collector is an object");
        let nodes = nodes_of_ips(&["a", "b"], None);
        let answer = (nodes.read)(r#"[[0,"192.0.2.1",7],[1,0,0]]"#).expect("two answers");
        assert_eq!(answer, [Some([192, 0, 2, 1].into()), None]);
        (nodes.read)(r#"[[2,0,0]]"#).expect_err("an unknown status");
    }
}

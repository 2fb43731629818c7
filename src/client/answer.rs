//! What the typed answers are made of.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// What a node is (`ConfdNodeRole`).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "u8")]
pub enum NodeRole {
    /// The cluster's master.
    Master,
    /// A master candidate: it has the whole configuration, and confd runs on it.
    Candidate,
    /// Said to be down by an administrator.
    Offline,
    /// Said to take no new instances by an administrator.
    Drained,
    /// None of these.
    Regular,
}

impl TryFrom<u8> for NodeRole {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Ok(match number {
            0 => Self::Master,
            1 => Self::Candidate,
            2 => Self::Offline,
            3 => Self::Drained,
            4 => Self::Regular,
            _ => return Err(format!("{number} is no node's role")),
        })
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Master => "master",
            Self::Candidate => "candidate",
            Self::Offline => "offline",
            Self::Drained => "drained",
            Self::Regular => "regular",
        })
    }
}

/// The master, as `ClusterMaster` tells it if it is asked for all fields.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Master {
    /// The master node's full name.
    pub name: String,
    /// The cluster's address.
    pub cluster_ip: String,
    /// The master node's primary address.
    pub primary_ip: String,
}

/// One answer of many to `NodePipByInstPip`: the node's primary address, or none if nobody has the address asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "(u8, Value, i64)")]
pub struct NodeOfIp(pub Option<String>);

impl TryFrom<(u8, Value, i64)> for NodeOfIp {
    type Error = String;

    fn try_from((status, answer, _serial): (u8, Value, i64)) -> Result<Self, String> {
        match (status, answer) {
            (0, Value::String(ip)) => Ok(Self(Some(ip))),
            (1, Value::Number(_)) => Ok(Self(None)),
            (_, other) => Err(format!("{other} is no node's address")),
        }
    }
}

/// One end of a DRBD disk, on the node that was asked about.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DrbdMinor {
    /// The node's full name.
    pub node: String,
    /// The minor on that node: `/dev/drbd<minor>`.
    pub minor: i64,
    /// The instance's full name.
    pub instance: String,
    /// Which of the instance's disks: `disk/0`, `disk/1` ...
    pub disk: String,
    /// Which end this is.
    pub role: DrbdRole,
    /// The other end's node, by its full name.
    pub peer: String,
}

/// Which end of a DRBD disk a node has.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DrbdRole {
    /// The instance runs here.
    Primary,
    /// It can be moved here.
    Secondary,
}

impl fmt::Display for DrbdRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        })
    }
}

/// A node's instances.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct NodeInstances {
    /// Those that run here.
    pub primary: Vec<Instance>,
    /// Those that can be moved here.
    pub secondary: Vec<Instance>,
}

/// An instance as the configuration has it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct Instance(pub Value);

impl Instance {
    /// The full name; empty if it has none.
    pub fn name(&self) -> &str {
        text(&self.0, "name")
    }

    /// The uuid.
    pub fn uuid(&self) -> &str {
        text(&self.0, "uuid")
    }

    /// The uuid of the node that it runs on; empty if it has none.
    pub fn primary_node(&self) -> &str {
        text(&self.0, "primary_node")
    }

    /// The hypervisor: `kvm`, `xen-pvm` ...
    pub fn hypervisor(&self) -> &str {
        text(&self.0, "hypervisor")
    }

    /// What an administrator wants of it: `up`, `down` or `offline`.
    pub fn admin_state(&self) -> &str {
        text(&self.0, "admin_state")
    }
}

/// A disk as the configuration has it, the disks that it is made of inside it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct Disk(pub Value);

impl Disk {
    /// The uuid.
    pub fn uuid(&self) -> &str {
        text(&self.0, "uuid")
    }

    /// The name that a user gave it; mostly empty.
    pub fn name(&self) -> &str {
        text(&self.0, "name")
    }

    /// How it is made: `plain`, `drbd`, `file`, `rbd` ...
    pub fn dev_type(&self) -> &str {
        text(&self.0, "dev_type")
    }

    /// The size in mebibytes.
    pub fn size_mebibytes(&self) -> u64 {
        self.0["size"].as_u64().unwrap_or_default()
    }

    /// `rw` or `ro`.
    pub fn mode(&self) -> &str {
        text(&self.0, "mode")
    }

    /// Where it is, in the form of its type: volume group and volume, or nodes, port and minors.
    pub fn logical_id(&self) -> &Value {
        &self.0["logical_id"]
    }
}

/// One of the monitoring daemon's data collectors.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct DataCollector {
    /// Whether it runs.
    pub active: bool,
    /// How often, in microseconds.
    #[serde(rename = "interval")]
    pub interval_microseconds: i64,
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

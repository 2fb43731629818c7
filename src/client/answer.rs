//! The types of answers.
//!
//! Objects of the configuration ([`Instance`], [`Nic`], [`Disk`](super::disk::Disk)) have the most
//! used fields typed. All other fields stay JSON, in `other`; so does a typed field whose value has
//! an unexpected type. Serialized, they are what the configuration has.

use std::fmt;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A node's role (`ConfdNodeRole`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NodeRole {
    /// The cluster's master.
    Master,
    /// A master candidate: it has a copy of the whole configuration, and runs confd.
    Candidate,
    /// An administrator marked it as down.
    Offline,
    /// An administrator marked it as taking no new instances.
    Drained,
    /// None of the others.
    Regular,
}

impl NodeRole {
    /// The role with this number in a reply.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Master,
            1 => Self::Candidate,
            2 => Self::Offline,
            3 => Self::Drained,
            4 => Self::Regular,
            _ => return None,
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

/// The master's name and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Master {
    /// The master node's full name.
    pub name: String,
    /// The cluster's address, which the master holds.
    pub cluster_ip: IpAddr,
    /// The master node's primary address.
    pub primary_ip: IpAddr,
}

/// A DRBD minor of a node: one end of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DrbdMinor {
    /// The node's full name.
    pub node: String,
    /// The minor on that node, for `/dev/drbd<minor>`.
    pub minor: u32,
    /// The instance's full name.
    pub instance: String,
    /// The instance's disk: `disk/0`, `disk/1` ...
    pub disk: String,
    /// Which end this is.
    pub role: DrbdRole,
    /// The full name of the node with the other end.
    pub peer: String,
}

/// Which end of a DRBD disk a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DrbdRole {
    /// The instance runs on this node.
    Primary,
    /// The instance can be moved to this node.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeInstances {
    /// The instances that run on this node.
    pub primary: Vec<Instance>,
    /// The instances that can be moved to this node.
    pub secondary: Vec<Instance>,
}

/// An instance, as in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Map<String, Value>")]
#[non_exhaustive]
pub struct Instance {
    /// The UUID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// The full name; `None` for a forthcoming instance without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The UUID of the node that it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_node: Option<String>,
    /// The hypervisor: `kvm`, `xen-pvm` ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hypervisor: Option<String>,
    /// The state that an administrator set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_state: Option<AdminState>,
    /// The network interfaces.
    pub nics: Vec<Nic>,
    /// The UUIDs of the disks.
    pub disks: Vec<String>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl From<Map<String, Value>> for Instance {
    fn from(mut object: Map<String, Value>) -> Self {
        Self {
            uuid: take(&mut object, "uuid").unwrap_or_default(),
            name: take(&mut object, "name"),
            primary_node: take(&mut object, "primary_node"),
            hypervisor: take(&mut object, "hypervisor"),
            admin_state: take(&mut object, "admin_state"),
            nics: take(&mut object, "nics").unwrap_or_default(),
            disks: take(&mut object, "disks").unwrap_or_default(),
            other: object,
        }
    }
}

/// The state that an administrator set for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AdminState {
    /// It runs.
    Up,
    /// It does not run.
    Down,
    /// It does not run, and its resources are not reserved.
    Offline,
    /// A state that this version does not know.
    #[serde(untagged)]
    Other(String),
}

impl fmt::Display for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Offline => "offline",
            Self::Other(state) => state,
        })
    }
}

/// A network interface of an instance, as in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Map<String, Value>")]
#[non_exhaustive]
pub struct Nic {
    /// The UUID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// The name that a user gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The MAC address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// The IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The UUID of its network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// All other fields, among them `nicparams`.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl From<Map<String, Value>> for Nic {
    fn from(mut object: Map<String, Value>) -> Self {
        Self {
            uuid: take(&mut object, "uuid").unwrap_or_default(),
            name: take(&mut object, "name"),
            mac: take(&mut object, "mac").unwrap_or_default(),
            ip: take(&mut object, "ip"),
            network: take(&mut object, "network"),
            other: object,
        }
    }
}

/// A data collector of the monitoring daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DataCollector {
    /// Whether it runs.
    pub active: bool,
    /// The interval between its runs, in microseconds.
    #[serde(rename = "interval")]
    pub interval_microseconds: i64,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Removes a field from `object` if its value is a `T`; leaves it there otherwise.
pub(super) fn take<T: DeserializeOwned>(object: &mut Map<String, Value>, field: &str) -> Option<T> {
    let value = T::deserialize(object.get(field)?).ok()?;
    object.remove(field);
    Some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::Disk;

    fn round_trip<T: DeserializeOwned + Serialize>(value: &Value) -> T {
        let typed = T::deserialize(value).expect("it is of this type");
        assert_eq!(&serde_json::to_value(&typed).expect("it is JSON"), value);
        typed
    }

    #[test]
    fn an_instance_keeps_what_is_not_typed() {
        let object = json!({
            "uuid": "u", "name": "i1", "admin_state": "up", "disks": ["d"], "os": "debian",
            "nics": [{"uuid": "n", "mac": "aa", "ip": "192.0.2.1", "nicparams": {}}],
        });
        let instance: Instance = round_trip(&object);
        assert_eq!(instance.admin_state, Some(AdminState::Up));
        assert_eq!(instance.nics[0].ip, Some([192, 0, 2, 1].into()));
        assert_eq!(instance.other["os"], "debian");

        // Values of unexpected types are kept, not lost and not an error.
        let odd = json!({
            "uuid": "u", "name": 5, "admin_state": "frozen", "disks": [],
            "nics": [{"uuid": "n", "mac": "aa", "ip": "pool"}],
        });
        let instance: Instance = round_trip(&odd);
        assert_eq!(
            instance.admin_state,
            Some(AdminState::Other("frozen".into()))
        );
        assert_eq!(instance.nics[0].ip, None);
    }

    #[test]
    fn objects_are_not_arrays() {
        for array in [json!([]), json!(["u", "i1"]), json!([true, 5])] {
            Instance::deserialize(&array).expect_err("an array");
            Disk::deserialize(&array).expect_err("an array");
            DataCollector::deserialize(&array).expect_err("an array");
        }
    }
}

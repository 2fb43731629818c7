//! Disks and their kinds.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::answer::take;

/// A disk, as in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Map<String, Value>")]
#[non_exhaustive]
pub struct Disk {
    /// The UUID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// The name that a user gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The size.
    #[serde(rename = "size", skip_serializing_if = "Option::is_none")]
    pub size_mebibytes: Option<u64>,
    /// `rw` or `ro`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The type, and where the data is.
    #[serde(flatten)]
    pub kind: DiskKind,
    /// The UUIDs of the nodes that have the data.
    pub nodes: Vec<String>,
    /// The disks that this one consists of: the data and the metadata of DRBD.
    pub children: Vec<Self>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl From<Map<String, Value>> for Disk {
    fn from(mut object: Map<String, Value>) -> Self {
        Self {
            uuid: take(&mut object, "uuid").unwrap_or_default(),
            name: take(&mut object, "name"),
            size_mebibytes: take(&mut object, "size"),
            mode: take(&mut object, "mode"),
            kind: DiskKind::new(object.remove("dev_type"), object.remove("logical_id")),
            nodes: take(&mut object, "nodes").unwrap_or_default(),
            children: take(&mut object, "children").unwrap_or_default(),
            other: object,
        }
    }
}

/// A disk's type, and where its data is: `dev_type` and `logical_id` of the configuration.
///
/// Displays the place without its type, and without DRBD's secret: `xenvg uuid.disk0`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum DiskKind {
    /// A logical volume.
    Plain {
        /// The volume group.
        volume_group: String,
        /// The volume.
        volume: String,
    },
    /// A DRBD device on two nodes.
    Drbd {
        /// The UUIDs of both nodes.
        nodes: [String; 2],
        /// The TCP port.
        port: u16,
        /// The minors on both nodes, in the order of `nodes`.
        minors: [u32; 2],
        /// The secret that both ends share.
        secret: String,
    },
    /// A file on one node.
    File {
        /// The driver: `loop`, `blktap` or `blktap2`.
        driver: String,
        /// The path.
        path: String,
    },
    /// A file on shared storage.
    SharedFile {
        /// The driver: `loop`, `blktap` or `blktap2`.
        driver: String,
        /// The path.
        path: String,
    },
    /// A file on a Gluster volume.
    Gluster {
        /// The driver: `loop`, `blktap` or `blktap2`.
        driver: String,
        /// The path.
        path: String,
    },
    /// A block device that an administrator chose.
    Block {
        /// The driver: `manual`.
        driver: String,
        /// The path.
        path: String,
    },
    /// An image in a Ceph cluster.
    Rbd {
        /// Always `rbd`.
        driver: String,
        /// The image.
        image: String,
    },
    /// A disk of an external storage provider.
    Ext {
        /// The provider.
        provider: String,
        /// The provider's name of the disk.
        id: String,
    },
    /// Anything else, as JSON; null if it is absent, as it can be for forthcoming disks.
    Other {
        /// `dev_type`.
        dev_type: Value,
        /// `logical_id`.
        logical_id: Value,
    },
}

impl Default for DiskKind {
    fn default() -> Self {
        Self::Other {
            dev_type: Value::Null,
            logical_id: Value::Null,
        }
    }
}

impl DiskKind {
    fn new(dev_type: Option<Value>, logical_id: Option<Value>) -> Self {
        let dev_type = dev_type.unwrap_or_default();
        let logical_id = logical_id.unwrap_or_default();
        let name = dev_type.as_str().unwrap_or_default();
        Self::known(name, &logical_id).unwrap_or(Self::Other {
            dev_type,
            logical_id,
        })
    }

    fn known(dev_type: &str, logical_id: &Value) -> Option<Self> {
        if dev_type == "drbd" {
            let (a, b, port, minor_a, minor_b, secret) =
                Deserialize::deserialize(logical_id).ok()?;
            return Some(Self::Drbd {
                nodes: [a, b],
                port,
                minors: [minor_a, minor_b],
                secret,
            });
        }
        let (first, second): (String, String) = Deserialize::deserialize(logical_id).ok()?;
        Some(match dev_type {
            "plain" => Self::Plain {
                volume_group: first,
                volume: second,
            },
            "file" => Self::File {
                driver: first,
                path: second,
            },
            "sharedfile" => Self::SharedFile {
                driver: first,
                path: second,
            },
            "gluster" => Self::Gluster {
                driver: first,
                path: second,
            },
            "blockdev" => Self::Block {
                driver: first,
                path: second,
            },
            "rbd" => Self::Rbd {
                driver: first,
                image: second,
            },
            "ext" => Self::Ext {
                provider: first,
                id: second,
            },
            _ => return None,
        })
    }

    /// The type, as in the configuration; empty if there is none.
    pub fn dev_type(&self) -> &str {
        match self {
            Self::Plain { .. } => "plain",
            Self::Drbd { .. } => "drbd",
            Self::File { .. } => "file",
            Self::SharedFile { .. } => "sharedfile",
            Self::Gluster { .. } => "gluster",
            Self::Block { .. } => "blockdev",
            Self::Rbd { .. } => "rbd",
            Self::Ext { .. } => "ext",
            Self::Other { dev_type, .. } => dev_type.as_str().unwrap_or_default(),
        }
    }
}

impl DiskKind {
    /// The elements of a `logical_id` of two strings.
    fn pair(&self) -> Option<[&str; 2]> {
        Some(match self {
            Self::Plain {
                volume_group,
                volume,
            } => [volume_group, volume],
            Self::File { driver, path }
            | Self::SharedFile { driver, path }
            | Self::Gluster { driver, path }
            | Self::Block { driver, path } => [driver, path],
            Self::Rbd { driver, image } => [driver, image],
            Self::Ext { provider, id } => [provider, id],
            Self::Drbd { .. } | Self::Other { .. } => return None,
        })
    }

    /// The `logical_id`, as in the configuration; with DRBD's secret.
    pub fn logical_id(&self) -> Value {
        match self {
            Self::Drbd {
                nodes: [a, b],
                port,
                minors: [minor_a, minor_b],
                secret,
            } => json!([a, b, port, minor_a, minor_b, secret]),
            Self::Other { logical_id, .. } => logical_id.clone(),
            _ => json!(self.pair()),
        }
    }
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drbd {
                nodes: [a, b],
                port,
                minors: [minor_a, minor_b],
                ..
            } => write!(f, "{a} {b} {port} {minor_a} {minor_b}"),
            // A malformed DRBD disk can have its secret, the sixth element, too.
            Self::Other { logical_id, .. } => match logical_id.as_array() {
                Some(elements) => {
                    let texts: Vec<String> = elements.iter().take(5).map(bare).collect();
                    f.write_str(&texts.join(" "))
                }
                None => write!(f, "{logical_id}"),
            },
            _ => f.write_str(&self.pair().unwrap_or_default().join(" ")),
        }
    }
}

impl Serialize for DiskKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = Map::new();
        let dev_type = match self {
            Self::Other { dev_type, .. } => dev_type.clone(),
            known => known.dev_type().into(),
        };
        for (key, value) in [("dev_type", dev_type), ("logical_id", self.logical_id())] {
            if !value.is_null() {
                object.insert(key.to_owned(), value);
            }
        }
        object.serialize(serializer)
    }
}

/// A string as it is, anything else as JSON.
fn bare(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: &Value) -> Disk {
        let disk = Disk::deserialize(value).expect("it is an object");
        assert_eq!(&serde_json::to_value(&disk).expect("it is JSON"), value);
        disk
    }

    #[test]
    fn every_kind_of_disk_keeps_its_logical_id() {
        for (dev_type, logical_id, display) in [
            ("plain", json!(["vg", "lv"]), "vg lv"),
            (
                "drbd",
                json!(["a", "b", 11000, 0, 1, "secret"]),
                "a b 11000 0 1",
            ),
            ("file", json!(["loop", "/f"]), "loop /f"),
            ("sharedfile", json!(["loop", "/f"]), "loop /f"),
            ("gluster", json!(["loop", "/f"]), "loop /f"),
            ("blockdev", json!(["manual", "/dev/x"]), "manual /dev/x"),
            ("rbd", json!(["rbd", "image"]), "rbd image"),
            ("ext", json!(["provider", "id"]), "provider id"),
        ] {
            let disk = round_trip(&json!({
                "uuid": "u", "dev_type": dev_type, "logical_id": logical_id,
                "size": 1024, "mode": "rw", "nodes": ["n"], "children": [], "spindles": 2,
            }));
            assert!(!matches!(disk.kind, DiskKind::Other { .. }), "{disk:?}");
            assert_eq!(disk.kind.to_string(), display);
            assert_eq!(disk.kind.dev_type(), dev_type);
            assert_eq!(disk.size_mebibytes, Some(1024));
            assert_eq!(disk.other["spindles"], 2);
        }
    }

    #[test]
    fn a_malformed_drbd_disk_does_not_display_its_secret() {
        let logical_id = json!(["a", "b", "port", 0, 1, "secret"]);
        let kind = DiskKind::new(Some("drbd".into()), Some(logical_id));
        assert_eq!(kind.to_string(), "a b port 0 1");
        assert_eq!(DiskKind::default().to_string(), "null");
    }

    #[test]
    fn an_unknown_disk_stays_json() {
        for kind in [
            json!({}),
            json!({"dev_type": "new", "logical_id": {"a": 1}}),
            json!({"dev_type": "plain", "logical_id": ["vg"]}),
            json!({"dev_type": "drbd", "logical_id": ["a", "b", 99999, 0, 1, "s"]}),
            json!({"dev_type": 7, "logical_id": "x"}),
        ] {
            let mut object = json!({"uuid": "u", "nodes": [], "children": []});
            let fields = object.as_object_mut().expect("it is one");
            fields.extend(kind.as_object().expect("it is one").clone());
            let disk = round_trip(&object);
            assert!(matches!(disk.kind, DiskKind::Other { .. }), "{disk:?}");
        }
    }
}

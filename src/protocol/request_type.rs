//! The twelve request types: their numbers, Ganeti's names for them, and the names that `confdctl`
//! uses.

/// What a request asks for (`ConfdRequestType`). The discriminant is the number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RequestType {
    /// Whether the daemon serves; the answer is the configuration's version.
    Ping,
    /// A node's role: 0 master, 1 candidate, 2 offline, 3 drained, 4 regular.
    NodeRoleByName,
    /// The primary node's address for an instance's address (and its link).
    NodePipByInstPip,
    /// The master's name, or the fields asked for.
    ClusterMaster,
    /// The primary addresses of all nodes.
    NodePipList,
    /// The primary addresses of all master candidates.
    McPipList,
    /// The addresses of all instances on a link.
    InstIpsList,
    /// A node's DRBD minors.
    NodeDrbd,
    /// A node's primary and secondary instances.
    NodeInstances,
    /// An instance's disks.
    InstanceDisks,
    /// Any value of the configuration, by its path.
    ConfigQuery,
    /// Which data collectors are active, and their intervals.
    DataCollectors,
}

/// Each type with Ganeti's constant and its name on our command line; the index is the number.
const TABLE: [(RequestType, &str, &str); RequestType::COUNT] = {
    use RequestType as Type;
    [
        (Type::Ping, "CONFD_REQ_PING", "ping"),
        (Type::NodeRoleByName, "CONFD_REQ_NODE_ROLE_BYNAME", "role"),
        (
            Type::NodePipByInstPip,
            "CONFD_REQ_NODE_PIP_BY_INSTANCE_IP",
            "node-of",
        ),
        (Type::ClusterMaster, "CONFD_REQ_CLUSTER_MASTER", "master"),
        (Type::NodePipList, "CONFD_REQ_NODE_PIP_LIST", "nodes"),
        (Type::McPipList, "CONFD_REQ_MC_PIP_LIST", "candidates"),
        (Type::InstIpsList, "CONFD_REQ_INSTANCES_IPS_LIST", "ips"),
        (Type::NodeDrbd, "CONFD_REQ_NODE_DRBD", "drbd"),
        (
            Type::NodeInstances,
            "CONFD_REQ_NODE_INSTANCES",
            "instances-on",
        ),
        (Type::InstanceDisks, "CONFD_REQ_INSTANCE_DISKS", "disks"),
        (Type::ConfigQuery, "CONFD_REQ_CONFIG_QUERY", "config"),
        (
            Type::DataCollectors,
            "CONFD_REQ_DATA_COLLECTORS",
            "collectors",
        ),
    ]
};

const _: () = {
    let mut index = 0;
    while index < TABLE.len() {
        assert!(
            TABLE[index].0 as usize == index,
            "the table is in numeric order"
        );
        index += 1;
    }
};

impl RequestType {
    /// The number of types.
    pub const COUNT: usize = 12;

    /// All types in numeric order: `ALL[t as usize] == t`.
    pub const ALL: [Self; Self::COUNT] = {
        let mut all = [Self::Ping; Self::COUNT];
        let mut index = 0;
        while index < all.len() {
            all[index] = TABLE[index].0;
            index += 1;
        }
        all
    };

    /// The number on the wire, 0 to 11.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The constant in `ganeti.constants`, for example `CONFD_REQ_NODE_DRBD`.
    pub const fn ganeti_name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The name on the command line and in reports, for example `drbd`.
    pub const fn name(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// The type with this number on the wire.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The type with this [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_identify_a_type() {
        for (index, kind) in RequestType::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(kind.number()), index);
            assert_eq!(RequestType::from_number(index as u64), Some(kind));
            assert_eq!(RequestType::from_name(kind.name()), Some(kind));
        }
        assert_eq!(RequestType::from_number(12), None);
        assert_eq!(RequestType::from_number(u64::MAX), None);
        assert_eq!(RequestType::from_name("CONFD_REQ_PING"), None);
    }
}

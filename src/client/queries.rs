//! The list of queries, from which each client gets its methods.

/// Calls the macro `$define` with the signature of each function of [`question`](super::question).
macro_rules! for_each_query {
    ($define:ident) => {
        $define! {
            /// Asks whether the daemons serve; returns the configuration's version.
            ping() -> i64;
            /// A node's role.
            node_role(node: &str) -> NodeRole;
            /// The primary address of the node on which the instance with an address runs.
            node_of_ip(ip: impl fmt::Display, link: Option<&str>) -> IpAddr;
            /// The same for several addresses; `None` for an unknown one.
            nodes_of_ips(ips: &[impl fmt::Display], link: Option<&str>) -> Vec<Option<IpAddr>>;
            /// The master node's full name.
            cluster_master() -> String;
            /// The master node's name and address, and the cluster's own address.
            master_addresses() -> Master;
            /// The primary addresses of all nodes.
            node_ips() -> Vec<IpAddr>;
            /// The primary addresses of all master candidates.
            candidate_ips() -> Vec<IpAddr>;
            /// The addresses of all instances on a link.
            instance_ips(link: Option<&str>) -> Vec<IpAddr>;
            /// A node's DRBD minors.
            node_drbd(node: &str) -> Vec<DrbdMinor>;
            /// The instances that run on a node, and those that can be moved there.
            node_instances(node: &str) -> NodeInstances;
            /// An instance's disks.
            instance_disks(instance: &str) -> Vec<Disk>;
            /// The value at a path in the configuration.
            config(path: &str) -> Value;
            /// The monitoring daemon's data collectors, by name.
            data_collectors() -> BTreeMap<String, DataCollector>;
        }
    };
}

pub(super) use for_each_query;

//! The examples of `--help` and of the manual pages.
//!
//! `tests/it/ctl_docs.rs` runs each of them against the sample cluster.

pub(super) const QUERY: &str = "\
Examples:
  Who is master, as known to the first candidates that answer?
    confdctl query master
  What does each candidate say, and do they agree?
    confdctl query --all master
  For programs: as JSON, or the names only
    confdctl query --json nodes
    confdctl query -o name instances
  In scripts: fail if too few candidates answer to be sure
    confdctl query --strict role node1.example.com
  Why is there no answer? Show the packets
    confdctl query -v ping";

pub(super) const MASTER: &str = "\
Examples:
  The name of the master
    confdctl query master
  Its address, and that of the cluster
    confdctl query master --addresses";

pub(super) const ROLE: &str = "\
Examples:
  Is this node the master? The full name is needed
    confdctl query role node1.example.com
  Is it offline, drained or a candidate? The start of the name is enough
    confdctl query role node2";

pub(super) const NODES: &str = "\
Examples:
  All nodes with their states
    confdctl query nodes
  Their names only, for a loop in a shell
    confdctl query -o name nodes
  The addresses, for clusters whose names do not fit a datagram
    confdctl query nodes --addresses";

pub(super) const INSTANCES: &str = "\
Examples:
  All instances with their states
    confdctl query instances
  As CSV without headings
    confdctl query -o csv --no-headers instances
  The instances of one node, for clusters whose list does not fit a datagram
    confdctl query instances-on node1.example.com";

pub(super) const CANDIDATES: &str = "\
Examples:
  The addresses of the master candidates
    confdctl query candidates
  Does each candidate know the same ones?
    confdctl query --all candidates";

pub(super) const INSTANCES_ON: &str = "\
Examples:
  What runs on this node, and what can be moved to it?
    confdctl query instances-on node1.example.com
  The names only
    confdctl query -o name instances-on node1";

pub(super) const DISKS: &str = "\
Examples:
  The disks of an instance
    confdctl query disks instance1.example.com
  All columns, also on a narrow terminal
    confdctl query -o wide disks instance1
  Everything that the configuration has about them
    confdctl query -o yaml disks instance1";

pub(super) const DRBD: &str = "\
Examples:
  Which disk is /dev/drbd0 of this node, and where is its other end?
    confdctl query drbd node1.example.com";

pub(super) const NODE_OF: &str = "\
Examples:
  On which node is the instance with this address?
    confdctl query node-of 10.64.0.1
  Several at once; unknown addresses are shown as -
    confdctl query node-of 10.64.0.1 10.64.0.2 203.0.113.9
  The instance's address is on this link
    confdctl query node-of --link br0 10.64.0.1";

pub(super) const IPS: &str = "\
Examples:
  The addresses of all instances on the default link
    confdctl query ips
  On another link
    confdctl query ips --link br0";

pub(super) const CONFIG: &str = "\
Examples:
  One value
    confdctl query config /cluster/cluster_name
  By name in place of the UUID
    confdctl query config /nodes/node1.example.com/primary_ip
  An element of a list, by its number
    confdctl query config /cluster/enabled_hypervisors/0
  Is the configuration the same everywhere?
    confdctl query --all config /serial_no";

pub(super) const COLLECTORS: &str = "\
Examples:
  Which collectors are active, and how often do they run?
    confdctl query collectors";

pub(super) const PING: &str = "\
Examples:
  Does confd answer?
    confdctl query ping
  Does each candidate, within half a second?
    confdctl --timeout 500ms query --all ping";

pub(super) const PROBE: &str = "\
Examples:
  Is each candidate up, up to date and on time?
    confdctl probe
  As a monitoring plugin, with thresholds
    confdctl probe --plugin -w lag=1,rtt=100ms -c lag=100,skew=4m
  With the queries that Ganeti's confd-client checks
    confdctl probe --checks
  Continuously, until q
    confdctl probe --watch=5s";

pub(super) const RAW: &str = "\
Examples:
  A query by the number of its type, with an argument
    confdctl raw 1 node1.example.com
    confdctl raw 3 '{\"3\": [0, 1, 2]}'
  The text of a request, sent unchanged
    confdctl raw '{\"protocol\":1,\"type\":0,\"rsalt\":\"any text\"}'
  With the packets, to all candidates
    confdctl raw -v --all 0

Exit status:
  0  answered
  1  answered with an error, or with something that is not a reply
  2  the command line is wrong, or the request does not fit a datagram
  3  a server did not answer
  4  a file or a socket of this host failed";

pub(super) const COMPLETIONS: &str = "\
Examples:
  For this shell
    source <(confdctl completions bash)
  For all users, with Debian's bash-completion
    confdctl completions bash > /usr/share/bash-completion/completions/confdctl

The script calls confdctl, which offers names of nodes and instances, addresses and paths from the
cluster, if it answers within a second. After an update of confdctl, make the script again.";

pub(super) const MAN: &str = "\
Examples:
  For all users of this host
    confdctl man /usr/local/share/man";

/// Examples of `confdctl status`.
pub(super) const STATUS: &str = "\
Examples:
  confdctl status                       serial, age, last load, engine, counters
  confdctl status --json | jq .config   for programs

Exit status:
  0  the daemon answered
  3  no daemon answers
  4  this user may not ask it";

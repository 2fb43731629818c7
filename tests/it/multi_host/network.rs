//! Five hosts and a client, each in its own network namespace, connected by a bridge.
//!
//! The daemons are killed when the test's thread ends for any reason, and the namespaces end with
//! them. So a killed test leaves nothing behind.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::relay::Relay;
use crate::common::namespace::{Entered, IP, NFT, Namespace, namespaces_available};
use crate::common::{Kind, Layout};
use ganeti_confd::client::{Candidate, ConfdClient};

/// The number of hosts.
pub(super) const HOSTS: usize = 5;
/// The cluster's key.
pub(super) const KEY: &[u8] = b"several hosts";
/// The daemons' port.
const PORT: u16 = 1814;

/// The address family for queries; hosts have an address of each.
#[derive(Clone, Copy)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

// ---- The network ----

/// Five hosts without daemons, and this thread as the client in the bridge's namespace.
pub(super) struct Network {
    pub(super) hosts: Vec<Host>,
    /// Dropped last: returns the thread to its namespace.
    _client: Entered,
}

impl Network {
    /// A network; `None` if this machine cannot run it.
    ///
    /// The hosts' daemons are this project's with both engines, and the reference on the last host.
    pub(super) fn new(family: Family) -> Option<Self> {
        if !namespaces_available(&[IP, NFT, ("faketime", "--version", "faketime")]) {
            return None;
        }
        let client = Namespace::new().expect("namespaces are available");
        client.ip("link set lo up\n\
             link add bridge type bridge mcast_snooping 0\n\
             link set bridge up\n\
             address add 192.0.2.254/24 dev bridge\n\
             address add 2001:db8::fe/64 dev bridge nodad\n");
        let ours = [Kind::Uring, Kind::Mmsg].map(|kind| {
            if kind.is_available() {
                kind
            } else {
                Kind::Mmsg
            }
        });
        let last = if Kind::Reference.is_available() {
            Kind::Reference
        } else {
            Kind::Mmsg
        };
        let kind = |number| match number {
            HOSTS => last,
            _ => ours[number % 2],
        };
        let hosts = (1..=HOSTS)
            .map(|number| Host::new(number, family, kind(number), &client))
            .collect();
        Some(Self {
            hosts,
            _client: client.enter(),
        })
    }

    /// The hosts' addresses.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.hosts.iter().map(|host| host.ip).collect()
    }

    /// All hosts, as candidates.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        self.hosts.iter().map(Host::candidate).collect()
    }

    /// A client for all hosts.
    pub(super) fn client(&self) -> ConfdClient {
        ConfdClient::new(KEY, self.candidates()).expect("this thread's namespace has sockets")
    }

    /// Clears the neighbor cache of the client's kernel.
    pub(super) fn forget_neighbours(&self) {
        Namespace::current().ip("neighbour flush dev bridge\n");
    }

    /// Drops this share of all datagrams, independently to and from each host.
    pub(super) fn lose(&self, percent: u8) {
        // At the receiver, so that the sender gets no error.
        let rule = |port| {
            format!(
                "table inet loss {{\n\
                   chain input {{\n\
                     type filter hook input priority 0\n\
                     udp {port} {PORT} numgen random mod 100 < {percent} drop\n\
                   }}\n\
                 }}\n"
            )
        };
        Namespace::current().nft(&rule("sport"));
        for host in &self.hosts {
            host.namespace.nft(&rule("dport"));
        }
    }
}

// ---- A host ----

/// A host with a `GANETI_ROOTDIR` and perhaps a running daemon.
pub(super) struct Host {
    number: usize,
    ip: IpAddr,
    kind: Kind,
    root: Layout,
    relay: Option<Relay>,
    daemon: Option<Child>,
    namespace: Namespace,
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Host {
    fn new(number: usize, family: Family, kind: Kind, client: &Namespace) -> Self {
        let namespace = Namespace::new().expect("namespaces are available");
        let last = u8::try_from(number).expect("there are few hosts");
        let ipv4 = Ipv4Addr::new(192, 0, 2, last);
        let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into());
        let link = format!("host{number}");
        let path = namespace.path();
        client.ip(&format!(
            "link add {link} type veth peer name eth0 netns {path}\n\
             link set {link} master bridge up\n"
        ));
        namespace.ip(&format!(
            "link set lo up\n\
             address add {ipv4}/24 dev eth0\n\
             address add {ipv6}/64 dev eth0 nodad\n\
             link set eth0 up\n"
        ));
        let host = Self {
            number,
            ip: match family {
                Family::Ipv4 => ipv4.into(),
                Family::Ipv6 => ipv6.into(),
            },
            kind,
            root: Layout::new(None, KEY),
            relay: None,
            daemon: None,
            namespace,
        };
        host.refuse_at_most_every(Duration::ZERO);
        host
    }

    /// Sets the rate limit of its ICMP errors. The kernel's default is one per second after a burst
    /// of six, with which a test's outcome would depend on the start time of the daemons. So there
    /// is no limit unless a test sets one.
    pub(super) fn refuse_at_most_every(&self, time: Duration) {
        let _entered = self.namespace.enter();
        for file in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
            let path = format!("/proc/sys/net/{file}");
            fs::write(&path, time.as_millis().to_string())
                .unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }

    /// Its address.
    pub(super) fn candidate(&self) -> Candidate {
        Candidate::at(self.ip, PORT)
    }

    fn config_data(&self) -> PathBuf {
        self.root.0.path().join("var/lib/ganeti/config.data")
    }

    /// Replaces its `config.data` as Ganeti does, by renaming.
    pub(super) fn write_config(&self, text: &str) {
        let new = self.config_data().with_extension("new");
        fs::write(&new, text).expect("its directory is writable");
        fs::rename(new, self.config_data()).expect("its directory is writable");
    }

    /// Removes its `config.data`, as Ganeti does on a node that is no longer a candidate.
    pub(super) fn remove_config(&self) {
        fs::remove_file(self.config_data()).expect("it has one");
    }

    /// Starts its daemon, without waiting until it is ready.
    pub(super) fn start(&mut self) {
        self.spawn(self.ip, &[]);
    }

    /// Starts its daemon with a wrong clock (`-600s`).
    pub(super) fn start_with_clock(&mut self, offset: &str) {
        // The library leaves files in /dev/shm, so the daemon gets its own. $LIB is expanded by the
        // dynamic linker.
        const SCRIPT: &str = r#"mount -t tmpfs none /dev/shm
            export FAKETIME="$0" LD_PRELOAD='/usr/$LIB/faketime/libfaketimeMT.so.1'
            exec "$@""#;
        self.spawn(
            self.ip,
            &["unshare", "--mount", "sh", "-e", "-c", SCRIPT, offset],
        );
    }

    /// Starts its daemon, and a relay that delays every request.
    pub(super) fn start_slow(&mut self, delay: Duration) {
        self.spawn(Ipv4Addr::LOCALHOST.into(), &[]);
        let _entered = self.namespace.enter();
        let daemon = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        self.relay = Some(Relay::start((self.ip, PORT).into(), daemon, delay));
    }

    /// Starts its daemon at `ip`, wrapped by another command.
    fn spawn(&mut self, ip: IpAddr, wrapper: &[&str]) {
        let _entered = self.namespace.enter();
        let daemon = self.kind.command();
        let errors = File::create(self.root.0.path().join("stderr")).expect("a writable directory");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(wrapper)
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .args(["-f", "--no-user-checks", "-b", &ip.to_string()])
            .args(["-p", &PORT.to_string()])
            .env("GANETI_ROOTDIR", self.root.0.path())
            .env("GANETI_HOSTNAME", "localhost")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn();
        self.daemon = Some(child.expect("setpriv (Debian package util-linux)"));
    }

    /// Kills its daemon; the host remains reachable.
    pub(super) fn kill(&mut self) {
        self.relay = None;
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Disconnects its link at the client's end, so that the host's kernel notices it as well.
    pub(super) fn disconnect(&self) {
        Namespace::current().ip(&format!("link set host{} down\n", self.number));
    }

    /// Reconnects its link.
    pub(super) fn reconnect(&self) {
        Namespace::current().ip(&format!("link set host{} up\n", self.number));
    }

    /// Drops all its traffic silently, like a firewall.
    pub(super) fn firewall(&self) {
        self.namespace.nft(
            "table inet wall {\n\
               chain input {\n\
                 type filter hook input priority 0; policy drop\n\
               }\n\
             }\n",
        );
    }

    /// Its daemon's standard error, for messages of failed tests.
    pub(super) fn said(&self) -> String {
        let mut text = String::new();
        let errors = File::open(self.root.0.path().join("stderr"));
        let _ = errors.and_then(|mut file| file.read_to_string(&mut text));
        format!("host {} ({:?}): {text}", self.number, self.kind)
    }
}

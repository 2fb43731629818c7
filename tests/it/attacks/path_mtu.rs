//! A router with a link of a smaller MTU. Replies must arrive, over IPv4 even if a firewall drops
//! the ICMP errors that report it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ganeti_confd::demo;
use serde_json::{Value, json};

use super::client::{is_reply_to, request};
use super::server::Server;
use super::{PORT, with_each_engine};
use crate::common::namespace::{IP, NFT, Namespace, namespaces_available};

/// The path key for texts of any length.
const PARAMETER: &str = "/cluster/default_iallocator_params/p";

/// Bytes of a reply besides its text, almost the same for all.
const OTHER_BYTES: usize = 139;

/// Lengths of the text in a reply.
const TEXT_BYTES: [usize; 10] = [
    1_100, 1_200, 1_240, 1_260, 1_280, 1_300, 1_320, 1_400, 3_000, 20_000,
];

/// Attempts for each reply.
const TRIES: usize = 5;

/// Server and client with a router between them; this thread is in the client's namespace.
struct Routed {
    server: Namespace,
    client: Namespace,
    _router: Namespace,
}

/// Whether the router sends the errors that report the MTU of its links.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Errors {
    Sent,
    Dropped,
}

impl Routed {
    fn new(errors: Errors) -> Self {
        let [server, router, client] =
            std::array::from_fn(|_| Namespace::new().expect("namespaces are available"));
        let (to_server, to_client) = (server.path(), client.path());
        router.ip(&format!(
            "link set lo up\n\
             link add server type veth peer name eth0 netns {to_server}\n\
             link add client type veth peer name eth0 netns {to_client}\n\
             address add 10.78.1.254/24 dev server\n\
             address add 10.78.2.254/24 dev client\n\
             address add 2001:db8:1::fe/64 dev server nodad\n\
             address add 2001:db8:2::fe/64 dev client nodad\n\
             link set server up\n\
             link set client mtu 1400\n\
             link set client up\n"
        ));
        for (host, number) in [(&server, 1), (&client, 2)] {
            host.ip(&format!(
                "link set lo up\n\
                 address add 10.78.{number}.1/24 dev eth0\n\
                 address add 2001:db8:{number}::1/64 dev eth0 nodad\n\
                 link set eth0 up\n\
                 route add default via 10.78.{number}.254\n\
                 route add 2001:db8::/32 via 2001:db8:{number}::fe\n"
            ));
        }
        router.sysctl("net/ipv4/ip_forward", "1");
        router.sysctl("net/ipv6/conf/all/forwarding", "1");
        if errors == Errors::Dropped {
            router.nft(
                "table inet filter {\n\
                   chain output {\n\
                     type filter hook output priority 0\n\
                     icmp type destination-unreachable drop\n\
                     icmpv6 type packet-too-big drop\n\
                   }\n\
                 }\n",
            );
        }
        Self {
            server,
            client,
            _router: router,
        }
    }
}

/// A small cluster with texts of all lengths.
fn configuration() -> String {
    let config = demo::configuration(3, 10, 1);
    let mut config: Value = serde_json::from_str(&config).expect("sample clusters are JSON");
    for bytes in TEXT_BYTES {
        config["cluster"]["default_iallocator_params"][format!("p{bytes}")] =
            json!("x".repeat(bytes));
    }
    config.to_string()
}

/// The length of the reply with a text of `bytes` bytes; `None` if none of several arrives.
fn ask(socket: &UdpSocket, bytes: usize) -> Option<usize> {
    let query = json!(format!("{PARAMETER}{bytes}"));
    let mut buffer = vec![0; 65_536];
    for number in 0..TRIES {
        let rsalt = format!("q{bytes}.{number}");
        socket
            .send(&request(10, &query, &rsalt))
            .expect("there is a route");
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            match socket.recv(&mut buffer) {
                Ok(len) if is_reply_to(&buffer[..len], &rsalt) => return Some(len),
                _ => {}
            }
        }
    }
    None
}

fn check(client: IpAddr, server: IpAddr, errors: Errors) {
    if !namespaces_available(&[IP, NFT]) {
        return;
    }
    with_each_engine(|kind| {
        let network = Routed::new(errors);
        let config = configuration();
        let _server = Server::start(&network.server, kind, &config, server, &[]);
        let _entered = network.client.enter();
        let socket = UdpSocket::bind((client, 0)).expect("our address");
        socket
            .connect(SocketAddr::from((server, PORT)))
            .expect("there is a route");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("not zero");
        let replies = TEXT_BYTES.map(|bytes| ask(&socket, bytes));
        println!("{kind:?}, {errors:?}: {replies:?}");
        for (text_bytes, reply) in TEXT_BYTES.into_iter().zip(replies) {
            // Over IPv6 only the sender fragments, and Linux only what exceeds the MTU that it
            // knows: of its own link, if no error reports a smaller one.
            let bytes = text_bytes + OTHER_BYTES;
            let needs_error = server.is_ipv6() && (1_340..=1_452).contains(&bytes);
            if errors == Errors::Sent || !needs_error {
                assert!(
                    reply.is_some(),
                    "{kind:?}, {errors:?}, {bytes}: {replies:?}"
                );
            }
        }
    });
}

#[test]
fn replies_pass_a_narrow_path_without_icmp() {
    let server = Ipv4Addr::new(10, 78, 1, 1);
    let client = Ipv4Addr::new(10, 78, 2, 1);
    check(client.into(), server.into(), Errors::Dropped);
}

#[test]
fn replies_pass_a_narrow_ipv6_path() {
    let server = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    let client = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
    for errors in [Errors::Sent, Errors::Dropped] {
        check(client.into(), server.into(), errors);
    }
}

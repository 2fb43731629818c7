//! Inputs of the pure path's benchmarks: every query, as a client would send it to a sample
//! cluster, and datagrams that are dropped.

use ganeti_confd::demo;
use ganeti_confd::protocol::{Key, envelope};
use serde_json::Value;

/// The daemon's clock, in seconds since the epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The cluster's key.
pub(crate) fn key() -> Key {
    Key::new(b"a key for benchmarks").expect("the key has bytes")
}

/// All datagrams with their names.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let node = format!("\"{}\"", demo::node_name(2));
    let instance = format!("\"{}\"", demo::instance_name(7));
    let ping = request(0, "null");
    let mut forged = ping.clone();
    // A digit of the signature, which comes last.
    let digit = forged.len() - 10;
    forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
    vec![
        ("ping", ping),
        ("node_role_by_name", request(1, &node)),
        ("node_pip_by_inst_pip", request(2, r#"{"1": "10.2.0.7"}"#)),
        ("cluster_master", request(3, "null")),
        ("cluster_master_fields", request(3, r#"{"3": [0, 1, 2]}"#)),
        ("node_pip_list", request(4, "null")),
        ("mc_pip_list", request(5, "null")),
        ("inst_ips_list", request(6, "\"no such link\"")),
        ("node_drbd", request(7, &node)),
        ("node_instances", request(8, &node)),
        ("instance_disks", request(9, &instance)),
        ("config_query", request(10, "\"/cluster/cluster_name\"")),
        ("data_collectors", request(11, "null")),
        ("(bad signature)", forged),
        ("(bad fourcc)", b"GET / HTTP/1.1".to_vec()),
    ]
}

/// A request in the layout of Ganeti's Python library (`ganeti.serializer.DumpSignedJson`).
fn request(kind: u8, query: &str) -> Vec<u8> {
    let rsalt = "3f1b6a52-5c1a-4d0e-9d2b-6f3d1f5a7c11";
    let message = format!(
        "{{\"protocol\": 1, \"type\": {kind}, \"query\": {query}, \"rsalt\": \"{rsalt}\"}}\n"
    );
    let compact = envelope::request(&key(), NOW, &message);
    let envelope: Value = serde_json::from_slice(&compact[4..]).expect("an envelope is JSON");
    let (msg, salt, hmac) = (&envelope["msg"], &envelope["salt"], &envelope["hmac"]);
    let datagram = format!("plj0{{\"msg\": {msg}, \"salt\": {salt}, \"hmac\": {hmac}}}\n");
    datagram.into_bytes()
}

//! Prints an instance's nodes, state and disks.
//!
//!     cargo run --example lookup -- instance1.example.com [KEY_FILE SERVER... | node]

mod connect;

use std::error::Error;
use std::fmt::Write as _;

use ganeti_confd::client::{ConfdClient, Instance};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args
        .next()
        .ok_or("usage: lookup INSTANCE [KEY_FILE SERVER... | node]")?;
    let connection = connect::connect(args)?;
    print!("{}", look_up(&connection.client, &name)?);
    Ok(())
}

fn look_up(client: &ConfdClient, name: &str) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let master = client.master_addresses()?;
    writeln!(
        text,
        "cluster {}, master {}",
        master.cluster_ip, master.name
    )?;

    for disk in client.instance_disks(name)? {
        let (kind, size) = (disk.kind.dev_type(), disk.size_mebibytes.unwrap_or(0));
        writeln!(
            text,
            "disk {}: {kind}, {size} MiB at {}",
            disk.uuid, disk.kind
        )?;
    }

    // Only nodes list their instances. `/nodes` is an object whose keys are UUIDs.
    let nodes = client.config("/nodes")?;
    for uuid in nodes.as_object().into_iter().flat_map(|nodes| nodes.keys()) {
        let node = client.config(&format!("/nodes/{uuid}/name"))?;
        let instances = client.node_instances(uuid)?;
        for (role, list) in [
            ("primary", instances.primary),
            ("secondary", instances.secondary),
        ] {
            let is_it = |instance: &&Instance| instance.name.as_deref() == Some(name);
            if let Some(Instance { admin_state, .. }) = list.iter().find(is_it) {
                writeln!(text, "{role} node {node}, admin state {admin_state:?}")?;
            }
        }
    }
    Ok(text)
}

#[test]
fn an_instance_is_found() -> Result<(), Box<dyn Error>> {
    let connection = connect::connect(std::iter::empty())?;
    let text = look_up(&connection.client, "instance1.example.com")?;
    assert_eq!(text.matches("primary node").count(), 1, "{text}");
    assert!(text.contains("disk "), "{text}");
    look_up(&connection.client, "instance999.example.com").expect_err("there is no such instance");
    Ok(())
}

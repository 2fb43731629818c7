//! Everything about one instance: where it runs, where it could, what its disks are.
//!
//!     cargo run --example lookup -- instance1.example.com [KEY_FILE SERVER... | node]

mod connect;

use std::error::Error;

use ganeti_confd::client::ConfdClient;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args
        .next()
        .ok_or("usage: lookup INSTANCE [KEY_FILE SERVER...]")?;
    let connection = connect::connect(args)?;
    print!("{}", look_up(&connection.client, &name)?);
    Ok(())
}

fn look_up(client: &ConfdClient, name: &str) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let master = client.master_addresses()?;
    text += &format!(
        "asked the cluster of {} at {}\n",
        master.name, master.cluster_ip
    );

    for disk in client.instance_disks(name)? {
        let (kind, size) = (disk.dev_type(), disk.size_mebibytes());
        text += &format!(
            "disk {}: {kind}, {size} MiB at {}\n",
            disk.uuid(),
            disk.logical_id()
        );
    }

    // Nodes know their instances, so the nodes are asked; `/nodes` is an object with their uuids as keys.
    let nodes = client.config("/nodes")?;
    for node in nodes.as_object().into_iter().flat_map(|nodes| nodes.keys()) {
        let node_name = client.config(&format!("/nodes/{node}/name"))?;
        let instances = client.node_instances(node)?;
        for (role, list) in [
            ("primary", instances.primary),
            ("secondary", instances.secondary),
        ] {
            if let Some(instance) = list.iter().find(|instance| instance.name() == name) {
                let (state, hypervisor) = (instance.admin_state(), instance.hypervisor());
                text += &format!("{role} node {node_name}: {state}, {hypervisor}\n");
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

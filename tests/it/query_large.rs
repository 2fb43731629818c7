//! `confdctl` and a cluster whose lists of nodes and instances do not fit a datagram.

use std::fs;

use ganeti_confd::demo;
use serde_json::Value;

use super::common::{Kind, Subject};
use super::confdctl::{KEY, Servers, command, ran};

const NODES: usize = 150;
const INSTANCES: usize = 600;

/// The name and UUID of an object for which `is_suitable` holds.
fn object<'c>(
    configuration: &'c Value,
    section: &str,
    is_suitable: impl Fn(&Value) -> bool,
) -> (&'c str, &'c str) {
    let mut objects = configuration[section]
        .as_object()
        .expect("a section")
        .iter();
    let (uuid, object) = objects
        .find(|(_, object)| is_suitable(object))
        .expect("there is a suitable object");
    (object["name"].as_str().expect("it has a name"), uuid)
}

#[test]
fn names_are_found_though_the_lists_are_too_large() {
    let text = demo::configuration(NODES, INSTANCES, demo::SEED);
    let configuration: Value = serde_json::from_str(&text).expect("JSON");
    let subject = Subject::start(Kind::Uring, Some(text.as_bytes()), KEY);
    let servers = Servers::new(&[subject.address()]);

    // Without the files of a node, the error has the remedy.
    let nodes = servers.run("query nodes");
    assert_eq!((nodes.status, nodes.out.as_str()), (1, ""));
    assert!(nodes.err.contains("does not fit a datagram"), "{nodes:?}");
    assert!(nodes.err.contains("query nodes --addresses"), "{nodes:?}");
    let addresses = servers.run("query nodes --addresses");
    assert_eq!(addresses.out.lines().count(), NODES);

    // Names in paths, also abbreviated: of a node on which an instance runs, and of an instance
    // with disks on a node.
    let is_on_a_node = |instance: &Value| {
        let disk = instance["disks"][0].as_str().unwrap_or_default();
        configuration["disks"][disk]["nodes"][0].is_string()
    };
    let (instance, instance_uuid) = object(&configuration, "instances", is_on_a_node);
    let has_instance = |node: &Value| {
        let instances = configuration["instances"].as_object().expect("a section");
        instances
            .values()
            .any(|instance| instance["primary_node"] == node["uuid"])
    };
    let (node, node_uuid) = object(&configuration, "nodes", has_instance);
    for (section, name, uuid) in [
        ("instances", instance, instance_uuid),
        ("nodes", node, node_uuid),
    ] {
        let start = name.split('.').next().expect("a first label");
        for name in [name, start] {
            let found = servers.run(&format!("query config /{section}/{name}/uuid"));
            assert_eq!(found.out.trim_end(), uuid, "{name}: {found:?}");
        }
    }
    let unknown = servers.run("query config /instances/instance9999/uuid");
    assert_eq!(unknown.status, 1);
    assert!(
        unknown.err.contains("give its UUID, or a deeper path"),
        "{unknown:?}"
    );
}

#[test]
fn the_files_of_a_node_have_the_names() {
    let text = demo::configuration(NODES, INSTANCES, demo::SEED);
    let subject = Subject::start(Kind::Uring, Some(text.as_bytes()), KEY);
    let root = tempfile::tempdir().unwrap();
    let ganeti = root.path().join("var/lib/ganeti");
    fs::create_dir_all(&ganeti).unwrap();
    fs::write(ganeti.join("hmac.key"), KEY).unwrap();
    fs::write(
        ganeti.join("ssconf_node_list"),
        "node1.example.com\nnode2.example.com\n",
    )
    .unwrap();
    fs::write(
        ganeti.join("ssconf_instance_list"),
        "a.example.com\nb.example.com\n",
    )
    .unwrap();
    let address = subject.address().to_string();
    let on_node = |args: &[&str]| {
        let mut command = command(args);
        command.env("GANETI_ROOTDIR", root.path());
        command.env("CONFD_SERVERS", &address);
        command
    };
    for (query, names) in [
        ("nodes", "node1.example.com\nnode2.example.com\n"),
        ("instances", "a.example.com\nb.example.com\n"),
    ] {
        let shown = ran(&on_node(&["query", query]).output().unwrap());
        assert_eq!((shown.status, shown.out.as_str()), (0, names), "{shown:?}");
        assert!(shown.err.contains("the names are those in"), "{shown:?}");
        // Documents have the answer only.
        let json = ran(&on_node(&["query", query, "--json"]).output().unwrap());
        assert_eq!(json.status, 1, "{json:?}");
    }
    let completed = on_node(&["--", "confdctl", "query", "disks", ""])
        .envs([("CONFDCTL_COMPLETE", "fish")])
        .output()
        .unwrap();
    let completed = ran(&completed).out;
    assert!(
        completed.starts_with("a.example.com\nb.example.com\n"),
        "{completed}"
    );
}

//! `confdctl` and a cluster whose lists of nodes and instances do not fit a datagram.

use std::fs;

use ganeti_confd::demo;
use serde_json::Value;

use super::common::{Kind, Subject};
use super::confdctl::{KEY, Servers, command, ran};

const NODES: usize = 150;
const INSTANCES: usize = 600;

/// The UUID of the object with this name.
fn uuid<'c>(configuration: &'c Value, section: &str, name: &str) -> &'c str {
    let objects = configuration[section].as_object().expect("a section");
    let found = objects.iter().find(|(_, object)| object["name"] == name);
    found.expect("there is such an object").0
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

    // Names in paths.
    for (section, name) in [("nodes", "node7.example.com"), ("instances", "instance501")] {
        let full_name = match section {
            "nodes" => name.to_owned(),
            _ => format!("{name}.example.com"),
        };
        let found = servers.run(&format!("query config /{section}/{name}/uuid"));
        let expected = uuid(&configuration, section, &full_name);
        assert_eq!(found.out.trim_end(), expected, "{found:?}");
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

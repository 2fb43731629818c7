//! How each answer is printed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::super::format::version;
use super::super::table::{Column, Table};
use crate::client::{
    AdminState, DataCollector, Disk, DrbdMinor, Instance, Master, NodeInstances, NodeRole,
};
use crate::printable::printable;

/// An answer in the form in which it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// One value or several, one per line. In CSV they have this heading.
    Values(&'static str, Vec<String>),
    /// Rows with several columns.
    Table(Table),
    /// JSON text of several lines.
    Json(String),
}

impl View {
    /// The answer as a table.
    pub(super) fn into_table(self) -> Table {
        let (heading, values) = match self {
            Self::Table(table) => return table,
            Self::Values(heading, values) => (heading, values),
            Self::Json(text) => ("VALUE", vec![text]),
        };
        let mut table = Table::new([Column::new(heading)]);
        values.into_iter().for_each(|value| table.push([value]));
        table
    }

    /// The values or the text as lines; `None` if it is a table.
    pub(super) fn lines(&self) -> Option<String> {
        match self {
            Self::Values(_, values) => Some(values.iter().map(|it| printable(it) + "\n").collect()),
            Self::Json(text) => Some(text.lines().map(|it| printable(it) + "\n").collect()),
            Self::Table(_) => None,
        }
    }
}

fn one(heading: &'static str, text: String) -> View {
    View::Values(heading, vec![text])
}

pub(super) fn master_name(name: String) -> View {
    one("NAME", name)
}

pub(super) fn role(role: NodeRole) -> View {
    one("ROLE", role.to_string())
}

pub(super) fn addresses(ips: Vec<IpAddr>) -> View {
    View::Values("IP", ips.iter().map(IpAddr::to_string).collect())
}

pub(super) fn node_ip(ip: IpAddr) -> View {
    one("NODE IP", ip.to_string())
}

pub(super) fn configuration_version(number: i64) -> View {
    one("VERSION", version(number))
}

/// A string as it is, anything else as indented JSON.
pub(super) fn value(value: Value) -> View {
    match value {
        Value::String(text) => one("VALUE", text),
        value => View::Json(format!("{value:#}")),
    }
}

pub(super) fn master(master: Master) -> View {
    let mut table = Table::new(["NAME", "CLUSTER IP", "PRIMARY IP"].map(Column::new));
    let [cluster_ip, primary_ip] = [master.cluster_ip, master.primary_ip].map(|ip| ip.to_string());
    table.push([master.name, cluster_ip, primary_ip]);
    View::Table(table)
}

pub(super) fn nodes_of(ips: &[&str], nodes: Vec<Option<IpAddr>>) -> View {
    let mut table = Table::new(["INSTANCE IP", "NODE IP"].map(Column::new));
    for (ip, node) in ips.iter().zip(nodes) {
        let node = node.map_or_else(|| "-".to_owned(), |node| node.to_string());
        table.push([(*ip).to_owned(), node]);
    }
    View::Table(table)
}

pub(super) fn instances(instances: NodeInstances) -> View {
    let mut table = Table::new([
        Column::new("INSTANCE"),
        Column::new("ROLE"),
        Column::state("STATE"),
        Column::optional("HYPERVISOR", 1),
    ]);
    let mut push = |role: &str, instance: &Instance| {
        let state = instance.admin_state.as_ref().map(AdminState::to_string);
        table.push([
            instance.name.clone().unwrap_or_default(),
            role.to_owned(),
            state.unwrap_or_default(),
            instance.hypervisor.clone().unwrap_or_default(),
        ]);
    };
    let NodeInstances {
        primary, secondary, ..
    } = &instances;
    primary.iter().for_each(|it| push("primary", it));
    secondary.iter().for_each(|it| push("secondary", it));
    View::Table(table)
}

/// The nodes of `/nodes`, by name.
pub(super) fn nodes(nodes: Value) -> View {
    let mut table = Table::new([
        Column::new("NODE"),
        Column::new("PRIMARY IP"),
        Column::state("STATE"),
        Column::optional("UUID", 1),
    ]);
    for (uuid, node) in by_name(&nodes) {
        let is = |flag: &str| node[flag].as_bool() == Some(true);
        let state = if is("offline") {
            "offline"
        } else if is("drained") {
            "drained"
        } else if is("master_candidate") {
            "candidate"
        } else {
            "regular"
        };
        table.push([
            text(&node["name"]),
            text(&node["primary_ip"]),
            state.into(),
            uuid.into(),
        ]);
    }
    View::Table(table)
}

/// The instances of `/instances`, by name.
pub(super) fn all_instances(instances: Value) -> View {
    let mut table = Table::new([
        Column::new("INSTANCE"),
        Column::state("STATE"),
        Column::optional("HYPERVISOR", 2),
        Column::optional("UUID", 1),
    ]);
    for (uuid, instance) in by_name(&instances) {
        table.push([
            text(&instance["name"]),
            text(&instance["admin_state"]),
            text(&instance["hypervisor"]),
            uuid.into(),
        ]);
    }
    View::Table(table)
}

/// The objects of a section, sorted by name, with their UUIDs.
fn by_name(section: &Value) -> Vec<(&str, &Value)> {
    let objects = section.as_object().into_iter().flatten();
    let mut objects: Vec<(&str, &Value)> = objects.map(|(uuid, it)| (&**uuid, it)).collect();
    objects.sort_by_key(|(_, object)| object["name"].as_str());
    objects
}

/// A string as it is; empty for anything else.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(super) fn disks(disks: Vec<Disk>) -> View {
    let mut table = Table::new([
        Column::new("DISK"),
        Column::new("TYPE"),
        Column::new("SIZE (MiB)"),
        Column::optional("MODE", 1),
        Column::optional("UUID", 2),
        Column::new("LOGICAL ID"),
    ]);
    for (index, disk) in disks.iter().enumerate() {
        table.push([
            format!("disk/{index}"),
            disk.kind.dev_type().to_owned(),
            disk.size_mebibytes.unwrap_or_default().to_string(),
            disk.mode.clone().unwrap_or_default(),
            disk.uuid.clone(),
            // Without the shared secret of DRBD.
            disk.kind.to_string(),
        ]);
    }
    View::Table(table)
}

pub(super) fn minors(minors: Vec<DrbdMinor>) -> View {
    let mut table = Table::new([
        Column::optional("NODE", 2),
        Column::new("MINOR"),
        Column::new("INSTANCE"),
        Column::optional("DISK", 1),
        Column::new("ROLE"),
        Column::new("PEER"),
    ]);
    for minor in minors {
        let role = minor.role.to_string();
        table.push([
            minor.node,
            minor.minor.to_string(),
            minor.instance,
            minor.disk,
            role,
            minor.peer,
        ]);
    }
    View::Table(table)
}

pub(super) fn collectors(collectors: BTreeMap<String, DataCollector>) -> View {
    let mut table = Table::new(["COLLECTOR", "ACTIVE", "INTERVAL (s)"].map(Column::new));
    for (name, collector) in collectors {
        let active = if collector.active { "yes" } else { "no" };
        let interval = collector.interval_microseconds as f64 / 1e6;
        table.push([name, active.to_owned(), interval.to_string()]);
    }
    View::Table(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_are_printed_without_quotes_and_the_rest_as_json() {
        let lines = |json: Value| value(json).lines();
        assert_eq!(lines(json!("a \"b\"")), Some("a \"b\"\n".into()));
        assert_eq!(lines(json!(["a"])), Some("[\n  \"a\"\n]\n".into()));
        assert_eq!(lines(json!(null)), Some("null\n".into()));
        assert_eq!(
            lines(json!("a\n\u{1b}[31m")),
            Some("a\\n\\u{1b}[31m\n".into())
        );
    }
}

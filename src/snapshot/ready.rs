//! Answers that are the same for every request of their type, written when a configuration is
//! loaded.
//!
//! Source: `Ganeti.Confd.Server` (`buildResponse`), `Ganeti.DataCollectors` for the list of
//! collectors.

use super::answer_writer::ReadyAnswer;
use super::directory::NotFound;
use super::error_text::failure;
use super::objects::{Node, expect_field};
use crate::config::{Document, Section};
use crate::json::{self, Span};
use crate::protocol::reply::{NO_SERIAL, Status};

/// One answer for each type of request whose answer does not depend on the query.
#[derive(Debug)]
pub(super) struct ReadyAnswers {
    pub(super) ping: ReadyAnswer,
    pub(super) cluster_master: ReadyAnswer,
    pub(super) node_pip_list: ReadyAnswer,
    pub(super) mc_pip_list: ReadyAnswer,
    pub(super) data_collectors: ReadyAnswer,
}

/// The value of `cluster.master_node` if there is no such node.
#[derive(Debug)]
pub(super) struct UnknownMaster {
    pub(super) name: String,
    pub(super) why: NotFound,
}

impl ReadyAnswers {
    pub(super) fn new(
        document: &Document,
        serial: Span,
        nodes: &[Node],
        master: &Result<usize, UnknownMaster>,
    ) -> Self {
        let text = document.text();
        let serial = serial.of(text);
        let cluster_master = match master {
            Ok(master) => {
                ReadyAnswer::new(Status::Ok, nodes[*master].name.quoted().of(text), serial)
            }
            Err(unknown) => ReadyAnswer::error(&failure(&unknown.name, unknown.why)),
        };
        let pip_list = |is_listed: &dyn Fn(usize) -> bool| {
            let mut list = b"[".to_vec();
            for node in (0..nodes.len()).rev().filter(|&node| is_listed(node)) {
                if list.len() > 1 {
                    list.push(b',');
                }
                list.extend_from_slice(nodes[node].primary_ip.of(text));
            }
            list.push(b']');
            ReadyAnswer::new(Status::Ok, &list, serial)
        };
        let entries = document.entries(Section::Nodes);
        let is_candidate = |node: usize| {
            let flag = document.member(entries[node].value.start as usize, b"master_candidate");
            expect_field(flag).of(text) == b"true"
        };
        let version = document.mandatory(&["version"]).of(text);
        Self {
            ping: ReadyAnswer::new(Status::Ok, version, NO_SERIAL),
            cluster_master,
            node_pip_list: pip_list(&|_| true),
            mc_pip_list: pip_list(&is_candidate),
            data_collectors: ReadyAnswer::new(Status::Ok, &data_collectors(document), serial),
        }
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        let all = [
            &self.ping,
            &self.cluster_master,
            &self.node_pip_list,
            &self.mc_pip_list,
            &self.data_collectors,
        ];
        all.iter().map(|ready| ready.bytes()).sum()
    }
}

/// The six data collectors that the reference knows, as JSON in the order of its answer.
fn data_collectors(document: &Document) -> Vec<u8> {
    const NAMES: [&str; 6] = [
        "cpu-avg-load",
        "diskstats",
        "drbd",
        "inst-status-xen",
        "lv",
        "xen-cpu-avg-load",
    ];
    const XEN_STATUS: &str = "inst-status-xen";
    let text = document.text();
    let hypervisors = document.mandatory(&["cluster", "enabled_hypervisors"]);
    let has_xen = json::elements(text, hypervisors.start as usize)
        .any(|name| matches!(&text[name], b"\"xen-pvm\"" | b"\"xen-hvm\""));
    let mut json = b"{".to_vec();
    for name in NAMES {
        let value = |key, default: &'static [u8]| {
            let value = document.find(&["cluster", "data_collectors", name, key]);
            value.map_or(default, |value| value.of(text))
        };
        let active = value("active", b"true") == b"true" && (name != XEN_STATUS || has_xen);
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(
            format!("\"{name}\":{{\"active\":{active},\"interval\":").as_bytes(),
        );
        json.extend_from_slice(value("interval", b"5000000"));
        json.push(b'}');
    }
    json.push(b'}');
    json
}

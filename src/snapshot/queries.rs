//! Answers queries: one function for each, named like the query.
//!
//! Invariant: nothing here allocates; texts are put together in the buffers of the
//! [`AnswerWriter`].
//!
//! Source: `Ganeti.Confd.Server` (`buildResponse`).

use super::answer_writer::{AnswerWriter, NAME_BYTES_MAX, Rendered};
use super::directory::NotFound;
use super::error_text::{FAILURE, prereq_error};
use super::index::Index;
use super::links::Links;
use super::objects::NodeRole;
use super::placement::NodeInstances;
use super::{haskell_show, path};
use crate::config::Section;
use crate::json::{self, Span};
use crate::protocol::REPLY_BYTES_MAX;
use crate::protocol::reply::{ErrorCode, Status};
use crate::protocol::request::{DictQuery, Query, ReqField, Request, RequestType};

impl Index {
    /// Answers `request`: with an answer that is ready, or else into `answer`.
    pub(super) fn answer<'a>(
        &'a self,
        request: &Request<'_>,
        answer: &mut AnswerWriter,
    ) -> Rendered<'a> {
        let query = &request.query;
        match request.kind {
            RequestType::Ping => return Rendered::Ready(&self.ready.ping),
            RequestType::NodePipList => return Rendered::Ready(&self.ready.node_pip_list),
            RequestType::McPipList => return Rendered::Ready(&self.ready.mc_pip_list),
            RequestType::DataCollectors => return Rendered::Ready(&self.ready.data_collectors),
            RequestType::ClusterMaster => match query {
                Query::Empty => return Rendered::Ready(&self.ready.cluster_master),
                Query::Plain(_) => answer.error_code(ErrorCode::Argument),
                Query::Dict(dict) => self.cluster_master_fields(dict, answer),
            },
            RequestType::NodePipByInstPip => match query {
                Query::Dict(dict) => self.node_pip_by_inst_pip(dict, answer),
                _ => answer.error_code(ErrorCode::Argument),
            },
            RequestType::InstIpsList => self.inst_ips_list(query, answer),
            RequestType::NodeRoleByName => with_name(query, answer, |name, answer| {
                self.node_role_by_name(name, answer);
            }),
            RequestType::NodeDrbd => {
                with_name(query, answer, |name, answer| self.node_drbd(name, answer));
            }
            RequestType::NodeInstances => with_name(query, answer, |name, answer| {
                self.node_instances(name, answer);
            }),
            RequestType::InstanceDisks => with_name(query, answer, |name, answer| {
                self.instance_disks(name, answer);
            }),
            RequestType::ConfigQuery => with_name(query, answer, |path, answer| {
                self.config_query(path, answer);
            }),
        }
        Rendered::Written
    }

    fn node_role_by_name(&self, name: &str, answer: &mut AnswerWriter) {
        let master = match &self.master {
            Ok(master) => &self.nodes[*master],
            Err(unknown) => return failure(&unknown.name, unknown.why, answer),
        };
        let text = self.text();
        let canonical = json::canonical(name.as_bytes(), answer.scratch());
        // Only its full name makes a node the master. By key or abbreviation it gets another role.
        let is_master = canonical == master.name.of(text);
        let role = match self.node_names.find(text, canonical) {
            Ok(_) if is_master => NodeRole::Master,
            Ok(node) => self.nodes[node].role,
            Err(why) => return failure(name, why, answer),
        };
        answer.ok(&[b'0' + role as u8], self.serial.of(text));
    }

    fn node_pip_by_inst_pip(&self, dict: &DictQuery<'_>, answer: &mut AnswerWriter) {
        let text = self.text();
        let serial = self.serial.of(text);
        if dict.ip.is_none() && dict.ip_list().next().is_none() {
            return answer.ok(b"[]", serial);
        }
        let mut link_scratch = std::mem::take(answer.link_scratch());
        let link = match dict.link {
            Some(link) => Some(json::canonical(link.as_bytes(), &mut link_scratch)),
            None => self.default_link.map(|link| link.of(text)),
        };
        match (&self.links, link) {
            (Some(links), Some(link)) => {
                let link = links.find(text, link);
                self.node_pips(dict, links, link, answer);
            }
            _ => answer.error_code(ErrorCode::Internal),
        }
        *answer.link_scratch() = link_scratch;
    }

    /// The primary addresses of the nodes of the instances with the addresses in `dict`, on `link`
    /// (its number, if it has addresses).
    fn node_pips(
        &self,
        dict: &DictQuery<'_>,
        links: &Links,
        link: Option<u32>,
        answer: &mut AnswerWriter,
    ) {
        let text = self.text();
        let serial = self.serial.of(text);
        let find = |ip: &[u8], scratch: &mut Vec<u8>| {
            links
                .node(text, link?, json::canonical(ip, scratch))
                .map(|node| self.nodes[node].primary_ip.of(text))
        };
        if let Some(ip) = dict.ip {
            return match find(ip.as_bytes(), answer.scratch()) {
                Some(primary_ip) => answer.ok(primary_ip, serial),
                None => answer.error_code(ErrorCode::UnknownEntry),
            };
        }
        answer.begin(Status::Ok);
        answer.push(b"[");
        let mut separator = 1;
        for ip in dict.ip_list() {
            match find(ip, answer.scratch()) {
                Some(primary_ip) => {
                    for piece in [&b",[0,"[separator..], primary_ip, b",", serial, b"]"] {
                        answer.push(piece);
                    }
                }
                None => answer.push(&b",[1,0,0]"[separator..]),
            }
            separator = 0;
            if answer.is_too_large() {
                break;
            }
        }
        answer.push(b"]");
        answer.end(serial);
    }

    fn cluster_master_fields(&self, dict: &DictQuery<'_>, answer: &mut AnswerWriter) {
        let text = self.text();
        let master = match &self.master {
            Ok(master) => &self.nodes[*master],
            Err(unknown) => return not_found("", "Node name", &unknown.name, unknown.why, answer),
        };
        let name = master.name.quoted();
        let values = dict.fields().map(|field| match field {
            ReqField::Name => name.of(text),
            ReqField::Ip => self.master_ip.of(text),
            ReqField::MNodePip => master.primary_ip.of(text),
        });
        answer.begin(Status::Ok);
        answer.push_list(values);
        answer.end(self.serial.of(text));
    }

    fn inst_ips_list(&self, query: &Query<'_>, answer: &mut AnswerWriter) {
        let text = self.text();
        if let Query::Dict(_) = query {
            return answer.error_text("Invalid query type");
        }
        let link = match query {
            Query::Plain(link) => Some(json::canonical(link.as_bytes(), answer.scratch())),
            _ => self.default_link.map(|link| link.of(text)),
        };
        match (&self.links, link) {
            (Some(links), Some(link)) => {
                let ips = links.find(text, link).map(|link| links.ips(link));
                answer.ok(ips.unwrap_or(b"[]"), self.serial.of(text));
            }
            _ => answer.error_code(ErrorCode::Internal),
        }
    }

    fn node_drbd(&self, name: &str, answer: &mut AnswerWriter) {
        let text = self.text();
        match self
            .node_names
            .find(text, json::canonical(name.as_bytes(), answer.scratch()))
        {
            Ok(node) => {
                let node = &self.nodes[node];
                answer.begin(Status::Ok);
                match self.minors.write(node.uuid, self.objects(), answer) {
                    Ok(()) => answer.end(node.serial.of(text)),
                    Err(unknown) => {
                        self.unknown("", "Node name", unknown.uuid, unknown.why, answer);
                    }
                }
            }
            Err(why) => not_found("", "Node name", name, why, answer),
        }
    }

    fn node_instances(&self, name: &str, answer: &mut AnswerWriter) {
        let text = self.text();
        match self
            .node_names
            .find(text, json::canonical(name.as_bytes(), answer.scratch()))
        {
            Ok(node) => {
                let node = &self.nodes[node];
                let NodeInstances { primary, secondary } = &self.node_instances;
                answer.begin(Status::Ok);
                answer.push(b"[");
                answer.push_list(self.values(Section::Instances, primary.of(node.uuid)));
                answer.push(b",");
                answer.push_list(self.values(Section::Instances, secondary.of(node.uuid)));
                answer.push(b"]");
                answer.end(node.serial.of(text));
            }
            Err(why) => not_found(
                "Node not found in the configuration: ",
                "Node name",
                name,
                why,
                answer,
            ),
        }
    }

    fn instance_disks(&self, name: &str, answer: &mut AnswerWriter) {
        let text = self.text();
        match self
            .instance_names
            .find(text, json::canonical(name.as_bytes(), answer.scratch()))
        {
            Ok(instance) => {
                let instance = &self.instances[instance];
                let unknown = |what, name, why, answer| {
                    self.unknown("Could not retrieve disks: ", what, name, why, answer);
                };
                match instance.list.map(|list| self.disks.of(list)) {
                    Ok(Ok(disks)) => {
                        answer.begin(Status::Ok);
                        answer.push_list(self.values(Section::Disks, disks));
                        answer.end(instance.serial.of(text));
                    }
                    Ok(Err(key)) => unknown("Disk uuid", key, NotFound::Unknown, answer),
                    Err(why) => unknown("Instance name", instance.uuid, why, answer),
                }
            }
            Err(why) => not_found(
                "Instance not found in the configuration: ",
                "Instance name",
                name,
                why,
                answer,
            ),
        }
    }

    fn config_query(&self, path: &str, answer: &mut AnswerWriter) {
        match self.value_at(path, answer.scratch()) {
            Some(value) => answer.ok(value.of(self.text()), self.serial.of(self.text())),
            None => answer.error_code(ErrorCode::Argument),
        }
    }

    /// The value at a path.
    fn value_at(&self, path: &str, scratch: &mut Vec<u8>) -> Option<Span> {
        let text = self.text();
        let top = Span::new(0..text.len());
        path::tokens(path)?.try_fold(top, |value, token| {
            let at = value.start as usize;
            match text[at] {
                // Decoding makes a token at most half as long.
                b'{' if token.len() > 2 * self.document.key_len_max() => None,
                b'{' => {
                    path::canonical_token(token, scratch);
                    self.document.member(at, scratch)
                }
                b'[' => self.document.element(at, path::index(token)?),
                _ => None,
            }
        })
    }

    /// Writes the error for a text of the configuration (`name`, canonical) that is not found, as
    /// Haskell shows it.
    fn unknown(
        &self,
        before: &str,
        what: &str,
        name: Span,
        why: NotFound,
        answer: &mut AnswerWriter,
    ) {
        let name = name.of(self.text());
        if name.len() > NAME_BYTES_MAX {
            return answer.error_with(AnswerWriter::set_too_large);
        }
        let mut unescaped = std::mem::take(answer.link_scratch());
        unescaped.clear();
        unescaped.extend(json::unescape(name));
        let name = String::from_utf8_lossy(&unescaped);
        not_found(before, what, &name, why, answer);
        *answer.link_scratch() = unescaped;
    }

    /// The texts of those entries of `section` that are listed in `indexes`.
    fn values(&self, section: Section, indexes: &[u32]) -> impl Iterator<Item = &[u8]> {
        let entries = self.document.entries(section);
        indexes
            .iter()
            .map(move |&index| entries[index as usize].value.of(self.text()))
    }
}

/// Calls `then` with the query, which must be a string.
fn with_name(
    query: &Query<'_>,
    answer: &mut AnswerWriter,
    then: impl FnOnce(&str, &mut AnswerWriter),
) {
    match query {
        Query::Plain(name) => then(name, answer),
        Query::Empty => answer.error_text("Invalid query type EmptyQuery"),
        Query::Dict(dict) => invalid_dict(dict, answer),
    }
}

/// Writes the error for an object query where a string is expected: the object as Haskell shows it.
fn invalid_dict(dict: &DictQuery<'_>, answer: &mut AnswerWriter) {
    fn maybe(value: Option<&str>, out: &mut Vec<u8>) {
        match value {
            Some(value) => {
                out.extend_from_slice(b"Just ");
                haskell_show::string([value], out);
            }
            None => out.extend_from_slice(b"Nothing"),
        }
    }
    fn list<T>(values: impl Iterator<Item = T>, out: &mut Vec<u8>, show: impl Fn(T, &mut Vec<u8>)) {
        out.push(b'[');
        for (index, value) in values.enumerate() {
            // The text does not fit a reply.
            if out.len() > REPLY_BYTES_MAX {
                return;
            }
            if index > 0 {
                out.push(b',');
            }
            show(value, out);
        }
        out.push(b']');
    }
    let mut out = std::mem::take(answer.scratch());
    out.clear();
    out.extend_from_slice(b"Invalid query type DictQuery (ConfdReqQ {confdReqQIp = ");
    maybe(dict.ip, &mut out);
    out.extend_from_slice(b", confdReqQIpList = ");
    let ips = dict.ip_list().map(std::str::from_utf8);
    list(ips.map_while(Result::ok), &mut out, |ip, out| {
        haskell_show::string([ip], out);
    });
    out.extend_from_slice(b", confdReqQLink = ");
    maybe(dict.link, &mut out);
    out.extend_from_slice(b", confdReqQFields = ");
    list(dict.fields(), &mut out, |field, out| {
        out.extend_from_slice(match field {
            ReqField::Name => b"ReqFieldName",
            ReqField::Ip => b"ReqFieldIp",
            ReqField::MNodePip => b"ReqFieldMNodePip",
        });
    });
    out.extend_from_slice(b"})");
    answer.error_with(|answer| answer.push_escaped(&out));
    *answer.scratch() = out;
}

/// Writes the error text for an administrator about a node that is not found.
fn failure(name: &str, why: NotFound, answer: &mut AnswerWriter) {
    answer.error_with(|answer| {
        answer.push_escaped(FAILURE.as_bytes());
        answer.push_escaped(name.as_bytes());
        answer.push(b" ");
        answer.push(why.words().as_bytes());
    });
}

/// Writes the error for an object that is not found, as Haskell shows it.
fn not_found(before: &str, what: &str, name: &str, why: NotFound, answer: &mut AnswerWriter) {
    let mut out = std::mem::take(answer.scratch());
    out.clear();
    out.extend_from_slice(before.as_bytes());
    prereq_error(what, name, why, &mut out);
    answer.error_with(|answer| answer.push_escaped(&out));
    *answer.scratch() = out;
}

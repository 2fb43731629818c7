//! `confdctl query`: sends one query and prints the answer, and with `--all` the answer of each
//! candidate.

mod compare;
mod json;
pub(super) mod path;
mod view;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use super::diagnose;
use super::exit::{CommandError, Exit, eprintln_prefixed, print};
use super::format::json_line;
use super::names::Named;
use super::options::{Common, Format, Query, QueryOptions};
use super::table::{Alignment, Table};
use super::target::Target;
use super::terminal;
use super::yaml;
use crate::client::{
    AnsweredError, Candidate, CandidateResult, ConfdClient, Coverage, Error, Outcome, Question,
    Settings, WaitFor, question,
};
use crate::printable::{printable, printable_start};
use view::View;

/// Runs the command.
///
/// # Errors
///
/// A file or a socket of this host fails, or options exclude each other. An error that the cluster
/// answers is an exit status.
pub(super) fn run(common: &Common, options: &QueryOptions) -> Result<Exit, CommandError> {
    let target = Target::find(common)?;
    let run = QueryRun {
        client: target.client()?,
        target,
        common,
        options,
    };
    let Some(interval) = options.watch else {
        return run.dispatch();
    };
    // It ends by a signal, or when the pipe is closed.
    loop {
        if io::stdout().is_terminal() {
            print(terminal::CLEAR)?;
        }
        run.dispatch()?;
        std::thread::sleep(interval);
    }
}

/// What all queries have in common.
struct QueryRun<'a> {
    client: ConfdClient,
    target: Target,
    common: &'a Common,
    options: &'a QueryOptions,
}

impl QueryRun<'_> {
    fn dispatch(&self) -> Result<Exit, CommandError> {
        match &self.options.query {
            Query::Master { addresses: false } => {
                self.ask(&question::cluster_master(), view::master_name)
            }
            Query::Master { addresses: true } => {
                self.ask(&question::master_addresses(), view::master)
            }
            Query::Role { node } => self.ask(&question::node_role(node), view::role),
            Query::Nodes { addresses: true } => self.ask(&question::node_ips(), view::addresses),
            Query::Nodes { addresses: false } => self.ask(&question::config("/nodes"), view::nodes),
            Query::Instances => self.ask(&question::config("/instances"), view::all_instances),
            Query::Candidates => self.ask(&question::candidate_ips(), view::addresses),
            Query::InstancesOn { node } => {
                self.ask(&question::node_instances(node), view::instances)
            }
            Query::Disks { instance } => self.ask(&question::instance_disks(instance), view::disks),
            Query::Drbd { node } => self.ask(&question::node_drbd(node), view::minors),
            Query::NodeOf { ips, link } => match ips.as_slice() {
                [ip] => self.ask(&question::node_of_ip(ip, link.as_deref()), view::node_ip),
                _ => {
                    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
                    self.ask(&question::nodes_of_ips(&ips, link.as_deref()), |nodes| {
                        view::nodes_of(&ips, nodes)
                    })
                }
            },
            Query::Ips { link } => {
                self.ask(&question::instance_ips(link.as_deref()), view::addresses)
            }
            Query::Config { path } => {
                let path = path::with_uuid(&self.client, path).unwrap_or_else(|| path.clone());
                self.ask(&question::config(&path), view::value)
            }
            Query::Collectors => self.ask(&question::data_collectors(), view::collectors),
            Query::Ping => self.ask(&question::ping(), view::configuration_version),
        }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if self.options.all {
            settings.coverage = Coverage::All;
            settings.wait_for = WaitFor::All;
        }
        settings.any_source = self.options.any_source;
        settings.deadline = self.common.timeout.unwrap_or(settings.deadline);
        settings
    }

    /// Sends the query and prints the result.
    fn ask<T>(
        &self,
        question: &Question<T>,
        view: impl Fn(T) -> View,
    ) -> Result<Exit, CommandError> {
        let (outcome, serials) = self.query(question)?;
        let results = in_order(&outcome, &self.client.candidates());
        let answer = match outcome.best().and_then(CandidateResult::reply) {
            Some(reply) => question.read(reply).map_err(Some),
            None => Err(None),
        };
        let error = match &answer {
            Err(Some(error)) => Some(self.describe(error)),
            _ => None,
        };
        let format = self.format();
        if let Format::Json | Format::Yaml = format {
            let all = self.options.all.then_some(&*results);
            let document = json::document(&outcome, all, error.as_deref());
            print(&if format == Format::Json {
                json_line(&document)
            } else {
                yaml::document(&serde_json::json!(document))
            })?;
        }
        self.warn(&outcome, &results);
        let exit = match answer {
            Ok(answer) => {
                self.print_answer(format, view(answer))?;
                match outcome.is_enough() || !self.options.strict {
                    true => Exit::Answered,
                    false => Exit::TooFewReplies,
                }
            }
            Err(Some(why)) => self.print_error(format, &why, error.unwrap_or_default())?,
            Err(None) => {
                self.diagnose(&outcome, &results);
                Exit::NoAnswer
            }
        };
        if let Some(serials) = serials.filter(|_| !format.is_document()) {
            let best = outcome.best().and_then(CandidateResult::reply);
            let table = compare::table(&results, best, &serials);
            print(&(String::from("\n") + &self.layout(format, &table)))?;
        }
        Ok(exit)
    }

    /// Sends the query; with `--all`, also the query for the serial of the configuration.
    fn query<T>(&self, question: &Question<T>) -> Result<(Outcome, Option<Outcome>), CommandError> {
        let settings = self.settings();
        let of_client = |error: Error| CommandError::of_client(&error);
        if !self.options.all || self.format().is_document() {
            let outcome = self.client.query_all_with(question, settings);
            return Ok((outcome.map_err(of_client)?, None));
        }
        let serial = question::config("/serial_no");
        let (outcome, serials) = std::thread::scope(|scope| {
            let serials = scope.spawn(|| self.client.query_all_with(&serial, settings));
            let outcome = self.client.query_all_with(question, settings);
            (outcome, serials.join().expect("the client does not panic"))
        });
        Ok((
            outcome.map_err(of_client)?,
            Some(serials.map_err(of_client)?),
        ))
    }

    fn format(&self) -> Format {
        match self.common.json {
            true => Format::Json,
            false => self.options.output,
        }
    }

    fn print_answer(&self, format: Format, view: View) -> Result<(), CommandError> {
        if format.is_document() {
            return Ok(());
        }
        let text = match (format, view.lines()) {
            (Format::Table | Format::Wide | Format::Name, Some(lines)) => lines,
            (_, _) => self.layout(format, &view.into_table()),
        };
        if text.is_empty() && io::stdout().is_terminal() {
            eprintln_prefixed("the answer is an empty list");
        }
        print(&text)
    }

    /// A table in the format of `--output`.
    fn layout(&self, format: Format, table: &Table) -> String {
        let headings = !self.options.no_headers;
        let color = self.common.color.unwrap_or_default().is_on();
        match format {
            Format::Csv if table.is_empty() => String::new(),
            Format::Csv => table.csv(headings),
            Format::Name => table.names(),
            Format::Table if !io::stdout().is_terminal() && !color => table.tabbed(),
            _ => table.aligned(Alignment {
                width: terminal::width().filter(|_| format != Format::Wide),
                headings,
                color,
            }),
        }
    }

    /// Prints a warning if there are too few answers or they differ.
    fn warn(&self, outcome: &Outcome, results: &[&CandidateResult]) {
        for result in results {
            if let Some(source) = result.other_source {
                let candidate = &result.candidate;
                let effect = match self.options.any_source {
                    true => "accepted with --any-source",
                    false => "not accepted without --any-source",
                };
                eprintln_prefixed(format!(
                    "warning: a reply of {candidate} came from {source}, with the right signature; {effect}"
                ));
            }
        }
        let Some(best) = outcome.best().and_then(CandidateResult::reply) else {
            return;
        };
        if !outcome.is_enough() {
            eprintln_prefixed(format!(
                "warning: {} of {} candidates answered, the safe number is {}; \
                 the answer may be old{}",
                outcome.replies(),
                results.len(),
                outcome.needed(),
                diagnose::unanswered(results),
            ));
        }
        if !outcome.is_consistent() {
            let mut text = format!(
                "warning: candidates give different answers with serial {}; \
                 on the master: gnt-cluster redist-conf",
                best.serial
            );
            for result in results {
                let reply = result.reply();
                if let Some(reply) =
                    reply.filter(|it| (it.status, it.serial) == (best.status, best.serial))
                {
                    let answer = shortened(reply.answer.get());
                    text += &format!("\n  {}: {answer}", result.candidate);
                }
            }
            eprintln_prefixed(text);
        }
    }

    /// Prints why there may be no answer. The clocks are compared, because a wrong one is a certain
    /// cause.
    fn diagnose(&self, outcome: &Outcome, results: &[&CandidateResult]) {
        let is_silent = |result: &&&CandidateResult| diagnose::is_silent(result);
        let skews = match results.iter().any(|result| is_silent(&result)) {
            true => self.client.estimate_skews().unwrap_or_default(),
            false => Vec::new(),
        };
        let text = diagnose::Silence {
            outcome,
            results,
            skews: &skews,
            key: &self.target.key_source,
            may_be_large: self.may_be_large(),
        };
        eprintln_prefixed(text.explain());
    }

    /// The error that was answered, with the argument of the query.
    fn describe(&self, error: &Error) -> String {
        if let Error::Answered(AnsweredError::NotFound(Some(details))) = error {
            return printable(details);
        }
        let error = printable(&error.to_string());
        match &self.options.query {
            Query::Role { node } | Query::InstancesOn { node } | Query::Drbd { node } => {
                format!("node {node:?}: {error}")
            }
            Query::Disks { instance } => format!("instance {instance:?}: {error}"),
            Query::NodeOf { ips, .. } => format!("address {}: {error}", printable(&ips.join(" "))),
            Query::Config { path } => match path::explain(&self.client, path) {
                Some(why) => printable(&why),
                None => format!("path {path:?}: {error}"),
            },
            Query::Nodes { .. } => format!("{error}: confdctl query nodes --addresses"),
            Query::Instances => format!("{error}: confdctl query instances-on NODE"),
            _ => error,
        }
    }

    /// Prints the error that was answered, or the names that this node's files have in place of it.
    fn print_error(&self, format: Format, why: &Error, text: String) -> Result<Exit, CommandError> {
        let names = self.names_of_this_node(why);
        let Some((path, names)) = names.filter(|_| !format.is_document()) else {
            eprintln_prefixed(text);
            return Ok(Exit::ClusterError);
        };
        let path = path.display();
        eprintln_prefixed(format!("warning: {why}; the names are those in {path}"));
        self.print_answer(format, View::Values("NAME", names))?;
        Ok(Exit::Answered)
    }

    /// The names from this node's files in place of an answer that does not fit a datagram.
    fn names_of_this_node(&self, error: &Error) -> Option<(PathBuf, Vec<String>)> {
        let named = match (&self.options.query, error) {
            (Query::Nodes { .. }, Error::Answered(AnsweredError::Internal)) => Named::Nodes,
            (Query::Instances, Error::Answered(AnsweredError::Internal)) => Named::Instances,
            _ => return None,
        };
        named.of_this_node(&self.target).ok()
    }

    /// Whether the size of the answer grows with the cluster.
    fn may_be_large(&self) -> bool {
        !matches!(
            self.options.query,
            Query::Master { .. } | Query::Role { .. } | Query::Ping
        )
    }
}

/// The results in the order in which the candidates were named.
fn in_order<'a>(outcome: &'a Outcome, candidates: &[Candidate]) -> Vec<&'a CandidateResult> {
    let mut results: Vec<&CandidateResult> = outcome.results().iter().collect();
    results.sort_by_key(|result| candidates.iter().position(|it| *it == result.candidate));
    results
}

/// The first characters of an answer, for one line.
fn shortened(answer: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    printable_start(answer, CHARACTERS_MAX)
}

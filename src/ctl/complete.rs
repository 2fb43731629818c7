//! Shell completion: names, addresses and paths from the cluster.
//!
//! The completion scripts of `confdctl completions` call this program again, with
//! [`VARIABLE`] set, for each word. The cluster is asked with the options on the command line that
//! is being completed. If it does not answer within [`TIME_MAX`], there are no names.
//!
//! Names become part of a command line, so that only names of plain characters are offered.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Command, CommandFactory as _, FromArgMatches as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde_json::Value;

use super::names::Named;
use super::options::{Common, Options};
use super::query::path;
use super::target::Target;
use crate::client::{ConfdClient, Settings};
use crate::node_files::NodeFiles;

/// The environment variable that the scripts set to the shell's name.
pub(super) const VARIABLE: &str = "CONFDCTL_COMPLETE";

/// The longest time to wait for names.
const TIME_MAX: Duration = Duration::from_secs(1);

/// The longest list of names that is offered.
const NAMES_MAX: usize = 5_000;

/// Nodes that are asked for their instances if the list of all is too large for a datagram.
const NODES_MAX: usize = 32;

/// Answers the completion script and ends the process, if a script has called it.
pub(super) fn answer_script() {
    CompleteEnv::with_factory(|| with_names(Options::command()))
        .var(VARIABLE)
        .complete();
}

/// Adds what is offered for the arguments of queries.
fn with_names(command: Command) -> Command {
    let add = |query: Command, name: &str, argument: &str, find: Find| {
        query.mut_subcommand(name, |it| {
            it.mut_arg(argument, |it| it.add(completer(find)))
        })
    };
    command
        .mut_arg("servers", |it| it.add(ArgValueCompleter::new(servers)))
        .mut_subcommand("query", |mut query| {
            for name in ["role", "instances-on", "drbd"] {
                query = add(query, name, "node", nodes);
            }
            query = add(query, "disks", "instance", instances);
            query = add(query, "node-of", "ips", instance_ips);
            add(query, "config", "path", |_, client, typed| {
                path::below(client, typed)
            })
        })
}

/// Finds the names that may continue the word typed so far.
type Find = fn(&Target, &ConfdClient, &str) -> Vec<String>;

/// The names of all nodes.
fn nodes(target: &Target, client: &ConfdClient, _typed: &str) -> Vec<String> {
    let names = Named::Nodes.of_this_node(target).map(|(_, names)| names);
    names.unwrap_or_else(|_| names_in(client, "/nodes"))
}

/// The names of all instances, or of those of the first nodes if all are too many for a datagram.
fn instances(target: &Target, client: &ConfdClient, _typed: &str) -> Vec<String> {
    if let Ok((_, names)) = Named::Instances.of_this_node(target) {
        return names;
    }
    let names = names_in(client, "/instances");
    if !names.is_empty() {
        return names;
    }
    let nodes = names_in(client, "/nodes").into_iter().take(NODES_MAX);
    let on = nodes.filter_map(|node| client.node_instances(&node).ok());
    let instances = on.flat_map(|on| on.primary);
    instances.filter_map(|instance| instance.name).collect()
}

/// The addresses of the instances on the default link.
fn instance_ips(_: &Target, client: &ConfdClient, _typed: &str) -> Vec<String> {
    let ips = client.instance_ips(None).unwrap_or_default();
    ips.iter().map(ToString::to_string).collect()
}

/// The master candidates that this node knows.
fn servers(current: &OsStr) -> Vec<CompletionCandidate> {
    let ips = NodeFiles::from_env().read_candidates().unwrap_or_default();
    offered(ips.iter().map(ToString::to_string).collect(), current)
}

/// Offers the names that `find` returns and that start with the word typed so far.
fn completer(find: Find) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let Some(typed) = current.to_str().map(str::to_owned) else {
            return Vec::new();
        };
        let (sender, receiver) = mpsc::channel();
        // The process ends before the thread, if looking up a server's name takes longer.
        thread::spawn(move || {
            let names = common().and_then(|common| {
                let target = Target::find(&common).ok()?;
                let settings = Settings::default().with_deadline(TIME_MAX);
                let client = target.client().ok()?.with_settings(settings);
                Some(find(&target, &client, &typed))
            });
            // After the time limit nobody receives it.
            let _ = sender.send(names.unwrap_or_default());
        });
        offered(receiver.recv_timeout(TIME_MAX).unwrap_or_default(), current)
    })
}

/// The common options of the command line that is being completed.
fn common() -> Option<Common> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let command = Options::command().ignore_errors(true);
    let matches = command.try_get_matches_from(words).ok()?;
    Common::from_arg_matches(&matches).ok()
}

/// The names of the objects in a section of the configuration.
fn names_in(client: &ConfdClient, section: &str) -> Vec<String> {
    let Ok(Value::Object(objects)) = client.config(section) else {
        return Vec::new();
    };
    let names = objects
        .values()
        .filter_map(|object| object["name"].as_str());
    names.map(str::to_owned).collect()
}

fn offered(mut names: Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    names.retain(|name| name.starts_with(&*typed) && is_plain(name));
    names.sort_unstable();
    names.truncate(NAMES_MAX);
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Whether a shell takes a text as one word that means nothing else.
fn is_plain(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    !text.starts_with('-') && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_shell_would_interpret_are_not_offered() {
        let names = [
            "a1", "a$(x)", "a b", "a;b", "-a", "b1", "a\n", "a*", "/a/b:",
        ];
        let names = || names.map(str::to_owned).to_vec();
        let offered = |typed: &str| -> Vec<String> {
            let offered = offered(names(), OsStr::new(typed)).into_iter();
            offered
                .map(|it| it.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(offered("a"), ["a1"]);
        assert_eq!(offered(""), ["/a/b:", "a1", "b1"]);
    }
}

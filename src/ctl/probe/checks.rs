//! The queries of `--checks`: those that Ganeti's `confd-client` runs.

use std::net::IpAddr;

use super::super::exit::CommandError;
use super::super::format::version;
use super::health::Check;
use super::prober::TIMEOUT_DEFAULT;
use crate::client::{ConfdClient, NodeRole, Question, Settings, WaitFor, question};

/// Addresses in one query; request and answer must fit a datagram.
const ADDRESSES_MAX: usize = 50;

/// Entries of a list that are printed.
const SHOWN_MAX: usize = 5;

/// Runs all checks.
///
/// # Errors
///
/// A socket of this host fails.
pub(super) fn run(client: &ConfdClient) -> Result<Vec<Check>, CommandError> {
    let mut checks = Checks {
        client,
        results: Vec::new(),
    };
    checks.of_the_master()?;
    checks.of_the_lists()?;
    Ok(checks.results)
}

struct Checks<'a> {
    client: &'a ConfdClient,
    results: Vec<Check>,
}

impl Checks<'_> {
    fn of_the_master(&mut self) -> Result<(), CommandError> {
        self.check("ping", &question::ping(), |number| {
            Ok(format!("version {}", version(*number)))
        })?;
        let master = self.check("master", &question::cluster_master(), |name| {
            Ok(name.clone())
        })?;
        self.check(
            "addresses of the master",
            &question::master_addresses(),
            |master| {
                let (primary, cluster) = (&master.primary_ip, &master.cluster_ip);
                Ok(format!("{primary}, cluster {cluster}"))
            },
        )?;
        if let Some(master) = master {
            let question = question::node_role(&master);
            self.check("role of the master", &question, |role| match role {
                NodeRole::Master => Ok(format!("{master} is the master")),
                role => Err(format!("{master} is {role}")),
            })?;
        }
        Ok(())
    }

    fn of_the_lists(&mut self) -> Result<(), CommandError> {
        self.check("nodes", &question::node_ips(), |ips| Ok(shortened(ips)))?;
        self.check("master candidates", &question::candidate_ips(), |ips| {
            Ok(shortened(ips))
        })?;
        let ips = self.check(
            "addresses of instances",
            &question::instance_ips(None),
            |ips| Ok(shortened(ips)),
        )?;
        let ips = ips.unwrap_or_default();
        let ips = &ips[..ips.len().min(ADDRESSES_MAX)];
        self.check(
            "nodes of these addresses",
            &question::nodes_of_ips(ips, None),
            |nodes| all_found(nodes, ips.len()),
        )?;
        Ok(())
    }

    /// Sends a query and records what `judge` says about the answer.
    fn check<T>(
        &mut self,
        name: &'static str,
        question: &Question<T>,
        judge: impl FnOnce(&T) -> Result<String, String>,
    ) -> Result<Option<T>, CommandError> {
        let settings = Settings {
            wait_for: WaitFor::Enough,
            deadline: TIMEOUT_DEFAULT,
            ..Settings::default()
        };
        let outcome = self.client.query_all_with(question, settings);
        let outcome = outcome.map_err(|error| CommandError::of_client(&error))?;
        let answer = outcome.into_answer(question);
        let result = match &answer {
            Ok(answer) => judge(answer),
            Err(error) => Err(error.to_string()),
        };
        self.results.push(Check {
            name,
            ok: result.is_ok(),
            text: result.unwrap_or_else(|error| error),
        });
        Ok(answer.ok())
    }
}

/// Whether there is a node for each of `expected` addresses.
fn all_found(nodes: &[Option<IpAddr>], expected: usize) -> Result<String, String> {
    let found = nodes.iter().flatten().count();
    if found == nodes.len() && found == expected {
        Ok(format!("{found} found"))
    } else {
        Err(format!("{found} of {expected} found"))
    }
}

/// The first entries of a list, and how many more there are.
fn shortened(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    match texts.as_slice() {
        [] => "none".to_owned(),
        texts if texts.len() > SHOWN_MAX => {
            let more = texts.len() - SHOWN_MAX;
            format!("{} and {more} more", texts[..SHOWN_MAX].join(", "))
        }
        texts => texts.join(", "),
    }
}

//! The queries of a run: request types with weights, each with arguments drawn at random from the
//! names of the cluster, or recorded requests in their order.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::names::Names;
use crate::json::ascii_json;
use crate::protocol::request::RequestType;

/// Parses the name of a request type or its number on the wire.
fn parse_type(text: &str) -> Option<RequestType> {
    RequestType::from_name(text).or_else(|| RequestType::from_number(text.parse().ok()?))
}

/// Request types with their weights: `role=3,master=1,config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix(Vec<(RequestType, f64)>);

impl Mix {
    /// The types of the mix.
    pub(super) fn types(&self) -> Vec<RequestType> {
        self.0.iter().map(|&(kind, _)| kind).collect()
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut entries = Vec::<(RequestType, f64)>::new();
        for part in text.split(',').map(str::trim) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let kind = parse_type(name).ok_or_else(|| {
                let known = RequestType::ALL.map(RequestType::name).join(", ");
                format!("unknown type '{name}', expected one of: {known}")
            })?;
            let weight: f64 = weight
                .parse()
                .ok()
                .filter(|&weight: &f64| weight > 0.0 && weight.is_finite())
                .ok_or_else(|| format!("the weight of {name} is not a positive number"))?;
            if entries.iter().any(|&(other, _)| other == kind) {
                return Err(format!("{name} is given twice"));
            }
            entries.push((kind, weight));
        }
        Ok(Self(entries))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, weight)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}={weight}", kind.name())?;
        }
        Ok(())
    }
}

impl Serialize for Mix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One query: a type and its argument, as JSON in ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) kind: RequestType,
    pub(super) argument: String,
}

/// The order of the queries.
#[derive(Clone, Debug)]
enum Order {
    /// At random: first a group by its share of the weights, then any query of the group. The
    /// shares are cumulative and end at 1.
    Drawn(Vec<(f64, std::ops::Range<usize>)>),
    /// One after the other.
    InTurn,
}

/// All queries of a run, and their order.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) queries: Vec<Query>,
    order: Order,
}

impl Workload {
    /// The queries of `mix` with arguments from `names`.
    ///
    /// # Errors
    ///
    /// The cluster has no argument for a type of the mix.
    pub(super) fn of_mix(mix: &Mix, names: &Names) -> Result<Self, String> {
        let total: f64 = mix.0.iter().map(|(_, weight)| weight).sum();
        let mut queries = Vec::new();
        let mut shares = Vec::new();
        let mut sum = 0.0;
        for &(kind, weight) in &mix.0 {
            let start = queries.len();
            queries.extend(arguments(kind, names).into_iter().map(|argument| Query {
                kind,
                argument: ascii_json(&argument.to_string()),
            }));
            if queries.len() == start {
                let name = kind.name();
                return Err(format!(
                    "the cluster has nothing that '{name}' can be asked about"
                ));
            }
            sum += weight / total;
            shares.push((sum, start..queries.len()));
        }
        Ok(Self {
            queries,
            order: Order::Drawn(shares),
        })
    }

    /// Recorded queries in their order, repeatedly.
    pub(super) fn in_turn(queries: Vec<Query>) -> Self {
        Self {
            queries,
            order: Order::InTurn,
        }
    }

    /// The index of the query for request `number` of the run.
    pub(super) fn next(&self, number: u64, random: &mut fastrand::Rng) -> usize {
        match &self.order {
            Order::InTurn => (number % self.queries.len() as u64) as usize,
            Order::Drawn(shares) => {
                let point = random.f64();
                let group = shares.partition_point(|(share, _)| *share <= point);
                // Because of rounding, the last share may be a little below 1.
                let (_, range) = &shares[group.min(shares.len() - 1)];
                random.usize(range.clone())
            }
        }
    }
}

/// All arguments for a type.
fn arguments(kind: RequestType, names: &Names) -> Vec<serde_json::Value> {
    use serde_json::{Value, json};
    let each = |names: &[String]| names.iter().map(|name| json!(name)).collect();
    match kind {
        RequestType::NodeRoleByName | RequestType::NodeDrbd | RequestType::NodeInstances => {
            each(&names.nodes)
        }
        RequestType::InstanceDisks => each(&names.instances),
        RequestType::ConfigQuery => each(&names.paths),
        RequestType::NodePipByInstPip => names
            .addresses
            .iter()
            .map(|(link, ip)| match link {
                Some(link) => json!({"0": link, "1": ip}),
                None => json!({"1": ip}),
            })
            .collect(),
        RequestType::Ping
        | RequestType::ClusterMaster
        | RequestType::NodePipList
        | RequestType::McPipList
        | RequestType::InstIpsList
        | RequestType::DataCollectors => vec![Value::Null],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            nodes: vec!["n1".into(), "n2".into()],
            instances: vec!["i1".into()],
            addresses: vec![
                (None, "10.0.0.1".into()),
                (Some("br1".into()), "::1".into()),
            ],
            paths: vec!["/cluster/name".into()],
        }
    }

    #[test]
    fn mixes_are_parsed_and_printed() {
        let mix: Mix = "role=3, master=1,config".parse().expect("a mix");
        assert_eq!(mix.to_string(), "role=3,master=1,config=1");
        assert_eq!("1=3,3,10".parse(), Ok(mix));
        for bad in [
            "", "role=", "role=0", "role=-1", "role=nan", "rule", "12", "role,1",
        ] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_type_has_a_name_and_a_query() {
        let all = RequestType::ALL.map(RequestType::name).join(",");
        let mix: Mix = all.parse().expect("a mix");
        let workload = Workload::of_mix(&mix, &names()).expect("names for all");
        for kind in RequestType::ALL {
            assert!(workload.queries.iter().any(|query| query.kind == kind));
        }
        let node_of = |query: &&Query| query.kind == RequestType::NodePipByInstPip;
        let arguments: Vec<_> = workload.queries.iter().filter(node_of).collect();
        assert_eq!(arguments[0].argument, r#"{"1":"10.0.0.1"}"#);
        assert_eq!(arguments[1].argument, r#"{"0":"br1","1":"::1"}"#);
    }

    #[test]
    fn weights_are_respected() {
        let mix: Mix = "role=3,ping=1".parse().expect("a mix");
        let workload = Workload::of_mix(&mix, &names()).expect("names");
        let mut random = fastrand::Rng::with_seed(1);
        let pings = (0..40_000)
            .filter(|&number| {
                let query = workload.next(number, &mut random);
                workload.queries[query].kind == RequestType::Ping
            })
            .count();
        assert!((9_500..10_500).contains(&pings), "{pings}");
    }

    #[test]
    fn a_type_without_an_argument_is_an_error() {
        let mix: Mix = "disks".parse().expect("a mix");
        assert!(Workload::of_mix(&mix, &Names::default()).is_err());
    }
}

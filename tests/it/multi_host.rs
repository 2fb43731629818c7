//! Several hosts: five candidates that are killed, disconnected, slow, lossy, stale, demoted,
//! inconsistent or have a wrong clock, and how the client handles that.
//!
//! Every host has its own daemon and configuration; the last host's daemon is the reference. Each
//! test prints the client's answers and their latency (`--nocapture`).

mod network;
mod relay;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ganeti_confd::client::{
    Candidate, CandidateResult, CandidateStatus, ConfdClient, Coverage, Error, Outcome, Question,
    Settings, WaitFor, question,
};
use ganeti_confd::demo;
use ganeti_confd::protocol::reply::Status;
use network::{Family, HOSTS, KEY, Network};
use serde_json::{Value, json};

/// Timeout for daemons to start or to notice a new configuration.
const SETTLE_SECONDS_MAX: u64 = 20;
/// Repetitions of a query, since the first to answer varies.
const TIMES: usize = 20;
/// Deadline of a query. It is shorter than the default, because a query to a silent host takes the
/// whole time, and long enough for a busy machine.
const DEADLINE: Duration = Duration::from_secs(2);

/// A candidate's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostResult {
    /// An answer from a configuration with this serial.
    Serial(i64),
    /// An error answer.
    Error,
    Unreachable,
    Silent,
}
use HostResult::{Serial, Silent, Unreachable};

impl From<&CandidateResult> for HostResult {
    fn from(contact: &CandidateResult) -> Self {
        match &contact.state {
            CandidateStatus::Answered { reply, .. } if reply.status == Status::Ok => {
                Serial(reply.serial)
            }
            CandidateStatus::Answered { .. } => Self::Error,
            CandidateStatus::Unreachable(_) => Unreachable,
            CandidateStatus::Silent => Silent,
            other => panic!("no host sends such a reply: {other:?}"),
        }
    }
}

// ---- Configurations ----

/// The cluster's name, which contains the configuration's serial.
fn name(serial: i64) -> String {
    format!("serial{serial}.example.com")
}

/// The query for the cluster's name.
fn cluster_name() -> Question<Value> {
    question::config("/cluster/cluster_name")
}

/// A configuration of six nodes. The first are the candidates, with these addresses.
fn configuration(serial: i64, candidates: &[IpAddr]) -> Value {
    let text = demo::configuration(HOSTS + 1, 10, 1);
    let mut config: Value = serde_json::from_str(&text).expect("the demo's configuration is JSON");
    config["serial_no"] = json!(serial);
    config["cluster"]["serial_no"] = json!(serial);
    config["cluster"]["cluster_name"] = json!(name(serial));
    let nodes = config["nodes"]
        .as_object_mut()
        .expect("a cluster has nodes");
    for (index, node) in nodes.values_mut().enumerate() {
        let candidate = candidates.get(index);
        node["master_candidate"] = json!(candidate.is_some());
        if let Some(ip) = candidate {
            node["primary_ip"] = json!(ip);
        }
    }
    config
}

/// A network of hosts with configurations of these serials, without daemons.
fn hosts(family: Family, serials: [i64; HOSTS]) -> Option<Network> {
    let network = Network::new(family)?;
    let addresses = network.addresses();
    for (host, serial) in network.hosts.iter().zip(serials) {
        host.write_config(&configuration(serial, &addresses).to_string());
    }
    Some(network)
}

/// The same with running daemons.
fn cluster(family: Family, serials: [i64; HOSTS]) -> Option<Network> {
    let mut network = hosts(family, serials)?;
    for host in &mut network.hosts {
        host.start();
    }
    settle(&network, serials.map(Serial));
    Some(network)
}

/// Waits until every host has the expected result.
fn settle(network: &Network, expected: [HostResult; HOSTS]) {
    let client = network.client();
    let deadline = Instant::now() + Duration::from_secs(SETTLE_SECONDS_MAX);
    loop {
        let outcome = client
            .query_all_with(&cluster_name(), all_hosts())
            .expect("sockets");
        let results = host_results(network, &outcome);
        if results == expected {
            return;
        }
        let said = network.hosts.iter().map(network::Host::said);
        assert!(
            Instant::now() < deadline,
            "{results:?} instead of {expected:?}: {:#?}",
            said.collect::<Vec<_>>()
        );
        // No event reports what a daemon serves.
        thread::sleep(Duration::from_millis(20));
    }
}

// ---- What the client answers ----

/// Settings that query all candidates and wait for all.
fn all_hosts() -> Settings {
    Settings::default()
        .with_coverage(Coverage::All)
        .with_wait_for(WaitFor::All)
        .with_deadline(DEADLINE)
}

/// Each host's result, in the hosts' order. The client uses any order.
fn contacts<'a>(network: &Network, outcome: &'a Outcome) -> Vec<&'a CandidateResult> {
    let of = |candidate| {
        let mut contacts = outcome.results().iter();
        contacts.find(|contact| contact.candidate == candidate)
    };
    let contacts = network.candidates().into_iter().map(of);
    contacts
        .map(|it| it.expect("every host was queried"))
        .collect()
}

/// The hosts' results in their order.
fn host_results(network: &Network, outcome: &Outcome) -> Vec<HostResult> {
    let contacts = contacts(network, outcome);
    contacts.into_iter().map(HostResult::from).collect()
}

/// Prints the answers, their latency and their senders in one line.
fn report(scenario: &str, network: &Network, outcome: &Outcome) {
    let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let contact = |contact: &CandidateResult| match (HostResult::from(contact), &contact.state) {
        (results, CandidateStatus::Answered { after, .. }) => {
            format!("{results:?} after {}", milliseconds(*after))
        }
        (results, _) => format!("{results:?}, asked {} times", contact.sent),
    };
    let contacts: Vec<String> = contacts(network, outcome)
        .into_iter()
        .map(contact)
        .collect();
    println!(
        "{scenario}: {} in {}, {} needed: {}",
        outcome.best().map_or("no answer".to_owned(), |c| format!(
            "{:?}",
            HostResult::from(c)
        )),
        milliseconds(outcome.elapsed()),
        outcome.needed(),
        contacts.join("; ")
    );
}

/// Checks what holds for every outcome.
fn check(outcome: &Outcome) {
    assert_eq!((outcome.results().len(), outcome.needed()), (HOSTS, 3));
    assert!(outcome.is_enough());
    assert!(outcome.is_consistent());
    let replies = outcome.results().iter().filter_map(CandidateResult::reply);
    let newest = replies
        .filter(|reply| reply.status == Status::Ok)
        .map(|reply| reply.serial)
        .max()
        .expect("at least one host answers");
    let best = outcome
        .best()
        .and_then(CandidateResult::reply)
        .expect("an answer");
    assert_eq!(best.serial, newest);
    let answer = cluster_name().read(best).expect("an answer");
    assert_eq!(answer, json!(name(newest)));
}

/// The newest of these serials.
fn newest(expected: [HostResult; HOSTS]) -> HostResult {
    let serials = expected.into_iter().filter_map(|results| match results {
        Serial(serial) => Some(serial),
        _ => None,
    });
    Serial(serials.max().expect("at least one host answers"))
}

/// Repeats a query with the default settings. Returns how many of the answers were the newest one
/// that was expected.
///
/// On a busy machine a host may take longer than the client waits for it.
fn query(scenario: &str, network: &Network, expected: [HostResult; HOSTS]) -> usize {
    let client = network.client();
    let query_all = |_| client.query_all(&cluster_name()).expect("sockets");
    let outcomes: Vec<Outcome> = (0..TIMES).map(query_all).collect();
    let is_newest =
        |outcome: &&Outcome| outcome.best().map(HostResult::from) == Some(newest(expected));
    let newest = outcomes.iter().filter(is_newest).count();
    let slowest = outcomes.iter().max_by_key(|outcome| outcome.elapsed());
    report(
        &format!("{scenario}, newest {newest} times of {TIMES}, slowest"),
        network,
        slowest.expect("every host was queried"),
    );
    for outcome in &outcomes {
        check_enough(network, outcome, expected);
    }
    newest
}

/// Checks that each host has the expected result or was not waited for.
fn check_enough(network: &Network, outcome: &Outcome, expected: [HostResult; HOSTS]) {
    check(outcome);
    for (results, expected) in host_results(network, outcome).into_iter().zip(expected) {
        assert!(results == expected || results == Silent, "{results:?}");
    }
    assert!(outcome.elapsed() < Settings::default().deadline);
}

/// Queries all hosts and waits for all: each must have the expected result, and only a silent host
/// may take the whole time.
fn query_all_hosts(scenario: &str, network: &Network, expected: [HostResult; HOSTS]) -> Outcome {
    let outcome = network
        .client()
        .query_all_with(&cluster_name(), all_hosts())
        .expect("sockets");
    report(&format!("{scenario}, waiting for all"), network, &outcome);
    check_all_hosts(network, &outcome, expected);
    outcome
}

fn check_all_hosts(network: &Network, outcome: &Outcome, expected: [HostResult; HOSTS]) {
    check(outcome);
    assert_eq!(host_results(network, outcome), expected);
    let waited = outcome.elapsed() >= DEADLINE;
    assert_eq!(waited, expected.contains(&Silent));
}

/// Does both, for scenarios in which every host that answers does so in time.
fn query_both_ways(scenario: &str, network: &Network, expected: [HostResult; HOSTS]) {
    let newest = query(scenario, network, expected);
    assert!(newest > TIMES / 4, "newest {newest} times of {TIMES}");
    query_all_hosts(scenario, network, expected);
}

// ---- Scenarios ----

#[test]
fn healthy_hosts() {
    let Some(network) = cluster(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    query_both_ways("all well", &network, [Serial(7); HOSTS]);
}

#[test]
fn killed_hosts() {
    let Some(mut network) = cluster(Family::Ipv4, [7, 7, 7, 7, 8]) else {
        return;
    };
    network.hosts[0].kill();
    let mut expected = [Unreachable, Serial(7), Serial(7), Serial(7), Serial(8)];
    query_both_ways("one killed", &network, expected);
    network.hosts[4].kill();
    expected[4] = Unreachable;
    query_both_ways("the newest killed, too", &network, expected);

    // As on real hosts, which send at most one ICMP error per second and so may seem silent to a
    // client that sends more often.
    network.hosts[0].refuse_at_most_every(Duration::from_secs(1));
    query("killed, and sparing of words", &network, expected);
}

/// Threads that share a client: an ICMP error that one of them receives must not count for the
/// others.
#[test]
fn killed_for_many_threads() {
    let Some(mut network) = cluster(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    network.hosts[0].kill();
    network.hosts[4].kill();
    let expected = [Unreachable, Serial(7), Serial(7), Serial(7), Unreachable];
    let client = network.client();
    let query_all = || client.query_all_with(&cluster_name(), all_hosts());
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let threads: Vec<_> = (0..TIMES).map(|_| scope.spawn(query_all)).collect();
        let outcome = threads.into_iter().map(|it| it.join().expect("no panic"));
        outcome.map(|it| it.expect("sockets")).collect()
    });
    let quickest = outcomes.iter().min_by_key(|outcome| outcome.elapsed());
    let quickest = quickest.expect("they asked");
    report("two killed, quickest of many threads", &network, quickest);
    for outcome in &outcomes {
        check_all_hosts(&network, outcome, expected);
        assert!(contacts(&network, outcome)[0].sent > 1);
    }
}

#[test]
fn disconnected_hosts() {
    let Some(network) = cluster(Family::Ipv4, [7, 7, 8, 7, 7]) else {
        return;
    };
    network.hosts[0].disconnect();
    let mut expected = [Silent, Serial(7), Serial(8), Serial(7), Serial(7)];
    query_both_ways("one disconnected", &network, expected);
    network.hosts[4].firewall();
    expected[4] = Silent;
    query_both_ways("one disconnected, one firewalled", &network, expected);

    network.hosts[2].disconnect();
    let settings = Settings::default().with_deadline(DEADLINE);
    let client = network.client().with_settings(settings);
    let Err(Error::TooFewReplies(outcome)) = client.ask(&cluster_name()) else {
        panic!("two answers of five are too few");
    };
    report("three cut off", &network, &outcome);
    expected[2] = Silent;
    assert_eq!(host_results(&network, &outcome), expected);
    assert!(outcome.elapsed() >= DEADLINE);

    network.hosts[1].disconnect();
    network.hosts[3].disconnect();
    let Err(Error::NoReply(outcome)) = client.ask(&cluster_name()) else {
        panic!("no host can answer");
    };
    report("all cut off", &network, &outcome);

    for host in &network.hosts {
        host.reconnect();
    }
    settle(
        &network,
        [Serial(7), Serial(7), Serial(8), Serial(7), Silent],
    );
}

/// The client's kernel has no link address for a host that has been off for some time. It detects
/// that within about three seconds.
#[test]
fn a_host_that_has_been_off_for_some_time() {
    let Some(network) = cluster(Family::Ipv4, [7, 7, 8, 7, 7]) else {
        return;
    };
    network.hosts[0].disconnect();
    network.forget_neighbours();
    let expected = [Unreachable, Serial(7), Serial(8), Serial(7), Serial(7)];
    let outcome = network.client().query_all_with(
        &cluster_name(),
        all_hosts().with_deadline(Duration::from_secs(20)),
    );
    let outcome = outcome.expect("sockets");
    report("one off for long, waiting for all", &network, &outcome);
    check(&outcome);
    assert_eq!(host_results(&network, &outcome), expected);
}

#[test]
fn a_slow_host() {
    let Some(mut network) = hosts(Family::Ipv4, [8, 7, 7, 7, 7]) else {
        return;
    };
    network.hosts[0].start_slow(Duration::from_millis(300));
    for host in &mut network.hosts[1..] {
        host.start();
    }
    let expected = [Serial(8), Serial(7), Serial(7), Serial(7), Serial(7)];
    settle(&network, expected);
    // The host with the newest configuration takes longer than the client waits, because the others
    // are fast.
    let newest = query("the newest slow", &network, expected);
    assert!(newest < TIMES / 2, "newest {newest} times of {TIMES}");
    query_all_hosts("the newest slow", &network, expected);
}

/// The client waits for hosts that are as slow as most.
#[test]
fn a_host_as_slow_as_most() {
    let Some(mut network) = hosts(Family::Ipv4, [8, 7, 7, 7, 7]) else {
        return;
    };
    for (host, delay) in network.hosts.iter_mut().zip([250, 150, 150, 150, 0]) {
        match delay {
            0 => host.start(),
            _ => host.start_slow(Duration::from_millis(delay)),
        }
    }
    let expected = [Serial(8), Serial(7), Serial(7), Serial(7), Serial(7)];
    settle(&network, expected);
    query_both_ways("the newest slow as most", &network, expected);
}

/// The client waits for hosts with a configuration, even after enough others have reported that
/// they have none.
#[test]
fn demoted_and_slow_hosts() {
    let Some(mut network) = hosts(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    for host in &mut network.hosts[..2] {
        host.start_slow(Duration::from_millis(100));
    }
    for host in &mut network.hosts[2..] {
        host.remove_config();
        host.start();
    }
    let error = HostResult::Error;
    let expected = [Serial(7), Serial(7), error, error, error];
    settle(&network, expected);
    query_both_ways("three demoted, the others slow", &network, expected);
}

#[test]
fn a_lossy_network() {
    const QUERIES: usize = 50;
    let Some(network) = cluster(Family::Ipv4, [7, 7, 7, 8, 7]) else {
        return;
    };
    network.lose(20);
    let client = network.client();
    let started = Instant::now();
    let (mut sent, mut newest, mut slowest) = (0, 0, Duration::ZERO);
    for _ in 0..QUERIES {
        let outcome = client.query_all(&cluster_name()).expect("sockets");
        check(&outcome);
        sent += outcome.results().iter().map(|c| c.sent).sum::<usize>();
        newest += usize::from(outcome.best().map(HostResult::from) == Some(Serial(8)));
        slowest = slowest.max(outcome.elapsed());
    }
    println!(
        "lossy: {QUERIES} of {QUERIES} queries answered in {:.2} s, slowest {} ms, {sent} requests; {newest} by the one newest host",
        started.elapsed().as_secs_f64(),
        slowest.as_millis()
    );
    assert!(sent > QUERIES * HOSTS, "nothing was lost");

    // Thirteen requests; the probability that the newest host answers none of them is 1 in 600,000.
    let settings = all_hosts().with_deadline(Duration::from_secs(20));
    let outcome = client.query_all_with(&cluster_name(), settings);
    let outcome = outcome.expect("sockets");
    report("lossy, waiting for all", &network, &outcome);
    check(&outcome);
    assert_eq!(outcome.best().map(HostResult::from), Some(Serial(8)));
}

#[test]
fn stale_hosts() {
    let Some(network) = cluster(Family::Ipv4, [9, 5, 9, 9, 9]) else {
        return;
    };
    query_both_ways(
        "one stale",
        &network,
        [Serial(9), Serial(5), Serial(9), Serial(9), Serial(9)],
    );
    let stale = configuration(3, &network.addresses()).to_string();
    network.hosts[4].write_config(&stale);
    let expected = [Serial(9), Serial(5), Serial(9), Serial(9), Serial(3)];
    settle(&network, expected);
    query_both_ways("two stale", &network, expected);
}

#[test]
fn a_host_with_a_wrong_clock() {
    let Some(mut network) = hosts(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    network.hosts[1].start_with_clock("-600s");
    for index in [0, 2, 3, 4] {
        network.hosts[index].start();
    }
    let expected = [Serial(7), Silent, Serial(7), Serial(7), Serial(7)];
    settle(&network, expected);
    query_both_ways("a clock off by ten minutes", &network, expected);
}

#[test]
fn demoted_hosts() {
    let Some(network) = cluster(Family::Ipv4, [7, 7, 7, 7, 8]) else {
        return;
    };
    network.hosts[3].remove_config();
    let expected = [
        Serial(7),
        Serial(7),
        Serial(7),
        HostResult::Error,
        Serial(8),
    ];
    settle(&network, expected);
    query_both_ways("one demoted", &network, expected);
    network.hosts[4].remove_config();
    let expected = [
        Serial(7),
        Serial(7),
        Serial(7),
        HostResult::Error,
        HostResult::Error,
    ];
    settle(&network, expected);
    query_both_ways("two demoted, one of them the newest", &network, expected);
    network.hosts[0].remove_config();
    let expected = [
        HostResult::Error,
        Serial(7),
        Serial(7),
        HostResult::Error,
        HostResult::Error,
    ];
    settle(&network, expected);
    query_both_ways("three demoted", &network, expected);
}

/// Two of five hosts are newer or older; the last one is the reference.
#[test]
fn two_versions_of_a_configuration() {
    for (scenario, serials) in [
        ("two newer", [9, 9, 4, 4, 4]),
        ("two older", [4, 4, 9, 9, 9]),
        ("the reference alone newer", [4, 4, 4, 4, 9]),
        ("the reference alone older", [9, 9, 9, 9, 4]),
    ] {
        let Some(network) = cluster(Family::Ipv4, serials) else {
            return;
        };
        query_both_ways(scenario, &network, serials.map(Serial));
    }
}

#[test]
fn different_answers_with_the_same_serial() {
    let Some(network) = cluster(Family::Ipv4, [9, 9, 9, 9, 4]) else {
        return;
    };
    let mut other = configuration(9, &network.addresses());
    other["cluster"]["cluster_name"] = json!("other.example.com");
    network.hosts[4].write_config(&other.to_string());
    settle(&network, [Serial(9); HOSTS]);
    let client = network.client();
    let outcome = client.query_all_with(&cluster_name(), all_hosts());
    let outcome = outcome.expect("sockets");
    report("different answers, same serial", &network, &outcome);
    assert!(!outcome.is_consistent());
    // Where their answers agree, the outcome is consistent.
    let outcome = client.query_all_with(&question::cluster_master(), all_hosts());
    assert!(outcome.expect("sockets").is_consistent());

    // Once one host is newer, older answers do not matter.
    network.hosts[1].write_config(&configuration(10, &network.addresses()).to_string());
    let expected = [Serial(9), Serial(10), Serial(9), Serial(9), Serial(9)];
    settle(&network, expected);
    query_all_hosts("different answers, one newer", &network, expected);
}

#[test]
fn ipv6() {
    let Some(mut network) = cluster(Family::Ipv6, [7, 7, 7, 7, 8]) else {
        return;
    };
    let mut expected = [Serial(7), Serial(7), Serial(7), Serial(7), Serial(8)];
    query_both_ways("over IPv6", &network, expected);
    network.hosts[0].kill();
    expected[0] = Unreachable;
    query_both_ways("over IPv6, one killed", &network, expected);
    network.hosts[1].disconnect();
    expected[1] = Silent;
    query_both_ways("over IPv6, one killed, one cut off", &network, expected);
}

/// Refreshes the client's candidates. Returns them by name.
fn refreshed(client: &ConfdClient) -> Vec<Candidate> {
    let mut list = client.refresh_candidates().expect("an answer");
    assert_eq!(list, client.candidates());
    list.sort_by(|a, b| a.name().cmp(b.name()));
    let names: Vec<_> = list.iter().map(Candidate::name).collect();
    println!("candidates: {}", names.join(", "));
    list
}

#[test]
fn the_candidate_list_is_followed() {
    let Some(mut network) = hosts(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    let addresses = network.addresses();
    let candidates = network.candidates();
    // The fifth host is not a candidate yet: it has no configuration.
    for host in &network.hosts[..4] {
        host.write_config(&configuration(7, &addresses[..4]).to_string());
    }
    network.hosts[4].remove_config();
    for host in &mut network.hosts {
        host.start();
    }
    let [a, b, c, d] = [Serial(7); 4];
    settle(&network, [a, b, c, d, HostResult::Error]);
    let client = ConfdClient::new(KEY, candidates[..2].to_vec()).expect("sockets");
    assert_eq!(refreshed(&client), candidates[..4]);

    // Added.
    for host in &network.hosts {
        host.write_config(&configuration(8, &addresses).to_string());
    }
    settle(&network, [Serial(8); HOSTS]);
    assert_eq!(refreshed(&client), candidates);

    // The last two are removed; one of them keeps an old configuration.
    for host in &network.hosts[..3] {
        host.write_config(&configuration(9, &addresses[..3]).to_string());
    }
    network.hosts[3].remove_config();
    let expected = [
        Serial(9),
        Serial(9),
        Serial(9),
        HostResult::Error,
        Serial(8),
    ];
    settle(&network, expected);
    assert_eq!(refreshed(&client), candidates[..3]);

    // A client that knows only the host with the old configuration learns of the others, and from
    // them of the newest list.
    let client = ConfdClient::new(KEY, [candidates[4].clone()]).expect("sockets");
    assert_eq!(refreshed(&client), candidates);
    assert_eq!(refreshed(&client), candidates[..3]);

    // When no candidate of the list answers, the client queries the candidates that it started
    // with.
    for host in &mut network.hosts[..3] {
        host.kill();
    }
    let silence = client.cluster_master().expect_err("no candidate answers");
    println!("candidates: {silence}");
    assert!(matches!(silence, Error::NoReply(_)));
    assert_eq!(refreshed(&client), candidates);
}

#[cfg(feature = "async")]
#[test]
fn the_asynchronous_client() {
    use ganeti_confd::client::AsyncConfdClient;

    let Some(mut network) = cluster(Family::Ipv4, [7, 7, 8, 7, 7]) else {
        return;
    };
    network.hosts[0].kill();
    network.hosts[1].disconnect();
    let expected = [Unreachable, Silent, Serial(8), Serial(7), Serial(7)];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (enough, all) = runtime.block_on(async {
        let client = AsyncConfdClient::new(KEY, network.candidates()).expect("sockets");
        let question = cluster_name();
        tokio::join!(
            client.query_all(&question),
            client.query_all_with(&question, all_hosts())
        )
    });
    let (enough, all) = (enough.expect("sockets"), all.expect("sockets"));
    report("asynchronously", &network, &enough);
    report("asynchronously, waiting for all", &network, &all);
    check_enough(&network, &enough, expected);
    check_all_hosts(&network, &all, expected);
}

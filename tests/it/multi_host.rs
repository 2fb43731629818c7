//! Several hosts: five candidates that are killed, cut off, slow, lossy, stale, wrong about the time, demoted or at odds, and what
//! the client makes of it.
//!
//! Every host has a daemon and a configuration of its own; the last host's daemon is the reference. Each test prints what the client
//! answered and how soon (`--nocapture`).

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

/// How long daemons may take to start, or to notice a new configuration.
const SETTLE_SECONDS_MAX: u64 = 20;
/// How often the same is asked, since who answers first is different every time.
const TIMES: usize = 20;
/// Not as long as the default, since every call that waits for a silent host takes it all; longer than a busy machine stands still.
const DEADLINE: Duration = Duration::from_secs(2);

/// How a candidate fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fared {
    /// It answered from a configuration with this serial.
    Serial(i64),
    /// It answered an error.
    Error,
    Unreachable,
    Silent,
}
use Fared::{Serial, Silent, Unreachable};

impl From<&CandidateResult> for Fared {
    fn from(contact: &CandidateResult) -> Self {
        match &contact.state {
            CandidateStatus::Answered { reply, .. } if reply.status == Status::Ok => {
                Serial(reply.serial)
            }
            CandidateStatus::Answered { .. } => Self::Error,
            CandidateStatus::Unreachable(_) => Unreachable,
            CandidateStatus::Silent => Silent,
        }
    }
}

// ------------ Configurations ---------------------------------------------------------------------------------------

/// The cluster's name, which stands in every configuration and tells its serial.
fn name(serial: i64) -> String {
    format!("serial{serial}.example.com")
}

/// The question for it.
fn cluster_name() -> Question<Value> {
    question::config("/cluster/cluster_name")
}

/// A configuration of six nodes; the first are the candidates, at these addresses.
fn configuration(serial: i64, candidates: &[IpAddr]) -> Value {
    let text = demo::configuration(HOSTS + 1, 10, 1);
    let mut config: Value = serde_json::from_str(&text).expect("the demo's configuration is JSON");
    config["serial_no"] = json!(serial);
    config["cluster"]["serial_no"] = json!(serial);
    config["cluster"]["cluster_name"] = json!(name(serial));
    let nodes = config["nodes"].as_object_mut().expect("there are nodes");
    for (index, node) in nodes.values_mut().enumerate() {
        let candidate = candidates.get(index);
        node["master_candidate"] = json!(candidate.is_some());
        if let Some(ip) = candidate {
            node["primary_ip"] = json!(ip);
        }
    }
    config
}

/// A network whose hosts have configurations of these serials, and no daemons yet.
fn hosts(family: Family, serials: [i64; HOSTS]) -> Option<Network> {
    let network = Network::new(family)?;
    let addresses = network.addresses();
    for (host, serial) in network.hosts.iter().zip(serials) {
        host.write_config(&configuration(serial, &addresses).to_string());
    }
    Some(network)
}

/// The same with daemons that answer.
fn cluster(family: Family, serials: [i64; HOSTS]) -> Option<Network> {
    let mut network = hosts(family, serials)?;
    for host in &mut network.hosts {
        host.start();
    }
    settle(&network, serials.map(Serial));
    Some(network)
}

/// Waits until every host fares as expected.
fn settle(network: &Network, expected: [Fared; HOSTS]) {
    let client = network.client();
    let deadline = Instant::now() + Duration::from_secs(SETTLE_SECONDS_MAX);
    loop {
        let outcome = client
            .query_all_with(&cluster_name(), everybody())
            .expect("sockets");
        let fared = fared(network, &outcome);
        if fared == expected {
            return;
        }
        let said = network.hosts.iter().map(network::Host::said);
        assert!(
            Instant::now() < deadline,
            "{expected:?} is not reached, but {fared:?}: {:#?}",
            said.collect::<Vec<_>>()
        );
        // There is no event for what a daemon serves.
        thread::sleep(Duration::from_millis(20));
    }
}

// ------------ What the client answers ------------------------------------------------------------------------------

/// Everybody is asked, and waited for.
fn everybody() -> Settings {
    Settings {
        coverage: Coverage::All,
        patience: WaitFor::All,
        deadline: DEADLINE,
    }
}

/// What came back from each host, in the hosts' order; a client asks in any order.
fn contacts<'a>(network: &Network, outcome: &'a Outcome) -> Vec<&'a CandidateResult> {
    let of = |candidate| {
        let mut contacts = outcome.results().iter();
        contacts.find(|contact| contact.candidate == candidate)
    };
    let contacts = network.candidates().into_iter().map(of);
    contacts.map(|it| it.expect("it was asked")).collect()
}

/// How the hosts fared, in their order.
fn fared(network: &Network, outcome: &Outcome) -> Vec<Fared> {
    let contacts = contacts(network, outcome);
    contacts.into_iter().map(Fared::from).collect()
}

/// Says in one line what was answered, how soon, and by whom.
fn report(scenario: &str, network: &Network, outcome: &Outcome) {
    let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let contact = |contact: &CandidateResult| match (Fared::from(contact), &contact.state) {
        (fared, CandidateStatus::Answered { after, .. }) => {
            format!("{fared:?} after {}", milliseconds(*after))
        }
        (fared, _) => format!("{fared:?}, asked {} times", contact.sent),
    };
    let contacts: Vec<String> = contacts(network, outcome)
        .into_iter()
        .map(contact)
        .collect();
    println!(
        "{scenario}: {} in {}, {} needed: {}",
        outcome
            .best()
            .map_or("no answer".to_owned(), |c| format!("{:?}", Fared::from(c))),
        milliseconds(outcome.elapsed()),
        outcome.needed(),
        contacts.join("; ")
    );
}

/// What every outcome must be, whoever was waited for.
fn check(outcome: &Outcome) {
    assert_eq!((outcome.results().len(), outcome.needed()), (HOSTS, 3));
    assert!(outcome.is_enough());
    assert!(outcome.is_consistent());
    let replies = outcome.results().iter().filter_map(CandidateResult::reply);
    let newest = replies
        .filter(|reply| reply.status == Status::Ok)
        .map(|reply| reply.serial)
        .max()
        .expect("somebody has an answer");
    let best = outcome
        .best()
        .and_then(CandidateResult::reply)
        .expect("an answer");
    assert_eq!(best.serial, newest);
    let answer = cluster_name().read(best).expect("an answer");
    assert_eq!(answer, json!(name(newest)));
}

/// The newest serial of these.
fn newest(expected: [Fared; HOSTS]) -> Fared {
    let serials = expected.into_iter().filter_map(|fared| match fared {
        Serial(serial) => Some(serial),
        _ => None,
    });
    Serial(serials.max().expect("somebody has an answer"))
}

/// Asks with the default settings, many times; gives how many of the answers were the newest of those expected.
///
/// On a busy machine a host may take longer for once than anybody waits for it.
fn ask(scenario: &str, network: &Network, expected: [Fared; HOSTS]) -> usize {
    let client = network.client();
    let survey = |_| client.query_all(&cluster_name()).expect("sockets");
    let outcomes: Vec<Outcome> = (0..TIMES).map(survey).collect();
    let is_newest = |outcome: &&Outcome| outcome.best().map(Fared::from) == Some(newest(expected));
    let newest = outcomes.iter().filter(is_newest).count();
    let slowest = outcomes.iter().max_by_key(|outcome| outcome.elapsed());
    report(
        &format!("{scenario}, newest {newest} times of {TIMES}, slowest"),
        network,
        slowest.expect("it was asked"),
    );
    for outcome in &outcomes {
        check_enough(network, outcome, expected);
    }
    newest
}

/// Hosts fare as expected or are not waited for.
fn check_enough(network: &Network, outcome: &Outcome, expected: [Fared; HOSTS]) {
    check(outcome);
    for (fared, expected) in fared(network, outcome).into_iter().zip(expected) {
        assert!(fared == expected || fared == Silent, "{fared:?}");
    }
    assert!(outcome.elapsed() < Settings::default().deadline);
}

/// Asks everybody and waits for everybody: all must fare as expected, and only silence may take the whole time.
fn ask_everybody(scenario: &str, network: &Network, expected: [Fared; HOSTS]) -> Outcome {
    let outcome = network
        .client()
        .query_all_with(&cluster_name(), everybody())
        .expect("sockets");
    report(&format!("{scenario}, waiting for all"), network, &outcome);
    check_everybody(network, &outcome, expected);
    outcome
}

fn check_everybody(network: &Network, outcome: &Outcome, expected: [Fared; HOSTS]) {
    check(outcome);
    assert_eq!(fared(network, outcome), expected);
    let waited = outcome.elapsed() >= DEADLINE;
    assert_eq!(waited, expected.contains(&Silent));
}

/// Both, where all that answer at all do so in time.
fn ask_both_ways(scenario: &str, network: &Network, expected: [Fared; HOSTS]) {
    let newest = ask(scenario, network, expected);
    assert!(newest > TIMES / 4, "newest {newest} times of {TIMES}");
    ask_everybody(scenario, network, expected);
}

// ------------ Scenarios --------------------------------------------------------------------------------------------

#[test]
fn all_well() {
    let Some(network) = cluster(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    ask_both_ways("all well", &network, [Serial(7); HOSTS]);
}

#[test]
fn killed() {
    let Some(mut network) = cluster(Family::Ipv4, [7, 7, 7, 7, 8]) else {
        return;
    };
    network.hosts[0].kill();
    let mut expected = [Unreachable, Serial(7), Serial(7), Serial(7), Serial(8)];
    ask_both_ways("one killed", &network, expected);
    network.hosts[4].kill();
    expected[4] = Unreachable;
    ask_both_ways("the newest killed, too", &network, expected);

    // As hosts really are: they say so once a second, so that they may seem silent to a client that asks more often.
    network.hosts[0].refuse_at_most_every(Duration::from_secs(1));
    ask("killed, and sparing of words", &network, expected);
}

/// Many threads share a client: what one hears of a killed host is no second time for the others.
#[test]
fn killed_for_many_threads() {
    let Some(mut network) = cluster(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    network.hosts[0].kill();
    network.hosts[4].kill();
    let expected = [Unreachable, Serial(7), Serial(7), Serial(7), Unreachable];
    let client = network.client();
    let survey = || client.query_all_with(&cluster_name(), everybody());
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let threads: Vec<_> = (0..TIMES).map(|_| scope.spawn(survey)).collect();
        let outcome = threads.into_iter().map(|it| it.join().expect("no panic"));
        outcome.map(|it| it.expect("sockets")).collect()
    });
    let quickest = outcomes.iter().min_by_key(|outcome| outcome.elapsed());
    let quickest = quickest.expect("they asked");
    report("two killed, quickest of many threads", &network, quickest);
    for outcome in &outcomes {
        check_everybody(&network, outcome, expected);
        assert!(contacts(&network, outcome)[0].sent > 1);
    }
}

#[test]
fn cut_off() {
    let Some(network) = cluster(Family::Ipv4, [7, 7, 8, 7, 7]) else {
        return;
    };
    network.hosts[0].cut();
    let mut expected = [Silent, Serial(7), Serial(8), Serial(7), Serial(7)];
    ask_both_ways("one cut off", &network, expected);
    network.hosts[4].wall_off();
    expected[4] = Silent;
    ask_both_ways("one cut off, one behind a firewall", &network, expected);

    network.hosts[2].cut();
    let settings = Settings {
        deadline: DEADLINE,
        ..Settings::default()
    };
    let client = network.client().with_settings(settings);
    let Err(Error::TooFewReplies(outcome)) = client.ask(&cluster_name()) else {
        panic!("two answers of five are too few");
    };
    report("three cut off", &network, &outcome);
    expected[2] = Silent;
    assert_eq!(fared(&network, &outcome), expected);
    assert!(outcome.elapsed() >= DEADLINE);

    network.hosts[1].cut();
    network.hosts[3].cut();
    let Err(Error::Silence(outcome)) = client.ask(&cluster_name()) else {
        panic!("nobody can answer");
    };
    report("all cut off", &network, &outcome);

    for host in &network.hosts {
        host.mend();
    }
    settle(
        &network,
        [Serial(7), Serial(7), Serial(8), Serial(7), Silent],
    );
}

/// The client's kernel does not know the way to a host that has been off for a while. It finds that out, in about three seconds.
#[test]
fn off_for_long() {
    let Some(network) = cluster(Family::Ipv4, [7, 7, 8, 7, 7]) else {
        return;
    };
    network.hosts[0].cut();
    network.forget_neighbours();
    let expected = [Unreachable, Serial(7), Serial(8), Serial(7), Serial(7)];
    let outcome = network.client().query_all_with(
        &cluster_name(),
        Settings {
            deadline: Duration::from_secs(20),
            ..everybody()
        },
    );
    let outcome = outcome.expect("sockets");
    report("one off for long, waiting for all", &network, &outcome);
    check(&outcome);
    assert_eq!(fared(&network, &outcome), expected);
}

#[test]
fn slow() {
    let Some(mut network) = hosts(Family::Ipv4, [8, 7, 7, 7, 7]) else {
        return;
    };
    network.hosts[0].start_slow(Duration::from_millis(300));
    for host in &mut network.hosts[1..] {
        host.start();
    }
    let expected = [Serial(8), Serial(7), Serial(7), Serial(7), Serial(7)];
    settle(&network, expected);
    // The newest takes longer than anybody waits for it when the others are so quick.
    let newest = ask("the newest slow", &network, expected);
    assert!(newest < TIMES / 2, "newest {newest} times of {TIMES}");
    ask_everybody("the newest slow", &network, expected);
}

/// Those who are as slow as most are waited for.
#[test]
fn slow_as_the_others() {
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
    ask_both_ways("the newest slow as most", &network, expected);
}

/// Those who have a configuration are waited for, though enough have said that they have none.
#[test]
fn demoted_and_slow() {
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
    let error = Fared::Error;
    let expected = [Serial(7), Serial(7), error, error, error];
    settle(&network, expected);
    ask_both_ways("three demoted, the others slow", &network, expected);
}

#[test]
fn lossy() {
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
        newest += usize::from(outcome.best().map(Fared::from) == Some(Serial(8)));
        slowest = slowest.max(outcome.elapsed());
    }
    println!(
        "lossy: {QUERIES} of {QUERIES} queries answered in {:.2} s, slowest {} ms, {sent} requests; {newest} by the one newest host",
        started.elapsed().as_secs_f64(),
        slowest.as_millis()
    );
    assert!(sent > QUERIES * HOSTS, "nothing was lost");

    // Thirteen requests; that the newest host answers none of them happens once in 600,000 times.
    let settings = Settings {
        deadline: Duration::from_secs(20),
        ..everybody()
    };
    let outcome = client.query_all_with(&cluster_name(), settings);
    let outcome = outcome.expect("sockets");
    report("lossy, waiting for all", &network, &outcome);
    check(&outcome);
    assert_eq!(outcome.best().map(Fared::from), Some(Serial(8)));
}

#[test]
fn stale() {
    let Some(network) = cluster(Family::Ipv4, [9, 5, 9, 9, 9]) else {
        return;
    };
    ask_both_ways(
        "one stale",
        &network,
        [Serial(9), Serial(5), Serial(9), Serial(9), Serial(9)],
    );
    let stale = configuration(3, &network.addresses()).to_string();
    network.hosts[4].write_config(&stale);
    let expected = [Serial(9), Serial(5), Serial(9), Serial(9), Serial(3)];
    settle(&network, expected);
    ask_both_ways("two stale", &network, expected);
}

#[test]
fn clock_off() {
    let Some(mut network) = hosts(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    network.hosts[1].start_with_clock("-600s");
    for index in [0, 2, 3, 4] {
        network.hosts[index].start();
    }
    let expected = [Serial(7), Silent, Serial(7), Serial(7), Serial(7)];
    settle(&network, expected);
    ask_both_ways("a clock off by ten minutes", &network, expected);
}

#[test]
fn demoted() {
    let Some(network) = cluster(Family::Ipv4, [7, 7, 7, 7, 8]) else {
        return;
    };
    network.hosts[3].remove_config();
    let expected = [Serial(7), Serial(7), Serial(7), Fared::Error, Serial(8)];
    settle(&network, expected);
    ask_both_ways("one demoted", &network, expected);
    network.hosts[4].remove_config();
    let expected = [Serial(7), Serial(7), Serial(7), Fared::Error, Fared::Error];
    settle(&network, expected);
    ask_both_ways("two demoted, one of them the newest", &network, expected);
    network.hosts[0].remove_config();
    let expected = [
        Fared::Error,
        Serial(7),
        Serial(7),
        Fared::Error,
        Fared::Error,
    ];
    settle(&network, expected);
    ask_both_ways("three demoted", &network, expected);
}

/// Two of five are newer, or older; the last is the reference.
#[test]
fn split() {
    for (scenario, serials) in [
        ("two newer", [9, 9, 4, 4, 4]),
        ("two older", [4, 4, 9, 9, 9]),
        ("the reference alone newer", [4, 4, 4, 4, 9]),
        ("the reference alone older", [9, 9, 9, 9, 4]),
    ] {
        let Some(network) = cluster(Family::Ipv4, serials) else {
            return;
        };
        ask_both_ways(scenario, &network, serials.map(Serial));
    }
}

#[test]
fn at_odds_under_one_serial() {
    let Some(network) = cluster(Family::Ipv4, [9, 9, 9, 9, 4]) else {
        return;
    };
    let mut other = configuration(9, &network.addresses());
    other["cluster"]["cluster_name"] = json!("other.example.com");
    network.hosts[4].write_config(&other.to_string());
    settle(&network, [Serial(9); HOSTS]);
    let client = network.client();
    let outcome = client.query_all_with(&cluster_name(), everybody());
    let outcome = outcome.expect("sockets");
    report("at odds under one serial", &network, &outcome);
    assert!(!outcome.is_consistent());
    // What they agree about is no matter of doubt.
    let outcome = client.query_all_with(&question::cluster_master(), everybody());
    assert!(outcome.expect("sockets").is_consistent());

    // Once somebody is newer, nobody's older answer matters.
    network.hosts[1].write_config(&configuration(10, &network.addresses()).to_string());
    let expected = [Serial(9), Serial(10), Serial(9), Serial(9), Serial(9)];
    settle(&network, expected);
    ask_everybody("at odds, but one is newer", &network, expected);
}

#[test]
fn over_ipv6() {
    let Some(mut network) = cluster(Family::Ipv6, [7, 7, 7, 7, 8]) else {
        return;
    };
    let mut expected = [Serial(7), Serial(7), Serial(7), Serial(7), Serial(8)];
    ask_both_ways("over IPv6", &network, expected);
    network.hosts[0].kill();
    expected[0] = Unreachable;
    ask_both_ways("over IPv6, one killed", &network, expected);
    network.hosts[1].cut();
    expected[1] = Silent;
    ask_both_ways("over IPv6, one killed, one cut off", &network, expected);
}

#[test]
fn candidates_are_followed() {
    let Some(mut network) = hosts(Family::Ipv4, [7; HOSTS]) else {
        return;
    };
    let addresses = network.addresses();
    let candidates = network.candidates();
    // The fifth is no candidate yet: it has no configuration.
    for host in &network.hosts[..4] {
        host.write_config(&configuration(7, &addresses[..4]).to_string());
    }
    network.hosts[4].remove_config();
    for host in &mut network.hosts {
        host.start();
    }
    let [a, b, c, d] = [Serial(7); 4];
    settle(&network, [a, b, c, d, Fared::Error]);
    let client = ConfdClient::new(KEY, candidates[..2].to_vec()).expect("sockets");
    let refreshed = |client: &ConfdClient| {
        let mut list = client.refresh_candidates().expect("an answer");
        assert_eq!(list, client.candidates());
        list.sort_by(|a, b| a.name().cmp(b.name()));
        println!(
            "candidates: {}",
            list.iter()
                .map(Candidate::name)
                .collect::<Vec<_>>()
                .join(", ")
        );
        list
    };
    assert_eq!(refreshed(&client), candidates[..4]);

    // Added.
    for host in &network.hosts {
        host.write_config(&configuration(8, &addresses).to_string());
    }
    settle(&network, [Serial(8); HOSTS]);
    assert_eq!(refreshed(&client), candidates);

    // The last two are removed; one of them stays behind with an old configuration.
    for host in &network.hosts[..3] {
        host.write_config(&configuration(9, &addresses[..3]).to_string());
    }
    network.hosts[3].remove_config();
    let expected = [Serial(9), Serial(9), Serial(9), Fared::Error, Serial(8)];
    settle(&network, expected);
    assert_eq!(refreshed(&client), candidates[..3]);

    // Who knows only the one that stayed behind is led to the others, and by them to the newest list.
    let client = ConfdClient::new(KEY, [candidates[4].clone()]).expect("sockets");
    assert_eq!(refreshed(&client), candidates);
    assert_eq!(refreshed(&client), candidates[..3]);

    // When nobody of the list answers any more, those are asked that the client began with.
    for host in &mut network.hosts[..3] {
        host.kill();
    }
    let silence = client.cluster_master().expect_err("nobody is there");
    println!("candidates: {silence}");
    assert!(matches!(silence, Error::Silence(_)));
    assert_eq!(refreshed(&client), candidates);
}

#[cfg(feature = "async")]
#[test]
fn asynchronously() {
    use ganeti_confd::client::AsyncConfdClient;

    let Some(mut network) = cluster(Family::Ipv4, [7, 7, 8, 7, 7]) else {
        return;
    };
    network.hosts[0].kill();
    network.hosts[1].cut();
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
            client.query_all_with(&question, everybody())
        )
    });
    let (enough, all) = (enough.expect("sockets"), all.expect("sockets"));
    report("asynchronously", &network, &enough);
    report("asynchronously, waiting for all", &network, &all);
    check_enough(&network, &enough, expected);
    check_everybody(&network, &all, expected);
}

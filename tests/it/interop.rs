//! Interoperability: every client with every daemon, for all queries. All get the same answers.
//!
//! The clients are this project's, blocking and asynchronous, and Ganeti's unmodified Python
//! library (`GANETI_PYTHON_ROOT`, as for `ganeti_tools`). The daemons are this project's with both
//! engines, and the reference.

use std::io::Write as _;
use std::process::{Command, Stdio};

use ganeti_confd::client::{ConfdClient, Error, Outcome, Question, question};
use ganeti_confd::demo;
use ganeti_confd::protocol::request::RequestType;
use serde_json::{Value, json};

use super::common::{Kind, Subject, skip};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef01234567\n";

/// Reads questions from standard input and sends them to a daemon with Ganeti's library. Prints the
/// answers, or null where the library gives up.
const PYTHON: &str = r#"
import json, sys
from ganeti import constants
from ganeti.confd import client

task = json.load(sys.stdin)
store = client.StoreResultCallback()
confd = client.ConfdClient(task["key"], ["127.0.0.1"], store, port=task["port"])
answers = []
for kind, query in task["questions"]:
    if kind not in constants.CONFD_REQS:
        answers.append(None)
        continue
    request = client.ConfdClientRequest(type=kind, query=query)
    confd.SendRequest(request, async_=False)
    try:
        timed_out, sent, received = confd.WaitForReply(request.rsalt)
    except UnicodeDecodeError:
        answers.append(None)
        continue
    assert (timed_out, sent, received) == (False, 1, 1), (kind, query, timed_out, sent, received)
    (found, upcall) = store.GetResponse(request.rsalt)
    assert found
    reply = upcall.server_reply
    answers.append([reply.status, reply.answer, reply.serial])
json.dump(answers, sys.stdout)
"#;

/// A question of any type.
struct AnyQuestion {
    kind: u8,
    query: Value,
    ask: Box<dyn Fn(&ConfdClient) -> Outcome>,
    /// Whether this project's client can parse the answer as its type or as an error.
    reads: Box<dyn Fn(&Outcome) -> bool>,
    #[cfg(feature = "async")]
    ask_async: Box<dyn Fn(&Tokio) -> Outcome>,
}

fn asked<T: 'static>(question: Question<T>) -> AnyQuestion {
    let reader = question.clone();
    #[cfg(feature = "async")]
    let on_tokio = question.clone();
    AnyQuestion {
        kind: question.kind() as u8,
        query: question.query().clone(),
        ask: Box::new(move |client| client.query_all(&question).expect("loopback works")),
        reads: Box::new(move |outcome| {
            let answer = outcome.clone().into_answer(&reader);
            matches!(answer, Ok(_) | Err(Error::Answered(_)))
        }),
        #[cfg(feature = "async")]
        ask_async: Box::new(move |tokio| {
            let answer = tokio.runtime.block_on(tokio.client.query_all(&on_tokio));
            answer.expect("loopback works")
        }),
    }
}

/// All twelve queries in all forms, and queries that are answered with an error.
fn questions() -> Vec<AnyQuestion> {
    let (node, instance) = (demo::node_name(1), demo::instance_name(1));
    let config: Value =
        serde_json::from_str(&demo::configuration(5, 20, demo::SEED)).expect("it is JSON");
    let nics = config["instances"].as_object().expect("an object").values();
    let ip = nics
        .filter_map(|instance| instance["nics"][0]["ip"].as_str())
        .next()
        .expect("some instance has an address");
    vec![
        asked(question::ping()),
        asked(question::node_role(&node)),
        asked(question::node_role("node2")),
        asked(question::node_role("no such node")),
        asked(question::node_role("n\u{f6}de")),
        asked(question::node_of_ip(ip, None)),
        asked(question::node_of_ip(ip, Some("no such link"))),
        asked(question::nodes_of_ips(&[ip, "192.0.2.254"], None)),
        asked(question::cluster_master()),
        asked(question::master_addresses()),
        asked(question::node_ips()),
        asked(question::candidate_ips()),
        asked(question::instance_ips(None)),
        asked(question::instance_ips(Some("no such link"))),
        asked(question::node_drbd(&node)),
        asked(question::node_instances(&node)),
        asked(question::instance_disks(&instance)),
        asked(question::instance_disks("no such instance")),
        asked(question::config("/cluster/cluster_name")),
        asked(question::config("/nodes")),
        asked(question::config("/no/such/path")),
        asked(question::data_collectors()),
    ]
}

/// The answer of a call to one daemon: status, answer, serial.
fn answer(outcome: &Outcome) -> Value {
    assert!(outcome.is_enough(), "{outcome:?}");
    let reply = outcome.best().and_then(|contact| contact.reply());
    let reply = reply.expect("enough candidates answered");
    let value: Value = serde_json::from_str(reply.answer.get()).expect("an answer is JSON");
    json!([reply.status as u8, value, reply.serial])
}

/// The answers to Ganeti's client; `None` if it is not available.
fn python(daemon: &Subject, questions: &[AnyQuestion]) -> Option<Vec<Value>> {
    let Some(root) = std::env::var_os("GANETI_PYTHON_ROOT") else {
        skip("GANETI_PYTHON_ROOT does not name Ganeti's Python files");
        return None;
    };
    let library = std::path::PathBuf::from(root).join("usr/share/ganeti/3.0");
    let questions: Vec<Value> = questions
        .iter()
        .map(|asked| json!([asked.kind, asked.query]))
        .collect();
    let task = json!({
        "key": String::from_utf8_lossy(KEY),
        "port": daemon.address().port(),
        "questions": questions,
    });
    let mut child = Command::new("/usr/bin/python3")
        .args(["-W", "ignore", "-c", PYTHON])
        .env("PYTHONPATH", library)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = child.stdin.take().expect("it is piped");
    write!(stdin, "{task}").expect("the script reads its task");
    drop(stdin);
    let output = child.wait_with_output().expect("our child");
    assert!(output.status.success(), "Ganeti's client failed; see above");
    Some(serde_json::from_slice(&output.stdout).expect("the script prints JSON"))
}

#[cfg(feature = "async")]
struct Tokio {
    runtime: tokio::runtime::Runtime,
    client: ganeti_confd::client::AsyncConfdClient,
}

#[cfg(feature = "async")]
impl Tokio {
    fn of(daemon: &Subject) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let guard = runtime.enter();
        let client = ganeti_confd::client::AsyncConfdClient::new(KEY, [daemon.address()]);
        drop(guard);
        Self {
            client: client.expect("a socket"),
            runtime,
        }
    }
}

#[test]
fn all_clients_get_the_same_answers_from_all_daemons() {
    let config = demo::configuration(5, 20, demo::SEED);
    let questions = questions();
    let mut first: Option<Vec<Value>> = None;
    for kind in [Kind::Uring, Kind::Mmsg, Kind::Reference] {
        if !kind.is_available() {
            continue;
        }
        let daemon = Subject::start(kind, Some(config.as_bytes()), KEY);
        let client = ConfdClient::new(KEY, [daemon.address()]).expect("a socket");
        let outcomes: Vec<Outcome> = questions.iter().map(|asked| (asked.ask)(&client)).collect();
        for (asked, outcome) in questions.iter().zip(&outcomes) {
            assert!((asked.reads)(outcome), "{kind:?}: {outcome:?}");
        }
        let blocking: Vec<Value> = outcomes.iter().map(answer).collect();
        let expected = first.get_or_insert_with(|| blocking.clone());
        compare(
            &format!("our client, {kind:?}"),
            &questions,
            &blocking,
            expected,
        );

        #[cfg(feature = "async")]
        {
            let tokio = Tokio::of(&daemon);
            let answers = questions
                .iter()
                .map(|asked| answer(&(asked.ask_async)(&tokio)));
            let answers: Vec<Value> = answers.collect();
            compare(
                &format!("our client on tokio, {kind:?}"),
                &questions,
                &answers,
                expected,
            );
        }

        if let Some(answers) = python(&daemon, &questions) {
            compare(
                &format!("Ganeti's client, {kind:?}"),
                &questions,
                &answers,
                expected,
            );
        }
    }
    let answers = first.expect("at least one daemon is available");
    let errors = answers.iter().filter(|answer| answer[0] == 1).count();
    assert_eq!(
        errors, 5,
        "questions about unknown objects are answered with errors: {answers:#?}"
    );
}

fn compare(who: &str, questions: &[AnyQuestion], answers: &[Value], expected: &[Value]) {
    assert_eq!(answers.len(), questions.len(), "{who}");
    for ((asked, answer), expected) in questions.iter().zip(answers).zip(expected) {
        let (kind, query) = (asked.kind, &asked.query);
        if answer.is_null() {
            assert!(python_gives_up(asked), "{who}: type {kind}, query {query}");
            continue;
        }
        assert!(
            answer == expected,
            "{who}: type {kind}, query {query}: {answer} instead of {expected}"
        );
    }
}

/// Whether Ganeti's library gives up: its list of query types lacks one, and the reference sends
/// Latin-1, which the library reads as UTF-8.
fn python_gives_up(asked: &AnyQuestion) -> bool {
    let is_ascii = asked.query.as_str().is_none_or(str::is_ascii);
    asked.kind == RequestType::NodeInstances as u8 || !is_ascii
}
